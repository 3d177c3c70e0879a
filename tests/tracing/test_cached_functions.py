"""Cached functions of a model: a report does not depend on their caches, which an analysis does not modify."""

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
    cached = functools.lru_cache(function)

    @functools.wraps(function)
    def call(size: int) -> Tensor:
        return cached(size)

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


class Caches(nn.Module):
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
def test_every_analysis_has_the_same_report_and_the_model_runs_afterwards(
    table: Callable[[int], Tensor],
) -> None:
    model, x = Caches(table), torch.ones(2, 4)
    model(x)  # which fills the cache
    assert [analyze(model, (x,)).macs for _ in range(2)] == [64 + 32] * 2
    assert torch.equal(model(x), torch.full((2, 4), 4.0))


def test_a_cached_method() -> None:
    model, x = Caches(bounded), torch.ones(2, 4)
    model.table = model.method
    assert analyze(model, (x,)).macs == 64 + 32
    assert torch.equal(model(x), torch.full((2, 4), 4.0))


def test_a_cached_container_that_is_written_to() -> None:
    def table(size: int) -> Tensor:
        return store().setdefault(size, torch.eye(size) @ torch.ones(size, size))

    model, x = Caches(table), torch.ones(2, 4)
    assert store() == {}
    assert [analyze(model, (x,)).macs for _ in range(2)] == [64 + 32] * 2
    assert torch.equal(model(x), torch.full((2, 4), 4.0))


def test_a_cache_without_tensors_is_not_modified() -> None:
    before = registry()
    analyze(Caches(bounded), (torch.ones(2, 4),))
    assert registry() is before
