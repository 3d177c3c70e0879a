// The table of modules: a tree whose rows fold, sorted among siblings.
// the shapes of an output without the dtypes, which the title has
const shapeOf = spec => spec.replace(/\w+(?=\[)/g, "");
const COLUMNS = [
  { name: "module", class: "", value: row => row.name },
  { name: "share", class: "share", value: row => row.flops(state.phase) },
  ...data.columns.map(phase => ({ name: phase, class: phase === data.columns[0] ? "" : "wide", value: row => row.flops(phase), show: value => si(value) })),
  { name: "params", class: "wide", value: row => row.params, show: value => si(value) },
  ...(data.hasOutputs ? [{ name: "output", class: "text wide", value: row => row.operator === null ? text(data.nodes[row.node].out) : "", show: shapeOf }] : []),
];
const SIZED = 26; // rows that are unfolded at first

function unfoldFirst() {
  const open = new Set(), queue = [model];
  let rows = 1;
  while (queue.length) {
    queue.sort((a, b) => (a.flops("total") < b.flops("total") ? 1 : -1));
    const row = queue.shift();
    const children = row.children.filter(isShown);
    if (!children.length) continue;
    if (rows + children.length > SIZED && row !== model) continue;
    open.add(row.path);
    rows += children.length;
    queue.push(...children);
  }
  return open;
}

function isShown(row) {
  return state.free || row.hasWork || (row.operator === null && row.params > 0n);
}

function ordered(rows) {
  if (!state.sort) return rows;
  const column = COLUMNS.find(column => column.name === state.sort.column);
  const compare = (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    return typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x < y ? -1 : x > y ? 1 : 0;
  };
  return [...rows].sort((a, b) => (state.sort.descending ? -compare(a, b) : compare(a, b)));
}

// Rows to show, from the top; a filter shows all rows that match, and those around them.
function visibleRows() {
  const wanted = state.filter.toLowerCase();
  const matches = row => `${row.path} ${row.cls}`.toLowerCase().includes(wanted);
  const walk = row => {
    const children = ordered(row.children.filter(isShown));
    if (!wanted) return [row, ...(state.open.has(row.path) ? children.flatMap(walk) : [])];
    const inner = children.flatMap(walk);
    return inner.length || matches(row) ? [row, ...inner] : [];
  };
  return walk(model);
}

function drawTable() {
  const table = document.getElementById("table");
  const hadFocus = table.tBodies[0].contains(document.activeElement);
  table.tHead.replaceChildren(element("tr", {}, ...COLUMNS.map(column => {
    const sorted = state.sort && state.sort.column === column.name;
    return element("th", { scope: "col", class: column.class, "aria-sort": sorted ? (state.sort.descending ? "descending" : "ascending") : "none" },
      element("button", { type: "button", onclick: () => sortBy(column) }, column.name === "share" && state.phase !== "total" ? `share of ${state.phase}` : column.name));
  })));
  const rows = visibleRows();
  const focused = rows.includes(state.selected) ? state.selected : model;
  table.tBodies[0].replaceChildren(...rows.map(row => tableRow(row, row === focused)));
  if (hadFocus) table.querySelector('tr[tabindex="0"]').focus();
}

function tableRow(row, isFocused) {
  const canOpen = row.children.some(isShown);
  const isOpen = canOpen && (state.open.has(row.path) || state.filter !== "");
  const whole = model.flops(state.phase), part = row.flops(state.phase);
  const twist = element("span", { class: "twist", "aria-hidden": "true", onclick: event => { event.stopPropagation(); fold(row, isOpen); } }, canOpen ? (isOpen ? "▾" : "▸") : "");
  const cells = COLUMNS.slice(2).map(column => {
    const value = column.value(row);
    const title = typeof value === "bigint" ? grouped(value) : value;
    return element("td", { class: column.class, title, "data-column": column.name, "data-value": String(value) }, value ? column.show(value) : "");
  });
  const line = element("tr", {
    "aria-level": row.depth + 1, "aria-expanded": canOpen ? String(isOpen) : null, "aria-selected": row === state.selected,
    tabindex: isFocused ? 0 : -1, "data-path": row.path, onclick: () => select(row), ondblclick: () => fold(row, isOpen),
  },
  element("td", { class: row.operator === null ? null : "own", style: `padding-left:${6 + 16 * row.depth}px`, title: `${row.path || row.name} ${row.cls}` },
    twist, row.name, " ", element("small", {}, row === model ? "" : `${row.cls}${times(row.run)}`)),
  element("td", { class: "share" }, percent(part, whole), element("span", {}, element("i", { style: `width:${100 * share(part, whole)}%` }))),
  ...cells);
  line.row = row;
  return line;
}

// Descending first (names ascending), then the other way round, then the model's own order.
function sortBy(column) {
  const first = column.name !== "module" && !column.class.includes("text");
  if (!state.sort || state.sort.column !== column.name) state.sort = { column: column.name, descending: first };
  else state.sort = state.sort.descending === first ? { column: column.name, descending: !first } : null;
  drawTable();
}

function fold(row, isOpen) {
  if (isOpen) state.open.delete(row.path);
  else state.open.add(row.path);
  drawTable();
}

function keyInTable(event) {
  const line = event.target.closest("tbody tr");
  if (!line) return;
  const row = line.row, isOpen = line.getAttribute("aria-expanded") === "true", canOpen = line.hasAttribute("aria-expanded");
  const go = other => other && select(other.row);
  if (event.key === "ArrowDown") go(line.nextElementSibling);
  else if (event.key === "ArrowUp") go(line.previousElementSibling);
  else if (event.key === "ArrowRight") { if (canOpen && !isOpen) fold(row, false); else if (canOpen) go(line.nextElementSibling); }
  else if (event.key === "ArrowLeft") { if (isOpen && !state.filter) fold(row, true); else if (row.parent) select(row.parent); }
  else if (event.key === "Home") go(line.parentElement.firstElementChild);
  else if (event.key === "End") go(line.parentElement.lastElementChild);
  else if (event.key === "Enter" || event.key === " ") zoom(row, row);
  else return;
  event.preventDefault();
}
