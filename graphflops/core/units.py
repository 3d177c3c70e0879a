"""Numbers for people: SI prefixes and percentages."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_SI = re.compile(
    r"\s*(?P<number>\d{1,30}(?:,\d{3})*(?:\.\d{1,30})?(?:e\+?\d{1,2})?)\s*(?P<prefix>[kKMGTPEZY])?(?:FLOPs?|MACs?)?\s*"
)


def format_si(number: int) -> str:
    """A number with three digits and an SI prefix.

    >>> format_si(16_287_760_384), format_si(139_264), format_si(7), format_si(0)
    ('16.3 G', '139 k', '7', '0')
    """
    exponent = si_exponent(number)
    return f"{format_scaled(number, exponent)} {_PREFIXES[exponent]}".rstrip()


def parse_si(value: object) -> Fraction:
    """The number of a text with an SI prefix, or of an integer; the unit FLOP, FLOPs or MACs may follow.

    >>> parse_si("16.4 G"), parse_si("26M"), parse_si(7)
    (Fraction(16400000000, 1), Fraction(26000000, 1), Fraction(7, 1))

    Raises:
        UsageError: it is no such number, or is negative.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Fraction(value)
    if isinstance(value, str) and (match := _SI.fullmatch(value)):
        prefix = match["prefix"] or ""
        scale: int = 1000 ** _PREFIXES.index("k" if prefix == "K" else prefix)
        return Fraction(match["number"].replace(",", "")) * scale
    raise UsageError(f"invalid number {format_value(value)}: expected a number such as '16.4 G' or 26000000")


def format_limit(number: int) -> str:
    """A number rounded up to four digits, with an SI prefix: the smallest such limit that it does not exceed.

    >>> format_limit(16_287_760_384), format_limit(1234), format_limit(999_999)
    ('16.29 G', '1.234 k', '1 M')
    """
    digits = max(0, len(str(number)) - 4)
    rounded = -(-number // 10**digits) * 10**digits
    exponent = min((len(str(rounded)) - 1) // 3, len(_PREFIXES) - 1)
    text = f"{Decimal(rounded) / 1000**exponent:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {_PREFIXES[exponent]}".rstrip()


def si_exponent(number: int) -> int:
    """The power of 1000 of the SI prefix of a number, as it is rounded to three digits."""
    exponent = 0
    while number >= 999.5 * 1000**exponent and exponent < len(_PREFIXES) - 1:
        exponent += 1
    return exponent


def format_scaled(number: int, exponent: int) -> str:
    """A number divided by a power of 1000; small numbers are not printed as 0.

    >>> format_scaled(62_191_800, 3), format_scaled(16_287_760_384, 3), format_scaled(5, 3)
    ('0.06', '16.3', '<0.01')
    """
    if number == 0 or exponent == 0:
        return f"{number:,}"
    value = number / 1000**exponent
    if value < 0.005:
        return "<0.01"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def si_unit(exponent: int, name: str) -> str:
    """A unit with an SI prefix: ``GFLOPs``."""
    return f"{_PREFIXES[exponent]}{name}"


def percent(part: int, total: int) -> str:
    """A share with one digit; a small share is not printed as 0.

    >>> percent(869, 1000), percent(1, 10**6), percent(0, 10)
    ('86.9 %', '<0.1 %', '0 %')
    """
    if part == 0 or total == 0:
        return "0 %"
    share = 100 * part / total
    return f"{share:.1f} %" if share >= 0.05 else "<0.1 %"
