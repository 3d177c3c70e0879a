"""Room for deep models: what PyTorch runs at Python's recursion limit is traced at it, though a trace takes more calls.

A call of a module is four calls for Python, and about eight while it is traced. The limit is the whole process's, so it
is left alone unless a model needs more; then it is raised, never lowered, and is afterwards what it was, or what the
program has set meanwhile. At the most that it is raised to, calls of modules take less than the stack of a main thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from graphflops.core.errors import CaptureError

Result = TypeVar("Result")

CALLS_A_LEVEL = 10
"""calls that are open for each level of modules while a model is traced, and some to spare"""
MARGIN = 500
"""calls that are open in the innermost module"""
MAX_RECURSION_LIMIT = 20_000
"""what the limit is raised to at the most"""

_lock = threading.Lock()
_wanted: list[int] = []  # by those who have room now
_before = 0
_ours = 0


@contextmanager
def recursion_limit_for(levels: int) -> Iterator[None]:
    """Modules may call each other so many levels deep while this is open."""
    with _limit(min(MAX_RECURSION_LIMIT, _depth() + levels * CALLS_A_LEVEL + MARGIN)):
        yield


def retry_with_deeper_recursion(trace: Callable[[], Result]) -> Result:
    """What a trace gives; if it ran out of room, what it gives with as much as there may be.

    A module that calls itself has as many levels as its data say, which nobody knows before.
    """
    try:
        return trace()
    except CaptureError as error:
        if not isinstance(error.__cause__, RecursionError) or sys.getrecursionlimit() >= MAX_RECURSION_LIMIT:
            raise
    with _limit(MAX_RECURSION_LIMIT):
        return trace()


@contextmanager
def _limit(wanted: int) -> Iterator[None]:
    if wanted <= sys.getrecursionlimit() and not _wanted:
        yield
        return
    _raised(wanted)
    try:
        yield
    finally:
        _given_back(wanted)


def _raised(wanted: int) -> None:
    global _before, _ours
    with _lock:
        if not _wanted:
            _before = _ours = sys.getrecursionlimit()
        _wanted.append(wanted)
        if wanted > sys.getrecursionlimit():
            sys.setrecursionlimit(wanted)
            _ours = wanted


def _given_back(wanted: int) -> None:
    global _ours
    with _lock:
        _wanted.remove(wanted)
        if sys.getrecursionlimit() == _ours:  # else somebody has set it meanwhile
            _ours = max((_before, *_wanted))
            with suppress(RecursionError):  # where more calls are open, the next who has room gives it back
                sys.setrecursionlimit(_ours)


def _depth() -> int:
    """How many calls are open in this thread."""
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return depth
