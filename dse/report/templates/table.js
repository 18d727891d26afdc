// A table whose columns sort and whose rows can be chosen, by mouse and by keyboard.

const PAGE = 100;

/**
 * columns: [{key, label, unit, right, show(row), value(row)}]; options: {sort, descending, onsort, onselect,
 * selected(row), id(row), caption}. Without `onsort` the table sorts itself.
 */
function drawTable(node, columns, rows, options = {}) {
  const view = { sort: options.sort ?? null, descending: options.descending ?? false };

  function sorted() {
    const column = columns.find((candidate) => candidate.key === view.sort);
    if (!column) return rows;
    const sign = view.descending ? -1 : 1;
    return [...rows].sort((a, b) => compare(column.value(a), column.value(b), sign));
  }

  function resort(key) {
    const numeric = columns.find((column) => column.key === key)?.right;
    view.descending = view.sort === key ? !view.descending : Boolean(numeric && options.largestFirst);
    view.sort = key;
    if (options.onsort) options.onsort(view.sort, view.descending);
    else keepingFocus(node, render);
  }

  function render() {
    const count = node.dataset.whole ? Infinity : PAGE;
    const list = sorted();
    const head = el("tr", {}, columns.map((column) => el(
      "th",
      { class: column.right ? "right" : null, scope: "col", "aria-sort": column.key !== view.sort ? null : view.descending ? "descending" : "ascending" },
      el("button", { type: "button", "data-key": column.key, title: column.title || column.key, onclick: () => resort(column.key) },
        inTwoLines(column.label), column.key === view.sort ? (view.descending ? "\u00a0▼" : "\u00a0▲") : null),
      column.unit ? el("small", {}, column.unit) : null,
    )));
    const body = list.slice(0, count).map((row) => el(
      "tr",
      options.onselect ? { tabindex: 0, "data-key": `row ${options.id(row)}`, "aria-selected": String(options.selected(row)), onclick: () => options.onselect(row), onkeydown: (event) => rowKey(event, row) } : {},
      columns.map((column) => el("td", { class: [column.right ? "right" : "", column.wrap ? "wrap" : ""].join(" ").trim() || null }, column.show(row))),
    ));
    const more = list.length > count
      ? el("p", {}, el("button", { type: "button", onclick: () => { node.dataset.whole = "1"; render(); } }, `Show all ${list.length.toLocaleString("en-US")} rows`))
      : null;
    node.replaceChildren(el("table", {}, options.caption ? el("caption", {}, options.caption) : null, el("thead", {}, head), el("tbody", {}, body)), ...(more ? [more] : []));
  }

  function rowKey(event, row) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (step) event.currentTarget[step]?.focus();
    else if (event.key === "Enter" || event.key === " ") options.onselect(row);
    else return;
    event.preventDefault();
  }

  keepingFocus(node, render);
}

/**
 * A label that breaks in one place at most, where both lines are shortest: in a table wider than its page a column of
 * narrow figures would break it at every space, and the tall head would leave a gap above the columns in view.
 */
function inTwoLines(label) {
  const words = label.split(" ");
  const lines = words.map((_, at) => [words.slice(0, at), words.slice(at)].map((part) => part.join("\u00a0")));
  const longest = (pair) => Math.max(...pair.map((line) => line.length));
  const [first, second] = lines.reduce((best, pair) => (longest(pair) < longest(best) ? pair : best));
  return first ? `${first} ${second}` : second;
}

/** Missing values come last whichever way a column is sorted. */
function compare(a, b, sign) {
  if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}
