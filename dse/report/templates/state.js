// What the reader chose. It lives in the page's address, so that a view can be kept and shared.

const ALL = "*";
const groupLevels = (name) => [...new Set(rows.map((row) => value(row, name)))].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));

const DEFAULTS = {
  x: objectives[1]?.name || numeric.find(({ name }) => name !== objectives[0]?.name)?.name,
  y: objectives[0]?.name || numeric[1]?.name || numeric[0]?.name,
};
const state = { by: {}, brush: {}, filter: "", sort: objectives[0]?.name || null, descending: objectives[0]?.sense === "max", select: null, columns: null };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const known = (key, among) => (among.some(({ name }) => name === given.get(key)) ? given.get(key) : null);
  state.x = known("x", numeric) || DEFAULTS.x;
  state.y = known("y", numeric) || DEFAULTS.y;
  state.picked = known("color", [...columns.values()]);
  for (const side of ["x", "y"]) state[`${side}log`] = given.has(`${side}log`) ? given.get(`${side}log`) === "1" : Boolean(state[side]) && spansDecades(state[side]);
  if (given.has("sort")) [state.sort, state.descending] = [given.get("sort").replace(/:desc$/, ""), given.get("sort").endsWith(":desc")];
  state.filter = given.get("filter") || "";
  state.columns = given.has("columns") ? given.get("columns").split(",").filter((name) => columns.has(name)) : null;
  state.select = rows.find((row) => String(value(row, "number")) === given.get("select")) ?? null;
  const first = rows.length ? groupOf(rows.find(currentOf) ?? rows[0]) : [];
  groupBy.forEach((name, place) => {
    const asked = given.get(`by.${name}`);
    const known = asked === ALL || groupLevels(name).some((level) => String(level) === asked);
    state.by[name] = known ? asked : String(state.select === null ? first[place] : value(state.select, name));
  });
  state.brush = {};
  for (const [key, range] of given) {
    const ends = range.split(":").map(Number);
    if (key.startsWith("brush.") && columns.has(key.slice(6)) && ends.every(Number.isFinite) && ends.length === 2) state.brush[key.slice(6)] = ends;
  }
}

function writeAddress() {
  const words = new URLSearchParams();
  for (const name of groupBy) words.set(`by.${name}`, state.by[name]);
  for (const key of ["x", "y"]) if (state[key]) words.set(key, state[key]);
  if (state.picked) words.set("color", state.picked);
  words.set("xlog", Number(state.xlog));
  words.set("ylog", Number(state.ylog));
  if (state.sort) words.set("sort", `${state.sort}${state.descending ? ":desc" : ""}`);
  if (state.filter) words.set("filter", state.filter);
  if (state.columns) words.set("columns", state.columns.join(","));
  if (state.select !== null) words.set("select", value(state.select, "number"));
  for (const [name, range] of Object.entries(state.brush)) words.set(`brush.${name}`, range.join(":"));
  history.replaceState(null, "", `#${words}`);
}

const inGroup = (row) => groupBy.every((name) => state.by[name] === ALL || state.by[name] === String(value(row, name)));

/** A column's value as a number along its axis: text by the place of its level. */
function position(row, name) {
  const item = value(row, name);
  if (missing(item)) return null;
  return columns.get(name).numeric ? item : levelsOf(name).indexOf(item);
}

const inRanges = (row) => Object.entries(state.brush).every(([name, [low, high]]) => {
  const place = position(row, name);
  return place !== null && place >= low && place <= high;
});

const COMPARE = { "=": (a, b) => a === b, "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };

/** Words must occur somewhere in the row; `column<number` and `column=value` compare one column. */
function matcher(text) {
  const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const [, name, sign, right] = word.match(/^([\w.]+)(<=|>=|<|>|=)(.+)$/) || [];
    if (name && columns.has(name)) {
      const aim = Number(right);
      return (row) => {
        const item = value(row, name);
        if (missing(item)) return false;
        return typeof item === "number" ? COMPARE[sign](item, aim) : sign === "=" && String(item).toLowerCase().includes(right);
      };
    }
    return (row) => [...columns.values()].some((column) => !column.numeric && String(value(row, column.name) ?? "").toLowerCase().includes(word));
  });
  return (row) => tests.every((test) => test(row));
}

/** What to colour by unless the reader picked something: hardware, or the first choice that varies in the group. */
function colorFor(group) {
  const differs = ({ name }) => new Set(group.map((row) => value(row, name))).size > 1;
  const found = [columns.get("hardware"), columns.get("precision"), ...configuration].filter(Boolean).find(differs);
  return (found || configuration[0] || numeric[0])?.name;
}

/** The group's rows, and those of them that pass the ranges and the text filter. */
function visible() {
  const group = rows.filter(inGroup);
  const matches = matcher(state.filter);
  return { group, passing: group.filter((row) => inRanges(row) && matches(row)) };
}
