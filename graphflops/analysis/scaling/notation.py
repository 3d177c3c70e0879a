"""Text for polynomials, ``B·N·(8·D² + 34)``, and for lists of components, ``layer_0 … layer_3``."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

from graphflops.analysis.scaling.polynomials import Atom, Monomial, Polynomial

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_polynomial(polynomial: Polynomial, names: Sequence[str]) -> str:
    """A polynomial as text: coefficient first, then the sizes in the order of their names; the highest terms first.

    Common factors stand before a bracket.

    >>> b, n = Polynomial.symbol("B"), Polynomial.symbol("N")
    >>> format_polynomial(2 * b * n * n, ["B", "N"]), format_polynomial(2 * b * n * n + 3 * b, ["B", "N"])
    ('2·B·N²', 'B·(2·N² + 3)')
    """
    if not polynomial:
        return "0"
    common = _common_factors(polynomial)
    if len(polynomial.terms) == 1 or not common:
        return _format_sum(polynomial, names)
    numerator = gcd(*(coefficient.numerator for _, coefficient in polynomial))
    denominator = lcm(*(coefficient.denominator for _, coefficient in polynomial))
    bracket = _format_sum(_divide(polynomial, common) * Fraction(denominator, numerator), names)
    fraction = f"/{denominator}" if denominator > 1 else ""
    return f"{_format_term(Fraction(numerator), common, names)}·({bracket}){fraction}"


def superscript(power: int) -> str:
    """The exponent of a power: nothing for 1, ² for 2."""
    return "" if power == 1 else str(power).translate(_SUPERSCRIPTS)


def format_components(components: Sequence[str]) -> str:
    """Names of components, consecutive numbers as a range.

    >>> format_components(["layer_0", "layer_1", "layer_2", "head"])
    'layer_0 … layer_2, head'
    """
    runs: list[list[str]] = []
    for name in components:
        if runs and _is_next(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} … {run[-1]}" for run in runs)


def _is_next(name: str, following: str) -> bool:
    prefix, number = _split_number(name)
    return number is not None and _split_number(following) == (prefix, number + 1)


def _split_number(name: str) -> tuple[str, int | None]:
    digits = len(name) - len(name.rstrip("0123456789"))
    return (name[:-digits], int(name[-digits:])) if digits else (name, None)


def _format_sum(polynomial: Polynomial, names: Sequence[str]) -> str:
    def rank(term: tuple[Monomial, Fraction]) -> tuple[int, list[int]]:
        powers = [sum(power for atom, power in term[0] if atom.size == name) for name in names]
        return -sum(powers), [-power for power in powers]

    text = ""
    for monomial, coefficient in sorted(polynomial, key=rank):
        sign = "−" if coefficient < 0 else "+"
        text += f" {sign} " if text else sign.strip("+")
        text += _format_term(abs(coefficient), monomial, names)
    return text


def _format_term(coefficient: Fraction, monomial: Monomial, names: Sequence[str]) -> str:
    factors = _format_monomial(monomial, names)
    number = f"{coefficient.numerator:,}"
    text = factors if factors and coefficient.numerator == 1 else "·".join(filter(None, (number, factors)))
    return text if coefficient.denominator == 1 else f"{text}/{coefficient.denominator}"


def _format_monomial(monomial: Monomial, names: Sequence[str]) -> str:
    factors = sorted(monomial, key=lambda factor: (names.index(factor[0].size), factor[0]))
    return "·".join(f"{_format_atom(atom)}{superscript(power)}" for atom, power in factors)


def _format_atom(atom: Atom) -> str:
    if atom.step == 1:
        return atom.size
    if atom.shift == atom.step - 1:
        return f"⌈{atom.size}/{atom.step}⌉"
    sign = "−" if atom.shift < 0 else "+"
    numerator = f"({atom.size} {sign} {abs(atom.shift)})" if atom.shift else atom.size
    return f"⌊{numerator}/{atom.step}⌋"


def _common_factors(polynomial: Polynomial) -> Monomial:
    """The greatest common divisor of all monomials."""
    common: dict[Atom, int] | None = None
    for monomial, _ in polynomial:
        powers = dict(monomial)
        if common is None:
            common = powers
        else:
            common = {atom: min(power, powers[atom]) for atom, power in common.items() if atom in powers}
    return tuple(sorted((common or {}).items()))


def _divide(polynomial: Polynomial, divisor: Monomial) -> Polynomial:
    powers = dict(divisor)
    return Polynomial(
        {
            tuple(
                (atom, power - powers.get(atom, 0)) for atom, power in monomial if power > powers.get(atom, 0)
            ): coefficient
            for monomial, coefficient in polynomial
        }
    )
