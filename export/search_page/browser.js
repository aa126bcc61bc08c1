// All photos of the index, page by page.

import { ask, breakable, byId, counted, make, picture, thumbnail } from "./dom.js";

const COUNT = 48;

export class Browser {
  // `onSearch` is called with a photo.
  constructor(onSearch) {
    this.onSearch = onSearch;
    this.start = 0;
    this.asked = 0;
    let timer = 0;
    byId("text").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.show(0), 200);
    });
    byId("find").addEventListener("submit", (event) => {
      event.preventDefault();
      this.show(0);
    });
    byId("before").addEventListener("click", () => this.#turn(-COUNT));
    byId("after").addEventListener("click", () => this.#turn(COUNT));
  }

  async show(start) {
    const asked = ++this.asked;
    let found;
    try {
      found = await ask("photos", { from: start, count: COUNT, text: byId("text").value });
    } catch (error) {
      byId("listed").value = error.message;
      return;
    }
    if (asked !== this.asked) return;
    this.start = start;
    const last = start + found.photos.length;
    byId("listed").value = counted(found.total, "photo");
    byId("page").textContent = found.total ? `${start + 1} to ${last} of ${found.total.toLocaleString("en")}` : "";
    byId("before").disabled = start === 0;
    byId("after").disabled = last >= found.total;
    byId("tiles").replaceChildren(...found.photos.map((photo) => this.#tile(photo)));
    document.querySelector(".pager").hidden = found.total <= COUNT;
  }

  async #turn(change) {
    await this.show(Math.max(0, this.start + change));
    byId("index-title").scrollIntoView();
  }

  #tile(photo) {
    const label = photo.name || photo.id;
    const shown = make("button", { type: "button", title: photo.id }, picture(thumbnail(photo.row), ""));
    shown.setAttribute("aria-label", `Search with ${photo.name ? `${photo.name}, ` : ""}${photo.id}`);
    shown.append(make("span", { className: "name" }, breakable(label)));
    shown.addEventListener("click", () => this.onSearch(photo));
    return make("li", {}, shown);
  }
}
