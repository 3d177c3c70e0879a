"""Gradients that a program takes by itself: their operators, and gradients of gradients, beside what autograd runs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import GRADIENTS, Case, cost_of, costs_of, gradient_of, meta, ops_of, reals
from reference_macs import math_kernels
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from graphflops import Work, analyze
from graphflops.analysis.costing import call_arguments
from graphflops.analysis.mac_counter import count_macs
from graphflops.rules.loading import shipped
from graphflops.rules.templates import gradient


def macs_of(model: Callable[..., Any], *inputs: Any) -> tuple[int, int]:
    """Multiply-adds forward and backward, of a report that knows every operation."""
    report = analyze(model, inputs, optimizer=None, attention="math")
    assert not report.unknown
    return report.macs, int(report.under("torch").backward) // 2


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Conv2d(4, 6, 3, padding=1), (2, 4, 9, 8)),
    "convolution with a stride": (lambda: nn.Conv2d(4, 6, 3, 2, 1), (2, 4, 9, 8)),
    "convolution, dilated": (lambda: nn.Conv2d(4, 6, (3, 1), (2, 1), dilation=2), (2, 4, 9, 8)),
    "convolution in groups": (lambda: nn.Conv2d(4, 6, 3, 2, 1, groups=2), (2, 4, 9, 8)),
    "convolution, depthwise": (lambda: nn.Conv2d(4, 4, 3, 2, groups=4), (2, 4, 9, 8)),
    "convolution without a bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), (2, 4, 9, 8)),
    "convolution of a line": (lambda: nn.Conv1d(4, 6, 3, 2), (2, 4, 10)),
    "convolution of a volume": (lambda: nn.Conv3d(4, 6, 3, 2), (2, 4, 5, 6, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), (2, 4, 5, 4)),
    "transposed in groups": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, groups=2), (2, 4, 5)),
    "linear": (lambda: nn.Linear(8, 5), (2, 3, 8)),
    "bilinear": (lambda: Twice(nn.Bilinear(8, 8, 3)), (2, 8)),
    "layer norm": (lambda: nn.LayerNorm(8), (2, 3, 8)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 9)),
    "batch norm": (lambda: nn.BatchNorm2d(4), (2, 4, 9, 8)),
    "batch norm, evaluated": (lambda: nn.BatchNorm2d(4).eval(), (2, 4, 9, 8)),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), (2, 4, 9, 8)),
    "rms norm": (lambda: nn.RMSNorm(8), (2, 3, 8)),
    "softmax": (lambda: nn.Softmax(-1), (2, 8)),
    "log softmax": (lambda: nn.LogSoftmax(-1), (2, 8)),
    "maximum pooling": (lambda: nn.MaxPool2d(2), (2, 4, 8, 8)),
    "average pooling": (lambda: nn.AvgPool2d(2), (2, 4, 8, 8)),
    "adaptive pooling": (lambda: nn.AdaptiveAvgPool2d(3), (2, 4, 9, 8)),
    "adaptive maximum pooling": (lambda: nn.AdaptiveMaxPool2d(3), (2, 4, 9, 8)),
    "nearest": (lambda: nn.Upsample(scale_factor=2), (2, 4, 4, 4)),
    "bilinear interpolation": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (2, 4, 4, 4)),
    "reflected": (lambda: nn.ReflectionPad2d(1), (2, 4, 4, 4)),
    "unfold": (lambda: nn.Unfold(2), (2, 4, 4, 4)),
    "recurrent cell": (lambda: nn.GRUCell(8, 5), (2, 8)),
    "dropout": (lambda: nn.Dropout(0.5), (2, 8)),
    "prelu": (lambda: nn.PReLU(8), (2, 8)),
    **{
        name: (make, (2, 8))
        for name, make in {
            "relu": nn.ReLU,
            "leaky relu": nn.LeakyReLU,
            "elu": nn.ELU,
            "selu": nn.SELU,
            "celu": nn.CELU,
            "silu": nn.SiLU,
            "gelu": nn.GELU,
            "gelu by tanh": partial(nn.GELU, "tanh"),
            "mish": nn.Mish,
            "softplus": nn.Softplus,
            "hardtanh": nn.Hardtanh,
            "hardswish": nn.Hardswish,
            "log sigmoid": nn.LogSigmoid,
            "sigmoid": nn.Sigmoid,
            "tanh": nn.Tanh,
            "glu": nn.GLU,
        }.items()
    },
}


class Twice(nn.Module):
    """A layer of two inputs, given the same one twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x, x)


class Penalized(nn.Module):
    """The layer's result, and the square of its gradient, through which a gradient is taken again."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return y.mean() + slope.square().sum()


class Trained(nn.Module):
    """A layer after one step of its own on its squares: second-order meta-learning."""

    def __init__(self, layer: nn.Module, *, twice: bool) -> None:
        super().__init__()
        self.layer = layer
        self.twice = twice

    def forward(self, x: Tensor) -> Any:
        weights = dict(self.layer.named_parameters())
        loss = self.layer(x).square().sum()
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=self.twice)
        moved = {name: value - 0.1 * g for (name, value), g in zip(weights.items(), slopes, strict=True)}
        return torch.func.functional_call(self.layer, moved, (x,))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", LAYERS)
def test_a_penalty_on_the_gradient_is_what_autograd_runs(name: str) -> None:
    make, shape = LAYERS[name]
    dispatched = count_macs(Penalized(make()), (reals(*shape),))
    assert macs_of(Penalized(make()), reals(*shape)) == (dispatched.forward, dispatched.backward)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("name", [name for name, (make, _) in LAYERS.items() if list(make().parameters())])
def test_a_step_on_the_weights_is_what_autograd_runs(name: str, twice: bool) -> None:
    make, shape = LAYERS[name]
    dispatched = count_macs(Trained(make(), twice=twice), (reals(*shape),))
    assert macs_of(Trained(make(), twice=twice), reals(*shape)) == (dispatched.forward, dispatched.backward)


@pytest.mark.parametrize("case", GRADIENTS, ids=repr)
def test_no_operator_of_a_gradient_has_a_generic_price(case: Case) -> None:
    rules = {op.target: shipped().find(op.call) for op in ops_of(case) if "backward" in op.target}
    assert not [target for target, rule in rules.items() if rule is None or rule.name.startswith("generic")]


ONCE: dict[str, Callable[..., Any]] = {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "elu": F.elu, "silu": F.silu, "gelu": F.gelu, "mish": F.mish,
    "softplus": F.softplus, "hardswish": F.hardswish, "log_sigmoid": F.logsigmoid, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "softmax": partial(F.softmax, dim=-1), "log_softmax": partial(F.log_softmax, dim=-1),
    "layer_norm": lambda x: F.layer_norm(x, (6,)), "glu": F.glu,
}  # fmt: skip


@pytest.mark.parametrize("name", ONCE)
def test_a_gradient_run_by_itself_costs_what_the_rule_of_its_function_says(name: str) -> None:
    (op,) = ops_of(Case("", ONCE[name], (reals(4, 6),)))
    rule = shipped().find(op.call)
    assert rule is not None
    claimed = gradient(rule.evaluate(call_arguments(op, {"attention": "flash"})), "self", "input")
    ops = ops_of(Case("", gradient_of(ONCE[name], create_graph=False), (reals(4, 6),)))
    (itself,) = (op for op in ops if "backward" in op.target)
    op_rule = shipped().find(itself.call)
    assert op_rule is not None
    assert op_rule.evaluate(call_arguments(itself, {"attention": "flash"})).forward == claimed != Work()


class SumCounter(TorchDispatchMode):
    """Counts the additions of the sums that are dispatched while it is open."""

    additions = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **kwargs or {})
        if op.overloadpacket is torch.ops.aten.sum:
            self.additions += max(args[0].numel() - result.numel(), 0)  # of nothing, none
        return result


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 1, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6)),
        ((1, 4, 5, 8), (2, 4, 7, 8), (2, 1, 7, 6)),
        ((5, 8), (4, 7, 8), (4, 7, 6)),
        ((2, 4, 5, 8), (7, 8), (7, 6)),
        ((0, 4, 5, 8), (1, 4, 7, 8), (1, 4, 7, 6)),
    ],
)
def test_gradients_of_attention_that_broadcasts_are_summed(shapes: tuple[tuple[int, ...], ...]) -> None:
    operands = [torch.randn(shape, requires_grad=True) for shape in shapes]
    cost = cost_of(F.scaled_dot_product_attention, *operands, attention="math")
    with math_kernels():
        out = F.scaled_dot_product_attention(*operands)
    with SumCounter() as counter:
        out.backward(torch.ones_like(out))
    assert sum(cost.grads[name].accumulate for name in ("query", "key", "value")) == counter.additions


def test_attention_has_its_gradients_the_way_that_is_said() -> None:
    attend = gradient_of(F.scaled_dot_product_attention, create_graph=False)
    products = {
        way: sum(cost.forward.macs for cost in costs_of(attend, *[reals(2, 4, 5, 8)] * 3, attention=way))
        for way in ("flash", "math")
    }
    once = 2 * 4 * 5 * 5 * 8
    assert products == {"flash": 7 * once, "math": 6 * once}


def test_samples_have_their_gradients_by_a_transformation() -> None:
    layer = nn.Conv2d(2, 3, 3, device="meta")

    def per_sample(x: Tensor) -> Any:
        def loss(weights: Any, sample: Tensor) -> Tensor:
            return torch.func.functional_call(layer, weights, (sample[None],)).square().sum()

        weights = {name: parameter.detach() for name, parameter in layer.named_parameters()}
        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)

    x = meta(5, 2, 6, 6)
    dispatched = count_macs(per_sample, (x,))
    assert macs_of(per_sample, x) == (dispatched.forward, dispatched.backward)
    assert dispatched.forward == 2 * 5 * 3 * 16 * 18
