"""Pooling and resampling, against loops over windows and neighbours on counting numbers."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import cost_of, costs_of, reals
from counting_numbers import Real, tallied, tally_of
from torch import nn

from graphflops import Work

ROW = [0.3, 0.9, 0.5, 0.7, 0.2, 0.8]


def real(values: Any) -> Any:
    """Nested lists of counting numbers."""
    return [real(value) for value in values] if isinstance(values, list) else Real(values)


def mean(window: list[Any]) -> Any:
    return sum(window, Real(0)) / len(window)


def largest(window: list[Any]) -> Any:
    best = Real("-inf")
    for number in window:
        if number > best:
            best = number
    return best


@pytest.mark.parametrize(
    ("function", "of_window"),
    [
        (partial(F.avg_pool1d, kernel_size=3, stride=1), mean),
        (partial(F.max_pool1d, kernel_size=3, stride=1), largest),
    ],
)
def test_a_window_for_each_element(function: Callable[..., Any], of_window: Callable[[Any], Any]) -> None:
    row = real(ROW)
    y, tally = tallied(lambda: [of_window(row[i : i + 3]) for i in range(len(row) - 2)])
    torch.testing.assert_close(torch.tensor([float(number) for number in y]), function(torch.tensor([ROW]))[0])
    (cost,) = (cost for cost in costs_of(function, reals(1, 1, len(row))) if cost.forward)
    assert tally_of(cost.forward) == tally


@pytest.mark.parametrize(
    ("function", "of_window"), [(F.adaptive_avg_pool1d, mean), (partial(F.adaptive_max_pool1d), largest)]
)
def test_adaptive_windows_that_divide_the_input(function: Callable[..., Any], of_window: Callable[[Any], Any]) -> None:
    row = real(ROW)
    y, tally = tallied(lambda: [of_window(row[i : i + 2]) for i in range(0, len(row), 2)])
    torch.testing.assert_close(torch.tensor([float(number) for number in y]), function(torch.tensor([ROW]), 3)[0])
    (cost,) = (cost for cost in costs_of(lambda x: function(x, 3), reals(1, 1, len(row))) if cost.forward)
    assert tally_of(cost.forward) == tally


def test_what_a_window_passes_back_is_added_where_it_came_from() -> None:
    outputs = 2 * 3 * 7 * 7
    average = cost_of(nn.AvgPool2d(2, 1), reals(2, 3, 8, 8)).grads["self"]
    assert average == Work(division=outputs, accumulate=4 * outputs)
    assert cost_of(nn.MaxPool2d(2, 1), reals(2, 3, 8, 8)).grads["self"] == Work(accumulate=outputs)


def lerp(a: Any, b: Any, t: float) -> Any:
    return a * (1 - t) + b * t


def middle(values: Any) -> Any:
    """Linear interpolation at the middle of a cube of two by two by…: by halves."""
    return lerp(*(middle(value) if isinstance(value, list) else value for value in values), 0.5)


@pytest.mark.parametrize(("mode", "axes"), [("linear", 1), ("bilinear", 2), ("trilinear", 3)])
def test_interpolation_between_corners(mode: str, axes: int) -> None:
    cube = torch.arange(2.0**axes).reshape([2] * axes)
    result, tally = tallied(middle, real(cube.tolist()))
    y = F.interpolate(cube[None, None], size=[1] * axes, mode=mode)
    torch.testing.assert_close(torch.tensor(float(result)), y.reshape(()))
    cost = cost_of(partial(F.interpolate, scale_factor=2, mode=mode), reals(2, 3, *[4] * axes))
    elements = 2 * 3 * 8**axes
    assert tally_of(cost.forward) == {name: elements * count for name, count in tally.items()}
    assert cost.grads["self|input"] == Work(elementwise=2 * (2**axes - 1) * elements, accumulate=2**axes * elements)


def test_bicubic_is_five_cubics_through_four() -> None:
    weights = [-0.1, 0.6, 0.6, -0.1]

    def cubic(values: list[Any]) -> Any:
        first, *products = (w * number for w, number in zip(weights, values, strict=True))
        return sum(products, first)

    _, tally = tallied(lambda rows: cubic([cubic(row) for row in rows]), real([[1.0, 2.0, 3.0, 4.0]] * 4))
    cost = cost_of(partial(F.interpolate, scale_factor=2, mode="bicubic"), reals(1, 1, 4, 4))
    assert tally_of(cost.forward) == {name: 8 * 8 * count for name, count in tally.items()}


def test_sampling_at_a_point_is_a_place_and_corners() -> None:
    """One channel, one point: all of it is counted; a second channel costs its corners only."""
    height, width = 3, 4
    image = torch.arange(12.0).reshape(1, 1, height, width)
    x, y = 0.2, -0.3

    def sample(x: Any, y: Any) -> Any:
        places = [((coordinate + 1) * size - 1) / 2 for coordinate, size in ((x, width), (y, height))]
        low = [Real(float(int(place))) if place is not None else place for place in places]
        ts = [place - floor for place, floor in zip(places, low, strict=True)]
        complements = [1 - t for t in ts]
        i, j = int(low[0]), int(low[1])
        total = Real(0)
        for dy in (0, 1):
            for dx in (0, 1):
                weight = (ts[0] if dx else complements[0]) * (ts[1] if dy else complements[1])
                total = total + weight * image[0, 0, j + dy, i + dx].item()
        return total

    result, tally = tallied(sample, Real(x), Real(y))
    tally["elementwise"] += 2  # the floors
    expected = F.grid_sample(image, torch.tensor([[[[x, y]]]]), align_corners=False)
    torch.testing.assert_close(torch.tensor(float(result)), expected.reshape(()))
    one, two = (
        cost_of(partial(F.grid_sample, align_corners=False), reals(1, channels, 3, 4), reals(1, 1, 1, 2))
        for channels in (1, 2)
    )
    assert tally_of(one.forward) == tally
    assert two.forward.elementwise - one.forward.elementwise == 2 * 4


def test_neighbours_are_picked_and_their_gradients_added() -> None:
    cost = cost_of(partial(F.interpolate, scale_factor=2), reals(2, 3, 4, 4))
    assert cost.forward == Work()
    assert cost.grads["self|input"] == Work(accumulate=2 * 3 * 8 * 8)


def test_fold_adds_what_unfold_copied() -> None:
    x = reals(1, 2, 6, 6)
    copied = cost_of(nn.Unfold(2), x)
    added = cost_of(nn.Fold((6, 6), 2), F.unfold(x, 2))
    columns = 2 * 4 * 25
    assert (copied.forward, copied.grads["self|input"]) == (Work(), Work(accumulate=columns))
    assert (added.forward, added.grads["self"]) == (Work(elementwise=columns), Work())


A = -0.75  # of PyTorch's cubics


def weights_at(t: float) -> list[float]:
    """The weights of the four samples around a point at distance t from the second."""

    def near(x: float) -> float:
        return ((A + 2) * x - (A + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def slopes_at(t: Any) -> list[Any]:
    """The derivatives of what they weigh by t."""
    before, to_next, beyond = t + 1, 1 - t, 2 - t
    return [
        (3 * A * before - 10 * A) * before + 8 * A,
        (3 * (A + 2) * t - 2 * (A + 3)) * t,
        (2 * (A + 3) - 3 * (A + 2) * to_next) * to_next,
        (10 * A - 3 * A * beyond) * beyond - 8 * A,
    ]


def test_the_gradient_of_bicubic_coordinates_is_of_their_weights() -> None:
    """The derivatives of the weights, and at each of 16 corners four factors, which are added up, for x and for y."""
    size, x, y = 6, 0.2, -0.3
    image = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (column, t), (row, u) = (divmod(((coordinate + 1) * size - 1) / 2, 1) for coordinate in (x, y))
    corners = image[int(row) - 1 :, int(column) - 1 :][:4, :4].tolist()
    across, down = weights_at(t), weights_at(u)

    def gradient(t: Any, u: Any) -> list[Any]:
        slopes = slopes_at(t), slopes_at(u)
        dx, dy = Real(0), Real(0)
        for j, values in enumerate(corners):
            for i, value in enumerate(values):
                dx = dx + slopes[0][i] * down[j] * value * 1.0
                dy = dy + slopes[1][j] * across[i] * value * 1.0
        return [dx * (size / 2), dy * (size / 2)]

    result, tally = tallied(gradient, Real(t), Real(u))
    sample = partial(F.grid_sample, mode="bicubic", align_corners=False)
    grid = torch.tensor([[[[x, y]]]], requires_grad=True, dtype=torch.float64)
    (expected,) = torch.autograd.grad(sample(image[None, None], grid).sum(), grid)
    torch.testing.assert_close(torch.tensor(list(map(float, result)), dtype=torch.float64), expected.flatten())
    assert tally_of(cost_of(sample, reals(1, 1, size, size), reals(1, 1, 1, 2)).grads["grid"]) == tally


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "to"), [(24, 12), (12, 24), (24, 6)])
def test_an_antialiased_element_reads_what_its_filter_spans(mode: str, size: int, to: int) -> None:
    """PyTorch's own gradient says how many samples an element away from the edges reads."""
    resized = partial(F.interpolate, mode=mode, antialias=True)
    x = torch.zeros(1, 1, size, 1, requires_grad=True, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(resized(x, size=(to, 1))[0, 0, to // 2, 0], x)
    read = int((gradient != 0).sum())
    down, along = (
        cost_of(partial(resized, size=new_size), reals(1, 1, size, 10)) for new_size in ((to, 10), (size, 10))
    )
    assert down.forward.elementwise - along.forward.elementwise == 2 * 10 * (read * to - _taps(mode) * size)
    assert down.grads["self"] == Work(
        elementwise=down.forward.elementwise // 2, accumulate=down.forward.elementwise // 2
    )


def _taps(mode: str) -> int:
    return {"bilinear": 2, "bicubic": 4}[mode]


def test_every_pair_of_halves_costs_half() -> None:
    """The work of a pool is linear in the length of its output."""
    costs = [cost_of(nn.AvgPool2d(2), reals(1, 1, 2 * n, 4)).forward.elementwise for n in range(1, 5)]
    assert {b - a for a, b in pairwise(costs)} == {2 * 4}
