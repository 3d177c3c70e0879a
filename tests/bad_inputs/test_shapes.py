"""Operands whose sizes or dtypes do not fit are refused; the witness is PyTorch on real tensors.

Each operator is called with every size of every operand changed, every rank, and other dtypes, one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import CaptureError, analyze

OF_THE_CPU = re.compile(r"on CPU|MKLDNN")
"""errors of kernels for CPUs, which a GPU may not have"""


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


def indices(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def put(x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    x = x.clone()
    x[:, index] = values
    return x


def grouped(convolution: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, weight, bias: convolution(x, weight, bias, groups=2)


CALLS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "conv1d": (F.conv1d, (ones(1, 2, 5), ones(4, 2, 3), ones(4))),
    "conv2d": (F.conv2d, (ones(1, 2, 5, 5), ones(4, 2, 3, 3), ones(4))),
    "conv2d of groups": (grouped(F.conv2d), (ones(1, 4, 5, 5), ones(6, 2, 3, 3), ones(6))),
    "conv_transpose1d": (F.conv_transpose1d, (ones(1, 2, 5), ones(2, 4, 3), ones(4))),
    "conv_transpose2d": (F.conv_transpose2d, (ones(1, 2, 5, 5), ones(2, 4, 3, 3), ones(4))),
    "conv_transpose2d of groups": (grouped(F.conv_transpose2d), (ones(1, 4, 5, 5), ones(4, 3, 3, 3), ones(6))),
    "conv_transpose3d": (F.conv_transpose3d, (ones(1, 2, 4, 4, 4), ones(2, 3, 2, 2, 2))),
    "linear": (F.linear, (ones(2, 3), ones(4, 3), ones(4))),
    "addmm": (torch.addmm, (ones(2, 4), ones(2, 3), ones(3, 4))),
    "addmv": (torch.addmv, (ones(2), ones(2, 3), ones(3))),
    "cross": (torch.linalg.cross, (ones(2, 3), ones(2, 3))),
    "lstsq": (lambda a, b: torch.linalg.lstsq(a, b).solution, (torch.eye(3), ones(3, 2))),
    "batch_norm": (F.batch_norm, (ones(2, 4, 5), ones(4), ones(4), ones(4), ones(4))),
    "cross_entropy of images": (F.cross_entropy, (ones(2, 3, 4, 4), indices(2, 4, 4))),
    "multilabel_margin_loss": (F.multilabel_margin_loss, (ones(2, 3), indices(2, 3))),
    "softmax": (lambda x: x.softmax(1), (ones(2, 3),)),
    "sort": (lambda x: x.sort(1), (ones(2, 3),)),
    "index_select": (lambda x, index: x.index_select(1, index), (ones(2, 3), indices(2))),
    "index_add": (lambda x, index, source: x.index_add(1, index, source), (ones(2, 3), indices(2), ones(2, 2))),
    "index_copy": (lambda x, index, source: x.index_copy(1, index, source), (ones(2, 3), indices(2), ones(2, 2))),
    "index_fill": (lambda x, index: x.index_fill(1, index, 1.0), (ones(2, 3), indices(2))),
    "an assignment by index": (put, (ones(2, 3), indices(2), ones(2, 2))),
    "put": (lambda x, index, values: x.put(index, values), (ones(2, 3), indices(2), ones(2))),
    "gather": (lambda x, index: x.gather(1, index), (ones(2, 3), indices(2, 3))),
    "scatter_add": (lambda x, index, source: x.scatter_add(1, index, source), (ones(2, 3), indices(2, 3), ones(2, 3))),
    "bucketize": (torch.bucketize, (ones(2, 3), ones(4))),
    "complex": (torch.complex, (ones(2, 3), ones(2, 3))),
    "bincount": (lambda x: torch.bincount(x, minlength=4), (indices(4),)),
    "topk": (lambda x: x.topk(2, 1), (ones(2, 3),)),
    "fold": (lambda x: F.fold(x, (5, 5), 3), (ones(1, 18, 9),)),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (ones(1, 2, 4, 4),)),
    "interpolate to the nearest": (lambda x: F.interpolate(x, scale_factor=2), (ones(1, 2, 4, 4),)),
}
DTYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.complex64)


def wrong(operands: tuple[Tensor, ...]) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """The operands with one of them changed: each size, the rank, and the dtype."""
    for position, operand in enumerate(operands):
        sizes = list(operand.shape)
        shapes = [
            [*sizes[:axis], size, *sizes[axis + 1 :]]
            for axis in range(len(sizes))
            for size in {1, sizes[axis] + 1, 2 * sizes[axis]} - {sizes[axis]}
        ]
        changed = [torch.zeros(shape, dtype=operand.dtype) for shape in (*shapes, sizes[1:], [1, *sizes], [*sizes, 1])]
        changed += [operand.to(dtype) for dtype in DTYPES if dtype is not operand.dtype]
        for other in changed:
            description = f"operand {position} of {other.dtype} {tuple(other.shape)}"
            yield description, (*operands[:position], other, *operands[position + 1 :])


FAST = ("addmv", "softmax", "bincount", "complex")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CALLS]
)
def test_operands_that_pytorch_refuses_are_refused(name: str) -> None:
    function, operands = CALLS[name]
    assert analyze(function, operands).model
    counted = []
    for description, given in wrong(operands):
        try:
            function(*given)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            if OF_THE_CPU.search(str(error)):
                continue
            try:
                analyze(function, given)
            except CaptureError:
                continue
            counted.append(f"{description}: {error}")
        else:
            assert analyze(function, given).model
    assert counted == []


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(512, 256, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.upsample(x)
        return result


def test_the_error_has_the_sizes_of_the_model_its_module_and_its_line() -> None:
    x = ones(4, 256, 14, 14)
    with pytest.raises(RuntimeError) as real:
        Decoder()(x[:1])
    with pytest.raises(CaptureError) as caught:
        analyze(Decoder(), (x[:1],))
    message = str(caught.value)
    assert "where   upsample (ConvTranspose2d)" in message
    assert "= self.upsample(x)" in message
    assert "expected input" in str(real.value)
    assert "to have 512 channels, but got 256 channels instead" in str(real.value)
    assert "to have 512 channels, but got 256 channels instead" in message
    assert "upsample (ConvTranspose2d) takes 512 channels" in message


def test_sizes_in_the_words_of_pytorch_are_those_of_the_operands() -> None:
    x, target = ones(2, 19, 64, 64), indices(2, 65, 64)
    with pytest.raises(RuntimeError) as real:
        F.cross_entropy(x, target)
    with pytest.raises(CaptureError, match=re.escape(str(real.value).partition("\n")[0])):
        analyze(F.cross_entropy, (x, target))


@pytest.mark.parametrize("values", [4, 6])
def test_there_are_as_many_values_as_keys(values: int) -> None:
    q, k, v = ones(1, 2, 3, 4), ones(1, 2, 5, 4), ones(1, 2, values, 4)
    with pytest.raises(RuntimeError), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        F.scaled_dot_product_attention(q, k, v)
    with pytest.raises(CaptureError, match=f"5 keys and {values} values"):
        analyze(F.scaled_dot_product_attention, (q, k, v))


def test_log_probabilities_with_the_batch_first_are_refused() -> None:
    targets, input_lengths, target_lengths = indices(2, 3) + 1, torch.full((2,), 6), torch.full((2,), 3)
    given = ones(2, 6, 5), targets, input_lengths, target_lengths
    with pytest.raises(RuntimeError, match="must be of size batch_size"):
        F.ctc_loss(*given)
    with pytest.raises(CaptureError, match=r"\(2, 6, 5\) are \(time, batch, classes\)"):
        analyze(F.ctc_loss, given)
    assert analyze(F.ctc_loss, (ones(6, 2, 5), *given[1:])).total > 0


def test_an_assignment_by_a_mask_is_not_refused() -> None:
    def assign(x: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        x = x.clone()
        x[mask] = values
        return x * 2

    x, mask = ones(4, 3), torch.tensor([True, False, True, False])
    assign(x, mask, ones(2, 3))
    assert analyze(assign, (x, mask, ones(2, 3))).forward >= 12


@pytest.mark.parametrize("rows", [50, 5000], ids=["small", "too large to be tried"])
def test_operands_of_equally_many_elements_are_not_refused(rows: int) -> None:
    """With other sizes in the same order these have other numbers of elements: 2 · 6 is 3 · 4, and 2 · 5 is not."""
    index, values = torch.zeros(2, 6, dtype=torch.int64), torch.zeros(3, 4)
    assert torch.zeros(50, 50).put(index, values).shape == (50, 50)
    assert analyze(lambda x: x.put(index, values), (torch.empty(rows, rows, device="meta"),)).unsupported_ops() == {}


@pytest.mark.parametrize("width", [3, 4])
def test_a_cross_product_is_of_three_numbers(width: int) -> None:
    x = torch.ones(4, width)
    if width == 3:
        assert torch.linalg.cross(x, x).shape == x.shape
        assert analyze(torch.linalg.cross, (x, x)).unsupported_ops() == {}
    else:
        with pytest.raises(RuntimeError):
            torch.linalg.cross(x, x)
        with pytest.raises(CaptureError, match="must have length 3"):
            analyze(torch.linalg.cross, (x, x))
