"""Polynomials in sizes, with exact coefficients; a size may stand in them as what a stride leaves of it."""

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
    """⌊(size + shift) / step⌋; a size as it is, if step is 1 and shift 0.

    >>> Atom("N", 32, 31).at({"N": 33})
    2
    """

    size: str
    step: int = 1
    shift: int = 0

    def at(self, sizes: Mapping[str, int]) -> int:
        """Its value."""
        return self.of(sizes[self.size])

    def of(self, value: int) -> int:
        """Its value where the size has this one."""
        return (value + self.shift) // self.step


Monomial: TypeAlias = tuple[tuple[Atom, int], ...]
"""factors and their powers, sorted; ``()`` is 1"""


def product(one: Monomial, other: Monomial) -> Monomial:
    """The product of two monomials."""
    powers = dict(one)
    for atom, power in other:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items()))


def value_of(monomial: Monomial, sizes: Mapping[str, int]) -> int:
    """What a monomial is at some sizes."""
    return prod(atom.at(sizes) ** power for atom, power in monomial)


@dataclass(frozen=True)
class Polynomial:
    """A sum of monomials, each with its coefficient. It adds, scales, and is exact.

    >>> n = Polynomial.of("N")
    >>> (n * n + 3 * n)({"N": 10})
    130
    """

    terms: Mapping[Monomial, Fraction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {monomial: Fraction(each) for monomial, each in sorted(self.terms.items()) if each}
        object.__setattr__(self, "terms", kept)

    @classmethod
    def of(cls, size: str) -> Polynomial:
        """A size itself."""
        return cls({((Atom(size), 1),): Fraction(1)})

    @classmethod
    def sum(cls, addends: Iterable[tuple[int | Fraction, Polynomial]]) -> Polynomial:
        """The sum of polynomials, each times a number."""
        terms: dict[Monomial, Fraction] = {}
        for times, each in addends:
            for monomial, coefficient in each.terms.items():
                terms[monomial] = terms.get(monomial, Fraction(0)) + times * coefficient
        return cls(terms)

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial.sum([(1, self), (1, other)])

    def __sub__(self, other: Polynomial) -> Polynomial:
        return Polynomial.sum([(1, self), (-1, other)])

    def __mul__(self, other: Polynomial | int | Fraction) -> Polynomial:
        if not isinstance(other, Polynomial):
            return Polynomial.sum([(other, self)])
        terms: dict[Monomial, Fraction] = {}
        for one, a in self.terms.items():
            for two, b in other.terms.items():
                monomial = product(one, two)
                terms[monomial] = terms.get(monomial, Fraction(0)) + a * b
        return Polynomial(terms)

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __hash__(self) -> int:
        return hash(tuple(self.terms.items()))

    def __call__(self, sizes: Mapping[str, int]) -> int | Fraction:
        """The value at some sizes: an int wherever it is whole."""
        value = sum((each * value_of(monomial, sizes) for monomial, each in self.terms.items()), Fraction(0))
        return value.numerator if value.denominator == 1 else value

    @property
    def atoms(self) -> frozenset[Atom]:
        """What it is made of."""
        return frozenset(atom for monomial in self.terms for atom, _ in monomial)

    @property
    def sizes(self) -> frozenset[str]:
        """The names of the sizes that it depends on."""
        return frozenset(atom.size for atom in self.atoms)

    def put(self, sizes: Mapping[str, int]) -> Polynomial:
        """The polynomial in the other sizes, with numbers for these."""
        terms: dict[Monomial, Fraction] = {}
        for monomial, coefficient in self.terms.items():
            left = tuple((atom, power) for atom, power in monomial if atom.size not in sizes)
            known = value_of(tuple(each for each in monomial if each[0].size in sizes), sizes)
            terms[left] = terms.get(left, Fraction(0)) + coefficient * known
        return Polynomial(terms)

    def degree(self, size: str) -> int:
        """The degree in a size: ⌊(N + a)/s⌋ grows as N does."""
        return max((_degree(monomial, size) for monomial in self.terms), default=0)

    def leading(self, size: str) -> Polynomial:
        """The coefficient of the highest power of a size, a polynomial in the others."""
        degree = self.degree(size)
        terms: dict[Monomial, Fraction] = {}
        for monomial, coefficient in self.terms.items():
            if _degree(monomial, size) == degree:
                left = tuple(each for each in monomial if each[0].size != size)
                steps = prod(atom.step**power for atom, power in monomial if atom.size == size)
                terms[left] = terms.get(left, Fraction(0)) + coefficient / steps
        return Polynomial(terms)

    def dense(self, size: str, step: int = 1, residue: int = 0) -> list[Fraction]:
        """The coefficients in t, from the constant on, where ``size = step·t + residue`` and it is the only size.

        ``step`` has to be a multiple of all steps in it, so that ⌊(step·t + residue + a)/s⌋ is linear in t.
        """
        total = [Fraction(0)] * (self.degree(size) + 1)
        for monomial, coefficient in self.terms.items():
            row = [coefficient]
            for atom, power in monomial:
                for _ in range(power):
                    row = _times(row, atom.of(residue), step // atom.step)
            for i, each in enumerate(row):
                total[i] += each
        return total

    def as_sympy(self) -> sympy.Expr:
        """The same in sympy, in symbols that are positive whole numbers."""
        import sympy

        addends = (
            sympy.Rational(each.numerator, each.denominator) * sympy.Mul(*map(_power, monomial))
            for monomial, each in self.terms.items()
        )
        return sympy.Add(*addends)

    def __iter__(self) -> Iterator[tuple[Monomial, Fraction]]:
        return iter(self.terms.items())


def _degree(monomial: Monomial, size: str) -> int:
    return sum(power for atom, power in monomial if atom.size == size)


def _times(row: list[Fraction], constant: int, slope: int) -> list[Fraction]:
    """A polynomial in t times (constant + slope·t)."""
    made = [each * constant for each in row] + [Fraction(0)]
    for i, each in enumerate(row):
        made[i + 1] += each * slope
    return made


def _power(factor: tuple[Atom, int]) -> sympy.Expr:
    import sympy

    atom, power = factor
    size = sympy.Symbol(atom.size, integer=True, positive=True)
    whole = size if atom == Atom(atom.size) else sympy.floor((size + atom.shift) / atom.step)
    return whole**power
