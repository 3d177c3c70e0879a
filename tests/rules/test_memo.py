"""Equal calls are evaluations once; calls that differ in anything that a rule asks for are not equal."""

import pytest
import torch
from torch import Tensor, nn

from graphflops import Cost, Work, analyze, rule
from graphflops.core.sizes import Spec

widths: list[object] = []


class Layer(nn.Module):
    def __init__(self, width: object) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def evaluations():
    widths.clear()

    @rule(Layer)
    def layer(x: Spec, width: object) -> Cost:
        widths.append(width)
        return Cost(Work(elementwise=1), {"x": Work()})

    return lambda *layers: analyze(nn.Sequential(*layers), (torch.zeros(3),), rules=[layer]).forward


def times(width: object) -> int:
    return sum(type(requested) is type(width) and requested == width for requested in widths)


def test_a_hundred_equal_layers_ask_as_often_as_one(evaluations) -> None:
    assert evaluations(Layer(8)) == 1
    once = times(8)
    widths.clear()
    assert evaluations(*(Layer(8) for _ in range(100))) == 100
    assert times(8) == once


@pytest.mark.parametrize("other", [9, 8.0, "8", (8,), None, True])
def test_another_value_or_another_kind_is_another_question(evaluations, other: object) -> None:
    evaluations(Layer(8), Layer(other))
    assert times(8)
    assert times(other)


def test_rules_of_other_objects_run_every_time(evaluations) -> None:
    attribute = object()
    evaluations(Layer(attribute))
    once = times(attribute)
    widths.clear()
    evaluations(Layer(attribute), Layer(attribute))
    assert times(attribute) == 2 * once
