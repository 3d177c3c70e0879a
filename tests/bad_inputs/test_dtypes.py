"""Operands that PyTorch refuses for their dtypes are refused in its words; the witness is PyTorch on real tensors."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import CaptureError, analyze

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool)
OF_THE_CPU = re.compile(r"not implemented for '(Half|BFloat16)'")
"""what a GPU has a kernel for"""

Shape = tuple[int, ...]
PAIRS: dict[str, tuple[Callable[..., Any], Shape, Shape]] = {
    "linear": (F.linear, (2, 3), (4, 3)),
    "linear of three axes": (F.linear, (2, 5, 3), (4, 3)),
    "a bias": (lambda x, b: F.linear(x, x.new_ones(4, 3), b), (2, 3), (4,)),
    "matmul": (torch.matmul, (2, 2, 3), (3, 4)),
    "bmm": (torch.bmm, (2, 2, 3), (2, 3, 4)),
    "mv": (torch.mv, (2, 3), (3,)),
    "dot": (torch.dot, (3,), (3,)),
    "addmm": (lambda a, b: torch.addmm(a.new_ones(2, 4), a, b), (2, 3), (3, 4)),
    "einsum": (lambda a, b: torch.einsum("ij,jk->ik", a, b), (2, 3), (3, 4)),
    "conv2d": (F.conv2d, (1, 2, 5, 5), (3, 2, 3, 3)),
    "conv2d of groups": (lambda x, w: F.conv2d(x, w, groups=2), (1, 2, 5, 5), (4, 1, 3, 3)),
    "the bias of a transposed convolution of groups": (
        lambda x, b: F.conv_transpose2d(x, x.new_ones(4, 1, 3, 3), b, padding=1, groups=2),
        (1, 4, 5, 5),
        (2,),
    ),
    "layer_norm": (lambda x, w: F.layer_norm(x, (3,), w), (2, 3), (3,)),
    "group_norm": (lambda x, w: F.group_norm(x, 1, w), (2, 3, 4), (3,)),
    "attention": (lambda q, k: F.scaled_dot_product_attention(q, k, k), (1, 2, 3, 4), (1, 2, 3, 4)),
    "embedding": (F.embedding, (2, 3), (5, 4)),
    "cross_entropy": (F.cross_entropy, (2, 3), (2,)),
    "mse_loss": (F.mse_loss, (2, 3), (2, 3)),
    "gather": (lambda a, b: torch.gather(a, 1, b), (2, 3), (2, 3)),
    "masked_fill": (lambda a, b: a.masked_fill(b, 0), (2, 3), (2, 3)),
    "in place": (lambda a, b: a.clone().add_(b), (2, 3), (2, 3)),
    "and": (lambda a, b: a & b, (2, 3), (2, 3)),
    "prelu": (F.prelu, (2, 3), (3,)),
}
SINGLES: dict[str, Callable[[Tensor], Any]] = {
    **{name: getattr(F, name) for name in ("gelu", "silu", "mish", "hardswish", "softplus", "elu", "relu", "sigmoid")},
    **{name: getattr(torch, name) for name in ("exp", "erf", "floor", "mean", "std", "bitwise_not", "sign")},
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "glu": lambda x: F.glu(x[:, :2]),
    "max_pool2d": lambda x: F.max_pool2d(x[None, None], 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x[None, None], 2),
}


def agrees(function: Callable[..., Any], operands: tuple[Tensor, ...]) -> None:
    """An analysis is refused if and only if PyTorch refuses to run, and says what PyTorch says."""
    message = None
    try:
        function(*operands)
    except (RuntimeError, TypeError, IndexError) as error:
        message = str(error)
    if message is None:
        assert analyze(function, operands).model
    elif not OF_THE_CPU.search(message):
        with pytest.raises(CaptureError, match="could not trace"):
            analyze(function, operands)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", PAIRS)
def test_two_operands(name: str) -> None:
    function, left, right = PAIRS[name]
    odd = [(torch.float32, torch.float64), (torch.float32, torch.complex64), (torch.complex64, torch.complex64)]
    for first, second in [*product(DTYPES, repeat=2), *odd]:
        agrees(function, (torch.ones(left, dtype=first), torch.zeros(right, dtype=second)))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", SINGLES)
def test_one_operand(name: str) -> None:
    for dtype in (*DTYPES, torch.complex64):
        agrees(SINGLES[name], (torch.ones(2, 3, dtype=dtype),))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x).relu()


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16, torch.complex64])
def test_the_words_are_of_pytorch_and_the_place_is_of_the_model(dtype: torch.dtype) -> None:
    model, x = nn.Sequential(nn.Identity(), Block()), torch.ones(2, 3, dtype=dtype)
    with pytest.raises(RuntimeError) as real:
        model(x)
    operands = re.search(r"(must have the same dtype|same dtype)", str(real.value))
    assert operands
    with pytest.raises(CaptureError, match=r"where   1\.up \(Linear\)(.|\n)*same dtype(.|\n)*Check the .* dtypes"):
        analyze(model, (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_is_not_fed_what_it_was_not_converted_to(dtype: torch.dtype) -> None:
    with pytest.raises(CaptureError, match="same dtype"):
        analyze(Block().to(dtype), (torch.ones(2, 3),))
    assert analyze(Block().to(dtype), (torch.ones(2, 3, dtype=dtype),)).macs == 24


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_before_anybody_is_refused(dtype: torch.dtype) -> None:
    def mixed(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return model(x.to(dtype)) @ x.new_ones(4, 5)

    model = Block()
    assert analyze(mixed, (torch.ones(2, 3),)).macs == 24 + 40


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtypes_with_a_gpu_kernel_are_not_refused(dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match=OF_THE_CPU):
        torch.linalg.svd(torch.eye(3, dtype=dtype))
    assert analyze(torch.linalg.svd, (torch.eye(3, dtype=dtype),)).model


def test_a_mask_has_the_shape_of_its_tensor() -> None:
    x, mask = torch.ones(4, 3), torch.ones(2, dtype=torch.bool)
    with pytest.raises(IndexError) as real:
        x[mask]
    with pytest.raises(CaptureError, match=re.escape(str(real.value))):
        analyze(lambda x, mask: x[mask], (x, mask))
