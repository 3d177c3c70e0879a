"""Operators on lists of tensors, ``torch._foreach_mul`` and the like, as loops of the operator on one tensor."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

aten = torch.ops.aten

_PREFIX = "_foreach_"
_BY_NAME = {"alpha", "dtype", "memory_format", "non_blocking"}
"""keyword arguments of the operator on one tensor; any other is its next operand"""
_BOUNDS = {"maximum": "clamp_min", "minimum": "clamp_max"}
"""the maximum of a tensor and a number is a clamp"""


def foreach_loop(function: Any) -> Callable[..., Any] | None:
    """The loop that is equal to an operator on lists; None for any other function."""
    name = getattr(function, "__name__", "")
    if not isinstance(name, str) or not name.startswith(_PREFIX):
        return None
    operator = _single_operator(name.partition(".")[0].removeprefix(_PREFIX))
    return None if operator is None else partial(_run, operator, name.partition(".")[0].endswith("_"))


def _run(operator: Callable[..., Any], is_in_place: bool, *args: Any, **kwargs: Any) -> Any:
    operands = [*args, *(value for name, value in kwargs.items() if name not in _BY_NAME and name != "value")]
    options = {name: value for name, value in kwargs.items() if name in _BY_NAME}
    if "value" in kwargs:
        operands.append(kwargs["value"])
    count = max(len(operand) for operand in operands if _is_list(operand))
    results = tuple(
        operator(*(operand[i] if _is_list(operand) else operand for operand in operands), **options)
        for i in range(count)
    )
    return list(results) if is_in_place else results


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


@cache
def _single_operator(name: str) -> Callable[..., Any] | None:
    """The operator on one tensor, by its name without the prefix."""
    base, suffix = name.removesuffix("_"), "_" * name.endswith("_")
    operator: Callable[..., Any] | None = getattr(aten, name, None)
    if base == "norm":
        return _norm
    if base in _BOUNDS:
        return _single_operator(f"{_BOUNDS[base]}{suffix}")
    if operator is not None and base in ("addcmul", "addcdiv"):
        return partial(_with_number, operator)
    return operator


def _with_number(operator: Callable[..., Any], tensor: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    return operator(tensor, tensor1, tensor2, value=2 if torch.is_tensor(value) else value)


def _norm(tensor: torch.Tensor, ord: Any = 2, dtype: torch.dtype | None = None) -> Any:
    return torch.linalg.vector_norm(tensor, ord, dtype=dtype)
