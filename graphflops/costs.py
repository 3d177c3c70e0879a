"""Work and Cost: what a call costs. They add and scale, and stay exact: ints or symbols, never floats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from types import MappingProxyType

from graphflops.sizes import Size


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of operations by class. Complex work is given in real operations: multiply 6, add 2.

    >>> Work(macs=4) + 2 * Work(macs=1, division=3)
    Work(macs=6, division=6)
    """

    macs: Size = 0
    """multiply-adds of matmul and convolution"""
    elementwise: Size = 0
    """add, sub, mul, compare, select"""
    division: Size = 0
    """div, sqrt, rsqrt"""
    transcendental: Size = 0
    """exp, log, tanh, sin, erf, …"""
    accumulate: Size = 0
    """sums that autograd adds: gradient fan-in, bias and broadcast reductions"""
    integer: Size = 0
    """integer arithmetic, quantised matmuls"""

    def __add__(self, other: Work) -> Work:
        if not isinstance(other, Work):
            return NotImplemented
        return Work(*(mine + theirs for mine, theirs in zip(self.counts(), other.counts(), strict=True)))

    def __radd__(self, other: int) -> Work:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __mul__(self, times: Size) -> Work:
        return Work(*(count * times for count in self.counts()))

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return any(count != 0 for count in self.counts())

    def counts(self) -> Iterator[Size]:
        """The counts in the order of ``WORK_CLASSES``."""
        return (getattr(self, name) for name in WORK_CLASSES)

    def items(self) -> Iterator[tuple[str, Size]]:
        """Class and count, for the classes that are not zero."""
        return ((name, count) for name, count in zip(WORK_CLASSES, self.counts(), strict=True) if count != 0)

    def __repr__(self) -> str:
        return f"Work({', '.join(f'{name}={count}' for name, count in self.items())})"


WORK_CLASSES = tuple(each.name for each in fields(Work))
NOTHING = Work()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs: forward, and the work of each gradient, keyed by what the gradient is of.

    A key of ``grads`` names an operand (``"input"``), a parameter of the module (``"gate.weight"``), or a
    pattern of such names (``"experts.*.weight"``). Names joined by ``|`` mean work that is needed once if *any* of them
    needs a gradient. An operand or parameter whose gradient costs nothing is named too, with ``NOTHING``: a
    gradient that no key mentions is reported as unknown, never taken as zero.

    ``recompute`` is forward work done again on the way back, when any gradient is needed. ``parts`` names the summands
    of a composite layer; build one with ``Cost.of(gate=…, experts=…)``.
    """

    forward: Work = NOTHING
    grads: Mapping[str, Work] = field(default_factory=dict)
    recompute: Work = NOTHING
    parts: Mapping[str, Cost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grads", MappingProxyType(dict(self.grads)))
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))

    @classmethod
    def of(cls, **parts: Cost) -> Cost:
        """The sum of named parts, which a report keeps apart.

        >>> Cost.of(gate=Cost(Work(macs=8)), experts=Cost(Work(macs=64))).forward
        Work(macs=72)
        """
        total = sum(parts.values(), cls())
        return cls(total.forward, total.grads, total.recompute, parts)

    def __add__(self, other: Cost) -> Cost:
        grads = dict(self.grads)
        for key, work in other.grads.items():
            grads[key] = grads.get(key, NOTHING) + work
        return Cost(self.forward + other.forward, grads, self.recompute + other.recompute)

    def __mul__(self, times: Size) -> Cost:
        return Cost(
            self.forward * times,
            {key: work * times for key, work in self.grads.items()},
            self.recompute * times,
            {name: part * times for name, part in self.parts.items()},
        )

    __rmul__ = __mul__


def covers(key: str, name: str) -> bool:
    """Whether a key of ``Cost.grads`` speaks of the operand or parameter ``name``.

    >>> covers("x|experts.*.weight", "experts.0.up.weight")
    True
    """
    return any(name == each or fnmatchcase(name, each) for each in key.split("|"))
