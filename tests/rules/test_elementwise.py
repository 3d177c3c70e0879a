"""Functions of one element against textbook formulas on counting numbers, forward and backward, values included."""

import functools
import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import counting_numbers as c
import pytest
import torch
import torch.nn.functional as F
from cases import cost_of, costs_of, reals
from counting_numbers import Real, select, tallied, tally_of
from hypothesis import given
from hypothesis import strategies as st

from graphflops import Work

ANYWHERE = (-4.5, -2.3, -0.7, 0.4, 1.6, 7.5)
POSITIVE = (0.3, 0.9, 2.5)
BETWEEN = (0.2, 0.6, 0.9)
K = math.sqrt(2 / math.pi)
PHI = 1 / math.sqrt(2 * math.pi)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + c.exp(-x))


def bounded(x: Any, low: float, high: float) -> Any:
    return min(max(x, low), high)


def silu_backward(x: Any, _: Any, g: Any) -> Any:
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


def mish_backward(x: Any, _: Any, g: Any) -> Any:
    t = c.tanh(c.log(1 + c.exp(x)))
    return g * (t + x * sigmoid(x) * (1 - t * t))


def gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + c.tanh(K * (x + 0.044715 * (x * x * x))))


def gelu_tanh_backward(x: Any, _: Any, g: Any) -> Any:
    square = x * x
    tanh = c.tanh(K * (x + 0.044715 * (square * x)))
    return g * (0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * (K * (1 + 3 * 0.044715 * square)))


def gelu_backward(x: Any, _: Any, g: Any) -> Any:
    return g * (0.5 * (1 + c.erf(x * math.sqrt(0.5))) + x * (PHI * c.exp(-0.5 * (x * x))))


def hardswish_backward(x: Any, _: Any, g: Any) -> Any:
    below, above = x <= -3, x >= 3
    inner = g * (2 * x + 3) / 6
    return select(below, 0.0, g if above else inner)


def elu(x: Any, alpha: float = 1.5) -> Any:
    return x if x > 0 else alpha * (c.exp(x) - 1)


FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "neg": (torch.neg, lambda x: -x, lambda x, y, g: -g),
    "abs": (torch.abs, abs, lambda x, y, g: g * (1 if x > 0 else -1)),
    "sqrt": (torch.sqrt, c.sqrt, lambda x, y, g: g / (2 * y), POSITIVE),
    "rsqrt": (torch.rsqrt, c.rsqrt, lambda x, y, g: -0.5 * g * (y * y * y), POSITIVE),
    "reciprocal": (torch.reciprocal, lambda x: 1 / x, lambda x, y, g: -g * (y * y)),
    "exp": (torch.exp, c.exp, lambda x, y, g: g * y),
    "expm1": (torch.expm1, c.expm1, lambda x, y, g: g * (y + 1)),
    "exp2": (torch.exp2, c.exp2, lambda x, y, g: g * (y * math.log(2))),
    "log": (torch.log, c.log, lambda x, y, g: g / x, POSITIVE),
    "log1p": (torch.log1p, c.log1p, lambda x, y, g: g / (1 + x), POSITIVE),
    "log2": (torch.log2, c.log2, lambda x, y, g: g / (x * math.log(2)), POSITIVE),
    "sin": (torch.sin, c.sin, lambda x, y, g: g * c.cos(x)),
    "cos": (torch.cos, c.cos, lambda x, y, g: g * -c.sin(x)),
    "tan": (torch.tan, c.tan, lambda x, y, g: g * (1 + y * y), BETWEEN),
    "sinh": (torch.sinh, c.sinh, lambda x, y, g: g * c.cosh(x)),
    "cosh": (torch.cosh, c.cosh, lambda x, y, g: g * c.sinh(x)),
    "asin": (torch.asin, c.asin, lambda x, y, g: g / c.sqrt(1 - x * x), BETWEEN),
    "acos": (torch.acos, c.acos, lambda x, y, g: -(g / c.sqrt(1 - x * x)), BETWEEN),
    "atan": (torch.atan, c.atan, lambda x, y, g: g / (1 + x * x)),
    "erf": (torch.erf, c.erf, lambda x, y, g: g * (2 / math.sqrt(math.pi) * c.exp(-(x * x)))),
    "logit": (torch.logit, lambda x: c.log(x / (1 - x)), lambda x, y, g: g / (x * (1 - x)), BETWEEN),
    "square": (lambda x: x**2, lambda x: x * x, lambda x, y, g: g * (2 * x)),
    "cube": (lambda x: x**3, lambda x: x * x * x, lambda x, y, g: g * (3 * (x * x))),
    "relu": (F.relu, lambda x: max(x, 0), lambda x, y, g: g if x > 0 else 0.0),
    "relu6": (F.relu6, lambda x: bounded(x, 0, 6), lambda x, y, g: select(not (x <= 0 or x >= 6), g, 0.0)),
    "leaky relu": (F.leaky_relu, lambda x: x if x > 0 else 0.01 * x, lambda x, y, g: g if x > 0 else 0.01 * g),
    "elu": (partial(F.elu, alpha=1.5), elu, lambda x, y, g: g if x > 0 else g * (y + 1.5)),
    "celu": (
        partial(F.celu, alpha=1.5),
        lambda x: x if x > 0 else 1.5 * (c.exp(x / 1.5) - 1),
        lambda x, y, g: g if x > 0 else g * c.exp(x / 1.5),
    ),
    "sigmoid": (torch.sigmoid, sigmoid, lambda x, y, g: g * (y * (1 - y))),
    "tanh": (torch.tanh, c.tanh, lambda x, y, g: g * (1 - y * y)),
    "silu": (F.silu, lambda x: x * sigmoid(x), silu_backward),
    "softplus": (F.softplus, lambda x: c.log(1 + c.exp(x)), lambda x, y, g: g * sigmoid(x)),
    "log sigmoid": (F.logsigmoid, lambda x: -c.log(1 + c.exp(-x)), lambda x, y, g: g / (1 + c.exp(x))),
    "hard sigmoid": (
        F.hardsigmoid,
        lambda x: bounded(x + 3, 0, 6) / 6,
        lambda x, y, g: select(not (x <= -3 or x >= 3), g / 6, 0.0),
    ),
    "hard swish": (F.hardswish, lambda x: x * bounded(x + 3, 0, 6) / 6, hardswish_backward),
    "mish": (F.mish, lambda x: x * c.tanh(c.log(1 + c.exp(x))), mish_backward),
    "gelu": (F.gelu, lambda x: 0.5 * x * (1 + c.erf(x * math.sqrt(0.5))), gelu_backward),
    "gelu tanh": (partial(F.gelu, approximate="tanh"), gelu_tanh, gelu_tanh_backward),
    "clamp": (
        partial(torch.clamp, min=-1, max=1),
        lambda x: bounded(x, -1, 1),
        lambda x, y, g: select(not (x < -1 or x > 1), g, 0.0),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
class TestOneElement:
    """The rule's price is that of the longest branch of the formula; the formula's values are PyTorch's."""

    def test_forward(self, name: str) -> None:
        function, formula, _, *points = FUNCTIONS[name]
        tallies = []
        for x in points[0] if points else ANYWHERE:
            y, tally = tallied(formula, Real(x))
            assert float(y) == pytest.approx(function(torch.tensor(x)).item(), rel=1e-4, abs=1e-6)
            tallies.append(tally)
        assert tally_of(cost_of(function, reals(1)).forward) == longest(tallies)

    def test_backward(self, name: str) -> None:
        function, _, formula, *points = FUNCTIONS[name]
        tallies = []
        for x in points[0] if points else ANYWHERE:
            at = torch.tensor(x, requires_grad=True)
            y = function(at)
            (expected,) = torch.autograd.grad(y * 1.7, at)
            gradient, tally = tallied(formula, Real(x), Real(y.item()), Real(1.7))
            assert float(gradient) == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
            tallies.append(tally)
        assert tally_of(cost_of(function, reals(1)).grads["self"]) == longest(tallies)


def longest(tallies: list[dict[str, int]]) -> dict[str, int]:
    return max(tallies, key=lambda tally: sum(tally.values()))


class TestTwoOperands:
    """Gradients of each operand, and the sums over what broadcasting copied."""

    @pytest.mark.parametrize(
        ("function", "forward", "of_first", "of_second"),
        [
            (torch.add, lambda a, b: a + b, lambda a, b, g: g, lambda a, b, g: g),
            (partial(torch.add, alpha=3), lambda a, b: a + 3 * b, lambda a, b, g: g, lambda a, b, g: 3 * g),
            (torch.sub, lambda a, b: a - b, lambda a, b, g: g, lambda a, b, g: -g),
            (torch.rsub, lambda a, b: b - a, lambda a, b, g: -g, lambda a, b, g: g),
            (torch.mul, lambda a, b: a * b, lambda a, b, g: g * b, lambda a, b, g: g * a),
            (torch.div, lambda a, b: a / b, lambda a, b, g: g / b, lambda a, b, g: -g * (a / b / b)),
        ],
    )
    def test_arithmetic(
        self, function: Any, forward: Callable[..., Any], of_first: Callable[..., Any], of_second: Callable[..., Any]
    ) -> None:
        a, b, g = Real(1.3), Real(-0.7), Real(1.7)
        cost = cost_of(function, reals(1), reals(1))
        values = torch.tensor(1.3, requires_grad=True), torch.tensor(-0.7, requires_grad=True)
        y, tally = tallied(forward, a, b)
        assert tally_of(cost.forward) == tally
        assert float(y) == pytest.approx(function(*values).item())
        gradients = torch.autograd.grad(function(*values) * 1.7, values)
        for name, formula, expected in zip(("self", "other"), (of_first, of_second), gradients, strict=True):
            gradient, tally = tallied(formula, a, b, g)
            assert tally_of(cost.grads[name]) == tally, name
            assert float(gradient) == pytest.approx(expected.item()), name

    @pytest.mark.parametrize("function", [torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.pow])
    def test_a_row_that_is_broadcast_gets_the_sum_of_its_copies(self, function: Any) -> None:
        rows, width = 4, 6
        grads = cost_of(function, reals(rows, width), reals(width)).grads
        other = grads["exponent" if function is torch.pow else "other"]
        assert other.accumulate == (rows - 1) * width
        assert grads["self"].accumulate == 0

    def test_a_number_subtracted_from_changes_the_sign_of_the_gradient(self) -> None:
        assert cost_of(lambda x: 1 - x, reals(5)).grads["self"] == Work(elementwise=5)
        assert cost_of(lambda x: x - 1, reals(5)).grads["self"] == Work()


def prelu(x: Any, w: Any) -> Any:
    return x if x > 0 else w * x


SEVERAL: dict[str, tuple[Any, ...]] = {
    "a + v·b·c": (
        partial(torch.addcmul, value=0.5),
        lambda a, b, d: a + 0.5 * b * d,
        {
            "self": lambda g, a, b, d: g,
            "tensor1": lambda g, a, b, d: g * (0.5 * d),
            "tensor2": lambda g, a, b, d: g * (0.5 * b),
        },
    ),
    "a + w·(b − a)": (
        torch.lerp,
        lambda a, b, w: a + w * (b - a),
        {
            "self": lambda g, a, b, w: g * (1 - w),
            "end": lambda g, a, b, w: g * w,
            "weight": lambda g, a, b, w: g * (b - a),
        },
    ),
    "a mod b": (
        torch.fmod,
        lambda a, b: a - truncated(a / b) * b,
        {"self": lambda g, a, b: g, "other": lambda g, a, b: g * -truncated(a / b)},
    ),
    "aᵇ": (
        torch.pow,
        c.power,
        {
            "self": lambda g, a, b: g * (b * c.power(a, float(b) - 1)),
            "exponent": lambda g, a, b: g * (Real(float(a) ** float(b)) * c.log(a)),
        },
    ),
    "the larger": (
        torch.maximum,
        lambda a, b: a if a > b else b,
        {"self": lambda g, a, b: select(a > b, g, 0.0), "other": lambda g, a, b: select(a > b, 0.0, g)},
    ),
    "x or w·x": (
        torch.prelu,
        prelu,
        {
            "self": lambda g, x, w: g if x > 0 else g * w,
            "weight": lambda g, x, w: 0.0 if x > 0 else g * x,
        },
    ),
}


def truncated(x: Any) -> Any:
    c.TALLY["elementwise"] += 1
    return type(x)(math.trunc(float(x)))


@pytest.mark.parametrize("name", SEVERAL)
def test_several_operands(name: str) -> None:
    function, forward, backward = SEVERAL[name]
    points = ((1.3, 0.7, 0.4), (0.6, 1.1, -0.5)) if name != "x or w·x" else ((-1.3, 0.7), (-0.4, 0.2))
    for point in points:
        operands = [Real(number) for number in point[: len(backward) if len(backward) > 2 else 2]]
        leaves = [torch.tensor([float(operand)], requires_grad=True) for operand in operands]
        cost = costs_of(function, *[reals(1) for _ in operands])[-1]
        y, tally = tallied(forward, *operands)
        assert float(y) == pytest.approx(function(*leaves).item(), rel=1e-5)
        assert tally_of(cost.forward) == tally
        gradients = torch.autograd.grad(function(*leaves), leaves, torch.tensor([1.7]))
        for (key, formula), expected in zip(backward.items(), gradients, strict=True):
            result, tally = tallied(formula, Real(1.7), *operands)
            assert float(result) == pytest.approx(expected.item(), rel=1e-5), key
            assert tally_of(cost.grads[key]) == tally, key


def test_a_gate_has_a_gradient_for_each_half() -> None:
    """a·σ(b): σ once more backward, then g·σ and g·a·σ·(1 − σ)."""

    def backward(g: Any, a: Any, b: Any) -> Any:
        s = sigmoid(b)
        return g * s, g * a * s * (1 - s)

    cost = cost_of(F.glu, reals(2))
    leaf = torch.tensor([0.8, -0.3], requires_grad=True)
    (expected,) = torch.autograd.grad(F.glu(leaf), leaf, torch.tensor([1.7]))
    assert tally_of(cost.forward) == tallied(lambda a, b: a * sigmoid(b), Real(0.8), Real(-0.3))[1]
    result, tally = tallied(backward, Real(1.7), Real(0.8), Real(-0.3))
    assert [float(number) for number in result] == pytest.approx(expected.tolist(), rel=1e-5)
    assert tally_of(cost.grads["self"]) == tally


def test_selu_scales_an_elu() -> None:
    elu_cost, selu_cost = cost_of(F.elu, reals(5)), cost_of(F.selu, reals(5))
    assert selu_cost.forward == elu_cost.forward + Work(elementwise=5)
    assert selu_cost.grads["self"] == elu_cost.grads["self"] + Work(elementwise=5)


class TestComplex:
    """Complex numbers in real operations: add 2, multiply 6, by a real number 2, divide 9 and 2 divisions."""

    @pytest.mark.parametrize(
        ("function", "second"),
        [
            (torch.add, c.Complex(2, 1)),
            (torch.sub, c.Complex(2, 1)),
            (torch.mul, c.Complex(2, 1)),
            (torch.div, c.Complex(2, 1)),
            (torch.mul, Real(2)),
        ],
    )
    def test_arithmetic(self, function: Any, second: Any) -> None:
        dtype = torch.complex64 if isinstance(second, complex) else torch.float32
        cost = cost_of(function, torch.empty(1, dtype=torch.complex64), torch.empty(1, dtype=dtype))
        operator = {torch.add: "__add__", torch.sub: "__sub__", torch.mul: "__mul__", torch.div: "__truediv__"}
        assert tally_of(cost.forward) == tallied(getattr(c.Complex(1, 2), operator[function]), second)[1]

    def test_the_gradient_of_a_real_factor_is_a_complex_product(self) -> None:
        z = torch.empty(5, dtype=torch.complex64, requires_grad=True)
        grads = cost_of(torch.mul, z, reals(5)).grads
        assert grads["self"] == Work(elementwise=2 * 5)
        assert grads["other"] == Work(elementwise=6 * 5)

    def test_a_python_number_may_be_complex(self) -> None:
        z = torch.empty(5, dtype=torch.complex64, requires_grad=True)
        assert cost_of(lambda z: z * 1j, z).forward == Work(elementwise=6 * 5)
        assert cost_of(lambda z: z * 2.0, z).forward == Work(elementwise=2 * 5)

    def test_a_complex_multiply_add_is_four_real_ones(self) -> None:
        z = torch.empty(2, 3, dtype=torch.complex64), torch.empty(3, 4, dtype=torch.complex64)
        assert cost_of(torch.mm, *z).forward == Work(macs=4 * (2 * 3 * 4))


class TestIntegers:
    @pytest.mark.parametrize(
        ("function", "operations"),
        [
            (torch.add, 1), (torch.mul, 1), (torch.eq, 1), (torch.lt, 1), (torch.bitwise_and, 1), (torch.maximum, 1),
            (torch.floor_divide, 2), (torch.remainder, 4),
            (lambda a, b: -a, 1), (lambda a, b: a.clamp(0, 3), 2), (lambda a, b: a.sum(), 1), (lambda a, b: a**2, 1),
            (lambda a, b: a.argmax(), 1), (lambda a, b: a.cumsum(0), 1),
            (lambda a, b: torch.div(a, b, rounding_mode="floor"), 2),
        ],
    )  # fmt: skip
    def test_are_integer_work(self, function: Any, operations: int) -> None:
        a = torch.empty(5, dtype=torch.int64, device="meta")
        assert cost_of(function, a, a).forward == Work(integer=operations * 5)

    @pytest.mark.parametrize("function", [torch.eq, torch.lt, torch.logical_and])
    def test_comparisons_of_floats_are_not(self, function: Any) -> None:
        assert cost_of(function, reals(5), reals(5)).forward == Work(elementwise=5)

    def test_a_product_of_integer_matrices_is_not(self) -> None:
        a = torch.empty(3, 3, dtype=torch.int64, device="meta")
        assert cost_of(torch.mm, a, a).forward == Work(macs=3 * 3 * 3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_the_counting_number_counts_and_is_a_number(values: list[float]) -> None:
    total, tally = tallied(sum, map(Real, values))
    assert float(total) == functools.reduce(operator.add, values)  # since Python 3.12 its own sum rounds once
    assert tally == {"elementwise": len(values), "division": 0, "transcendental": 0}


def test_a_broadcast_to_nothing_sums_nothing() -> None:
    (cost,) = costs_of(lambda x: x.expand(0, 3), reals(1, 3))
    assert not cost.grads["self"]
