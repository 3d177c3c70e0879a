"""Span: how long the longest chain of operations is that wait for each other, held to numbers that know their depth."""

from __future__ import annotations

from itertools import pairwise

import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphflops import Cost, Work, analyze, rule, spec
from graphflops.rules.formulas import symbolic
from graphflops.rules.loading import shipped


class Deep(float):
    """A float that knows how many operations it waited for."""

    depth = 0

    @classmethod
    def computed(cls, value: float, *operands: float) -> Deep:
        new = cls(value)
        new.depth = 1 + max(getattr(operand, "depth", 0) for operand in operands)
        return new

    def __add__(self, other: float) -> Deep:
        return Deep.computed(float(self) + float(other), self, other)

    def __sub__(self, other: float) -> Deep:
        return Deep.computed(float(self) - float(other), self, other)

    def __mul__(self, other: float) -> Deep:
        return Deep.computed(float(self) * float(other), self, other)


Pair = tuple[Deep, Deep]


def product(a: Pair, b: Pair) -> Pair:
    """A complex product in real operations."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def leading_minors(n: int) -> list[Pair]:
    """θ_i = a·θ_{i−1} − bc·θ_{i−2}, with inputs that waited for nothing."""
    a, bc = (Deep(0.5), Deep(0.25)), (Deep(0.125), Deep(0.0))
    minors = [(Deep(1.0), Deep(0.0)), a]
    for _ in range(n - 1):
        ahead, behind = product(a, minors[-1]), product(bc, minors[-2])
        minors.append((ahead[0] - behind[0], ahead[1] - behind[1]))
    return minors


def bk_core_span(n: int) -> int:
    span = shipped().rules["graphflops.bk_core"](spec(4, n)).span
    assert isinstance(span, int)
    return span


def test_bk_core_grows_with_n_as_the_textbook_recursion_does() -> None:
    depths = [leading_minors(n)[-1][0].depth for n in range(3, 40)]
    spans = [bk_core_span(n) for n in range(3, 40)]
    assert {b - a for a, b in pairwise(depths)} == {3}
    assert {b - a for a, b in pairwise(spans)} == {3}
    assert all(span >= depth for span, depth in zip(spans, depths, strict=True))


def test_bk_core_does_not_wait_for_other_sequences() -> None:
    rule = shipped().rules["graphflops.bk_core"]
    assert rule(spec(1, 50)).span == rule(spec(64, 50)).span
    assert rule(spec(1, 50)).backward_span == rule(spec(1, 100)).backward_span


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_spans_add_up_in_sequence_but_not_in_parallel(work: int, span: int, times: int) -> None:
    one = Cost(Work(elementwise=work), {"x": Work(elementwise=work)}, span=span, backward_span=2 * span)
    in_turn = times * one
    assert in_turn == sum([one] * times, Cost())
    assert (in_turn.span, in_turn.backward_span) == (times * span, 2 * times * span)
    abreast = one.parallel(times)
    assert (abreast.forward, abreast.grads) == (in_turn.forward, in_turn.grads)
    assert (abreast.span, abreast.backward_span) == (span, 2 * span)
    parallel = one | in_turn
    assert (parallel.forward, parallel.span) == ((times + 1) * one.forward, times * span)


def test_a_span_that_a_part_does_not_say_is_not_said_of_the_whole() -> None:
    message, silent, free = Cost(Work(elementwise=1), span=1), Cost(Work(macs=1)), Cost()
    assert (message + silent).span is None
    assert (message | silent).span is None
    assert (message + free).span == (free | message).span == 1
    assert Cost.of(a=message, b=3 * message).span == 4


def test_a_span_may_be_a_formula() -> None:
    n, m = sympy.symbols("n m", positive=True, integer=True)
    step = Cost(Work(elementwise=2), span=1)
    assert (n * step | m * step).span == sympy.Max(n, m)


def test_explain_prints_it() -> None:
    @rule("aten.exp")
    def slow(self) -> Cost:
        return Cost(Work(transcendental=self.numel), {"self": Work(elementwise=self.numel)}, span=self.shape[-1])

    report = analyze(torch.exp, (torch.zeros(2, 8),), rules=[slow])
    assert "span: self₁ operations in sequence" in report.explain()
    cost, sizes = symbolic(slow, {"self": spec(2, 8)})
    assert sizes[cost.span] == 8
