// The run's rows by column, and what is known about each column.

const manifest = data.manifest;
const columns = new Map(data.columns.map((column) => [column.name, column]));
const rows = Array.from({ length: data.rows }, (_, row) => row);
const value = (row, name) => {
  const column = columns.get(name);
  return !column ? undefined : "values" in column ? column.values[row] : column.constant;
};
const objectives = (manifest.objectives || []).filter(({ name }) => columns.has(name));
const groupBy = (manifest.group_by || []).filter((name) => columns.has(name));
const numeric = [...columns.values()].filter((column) => column.numeric && column.name !== "number");
const varies = (name) => "values" in (columns.get(name) || {});
const configuration = [...columns.values()].filter((column) => column.axis && column.name !== "number");

const show = (name, item) => (columns.get(name)?.axis || name === "number" ? exact(item) : number(item, name === "front_probability" ? 2 : undefined));
const withUnit = (name) => { const { label, unit } = columns.get(name); return unit ? `${label} (${unit})` : label; };
const withSense = (name) => `${withUnit(name)}${{ min: " · lower is better", max: " · higher is better" }[columns.get(name).sense] || ""}`;

/** A column that spans decades reads better on a logarithmic axis. */
function spansDecades(name) {
  const found = rows.map((row) => value(row, name)).filter((item) => !missing(item));
  const low = Math.min(...found);
  return found.length > 0 && low > 0 && Math.max(...found) / low > 30;
}

/** The levels of a column that is drawn by category, in order; null when it is a continuous number. */
const levelsOf = remember((name) => {
  const found = [...new Set(rows.map((row) => value(row, name)).filter((item) => !missing(item)))];
  if (columns.get(name).numeric) return found.length <= 10 && columns.get(name).axis ? found.sort((a, b) => a - b) : null;
  return found.sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));
});

function remember(compute) {
  const known = new Map();
  return (key) => { if (!known.has(key)) known.set(key, compute(key)); return known.get(key); };
}

/** Of these rows, those that no other beats on both columns; ascending in x. */
function frontOf(candidates, x, y) {
  const sign = (name) => (columns.get(name).sense === "max" ? -1 : 1);
  const [sx, sy] = [sign(x), sign(y)];
  const sorted = candidates.filter((row) => !missing(value(row, x)) && !missing(value(row, y)))
    .sort((a, b) => sx * (value(a, x) - value(b, x)) || sy * (value(a, y) - value(b, y)));
  let best = Infinity;
  const front = sorted.filter((row) => { const better = sy * value(row, y) < best; best = Math.min(best, sy * value(row, y)); return better; });
  return sx < 0 ? front.reverse() : front;
}

const groupOf = (row) => groupBy.map((name) => value(row, name));
const groupId = (keys) => JSON.stringify(keys);

/** Today's deployment, once per comparison group. */
const currents = data.current_rows || [];
const currentIn = new Map(currents.map((today) => [groupId(groupBy.map((name) => today[name])), today]));
const currentOf = (row) => currentIn.get(groupId(groupOf(row))) || null;

/** Where nine measurements in ten would lie, for a predicted value whose error has been measured; null otherwise. */
function bandOf(row, name) {
  const [item, error] = [value(row, name), value(row, data.bands[name]) / 100];
  if (missing(item) || !(error > 0)) return null;
  return [item / (1 + error), error < 1 ? item / (1 - error) : Infinity];
}

const bandText = (row, name) => {
  const band = bandOf(row, name);
  return band && `9 in 10: ${number(band[0], 2)}–${band[1] === Infinity ? "∞" : number(band[1], 2)}`;
};

/** The whole configuration and every measure of a row, as name-value pairs. */
function facts(row, today = null) {
  const measured = [...columns.values()].filter((column) => !column.axis && column.name !== "number" && !missing(value(row, column.name)) && !["status", "price_source", ...Object.values(data.bands)].includes(column.name));
  const aims = new Map([...objectives.map(({ name }) => name), "front_probability"].filter((name) => !missing(value(row, name))).map((name, place, all) => [name, place - all.length]));
  measured.sort((a, b) => (aims.get(a.name) ?? 0) - (aims.get(b.name) ?? 0));
  const named = ({ label, unit }) => el("span", {}, label, unit ? el("small", {}, ` ${unit}`) : null);
  const told = measured.map((column) => [named(column), measure(column, row, today?.[column.name]), aims.has(column.name) ? "strong" : null]);
  return [
    ...told.slice(0, aims.size), null,
    ...configuration.filter(({ name }) => !missing(value(row, name))).map(({ name, label }) => [label, show(name, value(row, name))]), null,
    ...told.slice(aims.size),
  ];
}

/** A value, the band its measured error gives it and, against today's deployment, how many times better or worse it is. */
function measure(column, row, today) {
  const item = value(row, column.name);
  const band = bandText(row, column.name);
  return el("span", {}, compared(column, item, today), band ? el("small", { class: "band" }, band) : null);
}

function compared(column, item, today) {
  const text = show(column.name, item);
  if (!column.sense || typeof today !== "number" || typeof item !== "number" || today <= 0 || item <= 0) return text;
  const ratio = item / today;
  const good = (ratio > 1) === (column.sense === "max");
  if (Math.abs(ratio - 1) < 0.005) return text;
  return el("span", {}, text, el("span", { class: good ? "better" : "worse" }, ` ×${number(ratio, 2)}`));
}
