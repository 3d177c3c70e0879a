"""A rule says at what rate data has a call do its work."""

from fractions import Fraction

import sympy
import torch
from torch import Tensor, nn

from graphflops import Cost, Spec, Work, analyze, rule


class Sometimes(nn.Module):
    """A layer that three of eight steps run."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@rule(Sometimes)
def sometimes(x: Spec, weight: Spec) -> Cost:
    """A matrix product in three of eight steps."""
    product = Work(macs=x.numel * weight.shape[-1])
    return Cost(product, {"x": product, "weight": product}).scaled_by(Fraction(3, 8))


def test_forward_and_backward_are_that_part_of_it() -> None:
    report = analyze(Sometimes(), (torch.zeros(8, 4, requires_grad=True),), rules=[sometimes])
    assert report.macs == report.work("dgrad").macs == report.work("wgrad").macs == 8 * 4 * 4 * 3 // 8


def test_counts_stay_whole_and_are_rounded_down() -> None:
    assert Cost(Work(macs=10), {"x": Work(macs=7)}).scaled_by(Fraction(1, 4)) == Cost(Work(macs=2), {"x": Work(macs=1)})


def test_a_rate_of_one_changes_nothing_and_of_none_leaves_nothing() -> None:
    cost = Cost(Work(macs=10), {"x": Work(macs=7)}, Work(division=3), span=5)
    assert cost.scaled_by(Fraction(1)) == cost
    assert not cost.scaled_by(Fraction(0)).forward


def test_on_symbols_it_is_a_formula() -> None:
    n = sympy.Symbol("n", integer=True, positive=True)
    assert Cost(Work(macs=8 * n)).scaled_by(Fraction(3, 8)).forward == Work(macs=3 * n)


@rule(Sometimes)
def between(x: Spec, weight: Spec) -> Cost:
    """A matrix product in 30 to 80 of a hundred steps, in 50 on average; and its input negated in each."""
    product = Work(macs=x.numel * weight.shape[-1])
    rated = Cost(product, {"x": product, "weight": product}).scaled_by((0.3, 0.5, 0.8))
    return Cost.of(product=rated, always=Cost(Work(elementwise=x.numel), {"*": Work()}))


def test_bounds_are_in_the_report_as_an_interval_and_full_beside_it() -> None:
    report = analyze(Sometimes(), (torch.zeros(25, 4, requires_grad=True),), rules=[between])
    product, always = 2 * 25 * 4 * 4, 100
    assert report.forward == product // 2 + always
    assert report.bounds("forward") == (product * 3 // 10 + always, product * 8 // 10 + always)
    assert report.at_full_rate.forward == product + always


def test_costs_at_rates_add_up_and_scale_with_their_bounds() -> None:
    rated, always = Cost(Work(macs=100)).scaled_by((0.1, 0.5)), Cost(Work(macs=7))
    total = 2 * (rated + always)
    assert total.lower is not None
    assert total.upper is not None
    assert total.full is not None
    assert [cost.forward.macs for cost in (total.lower, total, total.upper, total.full)] == [
        34,
        114,
        114,
        214,
    ]
