"""Layouts of tensors: specs of dense tensors, nonzeros of sparse matrices, and errors for all other layouts."""

from __future__ import annotations

from typing import Any

import torch

from graphflops.core.errors import CaptureError
from graphflops.core.sizes import Spec, as_size
from graphflops.core.torch_compat import no_dispatch_modes

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_NNZ = "_graphflops_nnz"
"""the attribute of a fake tensor of a sparse matrix that has the number of its nonzeros"""

MAX_KNOWN_ELEMENTS = 2**24
"""elements of the largest input, or written memory, whose values are used"""


def spec_of(tensor: torch.Tensor) -> Spec:
    """The Spec of a tensor.

    Raises:
        CaptureError: it is sparse, nested or otherwise not strided.
    """
    check_strided(tensor)
    shape, dtype = tuple(as_size(size) for size in tensor.shape), str(tensor.dtype).removeprefix("torch.")
    return Spec(shape, dtype, nnz_of(tensor))


def is_supported_sparse(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a sparse matrix that is not trained, whose products are counted by its nonzeros."""
    return tensor.layout in _SPARSE and tensor.dim() == 2 and not tensor.requires_grad


def nnz_of(fake: torch.Tensor) -> int | None:
    """The number of nonzeros of the sparse matrix that a fake tensor stands for; None for a dense tensor."""
    return getattr(fake, _NNZ, None)


def set_nnz(fake: torch.Tensor, sparse: torch.Tensor) -> None:
    """Store the number of nonzeros of a sparse matrix on its fake tensor."""
    with no_dispatch_modes():
        values = sparse._values() if sparse.layout == torch.sparse_coo else sparse.values()
        setattr(fake, _NNZ, int(values.numel()))


def propagate_nnz(view: Any, base: Any) -> None:
    """Give a view of a sparse matrix, such as its transpose, the number of nonzeros of its base."""
    if torch.is_tensor(base) and (nnz := nnz_of(base)) is not None:
        setattr(view, _NNZ, nnz)


def check_strided(tensor: torch.Tensor, name: str | None = None) -> None:
    """Refuse a sparse or nested tensor: its fake tensor would be dense, and its products counted as dense ones.

    Raises:
        CaptureError: it is one.
    """
    if tensor.layout != torch.strided or tensor.is_nested:
        raise layout_error(tensor, name)


def layout_error(tensor: torch.Tensor, name: str | None = None) -> CaptureError:
    """The error for a tensor whose layout is not supported."""
    return not_dense_error(
        f"{name or 'a tensor'} is {'nested' if tensor.is_nested else 'not dense'}", tensor.layout, tensor.dtype
    )


def not_dense_error(subject: str, layout: Any, dtype: Any) -> CaptureError:
    """The error for a layout that is not supported. PyTorch has no fake tensor of it, so that it is named."""
    return CaptureError(
        f"{subject} ({layout}, {dtype}): "
        "its cost depends on the number of its stored elements, which its shape does not give.\n"
        "Pass a dense tensor, whose zeros and padding are counted as any elements. Or pass the elements and their "
        "indices as dense tensors to a module of your own, and give that module a rule for its cost, with outputs= for "
        "what it returns."
    )
