"use strict";
// Adds to a page that is complete without it: tooltips, sorting, zooming into the timeline.
(() => {
  // Native titles appear late and cannot be styled, so their texts move into one tooltip.
  const tips = new WeakMap();
  for (const title of document.querySelectorAll("svg title")) {
    tips.set(title.parentNode, title.textContent);
    title.remove();
  }
  for (const element of document.querySelectorAll("[title]")) {
    tips.set(element, element.title);
    element.removeAttribute("title");
  }
  const tip = document.getElementById("tip");
  const place = (event) => {
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const y = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below;
    tip.style.transform = `translate(${Math.max(x, 8)}px, ${Math.max(y, 8)}px)`;
  };
  document.addEventListener("pointermove", (event) => {
    let element = event.target;
    while (element && !tips.has(element)) element = element.parentElement;
    tip.hidden = !element;
    if (!element) return;
    tip.textContent = tips.get(element);
    place(event);
  });
  document.addEventListener("pointerleave", () => { tip.hidden = true; });

  // Sorting: numbers by data-value, the rest by text; what has no value stays last either way.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.textContent === "–" ? null : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const sort = (table, head) => {
    const column = head.cellIndex;
    const direction = head.ariaSort === "descending" ? "ascending" : "descending";
    for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
    head.ariaSort = direction;
    const sign = direction === "ascending" ? 1 : -1;
    const rows = Array.from(table.tBodies[0].rows, (row) => ({ row, key: key(row, column) }));
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return sign * compare(a.key, b.key);
    });
    table.tBodies[0].append(...rows.map(({ row }) => row));
  };
  for (const table of document.querySelectorAll("table")) {
    for (const head of table.tHead.rows[0].cells) {
      head.dataset.sortable = "";
      head.tabIndex = 0;
      head.addEventListener("click", () => sort(table, head));
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, head); });
    }
  }

  const timeline = document.querySelector(".timeline");
  if (!timeline) return;
  const UNITS = 1000; // width of the drawing in its own units
  const span = Number(timeline.dataset.span);
  const plot = timeline.querySelector(".plot");
  const svg = plot.querySelector("svg");
  const height = svg.viewBox.baseVal.height;
  const selection = timeline.querySelector(".selection");
  const all = timeline.querySelector("button");
  const ticks = timeline.querySelector(".ticks");
  let shown = [0, UNITS];

  const show = (from, to) => {
    shown = [from, to];
    svg.setAttribute("viewBox", `${from} 0 ${to - from} ${height}`);
    all.disabled = from === 0 && to === UNITS;
    const [start, end] = [(from / UNITS) * span, (to / UNITS) * span];
    const rough = (end - start) / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((it) => it >= rough);
    const labels = [];
    for (let index = Math.ceil(start / step); index * step <= end; index++) {
      const label = document.createElement("span");
      label.style.left = `${((index * step - start) / (end - start)) * 100}%`;
      label.textContent = Number((index * step).toPrecision(10));
      labels.push(label);
    }
    ticks.replaceChildren(...labels);
  };

  const fraction = (event) => {
    const box = plot.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };
  let anchor = null;
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    anchor = fraction(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    if (anchor === null) return;
    const [from, to] = [anchor, fraction(event)].sort((a, b) => a - b);
    selection.hidden = false;
    selection.style.left = `${from * 100}%`;
    selection.style.width = `${(to - from) * 100}%`;
  });
  plot.addEventListener("pointerup", (event) => {
    if (anchor === null) return;
    const [from, to] = [anchor, fraction(event)].sort((a, b) => a - b);
    anchor = null;
    selection.hidden = true;
    const width = shown[1] - shown[0];
    const isClick = to - from < 0.005;
    if (!isClick && width * (to - from) > UNITS / 5000) show(shown[0] + from * width, shown[0] + to * width);
  });
  plot.addEventListener("pointercancel", () => { anchor = null; selection.hidden = true; });
  plot.addEventListener("dblclick", () => show(0, UNITS));
  all.addEventListener("click", () => show(0, UNITS));
  timeline.querySelector(".zoom").hidden = false;
})();
