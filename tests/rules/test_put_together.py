"""Reductions by index, by segment and along the way, against loops on counting numbers."""

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from cases import cost_of, ints, meta, reals
from counting_numbers import Real, sqrt, tallied, tally_of

from graphflops import Cost, Work, analyze, spec
from graphflops.rules.loading import shipped

THERE, SOURCE, INDEX = [0.5, 2.0, 0.25], [0.75, 3.0, 0.125, 0.875, 1.25], [0, 2, 2, 0, 1]


def larger(a: Any, b: Any) -> Any:
    return a if a > b else b


def smaller(a: Any, b: Any) -> Any:
    return a if a < b else b


JOIN: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "amax": larger,
    "amin": smaller,
}
by_mode = pytest.mark.parametrize("mode", JOIN)


def joined(mode: str) -> list[Any]:
    together = [Real(number) for number in THERE]
    for i, number in zip(INDEX, SOURCE, strict=True):
        together[i] = JOIN[mode](together[i], Real(number))
    if mode == "mean":
        together = [number / (1 + INDEX.count(i)) for i, number in enumerate(together)]
    return together


def expected(mode: str) -> torch.Tensor:
    return torch.tensor(THERE).scatter_reduce(0, torch.tensor(INDEX), torch.tensor(SOURCE), mode)


def scattered(mode: str, indices: int = 5) -> Cost:
    return cost_of(lambda x, i, y: x.scatter_reduce(0, i, y, mode), reals(3), ints(indices), reals(5))


@by_mode
def test_each_number_of_the_source_is_put_together_with_what_is_there(mode: str) -> None:
    result, tally = tallied(joined, mode)
    torch.testing.assert_close(torch.tensor([float(number) for number in result]), expected(mode))
    forward = scattered(mode).forward
    assert tally_of(Work(forward.macs, forward.elementwise, forward.division)) == tally
    assert forward.integer == (len(INDEX) if mode == "mean" else 0)


def gradients(mode: str, result: list[float]) -> tuple[list[Any], list[Any]]:
    """Of what was there, and of the source; the gradient of the result is 1, a counting number."""
    target, source = [Real(number) for number in THERE], [Real(number) for number in SOURCE]
    g = [Real(1.0) for _ in target]
    if mode == "sum":
        return g, [g[i] for i in INDEX]
    if mode == "mean":
        many = [1 + INDEX.count(i) for i in range(len(target))]
        return [g[i] / many[i] for i in range(len(target))], [g[i] / many[i] for i in INDEX]
    if mode == "prod":
        of_source = [g[i] * result[i] / y for i, y in zip(INDEX, source, strict=True)]
        return [a * y / x for a, y, x in zip(g, result, target, strict=True)], of_source
    is_it = [larger_or_equal(x, y) for x, y in zip(target, result, strict=True)]
    source_is_it = [larger_or_equal(x, result[i]) for i, x in zip(INDEX, source, strict=True)]
    many = [is_it[i] + sum(s for j, s in zip(INDEX, source_is_it, strict=True) if i == j) for i in range(len(target))]
    shared = [number / count for number, count in zip(g, many, strict=True)]
    of_source = [shared[i] * number for i, number in zip(INDEX, source_is_it, strict=True)]
    return [a * number for a, number in zip(shared, is_it, strict=True)], of_source


def larger_or_equal(x: Any, y: float) -> int:
    """Whether x is y, by one comparison that counts; y is the larger one."""
    return int(x >= y) if y >= float(x) else int(x <= y)


@by_mode
def test_its_gradients(mode: str) -> None:
    target, source = (torch.tensor(numbers, requires_grad=True) for numbers in (THERE, SOURCE))
    y = target.scatter_reduce(0, torch.tensor(INDEX), source, mode)
    expected_grads = torch.autograd.grad(y.sum(), (target, source))
    grads, tally = tallied(gradients, mode, y.tolist())
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(torch.tensor([float(number) for number in grad]), expected_grad)
    work = sum(scattered(mode).grads.values(), Work())
    assert tally_of(Work(elementwise=work.elementwise, division=work.division)) == tally


@pytest.mark.parametrize("mode", ["mean", "prod", "amax", "amin"])
def test_an_index_for_each_row_is_an_index_for_each_element_of_it(mode: str) -> None:
    rows = cost_of(lambda x, i, y: x.index_reduce(0, i, y, mode), reals(3, 4), ints(5), reals(5, 4))
    elements = cost_of(lambda x, i, y: x.scatter_reduce(0, i, y, mode), reals(3, 4), ints(5, 4), reals(5, 4))
    assert rows.forward == elements.forward
    assert sum(rows.grads.values(), Work()) == sum(elements.grads.values(), Work())


def test_no_more_of_the_source_is_read_than_there_are_indices() -> None:
    assert scattered("sum", indices=2).forward == Work(elementwise=2)
    assert cost_of(lambda x, i, y: x.scatter_add(0, i, y), reals(3), ints(2), reals(5)).forward == Work(elementwise=2)


@pytest.mark.parametrize(("mode", "as_"), [("sum", "sum"), ("mean", "mean"), ("prod", "prod"), ("max", "amax")])
def test_segments_are_put_together_element_by_element(mode: str, as_: str) -> None:
    def segments() -> list[Any]:
        totals = [Real(0.0), Real(0.0)]
        for i, number in enumerate(SOURCE[:4]):
            totals[i // 2] = JOIN[as_](totals[i // 2], Real(number))
        return [total / 2 for total in totals] if mode == "mean" else totals

    _, tally = tallied(segments)
    lengths = torch.tensor([2, 2])
    assert tally_of(cost_of(partial(torch.segment_reduce, reduce=mode, lengths=lengths), reals(4)).forward) == tally


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 100])
def test_a_binary_search_halves_what_is_left(n: int) -> None:
    """The most comparisons that any number needs."""
    comparisons = 0
    for index in range(n + 1):
        _, tally = tallied(bisect_left, [Real(i) for i in range(n)], Real(index - 0.5))
        comparisons = max(comparisons, tally["elementwise"])
    assert cost_of(torch.searchsorted, meta(n), meta(1)).forward == Work(elementwise=comparisons)
    assert cost_of(torch.bucketize, meta(5, 6), meta(n)).forward == Work(elementwise=30 * comparisons)


def test_what_is_there_so_far_is_compared_with_each() -> None:
    cost = cost_of(lambda x: x.cummax(0)[0], reals(4, 6))
    assert cost == Cost(Work(elementwise=24), {"self": Work(accumulate=24)})


def test_the_variance_has_the_mean_on_its_way() -> None:
    x = reals(4, 6)

    def backward(run: Callable[..., Any]) -> Work:
        return analyze(run, (x,)).work("dgrad")

    assert cost_of(partial(torch.var_mean, dim=-1), x).forward == cost_of(partial(torch.var, dim=-1), x).forward
    of_variance, of_mean = (backward(lambda x, i=i: torch.var_mean(x, -1)[i]) for i in (0, 1))
    assert of_variance == backward(lambda x: x.var(-1))
    assert of_mean == backward(lambda x: x.mean(-1))
    together = Work(elementwise=24)  # the two are added
    assert backward(lambda x: torch.var_mean(x, -1)) == of_variance + of_mean + together
    assert backward(lambda x: torch.std_mean(x, -1)[0]) == backward(lambda x: x.std(-1))


def test_rows_are_scaled_to_a_norm() -> None:
    rows = [[3.0, 4.0, 1.0], [5.0, 1.0, 2.0]]

    def scaled() -> list[Any]:
        numbers = []
        for row in ([Real(number) for number in row] for row in rows):
            total = Real(0)
            for number in row:
                total = total + number * number
            norm = sqrt(total)
            longer = norm > 1.0
            factor = 1.0 / (norm + 1e-7)
            numbers += [number * (factor if longer else 1.0) for number in row]
        return numbers

    result, tally = tallied(scaled)
    tally["elementwise"] += len(rows)  # a choice by the comparison
    torch.testing.assert_close(torch.tensor([float(x) for x in result]), torch.tensor(rows).renorm(2, 0, 1.0).flatten())
    assert tally_of(cost_of(lambda x: x.renorm(2, 0, 1.0), reals(2, 3)).forward) == tally


def test_renorm_of_another_order_is_unknown() -> None:
    report = analyze(lambda x: x.renorm(3, 0, 1.0), (meta(2, 3),))
    assert report.coverage.unknown == 1


def test_a_distance_is_the_norm_of_a_difference() -> None:
    for p in (1, 2):
        distance = cost_of(partial(torch.dist, p=p), reals(6), reals(6))
        norm = cost_of(partial(torch.linalg.vector_norm, ord=p), reals(6))
        assert distance.forward == norm.forward + Work(elementwise=6)
        assert distance.grads["self|other"] == norm.grads["self"]


def test_numbers_are_rounded_to_the_integer_range() -> None:
    values, scale, zero, low, high = [0.33, -2.0, 9.0], 0.25, 3, 0, 15

    def quantized() -> list[Any]:
        return [
            (smaller(larger(Real(round(Real(value) * (1 / scale))) + zero, Real(low)), Real(high)) - zero) * scale
            for value in values
        ]

    result, tally = tallied(quantized)
    tally["elementwise"] += len(values)  # the roundings
    run = partial(torch.fake_quantize_per_tensor_affine, scale=scale, zero_point=zero, quant_min=low, quant_max=high)
    torch.testing.assert_close(torch.tensor([float(number) for number in result]), run(torch.tensor(values)))
    cost = cost_of(run, reals(3))
    assert tally_of(cost.forward) == tally
    assert cost.grads["self"] == Work(elementwise=3)


def test_counts_are_integers_and_weighted_sums_are_not() -> None:
    price = shipped().rules["aten::bincount"].evaluate
    numbers = spec(9, dtype="int64")
    assert price({"self": numbers}).forward == Work(integer=9)
    assert price({"self": numbers, "weights": spec(9)}).forward == Work(elementwise=9)
