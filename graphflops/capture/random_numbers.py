"""Random numbers that a program reads: drawn from a generator of the analysis's own, always the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload

aten = torch.ops.aten

SEED = 135735
"""The first 64 numbers of ``torch.rand(())`` with it are between 0.1 and 0.9: a layer that is seldom dropped is not
dropped in the one step that an analysis looks at."""


class Draws:
    """The generator of one trace. Numbers are drawn when they are read, so in the order in which they are."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(SEED)
        self.count = 0
        """how often something was drawn"""

    def run(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operator that draws random numbers, on real tensors; None if it takes no generator."""
        drawing = _with_generator(op)
        if drawing is None and op.overloadpacket in _LIKE:  # they take no generator in older versions, such as 2.8
            op, args, kwargs = _by_shape(op, args, kwargs)
            drawing = _with_generator(op)
        if drawing is None:
            return None
        self.count += 1
        names = [each.name for each in drawing._schema.arguments if not each.kwarg_only]
        place = names.index("generator") if "generator" in names else len(args)
        given = {name: value for name, value in kwargs.items() if name != "generator"}
        if place < len(args):
            return drawing(*args[:place], self.generator, *args[place + 1 :], **given)
        return drawing(*args, **given, generator=self.generator)


_LIKE = {aten.rand_like: aten.rand, aten.randn_like: aten.randn, aten.randint_like: aten.randint}


def _by_shape(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The same draw, of the shape of a tensor and not of the tensor."""
    tensor, *bounds = args
    given = {name: value for name, value in kwargs.items() if name != "memory_format"}
    named = _LIKE[op.overloadpacket]
    overload = named.low if len(bounds) == 2 else named.default
    return overload, (*bounds, list(tensor.shape)), {**given, "dtype": given.get("dtype") or tensor.dtype}


def _with_generator(op: OpOverload) -> OpOverload | None:
    """The overload of an operator that is told which generator to draw from."""
    names = [op._overloadname, *(f"{op._overloadname}{each}" for each in ("_generator", "generator"))]
    for name in (*names, "generator"):
        overload = getattr(op.overloadpacket, name, None)
        if overload is not None and any(each.name == "generator" for each in overload._schema.arguments):
            return overload  # type: ignore[no-any-return]
    return None
