"""A capacity factor: what experts with a limited room work on, held to enumerating every way that tokens can choose."""

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


def worked_on(tokens: int, experts: int, top_k: int, factor: Fraction) -> list[int]:
    """The rows that experts work on, in each of the ways in which tokens can choose."""
    room = ceil(factor * tokens * top_k / experts)
    ways = product(combinations(range(experts), top_k), repeat=tokens)
    return [sum(min(room, sum(index in each for each in way)) for index in range(experts)) for way in ways]


@pytest.mark.parametrize(
    ("tokens", "experts", "top_k"), [(4, 2, 1), (5, 3, 1), (4, 4, 1), (4, 3, 2), (3, 4, 3), (3, 2, 2)]
)
@pytest.mark.parametrize("factor", ["1/2", "1", "5/4", "2"])
def test_least_expected_and_most_are_those_of_all_ways_to_choose(
    tokens: int, experts: int, top_k: int, factor: str
) -> None:
    rows = worked_on(tokens, experts, top_k, Fraction(factor))
    rate, of = capacity(tokens, experts, top_k, factor), tokens * experts
    assert rate.lower == Fraction(min(rows), of)
    assert rate.upper == Fraction(max(rows), of)
    assert rate.expected in {Fraction(int(Fraction(sum(rows), len(rows))) + less, of) for less in (0, -1)}


@given(st.integers(1, 3000), st.integers(1, 64), st.floats(0.05, 8, allow_nan=False))
def test_bounds_hold_what_is_expected(tokens: int, experts: int, factor: float) -> None:
    rate = capacity(tokens, experts, 1, factor)
    assert 0 < rate.lower <= rate.expected <= rate.upper <= Fraction(1, experts)


def test_room_for_all_drops_nothing() -> None:
    assert capacity(64, experts=8, top_k=2, capacity_factor=4).bounds[1:] == Rate("1/4").bounds[1:]


@pytest.mark.parametrize("wrong", [(0, 4, 1, 1), (8, 4, 5, 1), (8, 4, 0, 1), (8, 4, 1, 0), (8, 4, 1, float("nan"))])
def test_what_is_not_possible_is_refused(wrong: tuple[int, int, int, float]) -> None:
    with pytest.raises(UsageError):
        capacity(*wrong)


def test_a_mixture_that_drops_tokens_has_a_best_an_expected_and_a_worst_case() -> None:
    x = torch.zeros(64, WIDTH)
    report = analyze(EagerMoE(8), (x,), rates={"experts": capacity(64, 8, capacity_factor=1.25)})
    assert (
        report.lower_bound.by_module()["experts"]
        < report.by_module()["experts"]
        < report.upper_bound.by_module()["experts"]
    )
    assert report.upper_bound.by_module()["experts"] == analyze(EagerMoE(8), (x,)).by_module()["experts"]
