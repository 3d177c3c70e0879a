"""count_macs against arithmetic by hand, and against torch's own counter where that is wrong."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from graphflops.analysis.mac_counter import MacCount, count_macs

GROUPED = getattr(F, "grouped_mm", None) or torch._grouped_mm
"""public since PyTorch 2.10"""


def test_a_linear_layer_is_one_matmul_forward_and_one_for_each_gradient() -> None:
    product = 2 * 4 * 8
    assert count_macs(nn.Linear(4, 8), (torch.zeros(2, 4),)) == MacCount(product, product)
    x = torch.zeros(2, 4, requires_grad=True)
    assert count_macs(nn.Linear(4, 8), (x,)) == MacCount(product, 2 * product)
    assert count_macs(nn.Linear(4, 8), (x,), training=False) == MacCount(product, 0)


def test_each_gradient_of_a_grouped_convolution_costs_as_much_as_forward() -> None:
    """Torch's counter multiplies one of the two gradients by the number of groups: 7680 FLOPs instead of 3072."""
    layer, x = nn.Conv1d(8, 8, 3, groups=4, padding=1), torch.zeros(1, 8, 16, requires_grad=True)
    forward = 8 * 16 * (8 // 4) * 3
    assert count_macs(layer, (x,)) == MacCount(forward, 2 * forward)
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 2 * forward + 2 * (forward + 4 * forward)


@pytest.mark.parametrize("train", [True, False])
def test_an_encoder_layer_does_not_depend_on_the_kernel(train: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).train(train)
    tokens, scores = 3 * 5, 3 * 5 * 5 * 8
    expected = tokens * (4 * 8 * 8 + 2 * 8 * 16) + 2 * scores
    with torch.no_grad():
        assert count_macs(layer, (torch.zeros(3, 5, 8),)).forward == expected


def test_a_bilinear_layer() -> None:
    layer, left, right = nn.Bilinear(6, 10, 8), torch.zeros(4, 6), torch.zeros(4, 10)
    combinations = 4 * 6 * 10 * 8
    assert count_macs(layer, (left, right)) == MacCount(combinations, combinations)
    left.requires_grad_(), right.requires_grad_()
    assert count_macs(layer, (left, right)) == MacCount(combinations, 3 * combinations)


@pytest.mark.parametrize("shape", [(8,), (1, 8), (3, 8)], ids=["broadcast", "one row", "a row for each true element"])
def test_a_value_that_is_written_by_a_mask_has_a_gradient(shape: tuple[int, ...]) -> None:
    """The number of rows that the mask selects is unknown without data."""

    class Writer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.token = nn.Linear(8, 8), nn.Parameter(torch.zeros(shape))

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            x = self.linear(x)
            x[mask] = self.linear(self.token)
            return x

    product, rows = 8 * 8, 4 + (shape[0] if len(shape) > 1 else 1)
    expected = MacCount(rows * product, (2 * rows - 4) * product)
    x, mask = torch.zeros(4, 8), torch.tensor([True, True, True, False])
    assert count_macs(Writer(), (x, mask)) == expected
    assert count_macs(Writer().to("meta"), (x.to("meta"), mask.to("meta"))) == expected


def test_grouped_mm_in_every_dtype_and_width() -> None:
    """PyTorch's meta kernel accepts only bfloat16, and only rows of a multiple of 16 bytes."""
    left, right = torch.zeros(16, 7, requires_grad=True), torch.zeros(2, 7, 33, requires_grad=True)
    offsets, product = torch.zeros(2, dtype=torch.int32), 16 * 7 * 33
    count = count_macs(lambda a, b: GROUPED(a, b, offs=offsets), (left, right))
    assert count == MacCount(product, 2 * product)


@pytest.mark.parametrize(
    ("left", "right", "macs"),
    [((16, 8), (2, 8, 32), 16 * 8 * 32), ((2, 16, 8), (2, 8, 32), 2 * 16 * 8 * 32), ((16, 8), (8, 32), 16 * 8 * 32)],
    ids=["grouped rows", "a batch", "a grouped inner dimension"],
)
def test_grouped_mm(left: tuple[int, ...], right: tuple[int, ...], macs: int) -> None:
    operands = torch.zeros(left, dtype=torch.bfloat16), torch.zeros(right, dtype=torch.bfloat16)
    offsets = torch.zeros(2, dtype=torch.int32) if 2 in (len(left), len(right)) else None
    assert count_macs(lambda a, b: GROUPED(a, b, offs=offsets), operands).forward == macs


def test_an_exported_program_counts_as_its_model() -> None:
    layer, x = nn.Linear(4, 8), torch.zeros(2, 4)
    assert count_macs(torch.export.export(layer, (x,)), (x,)) == count_macs(layer, (x,))


class NamedByValue(nn.Module):
    """Runs one of two layers, whose name it formats from the value of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"layer_0": nn.Linear(4, 8), "layer_1": nn.Linear(4, 2)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[f"layer_{torch.ones(1).long()[0]}"](x)


def test_a_name_may_be_formatted_from_a_value() -> None:
    assert count_macs(NamedByValue(), (torch.zeros(2, 4),)).forward == 2 * 4 * 2


def test_the_model_is_not_modified() -> None:
    layer = nn.Linear(4, 8)
    weight = layer.weight
    count_macs(layer, (torch.zeros(2, 4),))
    assert layer.weight is weight
    assert weight.grad is None
