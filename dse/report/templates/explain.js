// The page of one point.

function drawExplained() {
  const detail = detailOf(data.point);
  const row = detail.point || {};
  const words = ["precision", "workload", "tp", "pp", "dp", "ep", "batch", "serving", "offload", "runtime", "fidelity", "evidence"].filter((name) => !missing(row[name]));
  const measures = { ttft_ms: ["TTFT", "ms"], tpot_ms: ["TPOT", "ms"], output_tokens_per_s_per_device: ["Throughput", "tokens/s/device"], usd_per_million_output_tokens: ["Cost", "$/Mtok"], memory_gb_per_device: ["Memory", "GB/device"] };
  const tiles = Object.entries(measures).filter(([name]) => !missing(row[name])).map(([name, [label, unit]]) => el("div", { class: "tile" }, el("b", {}, number(row[name])), el("span", {}, `${label}, ${unit}`)));
  const status = row.status && row.status !== "ok" ? el("p", { class: "note" }, `This point cannot be used: ${row.reason || row.status}.`) : null;
  const heading = el("div", {}, status, el("p", { class: "quiet" }, words.map((name) => `${name} ${exact(row[name])}`).join(" · ")), el("div", { class: "tiles" }, tiles));
  drawDetail(byId("point"), detail, heading);
}

drawExplained();
dark.addEventListener("change", drawExplained);
ready();
