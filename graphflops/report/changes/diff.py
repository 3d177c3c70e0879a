"""diff: two reports compared operator by operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

from graphflops.core.components import parents
from graphflops.core.entries import PHASES, Entry, Phase
from graphflops.core.errors import UsageError
from graphflops.report.changes.matching import match
from graphflops.report.changes.operators import Operators, operators_of, parameter_shape
from graphflops.report.changes.rows import Change, DiffData
from graphflops.report.changes.settings import check_comparable, setting_notes
from graphflops.report.data import ReportData, is_of_training
from graphflops.report.files import write_atomic


class ReportDiff(DiffData):
    """The difference of two reports, to print and to save. The rows sum to the difference of the totals exactly."""

    def to_json(self, path: str | Path) -> Path:
        """Write the difference to a file.

        Raises:
            UsageError: the path cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"
        return write_atomic(path, text.encode("utf-8", "backslashreplace"))  # a path may have surrogates

    def to_markdown(self) -> str:
        """The difference as Markdown, for a comment on a pull request."""
        from graphflops.report.changes.text import as_markdown

        return as_markdown(self)

    def __str__(self) -> str:
        from graphflops.report.changes.text import as_text

        return as_text(self)


def diff(first: ReportData, second: ReportData, *, names: tuple[str, str] | None = None) -> ReportDiff:
    """Compare two reports operator by operator.

    Operators are matched by module path and target, and those that are left by the structure around them, so that a
    rename is a rename. See ``graphflops.report.changes.matching``.

    Args:
        first: the report before.
        second: the report after, under the same convention.
        names: names of the two in the result, by default those of the models.

    Raises:
        UsageError: an argument is no report, the conventions differ, or one report is of a training step and the
            other of a forward pass.
    """
    names = names or (first_name(first), first_name(second))
    check_comparable(first, second, names)
    left, right = operators_of(first), operators_of(second)
    pairs = match(left, right)
    rows = [_change(before, after) for before, after in pairs]
    order = {path: i for i, path in enumerate(dict.fromkeys([*second.modules, *first.modules]))}
    changes = sorted((row for row in rows if row), key=lambda row: order.get(row.path, -1))
    return ReportDiff(
        names,
        first.convention,
        tuple(changes),
        _sum(left),
        _sum(right),
        parameters=(sum(first.parameters.values()), sum(second.parameters.values())),
        unknown=(first.coverage.unknown, second.coverage.unknown),
        unchanged=len(rows) - len(changes),
        is_training=bool(is_of_training(first) or is_of_training(second)),
        notes=setting_notes(first, second, names),
        removed_modules=_unmatched(first, [before for before, after in pairs if before and after]),
        added_modules=_unmatched(second, [after for before, after in pairs if before and after]),
    )


def first_name(report: object) -> str:
    """The name of a report's model.

    Raises:
        UsageError: it is no report.
    """
    if not isinstance(report, ReportData):
        raise UsageError(
            f"diff compares two reports, not a {type(report).__name__}: pass graphflops.analyze(model, args), or "
            "graphflops.Report.from_json(path)"
        )
    return report.model


_NONE: Mapping[Phase, int] = dict.fromkeys(PHASES, 0)


def _sum(all_operators: list[Operators]) -> Mapping[Phase, int]:
    return {phase: sum(operators.flops[phase] for operators in all_operators) for phase in PHASES}


def _unmatched(report: ReportData, matched: Iterable[Operators]) -> Mapping[str, str]:
    """Module path → class name, of the modules that ran and have no operator with a counterpart."""
    kept = {path for operators in matched for path in (operators.path, *parents(operators.path))}
    ran = {path for entry in report.entries for path in (entry.path, *parents(entry.path))}
    gone = ran - kept
    return {path: cls for path, cls in report.modules.items() if path in gone}


def _change(before: Operators | None, after: Operators | None) -> Change | None:
    """The row of a pair of operators; None if they are unchanged."""
    if before is None or after is None:
        operators = before or after
        assert operators is not None
        calls = tuple([f"{operators.calls} calls"] if operators.calls > 1 else [])
        if after is None:
            return Change("removed", operators.path, "", operators.name, calls, operators.flops, _NONE)
        return Change("added", "", operators.path, operators.name, calls, _NONE, operators.flops)
    is_same = before.signature == after.signature and (before.target == after.target or not _is_aten(before, after))
    if is_same and (before.path, before.target) == (after.path, after.target):
        return None
    name = before.name if before.name == after.name else f"{before.name} → {after.name}"
    paths = before.path, after.path
    if is_same:
        return Change("renamed", *paths, name, (), before.flops, after.flops)
    return Change("changed", *paths, name, tuple(_details(before, after)), before.flops, after.flops)


def _is_aten(*all_operators: Operators) -> bool:
    return any(operators.target.startswith("aten.") for operators in all_operators)


def _details(before: Operators, after: Operators) -> Iterable[str]:
    """Lines that say how the calls of two operators differ, each once."""
    lines: dict[str, None] = {}
    if before.calls != after.calls:
        lines[f"{before.calls} → {after.calls} calls"] = None
    for old, new in zip_longest(before.entries, after.entries):
        if old is not None and new is not None:
            lines |= dict.fromkeys(_entry_details(old, new))
    return lines


_FACTS: tuple[tuple[str, Callable[[Entry], object]], ...] = (
    ("dtype", lambda entry: entry.dtype),
    ("options", lambda entry: ", ".join(entry.flags)),
    ("rate", lambda entry: entry.rate or "1"),
)


def _entry_details(old: Entry, new: Entry) -> list[str]:
    shapes = [(name, old.operands.get(name), new.operands.get(name)) for name in {**old.operands, **new.operands}]
    if old.kind == "update":
        shapes = [(new.op.rpartition(".")[2], parameter_shape(old), parameter_shape(new))]
    shapes += [("output", *outputs) for outputs in zip_longest(old.outputs, new.outputs)]
    lines = [f"{name} {_shape(before)} → {_shape(after)}" for name, before, after in shapes if before != after]
    lines += [f"{name} {fact(old) or '–'} → {fact(new) or '–'}" for name, fact in _FACTS if fact(old) != fact(new)]
    if not lines and old.work != new.work and old.target == new.target:
        formulas = old.formula.forward, new.formula.forward
        same_rule = "the same formula with other attributes" if formulas[0] == formulas[1] else " → ".join(formulas)
        lines.append(f"rule: {same_rule}" if old.rule == new.rule else f"rule: {old.rule} → {new.rule}")
    return lines


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "none"
    return "×".join(map(str, shape)) or "scalar"
