"""Numbers for people: SI prefixes and percentages."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def format_si(number: int) -> str:
    """A number with three digits and an SI prefix.

    >>> format_si(16_287_760_384), format_si(139_264), format_si(7), format_si(0)
    ('16.3 G', '139 k', '7', '0')
    """
    exponent = si_exponent(number)
    return f"{format_scaled(number, exponent)} {_PREFIXES[exponent]}".rstrip()


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
