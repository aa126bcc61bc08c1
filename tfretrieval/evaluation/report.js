"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const photos = JSON.parse(element("photo-data").textContent);
  for (const image of document.querySelectorAll("img[data-photo]")) {
    image.src = "data:image/jpeg;base64," + photos[image.dataset.photo];
  }

  const filter = element("filter"), order = element("sort"), list = element("strips");
  const strips = [...list.children];
  const byText = new Intl.Collator(undefined, { numeric: true });
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
    element("count").value = shown + " of " + strips.length + (strips.length === 1 ? " strip" : " strips");
  }

  function applyOrder() {
    list.append(...[...strips].sort(orders[order.value]));
  }

  // "#filter=TEXT&sort=ORDER" makes a view that can be linked to; other hashes are places on the page.
  function applyHash() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (!wanted.has("filter") && !wanted.has("sort")) return;
    filter.value = wanted.get("filter") ?? "";
    if (Object.hasOwn(orders, wanted.get("sort") ?? "")) order.value = wanted.get("sort");
    applyOrder();
    applyFilter();
    element("photos").scrollIntoView();
  }

  filter.addEventListener("input", applyFilter);
  order.addEventListener("change", applyOrder);
  filter.form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", applyHash);
  applyOrder();
  applyFilter();
  applyHash();

  const cellValue = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  for (const button of document.querySelectorAll(".sortable thead button")) {
    button.addEventListener("click", () => {
      const heading = button.parentElement, table = heading.closest("table"), column = heading.cellIndex;
      const falling = heading.ariaSort === "ascending";
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].filter((row) => row.cells.length > 1);
      rows.sort((a, b) => byText.compare(cellValue(a, column), cellValue(b, column)) * (falling ? -1 : 1));
      table.tBodies[0].prepend(...rows);
    });
  }
})();
