"""The rows of a report for programs: one for each module, or one for each op, with exact integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

from graphflops.core.components import parents
from graphflops.core.entries import PHASES, Entry, Phase
from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value
from graphflops.report.data import ReportData

Cell: TypeAlias = str | int | None
"""a text, an exact number, or None for a number that is not known"""
By: TypeAlias = Literal["module", "op"]


class Rows(NamedTuple):
    """Named columns, and rows with a cell for each."""

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]

    def column(self, name: str) -> list[Cell]:
        """The cells of one column."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]


class ModuleFlops(NamedTuple):
    """The FLOPs of a module by phase, with its children's and its own, and the number of unsupported ops in it."""

    flops: Mapping[Phase, int]
    own: Mapping[Phase, int]
    unsupported: int


def rows(report: ReportData, by: By = "module") -> Rows:
    """The rows of a report.

    The row of a module has the numbers of its children in it, so that the row of the model, whose path is ``""``, is
    the total, and ``own`` without them, so that ``own`` sums to the total. The rows of ops sum to it in each column.

    Raises:
        UsageError: ``by`` is neither ``"module"`` nor ``"op"``.
    """
    if by not in get_args(By):
        raise UsageError(f"rows are by module or by op, not by {format_value(by)}: pass by='module' or by='op'")
    names, cells = (_MODULE_COLUMNS, _modules(report)) if by == "module" else (_OP_COLUMNS, _ops(report))
    ends: tuple[Cell, ...] = (report.convention.unit, report.convention.name)
    return Rows((*names, "unit", "convention"), [(*row, *ends) for row in cells])


def module_flops(report: ReportData) -> dict[str, ModuleFlops]:
    """Module path → its FLOPs, for all modules; a path comes after those around it, the model's own is first."""
    own: dict[str, Counter[Phase]] = {path: Counter() for path in ("", *report.modules)}
    for entry in report.entries:
        own.setdefault(entry.path, Counter()).update(flops_of(report, entry))
    unsupported = Counter(op.owner for op in report.unknown)
    for path in tuple(own.keys() | unsupported.keys()):
        for parent in parents(path):
            own.setdefault(parent, Counter())
    total = {path: Counter(flops) for path, flops in own.items()}
    total_unsupported = Counter(unsupported)
    for path, flops in own.items():
        for parent in parents(path):
            total[parent].update(flops)
            total_unsupported[parent] += unsupported[path]
    return {path: ModuleFlops(total[path], own[path], total_unsupported[path]) for path in total}


def flops_of(report: ReportData, entry: Entry) -> dict[Phase, int]:
    """Phase → FLOPs of an entry, under the convention of the report."""
    module = report.modules.get(entry.path, "")
    return {phase: report.convention.of(entry, (phase,), module) for phase in PHASES}


_MODULE_COLUMNS = ("path", "module", "depth", "parameters", "output", *PHASES, "total", "own", "unsupported")
_OP_COLUMNS = (
    *("op", "path", "module", "kind", "target", "part", "output", "dtype", "rate", "coverage"),
    *(*PHASES, "total", "rule", "line"),
)


def _modules(report: ReportData) -> Iterator[tuple[Cell, ...]]:
    parameters = report.parameters_by_module()
    for path, (flops, own, unsupported) in module_flops(report).items():
        depth = path.count(".") + 1 if path else 0
        numbers = [flops[phase] for phase in PHASES]
        name = report.modules.get(path, "")
        output = report.info.output_shapes.get(path, "")
        yield path, name, depth, parameters.get(path, 0), output, *numbers, sum(numbers), sum(own.values()), unsupported


def _ops(report: ReportData) -> Iterator[tuple[Cell, ...]]:
    unknown = {op.op: op for op in report.unknown}
    with_entries = set()
    for entry in report.entries:
        with_entries.add(entry.op)
        coverage = "unsupported" if entry.op in unknown else "counted" if entry.at("full").work else "free"
        flops = tuple(flops_of(report, entry).values())
        # of an op that has no rule, or a gradient of which has none, a 0 is a number that is not known
        numbers = (number or (None if coverage == "unsupported" else 0) for number in (*flops, sum(flops)))
        texts = (entry.op, entry.path, report.modules.get(entry.path, ""), entry.kind, entry.target, entry.part)
        output = ", ".join(str(list(shape)) for shape in entry.outputs)
        yield *texts, output, entry.dtype, entry.rate, coverage, *numbers, entry.rule, entry.line
    for name, op in unknown.items():
        if name not in with_entries:
            texts = (name, op.owner, report.modules.get(op.owner, ""), "call", op.target, "")
            nothing = (None,) * (len(PHASES) + 1)
            yield *texts, ", ".join(op.outputs), "", "", "unsupported", *nothing, "", op.line
