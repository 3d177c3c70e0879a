"""A bare function as a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from graphflops.tracing.copies.reachable_modules import find_modules, register_modules


class FunctionModule(nn.Module):
    """A module whose forward is a function, and whose submodules are the modules that the function reaches."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.forward = function
        self.name = getattr(function, "__name__", type(function).__name__)
        register_modules(self, find_modules(function, args, kwargs))
