"""Readers of JSON and TOML files that check every field.

A reader is a function from plain data (of JSON or TOML) to the value it stands for. It raises ``InvalidData`` with the
place of the fault in the file. Readers are composed of smaller ones, so that the format of a file is one table:

>>> read = record(dict, {"name": text, "sizes": listed(whole())})
>>> read({"name": "x", "sizes": [1, 2]})
{'name': 'x', 'sizes': (1, 2)}
>>> read({"name": "x", "sizes": [1, 2.5]})
Traceback (most recent call last):
graphflops.core.codec.InvalidData: sizes[1] is 2.5, not a whole number ≥ 0
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from graphflops.core.errors import UsageError
from graphflops.core.messages import MAX_DIGITS, format_path, format_value, one_line
from graphflops.core.rate import to_fraction

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Reader: TypeAlias = Callable[[Any], T]

LONGEST_FILE = 128 << 20
"""bytes of a file of JSON: a report of some 30,000 blocks"""
LONGEST_SETTINGS = 100_000
"""bytes of a file of TOML that somebody wrote by hand"""
DOTS = 200
"""in a line of TOML: a key of thousands of parts takes minutes to read"""
LARGEST = 10**MAX_DIGITS
LONGEST_TEXT = 100_000
"""characters of a text in a file"""


class InvalidData(Exception):
    """A fault in a piece of data, and its place in the file."""

    def __init__(self, said: str, place: str = "") -> None:
        super().__init__(said, place)
        self.said, self.place = said, place

    def within(self, place: str) -> InvalidData:
        """The same, seen from one level further out: ``[3]`` and ``.work`` are ``[3].work`` in a list."""
        return InvalidData(self.said, place + self.place)

    def __str__(self) -> str:
        return f"{self.place.removeprefix('.')} {self.said}".strip()


# -- readers -----------------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Text of a length that can be printed, of whole characters."""
    if type(value) is not str:
        raise InvalidData(f"is {format_data(value)}, not text")
    if len(value) > LONGEST_TEXT:
        raise InvalidData(f"is a text of {len(value):,} characters, more than {LONGEST_TEXT:,}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidData(f"is {format_data(value)}, which holds half of a character") from None
    return value


def whole(least: int | None = 0, most: int = LARGEST) -> Reader[int]:
    """A whole number, and neither a truth nor 2.0; ``least`` of None is any sign."""
    if least is None:
        said, least = "not a whole number", -most
    elif most < LARGEST:
        said = f"not a whole number in {least}..{most}"
    else:
        said = f"not a whole number ≥ {least}"

    def read(value: Any) -> int:
        if type(value) is int and least <= value < most + 1:
            return value
        if type(value) is int and value > most >= LARGEST:
            raise InvalidData(f"is {format_data(value)}, larger than any number that is read")
        raise InvalidData(f"is {format_data(value)}, {said}")

    return read


def one_of(known: Collection[str], kind: str) -> Reader[str]:
    """One of some names; ``kind`` is what they name."""
    names = frozenset(known)

    def read(value: Any) -> str:
        if type(value) is str and value in names:
            return value
        raise InvalidData(
            f"is {format_data(value)}, and there is no such {kind}; there are: {', '.join(filter(None, known))}"
        )

    return read


def nullable(read: Reader[T]) -> Reader[T | None]:
    """The same, or null."""
    return lambda value: None if value is None else read(value)


def listed(read: Reader[T], most: int | None = None) -> Reader[tuple[T, ...]]:
    """A list, as a tuple."""

    def read_all(value: Any) -> tuple[T, ...]:
        if type(value) is not list:
            raise InvalidData(f"is {format_data(value)}, not a list")
        if most is not None and len(value) > most:
            raise InvalidData(f"has {len(value):,} members, more than {most}")
        return _members(zip(repeat(read), value))

    return read_all


def _members(pairs: Iterable[tuple[Reader[T], Any]]) -> tuple[T, ...]:
    """The members of a list, each read by its reader; a fault in one says which it is."""
    members = []
    for i, (read, member) in enumerate(pairs):
        try:
            members.append(read(member))
        except InvalidData as error:
            raise error.within(f"[{i}]") from None
    return tuple(members)


def row(*readers: Reader[Any]) -> Reader[tuple[Any, ...]]:
    """A list of as many members as there are readers, each with its own."""

    def read_all(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(readers):
            raise InvalidData(f"is {format_data(value)}, not a list of {len(readers)}")
        return _members(zip(readers, value, strict=True))

    return read_all


def distinct(read: Reader[tuple[K, ...]]) -> Reader[tuple[K, ...]]:
    """A list in which nothing is twice."""

    def read_all(value: Any) -> tuple[K, ...]:
        members = read(value)
        if len(set(members)) < len(members):
            seen: set[K] = set()
            twice = next(i for i, member in enumerate(members) if member in seen or seen.add(member))  # type: ignore[func-returns-value]
            raise InvalidData("is there a second time", f"[{twice}]")
        return members

    return read_all


def mapped(key: Reader[K], read: Reader[T]) -> Reader[dict[K, T]]:
    """A table of any names that ``key`` takes."""

    def read_all(value: Any) -> dict[K, T]:
        table: dict[K, T] = {}
        for name, member in _table(value).items():
            try:
                known = key(name)
            except InvalidData as error:
                raise error.within(f".{one_line(str(name))}") from None
            try:
                table[known] = read(member)
            except InvalidData as error:
                raise error.within(f".{one_line(name)}" if name else '[""]') from None
        return table

    return read_all


def record(
    make: Callable[..., T], needed: Mapping[str, Reader[Any]], optional: Mapping[str, Reader[Any]] = {}
) -> Reader[T]:
    """A table of these names and no other; ``make`` is called with what was read, by name."""
    readers = {**needed, **optional}

    def read_all(value: Any) -> T:
        fields = {}
        for name, member in _table(value).items():
            read = readers.get(name)
            if read is None:
                raise InvalidData(f"is not among what there may be: {', '.join(readers)}", f".{one_line(name)}")
            try:
                fields[name] = read(member)
            except InvalidData as error:
                raise error.within(f".{name}") from None
        for name in needed:
            if name not in fields:
                raise InvalidData("is missing", f".{name}")
        try:
            return make(**fields)
        except UsageError as error:
            raise InvalidData(f"is wrong: {error}") from error

    return read_all


def fraction(value: Any) -> Fraction:
    """An exact number that is not negative: a whole one, or a text such as ``"5/8"``."""
    try:
        if type(value) in (int, str) and (number := to_fraction(value)) >= 0:
            return number
    except UsageError:
        pass
    raise InvalidData(f"is {format_data(value)}, not an exact number ≥ 0 such as 5/8")


def _table(value: Any) -> dict[str, Any]:
    if type(value) is _Doubled:
        raise InvalidData("is there twice", f".{one_line(value.name)}")
    if type(value) is not dict:
        raise InvalidData(f"is {format_data(value)}, not a table")
    return value


# -- files -------------------------------------------------------------------------------------------------------------


def read_json(path: str | Path, kind: str, schemas: Sequence[str], read: Reader[T]) -> T:
    """What ``read`` makes of a file of JSON; ``kind`` is what it should be, and ``schemas`` are those it may have.

    Raises:
        UsageError: there is no such file, or it is not a whole one of a known version; file and place are named.
    """
    content = read_text(path, kind, LONGEST_FILE)
    try:
        data = json.loads(content, object_pairs_hook=_once, parse_int=_bounded)
    except (RecursionError, MemoryError):
        raise UsageError(f"{format_path(path)} is nested too deeply to be a {kind}") from None
    except ValueError as error:
        raise UsageError(f"{format_path(path)} is not JSON: {one_line(str(error))}") from error
    if type(data) is not _Doubled and (type(data) is not dict or data.get("schema") not in schemas):
        raise UsageError(
            f"{format_path(path)} is not a {kind} that this version of graphflops reads "
            f"(its schema is not {schemas[-1]})"
        )
    try:
        return read(data)
    except InvalidData as error:
        raise UsageError(f"{format_path(path)} is not a whole {kind}: {error}") from error


def read_toml(path: str | Path, kind: str) -> dict[str, Any]:
    """A file of TOML as plain data.

    Raises:
        UsageError: there is no such file, or it is no TOML.
    """
    content = read_text(path, kind, LONGEST_SETTINGS)
    if any(line.count(".") > DOTS for line in content.splitlines()):
        raise UsageError(f"{format_path(path)} has a line with more than {DOTS} dots, which no {kind} needs")
    try:
        return tomllib.loads(content)
    except (RecursionError, MemoryError):
        raise UsageError(f"{format_path(path)} is nested too deeply to be a {kind}") from None
    except ValueError as error:
        raise UsageError(f"{format_path(path)} is not TOML: {one_line(str(error))}") from error


def read_text(path: str | Path, kind: str, most: int) -> str:
    """The text of a file, of up to ``most`` bytes; a device that never ends is not read for ever.

    Raises:
        UsageError: there is no such file, it is longer, or it is no text in UTF-8.
    """
    try:
        # a FIFO that nobody writes to is empty then, instead of waited for
        handle = os.open(os.fspath(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise IsADirectoryError(21, "Is a directory")
            if hasattr(os, "set_blocking"):
                os.set_blocking(handle, True)
            content = file.read(most + 1)
    except (OSError, ValueError, TypeError) as error:
        said = getattr(error, "strerror", None) or one_line(str(error))
        raise UsageError(f"cannot read the {kind} {format_path(path)}: {said}") from error
    if len(content) > most:
        raise UsageError(f"{format_path(path)} has more than {most:,} bytes, too many for a {kind}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        form = "TOML" if most == LONGEST_SETTINGS else "JSON"
        raise UsageError(f"{format_path(path)} is not {form}: byte {error.start} is no text in UTF-8") from error


class _Doubled:
    """A table in which a name is twice, so that it is not said which of the two holds."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Long:
    """A number with more digits than any count has; it is not worked out."""

    def __init__(self, digits: str) -> None:
        self.digits = digits


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Doubled:
    table = dict(pairs)
    if len(table) == len(pairs):
        return table
    seen: set[str] = set()
    return next(_Doubled(name) for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _bounded(digits: str) -> int | _Long:
    return int(digits) if len(digits) <= MAX_DIGITS + 1 else _Long(digits)


# -- messages ----------------------------------------------------------------------------------------------------------


def format_data(value: Any) -> str:
    """A value of a file in one short line, as the file spells it: ``NaN``, ``true``, ``null``."""
    if value is None or isinstance(value, (bool, float)):
        return json.dumps(value)
    if isinstance(value, _Long):
        return f"a number of {len(value.digits.lstrip('-')):,} digits"
    if isinstance(value, _Doubled):
        return f"a table that has {one_line(value.name)!r} twice"
    if isinstance(value, dict):
        return "a table" if value else "{}"
    if isinstance(value, list):
        return f"a list of {len(value):,}" if value else "[]"
    return format_value(value)
