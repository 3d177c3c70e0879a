"""The tree of modules of a report as plain data for the HTML page: equal subtrees are stored once.

A deep model repeats its blocks, so the data of a model with 126 equal layers is hardly larger than that of one layer.
All numbers are sums over the ops: the page adds them up, and no sum is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from graphflops.core.characters import in_line
from graphflops.core.components import nearest, parents
from graphflops.core.entries import PHASES, Entry, Formula, Range
from graphflops.report.conventions import DEFAULT_WHY
from graphflops.report.data import ReportData

MAX_EXACT = 2**53
"""integers above are written as text, since JavaScript reads the others as floating-point numbers"""


@dataclass
class ModuleTree:
    """Nodes and ops, each once; a node refers to its ops and children by index, and ops to their texts."""

    texts: list[str] = field(default_factory=list)
    ops: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    """a node comes after its children; the last is the model itself"""


def module_tree(report: ReportData) -> ModuleTree:
    """The tree of all modules of a report with their ops."""
    paths = _paths(report)
    own_parameters = dict.fromkeys(paths, 0)
    for name, size in report.parameters.items():
        own_parameters[nearest(name, paths)] += size
    builder = _Builder(report)
    calls: dict[str, list[Entry]] = {path: [] for path in paths}
    for entry in report.entries:
        calls[entry.path].append(entry)
    children: dict[str, list[str]] = {path: [] for path in paths}
    for path in paths:
        if path:
            children[next(parents(path))].append(path)
    index: dict[str, int] = {}
    for path in sorted(paths, key=lambda path: path.count(".") + bool(path), reverse=True):  # children first
        kids = [(child.rpartition(".")[2], index[child]) for child in children[path]]
        index[path] = builder.node(path, own_parameters[path], calls[path], kids)
    return builder.tree


def _paths(report: ReportData) -> Mapping[str, None]:
    """All module paths, and those of parts of ops, each after the one around it."""
    paths: dict[str, None] = {"": None}
    for path in (*report.modules, *(entry.path for entry in report.entries)):
        for around in reversed((path, *parents(path))) if path not in paths else ():
            paths[around] = None
    return paths


class _Builder:
    """Collects nodes, ops and texts, and returns the index of an equal one where there is one."""

    def __init__(self, report: ReportData) -> None:
        self.tree = ModuleTree()
        self.report = report
        self._indices: dict[Any, int] = {}
        self._texts: dict[str, int] = {}
        self._text("")  # index 0: fields with it are left out

    def node(self, path: str, parameters: int, entries: Iterable[Entry], children: list[tuple[str, int]]) -> int:
        """The index of a module's node."""
        cls = self.report.modules.get(path, "")
        counts: dict[int, int] = {}
        free = 0
        for entry in entries:
            numbers = self._numbers(entry, cls)
            if any(numbers) or any(map(any, self._variants(entry, cls).values())):
                op = self._op(entry, cls, numbers)
                counts[op] = counts.get(op, 0) + 1
            else:
                free += entry.kind == "call"
        node = {
            "cls": self._text(cls),
            "out": self._text(self.report.info.output_shapes.get(path, "")),
            "params": exact(parameters),
            "free": free,
            "called": path in self.report.info.called,
            "routed": path in self.report.routed_modules,
            "ops": [list(pair) for pair in counts.items()],
            "kids": [list(run) for run in _runs(children)],
        }
        return self._add(self.tree.nodes, node)

    def _op(self, entry: Entry, cls: str, numbers: list[int]) -> int:
        convention, formula = self.report.convention, entry.formula
        why = convention.why_of(entry, cls) if entry.kind == "call" else DEFAULT_WHY
        variants = self._variants(entry, cls)
        op = {
            "kind": entry.kind,
            "operator": self._text(entry.part or entry.operator),
            "target": self._text(entry.target),
            "about": self._text(" ".join(entry.about.split())),
            "rule": self._text(entry.rule),
            "line": self._text(entry.line),
            "why": self._text("" if why == DEFAULT_WHY else why),
            "rate": entry.rate,
            "formula": self._formula(formula, is_fan_in=entry.kind == "fan-in"),
            "parts": [[name, self._formula(part)] for name, part in formula.parts.items()],
            "flops": exact_list(numbers),
            "variants": {name: exact_list(flops) for name, flops in variants.items()},
            "work": {
                phase: {name: exact(int(count)) for name, count in work.items()} for phase, work in entry.work.items()
            },
        }
        return self._add(self.tree.ops, {key: value for key, value in op.items() if value})

    def _variants(self, entry: Entry, cls: str) -> dict[Range, list[int]]:
        return {name: self._numbers(entry.at(name), cls) for name in entry.ranges}

    def _numbers(self, entry: Entry, cls: str) -> list[int]:
        return [self.report.convention.of(entry, (phase,), cls) for phase in PHASES]

    def _formula(self, formula: Formula, is_fan_in: bool = False) -> list[Any]:
        """Names and texts of the formulas that are not 0, and the sizes of their symbols as text."""
        named = [("forward", formula.forward)]
        # the name in a fan-in differs from block to block
        named += [("gradients" if is_fan_in else f"gradient of {name}", text) for name, text in formula.grads.items()]
        named += [("span", formula.span), ("span backward", formula.backward_span)]
        lines = [[self._text(name), self._text(text)] for name, text in named if text not in ("", "0")]
        sizes = ", ".join(f"{name} = {size:,}" for name, size in formula.sizes.items())
        return [lines, self._text(sizes)] if lines else []

    def _text(self, text: str) -> int:
        if text not in self._texts:
            self._texts[text] = self._add(self.tree.texts, in_line(text))
        return self._texts[text]

    def _add(self, items: list[Any], item: Any) -> int:
        key = (id(items), repr(item))
        if key not in self._indices:
            self._indices[key] = len(items)
            items.append(item)
        return self._indices[key]


def _runs(children: list[tuple[str, int]]) -> Iterable[tuple[str, str, int, int]]:
    """First name, last name, number and node of equal children with consecutive numbers as names, or of one child."""
    run: list[str] = []
    for (name, node), (following, next_node) in zip_longest(children, children[1:], fillvalue=("", -1)):
        run.append(name)
        if node == next_node and name.isdecimal() and following.isdecimal() and int(following) == int(name) + 1:
            continue
        yield in_line(run[0]), in_line(run[-1]), len(run), node
        run = []


def exact(number: int) -> int | str:
    """An integer that JavaScript reads exactly, as text where it has to be."""
    return number if abs(number) < MAX_EXACT else str(number)


def exact_list(numbers: list[int]) -> list[int | str]:
    """``exact`` of each number, without zeros at the end."""
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    return [exact(number) for number in numbers]
