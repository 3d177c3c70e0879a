"""A rule is a pure function of sizes: called with symbols it gives the same law as with numbers, at any sizes."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
from cases import Priced, asked_once
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflops import Cost, Spec
from graphflops.core.costs import WORK_CLASSES, Work
from graphflops.core.sizes import Size
from graphflops.rules.formulas import symbolic

PRICED = asked_once()
each_call = pytest.mark.parametrize("call", PRICED, ids=repr)


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
    return {f"{name}, {each}": getattr(work, each) for name, work in works(cost) for each in WORK_CLASSES}


def at(cost: Cost, sizes: Mapping[Any, int]) -> dict[str, Size]:
    """The counts of a symbolic cost at some sizes."""
    return {name: _at(count, sizes) for name, count in counts(cost).items()}


def _at(value: Any, sizes: Mapping[Any, int]) -> Any:
    if isinstance(value, Spec):
        return replace(value, shape=_at(value.shape, sizes))
    if isinstance(value, (tuple, list)):
        return tuple(_at(each, sizes) for each in value)
    if not hasattr(value, "free_symbols"):
        return value
    number = value.subs(sizes)
    return int(number) if number.is_Integer else number


def at_any(call: Priced, other: Mapping[str, Any]) -> Cost:
    """The bare formula: shapes that no tensors could have together may give counts that a book would refuse."""
    offered = {**call.offered, **other}
    return call.rule.cost(**{name: offered[name] for name in call.rule.requested_names() if name in offered})


def asked_in_symbols(call: Priced) -> tuple[Cost, dict[Any, Size], dict[str, Any]]:
    """The symbolic cost, the sizes of its symbols, and what the rule was given."""
    given: dict[str, Any] = {}

    @wraps(call.rule.cost)
    def listening(**asked: Any) -> Cost:
        given.update(asked)
        return call.rule.cost(**asked)

    cost, sizes = symbolic(replace(call.rule, cost=listening), call.offered)
    return cost, sizes, given


@each_call
def test_counts_are_whole_numbers_and_not_negative(call: Priced) -> None:
    for name, count in counts(call.rule.evaluate(call.offered)).items():
        assert type(count) is int, name
        assert count >= 0, name


@each_call
def test_the_law_gives_the_number(call: Priced) -> None:
    cost, sizes, _ = asked_in_symbols(call)
    assert at(cost, sizes) == counts(call.rule.evaluate(call.offered))


@each_call
def test_the_law_gives_the_number_at_any_other_sizes(call: Priced) -> None:
    """Each dimension is drawn alone, so these are not shapes that a tensor could have: the law does not look."""
    cost, symbols, given = asked_in_symbols(call)
    draw = random.Random(call.case)
    for largest in (1, 3, 1000, 10**9):
        sizes = {symbol: draw.randint(1, largest) for symbol in symbols}
        other = {name: _at(value, sizes) for name, value in given.items()}
        numbers = counts(at_any(call, other))
        assert at(cost, sizes) == numbers, sizes
        assert {type(count) for count in numbers.values()} == {int}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PRICED), st.data())
def test_the_law_gives_the_number_wherever_hypothesis_looks(call: Priced, data: st.DataObject) -> None:
    cost, symbols, given = asked_in_symbols(call)
    sizes = {symbol: data.draw(st.integers(1, 2**40), label=str(symbol)) for symbol in symbols}
    other = {name: _at(value, sizes) for name, value in given.items()}
    assert at(cost, sizes) == counts(at_any(call, other))
