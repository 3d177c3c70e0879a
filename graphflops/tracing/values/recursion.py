"""Recursion limit for deep models: a model that PyTorch runs at Python's limit can be traced at it.

A call of a module is four Python calls, and about eight while it is traced. The limit is the whole process's, so it
stays as it is unless a model needs more; then it is raised, never lowered, and afterwards restored, or left at what the
program has set meanwhile. At the highest limit, calls of modules take less than the stack of a main thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from graphflops.core.errors import CaptureError

Result = TypeVar("Result")

CALLS_PER_LEVEL = 10
"""Python calls for each level of modules while a model is traced, and some to spare"""
CALL_MARGIN = 500
"""Python calls in the innermost module"""
MAX_RECURSION_LIMIT = 20_000

_lock = threading.Lock()
_requested_limits: list[int] = []
_original_limit = 0
_raised_limit = 0


@contextmanager
def recursion_limit_for(levels: int) -> Iterator[None]:
    """Allow modules to call each other ``levels`` deep while this is open."""
    with _raise_limit(min(MAX_RECURSION_LIMIT, _stack_depth() + levels * CALLS_PER_LEVEL + CALL_MARGIN)):
        yield


def retry_with_deeper_recursion(trace: Callable[[], Result]) -> Result:
    """The result of a trace; if it exceeds the recursion limit, that of a second one at the highest limit.

    A module that calls itself is as deep as its data decide, which is not known before.
    """
    try:
        return trace()
    except CaptureError as error:
        if not isinstance(error.__cause__, RecursionError) or sys.getrecursionlimit() >= MAX_RECURSION_LIMIT:
            raise
    with _raise_limit(MAX_RECURSION_LIMIT):
        return trace()


@contextmanager
def _raise_limit(limit: int) -> Iterator[None]:
    if limit <= sys.getrecursionlimit() and not _requested_limits:
        yield
        return
    _request(limit)
    try:
        yield
    finally:
        _withdraw(limit)


def _request(limit: int) -> None:
    global _original_limit, _raised_limit
    with _lock:
        if not _requested_limits:
            _original_limit = _raised_limit = sys.getrecursionlimit()
        _requested_limits.append(limit)
        if limit > sys.getrecursionlimit():
            sys.setrecursionlimit(limit)
            _raised_limit = limit


def _withdraw(limit: int) -> None:
    global _raised_limit
    with _lock:
        _requested_limits.remove(limit)
        if sys.getrecursionlimit() == _raised_limit:  # else the program has set it meanwhile
            _raised_limit = max((_original_limit, *_requested_limits))
            with suppress(RecursionError):  # where the stack is deeper, the next one who withdraws restores it
                sys.setrecursionlimit(_raised_limit)


def _stack_depth() -> int:
    """The number of Python calls on the stack of this thread."""
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return depth
