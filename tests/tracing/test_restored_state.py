"""State of any kind that a forward writes to is after an analysis what it was before, also if the forward fails.

Each kind of state counts the calls of a layer, which is linear in the first two and a sine in the third: two products
of matrices and one sine, in the first analysis and in any other.
"""

from __future__ import annotations

import array
import collections
import contextvars
import copy
import csv
import ctypes
import dataclasses
import enum
import functools
import io
import itertools
import logging
import operator
import os
import random
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import Tensor, nn

from graphflops import CaptureError, analyze

WIDTH = 8
X = torch.zeros(4, WIDTH)
EXPECTED = {"linear": 2 * (2 * 4 * WIDTH * WIDTH), "sin": 4 * WIDTH}


class Kind(NamedTuple):
    """Somewhere that state can be."""

    number: Callable[[], int]
    """count one more call, and return the count"""
    observe: Callable[[], Any]
    """the state, compared before and after"""


MAKERS: dict[str, Callable[[], Kind]] = {}
REFUSED: dict[str, Callable[[], Kind]] = {}
CALLS = 0


def kind(maker: Callable[[], Kind]) -> Callable[[], Kind]:
    MAKERS[maker.__name__] = maker
    return maker


def refused(maker: Callable[[], Kind]) -> Callable[[], Kind]:
    REFUSED[maker.__name__] = maker
    return maker


class Inner:
    def __init__(self) -> None:
        self.calls = 0


def counting(holder: Any) -> Kind:
    """Count in an attribute."""

    def number() -> int:
        holder.calls += 1
        return int(holder.calls)

    return Kind(number, lambda: holder.calls)


def growing(append: Callable[[int], Any], members: Any) -> Kind:
    """Count in the length of a container."""

    def number() -> int:
        append(len(members))
        return len(members)

    return Kind(number, lambda: repr(members))


def drawing(draw: Callable[[], float], other: Callable[[], float], observe: Callable[[], Any]) -> Kind:
    """Count by the numbers that a generator draws; ``other`` draws the same."""
    numbers = [other() for _ in range(6)]
    return Kind(lambda: numbers.index(draw()) + 1, observe)


@kind
def a_slot() -> Kind:
    class Slotted:
        __slots__ = ("calls",)

    slotted = Slotted()
    slotted.calls = 0
    return counting(slotted)


@kind
def a_slot_that_was_empty() -> Kind:
    class Slotted:
        __slots__ = ("calls",)

    slotted = Slotted()

    def number() -> int:
        slotted.calls = getattr(slotted, "calls", 0) + 1
        return int(slotted.calls)

    return Kind(number, lambda: hasattr(slotted, "calls"))


@kind
def a_slotted_and_frozen_dataclass() -> Kind:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Frozen:
        calls: int = 0

    frozen = Frozen()

    def number() -> int:
        object.__setattr__(frozen, "calls", frozen.calls + 1)
        return frozen.calls

    return Kind(number, lambda: frozen.calls)


@kind
def a_frozen_dataclass() -> Kind:
    @dataclasses.dataclass(frozen=True)
    class Frozen:
        calls: int = 0

    frozen = Frozen()

    def number() -> int:
        object.__setattr__(frozen, "calls", frozen.calls + 1)
        return frozen.calls

    return Kind(number, lambda: frozen.calls)


@kind
def arguments_of_a_partial() -> Kind:
    bound: Any = functools.partial(lambda calls, step: calls.append(step) or len(calls), [])
    return Kind(lambda: bound(1), lambda: repr(bound.args))


@kind
def keywords_of_a_partial() -> Kind:
    bound: Any = functools.partial(lambda step, calls: calls.append(step) or len(calls), calls=[])
    return Kind(lambda: bound(1), lambda: repr(bound.keywords))


@kind
def a_partial_whose_keywords_are_written() -> Kind:
    bound = functools.partial(int, base=0)

    def number() -> int:
        bound.keywords["base"] += 1
        return int(bound.keywords["base"])

    return Kind(number, lambda: bound.keywords["base"])


@kind
def a_positional_default() -> Kind:
    def number(calls: list[int] = []) -> int:  # noqa: B006
        calls.append(1)
        return len(calls)

    return Kind(number, lambda: repr(number.__defaults__))


@kind
def a_keyword_default() -> Kind:
    def number(*, calls: dict[str, int] = {}) -> int:  # noqa: B006
        calls["calls"] = calls.get("calls", 0) + 1
        return calls["calls"]

    return Kind(number, lambda: repr(number.__kwdefaults__))


@kind
def defaults_that_are_set() -> Kind:
    def counted(calls: int = 0) -> int:
        return calls

    def number() -> int:
        counted.__defaults__ = (counted() + 1,)
        return counted()

    return Kind(number, counted)


@kind
def an_attribute_of_a_function() -> Kind:
    def number() -> int:
        number.calls = getattr(number, "calls", 0) + 1  # type: ignore[attr-defined]
        return int(number.calls)  # type: ignore[attr-defined]

    return Kind(number, lambda: dict(vars(number)))


@kind
def an_attribute_of_a_function_that_it_had() -> Kind:
    def number() -> int:
        number.calls += 1  # type: ignore[attr-defined]
        return int(number.calls)  # type: ignore[attr-defined]

    number.calls = 0  # type: ignore[attr-defined]
    return Kind(number, lambda: dict(vars(number)))


@kind
def a_counter() -> Kind:
    counter = itertools.count(1)
    return Kind(lambda: next(counter), lambda: repr(counter))


@kind
def a_counter_with_a_step() -> Kind:
    counter = itertools.count(2, 2)
    return Kind(lambda: next(counter) // 2, lambda: repr(counter))


@kind
def the_method_of_a_counter() -> Kind:
    counter = itertools.count(1)
    advance = counter.__next__
    return Kind(advance, lambda: repr(counter))


@kind
def a_counter_in_a_partial() -> Kind:
    counter = itertools.count(1)
    advance = functools.partial(next, counter)
    return Kind(advance, lambda: repr(counter))


@kind
def a_counter_in_a_tuple_in_a_list() -> Kind:
    counter = itertools.count(1)
    pairs = [("name", counter)]
    return Kind(lambda: next(pairs[0][1]), lambda: repr(counter))


@kind
def an_iterator_of_a_list() -> Kind:
    numbers = iter([1, 2, 3])
    return Kind(lambda: next(numbers), lambda: operator.length_hint(numbers))


@kind
def an_iterator_of_a_range() -> Kind:
    numbers = iter(range(1, 4))
    return Kind(lambda: next(numbers), lambda: operator.length_hint(numbers))


@kind
def an_iterator_of_a_dict() -> Kind:
    numbers = iter({1: "", 2: "", 3: ""})
    return Kind(lambda: next(numbers), lambda: operator.length_hint(numbers))


@kind
def a_cycle() -> Kind:
    numbers = itertools.cycle([1, 2, 3, 4])
    return Kind(lambda: next(numbers), lambda: [*itertools.islice(copy.copy(numbers), 4)])


@kind
def an_enumeration() -> Kind:
    numbers = enumerate(iter(["", "", "", ""]), start=1)
    return Kind(lambda: next(numbers)[0], lambda: numbers.__reduce__()[1][1])


@kind
def a_bound_append() -> Kind:
    calls: list[int] = []
    return growing(calls.append, calls)


@kind
def an_object_in_a_proxy() -> Kind:
    proxy = types.MappingProxyType({"inner": Inner()})
    return counting_at(lambda: proxy["inner"])


def counting_at(find: Callable[[], Any]) -> Kind:
    def number() -> int:
        find().calls += 1
        return int(find().calls)

    return Kind(number, lambda: find().calls)


@kind
def a_dict_behind_a_view() -> Kind:
    calls = {"calls": [0]}
    values = calls.values()
    del calls

    def number() -> int:
        (counts,) = values
        counts.append(1)
        return len(counts) - 1

    return Kind(number, lambda: repr([*values]))


@kind
def elements_of_an_array() -> Kind:
    counts = numpy.zeros(1, dtype="int64")

    def number() -> int:
        counts[0] += 1
        return int(counts[0])

    return Kind(number, counts.tolist)


@kind
def objects_in_an_array() -> Kind:
    counts = numpy.array([Inner()], dtype=object)
    return counting_at(lambda: counts[0])


@kind
def a_deque() -> Kind:
    calls: collections.deque[int] = collections.deque()
    return growing(calls.append, calls)


@kind
def a_set() -> Kind:
    calls: set[int] = set()
    return growing(calls.add, calls)


@kind
def a_bytearray() -> Kind:
    calls = bytearray()
    return growing(calls.append, calls)


@kind
def an_array() -> Kind:
    calls = array.array("i")
    return growing(calls.append, calls)


@kind
def a_view_of_memory() -> Kind:
    view = memoryview(bytearray(2))

    def number() -> int:
        view[1] += 1
        return view[1]

    return Kind(number, view.tobytes)


@kind
def a_view_of_some_memory() -> Kind:
    view = memoryview(bytearray(4))[1:3]

    def number() -> int:
        view[1] += 1
        return view[1]

    return Kind(number, view.tobytes)


@kind
def a_number_of_c() -> Kind:
    calls = ctypes.c_int(0)

    def number() -> int:
        calls.value += 1
        return calls.value

    return Kind(number, lambda: calls.value)


@kind
def a_file_in_memory() -> Kind:
    file = io.StringIO()

    def number() -> int:
        file.write(".")
        return file.tell()

    return Kind(number, lambda: (file.getvalue(), file.tell()))


@kind
def the_order_of_a_dict() -> Kind:
    order = dict.fromkeys((1, 2, 3, 4))

    def number() -> int:
        first = next(iter(order))
        order[first] = order.pop(first)
        return first

    return Kind(number, lambda: [*order])


@kind
def the_order_of_an_ordered_dict() -> Kind:
    order = collections.OrderedDict.fromkeys((1, 2, 3, 4))

    def number() -> int:
        first = next(iter(order))
        order.move_to_end(first)
        return first

    return Kind(number, lambda: [*order])


@kind
def an_ordered_dict() -> Kind:
    order: collections.OrderedDict[int, Any] = collections.OrderedDict()
    return growing(lambda key: order.setdefault(key, []), order)


@kind
def a_counter_of_collections() -> Kind:
    calls: collections.Counter[str] = collections.Counter()

    def number() -> int:
        calls["calls"] += 1
        return calls["calls"]

    return Kind(number, lambda: dict(calls))


@kind
def a_chain_of_maps() -> Kind:
    calls: Any = collections.ChainMap({}, {"calls": 0})

    def number() -> int:
        calls["calls"] += 1
        return int(calls["calls"])

    return Kind(number, lambda: repr(calls))


@kind
def attributes_of_a_dict() -> Kind:
    class Config(dict[str, Any]):
        calls = 0

    return counting(Config())


@kind
def behind_a_weak_reference() -> Kind:
    inner = Inner()
    reference = weakref.ref(inner)
    return Kind(counting_at(lambda: reference() and inner).number, lambda: inner.calls)


@kind
def a_weak_dict() -> Kind:
    table: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
    key = Inner()

    def number() -> int:
        table[key] = table.get(key, 0) + 1
        return table[key]

    return Kind(number, lambda: [*table.values()])


@kind
def a_weak_set() -> Kind:
    table: weakref.WeakSet[Any] = weakref.WeakSet()
    keys = [Inner() for _ in range(4)]

    def number() -> int:
        table.add(keys[len(table)])
        return len(table)

    return Kind(number, lambda: len(table))


@kind
def a_context_variable() -> Kind:
    variable = contextvars.ContextVar("calls", default=0)

    def number() -> int:
        variable.set(variable.get() + 1)
        return variable.get()

    return Kind(number, variable.get)


@kind
def a_list_in_a_context_variable() -> Kind:
    variable: contextvars.ContextVar[list[int]] = contextvars.ContextVar("calls")
    variable.set([])

    def number() -> int:
        variable.get().append(1)
        return len(variable.get())

    return Kind(number, lambda: len(variable.get([])))


@kind
def an_object_of_threads() -> Kind:
    local = threading.local()

    def number() -> int:
        local.calls = getattr(local, "calls", 0) + 1
        return int(local.calls)

    return Kind(number, lambda: dict(vars(local)))


@kind
def the_environment() -> Kind:
    def number() -> int:
        os.environ["CALLS"] = str(int(os.environ.get("CALLS", "0")) + 1)
        return int(os.environ["CALLS"])

    return Kind(number, lambda: dict(os.environ))


@kind
def the_level_of_a_logger() -> Kind:
    logger = logging.getLogger("of_this_test")
    logger.setLevel(10)

    def number() -> int:
        logger.setLevel(logger.level + 1)
        return logger.level - 10

    return Kind(number, lambda: logger.level)


@kind
def filters_of_warnings() -> Kind:
    def number() -> int:
        own = [str(message.pattern) for _, message, *_ in warnings.filters if message is not None]
        calls = 1 + sum(pattern.startswith("of this test") for pattern in own)
        warnings.filterwarnings("ignore", message=f"of this test {calls}")
        return calls

    return Kind(number, lambda: [*warnings.filters])


@kind
def the_path() -> Kind:
    def number() -> int:
        sys.path.append("nowhere")
        return sys.path.count("nowhere")

    return Kind(number, lambda: [*sys.path])


@kind
def a_flag_of_torch() -> Kind:
    calls: list[bool] = []

    def number() -> int:
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.use_deterministic_algorithms(True)
        calls.append(True)
        return len(calls)

    return Kind(number, lambda: (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()))


@kind
def a_global() -> Kind:
    def number() -> int:
        global CALLS
        CALLS += 1
        return CALLS

    return Kind(number, lambda: CALLS)


@kind
def a_global_by_the_dict_of_globals() -> Kind:
    def number() -> int:
        globals()["by_name"] = globals().get("by_name", 0) + 1
        return int(globals()["by_name"])

    return Kind(number, lambda: "by_name" in globals())


@kind
def a_global_of_a_file_that_the_forward_imports() -> Kind:
    import restored_helper

    def number() -> int:

        restored_helper.calls += 1
        return restored_helper.calls

    return Kind(number, lambda: vars(sys.modules["restored_helper"])["calls"])


@kind
def a_variable_of_a_closure() -> Kind:
    calls = 0

    def number() -> int:
        nonlocal calls
        calls += 1
        return calls

    return Kind(number, lambda: calls)


@kind
def an_attribute_of_a_class() -> Kind:
    class Counts:
        calls = 0

        def number(self) -> int:
            type(self).calls += 1
            return type(self).calls

    return Kind(Counts().number, lambda: Counts.calls)


@kind
def a_new_attribute_of_a_class() -> Kind:
    class Counts:
        def number(self) -> int:
            type(self).calls = getattr(type(self), "calls", 0) + 1  # type: ignore[attr-defined]
            return int(type(self).calls)  # type: ignore[attr-defined]

    return Kind(Counts().number, lambda: hasattr(Counts, "calls"))


@kind
def a_class_method_and_its_property() -> Kind:
    class Counts:
        calls = [0]  # noqa: RUF012

        @property
        def counted(self) -> int:
            self.calls[0] += 1
            return self.calls[0]

    counts = Counts()
    return Kind(lambda: counts.counted, lambda: Counts.calls[0])


@kind
def a_closure_of_a_property() -> Kind:
    calls = []

    class Counts:
        counted = property(lambda self: calls.append(1) or len(calls))

    counts = Counts()
    return Kind(lambda: int(counts.counted), lambda: len(calls))


@kind
def a_member_of_an_enum() -> Kind:
    class Color(enum.Enum):
        RED = 1

    Color.RED.calls = 0  # type: ignore[attr-defined]
    return counting(Color.RED)


@kind
def a_namespace() -> Kind:
    return counting(types.SimpleNamespace(calls=0))


@kind
def a_cached_function() -> Kind:
    @functools.lru_cache
    def cached(number: int) -> int:
        return number

    def number() -> int:
        cached(cached.cache_info().currsize)
        return cached.cache_info().currsize

    return Kind(number, lambda: cached.cache_info())


@kind
def an_event() -> Kind:
    first, second = threading.Event(), threading.Event()

    def number() -> int:
        if not first.is_set():
            first.set()
            return 1
        if not second.is_set():
            second.set()
            return 2
        return 3

    return Kind(number, lambda: (first.is_set(), second.is_set()))


@kind
def numbers_of_python() -> Kind:
    generator = random.Random(3)
    return drawing(generator.random, random.Random(3).random, generator.getstate)


@kind
def numbers_of_numpy() -> Kind:
    generator = numpy.random.default_rng(3)
    observe = lambda: repr(generator.bit_generator.state)  # noqa: E731
    return drawing(generator.random, numpy.random.default_rng(3).random, observe)


@kind
def older_numbers_of_numpy() -> Kind:
    generator = numpy.random.RandomState(3)
    return drawing(generator.rand, numpy.random.RandomState(3).rand, lambda: repr(generator.get_state()))


@kind
def an_attribute_of_a_tensor() -> Kind:
    tensor = torch.zeros(1)
    tensor.calls = 0  # type: ignore[attr-defined]
    return counting(tensor)


@kind
def a_new_attribute_of_a_tensor() -> Kind:
    tensor = torch.zeros(1)

    def number() -> int:
        tensor.calls = getattr(tensor, "calls", 0) + 1  # type: ignore[attr-defined]
        return int(tensor.calls)  # type: ignore[attr-defined]

    return Kind(number, lambda: dict(vars(tensor)))


def numbers() -> Iterator[int]:
    yield from range(1, 10)


@refused
def a_generator() -> Kind:
    generator: Any = numbers()
    return Kind(lambda: next(generator), lambda: generator.gi_frame.f_lasti)


@refused
def the_method_of_a_generator() -> Kind:
    generator: Any = numbers()
    return Kind(functools.partial(generator.send, None), lambda: generator.gi_frame.f_lasti)


@refused
def a_loop_over_a_generator() -> Kind:
    generator: Any = numbers()

    def number() -> int:
        for first in generator:
            return int(first)
        return 0

    return Kind(number, lambda: generator.gi_frame.f_lasti)


@refused
def what_reads_a_generator() -> Kind:
    generator: Any = numbers()
    pairs = zip(generator, "abc", strict=False)
    return Kind(lambda: int(next(pairs)[0]), lambda: generator.gi_frame.f_lasti)


@refused
def a_reader() -> Kind:
    file = io.StringIO("a\nb\nc\n")
    reader = csv.reader(file)
    return Kind(lambda: len(next(reader)), file.tell)


@refused
def one_of_two_iterators() -> Kind:
    source: Any = numbers()
    first, _ = itertools.tee(source)
    return Kind(lambda: next(first), lambda: source.gi_frame.f_lasti)


@refused
def batches_of_a_loader() -> Kind:
    batches: Any = iter(torch.utils.data.DataLoader(range(10)))  # type: ignore[arg-type]
    return Kind(lambda: len(next(batches)), lambda: batches._num_yielded)


KINDS = {name: maker() for name, maker in {**MAKERS, **REFUSED}.items()}


class Model(nn.Module):
    """Counts in a global, or in an attribute of its own."""

    def __init__(self, name: str, number: Callable[[], int] | None, fails: bool = False) -> None:
        super().__init__()
        self.layer, self.name, self.number, self.fails = nn.Linear(WIDTH, WIDTH), name, number, fails

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            number = self.number or KINDS[self.name].number
            x = self.layer(x) if number() <= 2 else x.sin()
        if self.fails:
            raise ValueError("after all")
        return x


HELD = pytest.mark.parametrize("held", ["by a file", "by the model"])


def model_of(name: str, held: str, fails: bool = False) -> tuple[nn.Module, Kind]:
    of_file = held == "by a file"
    kind = KINDS[name] if of_file else {**MAKERS, **REFUSED}[name]()
    return Model(name, None if of_file else kind.number, fails), kind


@HELD
@pytest.mark.parametrize("name", MAKERS)
def test_state_is_restored(name: str, held: str) -> None:
    model, kind = model_of(name, held)
    before = kind.observe()
    reports = [analyze(model, (X,), training=False) for _ in range(2)]
    assert kind.observe() == before
    assert [report.by_operator() for report in reports] == [EXPECTED] * 2
    assert reports[0] == reports[1]


@HELD
@pytest.mark.parametrize("name", MAKERS)
def test_state_is_restored_after_a_failure(name: str, held: str) -> None:
    model, kind = model_of(name, held, fails=True)
    before = kind.observe()
    with pytest.raises(CaptureError, match="after all"):
        analyze(model, (X,))
    assert kind.observe() == before


@pytest.mark.sampled(5)
@HELD
@pytest.mark.parametrize("name", REFUSED)
def test_an_iterator_that_cannot_be_copied_is_not_advanced(name: str, held: str) -> None:
    model, kind = model_of(name, held)
    before = kind.observe()
    for _ in range(2):
        with pytest.raises(CaptureError, match="the model's code advances"):
            analyze(model, (X,))
        assert kind.observe() == before
    assert kind.number() == 1
