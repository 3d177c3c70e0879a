"""expand=: the cost of Ops by the scalar operations that they run, instead of by their rules."""

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


class History:
    """A Python object that a Function changes."""

    def __init__(self) -> None:
        self.calls: list[Tensor] = []


class Reversed(torch.autograd.Function):
    """Runs its layer and autograd again in backward; fails if it is called twice with the same history."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module, history: History) -> Tensor:
        assert not history.calls
        history.calls.append(x)
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
        return self.down(Reversed.apply(SquaredReLU.apply(self.up(x)), self.inner, History()))


X = torch.zeros(B, D)


@pytest.mark.parametrize("expand", [True, ["*SquaredReLU"]])
def test_an_autograd_function_costs_its_operators(expand: bool | list[str]) -> None:
    x = torch.zeros(B, D, requires_grad=True)
    report = analyze(SquaredReLU.apply, (x,), expand=expand)
    assert not report.unsupported_ops()
    count = count_scalar_ops(SquaredReLU.apply, (x,))
    assert (report.work("forward"), report.work("backward")) == (count.forward, count.backward)
    assert count.backward == Work(elementwise=2 * N)


def test_the_entry_says_that_the_op_was_counted() -> None:
    (entry,) = analyze(SquaredReLU.apply, (X,), expand=["*SquaredReLU"]).entries
    assert entry.rule.startswith("scalar operations (analysis/op_counter")
    assert entry.about.startswith("Counted: ")
    assert entry.formula.sizes == {}


def test_a_model_with_autograd_functions_has_the_multiply_adds_that_autograd_dispatches() -> None:
    report, macs = analyze(Model(), (X,), expand=["*Reversed", "*SquaredReLU"]), count_macs(Model(), (X,))
    assert (report.work("forward").macs, report.work("backward").macs) == (macs.forward, macs.backward)
    assert not report.warnings


def test_parameters_of_a_module_that_a_function_calls_are_trained() -> None:
    report = analyze(Model(), (X,), expand=["*Reversed"])
    updated = {entry.op for entry in report.entries if entry.kind == "update"}
    assert updated == {name for name, _ in Model().named_parameters()}
    assert "inner" not in report.uncalled_modules()
    wgrad = sum(entry.work.get("wgrad", Work()).macs for entry in report.entries if "Reversed" in entry.target)
    assert wgrad == B * D * D


@pytest.mark.parametrize("trained", [("weight",), ("bias",), ("weight", "bias"), ()])
@pytest.mark.parametrize("input_trained", [True, False])
def test_gradients_of_activations_and_of_weights_are_split(trained: tuple[str, ...], input_trained: bool) -> None:
    layer = nn.Linear(D, 3)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name in trained)
    report = analyze(layer, (X.clone().requires_grad_(input_trained),), expand=True)
    assert report.work("dgrad") == (Work(macs=N * 3) if input_trained else Work())
    assert report.work("wgrad").macs == (N * 3 if "weight" in trained else 0)
    assert report.work("wgrad").accumulate == (B * 3 if "bias" in trained else 0)


def test_the_gradients_of_two_equal_operands_are_summed_once() -> None:
    x = torch.zeros(B, B, requires_grad=True)
    square = analyze(lambda x: x @ x, (x,), expand=True)
    assert square.work("backward") == analyze(lambda x: x @ x, (x,)).work("backward")
    assert square.work("backward") == Work(macs=2 * B**3, accumulate=B * B)


def test_a_model_with_all_ops_expanded_is_counted_as_the_whole_model() -> None:
    model = nn.Sequential(nn.Linear(D, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    report, count = analyze(model, (X,), expand=True), count_scalar_ops(model, (X,))
    assert report.work("forward") == count.forward
    assert report.work("backward") == count.backward


def test_only_ops_that_match_a_pattern_are_expanded() -> None:
    model = nn.Sequential(nn.Linear(D, 8), nn.LayerNorm(8), nn.GELU())
    report = analyze(model, (X,), expand=["aten.*norm"])
    assert {entry.target for entry in report.entries if "scalar operations" in entry.rule} == {"aten.layer_norm"}


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"'aten.rellu' matches no op; did you mean aten.relu?"):
        analyze(nn.ReLU(), (X,), expand=["aten.rellu"])


def test_an_operator_without_decomposition_is_counted_by_its_rule() -> None:
    (entry,) = analyze(lambda x: x.sort()[0], (X,), expand=True, training=False).entries
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


def test_only_results_that_are_used_have_gradients() -> None:
    """The backward of the eigenvalues alone is one matmul; with the eigenvectors it is three."""
    a = torch.zeros(5, 5, requires_grad=True)
    values = analyze(lambda a: torch.linalg.eigh(a)[0], (a,), expand=True)
    report = analyze(torch.linalg.eigh, (a,), expand=True)
    assert values.work("backward").macs == count_macs(lambda a: torch.linalg.eigh(a)[0], (a,)).backward == 5**3
    assert report.work("backward").macs == count_macs(torch.linalg.eigh, (a,)).backward == 3 * 5**3
