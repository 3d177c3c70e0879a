"""Backward hooks: their work is counted where it runs, or said to be unknown."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

D = 4


class Hooked(nn.Module):
    """Two layers; ``hook`` is put on what is between them."""

    def __init__(self, hook: Callable[[Tensor], Any] | None = None) -> None:
        super().__init__()
        self.one, self.two, self.hook = nn.Linear(D, D), nn.Linear(D, D), hook
        self.register_buffer("basis", torch.eye(D))

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        if y.requires_grad:
            y.register_hook(lambda gradient: self.hook(gradient) if self.hook else gradient @ self.basis)
        return self.two(y)


def on_module(model: Hooked) -> None:
    model.two.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] @ module.weight,))


def before_module(model: Hooked) -> None:
    model.two.register_full_backward_pre_hook(lambda module, outputs: (outputs[0] @ module.weight,))


def several_on_module(model: Hooked) -> None:
    for _ in range(2):
        on_module(model)
        before_module(model)


def on_parameter(model: Hooked) -> None:
    model.one.weight.register_hook(lambda gradient: gradient @ gradient.t())


def after_accumulation(model: Hooked) -> None:
    def orthogonal(parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad = parameter.grad @ parameter.grad.t() @ parameter

    model.two.weight.register_post_accumulate_grad_hook(orthogonal)


HOOKS = {
    function.__name__: function
    for function in (on_module, before_module, several_on_module, on_parameter, after_accumulation)
}


@pytest.mark.parametrize("put", HOOKS.values(), ids=HOOKS)
def test_the_work_of_hooks_is_what_autograd_dispatches(put: Callable[[Hooked], None]) -> None:
    model, x = Hooked(), torch.zeros(3, D)
    without = count_macs(model, (x,)).backward
    put(model)
    report, dispatched = analyze(model, (x,)), count_macs(model, (x,))
    assert report.unknown == ()
    assert report.work("forward").macs == dispatched.forward
    assert report.work("backward").macs >= without
    if put is on_module or put is before_module:
        assert dispatched.backward == without + 3 * D * D
    if put is not on_parameter and put is not after_accumulation:
        assert report.work("backward").macs == dispatched.backward


@pytest.mark.parametrize(("put", "work"), [(on_parameter, D**3), (after_accumulation, 2 * D**3)])
def test_hooks_of_parameters_belong_to_their_gradients(put: Callable[[Hooked], None], work: int) -> None:
    model, x = Hooked(), torch.zeros(3, D)
    before = analyze(model, (x,))
    put(model)
    report = analyze(model, (x,))
    assert report.work("wgrad").macs == before.work("wgrad").macs + work
    assert report.work("dgrad").macs == before.work("dgrad").macs
    assert analyze(model, (x,)).work("wgrad") == report.work("wgrad")


def test_a_hook_is_counted_in_the_module_whose_gradient_it_is_called_with() -> None:
    report = analyze(Hooked(), (torch.zeros(3, D),)).under("torch")
    assert report.by_module("dgrad")["one"] == 2 * 3 * D * D
    assert report.forward == 2 * 2 * 3 * D * D


def test_a_hook_that_no_gradient_reaches_does_nothing() -> None:
    class Aside(Hooked):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            return self.two(x)

    model = Aside()
    dispatched = count_macs(model, (torch.zeros(3, D),))
    assert analyze(model, (torch.zeros(3, D),)).work("backward").macs == dispatched.backward == 3 * D * D


def test_without_training_no_hook_is_run() -> None:
    def never(gradient: Tensor) -> None:
        raise AssertionError

    model = Hooked(never)
    assert analyze(model, (torch.zeros(3, D),), training=False).unknown == ()


def test_a_hook_that_cannot_run_is_unknown_with_its_line() -> None:
    def on_data(gradient: Tensor) -> Tensor:
        return gradient / float(gradient.tolist()[0][0])

    (unknown,) = analyze(Hooked(on_data), (torch.zeros(3, D),)).unknown
    assert "on_data" in unknown.target or "lambda" in unknown.target
    assert "test_backward_hooks.py" in unknown.line


def test_equal_layers_with_hooks_are_each_counted() -> None:
    layers = nn.Sequential(*(Hooked() for _ in range(4)))
    report, dispatched = analyze(layers, (torch.zeros(3, D),)), count_macs(layers, (torch.zeros(3, D),))
    assert report.work("backward").macs == dispatched.backward


def test_equal_layers_of_which_one_parameter_has_a_hook() -> None:
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(D, D), nn.Tanh()) for _ in range(4)))
    plain = analyze(layers, (torch.zeros(3, D),)).work("backward").macs
    layers[2][0].weight.register_hook(lambda gradient: gradient @ gradient)
    assert analyze(layers, (torch.zeros(3, D),)).work("backward").macs == plain + D**3


@pytest.fixture
def everywhere() -> Iterator[None]:
    handle = nn.modules.module.register_module_full_backward_hook(
        lambda module, inputs, outputs: (inputs[0] @ outputs[0].t() @ outputs[0],) if inputs[0] is not None else None
    )
    yield
    handle.remove()


@pytest.mark.usefixtures("everywhere")
def test_hooks_on_all_modules() -> None:
    model = nn.Sequential(*(nn.Linear(D, D) for _ in range(3)))
    x = torch.zeros(3, D, requires_grad=True)
    assert analyze(model, (x,)).work("backward").macs == count_macs(model, (x,)).backward


class Equilibrium(nn.Module):
    """A fixed point whose backward pass is a solve of its own, all of it in a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = torch.zeros_like(x)
            for _ in range(3):
                z = torch.tanh(self.layer(z) + x)
        z = torch.tanh(self.layer(z) + x)
        if z.requires_grad:
            start = z.detach().requires_grad_()
            step = torch.tanh(self.layer(start) + x)

            def solve(gradient: Tensor) -> Tensor:
                solution = gradient
                for _ in range(4):
                    solution = torch.autograd.grad(step, start, solution, retain_graph=True)[0] + gradient
                return solution

            z.register_hook(solve)
        return z


def test_the_backward_solve_of_an_equilibrium_model() -> None:
    report, dispatched = (
        analyze(Equilibrium(), (torch.zeros(3, D),)),
        count_macs(Equilibrium(), (torch.zeros(3, D),)),
    )
    assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
    assert report.work("dgrad").macs == 4 * 3 * D * D


@pytest.mark.parametrize("mode", ["all", "any"])
def test_a_hook_on_several_tensors_runs_once(mode: Any) -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(D, D), nn.Linear(D, D)

        def forward(self, x: Tensor) -> Tensor:
            y, z = self.one(x), self.two(x)

            def hook(gradient: Any) -> None:
                first = gradient[0] if mode == "all" else gradient
                first @ first.t()

            if y.requires_grad:
                torch.autograd.graph.register_multi_grad_hook((y, z), hook, mode=mode)
            return y + z

    report, dispatched = analyze(Several(), (torch.zeros(3, D),)), count_macs(Several(), (torch.zeros(3, D),))
    assert report.unknown == ()
    assert report.work("backward").macs == dispatched.backward


def test_hooks_on_saved_tensors_are_reported() -> None:
    class Saving(Hooked):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved * 2, lambda saved: saved / 2):
                return super().forward(x)

    (warning,) = analyze(Saving(), (torch.zeros(3, D),)).warnings
    assert "hooks on saved tensors" in warning
    assert "test_backward_hooks.py" in warning


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook", "ignore:Full backward hook")
class TestHooksThatAreNotFull:
    """Which gradients one is given depends on what ran last in its module."""

    def test_one_that_ignores_them_is_counted_by_its_own_work(self) -> None:
        model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D))
        model.register_buffer("mean", torch.eye(D))

        def update(module: nn.Module, inputs: Any, outputs: Any) -> None:
            module.mean.copy_(module.mean @ module.mean)

        model.register_backward_hook(update)
        report, dispatched = analyze(model, (torch.ones(3, D),)), count_macs(model, (torch.ones(3, D),))
        assert report.work("backward").macs == dispatched.backward
        assert not report.unsupported_ops()

    def test_one_that_looks_at_them_is_unknown(self) -> None:
        model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D))
        model.register_backward_hook(lambda module, inputs, outputs: (inputs[0] * 2,))
        assert sum(analyze(model, (torch.ones(3, D),)).unsupported_ops().values()) == 1
