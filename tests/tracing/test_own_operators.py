"""An operator written in Python, which no rule names, is counted by its own code, and by its own backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphflops import Cost, MissingRules, Report, Work, analyze, rule
from graphflops.analysis.mac_counter import MacCount, count_macs

D, ROWS = 8, 12
PRODUCT = ROWS * D * D
X = torch.zeros(ROWS, D)


@torch.library.custom_op("own_operators::product", mutates_args=())
def product(x: Tensor, weight: Tensor, scale: float = 1.0) -> Tensor:
    return torch.einsum("nd,ed->ne", x, weight).reshape(x.shape) * scale


@product.register_fake
def _(x: Tensor, weight: Tensor, scale: float = 1.0) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    x, weight = ctx.saved_tensors
    return grad @ weight, torch.einsum("ne,nd->ed", grad, x), None


product.register_autograd(_backward, setup_context=_keep)


@torch.library.custom_op("own_operators::without_gradient", mutates_args=())
def without_gradient(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


@torch.library.custom_op("own_operators::several", mutates_args=())
def several(xs: list[Tensor], weight: Tensor) -> list[Tensor]:
    return [x @ weight for x in xs]


several.register_autograd(
    lambda ctx, grads: ([grad @ ctx.weight.T for grad in grads], None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "weight", inputs[1]),
)


@torch.library.custom_op("own_operators::into", mutates_args=("out",))
def into(x: Tensor, out: Tensor) -> None:
    out.copy_(x @ x.T)


@torch.library.custom_op("own_operators::by_data", mutates_args=())
def by_data(x: Tensor, weight: Tensor) -> Tensor:
    return torch.from_numpy((x @ weight).numpy())


by_data.register_fake(lambda x, weight: x.new_empty(x.shape[0], weight.shape[1]))


class Net(nn.Module):
    def __init__(self, program: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.layer = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.program(self, self.first(x)))


def products(report: Report) -> tuple[int, int]:
    return int(report.work("forward").macs), int((report.work("backward") + report.work("recompute")).macs)


@pytest.mark.parametrize(
    ("program", "forward", "backward"),
    [
        (lambda net, x: product(x, net.layer.weight), 1, 2),
        (lambda net, x: product(x, net.layer.weight.detach(), 2.0), 1, 2),  # it asks for both, whatever is needed
        (lambda net, x: torch.ops.own_operators.product(x, net.layer.weight), 1, 2),
        (lambda net, x: sum(several([x, x], net.layer.weight)), 2, 2),
        (lambda net, x: x + without_gradient(x.detach(), net.layer.weight.detach()), 1, 0),
        (lambda net, x: checkpoint(lambda x: product(x, net.layer.weight).relu(), x, use_reentrant=False), 1, 3),
    ],
    ids=["one", "a constant", "by its name", "a list", "no gradient", "checkpointed"],
)
def test_its_products_are_those_of_its_code(program: Any, forward: int, backward: int) -> None:
    report = analyze(Net(program), (X,))
    around = count_macs(Net(lambda net, x: x * 1), (X,))
    assert report.unsupported_ops() == {}
    assert products(report) == (around.forward + forward * PRODUCT, around.backward + backward * PRODUCT)


LIBRARY = torch.library.Library("own_operators_of_a_library", "DEF")


def kernel(x: Tensor, weight: Tensor) -> Tensor:
    return torch.relu(x @ weight.t()) @ weight


def of_library(name: str, *places: str) -> Callable[[Tensor, Tensor], Tensor]:
    """An operator whose Python kernel a Library is given for each of these dispatch keys."""
    LIBRARY.define(f"{name}(Tensor x, Tensor weight) -> Tensor")
    for place in places:
        LIBRARY.impl(name, kernel, place)
    if "CPU" in places:
        LIBRARY.impl(name, lambda x, weight: torch.empty_like(x), "Meta")
    packet: Callable[[Tensor, Tensor], Tensor] = getattr(torch.ops.own_operators_of_a_library, name)
    return packet


torch.library.define("own_operators_of_a_library::by_name", "(Tensor x, Tensor weight) -> Tensor")
torch.library.impl("own_operators_of_a_library::by_name", "cpu")(kernel)
torch.library.register_fake("own_operators_of_a_library::by_name")(lambda x, weight: torch.empty_like(x))


class OfLibrary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        with torch._C._AutoDispatchBelowAutograd():
            return trained(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.saved_tensors[0], None


trained = of_library("trained", "CPU")
LIBRARY.impl("trained", OfLibrary.apply, "Autograd")


class TestThePythonKernelsOfALibrary:
    """The operators of the kernels, against those that autograd dispatches without the custom operator."""

    @pytest.mark.parametrize(
        "operator",
        [
            of_library("of_cpu", "CPU"),
            of_library("of_any_device", "CompositeExplicitAutograd"),
            of_library("of_both", "CPU", "CompositeExplicitAutograd"),
            torch.ops.own_operators_of_a_library.by_name,
        ],
        ids=["for a CPU", "for any device", "for both", "by a name"],
    )
    def test_operators_inside_are_counted(self, operator: Any) -> None:
        weight = torch.zeros(D, D)
        report = analyze(lambda x: operator(x, weight), (X,), strict=True)
        assert MacCount(*products(report)) == count_macs(lambda x: kernel(x, weight), (X,))
        assert products(report)[0] == 2 * PRODUCT

    def test_their_gradient_is_that_of_their_function(self) -> None:
        model = Net(lambda net, x: trained(x, net.layer.weight))
        around = count_macs(Net(lambda net, x: x * 1), (X,))
        report = analyze(model, (X,), strict=True)
        assert products(report) == (around.forward + 2 * PRODUCT, around.backward + PRODUCT)


def test_the_report_says_so() -> None:
    report = analyze(Net(lambda net, x: product(x, net.layer.weight)), (X,), strict=True)
    message = "own_operators.product: no rule names it, so it is counted by its own forward and backward"
    assert message in report.capture_notes
    assert message in " ".join(str(report).split())
    updated = {entry.op for entry in report.entries if entry.kind == "update"}
    assert "layer.weight" in updated


def test_mutated_operands_are_known() -> None:
    def model(x: Tensor) -> Tensor:
        out = x.new_zeros(ROWS, ROWS)
        into(x, out)
        return out @ x

    report = analyze(model, (X,))
    assert MacCount(*products(report)) == MacCount(2 * ROWS * ROWS * D, 0)


def test_a_rule_wins() -> None:
    @rule("own_operators.product")
    def seven(x: Any) -> Cost:
        return Cost(Work(macs=7), {"x": Work(macs=5), "weight": Work()})

    around = analyze(Net(lambda net, x: x * 1), (X,))
    report = analyze(Net(lambda net, x: product(x, net.layer.weight)), (X,), rules=[seven])
    assert products(report) == (products(around)[0] + 7, products(around)[1] + 5)


def test_one_whose_code_needs_data_is_unknown() -> None:
    model = Net(lambda net, x: x + by_data(x.detach(), net.layer.weight.detach()))
    report = analyze(model, (X,))
    assert report.unsupported_ops() == {"own_operators.by_data": 1}
    assert products(report) == products(analyze(Net(lambda net, x: x * 1), (X,)))
    with pytest.raises(MissingRules, match=r'@rule\("own_operators.by_data"\)'):
        analyze(model, (X,), strict=True)
