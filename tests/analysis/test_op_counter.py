"""count_scalar_ops against counts by hand, and against float types that count their operations."""

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
import counting_numbers
from counting_numbers import Complex, Real, tallied

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


def test_a_linear_layer() -> None:
    count = count_scalar_ops(nn.Linear(D, 3), (x(),))
    assert count.forward == Work(macs=B * D * 3)
    assert count.backward == Work(macs=2 * B * D * 3, accumulate=B * 3)


def test_the_first_layer_has_no_input_gradient() -> None:
    assert count_scalar_ops(nn.Linear(D, 3), (torch.zeros(B, D),)).backward == Work(macs=B * D * 3, accumulate=B * 3)


def test_each_gradient_of_a_grouped_convolution_costs_as_much_as_forward() -> None:
    positions, filter_ = 2 * 6 * 7 * 6, 2 * 9
    count = count_scalar_ops(nn.Conv2d(4, 6, 3, groups=2), (x(2, 4, 9, 8),))
    assert count.forward == Work(macs=positions * filter_)
    assert count.backward == Work(macs=2 * positions * filter_, accumulate=positions)


def test_the_factors_of_addmm_are_multiplied_elementwise() -> None:
    count = count_scalar_ops(
        lambda c, a, b: torch.addmm(c, a, b, alpha=2, beta=3), (torch.zeros(5), torch.zeros(4, 6), torch.zeros(6, 5))
    )
    assert count.forward == Work(macs=4 * 6 * 5, elementwise=2 * 4 * 5)


def test_complex_and_integer_products() -> None:
    a, b = torch.zeros(4, 6), torch.zeros(6, 5)
    assert count_scalar_ops(torch.mm, (a.to(torch.complex64), b.to(torch.complex64))).forward == Work(
        macs=4 * 4 * 6 * 5
    )
    assert count_scalar_ops(torch.mm, (a.long(), b.long())).forward == Work(macs=4 * 6 * 5)


# -- only what is needed -------------------------------------------------------------------------------------------


def test_layer_norm_computes_its_mean_once() -> None:
    """mean 1, centre 1, square 1, add 1, scale 1, affine 2 for each element; for each row ε, two means and a root."""
    count = count_scalar_ops(nn.LayerNorm(D), (x(),)).forward
    assert count == Work(elementwise=7 * N + B, division=3 * B)


def test_only_gradients_that_are_needed_are_counted() -> None:
    """One function of PyTorch computes all three of layer norm."""
    layer = nn.LayerNorm(D)
    counted = count_scalar_ops(layer, (x(),)).backward
    layer.weight.requires_grad_(False), layer.bias.requires_grad_(False)
    input_only = count_scalar_ops(layer, (x(),)).backward
    layer.weight.requires_grad_(True), layer.bias.requires_grad_(True)
    weights_only = count_scalar_ops(layer, (torch.zeros(B, D),)).backward
    assert weights_only == Work(elementwise=3 * N, accumulate=2 * N)  # Σ dy·(x − mean)·rstd, and Σ dy
    assert input_only.accumulate == 0
    assert counted.accumulate == weights_only.accumulate
    assert counted.elementwise < input_only.elementwise + weights_only.elementwise  # x̂ is shared


def test_the_model_is_not_modified() -> None:
    layer = nn.Linear(4, 8)
    weight = layer.weight
    count_scalar_ops(layer, (x(2, 4),))
    assert layer.weight is weight
    assert weight.grad is None
    assert torch.autograd._engine_run_backward.__module__.startswith("torch")


# -- against counting floats ---------------------------------------------------------------------------------------


def relu(x: Any) -> Any:
    return counting_numbers.select(x <= 0, 0.0, x)


FUNCTIONS = {
    "sigmoid": (torch.sigmoid, lambda x: 1 / (1 + counting_numbers.exp(-x))),
    "silu": (F.silu, lambda x: x * (1 / (1 + counting_numbers.exp(-x)))),
    "gelu": (F.gelu, lambda x: (x * 0.5) * (counting_numbers.erf(x * 0.7) + 1)),
    "tanh": (torch.tanh, counting_numbers.tanh),
    "relu": (F.relu, relu),
    "square": (lambda x: x**2, lambda x: x * x),
    "polynomial": (lambda x: (3 * x - 1) * x + 2, lambda x: (3 * x - 1) * x + 2),
    "quotient": (lambda x: x / (1 + x.exp()), lambda x: x / (1 + counting_numbers.exp(x))),
    "root": (lambda x: (x + 1).sqrt(), lambda x: counting_numbers.sqrt(x + 1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementwise_functions(name: str) -> None:
    function, reference = FUNCTIONS[name]
    _, counts = tallied(reference, Real(0.7))
    assert count_scalar_ops(function, (x(),)).forward == N * Work(**counts)


def test_softmax() -> None:
    def row(*xs: Any) -> None:
        maximum = xs[0]
        for element in xs:
            maximum = counting_numbers.select(False, element, maximum)  # one comparison for each element
        exps = [counting_numbers.exp(element - maximum) for element in xs]
        total: Any = Real(0)
        for exp in exps:
            total = total + exp
        for exp in exps:
            exp / total

    _, counts = tallied(row, *[Real(1)] * D)
    assert count_scalar_ops(lambda x: x.softmax(-1), (x(),)).forward == B * Work(**counts)


COMPLEX = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "recurrence": lambda a, b: a * b - a * a,
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_operations_are_counted_in_real_ones(name: str) -> None:
    z = torch.zeros(B, D, dtype=torch.complex64)
    _, counts = tallied(COMPLEX[name], Complex(1), Complex(2j))
    assert count_scalar_ops(COMPLEX[name], (z, z.clone())).forward == N * Work(**counts)


def test_a_complex_number_times_a_real_one_is_two_multiplications() -> None:
    z = torch.zeros(B, D, dtype=torch.complex64)
    assert count_scalar_ops(torch.mul, (z, torch.zeros(B, D))).forward == Work(elementwise=2 * N)
    assert count_scalar_ops(lambda z: z / 3, (z,)).forward == Work(division=2 * N)


# -- sums of the backward pass -------------------------------------------------------------------------------------


def test_fan_in_is_accumulate() -> None:
    count = count_scalar_ops(lambda x: x.sin() * x.cos() + x, (x(),))
    assert count.backward_by_operator[FAN_IN] == Work(accumulate=2 * N)


def test_an_addition_in_a_backward_function_is_not_fan_in() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad + grad

    assert count_scalar_ops(Twice.apply, (x(),)).backward == Work(elementwise=N)


def test_a_sum_is_accumulate_only_if_it_is_a_gradient() -> None:
    product = count_scalar_ops(Rows(lambda x, w: x * w), (x(),)).backward
    assert product == Work(elementwise=2 * N, accumulate=N)
    softmax = count_scalar_ops(lambda x: x.softmax(-1), (x(),)).backward
    assert softmax == Work(elementwise=4 * N)


def test_the_gradients_of_embedding_rows_are_accumulate() -> None:
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    count = count_scalar_ops(nn.Embedding(10, 3), (tokens,))
    assert count.forward == Work()
    assert (count.backward.accumulate, count.backward.elementwise) == (2 * 5 * 3, 0)


def test_a_backward_that_runs_autograd() -> None:
    """Its matmuls and its fan-in are counted."""

    class Recomputed(torch.autograd.Function):
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
    count = count_scalar_ops(Recomputed.apply, (x(), layer))
    assert count.forward == Work(macs=product)
    assert count.backward == Work(macs=3 * product, elementwise=N, accumulate=N)
    assert layer.weight.grad is None


# -- operators without count ---------------------------------------------------------------------------------------


def test_an_operator_without_decomposition_is_listed_and_not_counted() -> None:
    count = count_scalar_ops(lambda x: x.sort()[0] + 1, (torch.zeros(B, D),))
    assert count.undecomposed == {"aten.sort.default"}
    assert count.forward == Work(elementwise=N)


def test_a_fallback_counts_operators_without_decomposition() -> None:
    count = count_scalar_ops(
        lambda x: x.sort()[0],
        (torch.zeros(B, D),),
        fallback=lambda op, args, kwargs, result: Work(elementwise=args[0].numel()),
    )
    assert (count.forward, count.undecomposed) == (Work(elementwise=N), frozenset())


@pytest.mark.parametrize("name", sorted(FREE))
def test_free_operators_have_no_arithmetic(name: str) -> None:
    """They exist, and PyTorch does not tag them as reductions."""
    packets = [getattr(namespace, name, None) for namespace in (torch.ops.aten, torch.ops.prims)]
    operators = [
        getattr(packet, overload)
        for packet in packets
        if isinstance(packet, OpOverloadPacket)
        for overload in packet.overloads()
    ]
    assert operators
    if hasattr(torch.Tag, "reduction"):  # before 2.9 there is no such tag
        assert not any(torch.Tag.reduction in operator.tags for operator in operators)


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
def test_moving_data_is_free(name: str) -> None:
    numbers = torch.arange(1.0, N + 1).reshape(B, D)
    assert set(MOVES[name](numbers).flatten().tolist()) <= {0.0, *numbers.flatten().tolist()}
    count = count_scalar_ops(MOVES[name], (numbers,))
    assert (count.forward, count.undecomposed) == (Work(), frozenset())
