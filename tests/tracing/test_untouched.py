"""An analysis modifies nothing: models, inputs, functions, optimizers, and the files that define them."""

import copy
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import Box, programs
from state import differences, state_of
from torch import Tensor, nn

from graphflops import CaptureError, Cost, Report, RuleError, analyze, rule
from graphflops.analysis.mac_counter import count_macs

NAMES = sorted(programs())
X = torch.ones(3, 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fold", [True, False])
def test_a_model_and_all_state_that_its_code_reaches(name: str, fold: bool) -> None:
    model = programs()[name]
    before = state_of(model, X)
    first, second = (analyze(model, (X,), fold=fold) for _ in range(2))
    assert differences(before, state_of(model, X)) == []
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_also_by_the_witness(name: str) -> None:
    model = programs()[name]
    before = state_of(model, X)
    count_macs(model, (X,))
    assert differences(before, state_of(model, X)) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "in_settings"])
def test_the_model_runs_afterwards_as_it_would_have(name: str) -> None:
    state = torch.get_rng_state()
    with torch.random.fork_rng():
        model = programs()[name]
        analyze(model, (X,))
        assert type(model(X)) is Tensor
    assert torch.equal(torch.get_rng_state(), state)


class Raises(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.model(x)
        raise ValueError("after all")


@pytest.mark.parametrize("name", NAMES)
def test_after_the_model_raised(name: str) -> None:
    model = Raises(programs()[name])
    before = state_of(model, X)
    with pytest.raises(CaptureError, match="after all") as caught:
        analyze(model, (X,))
    assert differences(before, state_of(model, X)) == []
    assert caught.value.__cause__ is not None


def boom(input: Any) -> Cost:
    raise RuntimeError("boom")


class Branches(nn.Module):
    """A condition inside of a condition."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def inner(y: torch.Tensor) -> torch.Tensor:
            return torch.cond(y.mean() > 1, torch.sin, torch.cos, (y,))

        return torch.cond(x.sum() > 0, inner, torch.tanh, (x,))


@pytest.mark.filterwarnings("ignore:You are calling torch.compile inside")
def test_an_exported_program_with_graphs_inside_of_its_graph() -> None:
    x = torch.zeros(2, 4)
    program = torch.export.export(Branches(), (x,))
    before = state_of(program, x)
    analyze(program, (x,))
    count_macs(program, (x,))
    assert differences(before, state_of(program, x)) == []


def test_after_a_rule_raised() -> None:
    model = programs()["in_object"]
    before = state_of(model, X)
    with pytest.raises(RuleError):
        analyze(model, (X,), rules=[rule(torch.ops.aten.linear)(boom)])
    assert differences(before, state_of(model, X)) == []


class TestInputs:
    def test_an_object_that_grows(self) -> None:
        def model(x: Tensor, cache: Any) -> Tensor:
            cache.keys.append(x)
            cache.table["x"] = x
            cache.total = cache.total + x.sum()
            return torch.cat(cache.keys) @ torch.ones(4, 4)

        cache = Box(keys=[X], table={}, total=torch.zeros(()))
        before = state_of(cache)
        assert [analyze(model, (X, cache)).macs for _ in range(2)] == [6 * 4 * 4] * 2
        assert differences(before, state_of(cache)) == []

    def test_containers_and_tensors_that_are_written_to(self) -> None:
        def model(batch: dict[str, Any]) -> Tensor:
            x = batch.pop("x")
            x.mul_(2)
            batch["list"].append(x)
            return x.sum()

        batch = {"x": X.clone(), "list": [1]}
        before = state_of(batch)
        analyze(model, (batch,))
        assert differences(before, state_of(batch)) == []


OPTIMIZERS = [
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    (torch.optim.AdamW, {"weight_decay": 0.5}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.RMSprop, {}),
    (torch.optim.Adagrad, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.Rprop, {}),
]
MODEL = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
OPTIMIZER = torch.optim.AdamW(MODEL.parameters(), weight_decay=0.5)
AVERAGE = torch.ones(4)


def step_of_globals(x: Tensor) -> Tensor:
    OPTIMIZER.zero_grad()
    loss = MODEL(x).sum()
    loss.backward()
    OPTIMIZER.step()
    AVERAGE.mul_(0.5)
    return loss


class Trainer:
    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer, self.losses = model, optimizer, []
        self.schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)

    def step(self, x: Tensor) -> Tensor:
        loss = self.model(x).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.losses.append(loss)
        return loss


class TestSteps:
    """Functions that train a model in their closure, their bound object or their globals."""

    @pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
    @pytest.mark.parametrize("trained", [False, True])
    def test_a_closure(self, kind: Any, options: dict[str, Any], trained: bool) -> None:
        model = copy.deepcopy(MODEL)
        optimizer = kind(model.parameters(), **options)

        def step(x: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            return loss

        if trained:
            step(X)
        self.check(step, model, optimizer)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        step(X)
        assert not all(map(torch.equal, before, model.parameters()))

    def test_globals(self) -> None:
        self.check(step_of_globals, MODEL, OPTIMIZER, AVERAGE)

    def test_a_bound_object(self) -> None:
        model = copy.deepcopy(MODEL)
        trainer = Trainer(model, torch.optim.AdamW(model.parameters()))
        self.check(trainer.step, trainer)

    def test_an_attribute_of_a_module(self) -> None:
        class Manual(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = copy.deepcopy(MODEL)
                self.optimizer = torch.optim.AdamW(self.model.parameters())

            def forward(self, x: Tensor) -> Tensor:
                loss = self.model(x).sum()
                loss.backward()
                self.optimizer.step()
                return loss.detach()

        self.check(Manual())

    def check(self, step: Callable[..., Any], *roots: Any) -> Report:
        before = state_of(step, *roots)
        report = analyze(step, (X,))
        assert differences(before, state_of(step, *roots)) == []
        assert report.macs == 3 * (4 * 4 + 4)
        assert report.work("backward").macs == 3 * (4 * 4 + 4 + 4)  # the gradients that are needed
        return report


class TestObjectsThatAreNotCopied:
    def test_symbols_of_sympy_are_shared(self) -> None:
        import sympy  # here, so that the state of this file does not reach all of its

        class Symbolic(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.table = {sympy.Symbol("x"): sympy.Integer(0)}

            def forward(self, x: Tensor) -> Tensor:
                return x * int(self.table[sympy.Symbol("x")] + 2)

        assert analyze(Symbolic(), (X,)).forward == X.numel()

    def test_a_package_that_forward_imports_has_real_constants(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "tableau_of_steps.py").write_text("import torch\nSTEPS = torch.arange(4.0) / 3\n")
        monkeypatch.syspath_prepend(str(tmp_path))

        def model(x: Tensor) -> Tensor:
            from tableau_of_steps import STEPS

            return x * STEPS

        assert analyze(model, (X,)).forward == 12
        import tableau_of_steps

        assert type(tableau_of_steps.STEPS) is Tensor
        assert torch.allclose(model(X)[0], torch.arange(4.0) / 3)

    def test_an_address_is_refused(self) -> None:
        class Kernel(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                out = torch.empty_like(x)
                assert out.data_ptr(), "a kernel would be launched here"
                return out

        with pytest.raises(CaptureError, match="address"):
            analyze(lambda x: Kernel.apply(x), (X,))

    def test_a_fake_tensor_that_outlives_the_analysis_is_an_error_that_names_its_holder(self) -> None:
        hidden = types.ModuleType("hidden_from_view")
        exec("kept = {}\ndef keep(value): kept['value'] = value", vars(hidden))  # a function of no file
        keep = hidden.keep

        class Opaque:
            __slots__ = ()
            _graphflops_shares_it = True

            def __call__(self, value: Tensor) -> None:
                keep(value)

        def model(x: Tensor, sink: Any) -> Tensor:
            y = x * 2
            sink(y)
            return y

        with pytest.raises(CaptureError, match="outlive"):
            analyze(model, (X, Opaque()))


SCRIPT = """
import torch
from torch import nn

import {other}

model = nn.Linear(4, 2)
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.5)
losses = []


def train(x):
    optimizer.zero_grad()
    loss = model(x).pow(2).mean()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    {other}.steps += 1
"""


class TestScripts:
    """Functions of an imported script that are called by its name run on copies of its globals too."""

    @pytest.fixture
    def script(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
        name = f"a_script_{len(request.node.name)}_{request.node.name.partition('_')[0]}"
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / f"{name}_other.py").write_text("steps = 0\n")
        (tmp_path / f"{name}.py").write_text(SCRIPT.format(other=f"{name}_other"))
        yield importlib.import_module(name)
        for module_name in (name, f"{name}_other"):
            sys.modules.pop(module_name, None)

    @pytest.mark.parametrize("way", ["closure", "package", "its own function"])
    def test_are_not_modified(self, script: Any, way: str) -> None:
        package = types.ModuleType("a_package")
        package.script = script  # type: ignore[attr-defined]
        step: Callable[[Tensor], Any] = {
            "closure": lambda x: script.train(x),
            "package": lambda x: package.script.train(x),
            "its own function": script.train,
        }[way]
        roots = script.model, script.optimizer, script.losses, script.train
        before = state_of(*roots)
        report = analyze(step, (X,))
        assert differences(before, state_of(*roots)) == []
        assert vars(sys.modules[f"{script.__name__}_other"])["steps"] == 0
        assert report.work("forward").macs == 3 * 4 * 2
        assert report.work("backward").macs == 3 * 4 * 2
        assert report.optimizer > 0


class Slotted:
    __slots__ = ("value",)


class Constant(Slotted):
    """A property that hides a slot of the same name, as in mpmath."""

    value = property(lambda self: 3.0)  # type: ignore[assignment]


def test_a_slot_behind_a_property() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.constant = Constant()

        def forward(self, x: Tensor) -> Tensor:
            return x * self.constant.value

    assert analyze(Model(), (X,), strict=True).work("forward").elementwise == X.numel()
