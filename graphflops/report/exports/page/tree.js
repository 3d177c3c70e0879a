// The data of the page, and the sums over it. Numbers are BigInt: a FLOP count may exceed 2^53.
const data = JSON.parse(document.getElementById("data").textContent);
const zero = () => data.phases.map(() => 0n);
const add = (sum, numbers, times) => numbers.forEach((number, i) => { sum[i] += BigInt(number) * times; });
const text = index => data.texts[index || 0];
const labelOf = op => text(op.operator);

// Sums of each node, from the ops: flops by phase, at other rates ("lower", "upper", "full"), by operator; parameters.
// A node comes after its children.
const sums = [];
data.nodes.forEach(node => {
  const sum = { flops: zero(), params: BigInt(node.params), operators: new Map(), variants: {} };
  for (const name of data.variants) sum.variants[name] = zero();
  const addOperator = (operator, numbers, times) => {
    if (!sum.operators.has(operator)) sum.operators.set(operator, zero());
    add(sum.operators.get(operator), numbers, times);
  };
  for (const [index, times] of node.ops) {
    const op = data.ops[index], flops = op.flops || [];
    add(sum.flops, flops, BigInt(times));
    addOperator(labelOf(op), flops, BigInt(times));
    for (const name of data.variants) add(sum.variants[name], (op.variants || {})[name] || flops, BigInt(times));
  }
  for (const [, , count, index] of node.kids) {
    const kid = sums[index];
    add(sum.flops, kid.flops, BigInt(count));
    for (const name of data.variants) add(sum.variants[name], kid.variants[name], BigInt(count));
    kid.operators.forEach((numbers, operator) => addOperator(operator, numbers, BigInt(count)));
    sum.params += kid.params * BigInt(count);
  }
  sums.push(sum);
});

// A row of the tree: a module, a run of equal modules ("0–79"), or the calls of one operator in a module with others.
class Row {
  constructor(parent, name, path, node, run, operator) {
    Object.assign(this, { parent, name, path, node, run, operator });
    this.depth = parent ? parent.depth + 1 : 0;
    this.count = (parent ? parent.count : 1n) * BigInt(run); // how often it is there in the model
    const all = sums[node];
    this.sum = operator === null ? all : Row.ofOperator(node, operator);
    this.cls = operator === null ? text(data.nodes[node].cls) : "";
  }

  static ofOperator(node, operator) {
    const sum = { flops: zero(), params: 0n, operators: new Map(), variants: {} };
    for (const name of data.variants) sum.variants[name] = zero();
    for (const [index, times] of data.nodes[node].ops) {
      const op = data.ops[index], flops = op.flops || [];
      if (labelOf(op) !== operator) continue;
      add(sum.flops, flops, BigInt(times));
      for (const name of data.variants) add(sum.variants[name], (op.variants || {})[name] || flops, BigInt(times));
    }
    sum.operators.set(operator, sum.flops);
    return sum;
  }

  get children() {
    if (this.operator !== null) return [];
    if (!this._children) {
      const node = data.nodes[this.node];
      const inner = name => (this.path ? `${this.path}.${name}` : name);
      this._children = node.kids.map(([first, last, count, kid]) => {
        const name = count > 1 ? `${first}–${last}` : first;
        return new Row(this, name, inner(name), kid, count, null);
      });
      const operators = [...new Set(node.ops.map(([index]) => labelOf(data.ops[index])))];
      const calls = new Set(node.ops.filter(([index]) => data.ops[index].kind === "call").map(([index]) => labelOf(data.ops[index])));
      if (node.kids.length || calls.size > 1) {
        this._children.push(...operators.map(name => new Row(this, `· ${name}`, inner(`· ${name}`), this.node, 1, name)));
      }
    }
    return this._children;
  }

  get ops() {
    const own = data.nodes[this.node].ops.map(([index, times]) => [data.ops[index], times]);
    return this.operator === null ? own : own.filter(([op]) => labelOf(op) === this.operator);
  }

  // FLOPs in a phase, of all modules of the row; of another rate if a variant is named
  flops(phase, variant) {
    const numbers = variant ? this.sum.variants[variant] : this.sum.flops;
    return data.queries[phase].reduce((sum, i) => sum + numbers[i], 0n) * this.count;
  }

  get params() { return this.sum.params * this.count; }

  get hasWork() { return this.sum.flops.some(Boolean) || Object.values(this.sum.variants).some(flops => flops.some(Boolean)); }

  // the operator with the most FLOPs
  get mainOperator() {
    let best = "", most = -1n;
    this.sum.operators.forEach((numbers, operator) => {
      const total = numbers.reduce((sum, number) => sum + number, 0n);
      if (total > most) [best, most] = [operator, total];
    });
    return best;
  }

  get ancestors() { return this.parent ? [...this.parent.ancestors, this.parent] : []; }
}

const model = new Row(null, data.model, "", data.nodes.length - 1, 1, null);
