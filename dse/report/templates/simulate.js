// The page of a simulation: load, requests over time, latencies as distributions, what the replicas did.

const found = data.summary;
const LATENCIES = { ttft_ms: "Time to first token, ms", tpot_ms: "Time per output token, ms", latency_s: "Latency, s" };

function drawTiles() {
  byId("about").textContent = data.about;
  const good = missing(found.goodput_requests_per_s) ? [] : [["goodput, requests/s", number(found.goodput_requests_per_s)]];
  const tiles = [
    [found.saturation, missing(found.load) ? "all at once" : `load ${percent(found.load)}`],
    ["requests/s answered", number(found.requests_per_s)], ...good,
    ["TTFT mean, ms", number(found.ttft_ms.mean)], ["TTFT p99, ms", number(found.ttft_ms.p99)],
    ["TPOT mean, ms", number(found.tpot_ms.mean)], ["TPOT p99, ms", number(found.tpot_ms.p99)],
  ];
  byId("tiles").replaceChildren(...tiles.map(([label, value]) => el("div", { class: "tile" }, el("b", {}, value), el("span", {}, label))));
}

const curve = (name, x, y, index, extra = {}) => ({ type: "scatter", mode: "lines", name, x, y, line: { color: hue(index), width: 2, ...extra } });

function drawTime() {
  const { seconds, waiting, decoding } = data.timeline;
  draw(byId("time"), [curve("decoding", seconds, decoding, 0), curve("waiting for the first token", seconds, waiting, 1)], layout({
    xaxis: axis("Seconds"), yaxis: axis("Requests", { rangemode: "tozero" }), hovermode: "x unified", height: 320,
  }), { hover: () => null });
  const { begin, median, p99 } = data.windows;
  draw(byId("waits"), [curve("median", begin, median, 0), curve("99th percentile", begin, p99, 1)], layout({
    xaxis: axis("Arrival, seconds"), yaxis: axis("TTFT, ms", { rangemode: "tozero" }), hovermode: "x unified", height: 320,
  }), { hover: () => null });
}

function drawCurves() {
  byId("curves").replaceChildren();
  for (const [key, label] of Object.entries(LATENCIES)) {
    const { value, share } = data.curves[key];
    if (!value.length) continue;
    const node = el("div", { class: "chart" });
    byId("curves").append(el("figure", {}, el("h3", {}, label), node));
    const target = found.slo?.[key];
    const limit = missing(target) ? [] : [{ type: "scatter", mode: "lines", x: [target, target], y: [0, 100], hoverinfo: "skip", line: { color: css("quiet"), width: 1, dash: "dash" } }];
    draw(node, [curve(label, value, share, 0), ...limit], layout({
      xaxis: axis(label, { type: "log" }), yaxis: axis("% of requests", { range: [0, 101] }), showlegend: false, height: 320,
    }), { hover: () => null });
  }
}

function drawUse() {
  const time = Object.entries({ prompt: "prompt passes", mixed: "mixed passes", decode: "decode steps", idle: "idle" })
    .filter(([key]) => found.utilisation[key] > 0).map(([key, label]) => [label, percent(found.utilisation[key])]);
  const load = [
    ["offered, requests/s", number(found.offered_requests_per_s)], ["sustained", number(found.capacity_requests_per_s)],
    ["running, mean and most", `${number(found.running.mean)}, ${number(found.running.most)}`], ["slots of a replica", number(found.slots[0])],
    ["waiting, mean and most", `${number(found.waiting.mean)}, ${number(found.waiting.most)}`],
    ["evictions from the full cache", number(found.preemptions)], ["tokens computed again", number(found.recomputed_tokens)],
  ];
  byId("use").replaceChildren(el("div", { class: "card" }, pairs(time)), el("div", { class: "card" }, pairs(load)));
}

function drawAll() {
  drawTime();
  drawCurves();
}

drawTiles();
drawUse();
drawAll();
dark.addEventListener("change", drawAll);
ready();
