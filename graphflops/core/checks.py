"""Checks of arguments that are numbers."""

from __future__ import annotations

from typing import Any

from graphflops.core.errors import UsageError


def require_integer(name: str, value: Any, least: int = 1) -> int:
    """The value of an argument, an integer of at least ``least``.

    Raises:
        UsageError: it is another number, a bool, or no number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be an integer of at least {least:,}, not {value!r}")
    return value
