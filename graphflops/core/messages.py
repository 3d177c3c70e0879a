"""Errors that somebody else's code raised, told in words: which one, with how much of its text, and where."""

from __future__ import annotations

import os
import platform
import re
import traceback
from typing import Any

LEAVING = (SystemExit, GeneratorExit)
RAISED = (Exception, *LEAVING)
"""what the user's code may raise that is an error here: a model's ``sys.exit()`` does not end who asks for its cost"""
_BELOW = re.compile(r"\nException raised from | This could be because the operator doesn't exist for this backend")
"""after it PyTorch lists functions of its own in C++, or all its backends"""
LONGEST = 2000
"""characters of an error's text that are repeated"""


def attribute(owner: Any, name: str, instead: Any = None) -> Any:
    """An attribute, if it can be had: a placeholder for what is imported later may raise anything."""
    try:
        return getattr(owner, name, instead)
    except RAISED:
        return instead


def shortened(text: str, most: int = LONGEST) -> str:
    """A text, or as much of it as a reader wants to see.

    >>> shortened("9" * 5000, 8)
    '99999999… (4,992 more characters)'
    """
    return text if len(text) <= most else f"{text[:most].rstrip()}… ({len(text) - most:,} more characters)"


def shown(value: Any) -> str:
    """A value as a reader may want to see it, whatever its own words for itself do."""
    try:
        return shortened(repr(value), 100)
    except RAISED:
        return f"a {type(value).__name__}"


def said(error: BaseException) -> str:
    """The kind of an error and its text, of an error that has one.

    >>> said(ValueError("no such size")), said(SystemExit())
    ('ValueError: no such size', 'SystemExit')
    """
    try:
        text = "" if isinstance(error, SystemExit) and error.code is None else str(error)
        text = shortened(_BELOW.split(text, 1)[0].strip())
    except Exception as of_its_text:
        text = f"its text raises {type(of_its_text).__name__}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException, *, source: bool = True) -> str:
    """``file:line: source`` of where it was raised, or without the source."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "outside of any source file"
    last = frames[-1]
    line = f": {shortened(last.line, 200)}" if source and last.line else ""
    return f"{last.filename}:{last.lineno}{line}"


def to_report(error: BaseException) -> str:
    """The line to report of an error that is a fault of ours: versions, and the error with its place."""
    versions = ", ".join(map(_version_of, ("graphflops", "torch")))
    place = place_of(error, source=False).rsplit("site-packages" + os.sep, 1)[-1]
    kind = shortened(said(error).splitlines()[0], 150)
    return f"{versions}, Python {platform.python_version()}; {kind} at {place}"


def _version_of(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # it is run from its sources
        return package
