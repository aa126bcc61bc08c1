// The page: what is searched with, and what becomes of it.

import { Board } from "./box.js";
import { Browser } from "./browser.js";
import { ask, byId, counted, keepKey, large, make } from "./dom.js";
import { Results, summary } from "./results.js";
import { explain } from "./why.js";

// What is searched with: a file or the row of an indexed photo, and a box.
const query = { photo: null, row: null, box: null, objects: [], source: "" };
let running = null;

const board = new Board(byId("board"), byId("board-said"), searchBox);
const results = new Results(
  (result, rank) => explain(query.source, { ...query, parameters: parameters() }, result, rank),
  (result) => searchIndexed(result.row),
);
const browser = new Browser((photo) => searchIndexed(photo.row));

const parameters = () => ({ photo: query.row, box: query.box && query.box.map((share) => share.toFixed(5)).join(",") });

async function search() {
  running?.abort();
  running = new AbortController();
  const { signal } = running, status = byId("status");
  byId("problem").hidden = true;
  byId("whole").hidden = !query.box;
  status.textContent = "Searching …";
  document.body.classList.add("searching");
  try {
    const found = await ask("search", parameters(), query.photo, signal);
    results.show(found);
    status.textContent = summary(found);
    if (!query.box) showObjects(found.objects);
    if (found.query) board.image.alt = `Photo of the index: ${found.query.name || found.query.id}`;
  } catch (error) {
    if (error.name === "AbortError") return;
    results.clear();
    status.textContent = "Nothing was found.";
    tell(error.message);
  }
  document.body.classList.remove("searching");
}

function tell(message) {
  const problem = byId("problem");
  problem.textContent = message;
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
}

function begin(values, alt) {
  if (query.source.startsWith("blob:")) URL.revokeObjectURL(query.source);
  Object.assign(query, { photo: null, row: null, box: null, objects: [], ...values });
  byId("asked").hidden = false;
  document.body.classList.add("begun");
  board.show(query.source, alt);
  showObjects([]);
  search();
}

function searchFile(file) {
  if (location.hash) history.pushState(null, "", location.pathname);
  begin({ photo: file, source: URL.createObjectURL(file) }, `Your photo ${file.name ?? ""}`);
}

function searchIndexed(row) {
  // Not by setting the hash, which takes the focus away once more when the browser has got there.
  if (location.hash !== `#photo=${row}`) history.pushState(null, "", `#photo=${row}`);
  open();
  byId("results-title").focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

function searchBox(box) {
  query.box = box;
  for (const button of byId("object-list").children) button.setAttribute("aria-pressed", "false");
  search();
}

// What the model found in the photo; each is a box to search with.
function showObjects(objects) {
  query.objects = objects;
  board.outline(objects.map((object) => object.box));
  byId("objects").hidden = !objects.length;
  byId("object-list").replaceChildren(
    ...objects.map((object, place) => {
      const score = object.score === undefined ? "" : ` ${object.score.toFixed(2)}`;
      const button = make("button", { type: "button" }, `${place + 1} ${object.name}${score}`);
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        board.set(object.box);
        searchBox(object.box);
        button.setAttribute("aria-pressed", "true");
      });
      return button;
    }),
  );
}

// "#photo=12" searches with an indexed photo, so that it can be linked to and gone back to.
function open() {
  const row = /^#photo=(\d{1,9})$/.exec(location.hash)?.[1];
  if (row !== undefined) begin({ row, source: large(row) }, "Photo of the index");
}

async function start() {
  try {
    const about = await ask("about");
    keepKey(about.key);
    const what = about.objects ? "searched by the objects in them" : "searched as wholes";
    byId("about").textContent = `${counted(about.photos, "photo")}, ${what} · ${about.dimension.toLocaleString("en")} dimensions · index ${about.index} · server ${about.server}`;
  } catch (error) {
    return tell(error.message);
  }
  browser.show(0);
  if (location.hash) return open();
  try {
    await ask("server");
  } catch (error) {
    tell(error.message);
  }
}

byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) searchFile(event.target.files[0]);
  event.target.value = "";
});
byId("whole").addEventListener("click", () => {
  board.set(null);
  searchBox(null);
  byId("board").focus();
});
board.image.addEventListener("error", () => byId("asked").classList.add("unseen"));
board.image.addEventListener("load", () => byId("asked").classList.remove("unseen"));
window.addEventListener("hashchange", open);
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) searchFile(file);
});
let inside = 0; // entered elements that were not left: the page is one place to drop on
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => hasFiles(event) && document.body.classList.toggle("over", ++inside > 0));
document.addEventListener("dragleave", (event) => hasFiles(event) && document.body.classList.toggle("over", --inside > 0));
document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) searchFile(event.dataTransfer.files[0]);
});
byId("why").addEventListener("click", (event) => event.target === byId("why") && byId("why").close());
start();
