"""Rate: how often an Op runs in a step, where data decides. Exact numbers, and what they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from numbers import Rational
from typing import Any, TypeAlias

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value

Number: TypeAlias = "int | float | Fraction"


@dataclass(frozen=True)
class Rate:
    """How often something runs in a step, of what it would be at most: the least, what is expected, and the most.

    ``Rate(0.62)`` is a point. ``Rate(0.3, 0.8)`` are bounds alone; what is expected is then the most, so that no number
    is less than what can happen. ``Rate(0.3, 0.5, 0.8)`` says all three. A float is the decimal number that it is
    written as. A Rate may be more than 1: a block that data has run 3.4 times where the trace sees it once is
    ``Rate(3.4)``.

    >>> Rate(0.62), Rate("2/8")
    (Rate(31/50), Rate(1/4))
    >>> Rate(0.5) * Rate(0.3, 0.8)
    Rate(3/20 – 2/5)

    Raises:
        UsageError: one of them is no number or negative, or they are not in this order.
    """

    least: Fraction
    expected: Fraction
    most: Fraction

    def __init__(self, *numbers: Any) -> None:
        if not 1 <= len(numbers) <= 3:
            raise UsageError(f"a rate has one to three numbers, least, expected and most, not {len(numbers)}")
        exact = tuple(map(exactly, numbers))
        least, expected, most = exact[0], exact[-2] if len(exact) == 3 else exact[-1], exact[-1]
        if not 0 <= least <= expected <= most:
            raise UsageError(f"a rate is not negative, and its numbers rise: not {' – '.join(map(str, exact))}")
        for name, number in (("least", least), ("expected", expected), ("most", most)):
            object.__setattr__(self, name, number)

    @property
    def is_point(self) -> bool:
        """Whether it is one number."""
        return self.least == self.most

    @property
    def bounds(self) -> tuple[Fraction, Fraction, Fraction]:
        """The least, the expected and the most."""
        return self.least, self.expected, self.most

    def __mul__(self, other: Rate | Fraction) -> Rate:
        """Of what runs at one rate inside of what runs at another."""
        others = other.bounds if isinstance(other, Rate) else (other,) * 3
        return Rate(*(mine * its for mine, its in zip(self.bounds, others, strict=True)))

    def __str__(self) -> str:
        if self.is_point:
            return str(self.expected)
        middle = () if self.expected == self.most else (self.expected,)
        return " – ".join(map(str, (self.least, *middle, self.most)))

    def __repr__(self) -> str:
        return f"Rate({self})"


def exactly(number: Any) -> Fraction:
    """A number as a fraction; a float is the decimal number that it is written as.

    >>> exactly(0.62), exactly("5.2")
    (Fraction(31, 50), Fraction(26, 5))

    Raises:
        UsageError: it is no number.
    """
    exact: Fraction | None = None
    if isinstance(number, str):
        exact = _read(number)
    elif isinstance(number, float) and isfinite(number):
        exact = Fraction(repr(float(number)))
    elif isinstance(number, Rational) and not isinstance(number, bool):
        exact = Fraction(int(number.numerator), int(number.denominator))
    if exact is None or max(abs(exact.numerator), exact.denominator) >= _LARGEST:
        raise UsageError(f"{format_value(number)} is no number that a rate can be: write 0.62, Fraction(5, 8) or '5/8'")
    return exact


_DIGITS = 400
"""of a rate above and below its line, more than any float has; so is a text such as ``1e999999999`` never worked out"""
_LARGEST = 10**_DIGITS
_EXPONENT = re.compile(r"[eE]([-+]?\d+)\s*$")


def _read(text: str) -> Fraction | None:
    exponent = _EXPONENT.search(text)
    if len(text) > 2 * _DIGITS + 2 or (exponent and (len(exponent[1]) > 5 or abs(int(exponent[1])) > _DIGITS)):
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


ALWAYS = Rate(1)


def product(rates: Iterable[Rate | Fraction]) -> Rate:
    """The rate of what runs inside of what runs at each of these."""
    result = ALWAYS
    for rate in rates:
        result = result * rate
    return result
