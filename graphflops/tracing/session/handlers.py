"""The call handler of a thread: the object to which intercepted calls are passed, if an analysis traces there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from graphflops.core.torch_compat import OpOverload


class CallHandler(Protocol):
    """Receives the calls of a traced program; methods that get a call return its result."""

    recording: bool
    """whether calls are recorded"""

    def call_of(self, module: nn.Module) -> Callable[..., Any]:
        """Return the callable in place of a module."""

    def on_module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Handle the call of a module, which ``call`` runs."""

    def on_autograd_function(self, apply: Callable[..., Any], cls: type, args: Any, kwargs: Any) -> Any:
        """Handle the ``apply`` of an autograd.Function."""

    def on_engine(self, call: Callable[..., Any], roots: Any, args: Any, kwargs: Any) -> Any:
        """Handle a run of autograd's engine, which goes back from ``roots``."""

    def on_optimizer(self, call: Callable[..., Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Handle a step of an optimizer."""

    def on_function(self, function: Any, args: Any, kwargs: Any) -> tuple[bool, Any]:
        """Handle the call of a torch function or method: whether it is a leaf, and then its result."""

    def on_operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """Handle the call of an operator that autograd differentiates."""

    def on_getattr(self, get: Callable[..., Any], module: nn.Module, name: str) -> Any:
        """Handle the lookup of an attribute that is not in the module's ``__dict__``; ``get`` is PyTorch's lookup."""

    def on_setattr(self, put: Callable[..., Any], module: nn.Module, name: str, value: Any) -> None:
        """Handle the assignment of an attribute of a module."""

    def on_delattr(self, remove: Callable[..., Any], module: nn.Module, name: str) -> None:
        """Handle the deletion of an attribute of a module."""

    def on_random_draw(self, name: str) -> None:
        """Handle a call of this function, which drew a random number from the generator of the analysis."""

    def on_save(self) -> None:
        """Handle a call of ``torch.save``, which writes no file."""

    def decide(self, truth: torch.Tensor) -> bool:
        """The truth value of a tensor on which the program branches."""


class _ThreadState(threading.local):
    handler: CallHandler | None = None


_thread = _ThreadState()


def call_handler() -> CallHandler | None:
    """The call handler of this thread."""
    return _thread.handler


@contextmanager
def handled_by(handler: CallHandler) -> Iterator[None]:
    """Calls of this thread are passed to a handler while this is open."""
    before, _thread.handler = _thread.handler, handler
    try:
        yield
    finally:
        _thread.handler = before
