"""Rate: how often an op runs in a step where data decides, in exact numbers."""

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
from graphflops.core.retired import renamed

Number: TypeAlias = "int | float | Fraction"


@dataclass(frozen=True)
class Rate:
    """How often something runs in a step, relative to the trace: a lower bound, the expected value, an upper bound.

    ``Rate(0.62)`` is one number. ``Rate(0.3, 0.8)`` has bounds only; the expected value is then the upper bound, so
    that no count is too small. ``Rate(0.3, 0.5, 0.8)`` gives all three. A float is taken as the decimal number that it
    prints as. A rate may exceed 1: a block that runs 3.4 times on average, and once in the trace, is ``Rate(3.4)``.

    >>> Rate(0.62), Rate("2/8")
    (Rate(31/50), Rate(1/4))
    >>> Rate(0.5) * Rate(0.3, 0.8)
    Rate(3/20 – 2/5)

    Raises:
        UsageError: a number is invalid or negative, or the numbers do not rise.
    """

    lower: Fraction
    expected: Fraction
    upper: Fraction

    least, most = renamed("lower"), renamed("upper")

    def __init__(self, *numbers: Any) -> None:
        if not 1 <= len(numbers) <= 3:
            raise UsageError(f"a rate has one to three numbers (lower, expected, upper), not {len(numbers)}")
        exact = tuple(map(to_fraction, numbers))
        lower, expected, upper = exact[0], exact[-2] if len(exact) == 3 else exact[-1], exact[-1]
        if not 0 <= lower <= expected <= upper:
            raise UsageError(f"the numbers of a rate must rise from 0 or more, not {' – '.join(map(str, exact))}")
        for name, number in (("lower", lower), ("expected", expected), ("upper", upper)):
            object.__setattr__(self, name, number)

    @property
    def is_point(self) -> bool:
        """Whether both bounds are the same number."""
        return self.lower == self.upper

    @property
    def bounds(self) -> tuple[Fraction, Fraction, Fraction]:
        """The lower bound, the expected value and the upper bound."""
        return self.lower, self.expected, self.upper

    def __mul__(self, other: Rate | Fraction) -> Rate:
        """The rate of what runs at one rate inside of what runs at another."""
        factors = other.bounds if isinstance(other, Rate) else (other,) * 3
        return Rate(*(number * factor for number, factor in zip(self.bounds, factors, strict=True)))

    def __str__(self) -> str:
        if self.is_point:
            return str(self.expected)
        middle = () if self.expected == self.upper else (self.expected,)
        return " – ".join(map(str, (self.lower, *middle, self.upper)))

    def __repr__(self) -> str:
        return f"Rate({self})"


def to_fraction(number: Any) -> Fraction:
    """A number as an exact fraction; a float is taken as the decimal number that it prints as.

    >>> to_fraction(0.62), to_fraction("5.2")
    (Fraction(31, 50), Fraction(26, 5))

    Raises:
        UsageError: it is not a finite number.
    """
    exact: Fraction | None = None
    if isinstance(number, str):
        exact = _parse(number)
    elif isinstance(number, float) and isfinite(number):
        exact = Fraction(repr(float(number)))
    elif isinstance(number, Rational) and not isinstance(number, bool):
        exact = Fraction(int(number.numerator), int(number.denominator))
    if exact is None or max(abs(exact.numerator), exact.denominator) >= _MAX_INTEGER:
        raise UsageError(f"invalid rate {format_value(number)}; expected 0.62, Fraction(5, 8) or '5/8'")
    return exact


_MAX_DIGITS = 400
"""digits of a numerator or denominator, more than any float has: a text such as ``1e999999999`` is never evaluated"""
_MAX_INTEGER = 10**_MAX_DIGITS
_EXPONENT = re.compile(r"[eE]([-+]?\d+)\s*$")


def _parse(text: str) -> Fraction | None:
    exponent = _EXPONENT.search(text)
    if len(text) > 2 * _MAX_DIGITS + 2 or (exponent and (len(exponent[1]) > 5 or abs(int(exponent[1])) > _MAX_DIGITS)):
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


RATE_ONE = Rate(1)


def product(rates: Iterable[Rate | Fraction]) -> Rate:
    """The product of rates: how often something runs inside of all of them."""
    result = RATE_ONE
    for rate in rates:
        result = result * rate
    return result
