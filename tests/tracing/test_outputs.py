"""Outputs: the tensors in whatever a model returns, and a word if none of them can be trained on."""

import functools
import re
from collections import ChainMap, OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import CaptureError, analyze
from graphflops.analysis.mac_counter import count_macs
from graphflops.tracing.recording.outputs import tensors_in


class Slotted:
    __slots__ = ("empty", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


class SlottedFurther(Slotted):
    __slots__ = ("more",)


@dataclass(frozen=True, slots=True)
class Data:
    value: Any


class Named(dict):
    """A dict whose tensors are attributes."""

    value: Tensor


def named(value: Tensor) -> Named:
    result = Named(kind="named")
    result.value = value
    return result


def cyclic(value: Tensor) -> SimpleNamespace:
    result = SimpleNamespace(value=value, itself=None)
    result.itself = [result]
    return result


class Method:
    def __init__(self, value: Tensor) -> None:
        self.value = value

    def get(self) -> Tensor:
        return self.value


HOLDERS: dict[str, Callable[[Tensor], Any]] = {
    "a distribution": lambda y: torch.distributions.Normal(y, y.exp(), validate_args=False),
    "a mixture": lambda y: torch.distributions.Independent(torch.distributions.Laplace(y, 1.0, validate_args=False), 1),
    "a namespace": lambda y: SimpleNamespace(loss=None, inner=SimpleNamespace(y=y)),
    "slots": Slotted,
    "slots of a base class": SlottedFurther,
    "a dataclass with slots": Data,
    "a set": lambda y: {y},
    "a frozenset in a tuple": lambda y: (1, frozenset([y])),
    "a deque": lambda y: deque([None, y]),
    "a dict view": lambda y: {"y": y}.values(),
    "a user dict": lambda y: UserDict(y=y),
    "a chain of maps": lambda y: ChainMap({}, {"y": y}),
    "a mapping proxy": lambda y: MappingProxyType({"y": y}),
    "an ordered dict": lambda y: OrderedDict(y=y),
    "a dict with attributes": named,
    "a lambda": lambda y: lambda: y,
    "a default argument": lambda y: lambda given=y: given,
    "a partial": lambda y: functools.partial(torch.add, y, other=1),
    "a method": lambda y: Method(y).get,
    "an iterator": lambda y: iter([y]),
    "a map": lambda y: map(torch.relu, [y]),
    "a cycle": cyclic,
    "packed": lambda y: nn.utils.rnn.pack_sequence([y]),
}


class Holding(nn.Module):
    def __init__(self, hold: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.one, self.two, self.hold = nn.Linear(4, 3), nn.Linear(3, 6), hold

    def forward(self, x: Tensor) -> Any:
        return self.hold(self.two(self.one(x)))


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_backward_is_that_of_what_is_held(hold: Callable[[Tensor], Any]) -> None:
    report = analyze(Holding(hold), (torch.zeros(5, 4),))
    bare = analyze(Holding(lambda y: y), (torch.zeros(5, 4),))
    assert report.work("backward").macs == bare.work("backward").macs > 0
    assert (report.optimizer, report.warnings) == (bare.optimizer, ())


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        for _ in range(3):
            x = self.step(x).tanh()
            yield x


def test_a_generator_is_run_to_its_end() -> None:
    report = analyze(Steps(), (torch.zeros(2, 4),))
    dispatched = count_macs(Steps(), (torch.zeros(2, 4),))
    assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
    assert report.work("forward").macs == 3 * 2 * 4 * 4
    assert report.by_module()["step"] > 0


class Endless(nn.Module):
    def forward(self, x: Tensor) -> Iterator[int]:
        while True:
            yield 1


def test_a_generator_without_an_end_is_refused() -> None:
    with pytest.raises(CaptureError, match="has not ended after"):
        analyze(Endless(), (torch.zeros(2),))


def test_each_tensor_is_found_once_and_modules_are_not_searched() -> None:
    y, layer = torch.zeros(2), nn.Linear(2, 2)
    assert tensors_in([y, {"again": y}, SimpleNamespace(y=y, layer=layer, kind=nn.Linear, module=torch)]) == [y]


class Silent(nn.Module):
    def __init__(self, result: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.result = nn.Linear(4, 3), result

    def forward(self, x: Tensor) -> Any:
        return self.result(self.layer(x))


@pytest.mark.parametrize(
    ("result", "named"),
    [
        (lambda y: SimpleNamespace(y=y.detach()), "a SimpleNamespace"),
        (lambda y: None, "forward returned None"),
        (lambda y: y.argmax(-1), "a FakeTensor|a Tensor"),
        (lambda y: [y.shape], "a list"),
    ],
)
def test_nothing_to_be_trained_on_is_said_and_refused_if_strict(result: Callable[[Tensor], Any], named: str) -> None:
    report = analyze(Silent(result), (torch.zeros(2, 4),))
    assert report.backward == 0
    (warning,) = report.warnings
    assert re.search(named, warning)
    assert "backward is 0" in warning
    with pytest.raises(CaptureError, match="backward is 0"):
        analyze(Silent(result), (torch.zeros(2, 4),), strict=True)


def test_no_warning_for_frozen_or_self_training_models() -> None:
    x = torch.zeros(2, 4)
    detached = Silent(lambda y: y.detach())
    assert analyze(detached, (x,), training=False).warnings == ()
    assert analyze(detached.requires_grad_(False), (x,)).warnings == ()
    assert analyze(Silent(lambda y: y.sum().backward()), (x,)).warnings == ()
