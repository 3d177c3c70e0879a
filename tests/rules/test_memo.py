"""Equal calls are priced once; calls that differ in anything that a rule asks for are not equal."""

import pytest
import torch
from torch import Tensor, nn

from graphflops import Cost, Work, analyze, rule
from graphflops.core.sizes import Spec

asked: list[object] = []


class Layer(nn.Module):
    def __init__(self, width: object) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def priced():
    asked.clear()

    @rule(Layer)
    def layer(x: Spec, width: object) -> Cost:
        asked.append(width)
        return Cost(Work(elementwise=1), {"x": Work()})

    return lambda *layers: analyze(nn.Sequential(*layers), (torch.zeros(3),), rules=[layer]).forward


def times(width: object) -> int:
    return sum(type(each) is type(width) and each == width for each in asked)


def test_a_hundred_equal_layers_ask_as_often_as_one(priced) -> None:
    assert priced(Layer(8)) == 1
    once = times(8)
    asked.clear()
    assert priced(*(Layer(8) for _ in range(100))) == 100
    assert times(8) == once


@pytest.mark.parametrize("other", [9, 8.0, "8", (8,), None, True])
def test_another_value_or_another_kind_is_another_question(priced, other: object) -> None:
    priced(Layer(8), Layer(other))
    assert times(8)
    assert times(other)


def test_what_is_not_plain_is_asked_every_time(priced) -> None:
    thing = object()
    priced(Layer(thing))
    once = times(thing)
    asked.clear()
    priced(Layer(thing), Layer(thing))
    assert times(thing) == 2 * once
