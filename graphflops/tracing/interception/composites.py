"""Composite operators: those that PyTorch runs as other operators, above autograd."""

from __future__ import annotations

from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload, OpOverloadPacket, has_kernel, is_registered
from graphflops.core.weak import weakly_cached


def aten_operator(function: Any) -> OpOverload | None:
    """Return the ATen operator that has the name of a function; an operator itself."""
    name = getattr(function, "__name__", "")
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.isidentifier() else None
    op = getattr(packet, "default", None) if isinstance(packet, OpOverloadPacket) else None
    return function if isinstance(function, OpOverload) else op


@weakly_cached
def is_composite(op: OpOverload) -> bool:
    """Whether an operator is composite: another overload of its name need not be."""
    overload = "" if op._overloadname == "default" else f".{op._overloadname}"
    return _is_composite(f"{op._schema.name}{overload}")


def has_composite_name(op: OpOverload) -> bool:
    """Whether the default overload of an operator's name is composite."""
    return _is_composite(op._schema.name)


def _is_composite(name: str) -> bool:
    return is_registered(name) and has_kernel(name, "CompositeImplicitAutograd")
