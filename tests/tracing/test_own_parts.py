"""Blocks that share an object, such as a cache, repeat each other, and the report is the same as if each had run."""

from __future__ import annotations

import copy
import inspect
from abc import ABC
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_folding import WIDTH, Block, calls_of, folded_and_unfolded, written_down
from torch import Tensor, nn

from graphflops import analyze
from graphflops.report.json_format import dumps


class Layer(ABC):  # noqa: B024  # as the layers of transformers' caches are
    """The cached state of one block."""

    kind = "of a class"

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.is_there = False
        self.state: dict[int, Tensor | None] = {0: None, 1: None}
        self.length = 0
        self.window = torch.tensor(4)

    def update(self, keys: Tensor) -> Tensor:
        if not self.is_there:
            self.keys = torch.tensor([], dtype=keys.dtype)
            self.is_there = True
        self.keys = torch.cat([self.keys, keys], -2)
        self.length += keys.shape[-2]
        return self.keys


class Cache:
    """One layer for each block, and whatever else."""

    def __init__(self, depth: int) -> None:
        self.layers = [Layer() for _ in range(depth)]
        self.lazy: list[Layer] = []
        self.by_index: dict[int, Any] = {}
        self.tensors: list[Any] = [None] * depth
        self.numbers = list(range(depth))
        self.same_numbers = [3] * depth
        self.calls = 0
        self.last: Any = None

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def total(self) -> int:
        return sum(layer.length for layer in self.layers)

    def update(self, keys: Tensor, index: int) -> Tensor:
        if index >= len(self.layers):
            raise IndexError(index)
        return self.layers[index].update(keys)


Way = Callable[[nn.Module, Tensor, Cache], Any]


class Caching(Block):
    """Calculates, and uses its cache in a way of its own."""

    def __init__(self, way: Way, index: int) -> None:
        super().__init__(index)
        self.way = way

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        y = super().forward(x)
        z = self.way(self, y, cache)
        return y if z is None else y + z.mean(-2, keepdim=True) if isinstance(z, Tensor) else y * z


def updates(block, x, cache):
    return cache.update(x, block.index)


def keeps_a_view(block, x, cache):
    cache.layers[block.index].keys = torch.cat([x, x], -2)[..., 1:, :]


def keeps_in_a_dict_of_its_layer(block, x, cache):
    layer = cache.layers[block.index]
    if layer.state[1] is None:
        layer.state[1] = torch.zeros_like(x)
    layer.state[1].copy_(x.detach())
    return layer.state[1] + x


def moves_its_constant(block, x, cache):
    layer = cache.layers[block.index]
    layer.window = layer.window.to(x.device)
    return x * layer.window


def by_index(block, x, cache):
    if not cache.by_index.get(block.index):
        cache.by_index[block.index] = True
        return x.exp()
    return None


def in_a_list(block, x, cache):
    cache.tensors[block.index] = x * 2


def keeps_what_it_returns(block, x, cache):
    cache.layers[block.index].keys = x
    return x


def keeps_its_number(block, x, cache):
    cache.layers[block.index].length = block.index


def asks_the_length(block, x, cache):
    return cache.update(x, block.index) if len(cache) > 2 and len(cache.layers) else None


def asks_for_what_is_not_there(block, x, cache):
    return x if getattr(cache.layers[block.index], "missing", None) or hasattr(cache, "absent") else None


def reads_all_kinds(block, x, cache):
    return x.sin() if all(layer.kind == "of a class" for layer in cache.layers) else None


def reads_a_number_at_its_place(block, x, cache):
    return x if cache.same_numbers[block.index] > 2 else None


def says_that_it_is_a_number(block, x, cache):
    return updates(block, x, cache) if isinstance(block.index, int) and block.index is not None else None


def compares_its_number(block, x, cache):
    return updates(block, x, cache) if 0 <= block.index < 100 and block.index != -1 else None


FOLD = [
    updates,
    keeps_a_view,
    keeps_in_a_dict_of_its_layer,
    moves_its_constant,
    by_index,
    in_a_list,
    asks_the_length,
    asks_for_what_is_not_there,
    reads_all_kinds,
    reads_a_number_at_its_place,
    says_that_it_is_a_number,
    compares_its_number,
]
"""blocks that reach only their own part, or parts that are the same for all"""


def branches_on_its_number(block, x, cache):
    return updates(block, x, cache) if block.index % 2 else x.exp()


def branches_late(block, x, cache):
    return x.exp() if block.index > 3 else updates(block, x, cache)


def is_it_the_first(block, x, cache):
    return updates(block, x, cache) if block.index else x.exp()


def equals(block, x, cache):
    return x.exp() if block.index == 2 else updates(block, x, cache)


def reads_the_one_before(block, x, cache):
    updates(block, x, cache)
    return cache.layers[block.index - 1].keys if block.index else None


def reads_the_length_of_the_one_before(block, x, cache):
    cache.layers[block.index].length = block.index % 3
    return x.exp() if cache.layers[block.index - 1].length == 1 else None


def reads_the_first(block, x, cache):
    updates(block, x, cache)
    return cache.layers[0].keys


def reads_the_last(block, x, cache):
    updates(block, x, cache)
    return cache.layers[-1].keys


def reads_the_length_of_the_last(block, x, cache):
    updates(block, x, cache)
    return x.exp() if cache.layers[-1].length else None


def writes_the_first(block, x, cache):
    cache.layers[0].keys = x.exp()


def writes_from_the_end(block, x, cache):
    cache.layers[-1 - block.index].keys = x.exp()


def sums_all(block, x, cache):
    updates(block, x, cache)
    return sum(layer.keys.sum() for layer in cache.layers if layer.keys is not None)


def asks_for_the_total(block, x, cache):
    updates(block, x, cache)
    return x.exp() if cache.total > 20 else None


def counts(block, x, cache):
    cache.calls += 1
    return x.exp() if cache.calls > 2 else None


def counts_without_asking(block, x, cache):
    cache.calls += 1


def remembers_the_last(block, x, cache):
    before, cache.last = cache.last, x.exp()
    return before


def calculates_with_its_number(block, x, cache):
    return x[..., : 2 + block.index, :]


def multiplies_by_its_number(block, x, cache):
    return x * block.index


def hands_its_number_to_torch(block, x, cache):
    return torch.full((2, 1, 1), block.index, dtype=x.dtype) if block.index > 1 else torch.narrow(x, 1, block.index, 2)


def repeats_by_its_number(block, x, cache):
    for _ in range(block.index):
        x = x.exp()
    return x


def formats_its_number(block, x, cache):
    return x.exp() if f"{block.index}" == "2" or str(block.index) == "3" else None


def is_exactly_a_number(block, x, cache):
    return x.exp() if type(block.index + 0) is int and "%d" % block.index == "1" else None  # noqa: UP031


def appends(block, x, cache):
    layer = Layer()
    cache.lazy.append(layer)
    return cache.lazy[block.index].update(x)


def grows(block, x, cache):
    while len(cache.lazy) <= block.index:
        cache.lazy.append(Layer())
    return cache.lazy[block.index].update(x)


def asks_how_many(block, x, cache):
    cache.by_index[block.index] = True
    return x.exp() if len(cache.by_index) > 2 else None


def asks_which(block, x, cache):
    cache.by_index[block.index] = True
    return x.exp() if 1 in cache.by_index and 0 in [*cache.by_index.keys()] else None


def reads_another_number_at_its_place(block, x, cache):
    return x.exp() if cache.numbers[block.index] == 3 else None


def slices(block, x, cache):
    return x.exp() if len(cache.layers[block.index :]) == 2 else None


def copies(block, x, cache):
    other = copy.copy(cache.layers[block.index])
    return x.exp() if copy.deepcopy(cache.numbers)[block.index] == 2 else other.update(x)


def reads_its_attributes(block, x, cache):
    return x.exp() if vars(cache)["calls"] or vars(cache.layers[block.index])["length"] else updates(block, x, cache)


def hides_its_number(block, x, cache):
    cache.last = (block.index, x)
    return x.exp() if cache.last[0] == 2 else None


def keeps_its_number_elsewhere(block, x, cache):
    KEPT["index"] = block.index
    return x.exp() if KEPT["index"] == 2 else None


def keeps_a_list_elsewhere(block, x, cache):
    KEPT["layers"] = cache.layers
    return updates(block, x, cache)


def shares_a_layer(block, x, cache):
    cache.layers[block.index] = cache.layers[0]
    return updates(block, x, cache)


def exchanges_lists(block, x, cache):
    cache.tensors = [*cache.tensors[: block.index], x, *cache.tensors[block.index + 1 :]]
    return cache.tensors[0]


def writes_in_place(block, x, cache):
    updates(block, x, cache)
    cache.layers[0].keys.mul_(2)


def deletes(block, x, cache):
    del cache.layers[block.index].length
    return x if hasattr(cache.layers[0], "length") else x.exp()


def catches(block, x, cache):
    try:
        return cache.layers[block.index + 2].update(x)
    except IndexError:
        return x.exp()


def looks_at_its_class(block, x, cache):
    layer = cache.layers[block.index]
    return layer.update(x) if type(layer) is Layer and layer.__class__ is Layer else x.exp()


def makes_a_set(block, x, cache):
    return x.exp() if block.index in {1, 3} else None


def joins(block, x, cache):
    return (
        torch.cat([tensor for tensor in cache.tensors if tensor is not None] + [x], -2)
        if block.index
        else in_a_list(block, x, cache)
    )


KEPT: dict[str, Any] = {}
WAYS = [
    way
    for way in list(globals().values())
    if inspect.isfunction(way) and [*inspect.signature(way).parameters] == ["block", "x", "cache"]
]


class Stack(nn.Module):
    """Blocks with a cache, of which ``then`` says what is done with it."""

    def __init__(self, way: Way, depth: int, after: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.inlet, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.ModuleList(Caching(way, index) for index in range(depth))
        self.after = after or only_run

    def run(self, x: Tensor, cache: Cache) -> Tensor:
        for block in self.blocks:
            x = block(x, cache)
        return x

    def forward(self, x: Tensor, cache: Cache | None = None) -> Any:
        return self.after(self, self.inlet(x), cache or Cache(len(self.blocks)))


def only_run(stack: Stack, x: Tensor, cache: Cache) -> Any:
    return stack.head(stack.run(x, cache))


def returned(stack: Stack, x: Tensor, cache: Cache) -> Any:
    return stack.head(stack.run(x, cache)), cache, [layer.keys for layer in cache.layers], cache.by_index


def called_again(stack: Stack, x: Tensor, cache: Cache) -> Any:
    return stack.head(stack.run(stack.run(x, cache), cache)), cache


def trained_by_the_cache(stack: Stack, x: Tensor, cache: Cache) -> Any:
    stack.run(x, cache)
    return sum(layer.keys.square().sum() for layer in cache.layers if layer.keys is not None) + stack.head(x).sum()


def only_the_last_of_it(stack: Stack, x: Tensor, cache: Cache) -> Any:
    y = stack.run(x, cache)
    return cache.layers[-1].keys if cache.layers[-1].keys is not None else y


def backwards(stack: Stack, x: Tensor, cache: Cache) -> Any:
    for block in reversed(stack.blocks):
        x = block(x, cache)
    return stack.head(x), cache


def a_cache_for_each(stack: Stack, x: Tensor, cache: Cache) -> Any:
    for block in stack.blocks:
        x = block(x, Cache(len(stack.blocks)))
    return stack.head(x)


def written_to_afterwards(stack: Stack, x: Tensor, cache: Cache) -> Any:
    y = stack.run(x, cache)
    for layer in cache.layers:
        if layer.keys is not None:
            layer.keys.mul_(2)
    return stack.head(y), cache


def written_to_between(stack: Stack, x: Tensor, cache: Cache) -> Any:
    for i, block in enumerate(stack.blocks):
        x = block(x, cache)
        cache.layers[i].length += i
        cache.calls += 1
    return stack.head(x), cache


THEN = [
    only_run,
    returned,
    called_again,
    trained_by_the_cache,
    only_the_last_of_it,
    backwards,
    a_cache_for_each,
    written_to_afterwards,
    written_to_between,
]
INPUT = torch.zeros(2, 8, 4)


def outcome(model: nn.Module, *args: Any, fold: bool) -> str:
    """The report, or the error."""
    try:
        return dumps(analyze(model, args, fold=fold))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_there_are_ways() -> None:
    assert set(FOLD) < set(WAYS)
    assert len(WAYS) > 50


def pairs(ways: list[Way], uses: list[Callable[..., Any]]) -> pytest.MarkDecorator:
    """Ways to use a cache, each with two of the uses of it afterwards; ``make soak`` runs them with all."""
    some = {(way, uses[(2 * place + i) % len(uses)]) for place, way in enumerate(ways) for i in range(2)}
    return pytest.mark.parametrize(
        ("way", "after"),
        [
            pytest.param(
                *(way, after),
                marks=() if (way, after) in some else pytest.mark.soak,
                id=f"{way.__name__}-{after.__name__}",
            )
            for way in ways
            for after in uses
        ],
    )


@pytest.mark.sampled(6)
@pairs(WAYS, THEN)
def test_a_report_is_the_same_to_the_last_letter(way, after) -> None:
    model = Stack(way, 5, after)
    assert outcome(model, INPUT, fold=True) == outcome(model, INPUT, fold=False)


@pytest.mark.sampled(4)
@pairs(FOLD, [only_run, returned, trained_by_the_cache, only_the_last_of_it, backwards, written_to_between])
def test_no_more_calls_in_the_blocks_of_twenty_than_of_four(way, after) -> None:
    four, twenty = (calls_in_blocks(Stack(way, depth, after)) for depth in (4, 20))
    assert 0 < twenty <= four


def calls_in_blocks(model: nn.Module) -> int:
    with written_down() as paths:
        analyze(model, (INPUT,))
    return sum(path.startswith("blocks.") for path in paths)


@pytest.mark.parametrize("way", [updates, keeps_in_a_dict_of_its_layer, by_index, reads_the_one_before])
def test_a_cache_that_the_user_brings(way) -> None:
    model, cache = Stack(way, 4), Cache(4)
    cache.layers[1].update(torch.zeros(2, 3, WIDTH))
    folded, unfolded = folded_and_unfolded(model, INPUT, cache)
    assert dumps(folded) == dumps(unfolded)
    assert cache.layers[0].keys is None
    assert cache.layers[1].length == 3


def test_classes_are_what_they_were() -> None:
    before = [dict(vars(cls)) for cls in (Cache, Layer)]
    calls_of(Stack(updates, 5))
    calls_of(Stack(appends, 5))
    assert [dict(vars(cls)) for cls in (Cache, Layer)] == before
