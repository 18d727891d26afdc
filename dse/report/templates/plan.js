// The page of a plan: what to run, what else could be had, what binds.

const dollars = (value, digits = 2) => (missing(value) ? MISSING : `$${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`);
const signedDollars = (value) => (missing(value) ? MISSING : `${value < -0.005 ? "−" : "+"}${dollars(Math.abs(value))}`);
const serving = data.objective !== "cost";
const sizeOf = (row) => `${row.input}x${row.output}`;
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
    if (data.unserved.length > 3) lines("headlines", data.unserved.map((row) => `${sizeOf(row)} of ${row.model}: ${row.reason}`));
    else byId("headlines").hidden = true;
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

/** What the simulator says of a fleet. */
function simulatedOf(row) {
  if (missing(row.verified)) return "no";
  return row.verified ? "holds" : `misses ${row.missed.map((name) => name.split(":").reverse().join(" ").replace(/_(ms|s)$/, "").replace(/(\S+)$/, (word) => word.toUpperCase())).join(", ")}`;
}

function drawAlternatives() {
  byId("alternatives-note").textContent = serving
    ? "Each row is the fleet of its kind that serves most of the same demand under the same limits."
    : "Each row is the cheapest fleet of its kind for the same demand under the same limits.";
  drawTable(byId("alternatives"), [
    text("title", "Fleet"), wide("instances", "Accelerators", (row) => fleet(row.instances)), figure("usd_per_hour", "Cost", dollars, "$/h"),
    figure("difference_usd_per_hour", "More", signedDollars, "$/h"), figure("difference_pct", "More", (value) => (missing(value) ? MISSING : `${number(value)} %`)),
    figure("served", "Served", percent), figure("power_kw", "Power limit", number, "kW"), ...LATENCIES, text("verified", "Simulated", simulatedOf),
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

// What each fleet reaches, over what it is allowed; the bound is what no fleet is beyond.
function drawFrontier(id, rows, { key, title, reached, bound, unit, name }) {
  const node = byId(id);
  node.style.height = "320px";
  const at = rows.map((row) => row[key]);
  const told = (row) => [["cost", `${dollars(row.usd_per_hour)}/h`], ...(missing(row.served) ? [] : [["served", percent(row.served)]]), ["fleet", fleet(row.instances)]];
  draw(node, [
    { type: "scatter", mode: "lines", name: "bound", x: at, y: rows.map((row) => row[bound]), line: { color: css("quiet"), dash: "dash", width: 1 }, hoverinfo: "skip" },
    { type: "scatter", mode: "lines+markers", name, x: at, y: rows.map((row) => row[reached]), line: { color: hue(0) }, marker: { size: 8 }, hoverinfo: "none", customdata: rows.map((_, index) => index) },
  ], layout({
    xaxis: axis(title), yaxis: axis(unit, { rangemode: "tozero" }), margin: { l: 64, r: 16, t: 40, b: 48 },
  }), { hover: (index) => pairs([[title, number(rows[index][key])], ...told(rows[index])]) });
}

function drawFrontiers() {
  const { served, latency } = data.frontier;
  byId("frontiers").hidden = !served.length && !latency.length;
  const wanted = serving
    ? { reached: "served", bound: "served_bound", unit: "Share of the demand served", name: "what serves most" }
    : { reached: "usd_per_hour", bound: "lower_bound", unit: "$ per hour", name: "cheapest fleet" };
  byId("frontier-note").textContent = serving
    ? "The fleet that serves most at each point, within the plan's other limits. The dashed line is a bound: no fleet serves more."
    : "The cheapest fleet at each point, budgets in dollars left aside. The dashed line is a bound: no fleet is cheaper.";
  const over = serving ? { key: "budget_usd_per_hour", title: "Budget, $ per hour" } : { key: "demand_factor", title: "Demand, in demands of the plan" };
  if (served.length) drawFrontier("demand-frontier", served, { ...over, ...wanted });
  if (latency.length) drawFrontier("latency-frontier", latency, { key: "slo_scale", title: "Latencies allowed, in those of the plan", ...wanted });
}

function drawChanges() {
  const within = (row) => (missing(row.recommended_within_budget) ? MISSING : row.recommended_within_budget ? "yes" : "no");
  lines("sentences", data.sentences);
  drawTable(byId("sensitivity"), [
    wide("what", "Changed"), figure("factor", "To", (value) => `${Math.round(100 * value)} %`), wide("instances", "Answer then", (row) => fleet(row.instances)),
    figure("usd_per_hour", "Its cost", dollars, "$/h"),
    ...(serving
      ? [figure("served", "It serves", percent), figure("recommended_served", "Recommended fleet then serves", percent), text("within", "Within the budget", within), figure("regret_served", "Served less by staying", percent)]
      : [text("holds", "Recommended fleet still carries the peak", (row) => (row.recommended_still_carries_the_demand ? "yes" : `no, ${percent(row.recommended_served)}`)), figure("regret_usd_per_hour", "Paid too much by staying", dollars, "$/h")]),
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
