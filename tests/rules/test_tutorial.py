"""The rule that the tutorial writes, held to a textbook loop on numbers that count and know how long they waited."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counting_numbers import TALLY, Real, exp, tally_of
from test_span import Deep

from graphflops import Cost, Work, spec
from graphflops.core.costs import WORK_CLASSES
from graphflops.rules.loading import local

PAGE = Path(__file__).parents[2] / "docs" / "writing-rules.md"
SIZES = [(1, 1, 1, 1), (1, 6, 1, 1), (2, 5, 3, 4), (3, 2, 4, 6)]


@pytest.fixture
def rule(tmp_path: Path) -> Any:
    """The rule as it stands in the document."""
    (text,) = re.findall(r'title="my_rules.py"\n(.*?)^```', PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    file = tmp_path / "my_rules.py"
    file.write_text(text, encoding="utf-8")
    return local(file).rules["selective_scan.SelectiveScan"]


def cost(rule: Any, batch: int, length: int, width: int, state: int) -> Cost:
    sequence, selected = spec(batch, length, width), spec(batch, length, state)
    return rule(sequence, sequence, spec(width, state), selected, selected, spec(width))


def added(numbers: Iterator[Any], first: Any) -> Any:
    """A sum of n numbers is n additions, the first of them into zero."""
    for number in numbers:
        first = first + number
    return first


def scan(batch: int, length: int, width: int, state: int, number: Any, exp: Any) -> Iterator[Any]:
    """One number of the input after the other, one of the state after the other: the recursion as it is written."""
    x, delta, A, B, C, D = (number(value) for value in (0.5, 0.25, -1.0, 0.75, 1.5, 2.0))
    for _ in range(batch * width):
        h = [number(0.0)] * state
        for _ in range(length):
            scaled = delta * x
            h = [exp(delta * A) * number + scaled * B for number in h]
            yield added((C * number for number in h), number(0.0)) + D * x


@pytest.mark.parametrize("sizes", SIZES)
def test_forward_is_what_the_loop_does(rule: Any, sizes: tuple[int, ...]) -> None:
    TALLY.clear()
    assert len(list(scan(*sizes, Real, exp))) == sizes[0] * sizes[1] * sizes[2]
    counted = {name: count for name, count in TALLY.items() if count}
    assert {name: count for name, count in tally_of(cost(rule, *sizes).forward).items() if count} == counted


@pytest.mark.parametrize("sizes", SIZES)
def test_the_span_is_how_long_the_last_number_waits(rule: Any, sizes: tuple[int, ...]) -> None:
    assert cost(rule, *sizes).span == max(
        number.depth for number in scan(*sizes, Deep, lambda x: Deep.computed(1.0, x))
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_gradients_are_what_a_loop_the_other_way_does(rule: Any, sizes: tuple[int, ...]) -> None:
    """Each gradient as the chain rule has it, of one number after the other."""
    batch, length, width, state = sizes
    g, x, delta, a, b, c, d, h, decay = (Real(0.5) for _ in range(9))
    steps = range(batch * length * width)

    TALLY.clear()
    for _ in range(batch * width * state):
        dh = g * c
        for _ in range(length - 1):
            dh = g * c + decay * dh
    for _ in steps:
        dscaled = added((g * b for _ in range(state)), Real(0.0))
        dlog = [g * h * decay for _ in range(state)]
        dscaled * delta + d * g  # x
        dscaled * x + added((number * a for number in dlog), Real(0.0))  # Δ
        [number * delta for number in dlog]  # A, summed over batch and length
        scaled = delta * x
        [g * scaled for _ in range(state)]  # B, summed over the width
        [g * h for _ in range(state)]  # C, summed over the width
        g * x  # D, summed over batch and length
    summed = len(steps) * (3 * state + 1)

    grads_work = sum(cost(rule, *sizes).grads.values(), Work())
    assert dict(zip(WORK_CLASSES, grads_work.counts(), strict=True)) == {
        **dict.fromkeys(WORK_CLASSES, 0),
        "elementwise": TALLY["elementwise"],
        "accumulate": summed,
    }
