"""Polynomials with exact coefficients in sizes, and in functions of sizes: floors, logarithms, steps, maxima.

``sympy.polys.rings`` has no floors, evaluates eleven times slower, and takes a third of a second to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from graphflops.analysis.scaling.atoms import AtLeast, Atom, Factor

if TYPE_CHECKING:
    import sympy


Monomial: TypeAlias = tuple[tuple[Factor, int], ...]
"""factors and their powers, sorted; ``()`` is 1"""
Monomials: TypeAlias = frozenset[Monomial]


def product(first: Monomial, second: Monomial) -> Monomial:
    """The product of two monomials."""
    powers = dict(first)
    for factor, power in second:
        powers[factor] = powers.get(factor, 0) + power
    steps: dict[str, AtLeast] = {}
    for factor in powers:
        if isinstance(factor, AtLeast) and (factor.size not in steps or steps[factor.size] < factor):
            steps[factor.size] = factor
    if steps:  # of several steps of a size the last one is their product
        powers = {factor: power for factor, power in powers.items() if not isinstance(factor, AtLeast)}
        powers |= dict.fromkeys(steps.values(), 1)
    return tuple(sorted(powers.items()))


def evaluate_monomial(monomial: Monomial, sizes: Mapping[str, int]) -> int:
    """The value of a monomial at some sizes."""
    return prod(factor.evaluate(sizes) ** power for factor, power in monomial)


@dataclass(frozen=True)
class Polynomial:
    """A sum of monomials with exact coefficients.

    >>> n = Polynomial.symbol("N")
    >>> (n * n + 3 * n).evaluate({"N": 10})
    130
    """

    terms: Mapping[Monomial, Fraction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nonzero = {
            monomial: Fraction(coefficient) for monomial, coefficient in sorted(self.terms.items()) if coefficient
        }
        object.__setattr__(self, "terms", nonzero)

    @classmethod
    def symbol(cls, size: str) -> Polynomial:
        """The polynomial that is a size itself."""
        return cls.monomial(Atom(size))

    @classmethod
    def monomial(cls, *factors: Factor) -> Polynomial:
        """The product of some factors; 1 if there are none."""
        monomial: Monomial = ()
        for factor in factors:
            monomial = product(monomial, ((factor, 1),))
        return cls({monomial: Fraction(1)})

    @classmethod
    def sum(cls, addends: Iterable[tuple[int | Fraction, Polynomial]]) -> Polynomial:
        """The sum of polynomials, each times a number."""
        terms: dict[Monomial, Fraction] = {}
        for factor, polynomial in addends:
            for monomial, coefficient in polynomial.terms.items():
                terms[monomial] = terms.get(monomial, Fraction(0)) + factor * coefficient
        return cls(terms)

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial.sum([(1, self), (1, other)])

    def __sub__(self, other: Polynomial) -> Polynomial:
        return Polynomial.sum([(1, self), (-1, other)])

    def __mul__(self, other: Polynomial | int | Fraction) -> Polynomial:
        if not isinstance(other, Polynomial):
            return Polynomial.sum([(other, self)])
        terms: dict[Monomial, Fraction] = {}
        for first, a in self.terms.items():
            for second, b in other.terms.items():
                monomial = product(first, second)
                terms[monomial] = terms.get(monomial, Fraction(0)) + a * b
        return Polynomial(terms)

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __hash__(self) -> int:
        return hash(tuple(self.terms.items()))

    def __iter__(self) -> Iterator[tuple[Monomial, Fraction]]:
        return iter(self.terms.items())

    def evaluate(self, sizes: Mapping[str, int]) -> int | Fraction:
        """The value at some sizes, an int wherever it is whole."""
        value: int | Fraction = 0
        for monomial, coefficient in self.terms.items():
            number = coefficient.numerator if coefficient.denominator == 1 else coefficient
            value += number * evaluate_monomial(monomial, sizes)
        return value.numerator if value.denominator == 1 else value

    @property
    def factors(self) -> frozenset[Factor]:
        """The sizes and functions of sizes in the polynomial, also those inside of a maximum or minimum."""
        return frozenset(part for monomial in self.terms for factor, _ in monomial for part in factor.parts)

    @property
    def sizes(self) -> frozenset[str]:
        """The names of the sizes in the polynomial."""
        return frozenset(size for monomial in self.terms for factor, _ in monomial for size in factor.sizes)

    def replace(self, replacement: Callable[[Factor], Polynomial | int | None]) -> Polynomial:
        """The polynomial with another one, or a number, for some factors; None leaves a factor."""
        total: list[tuple[int | Fraction, Polynomial]] = []
        for monomial, coefficient in self.terms.items():
            kept, others = [], []
            for factor, power in monomial:
                other = replacement(factor)
                if other is None:
                    kept.append((factor, power))
                elif isinstance(other, Polynomial):
                    others += [other] * power
                else:
                    coefficient *= other**power
            term = Polynomial({tuple(kept): Fraction(1)})
            for other in others:
                term = term * other
            total.append((coefficient, term))
        return Polynomial.sum(total)

    def substitute(self, sizes: Mapping[str, int]) -> Polynomial:
        """The polynomial in the remaining sizes, with numbers for these."""

        def replacement(factor: Factor) -> Polynomial | int | None:
            if factor.sizes <= sizes.keys():
                return factor.evaluate(sizes)
            return None if factor.sizes.isdisjoint(sizes) else factor.map(lambda member: member.substitute(sizes))

        return self.replace(replacement)

    def as_sympy(self) -> sympy.Expr:
        """The polynomial in sympy, in symbols that are positive integers; a ``Piecewise`` if it has pieces."""
        import sympy

        pieces = [
            (
                sympy.Add(
                    *(
                        sympy.Rational(coefficient.numerator, coefficient.denominator)
                        * sympy.Mul(*(factor.as_sympy() ** power for factor, power in monomial))
                        for monomial, coefficient in piece.polynomial
                    )
                ),
                sympy.And(*(condition for bounds in piece.bounds for condition in bounds.as_sympy())),
            )
            for piece in pieces_of(self)
        ]
        return pieces[0][0] if len(pieces) == 1 else sympy.Piecewise(*pieces)


def common_factors(polynomial: Polynomial) -> Monomial:
    """The greatest common divisor of all monomials."""
    common: dict[Factor, int] | None = None
    for monomial, _ in polynomial:
        powers = dict(monomial)
        if common is None:
            common = powers
        else:
            common = {factor: min(power, powers[factor]) for factor, power in common.items() if factor in powers}
    return tuple(sorted((common or {}).items()))


def divide(polynomial: Polynomial, divisor: Monomial) -> Polynomial:
    """The polynomial without common factors."""
    powers = dict(divisor)
    return Polynomial(
        {
            tuple(
                (factor, power - powers.get(factor, 0)) for factor, power in monomial if power > powers.get(factor, 0)
            ): coefficient
            for monomial, coefficient in polynomial
        }
    )


# -- pieces ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """The values of a size in a piece, from ``first`` on, to below ``end``."""

    size: str
    first: int | None
    """None if the piece has the smallest values"""
    end: int | None
    """None if the piece has the largest values"""

    def as_sympy(self) -> list[sympy.Rel]:
        """The conditions in sympy."""
        symbol = Atom(self.size).symbol
        lower = [] if self.first is None else [symbol >= self.first]
        return lower if self.end is None else [*lower, symbol < self.end]


@dataclass(frozen=True)
class Piece:
    """A polynomial without steps, and where it holds."""

    bounds: tuple[Bounds, ...]
    polynomial: Polynomial


def pieces_of(polynomial: Polynomial) -> list[Piece]:
    """The pieces of a polynomial: one for each interval of each size in which it has steps.

    >>> n = Polynomial.symbol("N")
    >>> jump = Polynomial({((AtLeast("N", 700), 1),): Fraction(5)})
    >>> [(piece.bounds[0].first, piece.bounds[0].end) for piece in pieces_of(n + jump)]
    [(None, 700), (700, None)]
    """
    steps = sorted(factor for factor in polynomial.factors if isinstance(factor, AtLeast))
    if not steps:
        return [Piece((), polynomial)]
    size = steps[0].size
    starts = [None, *(step.value for step in steps if step.size == size)]
    pieces = []
    for first, end in zip(starts, [*starts[1:], None], strict=True):
        inside = polynomial.replace(_steps_at(size, 0 if first is None else first))
        pieces += [Piece((Bounds(size, first, end), *piece.bounds), piece.polynomial) for piece in pieces_of(inside)]
    return pieces


def tail(polynomial: Polynomial, size: str) -> Polynomial:
    """The last piece of a polynomial in a size."""
    values = [step.value for step in polynomial.factors if isinstance(step, AtLeast) and step.size == size]
    return polynomial.replace(_steps_at(size, max(values))) if values else polynomial


def _steps_at(size: str, value: int) -> Callable[[Factor], Polynomial | int | None]:
    """The replacement of the steps of a size where it has a value."""

    def replacement(factor: Factor) -> Polynomial | int | None:
        if isinstance(factor, AtLeast):
            return factor.at(value) if factor.size == size else None
        return None if factor.parts == {factor} else factor.map(lambda member: member.replace(replacement))

    return replacement
