"""Why two counters disagree: from our number to theirs, line by line, adding up exactly. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphflops.core.characters import in_line, safe
from graphflops.core.entries import Entry, Phase
from graphflops.core.errors import UsageError
from graphflops.report.conventions import Convention
from graphflops.report.conventions.closed_forms import Sizes
from graphflops.report.data import Query, ReportData, is_of_training, phases_of


@dataclass(frozen=True, slots=True)
class Line:
    """One reason for a difference: Ops of one operator, in modules of one class, that the other counts in one way."""

    operator: str
    module: str
    why: str
    ops: int
    ours: int
    theirs: int

    @property
    def difference(self) -> int:
        """What is to be added to our number for theirs."""
        return self.theirs - self.ours


@dataclass(frozen=True, slots=True)
class Comparison:
    """A number under two conventions, and the lines between: ``ours`` + the sum of their differences is ``theirs``."""

    model: str
    phase: Query
    mine: Convention
    other: Convention
    lines: tuple[Line, ...]
    """the largest difference first; what counts nothing under both is left out"""
    unknown: int = 0
    """how many Ops no rule speaks for, which are in neither number"""

    @property
    def ours(self) -> int:
        """The number under the report's convention."""
        return sum(each.ours for each in self.lines)

    @property
    def theirs(self) -> int:
        """The number under the other."""
        return sum(each.theirs for each in self.lines)

    def __str__(self) -> str:
        heading = f"{self.model}, {self.phase}: from {self.mine.name} to {self.other.name}"
        columns = [("", "ops", self.mine.name, self.other.name, "difference")]
        columns += [
            (
                in_line(f"{each.operator} in {each.module}" if each.module else each.operator),
                f"{each.ops:,}",
                f"{each.ours:,}",
                f"{each.theirs:,}",
                f"{each.difference:+,}",
            )
            for each in self.lines
        ]
        columns.append(
            (
                "in all",
                f"{sum(each.ops for each in self.lines):,}",
                f"{self.ours:,}",
                f"{self.theirs:,}",
                f"{self.theirs - self.ours:+,}",
            )
        )
        widths = [max(len(row[i]) for row in columns) for i in range(5)]
        reasons = ["why", *(each.why for each in self.lines), f"{self.mine.unit} → {self.other.unit}"]
        rows = [
            "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 5)), reason])
            for row, reason in zip(columns, reasons, strict=True)
        ]
        about = [f"{self.mine.name}: {self.mine.about}", f"{self.other.name}: {self.other.about}"]
        if self.unknown:
            about.append(f"{self.unknown} op{'s are' if self.unknown > 1 else ' is'} unknown, and in neither number")
        return safe("\n".join([heading, "", *rows, "", *about]))


def compare(report: ReportData, other: Convention, phase: Query = "forward") -> Comparison:
    """The lines from a report's number to that of another convention.

    Raises:
        UsageError: there is no such phase, or the report does not have it, or cannot be counted so, see
            ``Report.under``.
    """
    phases, theirs = phases_of(phase), report.under(other)
    if phase not in ("forward", "total") and is_of_training(report) is False:
        raise UsageError(f"this report of {report.model} is of a forward pass alone, and has no {phase}")
    by_terms = other.formula != report.convention.formula
    lines = _lines_to_terms(report, theirs, phases) if by_terms else _lines_by_op(report, other, phases)
    return Comparison(
        report.model,
        phase,
        report.convention,
        other,
        tuple(sorted(lines, key=lambda each: -abs(each.difference))),
        report.coverage.unknown,
    )


def _lines_by_op(report: ReportData, other: Convention, phases: Sequence[Phase]) -> list[Line]:
    """The same Op under both: by operator, by class of the module that calls it, and by what the other says to it."""
    groups: dict[tuple[str, str, str], list[tuple[str, int, int]]] = {}
    for entry in report.entries:
        module = report.modules.get(entry.path, "")
        ours, theirs = report.convention.of(entry, phases, module), other.of(entry, phases, module)
        if ours or theirs:
            why = other.why_of(entry, module) if set(phases) & set(other.phases) else "this phase is not counted"
            groups.setdefault((entry.operator, module, why), []).append((entry.op, ours, theirs))
    return [
        Line(
            operator,
            module,
            why,
            ops=len({op for op, _, _ in members}),
            ours=sum(ours for _, ours, _ in members),
            theirs=sum(theirs for _, _, theirs in members),
        )
        for (operator, module, why), members in groups.items()
    ]


def _lines_to_terms(report: ReportData, theirs: ReportData, phases: Sequence[Phase]) -> list[Line]:
    """Ops on one side and the terms of a formula on the other: by the part of a model that both stand for."""
    sizes = Sizes(report.entries, report.parameters)
    ours: dict[str, list[tuple[Entry, int]]] = {}
    terms: dict[str, list[tuple[Entry, int]]] = {}
    for entry in theirs.entries:
        if number := theirs.convention.of(entry, phases):
            terms.setdefault(entry.operator, []).append((entry, number))
    for entry in report.entries:
        if number := report.convention.of(entry, phases, report.modules.get(entry.path, "")):
            role = sizes.role(entry)
            if role == "logits" and role not in terms:  # a formula in parameters has them among its matrices
                role = "linear"
            ours.setdefault(role, []).append((entry, number))
    return [
        Line(
            role,
            "",
            " and ".join(dict.fromkeys(entry.part or entry.about for entry, _ in terms.get(role, ())))
            or "the formula has no term for it",
            ops=len({entry.op for entry, _ in ours.get(role, ())}),
            ours=sum(number for _, number in ours.get(role, ())),
            theirs=sum(number for _, number in terms.get(role, ())),
        )
        for role in {**ours, **terms}
    ]
