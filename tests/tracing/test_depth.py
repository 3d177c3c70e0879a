"""Deep, long and circular models: as deep as PyTorch runs them, and no work that grows faster than the model."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import Report, analyze
from graphflops.core.components import components
from graphflops.core.errors import CaptureError
from graphflops.tracing.values.recursion import MAX_RECURSION_LIMIT, recursion_limit_for

WIDTH = 4
X = torch.zeros(2, WIDTH)
LAYER = 2 * 2 * WIDTH * WIDTH
"""FLOPs of a linear layer, forward"""


def layer() -> nn.Module:
    return nn.Linear(WIDTH, WIDTH)


class Around(nn.Module):
    """A layer, and a module after it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.layer, self.inner = layer(), inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.layer(x))


class CallsItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()

    def forward(self, x: Tensor, levels: int) -> Tensor:
        return self.layer(x) if levels == 0 else self(self.layer(x), levels - 1)


def nested(levels: int, around: Callable[[nn.Module], nn.Module] = nn.Sequential) -> nn.Module:
    model = layer()
    for _ in range(levels):
        model = around(model)
    return model


LEVELS = 900 if sys.version_info[:2] != (3, 12) else 150
"""Python 3.12 has a limit of calls through C that nobody can move, and a module is called through it"""


class TestNesting:
    """At Python's own recursion limit."""

    @pytest.fixture(autouse=True)
    def _limit(self) -> Any:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(1000)
        yield
        sys.setrecursionlimit(before)

    def test_sequences_in_sequences_are_one_layer(self) -> None:
        report = analyze(nested(LEVELS), (X,))
        assert report.forward == LAYER
        assert len(report.modules) == LEVELS + 1

    @pytest.mark.slow
    def test_modules_that_call_each_other_are_as_many_layers(self) -> None:
        report = analyze(nested(LEVELS, Around), (X,))
        assert report.forward == (LEVELS + 1) * LAYER
        assert report.by_module()["inner." * (LEVELS - 1) + "inner"] == LAYER
        assert str(report)

    def test_a_module_that_calls_itself_goes_as_deep_as_it_would_alone(self) -> None:
        CallsItself()(X, 180)
        assert analyze(CallsItself(), (X, 180)).forward == 181 * LAYER

    def test_the_limit_is_afterwards_what_it_was(self) -> None:
        analyze(nested(200), (X,))
        assert sys.getrecursionlimit() == 1000
        with pytest.raises(CaptureError):
            analyze(nested(200), (torch.zeros(2, WIDTH + 1),))
        assert sys.getrecursionlimit() == 1000

    def test_a_module_that_never_ends_is_an_error_and_no_crash(self) -> None:
        with pytest.raises(CaptureError, match="recursion"):
            analyze(CallsItself(), (X, -1))
        assert sys.getrecursionlimit() == 1000

    def test_a_shallow_model_leaves_the_limit_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        class Looks(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                print(sys.getrecursionlimit())
                return x.sin()

        analyze(nn.Sequential(Looks()), (X,))
        assert {*capsys.readouterr().out.split()} == {"1000"}

    def test_those_who_overlap_have_room_as_long_as_they_need_it(self) -> None:
        first, second = recursion_limit_for(300), recursion_limit_for(600)
        first.__enter__()
        low = sys.getrecursionlimit()
        second.__enter__()
        high = sys.getrecursionlimit()
        first.__exit__(None, None, None)
        assert 1000 < low < high == sys.getrecursionlimit()
        second.__exit__(None, None, None)
        assert sys.getrecursionlimit() == 1000

    def test_settings_of_the_program_stay(self) -> None:
        with recursion_limit_for(300):
            sys.setrecursionlimit(7777)
        assert sys.getrecursionlimit() == 7777

    def test_room_has_an_end(self) -> None:
        with recursion_limit_for(10**9):
            assert sys.getrecursionlimit() == MAX_RECURSION_LIMIT


class HoldsItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = layer(), layer()
        self._modules["me"] = self

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x))


class Child(nn.Module):
    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        self.layer = layer()
        self._modules["parent"] = parent

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class HeldByItsChildren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Child(self) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (HoldsItself, 2),
        (HeldByItsChildren, 3),
        (lambda: nn.Sequential(HoldsItself(), HoldsItself(), HeldByItsChildren(), HeldByItsChildren()), 10),
    ],
)
def test_a_module_that_holds_itself_is_counted_once_for_each_call(
    model: Callable[[], nn.Module], layers: int, fold: bool
) -> None:
    built = model()
    report = analyze(built, (X,), fold=fold)
    assert report.forward == layers * LAYER
    assert set(report.modules) == {name for name, _ in built.named_modules()}


def of_layers(many: int) -> tuple[Any, tuple[Any, ...]]:
    return nn.Sequential(*(layer() for _ in range(many))), (X,)


def of_blocks(many: int) -> tuple[Any, tuple[Any, ...]]:
    return nn.Sequential(*(nn.Sequential(layer(), nn.ReLU()) for _ in range(many))), (X,)


def of_different_blocks(many: int) -> tuple[Any, tuple[Any, ...]]:
    sizes = range(1, many + 1)
    return nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, n), nn.Linear(n, WIDTH)) for n in sizes)), (X,)


def of_operations(many: int) -> tuple[Any, tuple[Any, ...]]:
    def program(x: Tensor) -> Tensor:
        for _ in range(many):
            x = (x * 2).sin()
        return x

    return program, (X,)


def of_lists(many: int) -> tuple[Any, tuple[Any, ...]]:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = nn.ModuleList([layer()])

        def forward(self, x: Tensor) -> Tensor:
            return self.held[0](x)

    return nn.Sequential(*(Holder() for _ in range(many))), (X,)


def of_converted_layers(many: int) -> tuple[Any, tuple[Any, ...]]:
    class Converts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layer() for _ in range(many))

        def forward(self, x: Tensor) -> Tensor:
            x = x.double()
            for layer in self.layers:
                x = layer.to(torch.float64)(x)
            return x

    return Converts(), (X,)


def of_gradients(many: int) -> tuple[Any, tuple[Any, ...]]:
    class Penalty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layer() for _ in range(many))

        def forward(self, x: Tensor) -> Any:
            for layer in self.layers:
                x = torch.tanh(torch.nn.functional.linear(x, layer.weight, layer.bias))
            return torch.autograd.grad(x.sum(), list(self.parameters()), create_graph=True)

    return Penalty(), (X,)


def calls_in(job: Callable[[], Any]) -> int:
    """How many functions are called by a job, in whatever thread it runs them; so long as it takes, on any machine."""
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        job()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return calls


def run_once(model: Any, args: tuple[Any, ...]) -> Report:
    """Everything that is made of an analysis and read by people."""
    report = analyze(model, args)
    str(report)
    report.by_module()
    report.by_component()
    report.by_module_and_operator()
    assert report.coverage.ops
    report.uncalled_modules()
    return report


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "model", [of_layers, of_blocks, of_different_blocks, of_operations, of_lists, of_converted_layers, of_gradients]
)
def test_twice_the_model_is_twice_the_work(model: Callable[[int], tuple[Any, tuple[Any, ...]]]) -> None:
    few = 24
    run_once(*model(few))  # what is looked up once
    cases = [model(few), model(2 * few), model(4 * few)]
    one, two, four = (calls_in(lambda case=case: run_once(*case)) for case in cases)
    assert one > 100 * few
    assert (four - two) / (two - one) < 2.15


def test_a_model_of_many_lists_has_its_components_named_in_as_many_steps() -> None:
    def named(many: int) -> None:
        modules = {"": "Sequential"}
        for i in range(many):
            modules |= {f"{i}": "Holder", f"{i}.held": "ModuleList", f"{i}.held.0": "Linear"}
        assert components(modules)[f"{many - 1}.held.0"] == f"{many - 1}.held.0"

    one, two, four = (calls_in(lambda many=many: named(many)) for many in (50, 100, 200))
    assert (four - two) / (two - one) < 2.2


def test_very_many_children_fit_in_a_table() -> None:
    equal = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(1000)))
    widths = [WIDTH + i % 7 * i for i in range(151)]
    different = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(widths)))
    for model in (equal, different):
        assert len(str(analyze(model, (X,))).splitlines()) < 45
