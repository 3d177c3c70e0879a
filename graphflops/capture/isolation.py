"""An analysis runs in a thread of its own, and leaves nothing behind.

A thread of its own has no modes, no autocast, no device and no gradient mode of the caller's, and no signal ever
interrupts it: on Ctrl-C the analysis ends where it next calls an operator, puts its things away, and only then is the
caller interrupted. One analysis runs at a time, for what a program writes to its module-level state is undone after it.

Every fake tensor holds the mode that it was made in. When an analysis has let go of all that it made and its mode is
still there, somebody else holds a fake tensor.
"""

from __future__ import annotations

import contextvars
import ctypes
import gc
import os
import threading
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Generic, TypeVar

import torch

from graphflops.core.errors import CaptureError
from graphflops.core.torch_compat import is_frame

Result = TypeVar("Result")

STACK = 256 * 2**20
"""bytes of the stack of a thread that an analysis runs in: deep models nest as many calls as they have levels"""
PATIENCE = 3.0
"""seconds that an analysis which was cancelled has to call an operator, before it is stopped wherever it is"""

YOUNG = 50_000
"""objects that are made before Python looks for garbage among them, while an analysis runs alone"""


class Cancelled(BaseException):
    """The caller was interrupted: the analysis ends."""


class Session:
    """All that one analysis has made, to be let go of."""

    def __init__(self) -> None:
        self.cancelled = False
        self.closing = False
        self.gate = threading.Lock()
        self.undo: list[Callable[[Callable[[Any], bool], bool], None]] = []
        """how module-level state gets back what it held; each is told what is the analysis's own, and whether nobody
        else could have written to it"""
        self.draws = 0
        """how many times a program drew from Python's random numbers, or numpy's"""
        self._generators: dict[str, Any] = {}
        self._owned: list[Any] = []
        self._modes: list[weakref.ref[Any]] = []

    def own(self, holder: Any) -> None:
        """Say of an object that all it holds is the analysis's own: it is emptied afterwards."""
        self._owned.append(holder)

    def add_mode(self, mode: Any) -> None:
        """Fake tensors are made in this mode."""
        self._modes.append(weakref.ref(mode))

    def raise_if_cancelled(self) -> None:
        """Go on, unless the caller was interrupted.

        Raises:
            Cancelled: it was.
        """
        if self.cancelled:
            raise Cancelled

    def generator_for(self, module: types.ModuleType) -> Any:
        """The analysis's own generator of random numbers, in the place of the one of ``random`` or ``numpy.random``."""
        name = module.__name__
        if name not in self._generators:
            self._generators[name] = module.Random(0) if name == "random" else module.RandomState(0)
        return self._generators[name]

    @contextmanager
    def restored_after(self, undo: Callable[[Callable[[Any], bool], bool], None]) -> Iterator[None]:
        """A program runs while this is open; then module-level state, and settings, get back what they held."""
        outer, self.undo = self.undo, [undo]
        try:
            yield
        finally:
            alone, is_own = _is_alone(), self._ownership()
            undone, self.undo = self.undo, outer
            for each in reversed(undone):
                each(is_own, alone)

    def close(self, *, keep: bool = False, look: bool = True) -> list[Any]:
        """Let go of everything; the fake tensors that somebody else holds, if somebody is to look for them."""
        if keep:
            return []
        for holder in reversed(self._owned):
            holder.release() if hasattr(holder, "release") else vars(holder).clear()
        self._owned.clear()
        if not look or all(each() is None for each in self._modes):
            return []
        gc.collect(1)  # most garbage is young, and to go through all of it takes long
        if left := self._made_in_modes():
            del left  # which would hold them
            gc.collect()
            left = self._made_in_modes()
        return left

    def _made_in_modes(self) -> list[Any]:
        """The fake tensors that are still there. PyTorch itself leaves a mode in circles of its own, but no tensor."""
        modes = [mode for each in self._modes if (mode := each()) is not None]
        return _made_in(modes) if modes else []

    def _ownership(self) -> Callable[[Any], bool]:
        """Tells of a value whether it is a fake tensor of this analysis, or a copy."""
        copies: set[int] = set()

        def is_own(value: Any) -> bool:
            if not copies:
                copies.add(0)
                for holder in self._owned:
                    copies.update(map(id, getattr(holder, "copies", tuple)()))
            if id(value) in copies:
                return True
            mode = vars(value).get("fake_mode") if issubclass(type(value), torch.Tensor) else None
            return mode is not None and any(each() is mode for each in self._modes)

        return is_own


class _Here(threading.local):
    sessions: tuple[Session, ...] = ()
    tracing: int = 0


_here = _Here()
_one_at_a_time = threading.Lock()
_starting = threading.Lock()


def session() -> Session | None:
    """The analysis that this thread is at work on."""
    return _here.sessions[-1] if _here.sessions else None


def is_tracing() -> bool:
    """Whether user code is run by an analysis in this thread."""
    return _here.tracing > 0


def in_analysis() -> bool:
    """Whether this thread is at work on an analysis."""
    return bool(_here.sessions)


def _afresh() -> None:
    global _one_at_a_time, _starting
    _one_at_a_time, _starting = threading.Lock(), threading.Lock()


os.register_at_fork(after_in_child=_afresh)


@contextmanager
def tracing() -> Iterator[None]:
    """User code runs while this is open; an analysis that it starts gets a thread of its own."""
    _here.tracing += 1
    try:
        yield
    finally:
        _here.tracing -= 1


@contextmanager
def not_tracing() -> Iterator[None]:
    """Code runs while this is open that is no part of the program that is traced."""
    before, _here.tracing = _here.tracing, 0
    try:
        yield
    finally:
        _here.tracing = before


def _is_alone() -> bool:
    """Whether no thread is at work but those of analyses and the one that waits for them."""
    return threading.active_count() <= 1 + len(_here.sessions)


@contextmanager
def _collecting_less() -> Iterator[None]:
    """Python looks for garbage less often while this is open, if no other thread is there whose garbage it may be.

    All that an analysis makes is young, and nearly all of it is alive to the end: looking through it again and again
    takes a tenth of the time, and as much as the rest where Python goes on to look through everything.
    """
    before = gc.get_threshold()
    less = (YOUNG, *before[1:])
    if not (_is_alone() and gc.isenabled() and 0 < before[0] < YOUNG):
        yield
        return
    gc.set_threshold(*less)
    try:
        yield
    finally:
        if gc.get_threshold() == less:  # and the program did not set it
            gc.set_threshold(*before)


def run_isolated(function: Callable[[], Result], *, keep: bool = False) -> Result:
    """Call a function in a thread of its own, and let go of all fake tensors that it made, unless told to ``keep``.

    Within an analysis, but not within the user's code that it runs, the function is called as it is.

    Raises:
        CaptureError: a fake tensor is still held by something that the analysis cannot reach.
    """
    if _here.sessions and not _here.tracing:
        return function()
    run = _Run(function, nested=bool(_here.sessions), keep=keep)
    return run.result()


class _Run(Generic[Result]):
    """One call in a thread of its own."""

    def __init__(self, function: Callable[[], Result], *, nested: bool, keep: bool) -> None:
        self.function = function
        self.keep = keep
        self.nested = nested
        self.session = Session()
        self.is_done = False
        self.done = threading.Lock()  # released when it is; an Event that is interrupted may keep its own lock for ever
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
        patient_until = time.monotonic() + PATIENCE
        while not self.is_done:
            self.done.acquire(timeout=0.1)
            if time.monotonic() < patient_until:
                continue
            if thread.ident is None:
                return  # it never began
            patient_until += PATIENCE
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
        from graphflops.capture.patches import installed

        self.session.raise_if_cancelled()
        _here.sessions = (*_here.sessions, self.session)
        failed: BaseException | None = None
        with installed(), _collecting_less():
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
                _forget_frames(failed)
            left = self.session.close(keep=self.keep and failed is None, look=failed is None)
        if failed is not None:
            raise failed
        if holders := _holders(left):
            raise CaptureError(_still_held(left, holders))


class _Flag:
    """What tells that a thread has started, in place of an Event, whose lock an interrupt may leave closed for ever."""

    def __init__(self) -> None:
        self.set_already = False

    def set(self) -> None:
        self.set_already = True

    def is_set(self) -> bool:
        return self.set_already

    def wait(self, timeout: float | None = None) -> bool:
        return True  # the analysis itself is waited for

    def _at_fork_reinit(self) -> None:
        pass


def _start(thread: threading.Thread) -> None:
    """Start a thread with a stack that is large enough; what others are given is what it was."""
    thread._started = _Flag()  # type: ignore[attr-defined]
    with _starting:
        before = threading.stack_size()
        try:
            with suppress(ValueError, RuntimeError):  # a system without such stacks
                threading.stack_size(STACK)
            thread.start()
        finally:
            threading.stack_size(before)


def _forget_frames(error: BaseException | None) -> None:
    """Clear the frames that an error has passed through: their locals hold tensors without data."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)
        waiting += [each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())]


def _made_in(modes: list[Any]) -> list[Any]:
    """The fake tensors of some modes."""
    referrers = gc.get_referrers(*modes)
    attributes = [each for each in referrers if type(each) is dict]
    referrers += gc.get_referrers(*attributes) if attributes else ()
    found = {id(each): each for each in referrers if issubclass(type(each), torch.Tensor)}
    referrers.clear()  # which are in each other, and would be found to hold what they name
    return [*found.values()]


def _holders(left: list[Any]) -> list[str]:
    """Who holds the fake tensors that are left, in words.

    Those that nobody holds are in a circle of autograd's own, which no code can reach: a reentrant checkpoint that was
    run back makes one.
    """
    if not left:
        return []
    tensors = tuple(left)  # as arguments are, so that there is no list of them
    own = {id(left), id(tensors)}
    referrers = [each for each in gc.get_referrers(*tensors) if id(each) not in own and not _is_ours(each)]
    return [*dict.fromkeys(_named(each, {*map(id, left)}) for each in referrers)]


def _still_held(left: list[Any], holders: list[str]) -> str:
    """The message that names who holds a fake tensor after an analysis."""
    return (
        f"{len(left)} tensors without data outlive the analysis, held by {', '.join(holders[:5])}: the model's code "
        "keeps what it computes where the analysis cannot put it back.\n"
        "Have it keep tensors in attributes of its modules, or delete what is held there before the model runs again."
    )


def _is_ours(referrer: Any) -> bool:
    of_python = isinstance(referrer, types.FrameType) or type(referrer).__name__ in ("list_iterator", "cell")
    return of_python or is_frame(referrer)


def _named(holder: Any, held: set[int]) -> str:
    """A holder in words: a global by its module, an attribute by its class, else its type."""
    if isinstance(holder, dict):
        key = next((repr(key) for key, value in holder.items() if id(value) in held), "?")
        for outer in gc.get_referrers(holder):
            if isinstance(outer, types.ModuleType) and vars(outer) is holder:
                return f"{outer.__name__}.{key.strip(chr(39))}"
            if getattr(outer, "__dict__", None) is holder:
                return f"the attribute {key.strip(chr(39))} of a {type(outer).__name__}"
        return f"a dict, under {key}"
    return f"a {type(holder).__module__}.{type(holder).__name__}"
