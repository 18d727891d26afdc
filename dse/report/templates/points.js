// The table of points: sorted, filtered, with the columns the reader wants, and as CSV.

/** What a reader has to know of every point, however constant it is. */
const ALWAYS = ["model", "hardware", "precision", "tp", "pp", "batch"];

/** Whether a column tells points apart; what prefill workers are is blank where there are none. */
const tells = (name) => varies(name) && (!name.startsWith("prefill_") || new Set(rows.map((row) => value(row, name)).filter((item) => !missing(item))).size > 1);

function defaultColumns() {
  const limits = Object.keys(manifest.constraints || {});
  const axes = configuration.map(({ name }) => name).filter((name) => ALWAYS.includes(name) || (tells(name) && !["input", "output"].includes(name)));
  const settled = groupBy.filter((name) => state.by[name] !== ALL);
  const workers = ["prefill_workers", "decode_workers"].filter((name) => varies(name));
  const names = ["number", ...axes.filter((name) => !settled.includes(name)), ...workers, ...objectives.map(({ name }) => name), "front_probability", ...limits, "ttft_ms", "tpot_ms", "memory_gb_per_device", "decode_bound", "evidence"];
  return [...new Set(names)].filter((name) => columns.has(name)).slice(0, 17);
}

const shownColumns = () => state.columns || defaultColumns();

function tableColumns() {
  return shownColumns().map((name) => {
    const { label, unit, numeric: right, meaning } = columns.get(name);
    return { key: name, label, unit, right, title: [withSense(name), meaning].filter(Boolean).join(": "), value: (row) => value(row, name), show: (row) => show(name, value(row, name)) };
  });
}

function drawPoints({ group, passing }) {
  drawTable(byId("table"), tableColumns(), passing, {
    sort: state.sort, descending: state.descending,
    onsort: (sort, descending) => { Object.assign(state, { sort, descending }); update(); },
    onselect: (row) => select(row), selected: (row) => row === state.select, id: (row) => value(row, "number"),
  });
  const same = configuration.filter(({ name }) => !varies(name) && !missing(value(0, name)) && rows.length).map(({ name, label }) => `${label} ${exact(value(0, name))}`);
  byId("table-note").textContent = `${passing.length.toLocaleString("en-US")} of ${group.length.toLocaleString("en-US")} points.${same.length ? ` The same for all: ${same.join(", ")}.` : ""}`;
}

function drawChooser() {
  const menu = byId("columns").querySelector("div");
  keepingFocus(menu, () => menu.replaceChildren(...[...columns.values()].map(({ name, label, unit }) => el("label", {},
    el("input", { type: "checkbox", "data-key": name, checked: shownColumns().includes(name), onchange: (event) => toggleColumn(name, event.target.checked) }),
    el("span", {}, label, unit ? el("small", { class: "quiet" }, ` ${unit}`) : null)))));
}

function toggleColumn(name, wanted) {
  const now = new Set(shownColumns());
  if (wanted) now.add(name); else now.delete(name);
  state.columns = [...columns.keys()].filter((known) => now.has(known));
  update();
}

/** What the table shows, in its order, with full digits. */
function csvText(list) {
  const names = shownColumns();
  const sign = state.descending ? -1 : 1;
  const sorted = columns.has(state.sort) ? [...list].sort((a, b) => compare(value(a, state.sort), value(b, state.sort), sign)) : list;
  const cell = (item) => (missing(item) ? "" : /[",\r\n]/.test(String(item)) ? `"${String(item).replaceAll('"', '""')}"` : String(item));
  return [names.map(cell), ...sorted.map((row) => names.map((name) => cell(value(row, name))))].map((cells) => cells.join(",")).join("\n") + "\n";
}

function downloadCsv() {
  const address = URL.createObjectURL(new Blob([csvText(visible().passing)], { type: "text/csv" }));
  el("a", { href: address, download: `${String(manifest.name || "frontier").replace(/[^\w.-]+/g, "-")}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
