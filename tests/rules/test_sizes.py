"""A rule is a pure function of sizes: called with symbols it gives the same law as with numbers, at any sizes."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import sympy
from cases import RuleCall, distinct_calls
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflops import Cost, Spec
from graphflops.core.costs import WORK_CLASSES, Work
from graphflops.core.sizes import Size
from graphflops.rules.formulas import symbolic
from graphflops.rules.loading import shipped

FILES = sorted({Path(rule.file).name for _, rule in shipped()} | {"fallback.py"})


@pytest.fixture(params=FILES)
def calls(request: pytest.FixtureRequest) -> list[RuleCall]:
    """The calls of the rules of one file: traced here and not when tests are collected, which each worker does."""
    file_calls = [call for call in distinct_calls() if Path(call.rule.file).name == request.param]
    assert file_calls
    return file_calls


def works(cost: Cost, name: str = "") -> Iterator[tuple[str, Work]]:
    """Every Work in a cost, named."""
    yield f"{name}forward", cost.forward
    yield f"{name}recompute", cost.recompute
    for key, work in cost.grads.items():
        yield f"{name}gradient of {key}", work
    for part, inner in cost.parts.items():
        yield from works(inner, f"{part}: ")


def counts(cost: Cost) -> dict[str, Size]:
    """Every count in a cost, named."""
    return {f"{name}, {kind}": getattr(work, kind) for name, work in works(cost) for kind in WORK_CLASSES}


def at(cost: Cost, sizes: Mapping[Any, int]) -> dict[str, Size]:
    """The counts of a symbolic cost at some sizes."""
    numbers = {symbol: sympy.Integer(size) for symbol, size in sizes.items()}
    return {name: _at(count, numbers) for name, count in counts(cost).items()}


def _at(value: Any, sizes: Mapping[Any, int]) -> Any:
    if isinstance(value, Spec):
        return replace(value, shape=_at(value.shape, sizes))
    if isinstance(value, (tuple, list)):
        return tuple(_at(item, sizes) for item in value)
    if not hasattr(value, "free_symbols"):
        return value
    number = value.xreplace(sizes)
    return int(number) if number.is_Integer else number


def given_at(arguments: Mapping[str, Any], sizes: Mapping[Any, int]) -> dict[str, Any]:
    """The arguments of a rule at some sizes."""
    numbers = {symbol: sympy.Integer(size) for symbol, size in sizes.items()}
    return {name: _at(value, numbers) for name, value in arguments.items()}


def at_any(call: RuleCall, other: Mapping[str, Any]) -> Cost:
    """The bare formula: shapes that no tensors could have together may give counts that a book would refuse."""
    arguments = {**call.arguments, **other}
    return call.rule.cost(**{name: arguments[name] for name in call.rule.requested_names() if name in arguments})


def asked_in_symbols(call: RuleCall) -> tuple[Cost, dict[Any, Size], dict[str, Any]]:
    """The symbolic cost, the sizes of its symbols, and what the rule was given."""
    requested: dict[str, Any] = {}

    @wraps(call.rule.cost)
    def listening(**arguments: Any) -> Cost:
        requested.update(arguments)
        return call.rule.cost(**arguments)

    cost, sizes = symbolic(replace(call.rule, cost=listening), call.arguments)
    return cost, sizes, requested


def test_counts_are_whole_numbers_and_not_negative(calls: list[RuleCall]) -> None:
    for call in calls:
        for name, count in counts(call.rule.evaluate(call.arguments)).items():
            assert type(count) is int, (call, name)
            assert count >= 0, (call, name)


def test_the_law_gives_the_number_at_these_and_any_other_sizes(calls: list[RuleCall]) -> None:
    """Each dimension is drawn alone, so these are not shapes that a tensor could have: the law does not look."""
    for call in calls:
        cost, symbols, requested = asked_in_symbols(call)
        assert at(cost, symbols) == counts(call.rule.evaluate(call.arguments)), call
        draw = random.Random(call.case)
        for largest in (1, 3, 1000, 10**9):
            sizes = {symbol: draw.randint(1, largest) for symbol in symbols}
            numbers = counts(at_any(call, given_at(requested, sizes)))
            assert at(cost, sizes) == numbers, (call, sizes)
            assert {type(count) for count in numbers.values()} == {int}, call


@settings(max_examples=60, deadline=None)
@given(st.deferred(lambda: st.sampled_from(distinct_calls())), st.data())
def test_the_law_gives_the_number_wherever_hypothesis_looks(call: RuleCall, data: st.DataObject) -> None:
    cost, symbols, requested = asked_in_symbols(call)
    sizes = {symbol: data.draw(st.integers(1, 2**40), label=str(symbol)) for symbol in symbols}
    assert at(cost, sizes) == counts(at_any(call, given_at(requested, sizes)))
