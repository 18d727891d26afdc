// The layer graph: operators in execution order, coloured by what bounds them, with the residual paths.

const BOX = { width: 330, height: 42, gap: 16, lane: 34 };

/** Operators of one kernel launched together stand side by side; everything else follows one below the other. */
function rowsOf(operators) {
  const rows = [];
  for (const operator of operators) {
    const last = rows.at(-1);
    if (last && last[0].kernel === operator.kernel && last[0].name !== operator.name && last.length < 4) last.push(operator);
    else rows.push([operator]);
  }
  return rows;
}

/** A layer's operators in its order; its parts (`attention+mlp`) may each list theirs under their own name. */
function operatorsOf(layer, all) {
  const parts = [layer.name, ...layer.name.split("+")];
  const left = all.filter((operator) => parts.includes(operator.layer));
  return layer.operators.flatMap((name) => {
    const place = left.findIndex((operator) => operator.name === name);
    if (place < 0) return [];
    const [operator] = left.splice(place, 1);
    // A part shared with other layers (attention in dense and MoE layers) counts here for these layers only.
    const here = operator.count > layer.count ? layer.count / operator.count : 1;
    return [{ ...operator, count: operator.count * here, share: (operator.share || 0) * here }];
  });
}

const isResidual = (operator) => /residual|(^|_)add$/.test(`${operator.kernel} ${operator.name}`);

function drawLayers(node, detail, phase) {
  const all = detail.phases[phase]?.operators || [];
  const most = Math.max(1e-9, ...all.map((operator) => operator.share || 0));
  const layers = (detail.layers || []).map((layer) => ({ title: `${layer.name} × ${number(layer.count)} `, operators: operatorsOf(layer, all) }));
  const inside = new Set(layers.flatMap(({ operators }) => operators.map((operator) => `${operator.layer} ${operator.name}`)));
  layers.push({ title: "Before and after the layers ", operators: all.filter((operator) => !inside.has(`${operator.layer} ${operator.name}`)) });
  const graphs = layers.map(({ title, operators }) => {
    if (!operators.length) return null;
    const share = operators.reduce((sum, operator) => sum + (operator.share || 0), 0);
    return el("figure", {}, el("h3", {}, title, el("span", { class: "quiet" }, `${percent(share)} of ${phase}`)), layerGraph(operators, phase, most));
  });
  node.replaceChildren(...graphs.filter(Boolean));
}

function layerGraph(operators, phase, most) {
  const rows = rowsOf(operators);
  const step = BOX.height + BOX.gap;
  const height = rows.length * step + BOX.gap;
  const middle = BOX.lane + BOX.width / 2;
  const picture = svg("svg", { width: BOX.width + BOX.lane * 2, height, viewBox: `0 0 ${BOX.width + BOX.lane * 2} ${height}`, role: "img", "aria-label": `Layer graph, ${phase}` });
  let trunk = 0; // y where the residual stream was last whole
  rows.forEach((row, index) => {
    const y = BOX.gap + index * step;
    picture.append(arrow(`M${middle},${y - BOX.gap} V${y - 2}`));
    if (row.some(isResidual)) {
      const side = BOX.lane / 2 - 6;
      picture.append(arrow(`M${middle},${trunk + 5} H${side} V${y + BOX.height / 2} H${BOX.lane - 3}`, true));
      trunk = y + BOX.height;
    }
    const width = (BOX.width - 6 * (row.length - 1)) / row.length;
    row.forEach((operator, place) => picture.append(box(operator, phase, BOX.lane + place * (width + 6), y, width, most)));
  });
  picture.append(arrow(`M${middle},${height - BOX.gap} V${height - 3}`));
  return picture;
}

function arrow(path, residual = false) {
  const tip = path.match(/([MVH])([\d.]+),?([\d.]*)$/);
  const points = residual ? "h-6 m6 0 l-5,-3 m5,3 l-5,3" : "l-3,-5 m3,5 l3,-5";
  return svg("path", { d: `${path} ${tip ? points : ""}`, fill: "none", stroke: css("quiet"), "stroke-width": 1.3, "stroke-dasharray": null, opacity: 0.8 });
}

function box(operator, phase, x, y, width, most) {
  const colour = boundColour(operator.bound);
  const wide = width > 200;
  const sent = operator.bytes?.messages > 0 ? `${si(operator.bytes.messages, "B")} sent` : null;
  const work = [operator.flops > 0 ? si(operator.flops, "FLOP") : null, deviceBytes(operator) > 0 ? si(deviceBytes(operator), "B") : null, sent];
  const facts = [...(wide ? work : []), si(operator.seconds, "s")].filter(Boolean).join(" · ");
  const room = Math.floor((width - (wide ? 62 : 14)) / 6.6);
  const name = operator.name.length > room ? `${operator.name.slice(0, Math.max(3, room - 1))}…` : operator.name;
  return svg("g", { tabindex: 0, onmousemove: (event) => tell(event, operatorTip({ ...operator, phase })), onmouseleave: () => tell(null) },
    svg("title", {}, `${operator.name}: ${operator.bound}, ${percent(operator.share)}`),
    svg("rect", { x, y, width, height: BOX.height, rx: 6, fill: css("card"), stroke: colour, "stroke-width": 1.5 }),
    svg("rect", { x, y, width, height: BOX.height, rx: 6, fill: colour, opacity: 0.1 + 0.6 * ((operator.share || 0) / most) }),
    svg("text", { x: x + 9, y: y + 17, "font-weight": 600 }, name),
    svg("text", { x: x + 9, y: y + 33 }, facts),
    wide ? svg("text", { x: x + width - 9, y: y + 17, "text-anchor": "end" }, percent(operator.share)) : null);
}
