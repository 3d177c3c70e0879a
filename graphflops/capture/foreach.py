"""Operators on lists of tensors, ``torch._foreach_mul`` and the like, as the operator on one that is run for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

aten = torch.ops.aten

_PREFIX = "_foreach_"
_BY_NAME = {"alpha", "dtype", "memory_format", "non_blocking"}
"""what the operator on one takes by name too; anything else is its next operand"""
_BOUNDS = {"maximum": "clamp_min", "minimum": "clamp_max"}
"""a maximum with numbers is a bound"""


def foreach_loop(function: Any) -> Callable[..., Any] | None:
    """What does the same as an operator on lists, tensor by tensor; None for any other function."""
    name = getattr(function, "__name__", "")
    if not isinstance(name, str) or not name.startswith(_PREFIX):
        return None
    one = _of_one(name.partition(".")[0].removeprefix(_PREFIX))
    return None if one is None else partial(_run, one, name.partition(".")[0].endswith("_"))


def _run(one: Callable[..., Any], is_in_place: bool, *args: Any, **kwargs: Any) -> Any:
    operands = [*args, *(each for name, each in kwargs.items() if name not in _BY_NAME and name != "value")]
    named = {name: each for name, each in kwargs.items() if name in _BY_NAME}
    if "value" in kwargs:
        operands.append(kwargs["value"])
    count = max(len(each) for each in operands if _is_list(each))
    results = tuple(one(*(each[i] if _is_list(each) else each for each in operands), **named) for i in range(count))
    return list(results) if is_in_place else results


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


@cache
def _of_one(name: str) -> Callable[..., Any] | None:
    """The operator on one tensor, by what comes after the prefix."""
    base, mark = name.removesuffix("_"), "_" * name.endswith("_")
    operator: Callable[..., Any] | None = getattr(aten, name, None)
    if base == "norm":
        return _norm
    if base in _BOUNDS:
        return _of_one(f"{_BOUNDS[base]}{mark}")
    if operator is not None and base in ("addcmul", "addcdiv"):
        return partial(_scaled, operator)
    return operator


def _scaled(operator: Callable[..., Any], tensor: Any, one: Any, two: Any, value: Any = 1) -> Any:
    return operator(tensor, one, two, value=2 if torch.is_tensor(value) else value)


def _norm(tensor: torch.Tensor, ord: Any = 2, dtype: torch.dtype | None = None) -> Any:
    return torch.linalg.vector_norm(tensor, ord, dtype=dtype)
