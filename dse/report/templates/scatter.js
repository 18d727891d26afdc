// The frontier in two chosen dimensions.

function drawScatter({ group, passing }) {
  const { x, y, color } = state;
  if (!x || !y) return void byId("scatter").replaceChildren(el("p", { class: "quiet" }, "No numeric column to draw."));
  const pass = new Set(passing);
  const out = group.filter((row) => !pass.has(row));
  const judged = columns.get(x).sense && columns.get(y).sense && x !== y;
  const groups = judged ? byGroup(passing) : [];
  const front = groups.flatMap((members) => frontOf(members, x, y));
  const traces = [
    out.length ? points(out, "filtered out", { color: css("line"), size: 6 }, { showlegend: false }) : null,
    ...groups.map((members) => frontLine(frontOf(members, x, y))),
    ...coloured(passing, color, new Set(front)),
    todayStars(),
    state.select !== null && inGroup(state.select) ? points([state.select], "chosen", { color: "rgba(0,0,0,0)", size: 19, line: { width: 2.5, color: css("text") } }, { showlegend: false, hoverinfo: "skip" }) : null,
  ];
  draw(byId("scatter"), traces.filter(Boolean), layout({
    xaxis: axis(plain(withSense(x)), { type: state.xlog ? "log" : "linear", range: rangeOf(x, state.xlog, group), ...(state.xlog ? logTicks(x, group) : {}) }),
    yaxis: axis(plain(withSense(y)).replace(" · ", "<br>"), { type: state.ylog ? "log" : "linear", range: rangeOf(y, state.ylog, group), ...(state.ylog ? logTicks(y, group) : {}) }),
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, itemsizing: "constant", title: { text: `${plain(columns.get(color).label)}  ` } },
    uirevision: `${x} ${y} ${state.xlog} ${state.ylog} ${JSON.stringify(state.by)}`,
    shapes: state.select !== null && inGroup(state.select) ? bandLines(state.select) : [],
  }), {
    hover: (row) => typeof row === "string" ? todayTip(currents[Number(row)]) : el("div", {}, el("b", {}, `Point ${exact(value(row, "number"))}`), pairs(facts(row).slice(0, 30))),
    click: (row) => typeof row === "number" && select(row),
  });
  byId("scatter-note").textContent = scatterNote(group, passing, judged);
}

function points(list, name, marker, extra = {}) {
  return { type: "scatter", mode: "markers", name: plain(name), x: list.map((row) => value(row, state.x)), y: list.map((row) => value(row, state.y)), customdata: list, marker, hoverinfo: "none", ...extra };
}

function byGroup(list) {
  const found = new Map();
  for (const row of list) {
    const key = groupId(groupOf(row));
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(row);
  }
  return [...found.values()];
}

/** The edge of what can be reached: a staircase, because between two designs there is none. */
function frontLine(front) {
  return { type: "scatter", mode: "lines", x: front.map((row) => value(row, state.x)), y: front.map((row) => value(row, state.y)), hoverinfo: "skip", showlegend: false,
    line: { color: css("quiet"), width: 1.5, shape: columns.get(state.x).sense === "max" ? "vh" : "hv" } };
}

function coloured(list, name, front) {
  const look = (members, colour, symbol = "circle") => ({ color: colour, symbol, size: members.map((row) => (front.has(row) ? 10 : 6.5)), opacity: members.map((row) => (front.has(row) || !front.size ? 0.95 : 0.5)), line: { width: members.map((row) => (front.has(row) ? 1 : 0)), color: css("card") } });
  const levels = levelsOf(name);
  if (!levels) {
    const bar = { title: { text: plain(withUnit(name)), side: "right" }, thickness: 12, outlinewidth: 0 };
    const found = list.filter((row) => !missing(value(row, name)));
    return [points(found, columns.get(name).label, { ...look(found, found.map((row) => value(row, name))), colorscale: "Viridis", showscale: true, colorbar: bar }, { showlegend: false })];
  }
  const traces = levels.map((level, index) => {
    const members = list.filter((row) => value(row, name) === level);
    return members.length ? points(members, exact(level), look(members, hue(index), SYMBOLS[Math.floor(index / 10) % SYMBOLS.length])) : null;
  });
  const rest = list.filter((row) => missing(value(row, name)));
  return [...traces.filter(Boolean), ...(rest.length ? [points(rest, MISSING, look(rest, css("quiet")))] : [])].map((trace) => ({ ...trace, showlegend: true }));
}

const shownKeys = (keys) => groupBy.every((name, place) => state.by[name] === ALL || state.by[name] === String(keys[place]));
const todayShown = () => currents.filter((today) => shownKeys(groupBy.map((name) => today[name])) && !missing(today[state.x]) && !missing(today[state.y]));

function todayStars() {
  const stars = todayShown();
  if (!stars.length) return null;
  return { type: "scatter", mode: "markers", name: "today", x: stars.map((today) => today[state.x]), y: stars.map((today) => today[state.y]), customdata: stars.map((today) => String(currents.indexOf(today))), hoverinfo: "none", showlegend: true,
    marker: { symbol: "star", size: 19, color: "#f5b301", line: { width: 1.5, color: css("text") } } };
}

/** The range that holds a group and today's deployment: fixed, so that choosing a point moves nothing. */
function rangeOf(name, log, group) {
  const found = [...group.map((row) => value(row, name)), ...todayShown().map((today) => today[name])].filter((item) => !missing(item) && (!log || item > 0));
  if (!found.length) return undefined;
  const ends = [Math.min(...found), Math.max(...found)].map((item) => (log ? Math.log10(item) : item));
  const room = 0.07 * (ends[1] - ends[0]) || (log ? 0.1 : Math.abs(ends[0]) / 4 || 1);
  return [ends[0] - room, ends[1] + room];
}

/** How far off the chosen point may be. */
function bandLines(row) {
  const [x, y] = [value(row, state.x), value(row, state.y)];
  if (missing(x) || missing(y)) return [];
  const across = bandOf(row, state.x);
  const up = bandOf(row, state.y);
  const far = 1e3; // beyond any axis, for a band without an end
  const bar = (x0, x1, y0, y1) => ({ type: "line", x0, x1: Math.min(x1, x * far), y0, y1: Math.min(y1, y * far), line: { color: css("text"), width: 1, dash: "dot" }, opacity: 0.7 });
  return [across && bar(across[0], across[1], y, y), up && bar(x, x, up[0], up[1])].filter(Boolean);
}

function todayTip(current) {
  const known = [...columns.values()].filter(({ name }) => !missing(current[name]) && name !== "number");
  return el("div", {}, el("b", {}, "Today's deployment"), pairs(known.slice(0, 30).map((column) => [column.label, `${show(column.name, current[column.name])}${column.unit ? ` ${column.unit}` : ""}`])));
}

/** Ticks at 1-2-5 steps, or at every power of two where the values are: plain numbers, not exponents. */
function logTicks(name, list) {
  const found = list.map((row) => value(row, name)).filter((item) => item > 0);
  found.push(...todayShown().map((today) => today[name]).filter((item) => item > 0));
  if (!found.length) return {};
  const [low, high] = [Math.min(...found), Math.max(...found)];
  const decades = Math.log10(high / low);
  const steps = decades > 4 ? [1] : decades > 2.2 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power += 1) ticks.push(...steps.map((step) => step * 10 ** power));
  return { tickvals: ticks, ticktext: ticks.map((tick) => (tick < 1e-3 || tick >= 1e6 ? tick.toExponential(0) : Number(tick.toPrecision(3)).toLocaleString("en-US"))) };
}

function scatterNote(group, passing, judged) {
  const many = data.total > data.rows ? `Showing ${data.rows.toLocaleString("en-US")} of ${data.total.toLocaleString("en-US")} frontier points (each objective's best always among them); all are in frontier.parquet. ` : "";
  const drawn = `${passing.length.toLocaleString("en-US")} of this group's ${group.length.toLocaleString("en-US")} points pass the filters. `;
  return `${many}${passing.length < group.length ? drawn : ""}${judged ? "Large points and the line: best in these two dimensions; the small ones are on the frontier for another objective. " : ""}${todayShown().length ? "The star is today's deployment. " : ""}${state.select !== null && (bandOf(state.select, state.x) || bandOf(state.select, state.y)) ? "Dotted lines: where nine measurements in ten of the chosen point would lie." : ""}`;
}

/** The arrow keys step through the drawn points from left to right. */
function stepThrough(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const list = visible().passing.filter((row) => !missing(value(row, state.x))).sort((a, b) => value(a, state.x) - value(b, state.x));
  const next = list[Math.max(0, Math.min(list.length - 1, list.indexOf(state.select) + step))];
  if (next !== undefined) select(next);
  event.preventDefault();
}
