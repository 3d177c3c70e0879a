"""PhaseCounts: the FLOPs of a step by phase, which add, subtract and scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from graphflops.core.entries import PHASES, Entry
from graphflops.report.conventions import Convention
from graphflops.report.report import Report

_INTEGERS = Convention("integers", "integer operations only", {"integer": 1})


@dataclass(frozen=True)
class PhaseCounts:
    """FLOPs of a step, or of a part of it; counts add, and scale by a number of steps.

    >>> (PhaseCounts(10, 20, 3) * 1000 + PhaseCounts(forward=7)).total
    33007
    """

    forward: int = 0
    backward: int = 0
    optimizer: int = 0
    integer: int = 0
    """operations on integers, which are no FLOPs and in no total"""

    @property
    def total(self) -> int:
        """forward + backward + optimizer"""
        return self.forward + self.backward + self.optimizer

    @property
    def flops(self) -> PhaseCounts:
        """The FLOPs alone, without operations on integers."""
        return replace(self, integer=0)

    def __add__(self, other: PhaseCounts) -> PhaseCounts:
        if not isinstance(other, PhaseCounts):
            return NotImplemented
        return PhaseCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __radd__(self, other: int) -> PhaseCounts:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __sub__(self, other: PhaseCounts) -> PhaseCounts:
        return self + -1 * other if isinstance(other, PhaseCounts) else NotImplemented

    def __mul__(self, times: int) -> PhaseCounts:
        return PhaseCounts(*(count * times for count in astuple(self)))

    __rmul__ = __mul__

    def __getitem__(self, phase: str) -> int:
        return self.to_dict()[phase]

    def to_dict(self, *, integer: bool = False) -> dict[str, int]:
        """forward, backward, optimizer and total, and on request integer, as plain ints."""
        counts = {phase: getattr(self, phase) for phase in ("forward", "backward", "optimizer", "total")}
        return {**counts, "integer": self.integer} if integer else counts

    @classmethod
    def of(cls, report: Report, *, integer: bool = False) -> PhaseCounts:
        """The FLOPs of a report, and on request its operations on integers; recompute is part of backward."""
        integers = int(report.work("total").integer) if integer else 0
        return cls(report.forward, report.backward + report.recompute, report.optimizer, integers)

    @classmethod
    def by_component(cls, report: Report) -> dict[str, PhaseCounts]:
        """Component → its FLOPs, and its operations on integers."""
        backward, recompute = report.by_component("backward"), report.by_component("recompute")
        optimizer = report.by_component("optimizer")
        integers = replace(report, convention=_INTEGERS).by_component("total")
        return {
            name: cls(forward, backward[name] + recompute[name], optimizer[name], integers[name])
            for name, forward in report.by_component("forward").items()
        }

    @classmethod
    def by_group(cls, report: Report, group: Callable[[Entry], str]) -> dict[str, PhaseCounts]:
        """Name of a group of cost entries → its FLOPs, and its operations on integers."""
        counts: dict[str, PhaseCounts] = {}
        for entry in report.entries:
            module, of, name = report.modules.get(entry.path, ""), report.convention.of, group(entry)
            forward, optimizer = of(entry, ("forward",), module), of(entry, ("optimizer",), module)
            backward = of(entry, ("dgrad", "wgrad", "recompute"), module)
            integers = _INTEGERS.of(entry, PHASES, module)
            counts[name] = counts.get(name, cls()) + cls(forward, backward, optimizer, integers)
        return counts


FLOPsCount = PhaseCounts
"""its name in the quick reference of ResNet-BK"""
