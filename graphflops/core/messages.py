"""Text for messages: values, paths and the errors of a user's code, short and safe to print."""

from __future__ import annotations

import os
import platform
import re
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from reprlib import Repr
from typing import Any

EXIT_EXCEPTIONS = (SystemExit, GeneratorExit)
USER_EXCEPTIONS = (Exception, *EXIT_EXCEPTIONS)
"""exceptions of a user's code that are reported as errors: a model's ``sys.exit()`` does not end the analysis"""
_BACKEND_DETAILS = re.compile(
    r"\nException raised from | This could be because the operator doesn't exist for this backend"
)
"""where PyTorch starts to list C++ functions or backends"""
MAX_ERROR_TEXT = 2000
"""characters of an error's text that are repeated"""
MAX_DIGITS = 100
"""digits of a number that is printed or read from a file"""
_REPR = Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlist, _REPR.maxdict = 2, 60, 60, 3, 3


def try_getattr(owner: Any, name: str, default: Any = None) -> Any:
    """``getattr`` that returns the default whatever the lookup raises: a lazily imported module may raise anything."""
    try:
        return getattr(owner, name, default)
    except USER_EXCEPTIONS:
        return default


def shortened(text: str, limit: int = MAX_ERROR_TEXT) -> str:
    """The beginning of a text, and how many characters are left out.

    >>> shortened("9" * 5000, 8)
    '99999999… (4,992 more characters)'
    """
    return text if len(text) <= limit else f"{text[:limit].rstrip()}… ({len(text) - limit:,} more characters)"


def first_of(names: Sequence[str], limit: int = 3) -> str:
    """The first of some names, and how many more there are.

    >>> first_of(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question that lists the names that a name or a pattern is close to; empty if there are none.

    >>> did_you_mean("layr1.*", ["layer1", "fc"])
    'did you mean layer1?'
    """
    known = list(dict.fromkeys(names))
    plain = name.replace("*", "").strip(".")
    near = dict.fromkeys([*get_close_matches(name, known, n=3), *get_close_matches(plain, known, n=3)])
    return f"did you mean {' or '.join([*near][:3])}?" if near else ""


def one_line(text: str, limit: int = 120) -> str:
    r"""A text in one printable line, without its middle where it is long.

    >>> one_line("a\nb"), one_line("0123456789" * 3, 12)
    ('a\\nb', '01234567 … 789')
    """
    if len(text) > limit:
        text = f"{text[: limit * 2 // 3]} … {text[-(limit // 4) :]}"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def format_value(value: Any) -> str:
    """``repr`` of a value in one short line; the type's name if ``repr`` raises."""
    if isinstance(value, str):
        return one_line(repr(one_line(value)))
    try:
        if isinstance(value, int) and abs(value) > 10**MAX_DIGITS:
            return f"a number of {value.bit_length():,} bits"
        return one_line(_REPR.repr(value))
    except USER_EXCEPTIONS:
        return f"a {type(value).__name__}"


def format_path(path: Any) -> str:
    """A path in one printable line."""
    return one_line(str(path), 300) or "''"


def format_error(error: BaseException) -> str:
    """The type of an error and its text, if it has one.

    >>> format_error(ValueError("no such size")), format_error(SystemExit())
    ('ValueError: no such size', 'SystemExit')
    """
    try:
        text = "" if isinstance(error, SystemExit) and error.code is None else str(error)
        text = shortened(_BACKEND_DETAILS.split(text, 1)[0].strip())
    except Exception as error_in_str:
        text = f"its text raises {type(error_in_str).__name__}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def error_text(error: BaseException) -> str:
    """The whole text of an error; empty if it cannot be read."""
    try:
        return str(error)
    except Exception:
        return ""


def location_of(error: BaseException, *, source: bool = True) -> str:
    """``file:line: source`` where an error was raised; ``file:line`` without the source."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "outside of any source file"
    last = frames[-1]
    line = f": {shortened(last.line, 200)}" if source and last.line else ""
    return f"{last.filename}:{last.lineno}{line}"


def bug_report(error: BaseException) -> str:
    """One line for a bug report: the versions, the error and its location."""
    versions = ", ".join(f"{package} {package_version(package)}".strip() for package in ("graphflops", "torch"))
    place = location_of(error, source=False).rsplit("site-packages" + os.sep, 1)[-1]
    message = shortened(format_error(error).splitlines()[0], 150)
    return f"{versions}, Python {platform.python_version()}; {message} at {place}"


@cache
def package_version(package: str) -> str:
    """The version of an installed package; empty if it is run from its sources."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
