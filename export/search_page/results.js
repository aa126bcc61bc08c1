// The ranked photos.

import { breakable, byId, counted, draw, frame, make, picture, thumbnail } from "./dom.js";

const AT_ONCE = 24;
const WHOLE = -1;

// Boxes over a photo, in its own proportions as the picture under it has them; the one that matched is marked.
export function overlay(image, boxes, marked) {
  const svg = draw("svg", { class: "boxes", "aria-hidden": "true" });
  const fill = () => {
    const width = image.naturalWidth, height = image.naturalHeight;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const path = (box) => frame(box, width, height);
    const others = boxes.filter((_, place) => place !== marked).map(path).join("");
    svg.replaceChildren(draw("path", { d: others }));
    if (boxes[marked]) svg.append(draw("path", { class: "marked", d: path(boxes[marked]) }));
  };
  if (image.complete && image.naturalWidth) fill();
  else image.addEventListener("load", fill);
  return svg;
}

// Which objects matched, in words; empty where photos were compared as wholes.
export function matched(result, objects) {
  if (result.matched === undefined) return "";
  const its = result.matched === WHOLE ? "whole photo" : `object ${result.matched + 1} of ${result.boxes.length} (${result.class})`;
  return result.like === WHOLE || objects.length < 2 ? its : `${its}, like your object ${result.like + 1}`;
}

export class Results {
  // `onWhy` and `onSearch` are called with a result.
  constructor(onWhy, onSearch) {
    this.onWhy = onWhy;
    this.onSearch = onSearch;
    this.list = byId("hits");
    this.more = byId("more");
    this.waiting = [];
    this.more.addEventListener("click", () => {
      const first = this.list.children.length;
      this.#append();
      this.list.children[first]?.querySelector("button").focus();
    });
  }

  show(found) {
    this.found = found;
    this.waiting = found.results.map((result, place) => [result, place + 1]);
    this.list.replaceChildren();
    this.#append();
  }

  clear() {
    this.waiting = [];
    this.list.replaceChildren();
    this.more.hidden = true;
  }

  #append() {
    this.list.append(...this.waiting.splice(0, AT_ONCE).map(([result, rank]) => this.#item(result, rank)));
    this.more.hidden = !this.waiting.length;
    this.more.textContent = `Show ${Math.min(AT_ONCE, this.waiting.length)} more`;
  }

  #item(result, rank) {
    const label = result.name || result.id, like = matched(result, this.found.objects);
    const score = result.score.toFixed(3);
    const image = picture(thumbnail(result.row), "");
    const shown = make("button", { type: "button", className: "frame", title: result.id }, image);
    shown.setAttribute("aria-label", `Result ${rank}: ${label}, similarity ${score}${like && `, ${like}`}. Why?`);
    if (result.boxes?.length) shown.append(overlay(image, result.boxes, result.matched));
    shown.append(make("span", { className: "why", "aria-hidden": "true" }, "Why?"));
    shown.addEventListener("click", () => this.onWhy(result, rank));
    const again = make("button", { type: "button", className: "again" }, "Search with it");
    again.setAttribute("aria-label", `Search with result ${rank}`);
    again.addEventListener("click", () => this.onSearch(result));
    const line = make("p", { className: "line" }, make("span", { className: "badge" }, String(rank)), make("b", {}, score));
    const item = make("li", {}, shown, line, make("p", { className: "name", title: result.id }, breakable(label)));
    if (like) item.append(make("p", { className: "object" }, like));
    item.append(again);
    return item;
  }
}

export function summary(found) {
  const by = { box: "what is in the box", objects: "the objects found in it", photo: "the whole photo" }[found.by];
  const taken = Math.max(1, Math.round(found.milliseconds)).toLocaleString("en");
  if (!found.results.length) return `No photo of the ${counted(found.searched, "photo")} in the index can be compared.`;
  return `The ${counted(found.results.length, "most similar photo")} of ${found.searched.toLocaleString("en")}, by ${by}, in ${taken} ms.`;
}
