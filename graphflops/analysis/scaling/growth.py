"""How costs grow: orders, budgets and where two models cost the same. All of it exact, from the polynomials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm
from typing import TYPE_CHECKING

from graphflops.analysis.scaling.measurement import Quantity
from graphflops.analysis.scaling.notation import exponent, ranges_of, written
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.core.errors import UsageError

if TYPE_CHECKING:
    import sympy

    from graphflops.analysis.scaling.laws import Law, Query


PRINTED = 6
"""how many of the parts that carry an order are printed"""


@dataclass(frozen=True)
class Carrier:
    """A part of a model that grows with the highest power of a size."""

    component: str
    what: str
    law: Polynomial
    """its term in that power"""
    text: str


@dataclass(frozen=True)
class Order:
    """How a cost grows with a size."""

    size: str
    degree: int
    coefficient: sympy.Expr
    """of the highest power, in the other sizes"""
    carriers: tuple[Carrier, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def order(law: Law, size: str, phase: Query) -> Order:
    """The order of growth of a phase, and what carries it: operations by component, the largest first."""
    whole = law.polynomial(phase)
    degree = whole.degree(size)
    names = tuple(law.sizes)
    power = _power(size, degree)
    groups: dict[tuple[str, str], list[Quantity]] = {}
    for each in law.terms:
        groups.setdefault((each.component, each.what), []).append(each)
    found: dict[tuple[str, Polynomial], list[str]] = {}
    for (component, what), members in groups.items():
        part = law.summed(phase, members)
        if part and part.degree(size) == degree:
            found.setdefault((what, part.leading(size) * power), []).append(component)
    base = {name: each.at for name, each in law.sizes.items()}

    def weight(each: tuple[tuple[str, Polynomial], list[str]]) -> Fraction:
        (_, term), components = each
        return Fraction(term(base)) * len(components)

    ranked = sorted(found.items(), key=weight, reverse=True)
    carriers, lines = [], []
    for (what, term), components in ranked:
        where = ranges_of(components)
        text = f"{where}: {what}, {written(term, names)}" + (" each" if len(components) > 1 else "")
        carriers += [Carrier(component, what, term, text) for component in components]
        lines.append(text)
    leading = whole.leading(size)
    head = f"O({size}{exponent(degree)})" if degree else "O(1)"
    said = [f"{head}: {written(leading * power, names)}", *(f"    {each}" for each in lines[:PRINTED])]
    if len(lines) > PRINTED:
        said.append(f"    and {len(lines) - PRINTED} more")
    return Order(size, degree, leading.as_sympy(), tuple(carriers), "\n".join(said))


def _power(size: str, degree: int) -> Polynomial:
    made = Polynomial({(): Fraction(1)})
    for _ in range(degree):
        made = made * Polynomial.of(size)
    return made


# -- signs of a polynomial in one size ---------------------------------------------------------------------------


def signs(coefficients: Sequence[Fraction], first: int = 1) -> list[tuple[int, int]]:
    """Where a polynomial in whole numbers t ≥ first is negative, zero and positive: (from where on, sign), in order.

    >>> signs([Fraction(-4), Fraction(0), Fraction(1)])
    [(1, -1), (2, 0), (3, 1)]
    """
    corners = {first}
    for root in _root_bounds(coefficients):
        corners |= {each for each in (root - 1, root, root + 1, root + 2) if each > first}
    found: list[tuple[int, int]] = []
    for t in sorted(corners):
        value = sum(each * t**i for i, each in enumerate(coefficients))
        sign = (value > 0) - (value < 0)
        if not found or found[-1][1] != sign:
            found.append((t, sign))
    return found


def _root_bounds(coefficients: Sequence[Fraction]) -> Iterable[int]:
    """A whole number next to each real root: roots are isolated in intervals of rationals, shorter than 1."""
    import sympy

    t = sympy.Symbol("t")
    made = sympy.Poly([sympy.Rational(each.numerator, each.denominator) for each in reversed(coefficients)], t)
    if made.degree() < 1:
        return ()
    return {floor(Fraction(int(low.p), int(low.q))) for (low, _), _ in made.intervals(eps=sympy.Rational(1, 2))}


def _along(law: Polynomial, size: str, step: int, residue: int = 0) -> list[Fraction]:
    return law.dense(size, step, residue)


def _period(laws: Iterable[Polynomial], size: str, step: int) -> int:
    return lcm(step, *(atom.step for law in laws for atom in law.atoms if atom.size == size))


# -- budgets -----------------------------------------------------------------------------------------------------


def largest(law: Law, size: str, budget: float, phase: Query, sizes: Mapping[str, int]) -> int:
    """The largest value of a size at which a phase costs no more than a budget."""
    left = _in_one(law, size, phase, sizes)
    allowed = law.sizes[size]
    try:
        limit = Fraction(budget)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the budget must be a number of {law.convention.unit}s, not {budget!r}") from error
    period = _period([left], size, allowed.of)
    best = None
    for residue in range(allowed.of, period + allowed.of, allowed.of):
        coefficients = _along(left, size, period, residue)
        coefficients[0] -= limit
        stretches = signs(coefficients, first=0)
        last = None if allowed.most is None else (allowed.most - residue) // period
        found = _last_within(stretches, last)
        if found is None:
            raise UsageError(
                f"{law.model} stays within {budget:,} {law.convention.unit}s however large {size} is: "
                f"its cost is {written(left, tuple(law.sizes))}"
            )
        if found >= 0:
            best = max(best or 0, period * found + residue)
    if best is None:
        least = left({size: allowed.of})
        raise UsageError(
            f"no {size} keeps {law.model} within {budget:,} {law.convention.unit}s: "
            f"at {size} = {allowed.of} it is {least:,}"
        )
    return best


def _last_within(stretches: list[tuple[int, int]], last: int | None) -> int | None:
    """The last t, up to a last one, at which the sign is not positive: −1 if there is none, None if there is no end."""
    for (start, sign), following in reversed(list(zip(stretches, [*stretches[1:], None], strict=True))):
        if sign <= 0 and (last is None or start <= last):
            if following is None:
                return last
            return following[0] - 1 if last is None else min(following[0] - 1, last)
    return -1


def _in_one(law: Law, size: str, phase: Query, sizes: Mapping[str, int]) -> Polynomial:
    """A phase as a polynomial in one size, with numbers for the others."""
    if size in sizes:
        raise UsageError(f"{size} is what is asked for: give the other sizes")
    filled = law.filled(sizes)
    return law.polynomial(phase).put({name: value for name, value in filled.items() if name != size})


# -- crossovers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """Values of a size, from ``first`` to ``last``, on which one of two models costs less."""

    first: int
    last: int | None
    """None is "and on without end" """
    cheaper: str | None
    """the model that costs less; None if both cost the same"""


@dataclass(frozen=True)
class Crossover:
    """Which of two models costs less, as a size grows."""

    size: str
    stretches: tuple[Stretch, ...]
    text: str

    @property
    def at(self) -> tuple[int, ...]:
        """The values from which on it is another one that costs less, or both cost the same."""
        return tuple(each.first for each in self.stretches[1:])

    def __str__(self) -> str:
        return self.text


def crossover(one: Law, other: Law, size: str, phase: Query, sizes: Mapping[str, int]) -> Crossover:
    """Where two laws are the same: the signs of their difference, which is a polynomial in the size."""
    if one.convention != other.convention:
        raise UsageError(
            f"they count differently, {one.convention.name} and {other.convention.name}: "
            "compare law.under(…) of one convention"
        )
    for name in sizes:
        if name not in one.sizes and name not in other.sizes:
            raise UsageError(f"neither has a size {name!r}; they have: {', '.join({**one.sizes, **other.sizes})}")
    mine = {name: value for name, value in sizes.items() if name in one.sizes}
    shared = {name: value for name, value in one.filled(mine).items() if name in other.sizes and name != size}
    theirs = {**shared, **{name: value for name, value in sizes.items() if name in other.sizes}}
    difference = _in_one(one, size, phase, mine) - _in_one(other, size, phase, theirs)
    step = _period([difference], size, lcm(one.sizes[size].of, other.sizes[size].of))
    names = _told_apart(one.model, other.model)
    cheaper = {-1: names[0], 1: names[1], 0: None}
    found = signs(_along(difference, size, step))
    ends = [start - 1 for start, _ in found[1:]]
    stretches = tuple(
        Stretch(start * step, None if last is None else last * step, cheaper[sign])
        for (start, sign), last in zip(found, [*ends, None], strict=True)
    )
    return Crossover(size, stretches, _said(size, stretches, step))


def _told_apart(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one != other else (f"{one} (the first)", f"{other} (the second)")


def _said(size: str, stretches: Sequence[Stretch], step: int) -> str:
    lines = []
    for each in stretches:
        upto = f"from {size} = {each.first:,}" + (" on" if each.last is None else f" to {each.last:,}")
        if each.last == each.first:
            upto = f"at {size} = {each.first:,}"
        lines.append(f"{upto} {'both cost the same' if each.cheaper is None else f'{each.cheaper} costs less'}")
    return "\n".join(lines) + (f"\n({size} in multiples of {step})" if step > 1 else "")
