"""Errors of the real kernels of operators, tried on small tensors of zeros: meta kernels accept some wrong operands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from graphflops.core.torch_compat import (
    DisableAutocast,
    DisableTorchFunction,
    OpOverload,
    no_dispatch_modes,
    tree_leaves,
)

_CPU_ERROR = re.compile(
    r"not implemented for '(Half|BFloat16|ComplexHalf|Float8\w*)'|on CPU|\"abs_cpu\"|can't allocate memory"
)
"""errors of kernels for CPUs that those for GPUs may not raise"""


def error_on_real_tensors(
    op: OpOverload, make_arguments: Callable[[], tuple[Sequence[Any], dict[str, Any]]]
) -> Exception | None:
    """The error that an operator raises for real tensors in the place of its operands, if it does.

    An error due to the CPU does not count.
    """
    with no_dispatch_modes(), DisableTorchFunction(), torch.no_grad(), DisableAutocast():
        try:
            args, kwargs = make_arguments()
            op(*args, **kwargs)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            text = str(error).partition("\nException raised")[0].strip()
            if _CPU_ERROR.search(text):
                return None
            return (
                type(error)(text)
                if type(error) in (RuntimeError, NotImplementedError, IndexError)
                else RuntimeError(text)
            )
        except Exception:
            return None
    return None


def has_plain_operands(values: Any) -> bool:
    """Whether operands can be replaced by real tensors: none is sparse, quantized or of a symbolic size."""
    for leaf in tree_leaves(values):
        if isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool, torch.Generator)):
            return False
        if isinstance(leaf, torch.Tensor) and (leaf.is_sparse or leaf.is_quantized):
            return False
    return True


def tensors_among(values: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors among arguments, and in lists and tuples of these."""
    tensors: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, (tuple, list)):
            tensors += tensors_among(value)
    return tensors


def zeros_like_dtype(shape: Iterable[int], like: torch.Tensor) -> torch.Tensor:
    """Zeros of a shape on the CPU, with the dtype of another tensor."""
    return torch.zeros(tuple(shape), dtype=like.dtype, device="cpu")
