"""Modules that a program copies while it runs are called themselves, and not their originals."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from graphflops import Cost, Work, analyze, rule

ROWS, A, B, C = 3, 4, 8, 16
X = (torch.zeros(ROWS, A),)


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(A, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def by_attributes(layer: Layer) -> Layer:
    """As packages copy that turn modules into functions."""
    copied = Layer.__new__(Layer)
    copied.__dict__ = layer.__dict__.copy()
    copied._modules = dict(layer._modules)
    return copied


def shallow(layer: Layer) -> Layer:
    copied = copy.copy(layer)
    copied._modules = dict(layer._modules)
    return copied


class Program(nn.Module):
    def __init__(self, copied: Callable[[Layer], Layer]) -> None:
        super().__init__()
        self.layer, self.copied = Layer(B), copied

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        copied = self.copied(self.layer)
        copied.linear = nn.Linear(A, C)
        return self.layer(x).sum() + copied(x).sum()


@pytest.mark.parametrize("copied", [by_attributes, shallow])
def test_a_copy_runs_its_own_attributes(copied: Callable[[Layer], Layer]) -> None:
    report = analyze(Program(copied), X, optimizer=None)
    assert report.macs == ROWS * A * (B + C)


@pytest.mark.parametrize("copied", [by_attributes, shallow])
def test_a_rule_of_its_class_applies_to_a_copy_too(copied: Callable[[Layer], Layer]) -> None:
    @rule(Layer)
    def ruled(linear):
        """One multiply-add a call."""
        return Cost(Work(macs=1), grads={"*": Work()})

    assert analyze(Program(copied), X, optimizer=None, rules=[ruled]).macs == 2


def test_a_module_is_called_as_ever_afterwards() -> None:
    layer = Layer(B)
    analyze(layer, X)
    assert nn.Module._compiled_call_impl is None
    assert layer(*X).shape == (ROWS, B)
