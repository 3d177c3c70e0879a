"""FLOPsCount and Amount: what a step costs in a few numbers, which add, subtract and scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from graphflops.report.report import Report


@dataclass(frozen=True)
class FLOPsCount:
    """FLOPs of a step, or of a part of it; counts add, and scale by a number of steps.

    >>> (FLOPsCount(10, 20, 3) * 1000 + FLOPsCount(forward=7)).total
    33007
    """

    forward: int = 0
    backward: int = 0
    optimizer: int = 0

    @property
    def total(self) -> int:
        """forward + backward + optimizer"""
        return self.forward + self.backward + self.optimizer

    def __add__(self, other: FLOPsCount) -> FLOPsCount:
        if not isinstance(other, FLOPsCount):
            return NotImplemented
        return FLOPsCount(
            self.forward + other.forward, self.backward + other.backward, self.optimizer + other.optimizer
        )

    def __sub__(self, other: FLOPsCount) -> FLOPsCount:
        return self + -1 * other if isinstance(other, FLOPsCount) else NotImplemented

    def __getitem__(self, phase: str) -> int:
        return self.to_dict()[phase]

    def __radd__(self, other: int) -> FLOPsCount:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __mul__(self, times: int) -> FLOPsCount:
        return FLOPsCount(self.forward * times, self.backward * times, self.optimizer * times)

    __rmul__ = __mul__

    def to_dict(self) -> dict[str, int]:
        """forward, backward, optimizer and total, as plain ints."""
        return {**asdict(self), "total": self.total}

    @classmethod
    def of(cls, report: Report) -> FLOPsCount:
        """The FLOPs of a report; what is recomputed is part of the backward pass."""
        return cls(report.forward, report.backward + report.recompute, report.optimizer)


@dataclass(frozen=True)
class Amount:
    """FLOPs by phase, and beside them the operations on integers, which are no FLOPs."""

    flops: FLOPsCount = FLOPsCount()
    integer: int = 0

    @classmethod
    def of(cls, report: Report) -> Amount:
        """What a report says of the whole step."""
        return cls(FLOPsCount.of(report), int(report.work("total").integer))

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.flops + other.flops, self.integer + other.integer)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.flops - other.flops, self.integer - other.integer)

    def __mul__(self, times: int) -> Amount:
        return Amount(self.flops * times, self.integer * times)

    __rmul__ = __mul__

    def to_dict(self) -> dict[str, int]:
        """forward, backward, optimizer, total and integer, as plain ints."""
        return {**self.flops.to_dict(), "integer": self.integer}
