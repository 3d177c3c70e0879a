"""Runs an analysis in a thread of its own, which leaves nothing behind.

A new thread has no modes, no autocast, no device and no gradient mode of the caller's, and no signal ever interrupts
it: on Ctrl-C the analysis ends where it next calls an operator, releases what it created, and only then is the caller
interrupted. One analysis runs at a time, because what a program writes to its module-level state is undone after it.
"""

from __future__ import annotations

import contextvars
import ctypes
import gc
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Generic, TypeVar

from graphflops.core.errors import CaptureError
from graphflops.tracing.isolation.patches import patched
from graphflops.tracing.isolation.replacements import replacements
from graphflops.tracing.session.leaks import leak_message
from graphflops.tracing.session.session import Cancelled, Session, in_analysis, is_alone, is_tracing, start_session

Result = TypeVar("Result")

STACK_BYTES = 256 * 2**20
"""stack size of the thread of an analysis: deep models nest as many calls as they have levels"""
CANCEL_SECONDS = 3.0
"""how long a cancelled analysis has until it calls an operator, before it is stopped wherever it is"""
GC_THRESHOLD = 50_000
"""new objects before Python collects garbage, while an analysis runs alone"""

_one_at_a_time = threading.Lock()
_starting = threading.Lock()


def _renew_locks() -> None:
    global _one_at_a_time, _starting
    _one_at_a_time, _starting = threading.Lock(), threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)


def run_isolated(function: Callable[[], Result], *, keep: bool = False) -> Result:
    """Call a function in a thread of its own, and release all fake tensors that it created, unless told to ``keep``.

    Within an analysis, but not within the user's code that it runs, the function is called directly.

    Raises:
        CaptureError: something that the analysis cannot reach still holds a fake tensor.
    """
    if in_analysis() and not is_tracing():
        return function()
    run = _Run(function, nested=in_analysis(), keep=keep)
    return run.result()


class _Run(Generic[Result]):
    """One call in a thread of its own."""

    def __init__(self, function: Callable[[], Result], *, nested: bool, keep: bool) -> None:
        self.function = function
        self.keep = keep
        self.nested = nested
        self.session = Session()
        self.is_done = False
        self.done = threading.Lock()  # released at the end; an interrupted Event may keep its own lock for ever
        self.done.acquire()
        self.answer: Result
        self.error: BaseException | None = None
        self.context = contextvars.copy_context()

    def result(self) -> Result:
        thread = threading.Thread(target=self.context.run, args=(self._run,), name="graphflops", daemon=True)
        try:
            _start(thread)
            while not self.is_done:
                self.done.acquire()
        except BaseException:  # an interrupt, or whatever a handler of signals raises
            self._cancel(thread)
            raise
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # whose frames hold this one
        return self.answer

    def _cancel(self, thread: threading.Thread) -> None:
        self.session.cancelled = True
        deadline = time.monotonic() + CANCEL_SECONDS
        while not self.is_done:
            self.done.acquire(timeout=0.1)
            if time.monotonic() < deadline:
                continue
            if thread.ident is None:
                return  # it never began
            deadline += CANCEL_SECONDS
            with self.session.gate:
                if not self.session.closing:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled)
                    )

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                if not self.nested:
                    stack.enter_context(_one_at_a_time)
                self._work()
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True
            self.done.release()

    def _work(self) -> None:
        self.session.raise_if_cancelled()
        start_session(self.session)
        failed: BaseException | None = None
        with patched(replacements), _less_garbage_collection():
            try:
                self.answer = self.function()
            except BaseException as error:
                failed = error
            try:
                with self.session.gate:
                    self.session.closing = True
            except Cancelled as error:
                self.session.closing = True
                failed = failed or error
            if failed is not None:
                _clear_frames(failed)
            leaked = self.session.close(keep=self.keep and failed is None, find_leaks=failed is None)
        if failed is not None:
            raise failed
        if message := leak_message(leaked):
            raise CaptureError(message)


class _StartFlag:
    """Stands in for the Event by which a thread tells that it has started: an interrupt may leave its lock closed."""

    def __init__(self) -> None:
        self.is_already_set = False

    def set(self) -> None:
        self.is_already_set = True

    def is_set(self) -> bool:
        return self.is_already_set

    def wait(self, timeout: float | None = None) -> bool:
        return True  # the analysis itself is waited for

    def _at_fork_reinit(self) -> None:
        pass


def _start(thread: threading.Thread) -> None:
    """Start a thread with a stack that is large enough; the stack size of other threads stays as it is."""
    thread._started = _StartFlag()  # type: ignore[attr-defined]
    with _starting:
        before = threading.stack_size()
        try:
            with suppress(ValueError, RuntimeError):  # a system without such stacks
                threading.stack_size(STACK_BYTES)
            thread.start()
        finally:
            threading.stack_size(before)


@contextmanager
def _less_garbage_collection() -> Iterator[None]:
    """Have Python collect garbage less often, unless another thread is there whose garbage it may be.

    All objects of an analysis are young, and nearly all of them live to its end: collecting again and again takes a
    tenth of the time, and as much as the rest where Python goes on to its older generations.
    """
    before = gc.get_threshold()
    threshold = (GC_THRESHOLD, *before[1:])
    if not (is_alone() and gc.isenabled() and 0 < before[0] < GC_THRESHOLD):
        yield
        return
    gc.set_threshold(*threshold)
    try:
        yield
    finally:
        if gc.get_threshold() == threshold:  # and the program did not set it
            gc.set_threshold(*before)


def _clear_frames(error: BaseException | None) -> None:
    """Clear the frames that an error has passed through: their locals hold fake tensors."""
    pending, visited = [error], set()
    while pending:
        cause = pending.pop()
        if cause is None or id(cause) in visited:
            continue
        visited.add(id(cause))
        traceback.clear_frames(cause.__traceback__)
        pending += [cause.__cause__, cause.__context__, *(getattr(cause, "exceptions", None) or ())]
