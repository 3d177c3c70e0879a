"""The rows of a report's table: modules as a tree, equal blocks in one row, and the rows that are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from graphflops.core.components import parents
from graphflops.core.entries import PHASES, Entry, Range
from graphflops.report.data import Query, ReportData, phases_of

MAX_DEPTH = 100
"""levels of the tree of modules; deeper work is in the row of its parent"""
MIN_SHARE = 0.001
"""rows with a smaller share of the FLOPs and of the parameters are summed in one row, unless another share is given"""
OPENED_SHARE = 0.02
"""modules with a smaller share of the FLOPs are not shown one level deeper than others"""
MIN_ROWS = 3
"""rows of each module that are shown, at least, so that the next level is"""
MAX_RANGES = 3
"""ranges of numbers in the name of equal blocks"""
_NUMBERED = re.compile(r"(.*?)(\d{1,15})?", re.DOTALL)


class Flops(NamedTuple):
    """FLOPs of each phase: expected, at full rate, at the lower and at the upper bound of the rates."""

    expected: tuple[int, ...]
    full: tuple[int, ...]
    lower: tuple[int, ...]
    upper: tuple[int, ...]

    def of(self, query: Query) -> int:
        """The expected FLOPs of some phases."""
        return sum(self.expected[PHASES.index(phase)] for phase in phases_of(query))

    def at(self, rate: Range) -> Flops:
        """The FLOPs at full rate, at the lower or at the upper bound."""
        numbers: tuple[int, ...] = getattr(self, rate)
        return Flops(numbers, numbers, numbers, numbers)

    def times(self, count: int) -> Flops:
        """The FLOPs of several equal blocks."""
        return Flops(*(tuple(count * number for number in numbers) for numbers in self))


_NONE = Flops(*(((0,) * len(PHASES),) * 4))


@dataclass(frozen=True)
class Row:
    """A row of the table: a module, equal blocks, or the work of one operator that a module calls itself."""

    name: str
    flops: Flops
    about: str = ""
    """class of the module"""
    count: int = 1
    """number of equal blocks, whose numbers are summed"""
    parameters: int = 0
    output: str = ""
    children: tuple[Row, ...] = ()
    is_module: bool = True

    @cached_property
    def detail(self) -> tuple[object, ...]:
        """A key of rows that differ in their names alone."""
        children = tuple((child.name, child.detail) for child in self.children)
        return self.about, self.flops, self.parameters, self.output, self.count, children

    @cached_property
    def height(self) -> int:
        """Levels of rows below this one."""
        return max((1 + child.height for child in self.children), default=0)

    def times(self, count: int) -> Row:
        """The row of several equal blocks."""
        children = tuple(child.times(count) for child in self.children)
        return replace(self, flops=self.flops.times(count), parameters=count * self.parameters, children=children)


class Line(NamedTuple):
    """A row and its depth in the printed tree."""

    depth: int
    row: Row


@dataclass(frozen=True)
class Selection:
    """The rows of a tree that are shown."""

    weight: Callable[[Row], int]
    """FLOPs of a row, by which rows are sorted and have a share"""
    with_parameters: bool = False
    """whether rows that have parameters and no FLOPs are shown"""
    depth: int = MAX_DEPTH
    top: int | None = None
    min_share: float = MIN_SHARE
    by_cost: bool = True
    opened: frozenset[int] = frozenset()
    """ids of rows at the greatest depth whose children are shown as well"""

    def lines(self, root: Row) -> list[Line]:
        """The rows that are shown. The rows of a module sum to it: those that are not shown share one."""
        return [*self._lines(root, 0, self.weight(root), root.parameters)]

    def _lines(self, row: Row, depth: int, total: int, parameters: int) -> Iterator[Line]:
        yield Line(depth, row)
        if depth >= self.depth and id(row) not in self.opened:
            return

        def share(row: Row) -> float:
            flops = self.weight(row) / total if total else 0
            of_parameters = row.parameters / parameters if parameters and self.with_parameters else 0
            return max(flops, of_parameters)

        rows = [child for child in row.children if share(child)]
        by_cost = sorted(rows, key=lambda row: (-self.weight(row), -row.parameters))
        large = [row for row in by_cost if share(row) >= self.min_share]
        if len(rows) - len(large) == 1 and self.min_share == MIN_SHARE:
            large = by_cost
        shown = large if self.top is None or len(large) <= self.top else large[: self.top]
        for child in shown if self.by_cost else [row for row in rows if row in shown]:
            yield from self._lines(child, depth + 1, total, parameters)
        if hidden := by_cost[len(shown) :]:
            yield Line(depth + 1, _rest(hidden, self.min_share if len(shown) == len(large) else None))


def fitting(selection: Selection, root: Row, most: int) -> Selection:
    """The selection at the greatest depth at which there are not more lines than fit.

    While lines are left, the most expensive modules are shown one level deeper. If few lines would be shown, or even
    the first level has too many, each module has only its largest rows.
    """

    def fits(candidate: Selection) -> bool:
        return len(candidate.lines(root)) <= most

    depth = 0
    while depth < root.height and fits(replace(selection, depth=depth + 1)):
        depth += 1
    chosen = replace(selection, depth=depth)
    if depth < root.height and len(chosen.lines(root)) <= most // 2:
        tops = range(most, MIN_ROWS - 1 if depth else 0, -1)
        largest = next(filter(fits, (replace(selection, depth=depth + 1, top=top) for top in tops)), None)
        if largest is not None:
            return largest
    large = OPENED_SHARE * selection.weight(root)
    lines = [line for line in chosen.lines(root) if line.depth == depth and selection.weight(line.row) >= large]
    for line in sorted(lines, key=lambda line: -selection.weight(line.row)):
        deeper = replace(chosen, opened=chosen.opened | {id(line.row)})
        chosen = deeper if fits(deeper) else chosen
    return chosen


def module_tree(report: ReportData) -> Row:
    """The tree of a report's modules. A child is a module, equal blocks, or an operator that its parent calls."""
    memo: dict[tuple[object, ...], Flops] = {}
    own: dict[str, dict[str, list[Flops]]] = {}
    calls: dict[str, set[str]] = {}
    for entry in report.entries:
        operator = entry.part or entry.operator
        own.setdefault(entry.path, {}).setdefault(operator, []).append(_flops_of(entry, report, memo))
        if entry.kind == "call":
            calls.setdefault(entry.path, set()).add(operator)
    paths = dict.fromkeys(inner for path in (*report.modules, *own) for inner in (*[*parents(path)][::-1], path))
    parameters = report.parameters_by_module()
    inner: dict[str, list[Row]] = {path: [] for path in paths}
    for path in sorted(paths, key=lambda path: (path.count("."), bool(path)), reverse=True):
        parent, _, name = path.rpartition(".")
        sums = {operator: sum_of(flops) for operator, flops in own.get(path, {}).items()}
        operators = [
            Row(f"· {operator}", flops, is_module=False) for operator, flops in sums.items() if any(map(any, flops))
        ]
        modules = equal_blocks(inner.pop(path))
        about = report.modules.get(path, "") if path else ""
        has_structure = modules or len(calls.get(path, ())) > 1
        row = Row(
            name=name if path else report.model,
            flops=sum_of(child.flops for child in (*modules, *operators)),
            about=f"{about} (routed)" if path in report.routed_modules else about,
            parameters=parameters.get(path, 0),
            output=report.info.output_shapes.get(path, ""),
            children=(*modules, *operators) if has_structure and path.count(".") < MAX_DEPTH else (),
        )
        if not path:
            return row
        inner[parent].append(row)
    raise AssertionError("the model itself has a path")


def flat_tree(report: ReportData, group: Callable[[Entry], str], parameters: Mapping[str, int]) -> Row:
    """The model with a row for each group of entries."""
    memo: dict[tuple[object, ...], Flops] = {}
    groups: dict[str, list[Flops]] = {name: [] for name in parameters}
    for entry in report.entries:
        groups.setdefault(group(entry), []).append(_flops_of(entry, report, memo))
    children = tuple(Row(name, sum_of(flops), parameters=parameters.get(name, 0)) for name, flops in groups.items())
    total, size = sum_of(child.flops for child in children), sum(report.parameters.values())
    return Row(report.model, total, parameters=size, output=report.info.output_shapes.get("", ""), children=children)


def equal_blocks(rows: Sequence[Row]) -> list[Row]:
    """The rows, with one for all that are equal but for the numbers at the ends of their names."""
    groups: dict[object, list[tuple[str, int, Row]]] = {}
    for row in rows:
        match = _NUMBERED.fullmatch(row.name)
        prefix, number = (match[1], match[2]) if match else (row.name, None)
        key = row.name if number is None else (prefix, row.detail)
        groups.setdefault(key, []).append((prefix, int(number or 0), row))
    return [_equal(group) if len(group) > 1 else group[0][2] for group in groups.values()]


def _equal(group: list[tuple[str, int, Row]]) -> Row:
    prefix, _, row = group[0]
    return replace(row.times(len(group)), name=prefix + ranges([number for _, number, _ in group]), count=len(group))


def ranges(numbers: list[int]) -> str:
    """Numbers as ranges.

    >>> ranges([0, 1, 2, 4, 6, 8, 9])
    '0–2, 4, …, 8–9'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    texts = ["–".join(map(str, numbers)) for numbers in runs]
    return ", ".join(texts if len(texts) <= MAX_RANGES else [*texts[: MAX_RANGES - 1], "…", texts[-1]])


def _rest(rows: Sequence[Row], share: float | None) -> Row:
    name = f"… {len(rows):,} {'more' if share is None else f'below {100 * share:g} %'}"
    return Row(name, sum_of(row.flops for row in rows), parameters=sum(row.parameters for row in rows), is_module=False)


def sum_of(flops: Iterable[Flops]) -> Flops:
    """The sum of FLOPs, phase by phase."""
    parts = [*flops]
    if len(parts) < 2:
        return parts[0] if parts else _NONE
    return Flops(*(tuple(map(sum, zip(*column, strict=True))) for column in zip(*parts, strict=True)))


def _flops_of(entry: Entry, report: ReportData, memo: dict[tuple[object, ...], Flops]) -> Flops:
    """The FLOPs of an entry; those of equal calls in equal blocks, which share their records, are computed once."""
    module = report.modules.get(entry.path, "")
    records = entry.work, entry.useful, entry.ranges, entry.operands, entry.outputs, entry.flags
    key = (*map(id, records), module, entry.kind, entry.target, entry.part, entry.op if entry.kind == "update" else "")
    if (flops := memo.get(key)) is None:

        def by_phase(entry: Entry) -> tuple[int, ...]:
            return tuple(report.convention.of(entry, (phase,), module) for phase in PHASES)

        expected = by_phase(entry)
        variants = [by_phase(entry.at(rate)) if entry.ranges else expected for rate in ("full", "lower", "upper")]
        flops = memo[key] = Flops(expected, *variants)
    return flops
