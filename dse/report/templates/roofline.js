// The log-log roofline of one point: every operator of both phases under the chip's roofs.

const PHASE_SYMBOLS = { prefill: "circle", decode: "diamond" };
const BOUNDS = ["compute", "memory", "network", "overhead"];
const boundColour = (bound) => css(BOUNDS.includes(bound) ? bound : "overhead");
const deviceBytes = (operator) => Object.entries(operator.bytes || {}).reduce((sum, [kind, size]) => sum + (kind === "messages" ? 0 : size || 0), 0);

function drawRoofline(node, note, detail) {
  const chip = detail.hardware;
  const slope = chip.memory_bandwidth_gb_per_s * 1e9;
  const all = Object.entries(detail.phases || {}).filter(([phase]) => phase === "decode" || !unlikePools(detail)).flatMap(([phase, { operators }]) => operators.map((operator) => ({ ...operator, phase })));
  const shown = all.filter((operator) => operator.flops > 0 && operator.intensity > 0 && operator.seconds > 0);
  const roofs = roofsOf(chip, shown);
  const top = Math.max(...roofs.map((roof) => roof.peak));
  const low = Math.min(0.1, ...shown.map((operator) => operator.intensity)) / 1.6;
  const high = Math.max((top / slope) * 12, ...shown.map((operator) => operator.intensity * 1.6));

  const bottom = Math.min(low * slope, ...shown.map((operator) => operator.flops / operator.seconds));

  const lines = [line([low, top / slope], [low * slope, top], css("memory"), "solid")];
  for (const roof of roofs) lines.push(line([roof.peak / slope, high], [roof.peak, roof.peak], css(roof.vector ? "overhead" : "compute"), roof.vector ? "dot" : "solid"));
  const marks = Object.keys(detail.phases || {}).flatMap((phase) => BOUNDS.map((bound) => marksOf(shown.filter((o) => o.phase === phase && o.bound === bound), phase, bound)));
  const labels = roofs.map((roof) => label(high, roof.peak, `${plain(roof.name)} ${si(roof.peak, "FLOP/s")}`, "right", "bottom"));
  labels.push(label(low * 1.2, low * 2.6 * slope, si(slope, "B/s"), "left", "bottom"), ...operatorLabels(shown));

  draw(node, [...lines, ...marks.filter((trace) => trace.x.length)], layout({
    xaxis: axis("Arithmetic intensity (FLOP per byte of device memory)", { type: "log", range: [Math.log10(low), Math.log10(high)], ...decades(low, high) }),
    yaxis: axis("Reached (FLOP/s)", { type: "log", range: [Math.log10(bottom) - 0.6, Math.log10(top) + 0.5], ...decades(bottom / 10, top) }), annotations: labels, showlegend: false, margin: { l: 60, r: 16, t: 34, b: 48 },
  }), { hover: (index) => operatorTip(all[index], detail) });

  function marksOf(operators, phase, bound) {
    return {
      type: "scatter", mode: "markers", name: `${phase}: ${bound}`, hoverinfo: "none",
      x: operators.map((o) => o.intensity), y: operators.map((o) => o.flops / o.seconds), customdata: operators.map((o) => all.findIndex((p) => p.name === o.name && p.layer === o.layer && p.phase === phase)),
      marker: { symbol: PHASE_SYMBOLS[phase] || "square", size: operators.map((o) => 7 + 34 * Math.sqrt(o.share || 0)), color: boundColour(bound), opacity: 0.72, line: { width: 1, color: css("card") } },
    };
  }
  note.textContent = roofNote(all, shown);
}

/** Prompts on another chip have other roofs than those drawn. */
const unlikePools = (detail) => (detail.pools || []).some((pool) => pool.hardware !== detail.hardware?.name);

function roofsOf(chip, operators) {
  const peaks = Object.entries(chip.peaks_tflops || {});
  const used = new Set(operators.map((operator) => operator.dtype));
  const named = peaks.filter(([name]) => used.has(name));
  const roofs = (named.length ? named : peaks).filter(([, peak]) => peak).map(([name, peak]) => ({ name, peak: peak * 1e12 }));
  if (chip.vector_tflops) roofs.push({ name: "vector", peak: chip.vector_tflops * 1e12, vector: true });
  return roofs.length ? roofs : [{ name: "peak unknown", peak: Math.max(1e12, ...operators.map((o) => o.flops / o.seconds)), vector: true }];
}

/** The names of what takes most of a phase, each below its mark, away from the roofs; where two would meet, the larger one's only. */
function operatorLabels(operators) {
  const placed = [];
  for (const operator of [...operators].sort((a, b) => b.share - a.share)) {
    const [x, y] = [Math.log10(operator.intensity), Math.log10(operator.flops / operator.seconds)];
    if (operator.share < 0.04 || placed.some((other) => Math.abs(other.x - x) < 0.7 && Math.abs(other.y - y) < 0.45)) continue;
    placed.push({ ...label(1, 1, plain(operator.name), "center", "top"), x, y, yshift: -7 - 17 * Math.sqrt(operator.share) });
  }
  return placed;
}

const line = (x, y, colour, dash) => ({ type: "scatter", mode: "lines", x, y, hoverinfo: "skip", showlegend: false, line: { color: colour, width: 2, dash } });
const label = (x, y, text, xanchor, yanchor) => ({ x: Math.log10(x), y: Math.log10(y), text, showarrow: false, xanchor, yanchor, font: { size: 11.5, color: css("quiet") } });

function roofNote(all, shown) {
  const size = "Area shows the share of its phase's time.";
  const rest = all.filter((operator) => !shown.includes(operator));
  if (!rest.length) return size;
  const share = (phase) => rest.filter((o) => o.phase === phase).reduce((sum, o) => sum + (o.share || 0), 0);
  const parts = [...new Set(rest.map((o) => o.phase))].map((phase) => `${percent(share(phase))} of ${phase}`);
  return `${size} Not drawn, for they do no arithmetic: ${[...new Set(rest.map((o) => o.name))].join(", ")} (${parts.join(", ")}).`;
}

function operatorTip(operator) {
  const kinds = Object.entries(operator.bytes || {}).filter(([, size]) => size > 0);
  return el("div", {}, el("b", {}, `${operator.name} · ${operator.phase}`), pairs([
    ["Bound", operator.bound], ["Share of phase", percent(operator.share)], ["Time, one layer", si(operator.seconds, "s")], ["Runs", number(operator.count)],
    ["FLOPs", si(operator.flops, "FLOP")], ["Reached", si(operator.flops / operator.seconds, "FLOP/s")], ["Intensity", `${number(operator.intensity)} FLOP/B`], ["Computes in", operator.dtype || MISSING],
    null, ...kinds.map(([kind, size]) => [kind.replaceAll("_", " "), si(size, "B")]),
  ]));
}
