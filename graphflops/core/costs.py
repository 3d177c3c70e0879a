"""Work and Cost of one call, which add and scale and stay exact: ints or symbols, never floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from operator import add
from types import MappingProxyType
from typing import Any

from graphflops.core.rate import Rate
from graphflops.core.retired import renamed
from graphflops.core.sizes import Size, size_max


@dataclass(frozen=True, slots=True)
class Work:
    """Operations by class. A complex operation is counted in real ones: multiply 6, add 2.

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
    """additions of autograd: gradient fan-in, bias and broadcast reductions"""
    integer: Size = 0
    """other integer arithmetic, and the quantized layers of ResNet-BK"""

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
        """Counts in the order of ``WORK_CLASSES``."""
        return self.macs, self.elementwise, self.division, self.transcendental, self.accumulate, self.integer

    def items(self) -> Iterator[tuple[str, Size]]:
        """Pairs of class and count, without zero counts."""
        return ((name, count) for name, count in zip(WORK_CLASSES, self.counts(), strict=True) if count != 0)

    def __repr__(self) -> str:
        return f"Work({', '.join(f'{name}={count}' for name, count in self.items())})"


WORK_CLASSES = tuple(field.name for field in fields(Work))
_ZEROS = (0,) * len(WORK_CLASSES)
ZERO = Work()
_UNSET: dict[str, Any] = dict.fromkeys(("full", "lower", "upper"))


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one call: the work of its forward pass, and of each gradient.

    A key of ``grads`` names an operand (``"input"``), a parameter of the module (``"gate.weight"``), or a
    pattern of such names (``"experts.*.weight"``). The work of a key ``"a|b"`` is needed once if *any* of its names
    needs a gradient. A free gradient is listed with ``Work()``: a gradient that no key names is unsupported, never
    taken as zero.

    ``recompute`` is forward work that the backward pass repeats, if any gradient is needed. ``parts`` names the
    summands of a composite layer: build them with ``Cost.of(gate=…, experts=…)``.

    ``span`` is the length of the critical path of the forward pass, and ``backward_span`` that of the backward pass:
    the longest chain of dependent operations, complex ones counted in real ones. ``None`` is "not given". ``a + b`` and
    ``n * a`` run in sequence, so that spans add and scale as work does; ``a | b`` and ``a.parallel(n)`` run in
    parallel: work adds, and the longest span stays.

    ``useful`` is the cost without the masked half of causal attention. ``full``, ``lower`` and ``upper`` are the cost
    at full rate and at the bounds of a rate, see ``scaled_by``.

    ``dtype`` is the dtype of the computation, where it is not that of the output: ``"int8"`` of products.

    >>> step = Cost(Work(elementwise=2), span=2)
    >>> (8 * step).span, step.parallel(8).span, (step | 3 * step).span
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
    lower: Cost | None = field(default=None, compare=False)
    upper: Cost | None = field(default=None, compare=False)
    dtype: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grads", MappingProxyType(dict(self.grads)))
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))

    @classmethod
    def of(cls, **parts: Cost) -> Cost:
        """Sum of named parts, which the report lists separately.

        >>> Cost.of(gate=Cost(Work(macs=8)), experts=Cost(Work(macs=64))).forward
        Work(macs=72)
        """
        return replace(sum(parts.values(), cls()), parts=parts)

    def __add__(self, other: Cost) -> Cost:
        return self._combine(other, add)

    def __or__(self, other: Cost) -> Cost:
        return self._combine(other, size_max)

    def __mul__(self, times: Size) -> Cost:
        spans = [None if span is None else span * times for span in (self.span, self.backward_span)]
        return replace(self.parallel(times), span=spans[0], backward_span=spans[1])

    __rmul__ = __mul__

    def parallel(self, times: Size) -> Cost:
        """Cost of ``times`` independent calls: the work scales, the span stays."""
        return self.map(lambda work: work * times)

    def scaled_by(self, rate: Rate | Fraction | float | str | tuple[Any, ...]) -> Cost:
        """Average cost of a call that runs at a rate, such as ``Fraction(3, 8)`` of the steps.

        ``(0.3, 0.8)`` are bounds: the cost is then the upper bound, and the report has both. Three numbers are the
        lower bound, the expected value and the upper bound. Counts are rounded down. The span is that of a call.

        >>> Cost(Work(macs=80), {"x": Work(macs=80)}).scaled_by(Fraction(3, 8)).forward
        Work(macs=30)
        """
        rate = rate if isinstance(rate, Rate) else Rate(*(rate if isinstance(rate, tuple) else (rate,)))
        parts = {name: part.scaled_by(rate) for name, part in self.parts.items()}
        if rate.is_point and rate.expected == 1:
            return replace(self, parts=parts)
        bounds: dict[str, Any] = {}
        if self.lower or self.upper or not rate.is_point:
            bounds["lower"] = (self.lower or self)._scaled(rate.lower)
            bounds["upper"] = (self.upper or self)._scaled(rate.upper)
        full = self.full or self
        return replace(self._scaled(rate.expected), parts=parts, full=replace(full, **_UNSET), **bounds)

    def _scaled(self, rate: Fraction) -> Cost:
        """The cost times a number, in counts that are rounded down."""

        def scale(work: Work) -> Work:
            return Work(*(_require_integer(count) * rate.numerator // rate.denominator for count in work.counts()))

        return replace(self, **_UNSET).map(scale)

    def map(self, of_work: Callable[[Work], Work], of_span: Callable[[Any], Any] = lambda span: span) -> Cost:
        """The cost with a function applied to every Work and one to every span, in its parts and variants too."""
        return Cost(
            of_work(self.forward),
            {key: of_work(work) for key, work in self.grads.items()},
            of_work(self.recompute),
            {name: part.map(of_work, of_span) for name, part in self.parts.items()},
            of_span(self.span),
            of_span(self.backward_span),
            dtype=self.dtype,
            **{name: cost.map(of_work, of_span) for name, cost in self.variants().items()},
        )

    def variants(self) -> dict[str, Any]:
        """Those of ``useful``, ``full``, ``lower`` and ``upper`` that are given, by name."""
        return {name: cost for name in ("useful", *_UNSET) if (cost := getattr(self, name)) is not None}

    def _combine(self, other: Cost, join: Callable[[Size, Size], Size]) -> Cost:
        """Sum of two costs; ``join`` combines the spans, if both are given or one cost has no work."""
        grads = dict(self.grads)
        for key, work in other.grads.items():
            grads[key] = grads.get(key, ZERO) + work

        def joined(left: Size | None, right: Size | None, *, forward: bool) -> Size | None:
            if left is None and not self._has_work(forward):
                return right
            if right is None and not other._has_work(forward):
                return left
            return None if left is None or right is None else join(left, right)

        variants: dict[str, Any] = {
            name: (getattr(self, name) or self)._combine(getattr(other, name) or other, join)
            for name in {**self.variants(), **other.variants()}
        }
        return Cost(
            self.forward + other.forward,
            grads,
            self.recompute + other.recompute,
            span=joined(self.span, other.span, forward=True),
            backward_span=joined(self.backward_span, other.backward_span, forward=False),
            **variants,
        )

    def _has_work(self, forward: bool) -> bool:
        return bool(self.forward) if forward else any(self.grads.values()) or bool(self.recompute)

    abreast, at = renamed("parallel"), renamed("scaled_by")
    least, most = renamed("lower"), renamed("upper")


def _require_integer(count: Size) -> Size:
    """The count, if it is an integer: rounding it down afterwards would hide that it never was."""
    if type(count) is not int and (not hasattr(count, "free_symbols") or getattr(count, "is_integer", None) is False):
        raise TypeError(f"{count!r} is not an integer, so that a rate cannot be applied to it")
    return count


def covers(key: str, name: str) -> bool:
    """Whether a key of ``Cost.grads`` names the operand or parameter ``name``.

    >>> covers("x|experts.*.weight", "experts.0.up.weight")
    True
    """
    return name == key or any(name == pattern or fnmatchcase(name, pattern) for pattern in key.split("|"))
