"""Ops priced by what they do instead of by their rule: autograd Functions without one, and whatever is asked for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import UsageError, Work, analyze
from graphflops.analysis.mac_counter import count_macs
from graphflops.analysis.op_counter import count_scalar_ops
from graphflops.cli import main

B, D = 4, 6
N = B * D


class SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.clamp(min=0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return 2 * positive * grad


class Seen:
    """What a call keeps of earlier calls."""

    def __init__(self) -> None:
        self.calls: list[Tensor] = []


class Reversed(torch.autograd.Function):
    """Runs its layer again in backward, under an autograd of its own, and refuses what it has seen before."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module, seen: Seen) -> Tensor:
        assert not seen.calls
        seen.calls.append(x)
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.layer(x)
        torch.autograd.backward(y, grad)
        return x.grad, None, None


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.inner, self.down = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(Reversed.apply(SquaredReLU.apply(self.up(x)), self.inner, Seen()))


X = torch.zeros(B, D)


@pytest.mark.parametrize("expand", [True, ["*SquaredReLU"]])
def test_a_function_without_a_rule_is_what_it_executes(expand: bool | list[str]) -> None:
    x = torch.zeros(B, D, requires_grad=True)
    report = analyze(SquaredReLU.apply, (x,), expand=expand)
    assert not report.unsupported_ops()
    seen = count_scalar_ops(SquaredReLU.apply, (x,))
    assert (report.work("forward"), report.work("backward")) == (seen.forward, seen.backward)
    assert seen.backward == Work(elementwise=2 * N)


def test_its_entry_says_that_it_was_counted() -> None:
    (entry,) = analyze(SquaredReLU.apply, (X,), expand=["*SquaredReLU"]).entries
    assert entry.rule.startswith("scalar operations (analysis/op_counter")
    assert entry.about.startswith("Counted: ")
    assert entry.formula.sizes == {}


def test_a_model_with_such_functions_has_the_products_that_autograd_dispatches() -> None:
    report, seen = analyze(Model(), (X,), expand=["*Reversed", "*SquaredReLU"]), count_macs(Model(), (X,))
    assert (report.work("forward").macs, report.work("backward").macs) == (seen.forward, seen.backward)
    assert not report.warnings


def test_parameters_that_a_function_uses_through_a_module_are_trained() -> None:
    report = analyze(Model(), (X,), expand=["*Reversed"])
    updated = {entry.op for entry in report.entries if entry.kind == "update"}
    assert updated == {name for name, _ in Model().named_parameters()}
    assert "inner" not in report.uncalled_modules()
    wgrad = sum(entry.work.get("wgrad", Work()).macs for entry in report.entries if "Reversed" in entry.target)
    assert wgrad == B * D * D


@pytest.mark.parametrize("trained", [("weight",), ("bias",), ("weight", "bias"), ()])
@pytest.mark.parametrize("input_trained", [True, False])
def test_gradients_of_activations_and_of_weights_are_told_apart(trained: tuple[str, ...], input_trained: bool) -> None:
    layer = nn.Linear(D, 3)
    for name, each in layer.named_parameters():
        each.requires_grad_(name in trained)
    report = analyze(layer, (X.clone().requires_grad_(input_trained),), expand=True)
    assert report.work("dgrad") == (Work(macs=N * 3) if input_trained else Work())
    assert report.work("wgrad").macs == (N * 3 if "weight" in trained else 0)
    assert report.work("wgrad").accumulate == (B * 3 if "bias" in trained else 0)


def test_where_both_operands_are_one_tensor_its_gradients_meet_once() -> None:
    x = torch.zeros(B, B, requires_grad=True)
    square = analyze(lambda x: x @ x, (x,), expand=True)
    assert square.work("backward") == analyze(lambda x: x @ x, (x,)).work("backward")
    assert square.work("backward") == Work(macs=2 * B**3, accumulate=B * B)


def test_a_whole_model_expanded_is_the_model_counted_as_a_whole() -> None:
    model = nn.Sequential(nn.Linear(D, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    report, seen = analyze(model, (X,), expand=True), count_scalar_ops(model, (X,))
    assert report.work("forward") == seen.forward
    assert report.work("backward") == seen.backward


def test_only_what_a_pattern_names_is_expanded() -> None:
    model = nn.Sequential(nn.Linear(D, 8), nn.LayerNorm(8), nn.GELU())
    report = analyze(model, (X,), expand=["aten.*norm"])
    assert {entry.target for entry in report.entries if "scalar operations" in entry.rule} == {"aten.layer_norm"}


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'aten.rellu' matches no op; .* did you mean aten.relu?"):
        analyze(nn.ReLU(), (X,), expand=["aten.rellu"])


def test_what_cannot_be_taken_apart_is_priced_by_its_rule_and_says_so() -> None:
    (entry,) = [each for each in analyze(lambda x: x.sort()[0], (X,), expand=True).entries if each.kind == "call"]
    assert entry.work == {"forward": Work(elementwise=N)}
    assert "By their rules: aten.sort" in entry.about


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "counted_layers.py").write_text(
        "import torch\n"
        "class Twice(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x): return 2 * x\n"
        "    @staticmethod\n"
        "    def backward(ctx, grad): return 2 * grad\n"
        "class Layer(torch.nn.Module):\n"
        "    def forward(self, x): return Twice.apply(x)\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["analyze", "counted_layers:Layer", "--input", "x=4x6"]
    assert main([*command, "--strict", "--expand", "counted_layers.*", "--explain", "Twice"]) == 0
    assert "scalar operations" in capsys.readouterr().out


def test_a_gradient_comes_back_through_the_results_that_are_used() -> None:
    """Of eigenvalues alone it is one product; with the vectors it is three."""
    a = torch.zeros(5, 5, requires_grad=True)
    values = analyze(lambda a: torch.linalg.eigh(a)[0], (a,), expand=True)
    both = analyze(torch.linalg.eigh, (a,), expand=True)
    assert values.work("backward").macs == count_macs(lambda a: torch.linalg.eigh(a)[0], (a,)).backward == 5**3
    assert both.work("backward").macs == count_macs(torch.linalg.eigh, (a,)).backward == 3 * 5**3
