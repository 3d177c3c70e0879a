"""Operators on lists of tensors (``_foreach_add_``) as what they do to each, so that each is seen and has a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from graphflops.torch_private import OpOverload

aten = torch.ops.aten

_PREFIX = "aten::_foreach_"
_NAMES: Mapping[str, Any] = {"norm": aten.linalg_vector_norm, "minimum": aten.clamp_max, "maximum": aten.clamp_min}
"""operators that go by another name for one tensor; the last two where the other operand is a number"""
_VALUE = 0.5
"""a factor that a tensor holds: any number that is not 1"""


def is_foreach(op: OpOverload) -> bool:
    """Whether an operator is one on lists of tensors, for which there is one on a tensor."""
    return op._schema.name.startswith(_PREFIX) and (_base(op) in _NAMES or hasattr(aten, _base(op)))


def one_by_one(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The results of an operator on lists, made by calling the operator on single tensors for each of their members."""
    names = [each.name for each in op._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    length = next(len(each) for each in given.values() if isinstance(each, (list, tuple)))
    results = [_one(op, {name: _member(name, each, i) for name, each in given.items()}) for i in range(length)]
    return results if op._schema.returns and not op._schema.is_mutable else None


def _base(op: OpOverload) -> str:
    return str(op._schema.name).removeprefix(_PREFIX).removesuffix("_")


def _member(name: str, value: Any, i: int) -> Any:
    if isinstance(value, (list, tuple)):
        return value[i]
    return _VALUE if name == "scalars" and torch.is_tensor(value) else value


def _one(op: OpOverload, given: dict[str, Any]) -> Any:
    """One call. Of a factor that is a list of numbers, each is the number that the operator has by another name."""
    base, mark = _base(op), "_" if op._schema.is_mutable else ""
    other = next((given[each] for each in ("other", "scalar", "scalars") if each in given), None)
    packet = getattr(aten, base + mark, None)
    if base in _NAMES and not torch.is_tensor(other):
        packet = getattr(aten, _NAMES[base].__name__ + mark)
    first, *rest = given.items()
    if base.startswith("addc"):
        value = next((each for name, each in rest if name in ("value", "scalars")), 1)
        factors = (each for name, each in rest if name.startswith("tensor"))
        return packet(first[1], *factors, value=value)  # type: ignore[misc]
    options = {name: each for name, each in rest if name in ("alpha", "dtype")}
    return packet(first[1], *(each for name, each in rest if name not in options), **options)  # type: ignore[misc]
