"""Shape checks: the errors that PyTorch raises for operands whose sizes do not fit, which meta kernels do not raise.

The real kernel is run once for each operator and sizes, on small tensors: the distinct sizes of the operands are
replaced by 4, 5, 6, … in their order, so that equal sizes stay equal, and larger ones larger; 0 to 3 stay. A
convolution, whose groups and windows are relations of other kinds, is run on a batch of zero images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from graphflops.tracing.values.tensor_values import Value, real_execution

aten = torch.ops.aten

MAX_REPEATED_ELEMENTS = 2**24
"""elements of the operands of a call that is repeated with its own sizes, if it is refused with small ones"""
_CHECKED = frozenset(
    {
        *("addmm", "addmv", "linalg_cross", "linalg_lstsq", "native_batch_norm", "nll_loss2d_forward"),
        *("_softmax", "_log_softmax", "sort", "cumsum", "cumprod", "soft_margin_loss", "masked_scatter"),
        *("index_select", "index_add", "index_copy", "index_fill", "index_put", "put"),
        *("bucketize", "searchsorted"),
    }
)
"""names of operators whose meta kernels do not check all sizes"""
_COMPARES_PRODUCTS = frozenset({"aten::put", "aten::put_", "aten::masked_scatter", "aten::masked_scatter_"})
"""those that compare numbers of elements, which small sizes do not keep equal; the others compare sizes"""
_ATTENTION = frozenset(
    f"_scaled_dot_product_{kernel}"
    for kernel in (
        *("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention", "attention_math"),
        "fused_attention_overrideable",
    )
)
_FIRST_REPLACED = 4
"""smaller sizes stay: a cross product is of three numbers"""
MAX_INDICES = 2**17
"""indices of an embedding that are compared with the rows of its table"""
_errors: dict[Any, Exception | None] = {}
"""operator, shapes, dtypes and other arguments → the error that PyTorch raises for them, if it does"""


def check_shapes(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Check the sizes of the operands of a call.

    Raises:
        RuntimeError, IndexError, NotImplementedError: as the operator on real tensors does.
    """
    if not _is_checked(op):
        return
    if op._schema.name.startswith("aten::_scaled_dot_product"):
        _check_attention(*args[1:3])
        return
    key = (op, *map(_key, args), *((name, _key(value)) for name, value in kwargs.items()))
    if key not in _errors:
        _errors[key] = _shape_error(op, args, kwargs)
    if (error := _errors[key]) is not None:
        raise type(error)(*error.args)


@cache
def _is_checked(op: OpOverload) -> bool:
    name = op._schema.name.removeprefix("aten::").removesuffix("_")
    return op.namespace == "aten" and (name in _CHECKED or name == "convolution" or name in _ATTENTION)


def check_ctc(
    log_probs: torch.Tensor, targets: torch.Tensor, input_lengths: Any, target_lengths: Any, **_: Any
) -> None:
    """Check that the operands of ``ctc_loss``, which is not run, are of one batch."""
    batch = log_probs.shape[1] if log_probs.dim() == 3 else 1
    sizes = {
        "input_lengths": input_lengths.numel() if torch.is_tensor(input_lengths) else len(input_lengths),
        "target_lengths": target_lengths.numel() if torch.is_tensor(target_lengths) else len(target_lengths),
        "targets": targets.shape[0] if targets.dim() == 2 else batch,
    }
    for name, size in sizes.items():
        if size != batch:
            raise RuntimeError(
                f"ctc_loss: {name} has {size} rows, and the batch {batch}: log_probs of shape "
                f"{tuple(log_probs.shape)} are (time, batch, classes)"
            )


def check_indices(op: OpOverload, args: tuple[Any, ...], value_of: Callable[[torch.Tensor], Value | None]) -> None:
    """Check that the known indices of an embedding, such as positions, are rows of its table."""
    if op is not aten.embedding.default or args[1].numel() > MAX_INDICES or not args[1].numel():
        return
    table, indices = args[0], args[1]
    if (value := value_of(indices)) is None or value.assumptions:
        return
    with real_execution():
        largest = int(value.tensor.max())
    if largest >= table.shape[0]:
        raise IndexError(f"index out of range in self: {largest}, and the table has {table.shape[0]} rows")


def _check_attention(key: torch.Tensor, value: torch.Tensor) -> None:
    """Check that there are as many values as keys: the kernel for CPUs reads memory of others if there are not."""
    if key.shape[-2] != value.shape[-2]:
        raise RuntimeError(
            f"scaled_dot_product_attention: there are {key.shape[-2]} keys and {value.shape[-2]} values, of shapes "
            f"{tuple(key.shape)} and {tuple(value.shape)}"
        )


def _key(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype
    return tuple(map(_key, value)) if isinstance(value, (list, tuple)) else value


def _shape_error(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exception | None:
    """The error that a call raises on real tensors with sizes in the same relations, if it does."""
    operands = tensors_among((*args, *kwargs.values()))
    has_mask = any(operand.dtype in (torch.bool, torch.uint8) for operand in operands[1:])
    if not has_plain_operands((args, dict(kwargs))) or (has_mask and "index_put" in op._schema.name):
        return None  # the values of a mask decide how many rows it selects
    if op is aten.convolution.default:
        return error_on_real_tensors(op, lambda: (_without_images(args), dict(kwargs)))
    distinct = sorted({size for operand in operands for size in operand.shape})
    larger = [size for size in distinct if size >= _FIRST_REPLACED]
    own = {size: size for size in (*range(_FIRST_REPLACED), *larger)}
    small = own | {size: number for number, size in enumerate(larger, start=_FIRST_REPLACED)}
    error = error_on_real_tensors(op, lambda: _with_sizes(small, args, kwargs))
    if error is None:
        return None
    if sum(operand.numel() for operand in operands) > MAX_REPEATED_ELEMENTS:
        return None if op._schema.name in _COMPARES_PRODUCTS else error
    return error_on_real_tensors(op, lambda: _with_sizes(own, args, kwargs))


def _with_sizes(sizes: Mapping[int, int], args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The arguments of a call with tensors of zeros, of other sizes."""

    def replace(value: Any) -> Any:
        return (
            zeros_like_dtype((sizes[size] for size in value.shape), value) if isinstance(value, torch.Tensor) else value
        )

    replaced: tuple[Any, Any] = tree_map(replace, (tuple(args), dict(kwargs)))
    return replaced


def _without_images(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a convolution with a batch of zero images, and parameters whose memory is not written."""
    images, *parameters = args
    empty = torch.empty((0, *images.shape[1:]), dtype=images.dtype, device="cpu")
    return empty, *(
        torch.empty(value.shape, dtype=value.dtype, device="cpu") if isinstance(value, torch.Tensor) else value
        for value in parameters
    )
