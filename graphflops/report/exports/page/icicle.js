// The icicle: a module is as wide as its share of the FLOPs, and its children lie below it.
const LEVEL = 29, LEVELS = 12, NARROWEST = 0.0006;
const OPERATORS = [...model.sum.operators]
  .map(([operator, flops]) => [operator, flops.reduce((sum, number) => sum + number, 0n)])
  .sort((a, b) => (a[1] < b[1] ? 1 : -1)).map(([operator]) => operator);
const MAIN = OPERATORS.slice(0, 8);
const colourOf = operator => `var(--c${MAIN.includes(operator) ? MAIN.indexOf(operator) : 8})`;

function cells(zoomed, phase) {
  const placed = [];
  const whole = zoomed.flops(phase);
  const place = (row, left, level) => {
    const width = share(row.flops(phase), whole);
    placed.push({ row, left, width, level });
    if (level + 1 >= LEVELS) return;
    for (const child of row.children) {
      const wide = share(child.flops(phase), whole);
      if (wide >= NARROWEST) place(child, left, level + 1);
      left += wide;
    }
  };
  if (whole) place(zoomed, 0, 0);
  return placed;
}

function drawIcicle() {
  const icicle = document.getElementById("icicle");
  const hadFocus = icicle.contains(document.activeElement);
  const placed = cells(state.zoomed, state.phase);
  const old = new Map([...icicle.children].map(cell => [cell.dataset.path, cell]));
  const whole = model.flops(state.phase);
  const around = new Set(placed.map(({ row }) => row.parent));
  const shown = placed.map(({ row, left, width, level }) => {
    const isLeaf = !around.has(row);
    const selected = row === state.selected;
    const label = `${row.name}${row.cls ? ` ${row.cls}` : ""}${times(row.run)}: ${percent(row.flops(state.phase), whole)}, ${si(row.flops(state.phase))}${data.unit}s`;
    const cell = old.get(row.path) || element("div", { role: "treeitem", "data-path": row.path });
    const pixels = width * icicle.clientWidth;
    cell.className = `cell${isLeaf ? " leaf" : ""}${pixels < 14 ? " thin" : ""}`;
    if (state.operator && !row.sum.operators.has(state.operator)) cell.classList.add("faded");
    cell.title = label;
    cell.setAttribute("aria-label", label);
    cell.setAttribute("aria-level", row.depth + 1);
    cell.setAttribute("aria-selected", selected);
    if (row.children.length) cell.setAttribute("aria-expanded", !isLeaf);
    cell.tabIndex = selected ? 0 : -1;
    cell.style.cssText = `left:${100 * left}%;width:${100 * width}%;top:${level * LEVEL}px;--of:${colourOf(row.mainOperator)}`;
    cell.replaceChildren(...(pixels < 22 ? [] : [row.name, element("small", {}, `${row === model ? "" : row.cls}${times(row.run)}`)]));
    cell.onclick = () => zoom(row === state.zoomed ? row.parent || row : row, row);
    cell.row = row;
    return cell;
  });
  if (!placed.length) shown.push(element("p", { class: "hint" }, `${state.zoomed.name} has no work in this phase.`));
  else if (!shown.some(cell => cell.tabIndex === 0)) shown[0].tabIndex = 0;
  icicle.replaceChildren(...shown);
  icicle.style.height = `${(1 + Math.max(0, ...placed.map(cell => cell.level))) * LEVEL}px`;
  if (hadFocus) (shown.find(cell => cell.tabIndex === 0) || icicle).focus();
  drawCrumbs();
  drawLegend();
}

function drawCrumbs() {
  const rows = [...state.zoomed.ancestors, state.zoomed];
  const parts = rows.flatMap((row, i) => [
    ...(i ? ["›"] : []),
    element("button", { type: "button", "aria-current": row === state.zoomed && "true", onclick: () => zoom(row, row) }, row.name),
  ]);
  document.getElementById("crumbs").replaceChildren(...parts);
}

function drawLegend() {
  const count = state.zoomed.count, indices = data.queries[state.phase];
  const totals = [...state.zoomed.sum.operators].map(([operator, flops]) => [operator, indices.reduce((sum, i) => sum + flops[i], 0n) * count]);
  const whole = state.zoomed.flops(state.phase);
  const item = (operator, flops, choose) => element("li", {}, element("button",
    { type: "button", "aria-pressed": state.operator === operator, style: `--of:${colourOf(operator)}`, onclick: choose },
    element("i"), `${operator} `, element("small", {}, percent(flops, whole))));
  const main = MAIN.map(name => totals.find(([operator]) => operator === name)).filter(pair => pair && pair[1]);
  const rest = totals.filter(([operator]) => !MAIN.includes(operator)).reduce((sum, [, flops]) => sum + flops, 0n);
  const items = main.map(([operator, flops]) => item(operator, flops, () => {
    state.operator = state.operator === operator ? null : operator;
    drawIcicle();
  }));
  if (rest) items.push(item("other", rest, () => {}));
  document.getElementById("legend").replaceChildren(...items);
}

// Arrows go to the neighbour that is drawn: up to the parent, down to the first child, left and right on the same level.
function keyInIcicle(event) {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  const drawn = [...event.currentTarget.querySelectorAll(".cell")].map(other => other.row);
  const level = drawn.filter(row => row.depth === cell.row.depth);
  const at = level.indexOf(cell.row);
  const next = {
    ArrowUp: cell.row === state.zoomed ? null : cell.row.parent,
    ArrowDown: drawn.find(row => row.parent === cell.row),
    ArrowLeft: level[at - 1],
    ArrowRight: level[at + 1],
    Home: drawn[0],
    End: level[level.length - 1],
  };
  if (event.key in next) {
    if (next[event.key]) select(next[event.key]);
  } else if (event.key === "Enter" || event.key === " ") zoom(cell.row, cell.row);
  else return;
  event.preventDefault();
}
