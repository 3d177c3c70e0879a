"""Dtypes that PyTorch refuses: a kernel on fake tensors does not look at them, one on real tensors does.

So the real kernel is asked, on as good as nothing: tensors of one element, of the same dtypes and numbers of axes, once
for each operator and dtypes. What it says of dtypes is raised in its own words; anything else it says is of these tiny
tensors, and no fault of the model. Operands that all have one floating-point dtype are not asked about: of these a
kernel for CPUs may lack one that is there for GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from graphflops.core.torch_compat import (
    DisableAutocast,
    DisableTorchFunction,
    OpOverload,
    no_dispatch_modes,
    tree_leaves,
    tree_map,
)

aten = torch.ops.aten

LARGEST_WINDOW = 32
"""positions along an axis of what a kernel is tried on that pools windows"""
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_SAYS_OF_DTYPES = re.compile(
    r"not implemented for '|dtype|scalar ?type|\b[Bb]ool(ean|Tensor)?\b|complex|floating|integ(er|ral)|"
    r"Long|weight type|can't be cast|to have the same type|Subtraction, the `-` operator"
)
_OF_THE_CPU = re.compile(r"not implemented for '(Half|BFloat16|ComplexHalf|Float8\w*)'|on CPU|\"abs_cpu\"")
"""what a kernel for CPUs says that one for GPUs may not say"""
_FAMILIES = frozenset(
    {
        *("mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "addr", "_trilinear"),
        *(
            "convolution",
            "_softmax",
            "_log_softmax",
            "_safe_softmax",
            "native_layer_norm",
            "native_group_norm",
            "native_batch_norm",
        ),
        *("embedding", "nll_loss_forward", "nll_loss2d_forward", "_cdist_forward", "_pdist_forward", "glu"),
        *("_prelu_kernel", "hardswish", "binary_cross_entropy_with_logits", "index"),
        *(
            "std",
            "var",
            "std_mean",
            "var_mean",
            "mean",
            "amax",
            "amin",
            "max",
            "min",
            "argmax",
            "argmin",
            "sum",
            "prod",
        ),
        *("cumsum", "cumprod", "logsumexp", "linalg_vector_norm", "norm", "sort", "gather", "scatter", "scatter_add"),
        *(
            "index_select",
            "index_add",
            "masked_fill",
            "masked_select",
            "masked_scatter",
            "im2col",
            "log_sigmoid_forward",
        ),
        *("avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices", "_adaptive_avg_pool2d"),
        *("_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "grid_sampler_2d", "grid_sampler_3d"),
        *("binary_cross_entropy", "smooth_l1_loss", "huber_loss", "mse_loss", "soft_margin_loss", "multi_margin_loss"),
    }
)
_OF_POSITIONS = ("index", "embedding", "gather", "scatter", "masked", "nll_loss", "bitwise")
"""how the names of those begin that ask for integers or truths beside numbers, so that one dtype is not right"""
_refusals: dict[Any, Exception | None] = {}
"""operator, dtypes and numbers of axes → what PyTorch says of them, if it refuses them"""


def refuse_dtypes(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise what PyTorch raises for operands of these dtypes; nothing if it takes them.

    Raises:
        RuntimeError, NotImplementedError: as the operator on real tensors does.
    """
    if not _is_asked(op):
        return
    operands = _tensors((*args, *kwargs.values()))
    dtypes = {each.dtype for each in operands}
    if not operands or (len(dtypes) == 1 and operands[0].dtype in _FLOATS and not _is_of_positions(op)):
        return
    key = (op, *((each.dtype, each.dim()) for each in operands))
    if key not in _refusals:
        _refusals[key] = _said(op, args, kwargs)
    if (refusal := _refusals[key]) is not None:
        raise type(refusal)(*refusal.args)


def _tensors(values: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for each in values:
        if isinstance(each, torch.Tensor):
            found.append(each)
        elif isinstance(each, (tuple, list)):
            found += _tensors(each)
    return found


@cache
def _is_asked(op: OpOverload) -> bool:
    """Whether what it makes is no larger than what it is given, so that to try it takes nothing."""
    if op.namespace != "aten" or torch.Tag.nondeterministic_seeded in op.tags:
        return False
    if any(each.alias_info and not each.alias_info.is_write for each in op._schema.returns):
        return False  # a view
    name = op._schema.name.removeprefix("aten::").removesuffix("_")
    return name in _FAMILIES or torch.Tag.pointwise in op.tags or _is_variant_of_pointwise(op, name)


@cache
def _is_of_positions(op: OpOverload) -> bool:
    return op._schema.name.removeprefix("aten::").startswith(_OF_POSITIONS)


def _is_variant_of_pointwise(op: OpOverload, name: str) -> bool:
    kin = getattr(getattr(aten, name, None), op._overloadname, None)
    return kin is not None and torch.Tag.pointwise in kin.tags


def _said(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exception | None:
    leaves = tree_leaves((args, dict(kwargs)))
    if any(isinstance(each, (torch.SymInt, torch.SymFloat, torch.SymBool, torch.Generator)) for each in leaves):
        return None
    if any(isinstance(each, torch.Tensor) and (each.is_sparse or each.is_quantized) for each in leaves):
        return None
    no_modes = no_dispatch_modes(), DisableTorchFunction(), torch.no_grad(), DisableAutocast()
    with no_modes[0], no_modes[1], no_modes[2], no_modes[3]:
        try:
            op(*_tiny(op, args), **tree_map(lambda each: _one(each, 1), dict(kwargs)))
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            said = str(error).partition("\nException raised")[0].strip()
            if _SAYS_OF_DTYPES.search(said) and not _OF_THE_CPU.search(said):
                return type(error)(said) if type(error) in (RuntimeError, NotImplementedError) else RuntimeError(said)
        except Exception:
            return None
    return None


def _tiny(op: OpOverload, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments with tensors of one element, and sizes that fit these."""
    name = op._schema.name.removeprefix("aten::")
    if name == "convolution":
        images, weight, bias, *rest = args
        groups = rest[-1]
        shapes = (1, groups, *(1,) * (images.dim() - 2)), (groups, *(1,) * (weight.dim() - 1)), (groups,)
        pairs = zip((images, weight, bias), shapes, strict=True)
        return (*(each if each is None else _zeros(shape, each) for each, shape in pairs), *rest)
    if name == "native_layer_norm":
        return tuple(_one([1] * len(each) if isinstance(each, (list, tuple)) else each, 1) for each in args)
    if name == "native_group_norm":
        return (*(_one(each, 1) for each in args[:3]), 1, 1, 1, 1, *args[7:])
    if name.startswith("grid_sampler"):
        grid = args[1]
        return (_one(args[0], 1), _zeros((*(1,) * (grid.dim() - 1), grid.dim() - 2), grid), *args[2:])
    if name == "glu":
        return (_zeros((2,) * args[0].dim(), args[0]), *args[1:])
    size = LARGEST_WINDOW if "pool" in name or name == "im2col" else 1
    made: tuple[Any, ...] = tree_map(lambda each: _one(each, size), tuple(args))
    return made


def _one(value: Any, size: int) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if not isinstance(value, torch.Tensor):
        return value
    return _zeros([min(each, size) for each in value.shape] if size > 1 else [1] * value.dim(), value)


def _zeros(shape: Any, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(tuple(shape), dtype=like.dtype, device="cpu")
