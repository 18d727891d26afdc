// The page of a run: what stands still is drawn once, the rest whenever the reader chooses something.

const count = (items) => Math.round(items).toLocaleString("en-US");

function drawHead() {
  const { points = 0, feasible = 0, seconds, points_per_s: rate, executor, version, hash, cost_model: model } = manifest;
  byId("about").textContent = [`dse ${version ?? ""}`, `cost model ${model ?? MISSING}`, `sweep ${hash ?? MISSING}`, executor && `executor ${executor}`,
    `objectives: ${objectives.map(({ name, sense }) => `${columns.get(name).label} ${sense}`).join(", ") || "none"}`, limitsText()].filter(Boolean).join(" · ");
  const tiles = [
    [number(points), "points scored"], [percent(points ? feasible / points : 0), `feasible: ${number(feasible)}`], [number(data.total), "on a frontier"],
    [number((manifest.groups || []).length || 1), "comparison groups"], [missing(seconds) ? MISSING : si(seconds, "s"), missing(rate) ? "to score" : `${si(rate, "points/s").replace(" k", "k ").replace(" M", "M ")}`],
  ];
  byId("tiles").replaceChildren(...tiles.map(([big, small]) => el("div", { class: "tile" }, el("b", {}, big), el("span", {}, small))));
  byId("evidence").replaceChildren(...data.trust.map((sentence) => el("p", {}, sentence)));
  byId("evidence").hidden = !data.trust.length;
  byId("sweep").textContent = JSON.stringify(manifest.sweep ?? {}, null, 2);
}

function limitsText() {
  const limits = Object.entries(manifest.constraints || {}).map(([name, ends]) => Object.entries(ends || {}).map(([end, limit]) => `${name} ${{ max: "≤", min: "≥" }[end] || end} ${exact(limit)}`).join(", "));
  return limits.length ? `within ${limits.join(", ")}` : "no constraints";
}

/** How many frontier points of the groups shown lead by more than the error of prediction. */
function drawLeads() {
  const told = (data.leads || []).filter(({ key }) => shownKeys(key));
  byId("leads").replaceChildren(...told.slice(0, 6).map(({ key, text }) => el("p", {}, told.length > 1 ? el("b", {}, `${key.join(", ")}. `) : null, text)));
}

/** Today's deployment in the groups shown, and what moving from it would gain. */
function drawToday() {
  const node = byId("today");
  const told = (data.today || []).filter(({ key }) => shownKeys(key));
  node.hidden = !told.length;
  node.replaceChildren(...told.slice(0, 6).flatMap(({ key, today, moves }) => [
    el("p", {}, told.length > 1 ? el("b", {}, `${key.join(", ")}. `) : null, today),
    ...moves.map(({ number: found, title, text }) => el("p", {}, el("b", {}, title), ": ",
      el("button", { type: "button", class: "link", onclick: () => select(rows.find((row) => value(row, "number") === found) ?? state.select) }, `point ${exact(found)}`), `, ${text}`)),
  ]));
}

function drawOverview() {
  const stated = manifest.groups || [];
  byId("overview-section").hidden = stated.length < 2 || !groupBy.length;
  const members = new Map(stated.map((group) => [groupId(groupBy.map((name) => group.key[name])), []]));
  for (const row of rows) members.get(groupId(groupOf(row)))?.push(row);
  const list = stated.map((group) => ({ ...group, rows: members.get(groupId(groupBy.map((name) => group.key[name]))) }));
  const best = (group, { name, sense }) => group.rows.reduce((won, row) => {
    const item = value(row, name);
    return missing(item) || (won !== null && (sense === "max" ? item <= value(won, name) : item >= value(won, name))) ? won : row;
  }, null);
  const by = (row) => `${exact(value(row, "devices"))} × ${["hardware", "precision"].filter((name) => !groupBy.includes(name)).map((name) => exact(value(row, name))).join(", ")}`;
  drawTable(byId("overview"), [
    ...groupBy.map((name) => ({ key: name, label: columns.get(name).label, value: (group) => group.key[name], show: (group) => exact(group.key[name]) })),
    { key: "front", label: "Frontier", unit: "points", right: true, value: (group) => group.front, show: (group) => number(group.front) },
    { key: "feasible", label: "Feasible", unit: "points", right: true, value: (group) => group.feasible, show: (group) => number(group.feasible) },
    ...objectives.map((objective) => ({
      key: objective.name, label: `Best ${columns.get(objective.name).label}`, unit: columns.get(objective.name).unit, right: true,
      value: (group) => value(best(group, objective) ?? -1, objective.name),
      show: (group) => { const row = best(group, objective); return row === null ? MISSING : el("span", {}, el("b", {}, show(objective.name, value(row, objective.name))), el("small", {}, ` ${by(row)}`)); },
    })),
  ], list, { onselect: chooseGroup, id: (group) => groupId(groupBy.map((name) => group.key[name])), selected: (group) => groupBy.every((name) => state.by[name] === String(group.key[name])) });
}

function chooseGroup(group) {
  for (const name of groupBy) state.by[name] = String(group.key[name]);
  Object.assign(state, { select: null, brush: {} });
  update();
}

function drawControls() {
  const choice = (label, options, chosen, choose) => el("label", {}, label, el("select", { "aria-label": label, "data-key": label, onchange: (event) => { choose(event.target.value); update(); } },
    options.map(([key, text]) => el("option", { value: key, selected: key === chosen }, text))));
  const groups = groupBy.map((name) => choice(columns.get(name).label, [[ALL, "all"], ...groupLevels(name).map((level) => [String(level), exact(level)])], state.by[name], (key) => { state.by[name] = key; state.select = null; }));
  const side = (key) => el("span", { class: "joined" },
    choice(key, numeric.map(({ name, label }) => [name, label]), state[key], (name) => { state[key] = name; state[`${key}log`] = spansDecades(name); }),
    el("label", {}, el("input", { type: "checkbox", "aria-label": `${key} logarithmic`, "data-key": `${key} log`, checked: state[`${key}log`], onchange: (event) => { state[`${key}log`] = event.target.checked; update(); } }), "log"));
  const colours = [...columns.values()].filter(({ name, axis: isAxis, numeric: isNumber }) => name !== "number" && varies(name) && (isAxis || isNumber || levelsOf(name).length <= 20));
  const colour = choice("colour", colours.map(({ name }) => [name, withUnit(name)]), state.color, (name) => { state.picked = name; });
  keepingFocus(byId("controls"), () => byId("controls").replaceChildren(...groups, side("x"), side("y"), colours.length ? colour : ""));
}

function drawChosen() {
  const row = state.select;
  const card = byId("chosen");
  const section = byId("point");
  if (row === null) { card.replaceChildren(el("p", { class: "quiet" }, "No point passes the filters.")); section.replaceChildren(); return; }
  const number_ = value(row, "number");
  const today = currentOf(row);
  card.replaceChildren(el("h3", {}, `Point ${exact(number_)}`, today ? el("span", { class: "quiet" }, " against today's deployment") : null), pairs(facts(row, today)));
  card.scrollTop = 0;
  const detail = detailOf(number_);
  const heading = el("h2", {}, `Point ${exact(number_)}: ${["model", "hardware", "precision", "workload"].map((name) => value(row, name)).filter((item) => !missing(item)).join(", ")}`);
  if (detail) return drawDetail(section, detail, heading);
  section.replaceChildren(heading, el("p", {}, "Operator detail travels with the best 200 points only. This one's: ", el("code", {}, `dse explain ${manifest.name ?? "RUN"}-${manifest.hash ?? ""} ${number_} --html point.html`)));
}

function drawReasons() {
  const reasons = Object.entries(manifest.statuses || {}).sort((a, b) => b[1] - a[1]);
  const total = reasons.reduce((sum, [, points]) => sum + points, 0) || 1;
  const miss = (reason) => manifest.nearest_misses?.[reason];
  drawTable(byId("reasons"), [
    { key: "reason", label: "Reason", value: ([reason]) => reason, show: ([reason]) => (reason === "ok" ? "ok (feasible)" : reason) },
    { key: "points", label: "Points", right: true, value: ([, points]) => points, show: ([, points]) => number(points) },
    { key: "share", label: "Share", right: true, value: ([, points]) => points, show: ([, points]) => percent(points / total) },
    { key: "bar", label: "", value: ([, points]) => points, show: ([reason, points]) => el("div", { class: "bar thin" }, segment(points / reasons[0][1], css(reason === "ok" ? "good" : "bad"), "", reason)) },
    { key: "miss", label: "Nearest miss", wrap: true, value: ([reason]) => miss(reason)?.reason, show: ([reason]) => { const found = miss(reason); return found ? el("span", {}, found.reason ?? "", data.misses[reason] ? el("small", {}, ` point ${exact(found.number)}: ${data.misses[reason]}`) : null) : MISSING; } },
  ], reasons);
}

function drawPrices() {
  const names = ["hardware", "price_usd_per_device_hour", "price_kind", "price_date", "price_source"].filter((name) => columns.has(name));
  const seen = new Map(rows.map((row) => [groupId(names.map((name) => value(row, name))), row]));
  const priced = [...seen.values()].filter((row) => !missing(value(row, "price_usd_per_device_hour")));
  if (!priced.length) return void byId("prices").replaceChildren(el("p", { class: "quiet" }, "No price was used: the hardware files have none of the kind asked for."));
  drawTable(byId("prices"), names.map((name) => ({ key: name, label: columns.get(name).label, unit: columns.get(name).unit, right: columns.get(name).numeric, wrap: name === "price_source", value: (row) => value(row, name), show: (row) => show(name, value(row, name)) })), priced, { sort: "hardware" });
}

function select(row) {
  state.select = row;
  update();
}

/** Choose a point where none is chosen: the best by the first objective, one with operator detail if there is. */
function settle({ passing }) {
  if (state.select !== null && inGroup(state.select)) return;
  const [first] = objectives;
  const ranked = first ? [...passing].sort((a, b) => compare(value(a, first.name), value(b, first.name), first.sense === "max" ? -1 : 1)) : passing;
  state.select = ranked.find((row) => byId(`detail-${value(row, "number")}`)) ?? ranked[0] ?? null;
}

function update() {
  const view = visible();
  state.color = state.picked || colorFor(view.group);
  settle(view);
  if (state.drawnGroup !== JSON.stringify(state.by)) drawOverview();
  state.drawnGroup = JSON.stringify(state.by);
  drawControls();
  drawScatter(view);
  drawLeads();
  drawToday();
  drawParallel(view);
  drawPoints(view);
  drawChooser();
  if (state.drawnPoint !== state.select) drawChosen();
  state.drawnPoint = state.select;
  writeAddress();
}

function drawAll() {
  document.body.classList.toggle("empty", !rows.length);
  byId("reasons-title").textContent = rows.length ? "Why the other points fell" : "No point is feasible: why they fell";
  state.drawnGroup = state.drawnPoint = undefined;
  drawHead();
  drawReasons();
  drawPrices();
  update();
}

let typing;
readAddress();
byId("filter").value = state.filter;
byId("filter").addEventListener("input", (event) => { state.filter = event.target.value; clearTimeout(typing); typing = setTimeout(update, 120); });
byId("download").addEventListener("click", downloadCsv);
byId("unbrush").addEventListener("click", () => { state.brush = {}; update(); });
byId("scatter").addEventListener("keydown", stepThrough);
addEventListener("hashchange", () => { readAddress(); byId("filter").value = state.filter; update(); });
addEventListener("resize", () => drawParallel(visible()));
dark.addEventListener("change", drawAll);
drawAll();
ready();
