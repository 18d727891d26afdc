// The page of a validation: errors in tables, predictions against measurements in plots.

const pct = (value) => (missing(value) ? MISSING : `${number(value)} %`);
const signed = (value) => (missing(value) ? MISSING : `${value > 0 ? "+" : ""}${number(value)} %`);

const text = (key, label) => ({ key, label, show: (row) => exact(row[key]), value: (row) => row[key] });
const figure = (key, label, show = number) => ({ key, label, right: true, show: (row) => show(row[key]), value: (row) => row[key] });

const ERRORS = [
  figure("rows", "Rows"), figure("predicted_rows", "Predicted"), figure("median_ape_pct", "Median APE", pct),
  figure("mean_ape_pct", "Mean APE", pct), figure("p90_ape_pct", "90th percentile", pct), figure("bias_pct", "Bias", signed), figure("spearman", "Rank"),
];

function drawValidation() {
  byId("about").textContent = data.about;
  const { sources, accelerators } = data.summary;
  drawTable(byId("sources"), [text("source", "Source"), text("metric", "Metric"), ...ERRORS], sources);
  drawTable(byId("chips"), [text("hardware", "Accelerator"), text("metric", "Metric"), ...ERRORS], accelerators, { sort: "median_ape_pct", descending: true });
  const worst = sources.flatMap((source) => source.worst.map((row) => ({ source: source.source, metric: source.metric, ratio: row.predicted / row.measured, ...row })));
  const named = ["source", "metric", "model", "hardware", "framework", "input_len", "output_len", "batch_or_concurrency", "tp"];
  drawTable(byId("worst"), [...named.map((name) => text(name, name.replaceAll("_", " "))), figure("measured", "Measured"), figure("predicted", "Predicted"), figure("ratio", "Predicted / measured")], worst);
  const reasons = Object.entries(data.summary.not_predicted).map(([reason, rows]) => ({ reason, rows }));
  const columns = [{ ...text("reason", "Reason"), wrap: true }, figure("rows", "Rows")];
  byId("missing").replaceChildren();
  if (reasons.length) drawTable(byId("missing"), columns, reasons);
  else byId("missing").append(el("p", {}, "Every row has a prediction."));
}

function drawPlots() {
  const found = data.points.find((entry) => entry.source === byId("source").value) || data.points[0];
  byId("plots").replaceChildren();
  if (!found) return;
  for (const metric of found.metrics) {
    const node = el("div", { class: "chart tall" });
    byId("plots").append(el("h3", {}, metric.metric), el("figure", {}, node));
    drawScatter(node, metric);
  }
}

function drawScatter(node, metric) {
  const all = [...metric.measured, ...metric.predicted];
  const low = Math.min(...all) / 1.4;
  const high = Math.max(...all) * 1.4;
  const chips = [...new Set(metric.hardware)];
  const guide = (factor, dash) => ({ type: "scatter", mode: "lines", x: [low, high], y: [low * factor, high * factor], line: { color: css("quiet"), width: 1, dash }, hoverinfo: "skip", showlegend: false });
  const traces = chips.map((chip, index) => {
    const rows = metric.hardware.flatMap((name, row) => (name === chip ? [row] : []));
    return {
      type: "scatter", mode: "markers", name: plain(chip), hoverinfo: "none", customdata: rows,
      x: rows.map((row) => metric.measured[row]), y: rows.map((row) => metric.predicted[row]),
      marker: { size: 7, opacity: 0.65, color: hue(index), symbol: SYMBOLS[index % SYMBOLS.length] },
    };
  });
  const range = [Math.log10(low), Math.log10(high)];
  draw(node, [guide(1, "solid"), guide(1.25, "dash"), guide(0.8, "dash"), ...traces], layout({
    xaxis: axis(`Measured (${metric.metric})`, { type: "log", range, ...decades(low, high) }),
    yaxis: axis(`Predicted (${metric.metric})`, { type: "log", range, ...decades(low, high) }),
    margin: { l: 64, r: 16, t: 40, b: 48 },
  }), { hover: (row) => tip(metric, row) });
}

function tip(metric, row) {
  return el("div", {}, el("p", {}, metric.text[row]), pairs([
    ["measured", number(metric.measured[row], 4)], ["predicted", number(metric.predicted[row], 4)],
    ["off by", signed(100 * (metric.predicted[row] / metric.measured[row] - 1))],
  ]));
}

byId("source").append(...data.points.map((entry) => el("option", { value: entry.source }, entry.source)));
byId("source").addEventListener("change", drawPlots);
drawValidation();
drawPlots();
dark.addEventListener("change", drawPlots);
ready();
