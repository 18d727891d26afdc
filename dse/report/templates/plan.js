// The page of a plan: what to run, what else could be had, what binds.

const dollars = (value, digits = 2) => (missing(value) ? MISSING : `$${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`);
const signedDollars = (value) => (missing(value) ? MISSING : `${value < 0 ? "−" : "+"}${dollars(Math.abs(value))}`);
const fleet = (instances) => Object.entries(instances).map(([name, count]) => `${count} × ${name}`).join(" + ") || "none";

const text = (key, label, show = (row) => exact(row[key])) => ({ key, label, show, value: show });
const wide = (key, label, show) => ({ ...text(key, label, show), wrap: true });
const figure = (key, label, show = number, unit = "") => ({ key, label, unit, right: true, show: (row) => show(row[key]), value: (row) => row[key] });
const degreesOf = (row) => ["tp", "pp", "dp", "ep"].filter((name) => row[name] > 1).map((name) => `${name} ${row[name]}`).join(" ") || "1 device";
const layoutOf = (row) => row.pools ? row.pools.map((pool) => `${pool.pool} ${pool.workers} x ${degreesOf(pool)}`).join(" + ") : degreesOf(row);
const hardwareOf = (row) => row.pools ? [...new Set(row.pools.map((pool) => pool.hardware))].join(" + ") : row.hardware;
const techniquesOf = (row) => Object.entries(row.techniques || {}).map(([name, value]) => `${name} ${value}`).join(", ") || MISSING;

function tile(value, label) {
  return el("div", { class: "tile" }, el("b", {}, value), el("span", {}, label));
}

function lines(id, sentences) {
  byId(id).replaceChildren(...sentences.map((sentence) => el("p", {}, sentence)));
}

function drawHead() {
  if (!Object.keys(data.instances).length) {
    byId("recommendation").textContent = `${data.status}: ${data.reason}`;
    byId("headlines").hidden = true;
    byId("answer").classList.add("empty");
    return false;
  }
  const costs = data.economics;
  byId("recommendation").textContent = data.recommendation;
  byId("tiles").replaceChildren(
    tile(dollars(costs.usd_per_hour), "per hour"),
    tile(dollars(costs.usd_per_month, 0), "per month"),
    tile(dollars(costs.usd_per_year, 0), "per year"),
    tile(number(Object.values(data.instances).reduce((sum, count) => sum + count, 0)), "accelerators"),
    tile(percent(costs.utilisation), "in use at the mean demand"),
    ...(missing(costs.usd_per_million_output_tokens) ? [] : [tile(`$${number(costs.usd_per_million_output_tokens)}`, "per million generated tokens")]),
    ...(missing(costs.power_kw) ? [] : [tile(`${number(costs.power_kw)} kW`, "drawn on average")]),
  );
  lines("headlines", data.headlines);
  return true;
}

function drawDeployments() {
  const trusted = (row) => (missing(row.evidence) ? "the table" : `${row.evidence}, ±${row.throughput_error_pct} %`);
  drawTable(byId("deployments"), [
    figure("replicas", "Replicas"), text("hardware", "Hardware", hardwareOf), text("layout", "Layout", layoutOf), text("model", "Model"),
    text("precision", "Precision"), text("techniques", "Techniques", techniquesOf), text("serving", "Serving"), text("runtime", "Runtime"), figure("batch", "Batch"),
    figure("usd_per_hour", "Cost", dollars, "$/h"), figure("requests_per_s", "Mean", number, "requests/s"),
    figure("utilisation_at_peak", "In use at peak", percent), text("evidence", "Rests on", trusted),
  ], data.deployments);
  byId("launch").replaceChildren(...data.deployments.flatMap((row) => {
    const commands = Object.entries(row.launch || {}), notes = row.launch_notes || [];
    if (!commands.length && !notes.length) return [];
    return [
      el("h3", {}, `${row.name}, ${row.replicas} ×`),
      ...commands.map(([engine, command]) => el("p", {}, `${engine}: `, ...command.split("\n").flatMap((line) => [el("code", {}, line), el("br")]))),
      ...notes.map((note) => el("p", {}, note)),
    ];
  }));
}

const LATENCIES = [figure("ttft_ms", "TTFT", number, "ms"), figure("tpot_ms", "TPOT", number, "ms")];

function drawAlternatives() {
  drawTable(byId("alternatives"), [
    text("title", "Fleet"), wide("instances", "Accelerators", (row) => fleet(row.instances)), figure("usd_per_hour", "Cost", dollars, "$/h"),
    figure("difference_usd_per_hour", "More", signedDollars, "$/h"), figure("difference_pct", "More", (value) => (missing(value) ? MISSING : `${number(value)} %`)),
    figure("served", "Served", percent), figure("power_kw", "Power limit", number, "kW"), ...LATENCIES,
  ], data.alternatives);
}

function drawCosts() {
  const rows = data.alternatives.slice(0, 16).reverse();
  const node = byId("costs");
  node.style.height = `${90 + 26 * rows.length}px`;
  const label = (row) => plain(`${row.title}: ${fleet(row.instances)}`);
  draw(node, [{
    type: "bar", orientation: "h", y: rows.map((_, index) => index), x: rows.map((row) => row.usd_per_hour), customdata: rows.map((_, index) => index),
    marker: { color: rows.map((row) => (row.title === "recommended" ? hue(0) : css("overhead"))) }, hoverinfo: "none",
    text: rows.map((row) => dollars(row.usd_per_hour)), textposition: "auto",
  }], layout({
    xaxis: axis("$ per hour", { rangemode: "tozero" }),
    yaxis: { tickvals: rows.map((_, index) => index), ticktext: rows.map(label), automargin: true },
    margin: { l: 220, r: 16, t: 12, b: 48 },
  }), { hover: (index) => pairs([["fleet", fleet(rows[index].instances)], ["cost", `${dollars(rows[index].usd_per_hour)}/h`], ["served", percent(rows[index].served)]]) });
}

function drawFrontier(id, rows, key, title) {
  const node = byId(id);
  node.style.height = "320px";
  const at = rows.map((row) => row[key]);
  draw(node, [
    { type: "scatter", mode: "lines", name: "bound", x: at, y: rows.map((row) => row.lower_bound), line: { color: css("quiet"), dash: "dash", width: 1 }, hoverinfo: "skip" },
    { type: "scatter", mode: "lines+markers", name: "cheapest fleet", x: at, y: rows.map((row) => row.usd_per_hour), line: { color: hue(0) }, marker: { size: 8 }, hoverinfo: "none", customdata: rows.map((_, index) => index) },
  ], layout({
    xaxis: axis(title), yaxis: axis("$ per hour", { rangemode: "tozero" }), margin: { l: 64, r: 16, t: 40, b: 48 },
  }), { hover: (index) => pairs([[title, number(rows[index][key])], ["cost", `${dollars(rows[index].usd_per_hour)}/h`], ["fleet", fleet(rows[index].instances)]]) });
}

function drawFrontiers() {
  const { served, latency } = data.frontier;
  byId("frontiers").hidden = !served.length && !latency.length;
  if (served.length) drawFrontier("demand-frontier", served, "demand_factor", "Demand, in demands of the plan");
  if (latency.length) drawFrontier("latency-frontier", latency, "slo_scale", "Latencies allowed, in those of the plan");
}

function drawChanges() {
  lines("sentences", data.sentences);
  drawTable(byId("sensitivity"), [
    wide("what", "Changed"), figure("factor", "To", (value) => `${Math.round(100 * value)} %`), wide("instances", "Answer then", (row) => fleet(row.instances)),
    figure("usd_per_hour", "Its cost", dollars, "$/h"), text("holds", "Recommended fleet still carries the peak", (row) => (row.recommended_still_carries_the_demand ? "yes" : "no")),
    figure("regret_usd_per_hour", "Paid too much by staying", dollars, "$/h"),
  ], data.sensitivity);
  byId("even").closest("section").hidden = !data.break_even.length;
  drawTable(byId("even"), [
    text("hardware", "Hardware"), figure("usd_per_device_hour", "Price", dollars, "$/device/h"), figure("break_even_usd_per_device_hour", "Break-even", dollars, "$/device/h"),
    figure("change_pct", "Change", (value) => `${number(value)} %`),
  ], data.break_even);
}

function drawDemand() {
  const by = (row) => Object.entries(row.served_by).map(([name, point]) => `${percent(point.share)} ${name}`).join(", ") || "nothing";
  const margin = data.buckets.some((row) => !missing(row.usd_per_hour_per_request_per_s)) ? [figure("usd_per_hour_per_request_per_s", "One request/s more", dollars, "$/h")] : [];
  drawTable(byId("buckets"), [
    text("model", "Model"), figure("input", "Prompt", number, "tokens"), figure("output", "Generated", number, "tokens"), figure("requests_per_s", "Mean", number, "requests/s"),
    figure("peak_requests_per_s", "Peak", number, "requests/s"), figure("served", "Served", percent), ...margin, wide("served_by", "By", by),
  ], data.buckets);
}

function drawGiven() {
  const used = (row) => (row.hardware in data.instances ? 0 : 1);
  const rows = [...data.prices].sort((a, b) => used(a) - used(b));
  drawTable(byId("prices"), [
    text("hardware", "Hardware"), figure("usd_per_device_hour", "Price", dollars, "$/device/h"), text("kind", "Kind"), figure("usd_purchase", "Purchase", dollars, "$/device"),
    text("provider", "Provider"), text("date", "Date"), wide("source", "Source"),
  ], rows);
  const names = data.left_out.no_price;
  byId("left-out").textContent = names.length ? `Left out, without a quote of the kind asked for: ${names.join(", ")}.` : "";
  lines("assumptions", data.assumptions);
  byId("plan").textContent = JSON.stringify(data.plan, null, 1);
}

function drawPlots() {
  drawCosts();
  drawFrontiers();
}

if (drawHead()) {
  drawDeployments();
  drawAlternatives();
  drawChanges();
  drawDemand();
  drawPlots();
  dark.addEventListener("change", drawPlots);
}
drawGiven();
ready();
