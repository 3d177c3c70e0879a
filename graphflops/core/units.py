"""Numbers for people: a unit, and SI steps of 1000."""

from __future__ import annotations

_STEPS = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def si(number: int) -> str:
    """A number in three digits and its SI step.

    >>> si(16_287_760_384), si(139_264), si(7), si(0)
    ('16.3 G', '139 k', '7', '0')
    """
    step = step_of(number)
    return f"{in_step(number, step)} {_STEPS[step]}".rstrip()


def step_of(number: int) -> int:
    """How many steps of 1000 a number has, as it will be rounded."""
    step = 0
    while number >= 999.5 * 1000**step and step < len(_STEPS) - 1:
        step += 1
    return step


def in_step(number: int, step: int) -> str:
    """A number in a step that it shares with others; what is small stays visible.

    >>> in_step(62_191_800, 3), in_step(16_287_760_384, 3), in_step(5, 3)
    ('0.06', '16.3', '<0.01')
    """
    if number == 0 or step == 0:
        return f"{number:,}"
    value = number / 1000**step
    if value < 0.005:
        return "<0.01"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def unit(step: int, name: str) -> str:
    """The name of a unit in a step: ``GFLOPs``."""
    return f"{_STEPS[step]}{name}"


def percent(part: int, whole: int) -> str:
    """A share to one digit; what is small but there is not called zero.

    >>> percent(869, 1000), percent(1, 10**6), percent(0, 10)
    ('86.9 %', '<0.1 %', '0 %')
    """
    if part == 0 or whole == 0:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 0.05 else "<0.1 %"
