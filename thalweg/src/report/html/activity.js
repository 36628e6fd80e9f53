"use strict";
// Draws single kernels and calls: up to 100,000 pieces in lanes on one canvas, of which each drawing touches only what is
// looked at. What is thinner than a pixel is added up, so a column is as dark as the time in it is full; below a quarter
// all are alike, since less could not be seen.
(() => {
  const section = document.querySelector(".activity");
  if (!section) return;
  const data = JSON.parse(document.getElementById("activity-data").textContent);
  const canvas = section.querySelector("canvas");
  const all = section.querySelector("button");
  const selection = section.querySelector(".selection");
  const tip = document.getElementById("tip");
  const LEFT = 158; // room for the labels
  const HEIGHTS = { stages: 8, streams: 17, threads: 13, gauges: 30 };
  const TITLES = { stages: "Stages", streams: "Kernels and copies", threads: "Calls of CUDA", gauges: "Gauges" };
  const GAP = 4, TITLE = 26, AXIS = 24, NARROWEST_NS = 200;

  const bytes = Uint8Array.from(atob(data.pieces), (letter) => letter.charCodeAt(0));
  let place = 0;
  // LEB128, without shifts: they would end at 32 bits.
  const number = () => {
    let value = 0, factor = 1;
    for (;;) {
      const byte = bytes[place++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
  };
  const lanes = data.lanes.map(({ group, label, count }) => {
    const lane = {
      group, label, count, longest: 0,
      start: new Float64Array(count), end: new Float64Array(count), name: new Uint32Array(count),
      caller: new Int32Array(count), called: new Float64Array(count),
    };
    let start = 0;
    for (let piece = 0; piece < count; piece++) {
      start += number();
      const length = number();
      lane.start[piece] = start;
      lane.end[piece] = start + length;
      lane.longest = Math.max(lane.longest, length);
      lane.name[piece] = number();
      lane.caller[piece] = number() - 1;
      if (lane.caller[piece] >= 0) lane.called[piece] = start - number();
    }
    return lane;
  });
  for (const gauge of data.gauges) lanes.push({ group: "gauges", label: gauge.label, gauge, count: 0 });

  let height = 0, group = null;
  const titles = [];
  for (const lane of lanes) {
    if (lane.group !== group) {
      titles.push({ text: TITLES[(group = lane.group)], y: height + TITLE - 10 });
      height += TITLE;
    }
    lane.y = height;
    lane.height = HEIGHTS[lane.group];
    height += lane.height + (lane.group === "stages" ? 1 : GAP);
  }
  height += GAP;
  canvas.style.height = `${height + AXIS}px`;

  const context = canvas.getContext("2d");
  let style, colours, width;
  // Kernels are told apart by shades of one colour; everything else has the colour of its kind.
  const paint = () => {
    style = getComputedStyle(document.documentElement);
    const of = (variable) => style.getPropertyValue(variable).trim();
    const kinds = {
      h2d: of("--h2d"), compute: of("--compute"), d2h: of("--d2h"), copy: of("--faint"), launch: of("--accent"),
      waiting: of("--pale"), "copy-call": of("--h2d"), call: of("--faint"),
    };
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    let kernel = 0;
    colours = data.names.map(({ class: kind }) => {
      if (kind !== "kernel") return kinds[kind];
      const step = kernel++;
      return `hsl(${190 + ((step * 47) % 66)} ${48 + ((step * 13) % 24)}% ${(isDark ? 50 : 40) + ((step * 7) % 20)}%)`;
    });
  };

  let shown = [0, data.span_ns], waiting = false, pointed = null;
  const plotWidth = () => Math.max(width - LEFT, 1);
  const ask = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };
  const show = (from, to) => {
    const length = Math.min(Math.max(to - from, NARROWEST_NS), data.span_ns);
    const start = Math.min(Math.max(from, 0), data.span_ns - length);
    shown = [start, start + length];
    all.disabled = length === data.span_ns;
    ask();
  };

  // The first piece that may reach into view.
  const first = (lane, from) => {
    let low = 0, high = lane.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lane.start[middle] < from - lane.longest) low = middle + 1; else high = middle;
    }
    return low;
  };

  const drawPieces = (lane, from, to, scale) => {
    let column = -1, covered = 0, colour = null;
    const put = () => {
      if (column < 0) return;
      context.globalAlpha = Math.min(Math.max(covered, 0.25), 1);
      context.fillStyle = colour;
      context.fillRect(LEFT + column, lane.y, 1, lane.height);
      context.globalAlpha = 1;
      column = -1;
    };
    for (let piece = first(lane, from); piece < lane.count && lane.start[piece] < to; piece++) {
      if (lane.end[piece] <= from) continue;
      const left = Math.max((lane.start[piece] - from) * scale, 0);
      const right = Math.min((lane.end[piece] - from) * scale, plotWidth());
      if (right - left < 1) {
        const at = Math.floor(left);
        if (at !== column) { put(); column = at; covered = 0; colour = colours[lane.name[piece]]; }
        covered += right - left;
        continue;
      }
      put();
      context.fillStyle = colours[lane.name[piece]];
      context.fillRect(LEFT + left, lane.y, right - left - (right - left > 3 ? 0.75 : 0), lane.height);
      if (right - left > 48 && lane.height > 10) write(data.names[lane.name[piece]].text, LEFT + left, right - left, lane);
    }
    put();
  };
  const write = (text, left, room, lane) => {
    context.save();
    context.beginPath();
    context.rect(left, lane.y, room - 2, lane.height);
    context.clip();
    context.fillStyle = style.getPropertyValue("--paper");
    context.fillText(text, left + 4, lane.y + lane.height / 2 + 0.5);
    context.restore();
  };
  const drawGauge = (lane, from, scale) => {
    const bottom = lane.y + lane.height;
    context.beginPath();
    context.moveTo(LEFT, bottom);
    let before = LEFT, last = 0;
    // A reading is the mean since the one before it.
    for (const [at, part] of lane.gauge.points) {
      const x = Math.min(Math.max(LEFT + (at - from) * scale, LEFT), width);
      last = bottom - part * (lane.height - 2);
      context.lineTo(before, last);
      context.lineTo(x, last);
      before = x;
    }
    context.lineTo(before, bottom);
    context.globalAlpha = 0.35;
    context.fillStyle = style.getPropertyValue("--accent");
    context.fill();
    context.globalAlpha = 1;
  };
  const drawAxis = (from, to, scale) => {
    const rough = (to - from) / 7;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((it) => it >= rough);
    context.fillStyle = style.getPropertyValue("--soft");
    context.textAlign = "center";
    for (let tick = Math.ceil(from / step); tick * step <= to; tick++) {
      const x = LEFT + (tick * step - from) * scale;
      context.fillRect(x, height, 1, 4);
      context.fillText(`${Number(((tick * step) / 1e6).toPrecision(10))} ms`, Math.min(x, width - 26), height + 14);
    }
    context.textAlign = "left";
    context.fillRect(LEFT, height, plotWidth(), 1);
  };
  const drawCall = (scale) => {
    if (!pointed || pointed.lane.caller[pointed.piece] < 0) return;
    const caller = lanes[pointed.lane.caller[pointed.piece]];
    const x = (at) => LEFT + (at - shown[0]) * scale;
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, plotWidth(), height);
    context.clip();
    context.beginPath();
    context.moveTo(x(pointed.lane.called[pointed.piece]), caller.y + caller.height / 2);
    context.lineTo(x(pointed.lane.start[pointed.piece]), pointed.lane.y + pointed.lane.height / 2);
    context.strokeStyle = style.getPropertyValue("--ink");
    context.stroke();
    context.restore();
  };

  const draw = () => {
    const ratio = devicePixelRatio || 1;
    width = canvas.clientWidth;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round((height + AXIS) * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round((height + AXIS) * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height + AXIS);
    context.font = `11px ${style.getPropertyValue("--sans")}`;
    context.textBaseline = "middle";
    const [from, to] = shown;
    const scale = plotWidth() / (to - from);
    for (const lane of lanes) {
      context.fillStyle = style.getPropertyValue("--lane");
      context.fillRect(LEFT, lane.y, plotWidth(), lane.height);
      if (lane.gauge) drawGauge(lane, from, scale); else drawPieces(lane, from, to, scale);
      context.fillStyle = style.getPropertyValue("--soft");
      // Of three thin lanes of a stream the middle one has the name.
      const isNamed = lane.group !== "stages" || lane.label.endsWith("compute");
      if (isNamed) context.fillText(lane.label.replace(/ compute$/, ""), 0, lane.y + lane.height / 2, LEFT - 10);
    }
    context.fillStyle = style.getPropertyValue("--ink");
    for (const title of titles) context.fillText(title.text, 0, title.y);
    drawAxis(from, to, scale);
    drawCall(scale);
  };

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: Math.min(Math.max(event.clientX - box.left - LEFT, 0), plotWidth()), y: event.clientY - box.top };
  };
  const timeAt = (x) => shown[0] + (x / plotWidth()) * (shown[1] - shown[0]);
  const length = (span) => (span < 1e3 ? `${span} ns` : span < 1e6 ? `${(span / 1e3).toFixed(1)} us` : `${(span / 1e6).toFixed(3)} ms`);
  const find = (event) => {
    const { x, y } = at(event);
    const lane = lanes.find((it) => y >= it.y && y < it.y + it.height);
    if (!lane || lane.gauge) return lane ? { lane } : null;
    const [time, slack] = [timeAt(x), (shown[1] - shown[0]) / plotWidth()];
    let best = null;
    for (let piece = first(lane, time - slack); piece < lane.count && lane.start[piece] <= time + slack; piece++) {
      if (lane.end[piece] >= time - slack) best = { lane, piece };
    }
    return best;
  };
  const describe = ({ lane, piece }) => {
    if (lane.gauge) return `${lane.label}\nhighest ${lane.gauge.highest}`;
    const lines = [data.names[lane.name[piece]].text, length(lane.end[piece] - lane.start[piece]), lane.label];
    lines.push(`from ${(lane.start[piece] / 1e6).toFixed(3)} ms`);
    if (lane.caller[piece] >= 0) {
      lines.push(`asked for by ${lanes[lane.caller[piece]].label}, ${length(lane.start[piece] - lane.called[piece])} before`);
    }
    return lines.join("\n");
  };

  let anchor = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    anchor = at(event).x;
    canvas.setPointerCapture(event.pointerId);
  });
  // Behind the page's own listener, which hides the tooltip where an element has none.
  document.addEventListener("pointermove", (event) => {
    if (anchor !== null) {
      const [left, right] = [anchor, at(event).x].sort((a, b) => a - b);
      selection.hidden = false;
      selection.style.left = `${LEFT + left}px`;
      selection.style.width = `${right - left}px`;
      return;
    }
    const found = event.target === canvas ? find(event) : null;
    if (found?.lane !== pointed?.lane || found?.piece !== pointed?.piece) { pointed = found; ask(); }
    if (!found) return;
    tip.textContent = describe(found);
    tip.hidden = false;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const y = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below;
    tip.style.transform = `translate(${Math.max(x, 8)}px, ${Math.max(y, 8)}px)`;
  });
  canvas.addEventListener("pointerup", (event) => {
    if (anchor === null) return;
    const [left, right] = [anchor, at(event).x].sort((a, b) => a - b);
    anchor = null;
    selection.hidden = true;
    if (right - left > 4) show(timeAt(left), timeAt(right));
  });
  canvas.addEventListener("pointercancel", () => { anchor = null; selection.hidden = true; });
  canvas.addEventListener("dblclick", () => show(0, data.span_ns));
  // Without a key the wheel scrolls the page.
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const turned = event.deltaY || event.deltaX;
    const [from, to] = shown;
    if (event.shiftKey) return show(from + (turned / 1000) * (to - from), to + (turned / 1000) * (to - from));
    const centre = timeAt(at(event).x), factor = 1.002 ** turned;
    show(centre - (centre - from) * factor, centre + (to - centre) * factor);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    // These are the browser's own: its zoom, its history.
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const [from, to] = shown, step = (to - from) / 5;
    const moves = {
      ArrowLeft: [from - step, to - step], ArrowRight: [from + step, to + step],
      "+": [from + step, to - step], "-": [from - step, to + step], Home: [0, data.span_ns],
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    show(...moves[event.key]);
  });
  all.addEventListener("click", () => show(0, data.span_ns));
  addEventListener("resize", ask);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { paint(); ask(); });
  section.querySelector(".zoom").hidden = false;
  paint();
  draw();
})();
