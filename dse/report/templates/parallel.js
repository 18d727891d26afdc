// Trade-offs over all objectives: parallel axes, better always up, ranges by dragging.

const PLOT = { height: 330, top: 46, bottom: 22, side: 110 };

function parallelNames() {
  const names = [state.color, ...objectives.map(({ name }) => name)];
  for (const extra of ["devices", "batch", "memory_gb_per_device", "ttft_ms"]) if (names.length < 7 && varies(extra)) names.push(extra);
  return [...new Set(names)].filter((name) => name && columns.has(name));
}

function drawParallel({ group, passing }) {
  const node = byId("parallel");
  const names = parallelNames();
  const width = Math.max(320, node.clientWidth);
  const scales = names.map((name) => scaleOf(name, group));
  const left = (place) => PLOT.side + (names.length > 1 ? (place * (width - 2 * PLOT.side)) / (names.length - 1) : 0);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${PLOT.height}`, height: PLOT.height, role: "img", "aria-label": "Parallel axes of all objectives" });
  const pass = new Set(passing);
  const strength = Math.max(0.15, Math.min(0.75, 40 / Math.sqrt(passing.length * 10 + 1)));
  const ordered = [...group.filter((row) => !pass.has(row)), ...passing];
  for (const row of ordered) {
    const chosen = row === state.select;
    picture.append(svg("path", {
      d: lineOf(row, names, scales, left), fill: "none", class: pass.has(row) ? "line" : "line out",
      stroke: chosen ? css("text") : pass.has(row) ? colourOf(row) : css("line"), "stroke-width": chosen ? 3 : 1.4, opacity: chosen ? 1 : pass.has(row) ? strength : 0.35,
      onclick: () => select(row), onmousemove: (event) => tell(event, el("div", {}, el("b", {}, `Point ${exact(value(row, "number"))}`), pairs(facts(row).slice(0, 26)))), onmouseleave: () => tell(null),
    }));
  }
  names.forEach((name, place) => picture.append(axisOf(name, scales[place], left(place), (width - 2 * PLOT.side) / Math.max(1, names.length - 1))));
  node.replaceChildren(picture);
  byId("unbrush").hidden = !Object.keys(state.brush).length;
}

function scaleOf(name, list) {
  const column = columns.get(name);
  const places = list.map((row) => position(row, name)).filter((place) => place !== null);
  const log = column.numeric && places.length && Math.min(...places) > 0 && Math.max(...places) / Math.min(...places) > 30;
  const forward = log ? Math.log : (place) => place;
  const back = log ? Math.exp : (place) => place;
  let [low, high] = [forward(Math.min(...places)), forward(Math.max(...places))];
  if (!places.length) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const down = column.sense === "min";
  const span = PLOT.height - PLOT.top - PLOT.bottom;
  const y = (place) => { const share = (forward(place) - low) / (high - low); return PLOT.top + span * (down ? share : 1 - share); };
  const at = (height) => { const share = (height - PLOT.top) / span; return back(low + (high - low) * (down ? share : 1 - share)); };
  const used = [...new Set(places)].sort((a, b) => a - b);
  const ticks = used.length <= (column.numeric ? 10 : 14) ? used : column.numeric ? [0, 0.25, 0.5, 0.75, 1].map((share) => back(low + (high - low) * share)) : [];
  const text = (place) => (column.numeric ? number(place, 2) : String(levelsOf(name)[place]));
  return { y, at, ticks, text };
}

const colourOf = (row) => {
  const levels = levelsOf(state.color);
  if (levels) return hue(Math.max(0, levels.indexOf(value(row, state.color))));
  return css("accent");
};

function lineOf(row, names, scales, left) {
  let started = false;
  return names.map((name, place) => {
    const at = position(row, name);
    if (at === null) { started = false; return ""; }
    const command = `${started ? "L" : "M"}${left(place).toFixed(1)},${scales[place].y(at).toFixed(1)}`;
    started = true;
    return command;
  }).join("");
}

function axisOf(name, scale, x, spacing) {
  const { label, unit } = columns.get(name);
  const room = Math.max(9, Math.floor(spacing / 7.2));
  const short = (text) => (text.length > room ? `${text.slice(0, room - 1)}…` : text);
  const beside = Math.min(room, Math.floor((x - 6) / 7.6)); // a value stands left of its axis; its end tells variants apart
  const middle = (text) => (text.length > beside ? `${text.slice(0, Math.ceil(beside / 2) - 1)}…${text.slice(-Math.floor(beside / 2))}` : text);
  const range = state.brush[name];
  const [top, bottom] = [PLOT.top, PLOT.height - PLOT.bottom];
  const group = svg("g", { class: "axis", "data-name": name },
    svg("title", {}, [withSense(name), columns.get(name).meaning].filter(Boolean).join(": ")),
    svg("text", { x, y: 16, "text-anchor": "middle", "font-weight": 600 }, short(label)),
    svg("text", { x, y: 31, "text-anchor": "middle", class: "quiet" }, unit),
    svg("line", { x1: x, x2: x, y1: top, y2: bottom, stroke: css("quiet"), "stroke-width": 1.2 }),
    ...scale.ticks.flatMap((tick) => [
      svg("line", { x1: x - 4, x2: x, y1: scale.y(tick), y2: scale.y(tick), stroke: css("quiet") }),
      svg("text", { x: x - 7, y: scale.y(tick) + 4, "text-anchor": "end", style: `paint-order:stroke;stroke:${css("card")};stroke-width:4px` }, middle(scale.text(tick))),
    ]));
  if (range) {
    const ends = range.map((end) => Math.max(top - 4, Math.min(bottom + 4, scale.y(end)))).sort((a, b) => a - b);
    group.append(svg("rect", { x: x - 7, width: 14, y: ends[0], height: Math.max(3, ends[1] - ends[0]), fill: css("accent"), opacity: 0.35, rx: 3 }));
  }
  const grip = svg("rect", { x: x - 14, width: 28, y: top - 6, height: bottom - top + 12, fill: "transparent", style: "cursor:ns-resize;touch-action:none" });
  grip.addEventListener("pointerdown", (event) => brushFrom(event, grip, name, scale, x));
  grip.addEventListener("dblclick", () => { delete state.brush[name]; update(); });
  group.append(grip);
  return group;
}

function brushFrom(event, grip, name, scale, x) {
  const heightOf = (moved) => moved.clientY - grip.ownerSVGElement.getBoundingClientRect().top;
  const start = heightOf(event);
  const mark = svg("rect", { x: x - 7, width: 14, y: start, height: 0, fill: css("accent"), opacity: 0.35, rx: 3 });
  grip.before(mark);
  grip.setPointerCapture(event.pointerId);
  grip.onpointermove = (moved) => fill(mark, { y: Math.min(start, heightOf(moved)), height: Math.abs(heightOf(moved) - start) }, []);
  grip.onpointerup = (moved) => {
    grip.onpointermove = grip.onpointerup = null;
    const end = heightOf(moved);
    if (Math.abs(end - start) < 4) return void mark.remove();
    const [a, b] = [scale.at(start), scale.at(end)];
    state.brush[name] = [Number(Math.min(a, b).toPrecision(6)), Number(Math.max(a, b).toPrecision(6))];
    update();
  };
}
