"""What functions of a model remember is no part of a report, and no report is part of what they remember."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze


@functools.lru_cache
def bounded(size: int) -> Tensor:
    return torch.eye(size) @ torch.ones(size, size)


@functools.cache
def unbounded(size: int) -> tuple[Tensor, int]:
    return torch.eye(size) @ torch.ones(size, size), size


def wrapped(function: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
    memo = functools.lru_cache(function)

    @functools.wraps(function)
    def call(size: int) -> Tensor:
        return memo(size)

    return call


@wrapped
def behind(size: int) -> Tensor:
    return torch.eye(size) @ torch.ones(size, size)


@functools.cache
def registry() -> list[str]:
    return []


@functools.cache
def store() -> dict[int, Tensor]:
    return {}


class Remembers(nn.Module):
    def __init__(self, table: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        registry().append("called")
        return x @ self.table(4)

    @functools.lru_cache  # noqa: B019
    def method(self, size: int) -> Tensor:
        return torch.eye(size) @ torch.ones(size, size)


@pytest.mark.parametrize("table", [bounded, lambda size: unbounded(size)[0], behind])
def test_each_analysis_is_the_first_and_the_model_runs_afterwards(table: Callable[[int], Tensor]) -> None:
    model, x = Remembers(table), torch.ones(2, 4)
    model(x)  # who ran it before has no other report
    assert [analyze(model, (x,)).macs for _ in range(2)] == [64 + 32] * 2
    assert torch.equal(model(x), torch.full((2, 4), 4.0))


def test_also_what_a_method_remembers() -> None:
    model, x = Remembers(bounded), torch.ones(2, 4)
    model.table = model.method
    assert analyze(model, (x,)).macs == 64 + 32
    assert torch.equal(model(x), torch.full((2, 4), 4.0))


def test_also_what_is_put_into_something_that_is_remembered() -> None:
    def table(size: int) -> Tensor:
        return store().setdefault(size, torch.eye(size) @ torch.ones(size, size))

    model, x = Remembers(table), torch.ones(2, 4)
    assert store() == {}
    assert [analyze(model, (x,)).macs for _ in range(2)] == [64 + 32] * 2
    assert torch.equal(model(x), torch.full((2, 4), 4.0))


def test_what_is_no_tensor_is_remembered() -> None:
    before = registry()
    analyze(Remembers(bounded), (torch.ones(2, 4),))
    assert registry() is before
