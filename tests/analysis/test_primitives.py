"""The primitives witness, against counts by hand and against floats that count what is done with them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._ops import OpOverloadPacket
from torch.nn import functional as F

from graphflops import Work
from graphflops.analysis.op_counter import FAN_IN, count_scalar_ops
from graphflops.analysis.op_counter.operations import FREE

sys.path.insert(0, str(Path(__file__).parents[1] / "rules"))
import counted
from counted import Complex, Real, tallied

B, D = 4, 6
N = B * D


def x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape or (B, D), dtype=dtype, requires_grad=True)


class Rows(nn.Module):
    """A layer of one weight vector."""

    def __init__(self, apply: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(D))
        self.apply_weight = apply

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.weight)


# -- matrix products -----------------------------------------------------------------------------------------------


def test_a_linear_layer_is_a_product_each_way_and_a_sum_of_rows() -> None:
    seen = count_scalar_ops(nn.Linear(D, 3), (x(),))
    assert seen.forward == Work(macs=B * D * 3)
    assert seen.backward == Work(macs=2 * B * D * 3, accumulate=B * 3)


def test_the_first_layer_has_no_gradient_of_its_input() -> None:
    assert count_scalar_ops(nn.Linear(D, 3), (torch.zeros(B, D),)).backward == Work(macs=B * D * 3, accumulate=B * 3)


def test_a_convolution_of_groups_costs_each_way_what_it_costs_forward() -> None:
    positions, filter_ = 2 * 6 * 7 * 6, 2 * 9
    seen = count_scalar_ops(nn.Conv2d(4, 6, 3, groups=2), (x(2, 4, 9, 8),))
    assert seen.forward == Work(macs=positions * filter_)
    assert seen.backward == Work(macs=2 * positions * filter_, accumulate=positions)


def test_a_scaled_product_is_scaled_element_by_element() -> None:
    seen = count_scalar_ops(
        lambda c, a, b: torch.addmm(c, a, b, alpha=2, beta=3), (torch.zeros(5), torch.zeros(4, 6), torch.zeros(6, 5))
    )
    assert seen.forward == Work(macs=4 * 6 * 5, elementwise=2 * 4 * 5)


def test_complex_and_integer_products() -> None:
    a, b = torch.zeros(4, 6), torch.zeros(6, 5)
    assert count_scalar_ops(torch.mm, (a.to(torch.complex64), b.to(torch.complex64))).forward == Work(
        macs=4 * 4 * 6 * 5
    )
    assert count_scalar_ops(torch.mm, (a.long(), b.long())).forward == Work(macs=4 * 6 * 5)


# -- what is needed ------------------------------------------------------------------------------------------------


def test_layer_norm_takes_its_mean_once() -> None:
    """mean 1, centre 1, square 1, add 1, scale 1, affine 2 for each element; for each row ε, two means and a root."""
    seen = count_scalar_ops(nn.LayerNorm(D), (x(),)).forward
    assert seen == Work(elementwise=7 * N + B, division=3 * B)


def test_of_the_gradients_only_those_that_are_asked_for_are_counted() -> None:
    """One function of PyTorch makes all three of layer norm."""
    layer = nn.LayerNorm(D)
    everything = count_scalar_ops(layer, (x(),)).backward
    layer.weight.requires_grad_(False), layer.bias.requires_grad_(False)
    of_input = count_scalar_ops(layer, (x(),)).backward
    layer.weight.requires_grad_(True), layer.bias.requires_grad_(True)
    of_weights = count_scalar_ops(layer, (torch.zeros(B, D),)).backward
    assert of_weights == Work(elementwise=3 * N, accumulate=2 * N)  # Σ dy·(x − mean)·rstd, and Σ dy
    assert of_input.accumulate == 0
    assert everything.accumulate == of_weights.accumulate
    assert everything.elementwise < of_input.elementwise + of_weights.elementwise  # x̂ is shared


def test_a_module_is_as_it_was() -> None:
    layer = nn.Linear(4, 8)
    weight = layer.weight
    count_scalar_ops(layer, (x(2, 4),))
    assert layer.weight is weight
    assert weight.grad is None
    assert torch.autograd._engine_run_backward.__module__.startswith("torch")


# -- against counting floats ---------------------------------------------------------------------------------------


def relu(x: Any) -> Any:
    return counted.select(x <= 0, 0.0, x)


FUNCTIONS = {
    "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + counted.exp(-x))),
    "silu": (F.silu, lambda x: x * (1 / (1 + counted.exp(-x)))),
    "gelu": (F.gelu, lambda x: (x * 0.5) * (counted.erf(x * 0.7) + 1)),
    "tanh": (torch.tanh, counted.tanh),
    "relu": (F.relu, relu),
    "square": (lambda x: x**2, lambda x: x * x),
    "polynomial": (lambda x: (3 * x - 1) * x + 2, lambda x: (3 * x - 1) * x + 2),
    "quotient": (lambda x: x / (1 + x.exp()), lambda x: x / (1 + counted.exp(x))),
    "root": (lambda x: (x + 1).sqrt(), lambda x: counted.sqrt(x + 1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementwise_functions_are_their_operations(name: str) -> None:
    function, reference = FUNCTIONS[name]
    _, each = tallied(reference, Real(0.7))
    assert count_scalar_ops(function, (x(),)).forward == N * Work(**each)


def test_softmax_and_its_maximum() -> None:
    def row(*xs: Any) -> None:
        top = xs[0]
        for each in xs:
            top = counted.select(False, each, top)  # one comparison an element, as the engine counts a maximum
        exps = [counted.exp(each - top) for each in xs]
        total: Any = Real(0)
        for each in exps:
            total = total + each
        for each in exps:
            each / total

    _, each = tallied(row, *[Real(1)] * D)
    assert count_scalar_ops(lambda x: x.softmax(-1), (x(),)).forward == B * Work(**each)


COMPLEX = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "recurrence": lambda a, b: a * b - a * a,
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_work_is_in_real_operations(name: str) -> None:
    z = torch.zeros(B, D, dtype=torch.complex64)
    _, each = tallied(COMPLEX[name], Complex(1), Complex(2j))
    assert count_scalar_ops(COMPLEX[name], (z, z.clone())).forward == N * Work(**each)


def test_a_complex_number_times_a_real_one_is_two_products() -> None:
    z = torch.zeros(B, D, dtype=torch.complex64)
    assert count_scalar_ops(torch.mul, (z, torch.zeros(B, D))).forward == Work(elementwise=2 * N)
    assert count_scalar_ops(lambda z: z / 3, (z,)).forward == Work(division=2 * N)


# -- sums of the backward pass -------------------------------------------------------------------------------------


def test_gradients_that_meet_are_accumulate() -> None:
    seen = count_scalar_ops(lambda x: x.sin() * x.cos() + x, (x(),))
    assert seen.backward_by_operator[FAN_IN] == Work(accumulate=2 * N)


def test_an_addition_of_a_formula_is_no_fan_in() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad + grad

    assert count_scalar_ops(Twice.apply, (x(),)).backward == Work(elementwise=N)


def test_a_sum_that_is_a_gradient_is_accumulate_and_one_that_is_computed_with_is_not() -> None:
    product = count_scalar_ops(Rows(lambda x, w: x * w), (x(),)).backward
    assert product == Work(elementwise=2 * N, accumulate=N)
    softmax = count_scalar_ops(lambda x: x.softmax(-1), (x(),)).backward
    assert softmax == Work(elementwise=4 * N)


def test_rows_of_a_table_get_their_gradients_added() -> None:
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    seen = count_scalar_ops(nn.Embedding(10, 3), (tokens,))
    assert seen.forward == Work()
    assert (seen.backward.accumulate, seen.backward.elementwise) == (2 * 5 * 3, 0)


def test_a_backward_that_runs_autograd_itself() -> None:
    """Its products and its fan-in are counted, as those of a graph in a graph."""

    class Again(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
            ctx.save_for_backward(x)
            ctx.layer = layer
            return layer(x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
            (x,) = ctx.saved_tensors
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                y = ctx.layer(x) + x
            torch.autograd.backward(y, grad)
            return x.grad, None

    layer, product = nn.Linear(D, D, bias=False), B * D * D
    seen = count_scalar_ops(Again.apply, (x(), layer))
    assert seen.forward == Work(macs=product)
    assert seen.backward == Work(macs=3 * product, elementwise=N, accumulate=N)
    assert layer.weight.grad is None


# -- what is not counted -------------------------------------------------------------------------------------------


def test_what_cannot_be_taken_apart_is_named_and_in_no_number() -> None:
    seen = count_scalar_ops(lambda x: x.sort()[0] + 1, (torch.zeros(B, D),))
    assert seen.undecomposed == {"aten.sort.default"}
    assert seen.forward == Work(elementwise=N)


def test_who_knows_better_is_asked() -> None:
    seen = count_scalar_ops(
        lambda x: x.sort()[0],
        (torch.zeros(B, D),),
        fallback=lambda op, args, kwargs, result: Work(elementwise=args[0].numel()),
    )
    assert (seen.forward, seen.undecomposed) == (Work(elementwise=N), frozenset())


@pytest.mark.parametrize("name", sorted(FREE))
def test_what_is_zero_by_name_is_an_operator_without_arithmetic(name: str) -> None:
    """Each exists, and PyTorch tags none of them as computing: they move, name or draw what is there."""
    packets = [getattr(each, name, None) for each in (torch.ops.aten, torch.ops.prims)]
    found = [
        getattr(each, overload)
        for each in packets
        if isinstance(each, OpOverloadPacket)
        for overload in each.overloads()
    ]
    assert found
    if hasattr(torch.Tag, "reduction"):  # before 2.9 there is no such tag
        assert not any({torch.Tag.reduction} & set(each.tags) for each in found)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "clone": torch.clone,
    "cast": lambda x: x.double(),
    "cat": lambda x: torch.cat([x, x]),
    "stack": lambda x: torch.stack([x, x]),
    "roll": lambda x: x.roll(1),
    "flip": lambda x: x.flip(0),
    "pad": lambda x: F.pad(x, (1, 1)),
    "gather": lambda x: x.gather(1, torch.zeros(4, 1, dtype=torch.int64)),
    "index": lambda x: x[torch.zeros(3, dtype=torch.int64)],
    "embedding": lambda x: F.embedding(torch.zeros(3, dtype=torch.int64), x),
    "scatter": lambda x: x.scatter(1, torch.zeros(4, 1, dtype=torch.int64), x[:, :1]),
    "select_scatter": lambda x: x.select_scatter(x[0], 0, 1),
    "slice_scatter": lambda x: x.slice_scatter(x[:2], 0, 0, 2),
    "repeat": lambda x: x.repeat(2, 1),
    "transpose": lambda x: x.t().contiguous(),
    "unfold": lambda x: x.unfold(-1, 3, 2),
}


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_data_gives_back_what_it_was_given_and_costs_nothing(name: str) -> None:
    numbers = torch.arange(1.0, N + 1).reshape(B, D)
    assert set(MOVES[name](numbers).flatten().tolist()) <= {0.0, *numbers.flatten().tolist()}
    seen = count_scalar_ops(MOVES[name], (numbers,))
    assert (seen.forward, seen.undecomposed) == (Work(), frozenset())
