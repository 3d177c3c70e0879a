"""Zero is what a rule says: views, copies, creation and randomness, forward and backward."""

import pytest
import torch
from cases import COPIES, CREATION, RANDOMNESS, VIEWS, Case, cost_of, ints, ops_of, reals, rule_calls

from graphflops import Work, analyze
from graphflops.rules.loading import shipped

FREE = [case for case in (*VIEWS, *COPIES, *CREATION, *RANDOMNESS) if case.name != "expand"]


@pytest.mark.parametrize("case", FREE, ids=repr)
def test_costs_nothing_under_any_convention(case: Case) -> None:
    report = analyze(case.run, case.inputs, convention="exact")
    assert report.forward == 0
    assert report.coverage.unknown == report.coverage.counted == 0
    assert not any(entry.work for entry in report.entries if entry.kind == "call")


@pytest.mark.parametrize("case", FREE, ids=repr)
def test_the_rule_says_why(case: Case) -> None:
    for op in ops_of(case):
        rule = shipped().find(op.call)
        assert rule is not None
        assert rule.about.startswith(("zero: a view", "zero: a copy", "zero: made", "zero: drawing")), op.target


@pytest.mark.parametrize(
    ("repeat", "copies"),
    [(lambda x: x.expand(3, 4, 6), 3 - 1), (lambda x: x.repeat(3, 1), 3 - 1), (lambda x: x.expand(4, 6), 0)],
)
def test_repetition_is_free_and_backward_sums_the_copies(repeat: object, copies: int) -> None:
    cost = cost_of(repeat, reals(4, 6))
    assert cost.forward == Work()
    assert cost.grads["self"] == Work(accumulate=copies * 4 * 6)


def test_picking_by_index_is_free_and_its_gradient_adds_each_to_where_it_came_from() -> None:
    cost = cost_of(lambda x, i: x.index_select(0, i), reals(4, 6), ints(3))
    assert cost.forward == Work()
    assert cost.grads["self"] == Work(accumulate=3 * 6)


def test_putting_by_index_is_free_and_adding_by_index_is_not() -> None:
    inputs = reals(4, 6), ints(4), reals(4, 6)
    put = cost_of(lambda x, i, y: x.index_put((i,), y), *inputs)
    added = cost_of(lambda x, i, y: x.index_put((i,), y, accumulate=True), *inputs)
    assert put.forward == Work()
    assert added.forward == Work(elementwise=4 * 6)
    assert not any(added.grads.values())


@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_that_drops_nothing_is_free(p: float, training: bool) -> None:
    cost = cost_of(torch.nn.Dropout(p).train(training), reals(4, 6))
    product = Work(elementwise=4 * 6) if training and p else Work()
    assert (cost.forward, cost.grads["input"]) == (product, product)


@pytest.mark.slow
def test_comparisons_and_searches_have_no_gradient() -> None:
    predicates = {
        f"aten::{name}"
        for name in ["eq", "ne", "lt", "isnan", "logical_and", "bitwise_or", "argmax", "any", "count_nonzero"]
    }
    calls = [call for call in rule_calls() if call.target in predicates]
    assert {call.target for call in calls} == predicates
    for call in calls:
        assert not any(call.rule.evaluate(call.arguments).grads.values()), call
