"""The walk of structural copies: it copies each object once, and fills mutable objects later, without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

Handler = Callable[[Any], Any]
"""copies an instance of a class"""


class CopierBase:
    """Copies of one trace. ``fake`` returns the fake tensor of a tensor."""

    def __init__(self, fake: Callable[[torch.Tensor], torch.Tensor], shared: frozenset[type]) -> None:
        self.fake = fake
        # id of an original → the original, so that the id stays its own, and its copy
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._pending: list[Callable[[], None]] = []
        self._final: list[Callable[[], None]] = []  # run when nothing is pending
        self._handlers: dict[type, Handler | None] = dict.fromkeys(shared)
        self._running = False
        self.on_shared: Callable[[Any], None] = lambda value: None
        """called with each object that is not copied although it may have state, and with each class"""

    def copy(self, value: Any) -> Any:
        """The copy of a value; the value, if it has no state that can be written to."""
        copied = self._copy(value)
        self._run_pending()
        return copied

    def handle(self, cls: type, handler: Handler) -> None:
        """Copy instances of a class by a function."""
        self._handlers[cls] = lambda value: self._keep(value, handler(value))

    def copy_of(self, value: Any) -> Any:
        """The existing copy of an object; the object, if it was not copied."""
        return self._copies[id(value)][1] if id(value) in self._copies else value

    def is_copied(self, value: Any) -> bool:
        """Whether a value has a copy."""
        return id(value) in self._copies

    def all_copies(self) -> Iterator[Any]:
        """All copies so far that are not their originals, tensors apart."""
        return (copied for original, copied in self._copies.values() if copied is not original)

    def _run_pending(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while tasks := self._pending or self._final:
                tasks.pop()()
        finally:
            self._running = False

    def _copy(self, value: Any) -> Any:
        """The copy of a value, which may still have to be filled."""
        cls = type(value)
        try:
            handler = self._handlers[cls]
        except KeyError:
            handler = self._handler(cls)
        if handler is None:
            return value
        previous = self._copies.get(id(value))
        if previous is not None:
            return previous[1]
        try:
            return handler(value)
        except Exception:  # an object that Python cannot copy is shared
            return self._share(value)

    def _keep(self, original: Any, copied: Any) -> Any:
        """Register a copy, and return it."""
        self._copies[id(original)] = original, copied
        return copied

    def _share(self, value: Any) -> Any:
        """Register a value that is its own copy, and return it."""
        self.on_shared(value)
        return self._keep(value, value)

    def _handler(self, cls: type) -> Handler | None:
        """The function that copies instances of a class; None if they are shared."""
        if cls not in self._handlers:
            self._handlers[cls] = self._find_handler(cls)
            self.on_shared(cls)
        return self._handlers[cls]

    def _find_handler(self, cls: type) -> Handler | None:
        raise NotImplementedError
