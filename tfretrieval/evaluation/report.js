"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const photos = JSON.parse(element("photo-data").textContent);
  const source = (key) => photos[key].startsWith("strips/") ? photos[key] : "data:image/jpeg;base64," + photos[key];
  for (const image of document.querySelectorAll("img[data-photo]")) image.src = source(image.dataset.photo);

  const byText = new Intl.Collator(undefined, { numeric: true });
  const counted = (shown, all, noun) => shown.toLocaleString("en") + " of " + all.toLocaleString("en") + " " + noun + (all === 1 ? "" : "s");

  // Strips.
  const filter = element("filter"), order = element("sort"), list = element("strips");
  const strips = list ? [...list.children] : [];
  const orders = {
    worst: (a, b) => a.dataset.ap - b.dataset.ap,
    best: (a, b) => b.dataset.ap - a.dataset.ap,
    name: (a, b) => byText.compare(a.dataset.name, b.dataset.name),
    instance: (a, b) => byText.compare(a.dataset.instance, b.dataset.instance) || a.dataset.ap - b.dataset.ap,
  };

  function applyFilter() {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const strip of strips) {
      const text = (strip.dataset.name + "\n" + strip.dataset.instance).toLowerCase();
      strip.hidden = !text.includes(wanted);
      shown += !strip.hidden;
    }
    element("count").value = counted(shown, strips.length, "strip");
  }

  function applyOrder() {
    list.append(...[...strips].sort(orders[order.value]));
  }

  // "#filter=TEXT&sort=ORDER" makes a view that can be linked to; "#q12" is a strip; other hashes are places.
  function applyHash() {
    const strip = /^#q\d+$/.test(location.hash) && element(location.hash.slice(1));
    if (strip) {
      if (strip.hidden) {
        filter.value = "";
        applyFilter();
      }
      strip.scrollIntoView();
      strip.focus({ preventScroll: true });
      return;
    }
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (!wanted.has("filter") && !wanted.has("sort")) return;
    filter.value = wanted.get("filter") ?? "";
    if (Object.hasOwn(orders, wanted.get("sort") ?? "")) order.value = wanted.get("sort");
    applyOrder();
    applyFilter();
    element("photos").scrollIntoView();
  }

  if (list) {
    filter.addEventListener("input", applyFilter);
    order.addEventListener("change", applyOrder);
    filter.form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("hashchange", applyHash);
    applyOrder();
    applyFilter();
    applyHash();
  }

  // Tables: a heading sorts, numbers as numbers; what has no value stands last either way.
  const cellValue = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  function compared(a, b, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return (Number.isNaN(difference) ? byText.compare(a, b) : difference) * sign;
  }
  for (const button of document.querySelectorAll(".sortable thead button")) {
    button.addEventListener("click", () => {
      const heading = button.parentElement, table = heading.closest("table"), column = heading.cellIndex;
      const falling = heading.ariaSort === "ascending";
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].filter((row) => row.cells.length > 1);
      const keyed = rows.map((row) => [cellValue(row, column), row]);
      keyed.sort((a, b) => compared(a[0], b[0], falling ? -1 : 1));
      table.tBodies[0].prepend(...keyed.map((pair) => pair[1]));
    });
  }
  for (const form of document.querySelectorAll(".table-controls")) {
    const rows = [...element(form.dataset.table).tBodies[0].rows];
    const texts = rows.map((row) => (row.cells[0].textContent + "\n" + row.cells[1].textContent).toLowerCase());
    const apply = () => {
      const text = form.elements.text.value.trim().toLowerCase(), kind = form.elements.kind.value;
      let shown = 0;
      rows.forEach((row, place) => {
        row.hidden = !texts[place].includes(text) || (kind !== "" && row.dataset.kind !== kind);
        shown += !row.hidden;
      });
      form.querySelector("output").value = counted(shown, rows.length, "row");
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // The map: one place to tab to; arrow keys go to the nearest photo that lies in their direction.
  const plane = element("plane");
  if (!plane) return;
  const data = JSON.parse(element("map-data").textContent), svg = plane.querySelector("svg");
  const marks = [...svg.children], card = element("pointed"), size = svg.viewBox.baseVal.width;
  const places = marks.map((mark) => {
    if (mark.tagName === "circle") return [Number(mark.getAttribute("cx")), Number(mark.getAttribute("cy"))];
    const numbers = mark.getAttribute("d").match(/-?[\d.]+/g).map(Number);
    return [numbers[0] + 6, numbers[1] + 6];
  });
  const said = { d: "database photo", r: "query, first result right", w: "query, first result wrong", n: "query with nothing to find" };
  const kindOf = marks.map((mark) => mark.getAttribute("class"));
  let here = -1;

  function point(place) {
    if (place === here) return;
    for (const mark of svg.querySelectorAll(".here, .same")) mark.classList.remove("here", "same");
    here = place;
    card.hidden = place < 0;
    if (place < 0) return;
    const [name, key] = data.points[place];
    data.points.forEach((other, number) => {
      if (other[0] === name && number !== place) marks[number].classList.add("same");
    });
    marks[place].classList.add("here");
    card.replaceChildren();
    if (key) {
      const image = document.createElement("img");
      image.src = source(key);
      image.alt = "";
      card.append(image);
    }
    const text = data.names[name] + " – " + said[kindOf[place]];
    card.append(text);
    element("map-said").textContent = text + ", " + data.ids[place];
    const [x, y] = places[place].map((value) => value / size);
    card.style.left = x > .5 ? "auto" : "calc(" + 100 * x + "% + 14px)";
    card.style.right = x > .5 ? "calc(" + 100 * (1 - x) + "% + 14px)" : "auto";
    card.style.top = y > .5 ? "auto" : 100 * y + "%";
    card.style.bottom = y > .5 ? 100 * (1 - y) + "%" : "auto";
  }

  function nearest(x, y, far) {
    let best = -1, least = far * far;
    places.forEach(([a, b], place) => {
      const distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least) [best, least] = [place, distance];
    });
    return best;
  }

  function step(dx, dy) {
    if (here < 0) return point(nearest(size / 2, size / 2, size));
    const [x, y] = places[here];
    let best = here, least = Infinity;
    places.forEach(([a, b], place) => {
      const along = (a - x) * dx + (b - y) * dy, across = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (place === here || along <= 0 || across > 2 * along) return;
      const cost = along + 2 * across;
      if (cost < least) [best, least] = [place, cost];
    });
    point(best);
  }

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const queriesFrom = marks.length - data.queries.length;
  function open() {
    const strip = here >= queriesFrom && data.queries[here - queriesFrom];
    if (strip) location.href = strip;
  }
  const onPlane = (event) => {
    const frame = svg.getBoundingClientRect(), scale = size / frame.width;
    return nearest((event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale, 24 * scale);
  };
  plane.addEventListener("pointermove", (event) => point(onPlane(event)));
  plane.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && document.activeElement !== plane) point(-1); });
  plane.addEventListener("click", (event) => { if (here >= 0 && here === onPlane(event) && event.detail > 1) open(); });
  plane.addEventListener("focus", () => { if (here < 0 && plane.matches(":focus-visible")) step(0, 0); });
  plane.addEventListener("blur", () => point(-1));
  plane.addEventListener("keydown", (event) => {
    if (event.key in arrows) step(...arrows[event.key]);
    else if (event.key === "Escape") point(-1);
    else if (event.key === "Enter") open();
    else return;
    event.preventDefault();
  });
})();
