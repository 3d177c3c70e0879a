"""Growth of costs: orders, budgets, and the sizes at which two models cost the same; exact, from the polynomials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm
from typing import TYPE_CHECKING

from graphflops.analysis.scaling.law_terms import LawPhase, LawTerms
from graphflops.analysis.scaling.notation import format_components, format_polynomial, superscript
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import Quantity
from graphflops.core.errors import UsageError
from graphflops.core.retired import renamed

if TYPE_CHECKING:
    import sympy

MAX_PRINTED_TERMS = 6
"""dominant terms that are printed"""

Signs = list[tuple[int, int]]
"""(first value, sign) of each interval, in order"""


# -- orders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DominantTerm:
    """An operation of a component whose cost grows with the highest power of a size."""

    component: str
    what: str
    polynomial: Polynomial
    """its part in this power"""
    text: str


@dataclass(frozen=True)
class Order:
    """The order of growth of a cost in a size."""

    size: str
    degree: int
    coefficient: sympy.Expr
    """of the highest power, in the other sizes"""
    dominant_terms: tuple[DominantTerm, ...]
    text: str

    carriers = renamed("dominant_terms")

    def __str__(self) -> str:
        return self.text


def order(law: LawTerms, size: str, phase: LawPhase) -> Order:
    """The order of growth of a phase, and the operations with this order by component, the largest first.

    Raises:
        UsageError: there is no such size or phase.
    """
    law.check_sizes([size])
    polynomial = law.polynomial(phase)
    degree, leading = polynomial.degree(size), polynomial.leading_coefficient(size)
    names = tuple(law.sizes)
    power = Polynomial({(): Fraction(1)})
    for _ in range(degree):
        power = power * Polynomial.symbol(size)
    operations: dict[tuple[str, str], list[Quantity]] = {}
    for quantity in law.terms:
        operations.setdefault((quantity.component, quantity.what), []).append(quantity)
    dominant: dict[tuple[str, Polynomial], list[str]] = {}
    for (component, what), quantities in operations.items():
        part = law.sum_of(phase, quantities)
        if part and part.degree(size) == degree:
            dominant.setdefault((what, part.leading_coefficient(size) * power), []).append(component)
    base = law.all_sizes({})

    def cost(item: tuple[tuple[str, Polynomial], list[str]]) -> Fraction:
        (_, term), components = item
        return Fraction(term.evaluate(base)) * len(components)

    terms, texts = [], []
    for (what, term), components in sorted(dominant.items(), key=cost, reverse=True):
        per_component = " each" if len(components) > 1 else ""
        text = f"{format_components(components)}: {what}, {format_polynomial(term, names)}{per_component}"
        terms += [DominantTerm(component, what, term, text) for component in components]
        texts.append(text)
    symbol = f"O({size}{superscript(degree)})" if degree else "O(1)"
    printed = [
        f"{symbol}: {format_polynomial(leading * power, names)}",
        *(f"    {line}" for line in texts[:MAX_PRINTED_TERMS]),
    ]
    if len(texts) > MAX_PRINTED_TERMS:
        printed.append(f"    and {len(texts) - MAX_PRINTED_TERMS} more")
    return Order(size, degree, leading.as_sympy(), tuple(terms), "\n".join(printed))


# -- signs of a polynomial in one size ---------------------------------------------------------------------------


def signs(coefficients: Sequence[Fraction], first: int = 1) -> Signs:
    """The intervals of integers t ≥ first in which a polynomial is negative, zero or positive.

    >>> signs([Fraction(-4), Fraction(0), Fraction(1)])
    [(1, -1), (2, 0), (3, 1)]
    """
    candidates = {first}
    for root in _integers_near_roots(coefficients):
        candidates |= {t for t in (root - 1, root, root + 1, root + 2) if t > first}
    intervals: Signs = []
    for t in sorted(candidates):
        value = sum(coefficient * t**i for i, coefficient in enumerate(coefficients))
        sign = (value > 0) - (value < 0)
        if not intervals or intervals[-1][1] != sign:
            intervals.append((t, sign))
    return intervals


def _integers_near_roots(coefficients: Sequence[Fraction]) -> Iterable[int]:
    """An integer next to each real root: the roots are isolated in rational intervals shorter than 1."""
    import sympy

    rationals = [sympy.Rational(value.numerator, value.denominator) for value in reversed(coefficients)]
    polynomial = sympy.Poly(rationals, sympy.Symbol("t"))
    if polynomial.degree() < 1:
        return ()
    intervals = polynomial.intervals(eps=sympy.Rational(1, 2))
    return {floor(Fraction(int(low.p), int(low.q))) for (low, _), _ in intervals}


def _period(polynomial: Polynomial, size: str, step: int) -> int:
    """The period of a size in which all floors are linear."""
    return lcm(step, *(atom.step for atom in polynomial.atoms if atom.size == size))


# -- budgets -----------------------------------------------------------------------------------------------------


def largest_within(law: LawTerms, size: str, budget: float, phase: LawPhase, sizes: Mapping[str, int]) -> int:
    """The largest value of a size at which a phase costs at most a budget.

    Raises:
        UsageError: there is no such size, no value is within the budget, or all are.
    """
    law.check_sizes([size])
    polynomial = _in_one_size(law, size, phase, sizes)
    allowed, unit = law.sizes[size], law.convention.unit
    try:
        limit = Fraction(budget)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the budget must be a number of {unit}s, not {budget!r}") from error
    step = allowed.multiple_of
    period = _period(polynomial, size, step)
    largest = None
    for residue in range(step, period + step, step):
        coefficients = polynomial.coefficients(size, period, residue)
        coefficients[0] -= limit
        last = None if allowed.max is None else (allowed.max - residue) // period
        t = _last_not_positive(signs(coefficients, first=0), last)
        if t is None:
            raise UsageError(
                f"{law.model} costs at most {budget:,} {unit}s at any {size}: "
                f"its cost is {format_polynomial(polynomial, tuple(law.sizes))}"
            )
        if t >= 0:
            largest = max(largest or 0, period * t + residue)
    if largest is None:
        raise UsageError(
            f"no {size} keeps {law.model} within {budget:,} {unit}s: "
            f"at {size} = {step} it costs {polynomial.evaluate({size: step}):,}"
        )
    return largest


def _last_not_positive(intervals: Signs, last: int | None) -> int | None:
    """The largest t, up to ``last``, with a sign that is not positive: −1 if there is none, None if it is unbounded."""
    for (start, sign), following in reversed(list(zip(intervals, [*intervals[1:], None], strict=True))):
        if sign <= 0 and (last is None or start <= last):
            if following is None:
                return last
            return following[0] - 1 if last is None else min(following[0] - 1, last)
    return -1


def _in_one_size(law: LawTerms, size: str, phase: LawPhase, sizes: Mapping[str, int]) -> Polynomial:
    """A phase as a polynomial in one size, with numbers for the others."""
    if size in sizes:
        raise UsageError(f"{size} is the unknown: give values of the other sizes")
    fixed = {name: value for name, value in law.all_sizes(sizes).items() if name != size}
    return law.polynomial(phase).substitute(fixed)


# -- crossovers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """Values of a size, from ``first`` to ``last``, at which one of two models is cheaper."""

    first: int
    last: int | None
    """None if the interval is unbounded"""
    cheaper_model: str | None
    """None if both cost the same"""

    cheaper = renamed("cheaper_model")

    def __str__(self) -> str:
        return "both cost the same" if self.cheaper_model is None else f"{self.cheaper_model} costs less"


@dataclass(frozen=True)
class Crossover:
    """The intervals of a size in which each of two models is cheaper."""

    size: str
    intervals: tuple[Bounds, ...]
    text: str

    stretches = renamed("intervals")

    @property
    def at(self) -> tuple[int, ...]:
        """The values at which the cheaper model changes."""
        return tuple(interval.first for interval in self.intervals[1:])

    def __str__(self) -> str:
        return self.text


def crossover(first: LawTerms, second: LawTerms, size: str, phase: LawPhase, sizes: Mapping[str, int]) -> Crossover:
    """The intervals between the roots of the difference of two laws, a polynomial in one size.

    Raises:
        UsageError: a law has no such size, or the conventions differ.
    """
    first.check_sizes([size])
    second.check_sizes([size])
    if first.convention != second.convention:
        raise UsageError(
            f"the conventions differ, {first.convention.name} and {second.convention.name}: "
            "compare law.with_convention(…) of one convention"
        )
    for name in sizes:
        if name not in first.sizes and name not in second.sizes:
            raise UsageError(f"neither has a size {name!r}; they have: {', '.join({**first.sizes, **second.sizes})}")
    first_sizes = {name: value for name, value in sizes.items() if name in first.sizes}
    common = {name: value for name, value in first.all_sizes(first_sizes).items() if name in second.sizes}
    del common[size]
    second_sizes = {**common, **{name: value for name, value in sizes.items() if name in second.sizes}}
    difference = _in_one_size(first, size, phase, first_sizes) - _in_one_size(second, size, phase, second_sizes)
    step = _period(difference, size, lcm(first.sizes[size].multiple_of, second.sizes[size].multiple_of))
    names = _display_names(first.model, second.model)
    cheaper = {-1: names[0], 1: names[1], 0: None}
    starts = signs(difference.coefficients(size, step))
    ends = [start - 1 for start, _ in starts[1:]]
    intervals = tuple(
        Bounds(start * step, None if last is None else last * step, cheaper[sign])
        for (start, sign), last in zip(starts, [*ends, None], strict=True)
    )
    return Crossover(size, intervals, _summary(size, intervals, step))


def _display_names(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first != second else (f"{first} (the first)", f"{second} (the second)")


def _summary(size: str, intervals: Sequence[Bounds], step: int) -> str:
    lines = []
    for interval in intervals:
        if interval.last == interval.first:
            values = f"at {size} = {interval.first:,}"
        elif interval.last is None:
            values = f"from {size} = {interval.first:,} on"
        else:
            values = f"from {size} = {interval.first:,} to {interval.last:,}"
        lines.append(f"{values} {interval}")
    return "\n".join(lines) + (f"\n({size} in multiples of {step})" if step > 1 else "")
