"""Dtype checks: the errors that PyTorch raises for operands of wrong dtypes, which meta kernels do not raise.

The real kernel is run once for each operator and dtypes, on tensors of one element with the same numbers of axes. An
error about dtypes is raised as PyTorch words it; any other is due to these tiny tensors, and no fault of the model.
Operands that all have one floating-point dtype are not checked: a CPU may lack a kernel that a GPU has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload, tree_map
from graphflops.tracing.values.real_kernels import (
    error_on_real_tensors,
    has_plain_operands,
    tensors_among,
    zeros_like_dtype,
)

aten = torch.ops.aten

MAX_WINDOW = 32
"""size of each axis of the operands of an operator with a window or a rank that is tried"""
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_DTYPE_ERROR = re.compile(
    r"not implemented for '|dtype|scalar ?type|\b[Bb]ool(ean|Tensor)?\b|complex|floating|integ(er|ral)|"
    r"Long|(weight|bias) type|can't be cast|to have the same type|Subtraction, the `-` operator"
)
_CHECKED = frozenset(
    {
        *("mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "addr", "_trilinear"),
        *("convolution", "_softmax", "_log_softmax", "_safe_softmax", "native_layer_norm", "native_group_norm"),
        *("native_batch_norm", "embedding", "nll_loss_forward", "nll_loss2d_forward", "_cdist_forward"),
        *("_pdist_forward", "glu", "_prelu_kernel", "hardswish", "binary_cross_entropy_with_logits", "index", "std"),
        *("var", "std_mean", "var_mean", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "sum", "prod"),
        *("cumsum", "cumprod", "logsumexp", "linalg_vector_norm", "norm", "sort", "gather", "scatter", "scatter_add"),
        *("index_select", "index_add", "masked_fill", "masked_select", "masked_scatter", "im2col"),
        *("log_sigmoid_forward", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
        *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
        *("grid_sampler_2d", "grid_sampler_3d", "binary_cross_entropy", "smooth_l1_loss", "huber_loss", "mse_loss"),
        *("soft_margin_loss", "multi_margin_loss", "multilabel_margin_loss_forward", "col2im", "max_unpool2d"),
        *("max_unpool3d", "topk", "kthvalue", "bincount", "searchsorted", "bucketize", "trace", "linalg_cross"),
        *("index_put", "index_fill", "index_copy", "put", "linalg_solve_triangular", "triangular_solve"),
        *("_linalg_eigh", "linalg_lstsq", "complex", "polar", "upsample_linear1d", "upsample_nearest1d"),
        *("upsample_nearest2d", "upsample_nearest3d"),
        *("upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_nearest_exact2d"),
        *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    }
)
"""names of the operators that are not pointwise and are tried: their results are no larger than their operands"""
_INTEGER_OPERANDS = ("index", "embedding", "gather", "scatter", "masked", "nll_loss", "bitwise", "bincount")
"""beginnings of the names of operators that take integers or booleans beside numbers, so that one dtype is wrong"""
_errors: dict[Any, Exception | None] = {}
"""operator, dtypes and numbers of axes, sizes of a convolution → the error that PyTorch raises for them, if it does"""


def check_dtypes(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Check the dtypes of the operands of a call.

    Raises:
        RuntimeError, NotImplementedError: as the operator on real tensors does.
    """
    if not _is_checked(op):
        return
    operands = tensors_among((*args, *kwargs.values()))
    dtypes = {operand.dtype for operand in operands}
    if not operands or (len(dtypes) == 1 and operands[0].dtype in _FLOATS and not _takes_integers(op)):
        return
    is_convolution = op is aten.convolution.default  # its kernel, and so the error, depends on sizes and groups
    key = (
        op,
        *((operand.dtype, operand.shape if is_convolution else operand.dim()) for operand in operands),
        str(args[3:]) if is_convolution else "",
    )
    if key not in _errors:
        _errors[key] = _dtype_error(op, args, kwargs)
    if (error := _errors[key]) is not None:
        raise type(error)(*error.args)


@cache
def _is_checked(op: OpOverload) -> bool:
    """Whether a result is no larger than the operands, so that trying the operator costs next to nothing."""
    if op.namespace != "aten" or torch.Tag.nondeterministic_seeded in op.tags:
        return False
    if any(result.alias_info and not result.alias_info.is_write for result in op._schema.returns):
        return False  # a view
    name = op._schema.name.removeprefix("aten::").removesuffix("_")
    return name in _CHECKED or torch.Tag.pointwise in op.tags or _is_variant_of_pointwise(op, name)


@cache
def _takes_integers(op: OpOverload) -> bool:
    return op._schema.name.removeprefix("aten::").startswith(_INTEGER_OPERANDS)


def _is_variant_of_pointwise(op: OpOverload, name: str) -> bool:
    variant = getattr(getattr(aten, name, None), op._overloadname, None)
    return variant is not None and torch.Tag.pointwise in variant.tags


def _dtype_error(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exception | None:
    """The error about dtypes that a call raises on tiny real tensors, if it does."""
    if not has_plain_operands((args, dict(kwargs))):
        return None
    named: dict[str, Any] = tree_map(lambda value: _tiny(value, 1), dict(kwargs))
    error = error_on_real_tensors(op, lambda: (_tiny_arguments(op, args), named))
    return error if error is not None and _DTYPE_ERROR.search(str(error)) else None


def _tiny_arguments(op: OpOverload, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments with tensors of one element, and sizes that fit these."""
    name = op._schema.name.removeprefix("aten::")
    if name == "convolution":
        images, weight, bias, *attributes = args
        transposed, groups = attributes[3], attributes[-1]
        # transposed, another kernel runs where the window has one element, and that one takes a bias of any dtype
        window = [min(size, MAX_WINDOW) if transposed else 1 for size in weight.shape[2:]]
        shapes = (1, groups, *(1,) * (images.dim() - 2)), (groups, 1, *window), (groups,)
        operands = zip((images, weight, bias), shapes, strict=True)
        return (
            *(operand if operand is None else zeros_like_dtype(shape, operand) for operand, shape in operands),
            *attributes,
        )
    if name == "native_layer_norm":
        return tuple(_tiny([1] * len(value) if isinstance(value, (list, tuple)) else value, 1) for value in args)
    if name == "native_group_norm":
        return (*(_tiny(value, 1) for value in args[:3]), 1, 1, 1, 1, *args[7:])
    if name.startswith("grid_sampler"):
        grid = args[1]
        return (_tiny(args[0], 1), zeros_like_dtype((*(1,) * (grid.dim() - 1), grid.dim() - 2), grid), *args[2:])
    if name == "glu":
        return (zeros_like_dtype((2,) * args[0].dim(), args[0]), *args[1:])
    if name == "col2im":
        kernel = math.prod(args[2])
        return (
            zeros_like_dtype((*(1,) * (args[0].dim() - 2), kernel, 1), args[0]),
            args[2],
            args[2],
            [1, 1],
            [0, 0],
            [1, 1],
        )
    if "upsample" in name:
        return _tiny(args[0], 1), [1] * (args[0].dim() - 2), *args[2:]
    size = MAX_WINDOW if "pool" in name or name in ("im2col", "topk", "kthvalue") else 1
    tiny: tuple[Any, ...] = tree_map(lambda value: _tiny(value, size), tuple(args))
    return tiny


def _tiny(value: Any, size: int) -> Any:
    """A tensor with at most so many positions along each axis; a value that is no tensor or device itself."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if not isinstance(value, torch.Tensor):
        return value
    return zeros_like_dtype([min(length, size) for length in value.shape] if size > 1 else [1] * value.dim(), value)
