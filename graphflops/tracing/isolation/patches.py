"""Attributes that are replaced in the whole process while an analysis runs, and restored after the last analysis.

PyTorch has no hook of its own for these calls, and Python none for its random numbers. A replacement looks at the
thread that calls it: in threads without an analysis it calls the original.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from graphflops.tracing.isolation.import_hook import UntracedImports
from graphflops.tracing.session.session import is_tracing

Wrap = Callable[[Any], Any]
"""returns the replacement of a function, given the function"""
Replacement = tuple[Any, str, Wrap]
"""an owner, the name of its attribute that is replaced, and by what"""

_gate = threading.Lock()
_applied: list[_Patches] = []
_users = 0


@contextmanager
def patched(replacements: Callable[[], Iterable[Replacement]]) -> Iterator[None]:
    """Replace attributes while this is open; the first to open it replaces, the last to close it restores."""
    global _users
    with _gate:
        if not _users:
            _applied.append(_Patches(replacements()))
        _users += 1
    try:
        yield
    finally:
        with _gate:
            _users -= 1
            if not _users:
                _applied.pop().restore()


class _Patches:
    """All replaced attributes; none, if one of them cannot be replaced."""

    def __init__(self, replacements: Iterable[Replacement]) -> None:
        self._originals: list[tuple[Any, str, Any]] = []
        self._finder = UntracedImports()
        sys.meta_path.insert(0, self._finder)
        try:
            for owner, name, wrap in replacements:
                replacement = wrap(getattr(owner, name))
                self._originals.append((owner, name, vars(owner).get(name, _INHERITED)))
                setattr(owner, name, replacement)
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Restore the originals."""
        while self._originals:
            owner, name, original = self._originals.pop()
            delattr(owner, name) if original is _INHERITED else setattr(owner, name, original)
        sys.meta_path.remove(self._finder)


_INHERITED = object()


def while_tracing(substitute: Callable[..., Any]) -> Wrap:
    """Call another function in place of the original while this thread traces a program."""

    def wrap(original: Any) -> Any:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            return (substitute if is_tracing() else original)(*args, **kwargs)

        return call

    return wrap
