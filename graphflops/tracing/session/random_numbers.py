"""Random numbers that a program draws, of PyTorch, Python and numpy: from generators of the analysis, with fixed seeds.

The generators that all threads share are neither read nor written.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload
from graphflops.tracing.session.handlers import call_handler
from graphflops.tracing.session.session import is_tracing, session

aten = torch.ops.aten

SEED = 135735
"""The first 64 numbers of ``torch.rand(())`` with it are between 0.1 and 0.9: a layer that is seldom dropped is not
dropped in the one step that an analysis looks at."""


class Draws:
    """PyTorch's random numbers in one trace: drawn when the program reads their values, in the order of the reads."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(SEED)
        self.count = 0
        """how often the program has drawn"""

    def run(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run an operator that draws random numbers, on real tensors; return None if it takes no generator."""
        drawing = _with_generator(op)
        if drawing is None and op.overloadpacket in _LIKE:  # they take no generator in older versions, such as 2.8
            op, args, kwargs = _by_shape(op, args, kwargs)
            drawing = _with_generator(op)
        if drawing is None:
            return None
        self.count += 1
        names = [argument.name for argument in drawing._schema.arguments if not argument.kwarg_only]
        index = names.index("generator") if "generator" in names else len(args)
        options = {name: value for name, value in kwargs.items() if name != "generator"}
        if index < len(args):
            return drawing(*args[:index], self.generator, *args[index + 1 :], **options)
        return drawing(*args, **options, generator=self.generator)


_LIKE = {aten.rand_like: aten.rand, aten.randn_like: aten.randn, aten.randint_like: aten.randint}


def _by_shape(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Rewrite ``rand_like(tensor)`` as ``rand(shape)``."""
    tensor, *bounds = args
    options = {name: value for name, value in kwargs.items() if name != "memory_format"}
    packet = _LIKE[op.overloadpacket]
    overload = packet.low if len(bounds) == 2 else packet.default
    return overload, (*bounds, list(tensor.shape)), {**options, "dtype": options.get("dtype") or tensor.dtype}


def _with_generator(op: OpOverload) -> OpOverload | None:
    """The overload of an operator that takes a generator."""
    names = [op._overloadname, *(f"{op._overloadname}{suffix}" for suffix in ("_generator", "generator"))]
    for name in (*names, "generator"):
        overload = getattr(op.overloadpacket, name, None)
        if overload is not None and any(argument.name == "generator" for argument in overload._schema.arguments):
            return overload  # type: ignore[no-any-return]
    return None


# -- random numbers of Python and numpy ----------------------------------------------------------------------------


def drawing_functions() -> Iterator[tuple[ModuleType, str]]:
    """The functions of ``random`` and ``numpy.random`` that use the generator that all threads share, by name."""
    for name, value in vars(random).items():
        if getattr(value, "__self__", None) is random._inst:
            yield random, name
    if (numpy := sys.modules.get("numpy.random")) is not None and hasattr(numpy, "mtrand"):
        for name, value in vars(numpy).items():
            if getattr(value, "__self__", None) is numpy.mtrand._rand or name in ("seed", "ranf", "sample"):
                yield numpy, name


_wrapped: dict[int, tuple[Callable[..., Any], Callable[..., Any]]] = {}
"""id of a function → the function, so that the id stays its own, and its replacement"""


def wrap_drawing(module: ModuleType, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function that draws: a traced program draws from the generator of the analysis."""
    if id(original) in _wrapped:
        return _wrapped[id(original)][1]

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        running = session()
        if running is None or not is_tracing():
            return original(*args, **kwargs)
        if name not in ("getstate", "get_state"):
            running.draws += 1
            if (handler := call_handler()) is not None:
                handler.on_random_draw(f"{module.__name__}.{name}")
        return getattr(running.generator_for(module), name)(*args, **kwargs)

    _wrapped[id(original)] = original, call
    return call


def with_own_generator(function: Any) -> Any:
    """The replacement of a function that draws random numbers; None for any other function."""
    original, replacement = _wrapped.get(id(function), (None, None))
    return replacement if original is function and function is not None else None
