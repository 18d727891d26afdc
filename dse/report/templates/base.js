// Shared by every page: elements, numbers, colours, the tooltip, plotly's look.

const MISSING = "–";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

/** Make an element; text goes in as text, so that no name a user chose is ever read as markup. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const missing = (value) => value === null || value === undefined || Number.isNaN(value);

/** A number with as many digits as a reader can use. */
function number(value, digits = 3) {
  if (missing(value)) return MISSING;
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(digits - 1);
  if (size >= 10 ** (digits - 1)) return Math.round(value).toLocaleString("en-US");
  return value.toFixed(Math.max(0, digits - 1 - Math.floor(Math.log10(size))));
}

/** What a user configured is shown as it was written. */
const exact = (value) => (typeof value === "number" ? String(Number(value.toPrecision(9))) : missing(value) ? MISSING : String(value));

const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];

function si(value, unit) {
  if (missing(value)) return MISSING;
  if (value === 0) return `0 ${unit}`;
  const [scale, prefix] = PREFIXES.find(([size]) => Math.abs(value) >= size * 0.9995) || PREFIXES.at(-1);
  return `${number(value / scale)} ${prefix}${unit}`;
}

/** Ticks of a logarithmic axis, one per decade, written with a prefix: 100 G, 1 T, 10 T. */
function decades(low, high) {
  const tickvals = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high) + 1; power += 1) tickvals.push(10 ** power);
  return { tickvals, ticktext: tickvals.map((tick) => (tick < 1 ? String(tick) : si(tick, "").trim())) };
}

const percent = (share) => (missing(share) ? MISSING : share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const PALETTE = {
  light: ["#2563c9", "#d9630b", "#0b8a78", "#b83280", "#7a5af0", "#a16c00", "#c92a2a", "#4d7c0f", "#0e7fa8", "#6b7280"],
  dark: ["#6ea2ff", "#ff9d52", "#3ccdb5", "#f07fbf", "#ab93ff", "#e0b23f", "#ff7b7b", "#9ccc4a", "#4cc3ec", "#a3acb9"],
};
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "hexagon"];
const hue = (index) => PALETTE[dark.matches ? "dark" : "light"][index % 10];

/** Text for plotly, which reads a few tags: escaped, it shows what is written. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function axis(title, extra = {}) {
  return {
    title: { text: title, standoff: 8, font: { size: 13 } }, gridcolor: css("line"), linecolor: css("line"), zeroline: false,
    automargin: true, exponentformat: "SI", ...extra,
  };
}

function layout(extra) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", hoverdistance: 12,
    font: { family: "system-ui, Segoe UI, Liberation Sans, sans-serif", size: 12.5, color: css("text") },
    margin: { l: 60, r: 16, t: 12, b: 48 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, itemsizing: "constant" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("quiet"), activecolor: css("accent") }, ...extra,
  };
}

/** Draw or redraw; `told` holds what to do on click and what to say on hover, by the point's `customdata`. */
function draw(node, traces, shape, told) {
  // Named one by one: plotly's own choice has a button that sends the chart, and the data with it, to a server.
  const config = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const first = !node.dataset.drawn;
  node.told = told;
  Plotly.react(node, traces, shape, config);
  node.dataset.drawn = "1";
  if (!first) return;
  const datum = (event) => event.points.find((point) => !missing(point.customdata))?.customdata;
  node.on("plotly_hover", (event) => !missing(datum(event)) && tell(event.event, node.told.hover(datum(event))));
  node.on("plotly_unhover", () => tell(null));
  node.on("plotly_click", (event) => !missing(datum(event)) && node.told.click?.(datum(event)));
}

/** Show content beside the pointer, or hide the tooltip. */
function tell(event, content) {
  const box = byId("tooltip");
  box.hidden = !event;
  if (!event) return;
  box.replaceChildren(content);
  const { width, height } = box.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - height - 4))}px`;
}

/** A list of [name, value] pairs; null draws a rule. */
function pairs(entries) {
  return el("dl", { class: "pairs" }, entries.map((entry) => (entry === null ? el("hr") : [
    el("dt", {}, entry[0]), el("dd", { class: entry[2] || null }, entry[1]),
  ])).flat());
}

/** Redraw what stands in a node and give the keyboard's focus back to the element it was on. */
function keepingFocus(node, redraw) {
  const key = node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const top = node.scrollTop;
  redraw();
  node.scrollTop = top;
  if (key !== undefined) node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

const swatch = (colour) => el("span", { class: "swatch", style: `background:${colour}` });

/** Say that the page is drawn, and by how much it is wider than the window, for whoever checks it. */
function ready() {
  document.documentElement.dataset.overflow = document.documentElement.scrollWidth - innerWidth;
  document.documentElement.dataset.ready = "1";
}
