"""The scalar operations of single operators: a count, zero for data movement, or none for those to be decomposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any

import torch

from graphflops.analysis.mac_counter import MAC_FORMULAS
from graphflops.core.costs import ZERO, Work
from graphflops.core.torch_compat import tree_leaves

aten = torch.ops.aten
prims = torch.ops.prims


def functional(op: Any) -> Any:
    """The functional operator that an in-place one is a variant of."""
    return _functional(op) if op.namespace in ("aten", "prims", "prim") else _find_functional(op)


@cache
def _functional(op: Any) -> Any:
    return _find_functional(op)


def _find_functional(op: Any) -> Any:
    packet = getattr(getattr(torch.ops, op.namespace), _name(op), None)
    return getattr(packet, op._overloadname, op) if packet is not None else op


def scalar_work(op: Any, args: Any, kwargs: Any, result: Any) -> Work | None:
    """The work of an operator that is a scalar operation on each element; None for one that is to be decomposed."""
    if op.overloadpacket in MAC_FORMULAS:
        return _product(op, args, kwargs, result)
    op = functional(op)
    name = _name(op)
    operands = [leaf for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)]
    if op.namespace == "prim" or name in FREE or not operands or _is_view(op):
        return ZERO
    out = result if torch.is_tensor(result) else operands[0]
    if op.overloadpacket in _BY_HAND:
        return _BY_HAND[op.overloadpacket](operands, args, result)
    if op.overloadpacket in _SCATTERED:
        adds = name in ("index_add", "scatter_add") or True in (kwargs.get("accumulate"), *args[3:4])
        return _on(operands[-1].numel(), out, 2) if adds else ZERO
    if name in _REDUCTIONS and op.namespace in ("prims", "aten"):
        return _on(operands[0].numel(), operands[0], 6 if name in ("prod", "cumprod") else 2)
    if torch.is_tensor(result) and result.is_complex() and name in ("mul", "div") and op.namespace == "aten":
        real = [not operand.is_complex() for operand in operands]
        if (any(real) or len(operands) == 1) and not isinstance(args[1], complex):
            if name == "mul":
                return Work(elementwise=2 * result.numel())
            return Work(division=2 * result.numel()) if not args[1:] or not _is_complex(args[1]) else None
    if op.namespace != "prims":
        return None
    typed = out if name == "where" else operands[0]  # the tensor whose dtype decides: a comparison returns bool
    if typed.is_complex() and name in _COMPLEX:
        return out.numel() * _COMPLEX[name]
    return next((_on(out.numel(), typed, 0, kind) for kind, names in _CLASSES.items() if name in names), None)


def _product(op: Any, args: Any, kwargs: Any, result: Any) -> Work:
    """Multiply-adds, a complex one as four; the gradient of a convolution's bias is a sum."""
    factors = [leaf for leaf in tree_leaves(args) if torch.is_tensor(leaf)]
    count = MAC_FORMULAS[op.overloadpacket](result, *args)
    in_reals = 4 if any(factor.is_complex() for factor in factors) else 1
    if op is aten.convolution_backward.default and args[-1][2]:
        return Work(macs=in_reals * count, accumulate=args[0].numel())
    work = Work(macs=in_reals * count)
    for scale in (kwargs.get("alpha", 1), kwargs.get("beta", 1)):
        if scale not in (0, 1):
            work += _on(result.numel(), result, 2) or ZERO
    return work


def _on(count: int, tensor: Any, in_reals: int, kind: str = "elementwise") -> Work | None:
    """Operations on elements of a tensor: ``in_reals`` real ones for a complex element, None if that is 0."""
    if tensor.is_complex():
        return Work(elementwise=in_reals * count) if in_reals else None
    if not tensor.is_floating_point():
        return Work(integer=count)
    return Work(**{kind: count})


def is_reduction(op: Any) -> bool:
    """Whether an operator only adds numbers up."""
    return op.overloadpacket in (aten.sum, prims.sum, *_SCATTERED)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _name(op: Any) -> str:
    """The name of an operator, without the underscore of an in-place variant."""
    name = str(op._schema.name.split("::")[1])
    return name if name.endswith("__") else name.removesuffix("_")


def _is_complex(value: Any) -> bool:
    return value.is_complex() if torch.is_tensor(value) else isinstance(value, complex)


def _is_view(op: Any) -> bool:
    infos = [argument.alias_info for argument in op._schema.returns]
    return bool(infos) and all(info is not None and not info.is_write for info in infos)


_SCATTERED = (aten.index_add, aten.index_put, aten.index_put_, aten._unsafe_index_put, aten.scatter_add)
_REDUCTIONS = _names("sum amax amin argmax argmin max min any all cumsum cumprod prod xor_sum")
FREE = _names(
    """clone _to_copy copy contiguous cat stack roll flip constant_pad_nd fill zero complex select_scatter slice_scatter
    zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_empty_strided rand_like
    randn_like randint_like bernoulli uniform normal exponential random multinomial gather index index_select embedding
    scatter _local_scalar_dense convert_element_type broadcast_in_dim view_of reshape collapse transpose squeeze
    split_dim slice as_strided copy_to copy_strided device_put rev real imag conj resize detach _unsafe_view
    _unsafe_index repeat diag_embed geometric cauchy log_normal _linalg_check_errors _pack_padded_sequence"""
)
"""operators that move, view, create or draw data, and compute nothing with it"""


def _avgpool(operands: Any, args: Any, result: Any) -> Work:
    """A sum over the window and a division for each element; a window at an edge counts as a full one."""
    return Work(elementwise=prod(args[1]) * result.numel(), division=result.numel())


def _avgpool_backward(operands: Any, args: Any, result: Any) -> Work:
    """Each gradient divided, and added to every element of its window."""
    return Work(accumulate=prod(args[2]) * operands[0].numel(), division=operands[0].numel())


def _scatter_backward(operands: Any, args: Any, result: Any) -> Work:
    """Each gradient added to the element that was selected."""
    return Work(accumulate=operands[0].numel())


_BY_HAND: Mapping[Any, Callable[[Any, Any, Any], Work]] = {
    **dict.fromkeys((aten.avg_pool2d, aten.avg_pool3d), _avgpool),
    **dict.fromkeys((aten.avg_pool2d_backward, aten.avg_pool3d_backward), _avgpool_backward),
    **dict.fromkeys(
        (
            aten.upsample_nearest1d_backward, aten.upsample_nearest2d_backward, aten.upsample_nearest3d_backward,
            aten._upsample_nearest_exact1d_backward, aten._upsample_nearest_exact2d_backward,
            aten._upsample_nearest_exact3d_backward, aten.max_pool3d_with_indices_backward,
            aten.embedding_dense_backward,
            aten.replication_pad1d_backward, aten.replication_pad2d_backward, aten.replication_pad3d_backward,
        ),
        _scatter_backward,
    ),
    aten._int_mm: lambda operands, args, result: Work(macs=operands[0].numel() * operands[1].shape[-1]),
}  # fmt: skip
"""operators that PyTorch does not decompose"""
_CLASSES = {
    "elementwise": _names(
        """add sub neg where mul abs sign signbit floor ceil round trunc eq ne lt le gt ge maximum minimum fmax fmin
        bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right_arithmetic isfinite remainder fmod frexp
        copysign nextafter"""
    ),
    "division": _names("div sqrt rsqrt reciprocal"),
    "transcendental": _names(
        """exp exp2 expm1 log log1p log2 log10 sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh
        erf erfc erf_inv erfcx lgamma digamma pow cbrt bessel_i0 bessel_i1 igamma igammac zeta ndtri"""
    ),
}
"""class of work → the prims that are one operation of this class for each element"""
_COMPLEX = {
    **dict.fromkeys(("add", "sub", "neg", "where", "eq", "ne"), Work(elementwise=2)),
    "mul": Work(elementwise=6),
    "div": Work(elementwise=9, division=2),  # z·w̄ and |w|², then two divisions
    "reciprocal": Work(elementwise=3, division=2),
    "abs": Work(elementwise=3, division=1),  # √(re² + im²)
    "exp": Work(elementwise=2, transcendental=3),  # eʳᵉ·(cos im, sin im)
}
"""prims on complex numbers, in real operations"""
