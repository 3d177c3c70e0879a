"""Closed forms of sums of polynomials over a size."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import comb

from graphflops.analysis.scaling.atoms import Atom
from graphflops.analysis.scaling.polynomials import Monomial, Polynomial


def sum_below(polynomial: Polynomial, size: str) -> Polynomial:
    """The sum of a polynomial over 0 ≤ size < X, in which the size stands for X.

    >>> n = Polynomial.symbol("n")
    >>> sum_below(n, "n").evaluate({"n": 5})
    10
    """
    return Polynomial.sum(
        (coefficient, _power_sum(power, size) * Polynomial({rest: Fraction(1)}))
        for monomial, coefficient in polynomial
        for power, rest in (_split(monomial, size),)
    )


def compose(polynomial: Polynomial, size: str, value: Polynomial) -> Polynomial:
    """The polynomial with another one in the place of a size."""
    result = Polynomial()
    for monomial, coefficient in polynomial:
        power, rest = _split(monomial, size)
        factor = Polynomial({rest: coefficient})
        for _ in range(power):
            factor = factor * value
        result = result + factor
    return result


def _split(monomial: Monomial, size: str) -> tuple[int, Monomial]:
    """The power of a size in a monomial, and the other factors."""
    return dict(monomial).get(Atom(size), 0), tuple(item for item in monomial if item[0] != Atom(size))


def _power_sum(power: int, size: str) -> Polynomial:
    """0ᵖ + 1ᵖ + … + (X − 1)ᵖ, by Faulhaber's formula."""
    p = power
    coefficients = {p + 1 - k: Fraction(comb(p + 1, k)) * _bernoulli(k) / (p + 1) for k in range(p + 1)}
    return Polynomial({((Atom(size), degree),): coefficient for degree, coefficient in coefficients.items()})


@cache
def _bernoulli(n: int) -> Fraction:
    """The Bernoulli number, B₁ = −1/2."""
    if n == 0:
        return Fraction(1)
    return -sum((comb(n + 1, k) * _bernoulli(k) for k in range(n)), Fraction(0)) / (n + 1)
