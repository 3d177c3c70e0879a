"""The difference of a report under two conventions, row by row, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphflops.core.characters import in_line, safe
from graphflops.core.entries import Entry, Phase
from graphflops.core.errors import UsageError
from graphflops.core.retired import renamed
from graphflops.report.conventions import Convention
from graphflops.report.conventions.closed_forms import Sizes
from graphflops.report.data import Query, ReportData, is_of_training, phases_of


@dataclass(frozen=True, slots=True)
class DiffRow:
    """The ops of one operator, in modules of one class, that the right convention counts for one reason."""

    operator: str
    module: str
    why: str
    ops: int
    left: int
    right: int

    @property
    def difference(self) -> int:
        """right − left"""
        return self.right - self.left

    ours, theirs = renamed("left"), renamed("right")


@dataclass(frozen=True, slots=True)
class ConventionDiff:
    """A number under two conventions, with rows that sum to both numbers."""

    model: str
    phase: Query
    left_convention: Convention
    right_convention: Convention
    rows: tuple[DiffRow, ...]
    """sorted by difference, the largest first; without ops that count 0 in both"""
    unsupported: int = 0
    """number of ops without a FLOP rule, which are in neither number"""

    @property
    def left(self) -> int:
        """The number under the report's convention."""
        return sum(row.left for row in self.rows)

    @property
    def right(self) -> int:
        """The number under the other convention."""
        return sum(row.right for row in self.rows)

    lines, ours, theirs = renamed("rows"), renamed("left"), renamed("right")

    def __str__(self) -> str:
        left, right = self.left_convention, self.right_convention
        total = DiffRow(
            "total", "", f"{left.unit} → {right.unit}", sum(row.ops for row in self.rows), self.left, self.right
        )
        cells: list[tuple[str, ...]] = [("", "ops", left.name, right.name, "difference", "why")]
        cells += [
            (
                in_line(f"{row.operator} in {row.module}" if row.module else row.operator),
                *(f"{number:,}" for number in (row.ops, row.left, row.right)),
                f"{row.difference:+,}",
                row.why,
            )
            for row in (*self.rows, total)
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = [
            "  ".join([name.ljust(widths[0]), *(text.rjust(widths[i]) for i, text in enumerate(numbers, 1)), reason])
            for name, *numbers, reason in cells
        ]
        notes = [f"{convention.name}: {convention.about}" for convention in (left, right)]
        if self.unsupported:
            verb = "s are" if self.unsupported > 1 else " is"
            notes.append(f"{self.unsupported} op{verb} unsupported, and in neither number")
        return safe(
            "\n".join([f"{self.model}, {self.phase}: from {left.name} to {right.name}", "", *table, "", *notes])
        )


def compare(report: ReportData, convention: Convention, phase: Query = "forward") -> ConventionDiff:
    """The difference between a report and the same report under another convention.

    Raises:
        UsageError: there is no such phase, the report lacks it, or the convention does not apply, see
            ``Report.with_convention``.
    """
    phases, right = phases_of(phase), report.with_convention(convention)
    if phase not in ("forward", "total") and is_of_training(report) is False:
        raise UsageError(f"this report of {report.model} is of a forward pass alone, and has no {phase}")
    has_terms = convention.formula != report.convention.formula
    rows = _rows_by_term(report, right, phases) if has_terms else _rows_by_op(report, convention, phases)
    return ConventionDiff(
        report.model,
        phase,
        report.convention,
        convention,
        tuple(sorted(rows, key=lambda row: -abs(row.difference))),
        report.coverage.unknown,
    )


def _rows_by_op(report: ReportData, convention: Convention, phases: Sequence[Phase]) -> list[DiffRow]:
    """Rows by operator, by class of the calling module, and by the reason of the right convention."""
    groups: dict[tuple[str, str, str], list[tuple[str, int, int]]] = {}
    for entry in report.entries:
        module = report.modules.get(entry.path, "")
        left, right = report.convention.of(entry, phases, module), convention.of(entry, phases, module)
        if left or right:
            is_counted = set(phases) & set(convention.phases)
            reason = convention.why_of(entry, module) if is_counted else "this phase is not counted"
            groups.setdefault((entry.operator, module, reason), []).append((entry.op, left, right))
    return [
        DiffRow(
            *group,
            ops=len({op for op, _, _ in members}),
            left=sum(left for _, left, _ in members),
            right=sum(right for _, _, right in members),
        )
        for group, members in groups.items()
    ]


def _rows_by_term(report: ReportData, right: ReportData, phases: Sequence[Phase]) -> list[DiffRow]:
    """Rows by the part of a model that both ops and the terms of a formula describe."""
    sizes = Sizes(report.entries, report.parameters)
    ops: dict[str, list[tuple[Entry, int]]] = {}
    terms: dict[str, list[tuple[Entry, int]]] = {}
    for entry in right.entries:
        if number := right.convention.of(entry, phases):
            terms.setdefault(entry.operator, []).append((entry, number))
    for entry in report.entries:
        if number := report.convention.of(entry, phases, report.modules.get(entry.path, "")):
            role = sizes.role(entry)
            if role == "logits" and role not in terms:  # a formula in parameters counts them among its matrices
                role = "linear"
            ops.setdefault(role, []).append((entry, number))
    return [
        DiffRow(
            role,
            "",
            " and ".join(dict.fromkeys(entry.part or entry.about for entry, _ in terms.get(role, ())))
            or "the formula has no term for it",
            ops=len({entry.op for entry, _ in ops.get(role, ())}),
            left=sum(number for _, number in ops.get(role, ())),
            right=sum(number for _, number in terms.get(role, ())),
        )
        for role in {**ops, **terms}
    ]
