"""The dispatch witness, against arithmetic by hand; and torch's own counter where that is wrong."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from graphflops.witness import Dispatched, dispatched


def test_a_linear_layer_has_one_product_forward_and_one_for_each_gradient() -> None:
    product = 2 * 4 * 8
    assert dispatched(nn.Linear(4, 8), (torch.zeros(2, 4),)) == Dispatched(product, product)
    x = torch.zeros(2, 4, requires_grad=True)
    assert dispatched(nn.Linear(4, 8), (x,)) == Dispatched(product, 2 * product)
    assert dispatched(nn.Linear(4, 8), (x,), training=False) == Dispatched(product, 0)


def test_a_grouped_convolution_costs_as_much_for_each_gradient_as_forward() -> None:
    """Torch's counter takes one of the two gradients times the number of groups: 7680 FLOPs where 3072 are done."""
    layer, x = nn.Conv1d(8, 8, 3, groups=4, padding=1), torch.zeros(1, 8, 16, requires_grad=True)
    forward = 8 * 16 * (8 // 4) * 3
    assert dispatched(layer, (x,)) == Dispatched(forward, 2 * forward)
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 2 * forward + 2 * (forward + 4 * forward)


@pytest.mark.parametrize("train", [True, False])
def test_an_encoder_layer_costs_the_same_whichever_kernel_would_be_picked(train: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).train(train)
    tokens, scores = 3 * 5, 3 * 5 * 5 * 8
    expected = tokens * (4 * 8 * 8 + 2 * 8 * 16) + 2 * scores
    with torch.no_grad():
        assert dispatched(layer, (torch.zeros(3, 5, 8),)).forward == expected


@pytest.mark.parametrize(
    ("left", "right", "macs"),
    [((16, 8), (2, 8, 32), 16 * 8 * 32), ((2, 16, 8), (2, 8, 32), 2 * 16 * 8 * 32), ((16, 8), (8, 32), 16 * 8 * 32)],
    ids=["rows in groups", "a batch", "what is summed over in groups"],
)
def test_grouped_products(left: tuple[int, ...], right: tuple[int, ...], macs: int) -> None:
    factors = torch.zeros(left, dtype=torch.bfloat16), torch.zeros(right, dtype=torch.bfloat16)
    offsets = torch.zeros(2, dtype=torch.int32) if 2 in (len(left), len(right)) else None
    assert dispatched(lambda a, b: F.grouped_mm(a, b, offs=offsets), factors).forward == macs


def test_the_model_is_as_it_was() -> None:
    layer = nn.Linear(4, 8)
    weight = layer.weight
    dispatched(layer, (torch.zeros(2, 4),))
    assert layer.weight is weight
    assert weight.grad is None
