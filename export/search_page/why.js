// Why a photo was found: both photos beside each other, and what they share.

import { ask, byId, counted, draw, frame, large, make } from "./dom.js";
import { matched } from "./results.js";

const SIDE = 100, GAP = 2;
const SIFT = "Lines join places that look alike to SIFT features, which the network does not use: they tell what the photos share, not what it looked at.";

// `source` is the query's picture; `query` what it is asked with: {parameters, photo, box, objects}.
export async function explain(source, query, result, rank) {
  const dialog = byId("why"), body = byId("why-body"), status = byId("why-status");
  byId("why-title").textContent = `Result ${rank}: ${result.name || result.id}`;
  byId("why-id").textContent = result.id;
  status.textContent = "Looking for what both photos share …";
  body.replaceChildren();
  dialog.showModal();
  const [mine, its] = await Promise.all([loaded(source), loaded(large(result.row))]);
  if (!mine || !its) return fail(status, "The photos cannot be shown.");
  const twins = new Twins(mine, its);
  body.append(twins.svg);
  if (query.box) twins.boxes(0, [query.box], 0);
  else twins.boxes(0, query.objects.map((object) => object.box), result.like ?? -1);
  if (result.boxes) twins.boxes(1, result.boxes, result.matched);
  const told = [`Similarity ${result.score.toFixed(3)}.`];
  let note = "";
  const like = matched(result, query.objects);
  if (like) told.push(`What matched: ${like}; a yellow box marks it.`);
  try {
    const found = await ask("why", { ...query.parameters, result: result.row }, query.photo);
    told.push(verdict(found.places));
    twins.lines(found.places.lines);
    if (found.places.count) note = SIFT;
    if (found.heat) body.append(heat(found.heat));
  } catch (error) {
    return fail(status, error.message);
  }
  status.textContent = told.join(" ");
  twins.svg.after(make("p", { className: "small" }, note));
}

function fail(status, message) {
  status.textContent = message;
}

function verdict({ count, agreeing }) {
  if (!count) return "No places of both photos look alike in detail: they are similar as a whole, in colour, shape or kind.";
  const seen = `${counted(count, "place")} of both photos ${count === 1 ? "looks" : "look"} alike`;
  return agreeing
    ? `${seen}, ${agreeing} of them in the same arrangement: they show the same thing, or prints of it.`
    : `${seen}, but in no common arrangement (dashed lines), which can be chance.`;
}

function heat([mine, its]) {
  const side = (source, alt) => make("img", { src: source, alt });
  return make(
    "figure",
    { className: "heat" },
    side(mine, "Your photo under colours"),
    side(its, "The result under colours"),
    make("figcaption", { className: "small" }, "What the network’s positions add to the similarity: yellow to dark red; what speaks against it: blue."),
  );
}

function loaded(source) {
  return new Promise((resolve) => {
    const image = new Image();
    image.addEventListener("load", () => resolve(image));
    image.addEventListener("error", () => resolve(null));
    image.src = source;
  });
}

// Two photos of one height beside each other; on narrow screens of one width below each other.
class Twins {
  constructor(mine, its) {
    const ratios = [mine, its].map((image) => image.naturalWidth / image.naturalHeight);
    const below = matchMedia("(max-width: 40rem)").matches && ratios[0] + ratios[1] > 1.7;
    this.sizes = ratios.map((ratio) => (below ? [SIDE, SIDE / ratio] : [SIDE * ratio, SIDE]));
    const [first, second] = this.sizes;
    this.starts = [[0, 0], below ? [0, first[1] + GAP] : [first[0] + GAP, 0]];
    const size = below ? [SIDE, first[1] + GAP + second[1]] : [first[0] + GAP + second[0], SIDE];
    this.svg = draw("svg", { class: "twins", viewBox: `0 0 ${size[0]} ${size[1]}`, role: "img", "aria-label": "Your photo and the result" });
    [mine, its].forEach((image, side) => {
      const [[x, y], [width, height]] = [this.starts[side], this.sizes[side]];
      this.svg.append(draw("image", { href: image.src, x, y, width, height, preserveAspectRatio: "none" }));
    });
  }

  boxes(side, boxes, marked) {
    const [x, y] = this.starts[side];
    const group = draw("g", { class: "boxes", transform: `translate(${x} ${y})` });
    boxes.forEach((box, place) => {
      group.append(draw("path", { class: place === marked ? "marked" : "", d: frame(box, ...this.sizes[side]) }));
    });
    this.svg.append(group);
  }

  lines(lines) {
    const group = draw("g", { class: "matches" });
    const at = (side, x, y) => [0, 1].map((axis) => this.starts[side][axis] + [x, y][axis] * this.sizes[side][axis]);
    for (const [x, y, u, v, agrees] of lines) {
      const [from, to] = [at(0, x, y), at(1, u, v)], kind = agrees ? "" : "loose";
      group.append(draw("path", { class: kind, d: `M${from}L${to}` }));
      for (const [cx, cy] of [from, to]) group.append(draw("circle", { class: kind, cx, cy, r: 0.8 }));
    }
    this.svg.append(group);
  }
}
