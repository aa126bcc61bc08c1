// A photo on which a box is drawn, by pointer or by keys. Boxes are left, top, right, bottom as shares of its sides.

import { draw, frame, make } from "./dom.js";

const LEAST = 0.02, STEP = 0.02, GRIP = 18;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const within = (value, low = 0, high = 1) => Math.min(Math.max(value, low), high);

export class Board {
  // `onBox` is called with the box, or null, when it is to be searched with.
  constructor(element, said, onBox) {
    this.element = element;
    this.image = element.querySelector("img");
    this.svg = element.querySelector("svg");
    this.said = said;
    this.onBox = onBox;
    this.box = null;
    this.drag = null;
    this.outlined = [];
    element.addEventListener("pointerdown", (event) => this.#press(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#release(event));
    element.addEventListener("pointercancel", () => this.#cancel());
    element.addEventListener("keydown", (event) => this.#key(event));
    this.image.draggable = false;
  }

  show(source, alt) {
    this.image.src = source;
    this.image.alt = alt;
    this.set(null);
    this.outline([]);
  }

  // Objects that are there to be chosen, shown while there is no box.
  outline(boxes) {
    this.outlined = boxes;
    this.set(this.box);
  }

  set(box) {
    this.box = box;
    this.svg.replaceChildren();
    for (const tag of this.element.querySelectorAll(".tag")) tag.remove();
    if (!box) this.outlined.forEach((each, place) => this.#outline(each, place));
    if (box) {
      const path = frame(box);
      this.svg.append(
        draw("path", { class: "dim", "fill-rule": "evenodd", d: "M0 0H1V1H0z" + path }),
        draw("path", { class: "edge under", d: path }),
        draw("path", { class: "edge", d: path }),
      );
    }
    const percent = (value) => `${Math.round(100 * value)}%`;
    this.said.textContent = box
      ? `Box: ${percent(box[0])} to ${percent(box[2])} across, ${percent(box[1])} to ${percent(box[3])} down`
      : "The whole photo";
  }

  #outline(box, place) {
    const path = frame(box), tag = make("span", { className: "tag" }, String(place + 1));
    this.svg.append(draw("path", { class: "thing under", d: path }), draw("path", { class: "thing", d: path }));
    tag.setAttribute("aria-hidden", "true");
    tag.style.left = `${100 * box[0]}%`;
    tag.style.top = `${100 * box[1]}%`;
    this.element.append(tag);
  }

  #place(event) {
    const area = this.image.getBoundingClientRect();
    return [within((event.clientX - area.left) / area.width), within((event.clientY - area.top) / area.height)];
  }

  // A press near a corner sizes the box, one inside moves it, any other begins a new one.
  #press(event) {
    if (event.button !== 0) return;
    const [x, y] = this.#place(event), area = this.image.getBoundingClientRect();
    this.drag = { start: [x, y], before: this.box, fixed: [x, y], moved: false };
    if (this.box) {
      const [left, top, right, bottom] = this.box;
      const near = (a, b, side) => Math.abs(a - b) * side < GRIP;
      const edgeX = near(x, left, area.width) ? right : near(x, right, area.width) ? left : null;
      const edgeY = near(y, top, area.height) ? bottom : near(y, bottom, area.height) ? top : null;
      if (edgeX !== null && edgeY !== null) this.drag.fixed = [edgeX, edgeY];
      else if (x > left && x < right && y > top && y < bottom) this.drag.fixed = null;
    }
    this.element.setPointerCapture(event.pointerId);
  }

  #move(event) {
    if (!this.drag) return;
    const [x, y] = this.#place(event), { start, before, fixed } = this.drag;
    if (fixed) {
      this.set([Math.min(x, fixed[0]), Math.min(y, fixed[1]), Math.max(x, fixed[0]), Math.max(y, fixed[1])]);
    } else {
      this.#shift(before, x - start[0], y - start[1]);
    }
    this.drag.moved = true;
  }

  #release() {
    if (!this.drag) return;
    const { before, moved } = this.drag;
    this.drag = null;
    if (!moved) return;
    const [left, top, right, bottom] = this.box;
    if (right - left < LEAST || bottom - top < LEAST) this.set(before);
    else this.onBox(this.box);
  }

  #cancel() {
    if (this.drag) this.set(this.drag.before);
    this.drag = null;
  }

  #shift([left, top, right, bottom], x, y) {
    const dx = within(x, -left, 1 - right), dy = within(y, -top, 1 - bottom);
    this.set([left + dx, top + dy, right + dx, bottom + dy]);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter") {
      if (!this.box) this.set([0.25, 0.25, 0.75, 0.75]);
      this.onBox(this.box);
    } else if ((event.key === "Escape" || event.key === "Delete") && this.box) {
      this.set(null);
      this.onBox(null);
    } else if (event.key in ARROWS && this.box) {
      const [dx, dy] = ARROWS[event.key].map((sign) => sign * STEP), [left, top, right, bottom] = this.box;
      if (event.shiftKey) this.set([left, top, within(right + dx, left + LEAST), within(bottom + dy, top + LEAST)]);
      else this.#shift(this.box, dx, dy);
    } else return;
    event.preventDefault();
  }
}
