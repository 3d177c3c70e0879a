"""Maxima and minima of polynomials, as a peak of memory or a window has them; factors of monomials like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import TYPE_CHECKING, Any

from graphflops.analysis.scaling.atoms import AtLeast, Factor
from graphflops.analysis.scaling.polynomials import Polynomial, common_factors, divide

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True, slots=True)
class Extremum(Factor):
    """The largest or smallest of several polynomials with whole coefficients; ``maximum`` and ``minimum`` make it."""

    members: tuple[Polynomial, ...]
    is_maximum: bool

    @property
    def key(self) -> tuple[Any, ...]:
        """By which factors are sorted."""
        return tuple(sorted(self.sizes)), 3, self.is_maximum, tuple(map(_key, self.members))

    @property
    def sizes(self) -> frozenset[str]:
        """The names of the sizes in all members."""
        return frozenset(size for member in self.members for size in member.sizes)

    @property
    def parts(self) -> frozenset[Factor]:
        """The factors of all members."""
        return frozenset(factor for member in self.members for factor in member.factors)

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value at some sizes."""
        values = [int(member.evaluate(sizes)) for member in self.members]
        return max(values) if self.is_maximum else min(values)

    def among(self, polynomials: Iterable[Polynomial]) -> Polynomial:
        """The largest or smallest of other polynomials, as of these members."""
        return _extremum(polynomials, self.is_maximum)

    def map(self, function: Callable[[Any], Any]) -> Polynomial:
        """The extremum of a function of each member."""
        return self.among(map(function, self.members))

    def as_sympy(self) -> sympy.Expr:
        """``Max`` or ``Min`` of sympy."""
        import sympy

        return (sympy.Max if self.is_maximum else sympy.Min)(*(member.as_sympy() for member in self.members))


def maximum(polynomials: Iterable[Polynomial]) -> Polynomial:
    """The largest of several polynomials at any sizes, as a polynomial, without members that never are the largest.

    >>> n, w = Polynomial.symbol("N"), Polynomial.symbol("W")
    >>> maximum([2 * n, n, n * w]).evaluate({"N": 3, "W": 5})
    15
    """
    return _extremum(polynomials, is_maximum=True)


def minimum(polynomials: Iterable[Polynomial]) -> Polynomial:
    """The smallest of several polynomials at any sizes, itself a polynomial."""
    return _extremum(polynomials, is_maximum=False)


def _extremum(polynomials: Iterable[Polynomial], is_maximum: bool) -> Polynomial:
    members = list(dict.fromkeys(inner for member in polynomials for inner in _inside(member, is_maximum)))
    members = [
        member
        for i, member in enumerate(members)
        if not any(
            _never_negative(other - member if is_maximum else member - other)
            for j, other in enumerate(members)
            if j != i
        )
    ]
    if len(members) == 1:
        return members[0]
    together = Polynomial.sum((1, _absolute(member)) for member in members)
    common = common_factors(together)
    if any(isinstance(factor, AtLeast) for factor, _ in common):
        common = ()
    coefficients = [coefficient for _, coefficient in together]
    scale = Fraction(gcd(*(c.numerator for c in coefficients)), lcm(*(c.denominator for c in coefficients)))
    members = [divide(member, common) * (1 / scale) for member in members]
    return Polynomial({((Extremum(tuple(sorted(members, key=_key)), is_maximum), 1),): scale}) * Polynomial(
        {common: Fraction(1)}
    )


def _inside(polynomial: Polynomial, is_maximum: bool) -> tuple[Polynomial, ...]:
    """The members of a maximum of maxima."""
    if len(polynomial.terms) == 1:
        ((monomial, coefficient),) = polynomial
        if coefficient == 1 and len(monomial) == 1:
            factor, power = monomial[0]
            if power == 1 and isinstance(factor, Extremum) and factor.is_maximum == is_maximum:
                return factor.members
    return (polynomial,)


def _never_negative(polynomial: Polynomial) -> bool:
    """Whether a polynomial has positive coefficients alone, of sizes and of functions of them that are not negative."""
    return all(coefficient > 0 for _, coefficient in polynomial) and all(
        getattr(factor, "shift", 0) >= 0 and not isinstance(factor, Extremum)
        for monomial, _ in polynomial
        for factor, _ in monomial
    )


def _absolute(polynomial: Polynomial) -> Polynomial:
    return Polynomial({monomial: abs(coefficient) for monomial, coefficient in polynomial})


def _key(polynomial: Polynomial) -> tuple[Any, ...]:
    return tuple(polynomial.terms.items())
