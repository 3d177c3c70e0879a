"""The session of a running analysis, and the state of its thread: in an analysis or not, in the user's code or not."""

from __future__ import annotations

import gc
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from graphflops.tracing.session.leaks import fake_tensors_of
from graphflops.tracing.session.other_threads import user_code_runs_elsewhere
from graphflops.tracing.session.process_settings import snapshot_settings

IsOwn = Callable[[Any], bool]
"""whether a value is a fake tensor or a copy of this analysis"""
Restore = Callable[[IsOwn, bool], None]
"""restores what the program wrote to; its second argument says whether no other thread runs the user's code"""


class Cancelled(BaseException):
    """The caller was interrupted: the analysis ends."""


class Session:
    """Everything that one analysis creates, to be released at its end."""

    def __init__(self) -> None:
        self.cancelled = False
        self.closing = False
        self.gate = threading.Lock()
        self.undo: list[Restore] = []
        """run in reverse order when the program has run"""
        self.draws = 0
        """how many times the program drew from Python's random numbers, or numpy's"""
        self._generators: dict[str, Any] = {}
        self._owned: list[Any] = []
        self._modes: list[weakref.ref[Any]] = []

    def own(self, holder: Any) -> None:
        """Register an object whose attributes all belong to the analysis: it is emptied at the end."""
        self._owned.append(holder)

    def add_mode(self, mode: Any) -> None:
        """Register a FakeTensorMode of this analysis."""
        self._modes.append(weakref.ref(mode))

    def raise_if_cancelled(self) -> None:
        """Raise if the caller was interrupted.

        Raises:
            Cancelled: it was.
        """
        if self.cancelled:
            raise Cancelled

    def generator_for(self, module: types.ModuleType) -> Any:
        """The generator of this analysis in place of the global one of ``random`` or ``numpy.random``."""
        name = module.__name__
        if name not in self._generators:
            self._generators[name] = module.Random(0) if name == "random" else module.RandomState(0)
        return self._generators[name]

    @contextmanager
    def restored_after(self, restore: Restore) -> Iterator[None]:
        """Restore module-level state and settings when the block ends, which runs the program."""
        restore_settings = snapshot_settings()
        outer, self.undo = self.undo, [restore]
        alone = not user_code_runs_elsewhere()
        try:
            yield
        finally:
            alone, is_own = alone and not user_code_runs_elsewhere(), self._ownership()
            pending, self.undo = self.undo, outer
            for restore_one in reversed(pending):
                restore_one(is_own, alone)
            if alone:
                restore_settings()

    def close(self, *, keep: bool = False, find_leaks: bool = True) -> list[Any]:
        """Release everything, unless told to ``keep`` it; return the fake tensors that something else still holds."""
        if keep:
            return []
        for holder in reversed(self._owned):
            holder.release() if hasattr(holder, "release") else vars(holder).clear()
        self._owned.clear()
        if not find_leaks or all(reference() is None for reference in self._modes):
            return []
        gc.collect(1)  # most garbage is young, and a full collection takes long
        if leaked := self._remaining_fake_tensors():
            del leaked  # which would hold them
            gc.collect()
            leaked = self._remaining_fake_tensors()
        return leaked

    def _remaining_fake_tensors(self) -> list[Any]:
        """The fake tensors that still exist. PyTorch leaves modes in reference cycles, but no tensor."""
        modes = [mode for reference in self._modes if (mode := reference()) is not None]
        return fake_tensors_of(modes) if modes else []

    def _ownership(self) -> IsOwn:
        copies: set[int] = set()

        def is_own(value: Any) -> bool:
            if not copies:
                copies.add(0)
                for holder in self._owned:
                    copies.update(map(id, getattr(holder, "copies", tuple)()))
            if id(value) in copies:
                return True
            mode = vars(value).get("fake_mode") if issubclass(type(value), torch.Tensor) else None
            return mode is not None and any(reference() is mode for reference in self._modes)

        return is_own


class _ThreadState(threading.local):
    session: Session | None = None
    tracing: int = 0


_thread = _ThreadState()


def session() -> Session | None:
    """The session of the analysis that runs in this thread."""
    return _thread.session


def start_session(started: Session) -> None:
    """Make a session that of this thread, which is its own."""
    _thread.session = started


def in_analysis() -> bool:
    """Whether this thread runs an analysis."""
    return _thread.session is not None


def is_tracing() -> bool:
    """Whether this thread runs user code for an analysis."""
    return _thread.tracing > 0


@contextmanager
def tracing() -> Iterator[None]:
    """User code runs while this is open; an analysis that it starts gets a thread of its own."""
    _thread.tracing += 1
    try:
        yield
    finally:
        _thread.tracing -= 1


@contextmanager
def not_tracing() -> Iterator[None]:
    """Code that is no part of the traced program runs while this is open."""
    before, _thread.tracing = _thread.tracing, 0
    try:
        yield
    finally:
        _thread.tracing = before


def is_alone() -> bool:
    """Whether there is no thread but that of the analysis and the one that waits for it."""
    return threading.active_count() <= 1 + in_analysis()
