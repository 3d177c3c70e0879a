"""Limits on a report: tolerance, unsupported ops, and numbers with SI prefixes."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import graphflops
from graphflops import Report, UsageError
from graphflops.core.entries import Unknown
from graphflops.core.errors import BudgetExceeded
from graphflops.core.units import format_limit, parse_si
from graphflops.report.budgets import Budget, parse_tolerance, stored_modules


@pytest.fixture(scope="module")
def report() -> Report:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4)))
    return graphflops.analyze(model, (torch.empty(2, 4),), training=False)


FORWARD = 2 * 2 * 4 * 64 + 2 * 64 + 2 * 2 * 64 * 4  # two products and a comparison


def test_a_limit_holds_up_to_its_tolerance(report: Report) -> None:
    assert report.forward == FORWARD
    Budget.of(forward=FORWARD).check(report)
    Budget.of(forward=str(FORWARD - 1), tolerance="0.1%").check(report)
    with pytest.raises(BudgetExceeded, match=r"forward is 2\.18 k; the budget is 2\.17 k, over by <0\.1 %"):
        Budget.of(forward=FORWARD - 1).check(report)


def test_unsupported_ops_are_over_a_budget_that_does_not_allow_them(report: Report) -> None:
    op = Unknown("f", "my.f", "", "", (), ("float32(2)",), "no rule")
    partial = replace(report, costs=replace(report.costs, unknown=(op,)))
    with pytest.raises(BudgetExceeded, match="unknown is 1; the budget is 0"):
        Budget.of(total="1 G", tolerance="1000%").check(partial)
    Budget.of(total="1 G", unknown=1).check(partial)


def test_the_modules_that_are_stored_are_those_where_the_model_branches(report: Report) -> None:
    assert stored_modules(report) == {"0.0": 1024, "0.1": 128, "0.2": 1024}


def test_modules_that_grew_are_named_the_largest_growth_first(report: Report) -> None:
    budget = Budget.of(total=1, modules={"0.0": 1000, "0.1": 128, "0.2": 24})
    assert list(budget.grown(report)) == ["0.2 grew from 24 to 1.02 k", "0.0 grew from 1.00 k to 1.02 k"]


@given(st.integers(0, 10**26))
def test_a_stored_limit_is_at_least_the_number_and_close_to_it(number: int) -> None:
    limit = parse_si(format_limit(number))
    assert number <= limit <= number + Fraction(number, 1000)


@pytest.mark.parametrize(
    ("text", "number"),
    [("16.4 G", 16_400_000_000), ("26M", 26_000_000), ("1,200", 1200), ("1.5 kFLOPs", 1500), ("1e9", 10**9), (7, 7)],
)
def test_numbers_with_prefixes(text: object, number: int) -> None:
    assert parse_si(text) == number


@pytest.mark.parametrize("text", ["", "1 X", "-1", -1, 1.5, True, None, "1 GB", "G", "1e999"])
def test_numbers_that_are_none(text: object) -> None:
    with pytest.raises(UsageError, match="invalid number"):
        parse_si(text)


@pytest.mark.parametrize(("value", "share"), [("2%", "1/50"), ("0.5 %", "1/200"), (0, "0"), (0.02, "1/50")])
def test_tolerances(value: object, share: str) -> None:
    assert parse_tolerance(value) == Fraction(share)


@pytest.mark.parametrize("value", ["", "-2%", "2 %%", -1, True, float("inf"), None])
def test_tolerances_that_are_none(value: object) -> None:
    with pytest.raises(UsageError, match="invalid tolerance"):
        parse_tolerance(value)
