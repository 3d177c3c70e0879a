"""An analysis gives the same numbers under any modes, devices and dtypes of its caller, which stay as they are."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from state import differences, state_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from graphflops import Report, analyze

X = torch.ones(3, 4)


class Counts(TorchFunctionMode):
    calls = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        type(self).calls += 1
        return function(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        type(self).calls += 1
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def default_dtype() -> Any:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS: list[Callable[[], AbstractContextManager[Any]]] = [
    torch.no_grad,
    torch.inference_mode,
    lambda: torch.autocast("cpu", torch.bfloat16),
    lambda: torch.device("meta"),
    FakeTensorMode,
    Counts,
    Dispatches,
    lambda: FlopCounterMode(display=False),
    default_dtype,
    torch.autograd.detect_anomaly,
    lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x),
]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 2))


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("context", CONTEXTS)
def test_in_a_context_of_the_callers(context: Callable[[], AbstractContextManager[Any]]) -> None:
    module = model()
    expected = analyze(module, (X,))
    Counts.calls = Dispatches.calls = 0
    before = state_of(module)
    with context():
        report = analyze(module, (X,))
    assert report == expected
    assert differences(before, state_of(module)) == []
    assert Dispatches.calls == 0


def test_inside_of_a_forward_that_runs() -> None:
    inner = model()
    expected = analyze(inner, (X,))
    reports: list[Report] = []

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            reports.append(analyze(inner, (torch.ones(3, 4),)))
            return self.inner(x)

    outer = Outer()
    outer(X)
    assert reports == [expected]


def test_inside_of_a_forward_that_is_analysed() -> None:
    inner = model()
    expected = analyze(inner, (X,))
    totals: list[int] = []

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            totals.append(analyze(inner, (X,)).total)
            return self.inner(x)

    outer = Outer()
    before = state_of(outer)
    assert analyze(outer, (X,)).total == expected.total
    assert differences(before, state_of(outer)) == []
