"""Rates that are measured: rows by hand, the spread over batches, and a model that is as it was."""

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


def told(num_experts: int = 4) -> EagerMoE:
    """A mixture whose router does as it is told: a token goes to the expert at whose place it has a 1."""
    moe = EagerMoE(num_experts)
    moe.gate.weight.data = torch.eye(num_experts, WIDTH)
    return moe


def tokens(*experts: int) -> Tensor:
    x = torch.zeros(len(experts), WIDTH)
    x[torch.arange(len(experts)), torch.tensor(experts)] = 1
    return x


def really_executed(model: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


class TestARouterThatDoesAsItIsTold:
    def test_is_measured_as_one_counts_by_hand(self) -> None:
        rates = measure(told(), [tokens(0, 0, 0, 0, 0, 1, 1, 2)])
        assert rates == {
            "experts.0": Rate("5/8"),
            "experts.1": Rate("2/8"),
            "experts.2": Rate("1/8"),
            "experts.3": Rate(0),
        }

    def test_has_a_spread_over_batches(self) -> None:
        rates = measure(told(2), [tokens(0, 0, 0, 1), tokens(0, 1, 1, 1), tokens(0, 0, 1, 1)])
        assert rates["experts.0"] == Rate("1/4", "1/2", "3/4")
        assert measure(told(2), [tokens(0, 1)]) == {"experts.0": Rate("1/2"), "experts.1": Rate("1/2")}

    def test_gives_the_number_that_ran(self) -> None:
        model, x = told(), tokens(0, 0, 0, 0, 0, 1, 1, 2)
        report = analyze(model, (x,), rates=measure(model, [x]))
        assert report.macs == really_executed(model, x)
        assert report.by_module()["experts.0"] == 5 * report.by_module()["experts.2"]


def test_a_mask_is_measured_by_the_rows_that_it_has() -> None:
    torch.manual_seed(0)
    model, batches = Masked(), [torch.randn(TOKENS, WIDTH) for _ in range(5)]
    with torch.no_grad():
        by_hand = [int((model.score(x) > 0).sum()) for x in batches]
    rate = measure(model, batches)["layer"]
    assert rate == Rate(
        Fraction(min(by_hand), TOKENS), Fraction(sum(by_hand), TOKENS * len(by_hand)), Fraction(max(by_hand), TOKENS)
    )
    report = analyze(model, (batches[0],), rates={"layer": rate})
    ran = [really_executed(model, x) for x in batches]
    assert report.lower_bound.macs == min(ran)
    assert report.upper_bound.macs == max(ran)
    assert report.macs == sum(ran) // len(ran)


def test_a_model_that_stops_is_measured_by_how_often_each_layer_ran() -> None:
    model = Deep(4, bound=0.0)
    with torch.no_grad():
        for each in model.parameters():
            each.zero_()
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


def test_it_is_there_after_one_import() -> None:
    code = "import graphflops; graphflops.rates.measure; graphflops.rates.layers"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_always_runs_has_no_rate() -> None:
    assert measure(Deep(), [torch.zeros(TOKENS, WIDTH)]) == {}


def test_what_is_inside_of_another_is_of_what_the_other_ran() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(WIDTH, 1)
            self.inner = told()

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


def test_the_model_is_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), EagerMoE())
    x = torch.rand(TOKENS, WIDTH)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    hooks = [(len(each._forward_pre_hooks), len(each._forward_hooks)) for each in model.modules()]
    random = torch.get_rng_state()
    measure(model, [x])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert hooks == [(len(each._forward_pre_hooks), len(each._forward_hooks)) for each in model.modules()]
    assert all(each.training for each in model.modules())
    assert all(each.grad is None for each in model.parameters())


def test_a_model_that_raises_is_as_it_was() -> None:
    model = told()
    with pytest.raises(IndexError):
        measure(model, [torch.zeros(TOKENS, WIDTH), _explodes()])
    assert not any(each._forward_pre_hooks for each in model.modules())


def _explodes() -> Tensor:
    raise IndexError("no such batch")


@pytest.mark.parametrize(("model", "batches"), [(told(), []), (len, [torch.zeros(1)])])
def test_nothing_to_measure_is_refused(model: nn.Module, batches: list[Tensor]) -> None:
    with pytest.raises(UsageError):
        measure(model, batches)


def test_what_the_trace_did_not_see_is_refused() -> None:
    with pytest.raises(UsageError, match=r"experts\.3 ran on a batch of real data and is not in the graph"):
        measure(told(), [tokens(3, 3)])
