"""Polynomials in sizes with exact coefficients; a size may appear as a floor, ⌊(N + a)/s⌋.

``sympy.polys.rings`` has no floors, evaluates eleven times slower, and takes a third of a second to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True, slots=True, order=True)
class Atom:
    """⌊(size + shift) / step⌋; the size itself, if step is 1 and shift 0.

    >>> Atom("N", 32, 31).evaluate({"N": 33})
    2
    """

    size: str
    step: int = 1
    shift: int = 0

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value at some sizes."""
        return self.floor(sizes[self.size])

    def floor(self, value: int) -> int:
        """The value where the size has this value."""
        return (value + self.shift) // self.step


Monomial: TypeAlias = tuple[tuple[Atom, int], ...]
"""factors and their powers, sorted; ``()`` is 1"""
Monomials: TypeAlias = frozenset[Monomial]


def product(first: Monomial, second: Monomial) -> Monomial:
    """The product of two monomials."""
    powers = dict(first)
    for atom, power in second:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items()))


def evaluate_monomial(monomial: Monomial, sizes: Mapping[str, int]) -> int:
    """The value of a monomial at some sizes."""
    return prod(atom.evaluate(sizes) ** power for atom, power in monomial)


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
        return cls({((Atom(size), 1),): Fraction(1)})

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
        value = sum(
            (coefficient * evaluate_monomial(monomial, sizes) for monomial, coefficient in self.terms.items()),
            Fraction(0),
        )
        return value.numerator if value.denominator == 1 else value

    @property
    def atoms(self) -> frozenset[Atom]:
        """The sizes and floors in the polynomial."""
        return frozenset(atom for monomial in self.terms for atom, _ in monomial)

    @property
    def sizes(self) -> frozenset[str]:
        """The names of the sizes in the polynomial."""
        return frozenset(atom.size for atom in self.atoms)

    def substitute(self, sizes: Mapping[str, int]) -> Polynomial:
        """The polynomial in the remaining sizes, with numbers for these."""
        terms: dict[Monomial, Fraction] = {}
        for monomial, coefficient in self.terms.items():
            remaining = tuple((atom, power) for atom, power in monomial if atom.size not in sizes)
            number = evaluate_monomial(tuple(factor for factor in monomial if factor[0].size in sizes), sizes)
            terms[remaining] = terms.get(remaining, Fraction(0)) + coefficient * number
        return Polynomial(terms)

    def degree(self, size: str) -> int:
        """The degree in a size; ⌊(N + a)/s⌋ has degree 1 in N."""
        return max((_degree(monomial, size) for monomial in self.terms), default=0)

    def leading_coefficient(self, size: str) -> Polynomial:
        """The coefficient of the highest power of a size, a polynomial in the other sizes."""
        degree = self.degree(size)
        terms: dict[Monomial, Fraction] = {}
        for monomial, coefficient in self.terms.items():
            if _degree(monomial, size) == degree:
                remaining = tuple(factor for factor in monomial if factor[0].size != size)
                steps = prod(atom.step**power for atom, power in monomial if atom.size == size)
                terms[remaining] = terms.get(remaining, Fraction(0)) + coefficient / steps
        return Polynomial(terms)

    def coefficients(self, size: str, step: int = 1, residue: int = 0) -> list[Fraction]:
        """The coefficients in t, constant first, with ``size = step·t + residue`` the only size in the polynomial.

        ``step`` must be a multiple of the steps of all floors, so that ⌊(step·t + residue + a)/s⌋ is linear in t.
        """
        total = [Fraction(0)] * (self.degree(size) + 1)
        for monomial, coefficient in self.terms.items():
            row = [coefficient]
            for atom, power in monomial:
                for _ in range(power):
                    row = _times_linear(row, atom.floor(residue), step // atom.step)
            for i, value in enumerate(row):
                total[i] += value
        return total

    def as_sympy(self) -> sympy.Expr:
        """The polynomial in sympy, in symbols that are positive integers."""
        import sympy

        addends = (
            sympy.Rational(coefficient.numerator, coefficient.denominator) * sympy.Mul(*map(_sympy_power, monomial))
            for monomial, coefficient in self.terms.items()
        )
        return sympy.Add(*addends)


def _degree(monomial: Monomial, size: str) -> int:
    return sum(power for atom, power in monomial if atom.size == size)


def _times_linear(row: list[Fraction], constant: int, slope: int) -> list[Fraction]:
    """The coefficients of a polynomial in t times (constant + slope·t)."""
    product = [coefficient * constant for coefficient in row] + [Fraction(0)]
    for i, coefficient in enumerate(row):
        product[i + 1] += coefficient * slope
    return product


def _sympy_power(factor: tuple[Atom, int]) -> sympy.Expr:
    import sympy

    atom, power = factor
    size = sympy.Symbol(atom.size, integer=True, positive=True)
    base = size if atom == Atom(atom.size) else sympy.floor((size + atom.shift) / atom.step)
    return base**power
