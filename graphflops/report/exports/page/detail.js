// The selected module: its numbers, and for each of its ops the formula, the sizes, the rule and the line.
const KINDS = ["call", "fan-in", "update"];

function drawDetail() {
  const row = state.selected, node = data.nodes[row.node], module = row.operator === null;
  const path = module ? row.path || "the model itself" : `${row.operator} in ${row.parent.path || "the model itself"}`;
  const facts = module ? [text(node.cls), row.params && `${grouped(row.params)} parameters`, text(node.out)] : [];
  if (row.count > 1n) facts.push(`×${grouped(row.count)} in the model`);
  if (module && !node.called && !node.ops.length) facts.push("not called itself");
  if (module && node.routed) facts.push("routed: data decides on which rows");
  const parts = [
    element("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => document.getElementById("detail").classList.add("closed") }, "×"),
    element("h3", {}, path),
    element("p", { class: "where" }, facts.filter(Boolean).join(" · ")),
    numbersOf(row),
  ];
  const ops = [...row.ops].sort(([a], [b]) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind));
  const isLong = row.children.length && module;
  if (isLong) parts.push(operatorsOf(row));
  for (const [op, count] of isLong ? ops.filter(([op]) => op.kind === "call").slice(0, 12) : ops) parts.push(opDetail(op, count));
  if (module && node.free) parts.push(element("p", { class: "op where" }, `${grouped(node.free)} more call${node.free > 1 ? "s" : ""} without FLOPs: views, copies, casts and the like`));
  document.getElementById("detail").replaceChildren(...parts.filter(Boolean));
}

function numbersOf(row) {
  const several = row.count > 1n;
  const heads = ["", `${data.unit}s`, "share"];
  const whole = model.flops("total");
  const lines = data.details.filter(phase => row.flops(phase)).map(phase => element("tr", {},
    element("td", {}, phaseName(phase)), element("td", { "data-phase": phase }, grouped(row.flops(phase)),
      several ? element("small", {}, `each ${grouped(row.flops(phase) / row.count)}`) : ""), element("td", {}, percent(row.flops(phase), whole))));
  for (const [name, label] of [["lower", "total, lower bound"], ["upper", "total, upper bound"], ["full", "total at full rate"]]) {
    if (!data.variants.includes(name) || row.flops("total", name) === row.flops("total")) continue;
    lines.push(element("tr", {}, element("td", {}, label), element("td", {}, grouped(row.flops("total", name)))));
  }
  if (!lines.length) return element("p", {}, "No FLOPs.");
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads.map(name => element("th", {}, name)))), element("tbody", {}, ...lines));
}

function operatorsOf(row) {
  const indices = data.queries[state.phase];
  const totals = [...row.sum.operators].map(([name, flops]) => [name, indices.reduce((sum, i) => sum + flops[i], 0n) * row.count])
    .filter(([, flops]) => flops).sort((a, b) => (a[1] < b[1] ? 1 : -1));
  const most = totals.slice(0, 8);
  if (totals.length > 8) most.push([`${totals.length - 8} others`, totals.slice(8).reduce((sum, [, flops]) => sum + flops, 0n)]);
  const whole = row.flops(state.phase);
  return element("div", { class: "op" }, element("strong", {}, `By operator${state.phase === "total" ? "" : `, ${state.phase}`}`),
    element("table", {}, element("tbody", {}, ...most.map(([name, flops]) => element("tr", {},
      element("td", {}, name), element("td", {}, si(flops)), element("td", {}, percent(flops, whole)))))));
}

function opDetail(op, count) {
  const [lines, sizes] = op.formula || [[], 0];
  const formulas = [[lines, sizes], ...(op.parts || []).flatMap(([, formula]) => (formula.length ? [formula] : []))];
  const numbers = Object.entries(op.work || {}).map(([phase, work]) => {
    const flops = (op.flops || [])[data.phases.indexOf(phase)] || 0;
    const classes = Object.entries(work).map(([name, number]) => `${name} ${grouped(BigInt(number))}`).join(", ");
    return element("span", { class: "code" }, `${phase} = ${grouped(BigInt(flops))} ${data.unit}s (${classes})`);
  });
  const where = (name, value) => value && element("p", { class: "where" }, `${name}: ${value}`);
  return element("div", { class: "op" },
    ...[
      element("strong", {}, `${text(op.target)}${times(count)}`),
      element("p", {}, text(op.about)),
      ...formulas.flatMap(([lines, sizes]) => [
        ...lines.map(([name, formula]) => element("p", {}, element("span", { class: "where" }, text(name)), element("span", { class: "code" }, text(formula)))),
        sizes ? element("span", { class: "code sizes" }, `with ${text(sizes)}`) : "",
      ]),
      ...numbers,
      where("counted so", text(op.why)),
      where("rate", op.rate && `${op.rate} of the formula`),
      where("rule", text(op.rule)),
      where("line", text(op.line)),
    ].filter(Boolean));
}
