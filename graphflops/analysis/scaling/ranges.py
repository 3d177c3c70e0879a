"""The sizes of a law: each with a base value and the values that it may take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from graphflops.core.errors import UsageError
from graphflops.core.retired import renamed_arguments


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The values of a size: the multiples of a number, from a minimum and up to a maximum if there is one."""

    multiple_of: int
    base: int
    """the value where none is given"""
    max: int | None = None
    min: int | None = None

    def __contains__(self, value: int) -> bool:
        is_multiple = value >= self.multiple_of and value % self.multiple_of == 0
        return is_multiple and (self.max is None or value <= self.max) and (self.min is None or value >= self.min)

    @property
    def count(self) -> int | None:
        """The number of values; None if there is no maximum."""
        return None if self.max is None else self.max // self.multiple_of - self.round_down(1) // self.multiple_of + 1

    def round_down(self, value: int) -> int:
        """The largest value of the range that does not exceed a value, or the smallest of all."""
        value = value if self.max is None else min(value, self.max)
        return max(value // self.multiple_of, -(-(self.min or 1) // self.multiple_of)) * self.multiple_of

    def between(self, low: int | None, high: int | None, base: int) -> SizeRange:
        """The part of the range from ``low`` to ``high``, with another base value."""
        highest = [value for value in (self.max, high) if value is not None]
        lowest = [value for value in (self.min, low) if value is not None]
        return SizeRange(self.multiple_of, base, min(highest, default=None), max(lowest, default=None))

    def requirement(self, name: str) -> str:
        """The requirement on a size as a sentence: ``N must be a multiple of 4``."""
        kind = "an integer of at least 1" if self.multiple_of == 1 else f"a multiple of {self.multiple_of:,}"
        least = "" if self.min is None else f", at least {self.min:,}"
        return f"{name} must be {kind}" + least + ("" if self.max is None else f", at most {self.max:,}")

    def __str__(self) -> str:
        kind = "any" if self.multiple_of == 1 else f"multiples of {self.multiple_of:,}"
        kind = kind if self.min is None else f"{kind} from {self.min:,}"
        return kind if self.max is None else f"{kind} up to {self.max:,}"


@renamed_arguments(of="multiple_of", at="base", most="max")
def multiples(multiple_of: int, base: int | None = None, max: int | None = None, min: int | None = None) -> SizeRange:
    """A size that must be a multiple of ``multiple_of``: a width that heads divide, an image that patches divide.

    Args:
        multiple_of: the divisor.
        base: the value of the size where none is given; ``multiple_of`` itself if left out.
        max: the largest value of the size, if there is one.
        min: the smallest value of the size, if it is not ``multiple_of``.

    >>> multiples(64, base=512)
    SizeRange(multiple_of=64, base=512, max=None, min=None)

    Raises:
        UsageError: ``base``, ``max`` or ``min`` is not such a multiple.
    """
    size = SizeRange(multiple_of, base if base is not None else multiple_of if min is None else min, max, min)
    bounds = {name: value for name, value in (("max", max), ("min", min)) if value is not None}
    values = {"multiple_of": multiple_of, "base": size.base} | bounds
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"multiples: {name} must be an integer of at least 1, not {value!r}")
    if size.base not in size:
        raise UsageError(f"multiples({multiple_of}): base = {size.base} is not among the {size}")
    return size


def checked_sizes(sizes: Mapping[str, int | SizeRange]) -> dict[str, SizeRange]:
    """The ranges of sizes that are given by name, each as a base value or a ``multiples(…)``.

    Raises:
        UsageError: there is no size, a name is not an identifier, or a value is of neither kind.
    """
    if not isinstance(sizes, Mapping) or not sizes:
        raise UsageError('give the sizes of a law by name, each with a value: sizes={"B": 32, "N": 128}')
    ranges = {}
    for name, value in sizes.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(f"the name of a size must be an identifier, as of a function's argument, not {name!r}")
        if isinstance(value, SizeRange):
            ranges[name] = value
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"size {name} must be an integer of at least 1, or multiples(…), not {value!r}")
        else:
            ranges[name] = SizeRange(1, value)
    return ranges


MAX_SIZE_DIGITS = 18
"""of a size on the command line"""
_SIZE_OPTION = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<low>\d+)(?:\.\.(?P<high>\d+))?(?::(?P<of>\d+))?")


def parse_size(text: str) -> tuple[str, SizeRange, int | None]:
    """The name, the range and, for ``LOW..HIGH``, the end of a size as it is given on the command line.

    >>> parse_size("I=224..896:32")
    ('I', SizeRange(multiple_of=32, base=224, max=None, min=None), 896)

    Raises:
        UsageError: the text is not a size.
    """
    match = _SIZE_OPTION.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"cannot read the size {text[:200]!r}: write NAME=VALUE, NAME=LOW..HIGH, or NAME=LOW..HIGH:32 for "
            "multiples of 32"
        )
    if any(len(number) > MAX_SIZE_DIGITS for number in re.findall(r"\d+", text)):
        raise UsageError(f"the size {text[:60]!r} … is larger than any tensor: at most {MAX_SIZE_DIGITS} digits")
    low, step = int(match["low"]), int(match["of"] or 1)
    high = int(match["high"]) if match["high"] else None
    size = multiples(step, base=low)
    if high is not None and not (high > low and high in size):
        raise UsageError(f"{text}: a range ends above {low}, in {size}")
    return match["name"], size, high


def values_to_show(low: int, high: int, step: int = 1) -> list[int]:
    """Values of a range for a table: each twice the previous one, or equally spaced in a short range; then the end.

    >>> values_to_show(128, 2048), values_to_show(224, 384, 32)
    ([128, 256, 512, 1024, 2048], [224, 256, 288, 320, 352, 384])
    """
    if high >= 4 * low:
        values = [low]
        while values[-1] * 2 <= high:
            values.append(values[-1] * 2)
    else:
        values = list(range(low, high + 1, step * max(1, -(-(high - low) // (step * 8)))))
    return values if values[-1] == high else [*values, high]
