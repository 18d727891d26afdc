// One point in depth: what each phase's time goes to, memory by tier, the roofline, the layers, the operators.

const PARTS = ["weights", "activations", "kv_cache", "compute", "network", "overhead", "engine"];
const PART_NAMES = { weights: "Reading weights", activations: "Activations", kv_cache: "KV cache", compute: "Computing", network: "Network", overhead: "Fixed overhead", engine: "Engine" };
const MEMORY_PARTS = { weights_gb: "Weights", experts_gb: "Experts", kv_cache_gb: "KV cache", state_gb: "State", hidden_gb: "Hidden activations", activations_gb: "Activations", workspace_gb: "Workspace", buffers_gb: "Buffers" };
const STREAM_NAMES = { accelerator: "Accelerator computes", host: "Host computes", to_device: "Host to device", to_host: "Device to host", disk_read: "Disk read", disk_write: "Disk write", host_memory: "Host memory" };
let shownPhase = "decode";

function detailOf(number) {
  const source = byId(`detail-${number}`);
  return source ? JSON.parse(source.textContent) : null;
}

function drawDetail(node, detail, heading) {
  const phases = Object.keys(detail.phases || {});
  if (!phases.includes(shownPhase)) shownPhase = phases.at(-1);
  const roof = el("div", { class: "chart tall", id: "roofline" });
  const note = el("figcaption", { class: "quiet" });
  const layers = el("div", { class: "layers", id: "layers" });
  const operators = el("div", { class: "scroll", id: "operators" });
  const both = () => { drawLayers(layers, detail, shownPhase); drawOperators(operators, detail, shownPhase); };
  const choice = el("div", { class: "controls", role: "radiogroup", "aria-label": "Phase" }, phases.map((phase) => el("label", {},
    el("input", { type: "radio", name: "phase", value: phase, checked: phase === shownPhase, onchange: () => { shownPhase = phase; both(); } }), phaseName(phase))),
    BOUNDS.map((bound) => el("span", { class: "quiet" }, swatch(boundColour(bound)), `${bound} bound`)));
  node.replaceChildren(heading,
    el("div", { class: "halves" }, timeBars(detail), memoryBars(detail)), ...streamBars(detail),
    el("h3", {}, `Roofline of ${detail.hardware?.name || "the chip"}`), el("figure", {}, roofLegend(), roof, note),
    el("h3", {}, "Layers and operators, per device"), choice, layers, operators);
  drawRoofline(roof, note, detail);
  both();
}

function roofLegend() {
  return el("div", { class: "legend" }, el("span", {}, "● prefill"), el("span", {}, "◆ decode"), BOUNDS.map((bound) => el("span", {}, swatch(boundColour(bound)), `${bound} bound`)));
}

const phaseName = (phase) => ({ prefill: "Prefill (the whole prompt)", decode: "Decode (mean step)" })[phase] || phase;

const sumOf = (seconds) => Object.values(seconds).reduce((sum, part) => sum + (part || 0), 0);
const byCause = (seconds) => Object.entries(seconds).map(([cause, part]) => `${cause.replaceAll("_", " ")} ${part < 0 ? "−" : ""}${si(Math.abs(part), "s")}`).join(", ");

/** Of the kernels by cause, of the engine as one; what the row's figure has beside the pass stands below. */
function timeBars(detail) {
  const row = detail.point || {};
  const figures = { prefill: ["ttft_ms", "TTFT"], decode: ["tpot_ms", "TPOT"] };
  const bars = Object.entries(detail.phases || {}).map(([phase, { seconds, bound, time_by, engine = {}, beside = {} }]) => {
    const added = sumOf(engine);
    const by = { ...time_by, engine: added };
    const total = Object.values(by).reduce((sum, part) => sum + Math.max(part || 0, 0), 0) || 1;
    const segments = PARTS.filter((part) => by[part] > 0).map((part) => ({ part, share: by[part] / total }));
    return [
      el("div", { class: "barline" }, el("span", {}, phaseName(phase)), el("b", {}, si(seconds + added, "s"), el("span", { class: "quiet" }, bound ? ` ${bound} bound` : ""))),
      el("div", { class: "bar", role: "img", "aria-label": segments.map(({ part, share }) => `${PART_NAMES[part]} ${percent(share)}`).join(", ") },
        segments.map(({ part, share }) => segment(share, css(part), percent(share), `${PART_NAMES[part]}: ${si(by[part], "s")} (${percent(share)})`))),
      ...(added ? [el("p", { class: "quiet added" }, `Engine ${row.runtime}: ${byCause(engine)}`)] : []),
      ...(sumOf(beside) ? [el("p", { class: "quiet added" }, `Beside the pass: ${byCause(beside)}; ${figures[phase][1]} ${si(row[figures[phase][0]] / 1e3, "s")}`)] : []),
    ];
  });
  return el("div", { id: "time" }, el("h3", {}, "Where the time goes"), ...bars.flat(),
    el("div", { class: "legend" }, PARTS.map((part) => el("span", {}, swatch(css(part)), PART_NAMES[part]))));
}

/** Under offloading: how long each stream is busy while a phase runs; the longest sets its time. */
function streamBars(detail) {
  const phases = Object.entries(detail.phases || {}).filter(([, phase]) => phase.streams);
  if (!phases.length) return [];
  return [el("div", { id: "streams" }, el("h3", {}, "Streams of a pass over the block"),
    el("div", { class: "halves" }, phases.map(([phase, { seconds, streams }]) => {
      const longest = Math.max(seconds || 0, ...Object.values(streams).map((time) => time || 0)) || 1;
      return el("div", {}, el("div", { class: "barline" }, el("span", {}, phaseName(phase)), el("b", {}, si(seconds, "s"))),
        Object.entries(streams).map(([stream, time]) => el("div", { class: "stream" }, el("span", {}, STREAM_NAMES[stream] || stream),
          el("div", { class: "bar", role: "img", "aria-label": `${STREAM_NAMES[stream] || stream}: ${si(time, "s")}` }, segment((time || 0) / longest, css(time >= 0.999 * longest ? "compute" : "network"), percent((time || 0) / longest), si(time, "s"))),
          el("b", {}, time > 0 ? si(time, "s") : MISSING))));
    })))];
}

const segment = (share, colour, text, title) => el("i", { style: `width:${100 * share}%;background:${colour}`, title }, share > 0.07 ? text : "");

const poolWords = (pool) => [pool.hardware, pool.precision, ...["tp", "pp", "dp", "ep"].filter((degree) => degree === "tp" || pool[degree] > 1).map((degree) => `${degree} ${pool[degree]}`), `batch ${pool.batch}`].join(" ");

function memoryBars(detail) {
  const tiers = detail.pools
    ? detail.pools.map((pool) => [`${pool.workers} × ${pool.pool} worker, ${poolWords(pool)}, per device`, pool.memory])
    : Object.entries(detail.memory || {}).filter(([tier, sizes]) => tier === "accelerator" || sizes?.total_gb > 0);
  const bars = tiers.map(([tier, sizes]) => {
    const limit = sizes.limit_gb ?? sizes.capacity_gb;
    const scale = Math.max(sizes.capacity_gb || 0, limit || 0, sizes.total_gb || 0) || 1;
    const segments = Object.keys(MEMORY_PARTS).filter((part) => sizes[part] > 0);
    return [
      el("div", { class: "barline" }, el("span", {}, tier === "accelerator" ? "Accelerator, per device" : tier), el("b", {}, `${number(sizes.total_gb)} GB`, el("span", { class: "quiet" }, ` of ${number(limit)} GB usable`))),
      el("div", { class: "bar" }, segments.map((part) => segment(sizes[part] / scale, css(part.replace("_gb", "")), `${number(sizes[part])} GB`, `${MEMORY_PARTS[part]}: ${number(sizes[part])} GB`)),
        limit && limit < scale ? el("u", { style: `left:${(100 * limit) / scale}%`, title: `Limit: ${number(limit)} GB` }) : null),
    ];
  });
  const kinds = Object.keys(MEMORY_PARTS).filter((part) => tiers.some(([, sizes]) => sizes[part] > 0));
  return el("div", { id: "memory" }, el("h3", {}, detail.pools ? "Memory by pool" : "Memory by tier"), ...bars.flat(),
    el("div", { class: "legend" }, kinds.map((part) => el("span", {}, swatch(css(part.replace("_gb", ""))), MEMORY_PARTS[part]))));
}

function drawOperators(node, detail, phase) {
  const operators = detail.phases[phase]?.operators || [];
  const size = (key, label, read, unit) => ({ key, label, right: true, value: read, show: (row) => (read(row) > 0 ? si(read(row), unit) : MISSING) });
  const kind = (key, label) => size(key, label, (row) => row.bytes?.[key] ?? null, "B");
  drawTable(node, [
    { key: "name", label: "Operator", value: (row) => row.name, show: (row) => row.name },
    { key: "layer", label: "Layer", value: (row) => row.layer, show: (row) => row.layer },
    { key: "count", label: "Runs", right: true, value: (row) => row.count, show: (row) => number(row.count) },
    size("seconds", "Time, one run", (row) => row.seconds, "s"),
    { key: "share", label: "Share", right: true, value: (row) => row.share, show: (row) => percent(row.share) },
    { key: "bound", label: "Bound", value: (row) => row.bound, show: (row) => el("span", {}, swatch(boundColour(row.bound)), row.bound) },
    size("flops", "FLOPs", (row) => row.flops, "FLOP"),
    kind("weights", "Weights"), kind("activations_in", "In"), kind("activations_out", "Out"), kind("kv_read", "KV read"), kind("kv_write", "KV write"), kind("messages", "Messages"),
    { key: "intensity", label: "Intensity", unit: "FLOP/B", right: true, value: (row) => row.intensity, show: (row) => (row.intensity > 0 ? number(row.intensity) : MISSING) },
    { key: "dtype", label: "Computes in", value: (row) => row.dtype, show: (row) => row.dtype || MISSING },
  ], operators, { largestFirst: true });
}
