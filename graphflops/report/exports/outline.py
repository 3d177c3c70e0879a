"""The rows of a report for pictures: modules, runs of equal blocks, and the operators of a module with children.

They are the rows that the script of the HTML page makes in a browser (``page/tree.js``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphflops.core.characters import in_line
from graphflops.core.entries import PHASES
from graphflops.report.data import Query, ReportData, phases_of
from graphflops.report.exports.module_tree import ModuleTree, module_tree

MAX_DEPTH = 32
"""levels of rows; deeper work is in the row of its parent"""


@dataclass(frozen=True)
class OutlineRow:
    """A row with the numbers of all modules that it stands for, in one phase."""

    name: str
    cls: str
    count: int
    """number of equal modules in the run: ``0–79`` are 80"""
    flops: int
    params: int
    operator: str
    """the operator with the most FLOPs"""
    children: Sequence[OutlineRow] = ()

    @property
    def title(self) -> str:
        """Name, class and number: ``0–79 Block ×80``."""
        return " ".join(filter(None, (self.name, self.cls, f"×{self.count}" if self.count > 1 else "")))


def outline(report: ReportData, phase: Query = "total") -> OutlineRow:
    """The row of the model, with all rows below it in the order of the model; those without FLOPs are left out.

    Raises:
        UsageError: there is no such phase.
    """
    tree = module_tree(report)
    phases = [PHASES.index(name) for name in phases_of(phase)]
    operators: list[Counter[str]] = []  # of each node; a node comes after its children
    params: list[int] = []
    for node in tree.nodes:
        total = _own(tree, node, phases)
        for _, _, count, kid in node["kids"]:
            for operator, flops in operators[kid].items():
                total[operator] += count * flops
        operators.append(total)
        params.append(int(node["params"]) + sum(count * params[kid] for _, _, count, kid in node["kids"]))

    def row(name: str, index: int, count: int, times: int, depth: int) -> OutlineRow:
        node, flops = tree.nodes[index], operators[index]
        times *= count
        children = [
            row(first if number == 1 else f"{first}–{last}", kid, number, times, depth + 1)
            for first, last, number, kid in node["kids"]
            if operators[kid].total() and depth < MAX_DEPTH
        ]
        own = _own(tree, node, phases)
        calls = {tree.texts[tree.ops[op]["operator"]] for op, _ in node["ops"] if tree.ops[op]["kind"] == "call"}
        if node["kids"] or len(calls) > 1:
            children += [
                OutlineRow(f"· {operator}", "", 1, times * number, 0, operator)
                for operator, number in own.items()
                if number
            ]
        main = max(flops, key=flops.__getitem__, default="")
        cls = tree.texts[node["cls"]]
        return OutlineRow(name, cls, count, times * flops.total(), times * params[index], main, children)

    return row(in_line(report.model), len(tree.nodes) - 1, 1, 1, 0)


def _own(tree: ModuleTree, node: dict[str, Any], phases: Sequence[int]) -> Counter[str]:
    """Operator → FLOPs that a module does itself."""
    total: Counter[str] = Counter()
    for index, times in node["ops"]:
        flops = tree.ops[index].get("flops", [])
        total[tree.texts[tree.ops[index]["operator"]]] += times * sum(
            int(flops[phase]) for phase in phases if phase < len(flops)
        )
    return total
