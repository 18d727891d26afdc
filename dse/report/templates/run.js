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
const current = manifest.current || null;

const show = (name, item) => (columns.get(name)?.axis || name === "number" ? exact(item) : number(item));
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
const currentGroup = current && groupId(groupBy.map((name) => current[name]));

/** The whole configuration and every measure of a row, as name-value pairs. */
function facts(row, against = null) {
  const measured = [...columns.values()].filter((column) => !column.axis && column.name !== "number" && !missing(value(row, column.name)) && column.name !== "status" && column.name !== "price_source");
  const aims = new Set(objectives.map(({ name }) => name));
  measured.sort((a, b) => aims.has(b.name) - aims.has(a.name));
  const named = ({ label, unit }) => el("span", {}, label, unit ? el("small", {}, ` ${unit}`) : null);
  const told = measured.map((column) => [named(column), measure(column, value(row, column.name), against?.[column.name]), aims.has(column.name) ? "strong" : null]);
  return [
    ...told.slice(0, aims.size), null,
    ...configuration.filter(({ name }) => !missing(value(row, name))).map(({ name, label }) => [label, show(name, value(row, name))]), null,
    ...told.slice(aims.size),
  ];
}

/** A value and, against today's deployment, how many times better or worse it is. */
function measure(column, item, today) {
  const text = show(column.name, item);
  if (!column.sense || typeof today !== "number" || typeof item !== "number" || today <= 0 || item <= 0) return text;
  const ratio = item / today;
  const good = (ratio > 1) === (column.sense === "max");
  if (Math.abs(ratio - 1) < 0.005) return text;
  return el("span", {}, text, el("span", { class: good ? "better" : "worse" }, ` ×${number(ratio, 2)}`));
}
