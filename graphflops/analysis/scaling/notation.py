"""Expressions as people write them: ``B·N·(8·D² + 34)``."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

from graphflops.analysis.scaling.polynomials import Atom, Monomial, Polynomial

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def written(law: Polynomial, names: Sequence[str]) -> str:
    """A polynomial: coefficient first, then sizes in the order of their names; the highest terms first.

    What all terms have in common stands before a bracket.

    >>> b, n = Polynomial.of("B"), Polynomial.of("N")
    >>> written(2 * b * n * n, ["B", "N"]), written(2 * b * n * n + 3 * b, ["B", "N"])
    ('2·B·N²', 'B·(2·N² + 3)')
    """
    if not law:
        return "0"
    common = _common(law)
    if len(law.terms) == 1 or not common:
        return _sum(law, names)
    number = gcd(*(each.numerator for _, each in law))
    below = lcm(*(each.denominator for _, each in law))
    inside = _sum(_divided(law, common) * Fraction(below, number), names)
    return f"{_term(Fraction(number), common, names)}·({inside})" + (f"/{below}" if below > 1 else "")


def exponent(power: int) -> str:
    """A power as it is written: nothing for 1, ² for 2."""
    return "" if power == 1 else str(power).translate(_SUPERSCRIPTS)


def ranges_of(components: Sequence[str]) -> str:
    """Names of components, numbered ones together: ``layer_0 … layer_3``.

    >>> ranges_of(["layer_0", "layer_1", "layer_2", "head"])
    'layer_0 … layer_2, head'
    """
    runs: list[list[str]] = []
    for name in components:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} … {run[-1]}" for run in runs)


def _follows(name: str, other: str) -> bool:
    head, number = _numbered(name)
    return number is not None and _numbered(other) == (head, number + 1)


def _numbered(name: str) -> tuple[str, int | None]:
    digits = len(name) - len(name.rstrip("0123456789"))
    return (name[:-digits], int(name[-digits:])) if digits else (name, None)


def _sum(law: Polynomial, names: Sequence[str]) -> str:
    def rank(term: tuple[Monomial, Fraction]) -> tuple[int, list[int]]:
        powers = [sum(power for atom, power in term[0] if atom.size == name) for name in names]
        return -sum(powers), [-each for each in powers]

    text = ""
    for monomial, coefficient in sorted(law, key=rank):
        sign = "−" if coefficient < 0 else "+"
        text += f" {sign} " if text else sign.strip("+")
        text += _term(abs(coefficient), monomial, names)
    return text


def _term(coefficient: Fraction, monomial: Monomial, names: Sequence[str]) -> str:
    factors = _factors(monomial, names)
    number = f"{coefficient.numerator:,}"
    text = factors if factors and coefficient.numerator == 1 else "·".join(filter(None, (number, factors)))
    return text if coefficient.denominator == 1 else f"{text}/{coefficient.denominator}"


def _factors(monomial: Monomial, names: Sequence[str]) -> str:
    order = sorted(monomial, key=lambda each: (names.index(each[0].size), each[0]))
    return "·".join(f"{_atom(atom)}{exponent(power)}" for atom, power in order)


def _atom(atom: Atom) -> str:
    if atom.step == 1:
        return atom.size
    if atom.shift == atom.step - 1:
        return f"⌈{atom.size}/{atom.step}⌉"
    sign = "−" if atom.shift < 0 else "+"
    inside = f"({atom.size} {sign} {abs(atom.shift)})" if atom.shift else atom.size
    return f"⌊{inside}/{atom.step}⌋"


def _common(law: Polynomial) -> Monomial:
    """What divides all monomials."""
    shared: dict[Atom, int] | None = None
    for monomial, _ in law:
        powers = dict(monomial)
        shared = powers if shared is None else {a: min(p, powers[a]) for a, p in shared.items() if a in powers}
    return tuple(sorted((shared or {}).items()))


def _divided(law: Polynomial, by: Monomial) -> Polynomial:
    divisor = dict(by)
    return Polynomial(
        {
            tuple(
                (atom, power - divisor.get(atom, 0)) for atom, power in monomial if power > divisor.get(atom, 0)
            ): each
            for monomial, each in law
        }
    )
