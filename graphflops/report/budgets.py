"""Budgets: limits on the numbers of a report, and the modules that grew if one is exceeded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, get_args

from graphflops.core.components import parents
from graphflops.core.errors import BudgetExceeded, UsageError
from graphflops.core.messages import format_value
from graphflops.core.rate import to_fraction
from graphflops.core.units import format_si, parse_si, percent
from graphflops.report.data import Query, ReportData

QUANTITIES = (*get_args(Query), "parameters", "unknown")
"""quantities that a budget can limit: FLOPs of a phase, parameters, and unsupported ops"""
_UNCOUNTED = ("peak", "peak_memory", "memory", "bytes")
MIN_SHARE = Fraction(1, 100)
"""share of the total from which a module is stored in a budget"""
MAX_MODULES = 12


@dataclass(frozen=True)
class Excess:
    """A quantity that is over its limit."""

    quantity: str
    value: int
    limit: Fraction
    tolerance: Fraction

    def __str__(self) -> str:
        allowed = f" + {_percentage(self.tolerance)}" if self.tolerance else ""
        number = format_si if self.limit >= 1000 else str
        over = f", over by {percent(self.value - int(self.limit), int(self.limit))}" if self.limit >= 1 else ""
        return f"{self.quantity} is {number(self.value)}; the budget is {number(int(self.limit))}{allowed}{over}"


@dataclass(frozen=True)
class Budget:
    """Limits on a report, with a tolerance. Unsupported ops are refused unless ``unknown`` allows some."""

    limits: Mapping[str, Fraction]
    tolerance: Fraction = Fraction(0)
    modules: Mapping[str, Fraction] = field(default_factory=dict)
    """module path → its FLOPs when the budget was set, to say which module grew"""

    @classmethod
    def of(cls, **limits: Any) -> Budget:
        """A budget from texts or numbers, as ``total="16.4 G", unknown=0, tolerance="2%"``.

        Raises:
            UsageError: a key or a value is invalid, or there is no limit.
        """
        tolerance, modules = limits.pop("tolerance", 0), limits.pop("modules", {})
        if not isinstance(modules, Mapping):
            raise UsageError(f"modules must be a table of module paths, not {format_value(modules)}")
        for name in limits:
            if name in _UNCOUNTED:
                raise UsageError(f"{name}: memory is not counted yet; a budget has {', '.join(QUANTITIES)}, tolerance")
            if name not in QUANTITIES:
                raise UsageError(f"no budget {format_value(name)}; expected {', '.join(QUANTITIES)}, tolerance")
        if not limits:
            raise UsageError(f"a budget needs a limit: one of {', '.join(QUANTITIES)}")
        return cls(
            {name: parse_si(value) for name, value in limits.items()},
            parse_tolerance(tolerance),
            {path: parse_si(value) for path, value in modules.items()},
        )

    def excesses(self, report: ReportData) -> tuple[Excess, ...]:
        """The quantities of a report that are over their limits."""
        limits = {"unknown": Fraction(0), **self.limits}
        return tuple(
            Excess(name, value, limit, tolerance)
            for name, limit in limits.items()
            if (value := quantity(report, name)) > limit * (1 + (tolerance := self._tolerance(name)))
        )

    def grown(self, report: ReportData) -> Iterator[str]:
        """Sentences on the modules with more FLOPs than are stored, the largest growth first; none if none is."""
        now = report.by_module("total")
        changes = {path: now.get(path, 0) - stored for path, stored in self.modules.items()}
        changes |= {path: Fraction(number) for path, number in stored_modules(report).items() if path not in changes}
        for path in sorted(changes, key=lambda path: -changes[path]) if self.modules else ():
            before = self.modules.get(path, Fraction(0))
            if changes[path] > before / 1000:  # stored numbers are rounded
                yield (
                    f"{path or 'the model itself'} grew from {format_si(int(before))} to {format_si(now.get(path, 0))}"
                    if before
                    else f"{path} is new: {format_si(now[path])}"
                )

    def check(self, report: ReportData, name: str = "") -> None:
        """Raise if a report is over a limit.

        Raises:
            BudgetExceeded: it is; the message has the numbers, and the modules that grew.
        """
        if excesses := self.excesses(report):
            lines = [*map(str, excesses), *self.grown(report)]
            raise BudgetExceeded(f"{name or report.model}: " + "\n    ".join(lines))

    def _tolerance(self, name: str) -> Fraction:
        return Fraction(0) if name == "unknown" else self.tolerance


def quantity(report: ReportData, name: str) -> int:
    """FLOPs of a phase, the number of parameters, or of unsupported ops."""
    if name == "parameters":
        return sum(report.parameters.values())
    return report.coverage.unknown if name == "unknown" else report.flops(name)


def stored_modules(report: ReportData) -> dict[str, int]:
    """Module path → FLOPs, of the modules where the model branches: the largest, with at least 1 % each."""
    flops = report.by_module("total")
    children: dict[str, list[str]] = {}
    for path in report.modules:
        if path:
            children.setdefault(next(parents(path)), []).append(path)
    top = ""
    while len(inside := [path for path in children.get(top, ()) if flops[path] >= MIN_SHARE * flops[""]]) == 1:
        top = inside[0]
    largest = sorted(inside or [top], key=lambda path: -flops[path])[:MAX_MODULES]
    return {path: flops[path] for path in report.modules if path in largest and path}


def check_growth(before: int, after: int, tolerance: Fraction, names: tuple[str, str]) -> None:
    """Raise if a number grew by more than a tolerance.

    Raises:
        BudgetExceeded: it did.
    """
    if after > before * (1 + tolerance):
        growth = f"by {percent(after - before, before)}" if before else f"from 0 to {format_si(after)}"
        raise BudgetExceeded(f"{names[1]} has more FLOPs than {names[0]} {growth}; at most {_percentage(tolerance)}")


def parse_tolerance(value: object) -> Fraction:
    """The tolerance of a text such as ``"2%"`` or ``"0.5 %"``, or a share such as 0.02.

    Raises:
        UsageError: it is none, or is negative.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value) if isinstance(value, str) and len(value) < 40 else None
    if match is not None:
        return to_fraction(match[1]) / (100 if match[2] else 1)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return Fraction(str(value))
    raise UsageError(f"invalid tolerance {format_value(value)}: expected a share such as '2%'")


def _percentage(share: Fraction) -> str:
    return f"{float(100 * share):g} %"
