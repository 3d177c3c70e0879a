"""Values of results that follow from the operator, whatever its operands hold.

Fills are constants. Others are assumptions: numbers are finite, factorizations succeed, and selections by rank are
balanced, so that a loop over experts sees as many tokens in total as with any data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.tracing.values.provenance import Call
from graphflops.tracing.values.tensor_values import Value, real_execution

aten = torch.ops.aten

MAX_ELEMENTS = 2**26
"""elements of the largest tensor whose values are computed"""


@dataclass(frozen=True)
class _Argument:
    """The position of the argument that a factory fills with."""

    position: int


_FILLS: Mapping[Any, int | _Argument] = {
    aten.ones: 1,
    aten.ones_like: 1,
    aten.new_ones: 1,
    aten.zeros: 0,
    aten.zeros_like: 0,
    aten.new_zeros: 0,
    aten.full: _Argument(1),
    aten.full_like: _Argument(1),
    aten.new_full: _Argument(2),
}
_FINITE_PREDICATES: Mapping[Any, bool] = {
    aten.isnan: False,
    aten.isinf: False,
    aten.isposinf: False,
    aten.isneginf: False,
    aten.isfinite: True,
    aten.eq: True,
    aten.ne: False,  # x == x, which is how PyTorch tests for NaN
}
_STATUS_RESULTS: Mapping[Any, int] = {
    aten.linalg_cholesky_ex: 1,
    aten.linalg_inv_ex: 1,
    aten.linalg_solve_ex: 1,
    aten.linalg_lu_factor_ex: 2,
    aten.linalg_ldl_factor_ex: 2,
    aten._linalg_solve_ex: 3,
}
"""factorization → position of the result that is 0 if it succeeded"""


def fill_value(tensor: torch.Tensor, call: Call) -> Value | None:
    """The value of a tensor that a factory filled; None if the number is in a tensor."""
    fill = _FILLS[call.op.overloadpacket]
    number = call.args[fill.position] if isinstance(fill, _Argument) else fill
    if torch.is_tensor(number):
        return None
    with real_execution():
        return Value(torch.tensor(number, dtype=tensor.dtype).expand(tensor.shape))


def is_fill(call: Call) -> bool:
    """Whether a call fills a tensor with one number."""
    return call.op.overloadpacket in _FILLS


def finite_value(tensor: torch.Tensor, call: Call) -> Value | None:
    """The value of a predicate that all finite numbers share: they equal themselves, and not infinity."""
    packet, args = call.op.overloadpacket, call.args
    truth = _FINITE_PREDICATES.get(packet)
    if packet in (aten.eq, aten.ne) and args[0] is not args[1]:
        is_with_infinity = isinstance(args[1], float) and not math.isfinite(args[1])
        truth = not truth if is_with_infinity else None
    if truth is None:
        return None
    with real_execution():
        return Value(torch.tensor(truth).expand(tensor.shape), frozenset({"number"}))


def success_status(tensor: torch.Tensor, call: Call) -> Value | None:
    """The value of the status of a factorization, which is assumed to succeed; None of any other result."""
    if _STATUS_RESULTS.get(call.op.overloadpacket) != call.index:
        return None
    with real_execution():
        return Value(torch.zeros(tensor.shape, dtype=tensor.dtype))


def balanced_selection(tensor: torch.Tensor, call: Call) -> Value | None:
    """The indices that a selection by rank returns, as if each row selected the next ones in turn.

    Each index occurs equally often, and none twice in a row. None of any other result.
    """
    find_dim = _SELECTION_DIMS.get(call.op.overloadpacket)
    if find_dim is None:
        return None
    scores, has_values = call.args[0], len(call.op._schema.returns) > 1
    dim = find_dim(call.args, call.kwargs)
    if call.index != has_values or dim is None or not scores.dim() or tensor.numel() > MAX_ELEMENTS:
        return None
    candidates = scores.shape[dim]
    keeps_dim = tensor.dim() == scores.dim()
    selected = tensor.shape[dim] if keeps_dim else 1
    rows = [size for axis, size in enumerate(scores.shape) if axis != dim % scores.dim()]
    with real_execution():
        indices = (torch.arange(math.prod(rows) * selected) % candidates).reshape(*rows, selected)
        indices = indices.movedim(-1, dim) if keeps_dim else indices.squeeze(-1)
    return Value(indices, frozenset({"rank"}))


def is_selection(call: Call) -> bool:
    """Whether a call selects by rank."""
    return call.op.overloadpacket in _SELECTION_DIMS


def _dim_argument(position: int, default: int | None) -> Callable[[Any, Any], int | None]:
    def find(args: Any, kwargs: Any) -> int | None:
        dim: int | None = args[position] if len(args) > position else kwargs.get("dim", default)
        return dim

    return find


def _dim_of_sort(args: Any, kwargs: Any) -> int | None:
    if "dim" in kwargs:
        return int(kwargs["dim"])
    integers = (argument for argument in args[1:] if isinstance(argument, int) and not isinstance(argument, bool))
    return next(integers, -1)


_SELECTION_DIMS: Mapping[Any, Callable[[Any, Any], int | None]] = {
    aten.topk: _dim_argument(2, -1),
    aten.sort: _dim_of_sort,
    aten.argsort: _dim_of_sort,
    aten.argmax: _dim_argument(1, None),
    aten.argmin: _dim_argument(1, None),
    aten.max: _dim_argument(1, None),
    aten.min: _dim_argument(1, None),
}
"""selection by rank → function that finds the dimension among the arguments"""
