"""Work and Cost: what a call costs. They add and scale, and stay exact: ints or symbols, never floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from operator import add
from types import MappingProxyType
from typing import Any

from graphflops.core.rate import Rate
from graphflops.core.sizes import Size, size_max


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of operations by class. Complex work is given in real operations: multiply 6, add 2.

    >>> Work(macs=4) + 2 * Work(macs=1, division=3)
    Work(macs=6, division=6)
    """

    macs: Size = 0
    """multiply-adds of matmul and convolution, of integers too"""
    elementwise: Size = 0
    """add, sub, mul, compare, select"""
    division: Size = 0
    """div, sqrt, rsqrt"""
    transcendental: Size = 0
    """exp, log, tanh, sin, erf, …"""
    accumulate: Size = 0
    """sums that autograd adds: gradient fan-in, bias and broadcast reductions"""
    integer: Size = 0
    """other arithmetic on integers, and the quantized layers of ResNet-BK"""

    def __add__(self, other: Work) -> Work:
        if not isinstance(other, Work):
            return NotImplemented
        if self is ZERO:
            return other
        if other is ZERO:
            return self
        return Work(*map(add, self.counts(), other.counts()))

    def __radd__(self, other: int) -> Work:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __mul__(self, times: Size) -> Work:
        if self is ZERO:
            return self
        return Work(*(count * times for count in self.counts()))

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return self.counts() != _ZEROS

    def counts(self) -> tuple[Size, ...]:
        """The counts in the order of ``WORK_CLASSES``."""
        return self.macs, self.elementwise, self.division, self.transcendental, self.accumulate, self.integer

    def items(self) -> Iterator[tuple[str, Size]]:
        """Class and count, for the classes that are not zero."""
        return ((name, count) for name, count in zip(WORK_CLASSES, self.counts(), strict=True) if count != 0)

    def __repr__(self) -> str:
        return f"Work({', '.join(f'{name}={count}' for name, count in self.items())})"


WORK_CLASSES = tuple(each.name for each in fields(Work))
_ZEROS = (0,) * len(WORK_CLASSES)
ZERO = Work()
_RANGES = ("full", "least", "most")
_UNSAID: dict[str, Any] = dict.fromkeys(_RANGES)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs: forward, and the work of each gradient, keyed by what the gradient is of.

    A key of ``grads`` names an operand (``"input"``), a parameter of the module (``"gate.weight"``), or a
    pattern of such names (``"experts.*.weight"``). Names joined by ``|`` mean work that is needed once if *any* of them
    needs a gradient. An operand or parameter whose gradient costs nothing is named too, with ``ZERO``: a
    gradient that no key mentions is reported as unknown, never taken as zero.

    ``recompute`` is forward work done again on the way back, when any gradient is needed. ``parts`` names the summands
    of a composite layer; build one with ``Cost.of(gate=…, experts=…)``.

    ``span`` is the length of the longest chain of operations that wait for each other, forward, and ``backward_span``
    that of the backward pass, both in operations, a complex one in real ones: what no number of processors makes
    shorter. ``None`` is "not said". Costs that are added or multiplied follow each other, so that spans add and scale
    as work does; ``a | b`` and ``cost.abreast(n)`` are at the same time: work adds, and the longest chain stays.

    ``useful`` is what the call costs if nothing is computed to be thrown away, where that is less: causal attention as
    its triangle. ``full`` is what it would cost if data never had it do less, ``least`` and ``most`` are what data
    can make of it: ``cost.at(…)`` says all three.

    ``dtype`` names what it is computed in, where that is not the dtype of its result: ``"int8"`` of products.

    >>> step = Cost(Work(elementwise=2), span=2)
    >>> (8 * step).span, step.abreast(8).span, (step | 3 * step).span
    (16, 2, 6)
    """

    forward: Work = ZERO
    grads: Mapping[str, Work] = field(default_factory=dict)
    recompute: Work = ZERO
    parts: Mapping[str, Cost] = field(default_factory=dict)
    span: Size | None = None
    backward_span: Size | None = None
    useful: Cost | None = None
    full: Cost | None = field(default=None, compare=False)
    least: Cost | None = field(default=None, compare=False)
    most: Cost | None = field(default=None, compare=False)
    dtype: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grads", MappingProxyType(dict(self.grads)))
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))

    @classmethod
    def of(cls, **parts: Cost) -> Cost:
        """The sum of named parts, which a report keeps apart.

        >>> Cost.of(gate=Cost(Work(macs=8)), experts=Cost(Work(macs=64))).forward
        Work(macs=72)
        """
        return replace(sum(parts.values(), cls()), parts=parts)

    def __add__(self, other: Cost) -> Cost:
        return self._with(other, add)

    def __or__(self, other: Cost) -> Cost:
        return self._with(other, size_max)

    def __mul__(self, times: Size) -> Cost:
        spans = [None if each is None else each * times for each in (self.span, self.backward_span)]
        return replace(self.abreast(times), span=spans[0], backward_span=spans[1])

    __rmul__ = __mul__

    def abreast(self, times: Size) -> Cost:
        """So many of it, none of which waits for another."""
        return Cost(
            self.forward * times,
            {key: work * times for key, work in self.grads.items()},
            self.recompute * times,
            {name: part.abreast(times) for name, part in self.parts.items()},
            self.span,
            self.backward_span,
            dtype=self.dtype,
            **self._others(lambda other: other.abreast(times)),
        )

    def at(self, rate: Rate | Fraction | float | str | tuple[Any, ...]) -> Cost:
        """What it costs on average if data has it run at a rate, such as ``Fraction(3, 8)`` of the steps.

        ``(0.3, 0.8)`` are bounds: what it costs is then the most, and the report's totals are intervals. Three
        numbers are the least, what is expected, and the most. Counts stay whole, and are rounded down. The span is
        that of a step in which it runs.

        >>> Cost(Work(macs=80), {"x": Work(macs=80)}).at(Fraction(3, 8)).forward
        Work(macs=30)
        """
        rate = rate if isinstance(rate, Rate) else Rate(*(rate if isinstance(rate, tuple) else (rate,)))
        parts = {name: part.at(rate) for name, part in self.parts.items()}
        if rate.is_point and rate.expected == 1:
            return replace(self, parts=parts)
        bounds: dict[str, Any] = {}
        if self.least or self.most or not rate.is_point:
            bounds["least"] = (self.least or self)._times(rate.least)
            bounds["most"] = (self.most or self)._times(rate.most)
        full = self.full or self
        return replace(self._times(rate.expected), parts=parts, full=replace(full, **_UNSAID), **bounds)

    def _times(self, rate: Fraction) -> Cost:
        """That share of it, in whole counts."""

        def share(work: Work) -> Work:
            return Work(*(_whole(count) * rate.numerator // rate.denominator for count in work.counts()))

        return replace(
            self,
            forward=share(self.forward),
            grads={key: share(work) for key, work in self.grads.items()},
            recompute=share(self.recompute),
            parts={name: part._times(rate) for name, part in self.parts.items()},
            useful=None if self.useful is None else self.useful._times(rate),
            **_UNSAID,
        )

    def _others(self, of: Callable[[Cost], Cost]) -> dict[str, Any]:
        """What else it would cost, where that is said."""
        others = {name: getattr(self, name) for name in ("useful", *_RANGES)}
        return {name: None if other is None else of(other) for name, other in others.items()}

    def _with(self, other: Cost, join: Callable[[Size, Size], Size]) -> Cost:
        """Both together; a span that one of them does not say is not said of both, unless it has no work at all."""
        grads = dict(self.grads)
        for key, work in other.grads.items():
            grads[key] = grads.get(key, ZERO) + work

        def joined(mine: Size | None, theirs: Size | None, *, forward: bool) -> Size | None:
            if mine is None and not self._works(forward):
                return theirs
            if theirs is None and not other._works(forward):
                return mine
            return None if mine is None or theirs is None else join(mine, theirs)

        return Cost(
            self.forward + other.forward,
            grads,
            self.recompute + other.recompute,
            span=joined(self.span, other.span, forward=True),
            backward_span=joined(self.backward_span, other.backward_span, forward=False),
            **self._others_with(other, join),
        )

    def _others_with(self, other: Cost, join: Callable[[Size, Size], Size]) -> dict[str, Any]:
        names = ("useful", *_RANGES)
        mine, theirs = ({name: getattr(each, name) for name in names} for each in (self, other))
        return {
            name: (mine[name] or self)._with(theirs[name] or other, join) if mine[name] or theirs[name] else None
            for name in names
        }

    def _works(self, forward: bool) -> bool:
        return bool(self.forward) if forward else any(self.grads.values()) or bool(self.recompute)


def _whole(count: Size) -> Size:
    """The same count, if it is whole: what is rounded down afterwards would not show that it never was."""
    if type(count) is not int and (not hasattr(count, "free_symbols") or getattr(count, "is_integer", None) is False):
        raise TypeError(f"{count!r} is no whole number, of which a share could be taken")
    return count


def covers(key: str, name: str) -> bool:
    """Whether a key of ``Cost.grads`` speaks of the operand or parameter ``name``.

    >>> covers("x|experts.*.weight", "experts.0.up.weight")
    True
    """
    return name == key or any(name == each or fnmatchcase(name, each) for each in key.split("|"))
