"""Expert capacity: the rows of experts that drop tokens, compared with an enumeration of all routings."""

from fractions import Fraction
from itertools import combinations, product
from math import ceil

import pytest
import torch
from data_dependent import WIDTH, EagerMoE
from hypothesis import given
from hypothesis import strategies as st

from graphflops import UsageError, analyze
from graphflops.analysis.rates import Rate, capacity


def rows_by_routing(tokens: int, experts: int, top_k: int, factor: Fraction) -> list[int]:
    """The rows that the experts process, for each possible routing."""
    expert_capacity = ceil(factor * tokens * top_k / experts)
    routings = product(combinations(range(experts), top_k), repeat=tokens)
    return [
        sum(min(expert_capacity, sum(index in chosen for chosen in routing)) for index in range(experts))
        for routing in routings
    ]


@pytest.mark.parametrize(
    ("tokens", "experts", "top_k"), [(4, 2, 1), (5, 3, 1), (4, 4, 1), (4, 3, 2), (3, 4, 3), (3, 2, 2)]
)
@pytest.mark.parametrize("factor", ["1/2", "1", "5/4", "2"])
def test_the_rate_is_that_of_all_routings(tokens: int, experts: int, top_k: int, factor: str) -> None:
    rows = rows_by_routing(tokens, experts, top_k, Fraction(factor))
    rate, dense = capacity(tokens, experts, top_k, factor), tokens * experts
    assert rate.lower == Fraction(min(rows), dense)
    assert rate.upper == Fraction(max(rows), dense)
    assert rate.expected in {Fraction(int(Fraction(sum(rows), len(rows))) + rounding, dense) for rounding in (0, -1)}


@given(st.integers(1, 3000), st.integers(1, 64), st.floats(0.05, 8, allow_nan=False))
def test_the_expected_rate_is_within_the_bounds(tokens: int, experts: int, factor: float) -> None:
    rate = capacity(tokens, experts, 1, factor)
    assert 0 < rate.lower <= rate.expected <= rate.upper <= Fraction(1, experts)


def test_a_large_capacity_drops_nothing() -> None:
    assert capacity(64, experts=8, top_k=2, capacity_factor=4).bounds[1:] == Rate("1/4").bounds[1:]


@pytest.mark.parametrize("numbers", [(0, 4, 1, 1), (8, 4, 5, 1), (8, 4, 0, 1), (8, 4, 1, 0), (8, 4, 1, float("nan"))])
def test_invalid_numbers(numbers: tuple[int, int, int, float]) -> None:
    with pytest.raises(UsageError):
        capacity(*numbers)


def test_a_mixture_that_drops_tokens_has_bounds() -> None:
    x = torch.zeros(64, WIDTH)
    report = analyze(EagerMoE(8), (x,), rates={"experts": capacity(64, 8, capacity_factor=1.25)})
    assert (
        report.lower_bound.by_module()["experts"]
        < report.by_module()["experts"]
        < report.upper_bound.by_module()["experts"]
    )
    assert report.upper_bound.by_module()["experts"] == analyze(EagerMoE(8), (x,)).by_module()["experts"]
