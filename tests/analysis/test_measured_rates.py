"""Measured rates: rows counted by hand, bounds over batches, and the restored state of the model."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest
import torch
from data_dependent import WIDTH, Deep, EagerMoE, Masked
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graphflops import UsageError, analyze
from graphflops.analysis.rates import Rate, measure

TOKENS = 12


def routed_by_input(num_experts: int = 4) -> EagerMoE:
    """A mixture with a fixed router: a token goes to the expert at whose index it has a 1."""
    moe = EagerMoE(num_experts)
    moe.gate.weight.data = torch.eye(num_experts, WIDTH)
    return moe


def tokens(*experts: int) -> Tensor:
    x = torch.zeros(len(experts), WIDTH)
    x[torch.arange(len(experts)), torch.tensor(experts)] = 1
    return x


def executed_macs(model: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


class TestAFixedRouter:
    def test_has_the_rates_counted_by_hand(self) -> None:
        rates = measure(routed_by_input(), [tokens(0, 0, 0, 0, 0, 1, 1, 2)])
        assert rates == {
            "experts.0": Rate("5/8"),
            "experts.1": Rate("2/8"),
            "experts.2": Rate("1/8"),
            "experts.3": Rate(0),
        }

    def test_has_bounds_over_batches(self) -> None:
        rates = measure(routed_by_input(2), [tokens(0, 0, 0, 1), tokens(0, 1, 1, 1), tokens(0, 0, 1, 1)])
        assert rates["experts.0"] == Rate("1/4", "1/2", "3/4")
        assert measure(routed_by_input(2), [tokens(0, 1)]) == {"experts.0": Rate("1/2"), "experts.1": Rate("1/2")}

    def test_yields_the_executed_macs(self) -> None:
        model, x = routed_by_input(), tokens(0, 0, 0, 0, 0, 1, 1, 2)
        report = analyze(model, (x,), rates=measure(model, [x]))
        assert report.macs == executed_macs(model, x)
        assert report.by_module()["experts.0"] == 5 * report.by_module()["experts.2"]


def test_a_mask_is_measured_in_rows() -> None:
    torch.manual_seed(0)
    model, batches = Masked(), [torch.randn(TOKENS, WIDTH) for _ in range(5)]
    with torch.no_grad():
        by_hand = [int((model.score(x) > 0).sum()) for x in batches]
    rate = measure(model, batches)["layer"]
    assert rate == Rate(
        Fraction(min(by_hand), TOKENS), Fraction(sum(by_hand), TOKENS * len(by_hand)), Fraction(max(by_hand), TOKENS)
    )
    report = analyze(model, (batches[0],), rates={"layer": rate})
    ran = [executed_macs(model, x) for x in batches]
    assert report.lower_bound.macs == min(ran)
    assert report.upper_bound.macs == max(ran)
    assert report.macs == sum(ran) // len(ran)


def test_early_exit_is_measured_by_layer() -> None:
    model = Deep(4, bound=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.blocks[1].linear.bias.fill_(-2.0)  # after which nothing is above the bound
        model.first.weight.copy_(torch.eye(WIDTH))
    go, stop = torch.ones(TOKENS, WIDTH), -torch.ones(TOKENS, WIDTH)
    rates = measure(model, [go, stop, stop, stop])
    assert rates == {
        "blocks.0": Rate(0, "1/4", 1),
        "blocks.1": Rate(0, "1/4", 1),
        "blocks.2": Rate(0),
        "blocks.3": Rate(0),
    }


def test_rates_are_available_after_importing_graphflops() -> None:
    code = "import graphflops; graphflops.rates.measure; graphflops.rates.layers"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_modules_that_always_run_have_no_rate() -> None:
    assert measure(Deep(), [torch.zeros(TOKENS, WIDTH)]) == {}


def test_rates_of_inner_modules_are_relative() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(WIDTH, 1)
            self.inner = routed_by_input()

        def forward(self, x: Tensor) -> Tensor:
            mask = x[:, -1] > 0
            return self.inner(x[mask]) if mask.any() else x

    x = tokens(0, 0, 1, 2, 3, 3)
    x[:3, -1] = 1
    rates = measure(Outer(), [x])
    assert rates["inner"] == Rate("1/2")
    assert {path: str(rate) for path, rate in rates.items() if path != "inner"} == {
        "inner.experts.0": "2/3",
        "inner.experts.1": "1/3",
        "inner.experts.2": "0",
        "inner.experts.3": "0",
    }


def test_the_state_of_the_model_is_restored() -> None:
    model = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), EagerMoE())
    x = torch.rand(TOKENS, WIDTH)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in model.modules()]
    random = torch.get_rng_state()
    measure(model, [x])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert hooks == [(len(module._forward_pre_hooks), len(module._forward_hooks)) for module in model.modules()]
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_are_removed_after_an_error() -> None:
    model = routed_by_input()
    with pytest.raises(IndexError):
        measure(model, [torch.zeros(TOKENS, WIDTH), _explodes()])
    assert not any(module._forward_pre_hooks for module in model.modules())


def _explodes() -> Tensor:
    raise IndexError("no such batch")


@pytest.mark.parametrize(("model", "batches"), [(routed_by_input(), []), (len, [torch.zeros(1)])])
def test_invalid_arguments(model: nn.Module, batches: list[Tensor]) -> None:
    with pytest.raises(UsageError):
        measure(model, batches)


def test_modules_that_were_not_traced_are_an_error() -> None:
    with pytest.raises(UsageError, match=r"experts\.3 ran on a batch of real data and is not in the graph"):
        measure(routed_by_input(), [tokens(3, 3)])
