"""Readers of JSON and TOML files that check every field.

A reader is a function from plain data (of JSON or TOML) to the value it stands for. It raises ``InvalidData`` with the
place of the fault in the file. Readers are composed of smaller ones, so that the format of a file is one table:

>>> read = record(dict, {"name": text, "sizes": list_of(integer())})
>>> read({"name": "x", "sizes": [1, 2]})
{'name': 'x', 'sizes': (1, 2)}
>>> read({"name": "x", "sizes": [1, 2.5]})
Traceback (most recent call last):
graphflops.core.codec.InvalidData: sizes[1] is 2.5, not an integer ≥ 0
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

MAX_JSON_BYTES = 128 << 20
"""enough for a report with some 30,000 blocks"""
MAX_TOML_BYTES = 100_000
"""enough for a file written by hand"""
MAX_DOTS = 200
"""dots in a line of TOML: a key with thousands of parts takes minutes to parse"""
MAX_INTEGER = 10**MAX_DIGITS
MAX_TEXT_LENGTH = 100_000
"""characters of a text in a file"""


class InvalidData(Exception):
    """A fault in the data of a file, and its place."""

    def __init__(self, fault: str, place: str = "") -> None:
        super().__init__(fault, place)
        self.fault, self.place = fault, place

    def within(self, place: str) -> InvalidData:
        """The same fault in an outer place: ``.work`` within ``[3]`` is ``[3].work``."""
        return InvalidData(self.fault, place + self.place)

    def __str__(self) -> str:
        return f"{self.place.removeprefix('.')} {self.fault}".strip()


# -- readers -----------------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Read a text of limited length in valid Unicode."""
    if type(value) is not str:
        raise InvalidData(f"is {format_data(value)}, not text")
    if len(value) > MAX_TEXT_LENGTH:
        raise InvalidData(f"is a text of {len(value):,} characters; the limit is {MAX_TEXT_LENGTH:,}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidData(f"is {format_data(value)}, which is not valid Unicode") from None
    return value


def integer(minimum: int | None = 0, maximum: int = MAX_INTEGER) -> Reader[int]:
    """A reader of integers in a range; a ``minimum`` of None allows negative ones. Booleans and 2.0 are invalid."""
    if minimum is None:
        expected, minimum = "an integer", -maximum
    elif maximum < MAX_INTEGER:
        expected = f"an integer in {minimum}..{maximum}"
    else:
        expected = f"an integer ≥ {minimum}"

    def read(value: Any) -> int:
        if type(value) is int and minimum <= value < maximum + 1:
            return value
        if type(value) is int and value > maximum >= MAX_INTEGER:
            raise InvalidData(f"is {format_data(value)}, which is too large")
        raise InvalidData(f"is {format_data(value)}, not {expected}")

    return read


def one_of(expected: Collection[str], kind: str) -> Reader[str]:
    """A reader of names of one kind."""
    names = frozenset(expected)

    def read(value: Any) -> str:
        if type(value) is str and value in names:
            return value
        raise InvalidData(
            f"is {format_data(value)}, not a {kind}; expected one of: {', '.join(filter(None, expected))}"
        )

    return read


def nullable(read: Reader[T]) -> Reader[T | None]:
    """A reader that also accepts null."""
    return lambda value: None if value is None else read(value)


def list_of(read: Reader[T], max_length: int | None = None) -> Reader[tuple[T, ...]]:
    """A reader of lists, as tuples."""

    def read_all(value: Any) -> tuple[T, ...]:
        if type(value) is not list:
            raise InvalidData(f"is {format_data(value)}, not a list")
        if max_length is not None and len(value) > max_length:
            raise InvalidData(f"has {len(value):,} members; the limit is {max_length}")
        return _members(zip(repeat(read), value))

    return read_all


def _members(pairs: Iterable[tuple[Reader[T], Any]]) -> tuple[T, ...]:
    """Read the members of a list; a fault has the index as its place."""
    members = []
    for i, (read, member) in enumerate(pairs):
        try:
            members.append(read(member))
        except InvalidData as error:
            raise error.within(f"[{i}]") from None
    return tuple(members)


def tuple_of(*readers: Reader[Any]) -> Reader[tuple[Any, ...]]:
    """A reader of lists of fixed length, with a reader for each member."""

    def read_all(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(readers):
            raise InvalidData(f"is {format_data(value)}, not a list of length {len(readers)}")
        return _members(zip(readers, value, strict=True))

    return read_all


def unique(read: Reader[tuple[K, ...]]) -> Reader[tuple[K, ...]]:
    """A reader of lists without duplicates."""

    def read_all(value: Any) -> tuple[K, ...]:
        members = read(value)
        if (twice := _duplicate(members)) is not None:
            raise InvalidData("is a duplicate", f"[{twice}]")
        return members

    return read_all


def table_of(key: Reader[K], read: Reader[T]) -> Reader[dict[K, T]]:
    """A reader of tables with any keys that ``key`` accepts."""

    def read_all(value: Any) -> dict[K, T]:
        table: dict[K, T] = {}
        for name, member in _table(value).items():
            try:
                checked = key(name)
            except InvalidData as error:
                raise error.within(f".{one_line(str(name))}") from None
            try:
                table[checked] = read(member)
            except InvalidData as error:
                raise error.within(f".{one_line(name)}" if name else '[""]') from None
        return table

    return read_all


def record(
    make: Callable[..., T], needed: Mapping[str, Reader[Any]], optional: Mapping[str, Reader[Any]] = {}
) -> Reader[T]:
    """A reader of tables with exactly these keys; ``make`` is called with the values as keyword arguments."""
    readers = {**needed, **optional}

    def read_all(value: Any) -> T:
        fields = {}
        for name, member in _table(value).items():
            read = readers.get(name)
            if read is None:
                raise InvalidData(f"is not a known key; expected: {', '.join(readers)}", f".{one_line(name)}")
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
    """Read an exact number ≥ 0: an integer, or a text such as ``"5/8"``."""
    try:
        if type(value) in (int, str) and (number := to_fraction(value)) >= 0:
            return number
    except UsageError:
        pass
    raise InvalidData(f"is {format_data(value)}, not an exact number ≥ 0 such as 5/8")


def _table(value: Any) -> dict[str, Any]:
    if type(value) is _DuplicateKey:
        raise InvalidData("is a duplicate key", f".{one_line(value.key)}")
    if type(value) is not dict:
        raise InvalidData(f"is {format_data(value)}, not a table")
    return value


# -- files -------------------------------------------------------------------------------------------------------------


def read_json(path: str | Path, kind: str, schemas: Sequence[str], read: Reader[T]) -> T:
    """Read a JSON file of a kind, such as "report", in one of the versions of its schema.

    Raises:
        UsageError: there is no such file, or it is invalid or of another version; the message has the place.
    """
    content = read_text(path, kind, MAX_JSON_BYTES)
    try:
        data = json.loads(content, object_pairs_hook=_unique_keys, parse_int=_bounded)
    except (RecursionError, MemoryError):
        raise UsageError(f"{format_path(path)} is nested too deeply to be a {kind}") from None
    except ValueError as error:
        raise UsageError(f"{format_path(path)} is not JSON: {one_line(str(error))}") from error
    if type(data) is not _DuplicateKey and (type(data) is not dict or data.get("schema") not in schemas):
        raise UsageError(
            f"{format_path(path)} is not a {kind} that this version of graphflops reads "
            f"(its schema is not {schemas[-1]})"
        )
    try:
        return read(data)
    except InvalidData as error:
        raise UsageError(f"{format_path(path)} is not a complete {kind}: {error}") from error


def read_toml(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a TOML file as plain data.

    Raises:
        UsageError: there is no such file, or it is not TOML.
    """
    content = read_text(path, kind, MAX_TOML_BYTES)
    if any(line.count(".") > MAX_DOTS for line in content.splitlines()):
        raise UsageError(f"{format_path(path)} has a line with more than {MAX_DOTS} dots")
    try:
        return tomllib.loads(content)
    except (RecursionError, MemoryError):
        raise UsageError(f"{format_path(path)} is nested too deeply to be a {kind}") from None
    except ValueError as error:
        raise UsageError(f"{format_path(path)} is not TOML: {one_line(str(error))}") from error


def read_text(path: str | Path, kind: str, max_bytes: int) -> str:
    """Read a text file of limited size, so that an endless device is not read forever.

    Raises:
        UsageError: there is no such file, it is larger, or it is not UTF-8.
    """
    try:
        # do not wait for a writer of a FIFO
        handle = os.open(os.fspath(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise IsADirectoryError(21, "Is a directory")
            if hasattr(os, "set_blocking"):
                os.set_blocking(handle, True)
            content = file.read(max_bytes + 1)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(str(error))
        raise UsageError(f"cannot read the {kind} {format_path(path)}: {reason}") from error
    if len(content) > max_bytes:
        raise UsageError(f"{format_path(path)} has more than {max_bytes:,} bytes, too many for a {kind}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        file_format = "TOML" if max_bytes == MAX_TOML_BYTES else "JSON"
        raise UsageError(f"{format_path(path)} is not {file_format}: byte {error.start} is not UTF-8") from error


class _DuplicateKey:
    """A table with a duplicate key."""

    def __init__(self, key: str) -> None:
        self.key = key


class _TooLong:
    """A number with too many digits, which is not evaluated."""

    def __init__(self, digits: str) -> None:
        self.digits = digits


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _DuplicateKey:
    twice = _duplicate([key for key, _ in pairs])
    return dict(pairs) if twice is None else _DuplicateKey(pairs[twice][0])


def _duplicate(members: Sequence[Hashable]) -> int | None:
    """Index of the first member that is a duplicate of an earlier one."""
    if len(set(members)) == len(members):
        return None
    previous: set[Hashable] = set()
    return next(i for i, member in enumerate(members) if member in previous or previous.add(member))  # type: ignore[func-returns-value]


def _bounded(digits: str) -> int | _TooLong:
    return int(digits) if len(digits) <= MAX_DIGITS + 1 else _TooLong(digits)


# -- messages ----------------------------------------------------------------------------------------------------------


def format_data(value: Any) -> str:
    """A value of a file in one short line, as the file spells it: ``NaN``, ``true``, ``null``."""
    if value is None or isinstance(value, (bool, float)):
        return json.dumps(value)
    if isinstance(value, _TooLong):
        return f"a number of {len(value.digits.lstrip('-')):,} digits"
    if isinstance(value, _DuplicateKey):
        return f"a table with the key {one_line(value.key)!r} twice"
    if isinstance(value, dict):
        return "a table" if value else "{}"
    if isinstance(value, list):
        return f"a list of {len(value):,}" if value else "[]"
    return format_value(value)
