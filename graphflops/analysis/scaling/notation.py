"""Text for polynomials, ``B·N·(8·D² + 34)``, and for lists of components, ``layer_0 … layer_3``."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

from graphflops.analysis.scaling.atoms import Atom, Factor, Log2
from graphflops.analysis.scaling.extrema import Extremum
from graphflops.analysis.scaling.one_size import Degree
from graphflops.analysis.scaling.polynomials import (
    Bounds,
    Monomial,
    Polynomial,
    common_factors,
    divide,
    pieces_of,
)

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_polynomial(polynomial: Polynomial, names: Sequence[str]) -> str:
    """A polynomial as text: coefficient first, then the sizes in the order of their names; the highest terms first.

    Common factors stand before a bracket, and pieces one after the other.

    >>> b, n = Polynomial.symbol("B"), Polynomial.symbol("N")
    >>> format_polynomial(2 * b * n * n, ["B", "N"]), format_polynomial(2 * b * n * n + 3 * b, ["B", "N"])
    ('2·B·N²', 'B·(2·N² + 3)')
    """
    return "; ".join(format_pieces(polynomial, names))


def format_pieces(polynomial: Polynomial, names: Sequence[str]) -> list[str]:
    """The pieces of a polynomial as text, each with the sizes for which it holds: ``B·N for N < 700``."""
    texts = []
    for piece in pieces_of(polynomial):
        conditions = [_format_bounds(bounds) for bounds in piece.bounds]
        texts.append(" for ".join(filter(None, (_format_piece(piece.polynomial, names), ", ".join(conditions)))))
    return texts


def _format_bounds(bounds: Bounds) -> str:
    if bounds.first is None:
        return f"{bounds.size} < {bounds.end:,}"
    if bounds.end is None:
        return f"{bounds.size} ≥ {bounds.first:,}"
    return f"{bounds.first:,} ≤ {bounds.size} < {bounds.end:,}"


def _format_piece(polynomial: Polynomial, names: Sequence[str]) -> str:
    if not polynomial:
        return "0"
    common = common_factors(polynomial)
    if len(polynomial.terms) == 1 or not common:
        return _format_sum(polynomial, names)
    numerator = gcd(*(coefficient.numerator for _, coefficient in polynomial))
    denominator = lcm(*(coefficient.denominator for _, coefficient in polynomial))
    bracket = _format_sum(divide(polynomial, common) * Fraction(denominator, numerator), names)
    fraction = f"/{denominator}" if denominator > 1 else ""
    return f"{_format_term(Fraction(numerator), common, names)}·({bracket}){fraction}"


def format_degree(degree: Degree, size: str) -> str:
    """An order of growth: ``O(N²)``, ``O(N·log N)``.

    >>> format_degree(Degree(1, 1), "N"), format_degree(Degree(), "N")
    ('O(N·log N)', 'O(1)')
    """
    power = f"{size}{superscript(degree.power)}" if degree.power else ""
    logarithms = f"log{superscript(degree.logarithms)} {size}" if degree.logarithms else ""
    return f"O({'·'.join(filter(None, (power, logarithms))) or 1})"


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
        powers = [sum(power for factor, power in term[0] if name in factor.sizes) for name in names]
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
    def place(item: tuple[Factor, int]) -> tuple[bool, int, Factor]:
        factor, _ = item
        return len(factor.sizes) > 1, min(map(names.index, factor.sizes)), factor

    factors = sorted(monomial, key=place)
    return "·".join(_format_factor(factor, names) + superscript(power) for factor, power in factors)


def _format_factor(factor: Factor, names: Sequence[str]) -> str:
    match factor:
        case Atom(size, 1):
            return size
        case Atom(size, step, shift) if shift == step - 1:
            return f"⌈{size}/{step}⌉"
        case Atom(size, step, shift):
            return f"⌊{_format_shifted(size, shift)}/{step}⌋"
        case Log2(size, shift):
            return f"⌈log₂ {_format_shifted(size, shift)}⌉"
        case Extremum(members, is_maximum):
            texts = sorted((_format_piece(member, names) for member in members), key=lambda text: _rank(text, names))
            return f"{'max' if is_maximum else 'min'}({', '.join(texts)})"
    raise AssertionError(f"a piece has no {factor!r}")


def _rank(text: str, names: Sequence[str]) -> tuple[int, str]:
    """Members with the first sizes before others, and numbers last."""
    return next((i for i, name in enumerate(names) if name in text), len(names)), text


def _format_shifted(size: str, shift: int) -> str:
    return f"({size} {'−' if shift < 0 else '+'} {abs(shift)})" if shift else size
