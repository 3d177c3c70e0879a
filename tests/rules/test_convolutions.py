"""Convolutions to the last multiply-add of what autograd really dispatches, and batch norm by its formulas."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import cost_of, costs_of, reals
from torch import nn

from graphflops import Work, analyze, spec
from graphflops.analysis.mac_counter import MacCount, count_macs
from graphflops.rules.loading import shipped

SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 7)}
CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2},
    "same": {"padding": "same"},
    "same, dilated": {"padding": "same", "dilation": 2},
    "grouped": {"groups": 2},
    "depthwise": {"groups": 4, "out_channels": 8},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "no bias": {"bias": False},
}
TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1, "output_padding": 1},
    "dilated": {"dilation": 2},
    "grouped": {"groups": 2},
    "depthwise": {"groups": 4, "out_channels": 8},
    "no bias": {"bias": False},
}


def agree(layer: nn.Module, x: torch.Tensor) -> None:
    report = analyze(layer, (x,))
    assert report.coverage.unknown == 0, report.unsupported_ops()
    backward = report.work("dgrad").macs + report.work("wgrad").macs
    assert MacCount(report.work("forward").macs, backward) == count_macs(layer, (x,))


@pytest.mark.parametrize("trained", ["", "weight", "bias", "weight bias"])
@pytest.mark.parametrize("of_input", [True, False])
@pytest.mark.parametrize("dimensions", SIZES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [pytest.param("Conv", value, id=name) for name, value in CHOICES.items()]
    + [pytest.param("ConvTranspose", value, id=f"transposed, {name}") for name, value in TRANSPOSED.items()],
)
def test_really_dispatched(kind: str, options: dict[str, Any], dimensions: int, of_input: bool, trained: str) -> None:
    layer = getattr(nn, f"{kind}{dimensions}d")(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **options})
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name in trained.split())
    agree(layer, torch.empty(2, 4, *SIZES[dimensions], device="meta", requires_grad=of_input))


def test_a_loop_over_one_filter() -> None:
    """Every output element is counted by a loop; none is padding."""
    x, weight = torch.ones(2, 4, 9), torch.ones(6, 2, 3)
    macs, y = 0, torch.zeros(2, 6, 7)
    for batch in range(2):
        for channel in range(6):
            for i in range(7):
                for inner in range(2):
                    for k in range(3):
                        y[batch, channel, i] += weight[channel, inner, k] * x[batch, channel // 3 * 2 + inner, i + k]
                        macs += 1
    torch.testing.assert_close(y, F.conv1d(x, weight, groups=2))
    assert cost_of(lambda x, w: F.conv1d(x, w, groups=2), x, weight).forward == Work(macs=macs)


def test_a_convolution_over_the_whole_input_is_a_linear_layer() -> None:
    convolution = cost_of(nn.Conv2d(4, 6, (5, 7)), reals(3, 4, 5, 7))
    linear = cost_of(nn.Linear(4 * 5 * 7, 6), reals(3, 4 * 5 * 7))
    assert convolution.forward == linear.forward
    assert dict(convolution.grads) == dict(linear.grads)


def test_complex_convolution_is_four_real_ones() -> None:
    rule = shipped().rules["aten::convolution"]
    real, complex_ = (
        rule(spec(2, 4, 9), spec(6, 4, 3), transposed=False, out=spec(2, 6, 7, dtype=dtype))
        for dtype in ("float32", "complex64")
    )
    assert complex_.forward == 4 * real.forward


class TestBatchNorm:
    X = reals(3, 4, 5, 5)
    n = 3 * 4 * 5 * 5

    def test_in_training_is_layer_norm(self) -> None:
        batch_norm, layer_norm = cost_of_last(nn.BatchNorm2d(4), self.X), cost_of(nn.LayerNorm(5), self.X)
        assert batch_norm.forward == layer_norm.forward == Work(elementwise=5 * self.n)
        assert dict(batch_norm.grads) == dict(layer_norm.grads)

    def test_in_eval_mode_is_scale_and_shift(self) -> None:
        layer = nn.BatchNorm2d(4).eval()
        cost = cost_of_last(layer, self.X)
        assert cost.forward == Work(elementwise=2 * self.n)
        assert cost.grads["input"] == Work(elementwise=self.n)

    def test_without_running_averages_it_takes_those_of_the_batch_in_eval_mode_too(self) -> None:
        layer = nn.BatchNorm2d(4, track_running_stats=False).eval()
        assert cost_of_last(layer, self.X).forward == Work(elementwise=5 * self.n)

    def test_instance_norm_is_a_batch_norm(self) -> None:
        assert analyze(nn.InstanceNorm2d(4), (self.X,)).forward == 5 * self.n


def cost_of_last(layer: nn.Module, x: torch.Tensor) -> Any:
    """The cost of the one operation of a layer that takes work by the element."""
    return max(costs_of(layer, x), key=lambda cost: cost.forward.elementwise)
