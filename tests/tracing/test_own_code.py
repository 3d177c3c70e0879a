"""An ``autograd.Function`` without a rule is counted by its own forward and backward, as autograd runs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from graphflops import Cost, Report, Work, analyze, rule
from graphflops.analysis.mac_counter import count_macs

D, ROWS = 8, 12
PRODUCT = ROWS * D * D
X = torch.zeros(ROWS, D)


class Round(torch.autograd.Function):
    """Straight-through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = grad @ weight if ctx.needs_input_grad[0] else None
        of_weight = torch.einsum("no,ni->oi", grad, x) if ctx.needs_input_grad[1] else None
        return of_x, of_weight


class WithContext(torch.autograd.Function):
    """In the newer style, with what is no tensor among its arguments."""

    @staticmethod
    def forward(x: Tensor, times: int, weight: Tensor) -> Tensor:
        for _ in range(times):
            x = x @ weight
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.times, weight = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        for _ in range(ctx.times):
            grad = grad @ weight.T
        return grad, None, None


class Again(torch.autograd.Function):
    """Runs a layer again in its backward, under an autograd of its own, as reversible layers do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(x)
        return layer(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.layer(x)
        torch.autograd.backward(y, grad)
        return x.grad, None


class Adjoint(torch.autograd.Function):
    """Asks for gradients inside of its backward, and is given its parameters one by one."""

    @staticmethod
    def forward(ctx: Any, field: nn.Module, state: Tensor, *parameters: Tensor) -> Tensor:
        ctx.field = field
        for _ in range(3):
            state = state + field(state)
        ctx.save_for_backward(state, *parameters)
        return state

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        state, *parameters = ctx.saved_tensors
        totals = [torch.zeros_like(parameter) for parameter in parameters]
        for _ in range(3):
            with torch.enable_grad():
                state = state.detach().requires_grad_()
                slope = ctx.field(state)
                of_state, *grads = torch.autograd.grad(slope, [state, *parameters], grad, allow_unused=True)
            grad = grad + of_state
            state = state.detach() - slope.detach()
            totals = [total + grad for total, grad in zip(totals, grads, strict=True)]
        return None, grad, *totals


class Two(torch.autograd.Function):
    """Two results, of which one has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = x.argmax(-1)
        ctx.mark_non_differentiable(chosen)
        ctx.save_for_backward(x, weight)
        return x @ weight, x * 2, chosen

    @staticmethod
    def backward(ctx: Any, one: Tensor, other: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return one @ weight.T + 2 * other, x.T @ one


class Outer(torch.autograd.Function):
    """Functions inside of a Function, both ways."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return Linear.apply(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, weight = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        with torch.enable_grad():
            y = Linear.apply(x, weight)
        return torch.autograd.grad(y, (x, weight), grad)


class InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        ctx.save_for_backward(weight)
        return x.copy_(x @ weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.saved_tensors[0].T, None


class Kept(torch.autograd.Function):
    """Keeps the graph that its forward made, and goes back through it."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor) -> Tensor:
        with torch.enable_grad():
            ctx.x = x.detach().requires_grad_()
            ctx.y = layer(ctx.x)
        return ctx.y.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, torch.autograd.grad(ctx.y, ctx.x, grad)[0]


class Returned(torch.autograd.Function):
    """Returns what it is given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 2


class View(Returned):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view(x.shape)


class Among(torch.autograd.Function):
    """Results among others that are no tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[None, Tensor, int]:
        ctx.save_for_backward(weight)
        return None, x @ weight, 3

    @staticmethod
    def backward(ctx: Any, none: None, grad: Tensor, number: None) -> tuple[Tensor, None]:
        assert none is None
        assert number is None
        return grad @ ctx.saved_tensors[0].T, None


class Several(torch.autograd.Function):
    """Containers, and as many weights as one likes."""

    @staticmethod
    def forward(ctx: Any, shifts: list[Tensor], options: dict[str, int], x: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        return torch.stack([x @ weight for weight in weights]).sum(0) + shifts[0] * options["times"]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, *weights = ctx.saved_tensors
        of_x = torch.stack([grad @ weight.T for weight in weights]).sum(0)
        return None, None, of_x, *(x.T @ grad if needed else None for needed in ctx.needs_input_grad[3:])


class OfRows(torch.autograd.Function):
    """Functions to transform by torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grad @ weight.T, x[:, None] @ grad[None] if x.dim() == 1 else x.T @ grad


class Net(nn.Module):
    def __init__(self, program: Callable[..., Any], layers: int = 2) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(D, D), nn.Linear(D, D)
        self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(layers))
        self.program = program

    def forward(self, x: Tensor) -> Any:
        return self.last(self.program(self, self.first(x)))


PROGRAMS: dict[str, Callable[[Net, Tensor], Any]] = {
    "straight-through": lambda net, x: Round.apply(x),
    "a product": lambda net, x: Linear.apply(x, net.layers[0].weight),
    "a product of a tied weight": lambda net, x: Linear.apply(Linear.apply(x, net.first.weight), net.first.weight),
    "a product of what needs no gradient": lambda net, x: Linear.apply(x.detach(), net.layers[0].weight),
    "a product of a weight that needs none": lambda net, x: Linear.apply(x, net.layers[0].weight.detach()),
    "a product beside another branch": lambda net, x: Linear.apply(x, net.layers[0].weight) + net.layers[0](x),
    "the newer style": lambda net, x: WithContext.apply(x, 3, net.layers[0].weight),
    "run again": lambda net, x: Again.apply(x, net.layers[0]),
    "run again, several layers": lambda net, x: Again.apply(x, nn.Sequential(*net.layers)),
    "run again, within itself": lambda net, x: Again.apply(x, lambda x: Again.apply(x, net.layers[0])),
    "adjoint": lambda net, x: Adjoint.apply(net.layers[0], x, *net.layers[0].parameters()),
    "two results": lambda net, x: sum(Two.apply(x, net.layers[0].weight)[:2]),
    "one of two results": lambda net, x: Two.apply(x, net.layers[0].weight)[1],
    "no gradient": lambda net, x: x + Two.apply(x, net.layers[0].weight)[2][:, None],
    "no one asks": lambda net, x: (Linear.apply(x, net.layers[0].weight), x)[1],
    "nested": lambda net, x: Outer.apply(x, net.layers[0].weight),
    "in place": lambda net, x: InPlace.apply(x * 1, net.layers[0].weight),
    "a graph that is kept": lambda net, x: Kept.apply(net.layers[0], x),
    "checkpointed": lambda net, x: checkpoint(
        lambda x: Linear.apply(net.layers[1](x), net.layers[0].weight), x, use_reentrant=False
    ),
    "checkpointed, run again": lambda net, x: checkpoint(
        lambda x: net.layers[1](Again.apply(x, net.layers[0])).relu(), x, use_reentrant=False
    ),
    "checkpointed with reentrance": lambda net, x: checkpoint(
        lambda x: Again.apply(net.layers[1](x), net.layers[0]), x, use_reentrant=True
    ),
    "its input": lambda net, x: Returned.apply(x),
    "a view": lambda net, x: View.apply(x * 1).mul(2),
    "no tensors among its results": lambda net, x: Among.apply(x, net.layers[0].weight)[1],
    "containers": lambda net, x: Several.apply(
        [x.detach()], {"times": 2}, x, net.layers[0].weight, net.layers[1].weight, net.layers[1].weight.detach()
    ),
    "of each row": lambda net, x: torch.vmap(lambda row: OfRows.apply(row, net.layers[0].weight))(x),
    "its gradient": lambda net, x: torch.func.grad(lambda x: OfRows.apply(x, net.layers[0].weight).pow(2).sum())(x),
    "a gradient penalty": lambda net, x: _penalty(net, x),
    "saved elsewhere": lambda net, x: _saved_elsewhere(net, x),
    "written to afterwards": lambda net, x: Linear.apply(x, net.layers[0].weight).add_(1).relu_(),
    "one layer several times": lambda net, x: (
        Again.apply(Again.apply(x, net.layers[0]), net.layers[0]) + net.layers[0](x)
    ),
    "checkpoints in each other": lambda net, x: checkpoint(
        lambda x: checkpoint(lambda x: Linear.apply(x, net.layers[0].weight).relu(), x, use_reentrant=False).relu(),
        x,
        use_reentrant=False,
    ),
    "a checkpoint in what is run again": lambda net, x: Again.apply(
        x, lambda x: checkpoint(net.layers[0], x, use_reentrant=False)
    ),
    "a selective checkpoint": lambda net, x: checkpoint(
        lambda x: Linear.apply(net.layers[1](x).relu(), net.layers[0].weight).relu(),
        x,
        use_reentrant=False,
        context_fn=partial(create_selective_checkpoint_contexts, [torch.ops.aten.mm.default]),
    ),
    "under autocast": lambda net, x: _under_autocast(net, x),
    "without gradients": lambda net, x: _without_gradients(net, x),
}


def _under_autocast(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return Again.apply(x, net.layers[0]).float()


def _penalty(net: Net, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(Linear.apply(x, net.layers[0].weight).pow(2).sum(), x, create_graph=True)
    return gradient * x


def _saved_elsewhere(net: Net, x: Tensor) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        return Linear.apply(x, net.layers[0].weight)


def _without_gradients(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        return x + Linear.apply(x, net.layers[0].weight)


def products(report: Report) -> tuple[int, int]:
    backward = report.work("backward") + report.work("recompute")
    return int(report.work("forward").macs), int(backward.macs)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_what_autograd_dispatches(name: str) -> None:
    report, dispatched = analyze(Net(PROGRAMS[name]), (X,)), count_macs(Net(PROGRAMS[name]), (X,))
    assert report.unsupported_ops() == {}
    assert products(report) == (dispatched.forward, dispatched.backward)


def test_the_report_says_so() -> None:
    report = analyze(Net(PROGRAMS["nested"]), (X,))
    message = "test_own_code.Outer: no rule names it, so it is counted by its own forward and backward"
    assert message in report.capture_notes
    assert f"own code: {message}" in " ".join(str(report).split())


def test_gradients_of_weights_are_told_from_those_of_activations() -> None:
    report = analyze(Net(PROGRAMS["a product"]), (X,))
    assert (report.work("dgrad").macs, report.work("wgrad").macs) == (2 * PRODUCT, 3 * PRODUCT)
    recomputing = analyze(Net(PROGRAMS["run again"]), (X,))
    assert recomputing.work("wgrad").macs == 3 * PRODUCT
    assert recomputing.work("dgrad").macs == 3 * PRODUCT  # what is run again is for both


@pytest.mark.parametrize("name", ["run again, several layers", "adjoint", "a product"])
def test_parameters_trained_through_it_are_updated(name: str) -> None:
    net = Net(PROGRAMS[name], layers=1)
    updated = {entry.op for entry in analyze(net, (X,)).entries if entry.kind == "update"}
    expected = {path for path, _ in net.named_parameters()} - ({"layers.0.bias"} if name == "a product" else set())
    assert updated == expected


def test_the_model_is_as_it_was() -> None:
    net = Net(PROGRAMS["run again"])
    net.layers[0].weight.grad = gradient = torch.ones(D, D)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    analyze(net, (X,))
    assert net.layers[0].weight.grad is gradient
    assert torch.equal(gradient, torch.ones(D, D))
    assert net.first.weight.grad is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_rule_wins() -> None:
    @rule(Linear)
    def seven(x: Any) -> Cost:
        return Cost(Work(macs=7), {"x": Work(macs=5), "weight": Work()})

    plain = analyze(Net(lambda net, x: x), (X,))
    report = analyze(Net(PROGRAMS["a product"]), (X,), rules=[seven])
    assert products(report) == (products(plain)[0] + 7, products(plain)[1] + 5)
    assert not any("its own forward" in note for note in report.capture_notes)


class Block(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(D, D), function

    def forward(self, x: Tensor) -> Tensor:
        if self.function is Again:
            return Again.apply(x, self.layer)
        return Linear.apply(self.layer(x), self.layer.weight).relu()


@pytest.mark.parametrize("function", [Linear, Again])
@pytest.mark.parametrize("trained", [True, False])
def test_in_blocks_that_are_alike(function: Any, trained: bool) -> None:
    """The last of them, and the first if its input needs no gradient, are not as those between."""
    net = nn.Sequential(*(Block(function) for _ in range(5)))
    x = torch.zeros(ROWS, D, requires_grad=trained)
    report, dispatched = analyze(net, (x,)), count_macs(net, (x,))
    assert products(report) == (dispatched.forward, dispatched.backward)
    assert report == analyze(net, (x,), fold=False)


def test_a_backward_that_does_not_run_is_unknown() -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x @ x.T

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * grad.data_ptr()

    report = analyze(lambda x: Reads.apply(x), (X.clone().requires_grad_(),))
    (unknown,) = report.unknown
    assert unknown.target.endswith("Reads")
    assert "its own backward does not run on fake tensors: " in unknown.why
    assert "address" in unknown.why
    assert products(report)[0] == ROWS * D * ROWS
    assert not analyze(lambda x: Reads.apply(x), (X,)).unknown, "no gradient is asked for"


def test_only_gradients_that_come_are_there_where_it_asks_for_that() -> None:
    class Either(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(weight)
            return x @ weight, x @ weight

        @staticmethod
        def backward(ctx: Any, one: Tensor | None, other: Tensor | None) -> tuple[Tensor | None, None]:
            grads = [grad @ ctx.saved_tensors[0].T for grad in (one, other) if grad is not None]
            return sum(grads[1:], grads[0]), None

    for select in (lambda outputs: outputs[0], lambda outputs: outputs[1], lambda outputs: outputs[0] + outputs[1]):
        net = Net(lambda net, x, select=select: select(Either.apply(x, net.layers[0].weight)))
        dispatched = count_macs(net, (X,))
        assert products(analyze(net, (X,))) == (dispatched.forward, dispatched.backward)


def test_a_checkpoint_keeps_nothing_of_it() -> None:
    """A result that is saved in a region is kept by nobody afterwards: a fake tensor that outlives is an error."""

    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            y = x @ x.T
            ctx.save_for_backward(y, x)
            return y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            y, x = ctx.saved_tensors
            return (grad * y + (grad * y).T) @ x

    net = Net(lambda net, x: checkpoint(lambda x: Keeps.apply(x) @ x, x, use_reentrant=False))
    dispatched = count_macs(net, (X,))
    assert products(analyze(net, (X,))) == (dispatched.forward, dispatched.backward)
