"""A block does not repeat another one if it would run otherwise because somebody wrote to state that it reads.

Each block takes a sine from its third call on, by a count that is kept where only Python knows of it. So a model of
five blocks has two products of matrices a block twice, and three sines, whether its blocks are folded or not.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import gc
import itertools
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import folding_helper
import pytest
import torch
from folding_helper import Tally, count
from torch import Tensor, nn

from graphflops import analyze
from graphflops.graph.build import build
from graphflops.graph.passes import PASSES, run_passes
from graphflops.rules.loading import rulebook
from graphflops.tracing.attempts import trace

WIDTH, BLOCKS, PLAIN = 8, 5, 2


class Block(nn.Module):
    """A linear layer, or a sine if the count that ``number`` returns is above two."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, WIDTH)

    def number(self) -> int:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x) if self.number() <= PLAIN else x.sin()


class Inner:
    """An object in another one."""

    def __init__(self) -> None:
        self.calls = 0


class Outer:
    """An object with another one, a list in a dict, and a slot."""

    __slots__ = ("__dict__", "calls_in_slot")

    def __init__(self) -> None:
        self.inner = Inner()
        self.counts: dict[str, list[list[int]]] = {"calls": [[]]}
        self.calls_in_slot = 0


def closure() -> Callable[[], int]:
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        return calls

    return call


def decorated(method: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    def wrapper(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return method(self, *args) if calls <= PLAIN else args[0].sin()

    return wrapper


QUEUE: collections.deque[int] = collections.deque()
OUTER = Outer()
IN_A_CELL = closure()
BOUND = functools.partial(lambda calls, step: calls.append(step) or len(calls), [])
VARIABLE = contextvars.ContextVar("calls", default=0)
COUNTER = itertools.count(1)
NEXT = itertools.count(1).__next__
LOCAL = threading.local()
PAIR = (Inner(), "name")
NAMES = types.SimpleNamespace(calls=0)
METHOD = Outer().counts["calls"][0].append
PROXY = types.MappingProxyType({"inner": Inner()})
KEPT_ALIVE = Inner()
WEAK = weakref.ref(KEPT_ALIVE)
SEEN: set[int] = set()
ARRAY: Any = __import__("numpy").zeros(1, dtype="int64")


class InADeque(Block):
    def number(self) -> int:
        QUEUE.append(1)
        return len(QUEUE)


class InAnObjectOfAnObject(Block):
    def number(self) -> int:
        OUTER.inner.calls += 1
        return OUTER.inner.calls


class InASlot(Block):
    def number(self) -> int:
        OUTER.calls_in_slot += 1
        return OUTER.calls_in_slot


class InAListOfADictOfAnObject(Block):
    def number(self) -> int:
        OUTER.counts["calls"][0].append(1)
        return len(OUTER.counts["calls"][0])


class InACell(Block):
    def number(self) -> int:
        return IN_A_CELL()


class InACellOfADecorator(Block):
    forward = decorated(lambda self, x: self.up(x))


class InACellOfADecoratedCall(Block):
    __call__ = decorated(lambda self, x: self.up(x))  # type: ignore[assignment]


class InAHelpersGlobal(Block):
    def number(self) -> int:
        return count()


class InAModulesGlobal(Block):
    def number(self) -> int:
        folding_helper.calls += 1
        return folding_helper.calls


class InAnImportedGlobal(Block):
    def number(self) -> int:
        import folding_helper as helper

        helper.calls += 1
        return helper.calls


class InAHelperClass(Block):
    def number(self) -> int:
        return Tally().count()


class InAPartial(Block):
    def number(self) -> int:
        return BOUND(1)


class InADefault(Block):
    def number(self, calls: list[int] = []) -> int:  # noqa: B006
        calls.append(1)
        return len(calls)


class InAKeywordDefault(Block):
    def number(self, *, calls: dict[str, int] = {}) -> int:  # noqa: B006
        calls["calls"] = calls.get("calls", 0) + 1
        return calls["calls"]


class InAFunction(Block):
    def number(self) -> int:
        closure.calls = getattr(closure, "calls", 0) + 1  # type: ignore[attr-defined]
        return closure.calls  # type: ignore[attr-defined]


class InAClassThatHadNone(Block):
    def number(self) -> int:
        Inner.count = getattr(Inner, "count", 0) + 1  # type: ignore[attr-defined]
        return Inner.count  # type: ignore[attr-defined]


class InAContextVariable(Block):
    def number(self) -> int:
        VARIABLE.set(VARIABLE.get() + 1)
        return VARIABLE.get()


class InACounter(Block):
    def number(self) -> int:
        return next(COUNTER)


class InTheMethodOfACounter(Block):
    def number(self) -> int:
        return NEXT()


class InAThreadsLocal(Block):
    def number(self) -> int:
        LOCAL.calls = getattr(LOCAL, "calls", 0) + 1
        return LOCAL.calls


class InATuple(Block):
    def number(self) -> int:
        PAIR[0].calls += 1
        return PAIR[0].calls


class InANamespace(Block):
    def number(self) -> int:
        NAMES.calls += 1
        return NAMES.calls


class ByABoundMethod(Block):
    def number(self) -> int:
        METHOD(1)
        return len(METHOD.__self__)  # type: ignore[attr-defined]


class InAProxy(Block):
    def number(self) -> int:
        PROXY["inner"].calls += 1
        return PROXY["inner"].calls


class BehindAWeakReference(Block):
    def number(self) -> int:
        inner = WEAK()
        assert inner is not None
        inner.calls += 1
        return inner.calls


class InASet(Block):
    def number(self) -> int:
        SEEN.add(len(SEEN))
        return len(SEEN)


class InAnArray(Block):
    def number(self) -> int:
        ARRAY[0] += 1
        return int(ARRAY[0])


class ByTheDictOfGlobals(Block):
    def number(self) -> int:
        globals()["by_name"] = globals().get("by_name", 0) + 1
        return globals()["by_name"]


class CountsThemselves(Block):
    calls = 0

    @classmethod
    def number(cls) -> int:
        cls.calls += 1
        return cls.calls


class ByAStaticMethod(Block):
    calls = [0]  # noqa: RUF012

    @staticmethod
    def number() -> int:
        ByAStaticMethod.calls[0] += 1
        return ByAStaticMethod.calls[0]


class ByAProperty(Block):
    calls = [0]  # noqa: RUF012

    @property
    def counted(self) -> int:
        type(self).calls[0] += 1
        return type(self).calls[0]

    def number(self) -> int:
        return self.counted


class InAListOfAll(Block):
    held: Any

    def number(self) -> int:
        self.held["deep"][0].counts["calls"].append([])
        return len(self.held["deep"][0].counts["calls"]) - 1


class Model(nn.Module):
    def __init__(self, block: type[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block() for _ in range(BLOCKS))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("block_class", Block.__subclasses__(), ids=lambda block_class: block_class.__name__)
def test_blocks_that_count_are_not_repeated(block_class: type[Block]) -> None:
    model = Model(block_class)
    shared = {"deep": [Outer()]}
    for block in model.blocks:
        block.held = shared  # type: ignore[assignment]
    report = analyze(model, (torch.zeros(4, WIDTH),), training=False)
    assert report.by_operator() == {"linear": PLAIN * 2 * 4 * WIDTH * WIDTH, "sin": (BLOCKS - PLAIN) * 4 * WIDTH}


class AsLongAsItsList(nn.Module):
    def __init__(self, members: list[int]) -> None:
        super().__init__()
        self.linear, self.members = nn.Linear(WIDTH, WIDTH), members

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if len(self.members) < 2 else x.sin()


class WritesThroughAnAlias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lists = [[1], [1], [1]]
        self.blocks = nn.ModuleList(map(AsLongAsItsList, self.lists))

    def forward(self, x: Tensor) -> Tensor:
        self.lists[1].append(2)
        for block in self.blocks:
            x = block(x)
        return x


def test_a_block_is_not_repeated_if_its_list_was_written_to_through_an_alias() -> None:
    report = analyze(WritesThroughAnAlias(), (torch.zeros(4, WIDTH),), training=False)
    assert report.by_operator() == {"linear": 2 * 2 * 4 * WIDTH * WIDTH, "sin": 4 * WIDTH}


class ReadsAnAttributeOfItsParameter(nn.Module):
    def __init__(self, mode: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WIDTH, WIDTH))
        self.weight.mode = mode  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.weight
        return x.sin() if self.weight.mode else x  # type: ignore[attr-defined]


def test_blocks_are_not_equal_if_attributes_of_their_parameters_differ() -> None:
    model = nn.Sequential(*map(ReadsAnAttributeOfItsParameter, (0, 0, 1)))
    report = analyze(model, (torch.zeros(4, WIDTH),), training=False)
    assert report.by_operator() == {"mm": 3 * 2 * 4 * WIDTH * WIDTH, "sin": 4 * WIDTH}


garbage_collections = 0


class CollectsGarbage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        gc.collect()
        return self.layers(x)


def test_blocks_are_repeated_whatever_callbacks_of_the_garbage_collector_write_to() -> None:
    def count(phase: str, info: dict[str, int]) -> None:
        global garbage_collections
        garbage_collections += 1

    model = nn.Sequential(*(CollectsGarbage() for _ in range(6)))
    gc.callbacks.append(count)
    try:
        traced = trace(model, (torch.zeros(4, WIDTH),), {}, rulebook(), fold=True)
    finally:
        gc.callbacks.remove(count)
    assert garbage_collections
    assert run_passes(build(traced), PASSES).repeats()
