"""Norms, losses, reductions, optimizers and the recursion of BK-Core, against textbook loops on counting numbers.

Where a rule states a published number instead, the number is tested, and by how much the textbook's differs.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import counting_numbers as c
import pytest
import torch
import torch.nn.functional as F
from cases import cost_of, costs_of, ints, reals
from counting_numbers import Complex, Real, tallied, tally_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphflops import Cost, Work, spec
from graphflops.models import BKCore, SparseMoE
from graphflops.models.bk_core import bk_core
from graphflops.report.conventions import EXACT, STANDARD
from graphflops.rules.loading import shipped

Row = list[Any]
POINTS, GRADIENT = [0.3, 0.9, 0.5, 0.7, 0.2], [1.5, -0.4, 0.8, 2.5, -1.1]
N = len(POINTS)


def total(values: Any) -> Any:
    """A sum whose first addition is into zero."""
    return sum(values, Real(0))


def plain(x: Row) -> list[float]:
    """Numbers that were kept from forward: using them is not counted, what is done with them is."""
    return [float(number) for number in x]


def mean_of(x: Row) -> float:
    return math.fsum(plain(x)) / len(x)


# -- loops over a row: forward gives its outputs; backward is given x, the outputs y that were kept, and gradients g


def softmax(x: Row) -> Row:
    e = [c.exp(number) for number in x]
    z = total(e)
    return [number / z for number in e]


def softmax_backward(x: Row, y: Row, g: Row) -> Row:
    s = total(gi * yi for gi, yi in zip(g, y, strict=True))
    return [yi * (gi - s) for gi, yi in zip(g, y, strict=True)]


def log_softmax(x: Row) -> Row:
    z = c.log(total(c.exp(number) for number in x))
    return [number - z for number in x]


def log_softmax_backward(x: Row, y: Row, g: Row) -> Row:
    s = total(g)
    return [gi - c.exp(yi) * s for gi, yi in zip(g, y, strict=True)]


EPS = 1e-6


def rms_norm(x: Row) -> Row:
    r = c.rsqrt(total(number * number for number in x) / N + EPS)
    return [number * r for number in x]


def rms_norm_backward(x: Row, y: Row, g: Row) -> Row:
    r = Real(1 / math.sqrt(math.fsum(number * number for number in plain(x)) / N + EPS))
    m = total(gi * yi for gi, yi in zip(g, y, strict=True)) / N
    return [r * (gi - yi * m) for gi, yi in zip(g, y, strict=True)]


def var(x: Row) -> Row:
    m = total(x) / N
    differences = [number - m for number in x]
    return [total(difference * difference for difference in differences) / (N - 1)]


def var_backward(x: Row, y: Row, g: Row) -> Row:
    m = Real(mean_of(x))
    return [g[0] * (2 / (N - 1) * (number - m)) for number in x]


def norm_backward(x: Row, y: Row, g: Row) -> Row:
    return [g[0] * number / y[0] for number in x]


def logsumexp_backward(x: Row, y: Row, g: Row) -> Row:
    return [g[0] * c.exp(number - y[0]) for number in x]


def cumulated(x: Row) -> Row:
    sums, s = [], Real(0)
    for number in x:
        s = s + number
        sums.append(s)
    return sums


def cumprod(x: Row) -> Row:
    products, p = [], Real(1)
    for number in x:
        p = p * number
        products.append(p)
    return products


def cumprod_backward(x: Row, y: Row, g: Row) -> Row:
    sums = cumulated([gi * yi for gi, yi in zip(g, y, strict=True)][::-1])[::-1]
    return [s / number for s, number in zip(sums, x, strict=True)]


def logcumsumexp_backward(x: Row, y: Row, g: Row) -> Row:
    sums = cumulated([gi * c.exp(-yi) for gi, yi in zip(g, y, strict=True)][::-1])[::-1]
    return [c.exp(number) * s for s, number in zip(sums, x, strict=True)]


def product(x: Row) -> Row:
    return [cumprod(x)[-1]]


LOOPS: dict[str, tuple[Any, Callable[[Row], Row], Callable[[Row, Row, Row], Row]]] = {
    "softmax": (partial(F.softmax, dim=-1), softmax, softmax_backward),
    "log softmax": (partial(F.log_softmax, dim=-1), log_softmax, log_softmax_backward),
    "rms norm": (partial(F.rms_norm, normalized_shape=(N,), eps=EPS), rms_norm, rms_norm_backward),
    "sum": (partial(torch.sum, dim=-1), lambda x: [total(x)], lambda x, y, g: g * N),
    "mean": (partial(torch.mean, dim=-1), lambda x: [total(x) / N], lambda x, y, g: [g[0] / N for _ in x]),
    "variance": (partial(torch.var, dim=-1), var, var_backward),
    "standard deviation": (
        partial(torch.std, dim=-1),
        lambda x: [c.sqrt(number) for number in var(x)],
        lambda x, y, g: var_backward(x, y, [g[0] / (2 * y[0])]),
    ),
    "norm": (
        partial(torch.linalg.vector_norm, dim=-1),
        lambda x: [c.sqrt(total(number * number for number in x))],
        norm_backward,
    ),
    "norm of order 1": (
        partial(torch.linalg.vector_norm, ord=1, dim=-1),
        lambda x: [total(abs(number) for number in x)],
        lambda x, y, g: [g[0] * (1 if number > 0 else -1) for number in x],
    ),
    "log of summed exponentials": (
        partial(torch.logsumexp, dim=-1),
        lambda x: [c.log(total(c.exp(number) for number in x))],
        logsumexp_backward,
    ),
    "cumulated sum": (partial(torch.cumsum, dim=-1), cumulated, lambda x, y, g: cumulated(g[::-1])[::-1]),
    "cumulated product": (partial(torch.cumprod, dim=-1), cumprod, cumprod_backward),
    "cumulated log sum": (
        partial(torch.logcumsumexp, dim=-1),
        lambda x: [c.log(number) for number in cumulated([c.exp(number) for number in x])],
        logcumsumexp_backward,
    ),
    "product": (partial(torch.prod, dim=-1), product, lambda x, y, g: [g[0] * y[0] / number for number in x]),
}


@pytest.mark.parametrize("name", LOOPS)
class TestRows:
    """Exactly the textbook's operations, a row at a time; three rows cost three times as much."""

    def test_forward(self, name: str) -> None:
        function, loop, _ = LOOPS[name]
        y, tally = tallied(loop, [Real(point) for point in POINTS])
        torch.testing.assert_close(torch.tensor(plain(y)), function(torch.tensor(POINTS)).reshape(-1))
        assert tally_of(cost_of(function, reals(3, N)).forward) == times(3, tally)

    def test_backward(self, name: str) -> None:
        function, _, loop = LOOPS[name]
        x = torch.tensor(POINTS, requires_grad=True)
        y = function(x)
        g = torch.tensor(GRADIENT).reshape(-1)[: y.numel()].reshape(y.shape)
        (expected,) = torch.autograd.grad(y, x, g)
        kept, gradient = ([Real(number) for number in tensor.detach().reshape(-1).tolist()] for tensor in (y, g))
        result, tally = tallied(loop, [Real(point) for point in POINTS], kept, gradient)
        torch.testing.assert_close(torch.tensor(plain(result)), expected)
        assert tally_of(cost_of(function, reals(3, N)).grads["self" if "rms" not in name else "input"]) == times(
            3, tally
        )


def times(rows: int, tally: dict[str, int]) -> dict[str, int]:
    return {name: rows * count for name, count in tally.items()}


class TestLayerNorm:
    """Published: 5 an element forward and 5 backward. The textbook's single operations are more."""

    def textbook(self, x: Row, w: Row, b: Row) -> Row:
        d = len(x)
        m = total(x) / d
        differences = [number - m for number in x]
        r = c.rsqrt(total(difference * difference for difference in differences) / d + EPS)
        return [number * r * wi + bi for number, wi, bi in zip(differences, w, b, strict=True)]

    def textbook_backward(self, normal: Row, r: Real, w: Row, dy: Row) -> tuple[Row, Row]:
        d = len(dy)
        g = [gi * wi for gi, wi in zip(dy, w, strict=True)]
        m1 = total(g) / d
        m2 = total(gi * ni for gi, ni in zip(g, normal, strict=True)) / d
        dx = [r * (gi - m1 - ni * m2) for gi, ni in zip(g, normal, strict=True)]
        return dx, [gi * ni for gi, ni in zip(dy, normal, strict=True)]

    @pytest.mark.parametrize(("rows", "d"), [(1, 1), (4, 6), (32, 64)])
    def test_is_five_and_five(self, rows: int, d: int) -> None:
        cost = cost_of(nn.LayerNorm(d), reals(rows, d))
        assert cost.forward == Work(elementwise=5 * rows * d)
        backward = sum(cost.grads.values(), Work())
        assert STANDARD.flops(backward) == 5 * rows * d
        assert backward.accumulate == 2 * rows * d, "the sums over the rows, for the weight and for the bias"

    @pytest.mark.parametrize("d", [2, 5, 9])
    def test_is_less_than_the_textbook_by_two_an_element_and_four_a_row(self, d: int) -> None:
        x, w, b = ([Real(i * number + 0.3) for i in range(d)] for number in (0.7, -0.4, 0.2))
        y, tally = tallied(self.textbook, x, w, b)
        module = nn.LayerNorm(d, eps=EPS)
        module.load_state_dict({"weight": torch.tensor(plain(w)), "bias": torch.tensor(plain(b))})
        torch.testing.assert_close(torch.tensor(plain(y)), module(torch.tensor(plain(x))).detach())
        assert sum(tally.values()) - 5 * d == 2 * d + 4

    @pytest.mark.parametrize("d", [2, 5, 9])
    def test_backward_is_less_than_the_textbook_by_four_an_element_and_two_a_row(self, d: int) -> None:
        x = torch.arange(d, dtype=torch.float64).sin().requires_grad_()
        w, dy = torch.linspace(-1, 2, d).double().requires_grad_(), torch.linspace(1, -3, d).double()
        dx, dw = torch.autograd.grad(F.layer_norm(x, (d,), w, eps=EPS), (x, w), dy)
        r = (x.var(correction=0) + EPS).rsqrt()
        normal = ((x - x.mean()) * r).tolist()
        rows = [[Real(number) for number in row] for row in (normal, w.tolist(), dy.tolist())]
        (found_x, found_w), tally = tallied(self.textbook_backward, rows[0], Real(r.item()), rows[1], rows[2])
        torch.testing.assert_close(torch.tensor(plain(found_x)).double(), dx, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.tensor(plain(found_w)).double(), dw, rtol=1e-5, atol=1e-6)
        assert sum(tally.values()) - 5 * d == 4 * d + 2

    def test_group_norm_costs_the_same(self) -> None:
        assert cost_of(nn.GroupNorm(2, 6), reals(4, 6, 5)).forward == Work(elementwise=5 * (4 * 6 * 5))


def test_softmax_is_three_an_element() -> None:
    assert STANDARD.flops(cost_of(partial(F.softmax, dim=-1), reals(4, 6)).forward) == 3 * (4 * 6)


def test_the_weight_of_rms_norm_is_a_product_and_two_gradients() -> None:
    rows, d = 4, 6
    plain_cost, cost = (cost_of(nn.RMSNorm(d, elementwise_affine=affine), reals(rows, d)) for affine in (False, True))
    assert cost.forward == plain_cost.forward + Work(elementwise=rows * d)
    assert cost.grads["input"] == plain_cost.grads["input"] + Work(elementwise=rows * d)
    assert cost.grads["weight"] == Work(elementwise=rows * d, accumulate=(rows - 1) * d)


class TestLosses:
    @staticmethod
    def bce(x: Any, y: Any) -> Any:
        return -(y * c.log(x) + (1 - y) * c.log(1 - x))

    @staticmethod
    def bce_with_logits(x: Any, y: Any) -> Any:
        return (1 - y) * x - (min(x, 0) - c.log1p(c.exp(-abs(x))))

    @staticmethod
    def huber(x: Any, y: Any) -> Any:
        d = x - y
        size = abs(d)
        return 0.5 * d * d if size < 1 else 1 * (size - 0.5)

    @staticmethod
    def smooth_l1(x: Any, y: Any) -> Any:
        d = x - y
        return 0.5 * d * d / 1 if abs(d) < 1 else abs(d) - 0.5

    FORMULAS = (
        pytest.param(F.mse_loss, lambda x, y: (d := x - y) * d, lambda x, y, g: g * (2 / 1 * (x - y)), id="mse"),
        pytest.param(
            F.binary_cross_entropy, bce, lambda x, y, g: (x - y) / (x * (1 - x)) * g, id="binary cross-entropy"
        ),
        pytest.param(
            F.binary_cross_entropy_with_logits,
            bce_with_logits,
            lambda x, y, g: (1 / (1 + c.exp(-x)) - y) * g,
            id="binary cross-entropy with logits",
        ),
        pytest.param(F.huber_loss, huber, None, id="huber"),
        pytest.param(F.smooth_l1_loss, smooth_l1, None, id="smooth l1"),
    )

    @pytest.mark.parametrize(("function", "forward", "backward"), FORMULAS)
    def test_each_element(self, function: Any, forward: Any, backward: Any) -> None:
        x, y, g = 0.8, 0.3, 1.7
        leaf = torch.tensor(x, requires_grad=True)
        value = function(leaf, torch.tensor(y))
        cost = cost_of(partial(function, reduction="none"), reals(1), reals(1))
        result, tally = tallied(forward, Real(x), Real(y))
        assert float(result) == pytest.approx(value.item())
        assert tally_of(cost.forward) == tally
        if backward is not None:
            result, tally = tallied(backward, Real(x), Real(y), Real(g))
            assert float(result) == pytest.approx(torch.autograd.grad(value * g, leaf)[0].item())
            assert tally_of(cost.grads["self"]) == tally

    @pytest.mark.parametrize("function", [F.mse_loss, F.huber_loss, F.binary_cross_entropy])
    def test_a_reduction_adds_each_and_a_mean_divides_once(self, function: Any) -> None:
        costs = {way: cost_of(partial(function, reduction=way), reals(5), reals(5)) for way in ("none", "sum", "mean")}
        assert costs["sum"].forward == costs["none"].forward + Work(elementwise=5)
        assert costs["mean"].forward == costs["sum"].forward + Work(division=1)

    def test_cross_entropy_is_log_softmax_and_a_pick(self) -> None:
        rows, classes = 4, 6
        n = rows * classes
        costs = costs_of(F.cross_entropy, reals(rows, classes), ints(rows))
        log_softmax_work = Work(elementwise=2 * n, transcendental=n + rows)
        pick = Work(elementwise=rows + rows, division=1)  # a sign and an addition each; the mean
        assert sum((cost.forward for cost in costs), Work()) == log_softmax_work + pick
        assert costs[-1].grads["self"] == Work(elementwise=rows, division=rows)


class TestEmbeddingAndBias:
    def test_looking_up_is_free_and_its_gradient_adds_every_row(self) -> None:
        cost = cost_of(nn.Embedding(10, 3), ints(2, 5))
        assert cost.forward == Work()
        assert cost.grads["weight"] == Work(elementwise=2 * 5 * 3)

    def test_a_bias_is_free_and_its_gradient_sums_every_row(self) -> None:
        with_bias, without = (cost_of(nn.Linear(6, 3, bias=bias), reals(4, 6)) for bias in (True, False))
        assert with_bias.forward == without.forward == Work(macs=4 * 6 * 3)
        assert with_bias.grads["bias"] == Work(accumulate=4 * 3)

    def test_factors_of_addmm_are_one_product_an_element(self) -> None:
        inputs = reals(2, 4), reals(2, 3), reals(3, 4)
        once, scaled = cost_of(torch.addmm, *inputs), cost_of(partial(torch.addmm, alpha=2, beta=3), *inputs)
        assert scaled.forward == once.forward + Work(elementwise=2 * (2 * 4))
        assert scaled.grads["mat1"] == once.grads["mat1"] + Work(elementwise=2 * 3)


class TestAttention:
    """Beside the matmuls, in elements of the scores: mask 1, softmax 3 and 4 back, dropout 1; the queries' scale."""

    B, H, L, S, D = 2, 4, 5, 7, 8

    def cost(self, *masks: Tensor, groups: int = 4, way: str = "math", **options: Any) -> Cost:
        q, kv = reals(self.B, self.H, self.L, self.D), reals(self.B, groups, self.S, self.D)
        run = partial(F.scaled_dot_product_attention, enable_gqa=groups != self.H, **options)
        return cost_of(run, q, kv, kv, *masks, attention=way)

    @property
    def scores(self) -> int:
        return self.B * self.H * self.L * self.S

    def test_forward(self) -> None:
        queries = self.B * self.H * self.L * self.D
        one_matmul = self.scores * self.D
        assert self.cost().forward == Work(macs=2 * one_matmul, elementwise=queries) + self.scores * Work(
            elementwise=1, transcendental=1, division=1
        )

    def test_a_mask_and_dropout_are_one_more_each(self) -> None:
        assert self.cost(reals(self.L, self.S)).forward == self.cost().forward + Work(elementwise=self.scores)
        assert self.cost(dropout_p=0.1).forward == self.cost().forward + Work(elementwise=self.scores)

    def test_flash_computes_the_scores_again(self) -> None:
        assert self.cost(way="math").recompute == Work()
        assert self.cost(way="flash").recompute.macs == self.scores * self.D
        assert self.cost(way="flash").grads == self.cost(way="math").grads

    def test_flash_does_five_matmuls_backward_for_two_forward(self) -> None:
        cost = self.cost(way="flash")
        backward = sum(cost.grads.values(), cost.recompute)
        assert 2 * backward.macs == 5 * cost.forward.macs

    def test_keys_shared_by_a_group_collect_its_gradients(self) -> None:
        keys = self.B * 2 * self.S * self.D
        grads = self.cost(groups=2).grads
        assert grads["key"].accumulate == grads["value"].accumulate == keys  # two queries' heads for each
        assert self.cost().grads["key"].accumulate == 0


class TestOptimizers:
    """One update of one number, the values those of torch.optim."""

    LR, B1, B2, MU, DECAY, T = 0.1, 0.9, 0.999, 0.8, 0.01, 3

    def moments(self, p: Any, g: Any, m: Any, v: Any) -> Any:
        m = self.B1 * m + (1 - self.B1) * g
        v = self.B2 * v + (1 - self.B2) * (g * g)
        adapted = m / (1 - self.B1**self.T) / (c.sqrt(v / (1 - self.B2**self.T)) + 1e-8)
        return p - self.LR * adapted

    def updates(self) -> dict[str, tuple[Callable[..., Any], int, Any]]:
        def momentum(p: Any, g: Any, m: Any, _: Any) -> Any:
            return p - self.LR * (self.MU * m + g)

        def adamw(p: Any, g: Any, m: Any, v: Any) -> Any:
            return self.moments(p * (1 - self.LR * self.DECAY), g, m, v)

        adam = {"lr": self.LR, "betas": (self.B1, self.B2)}
        return {
            "sgd": (lambda p, g, m, v: p - self.LR * g, 2, partial(torch.optim.SGD, lr=self.LR)),
            "sgd_momentum": (momentum, 4, partial(torch.optim.SGD, lr=self.LR, momentum=self.MU)),
            "adam": (self.moments, 14, partial(torch.optim.Adam, **adam)),
            "adamw": (adamw, 15, partial(torch.optim.AdamW, weight_decay=self.DECAY, **adam)),
        }

    @pytest.mark.parametrize("name", ["sgd", "sgd_momentum", "adam", "adamw"])
    def test_one_element(self, name: str) -> None:
        update, published, make = self.updates()[name]
        parameter = nn.Parameter(torch.tensor(0.7))
        optimizer = make([parameter])
        for gradient in (0.5, -0.2, 0.3):
            before, state = parameter.item(), dict(optimizer.state[parameter])
            parameter.grad = torch.tensor(gradient)
            kept = [float(state.get(key) or 0) for key in ("exp_avg", "exp_avg_sq")]
            kept[0] = float(state.get("momentum_buffer") or kept[0])
            optimizer.step()
        result, tally = tallied(update, *map(Real, (before, 0.3, *kept)))
        assert float(result) == pytest.approx(parameter.item(), rel=1e-5)
        cost = shipped().rules[f"optimizer.{name}"].evaluate({"param": spec(4, 6)})
        assert tally_of(cost.forward) == times(4 * 6, tally)
        assert STANDARD.flops(cost.forward) == EXACT.flops(cost.forward) == published * 4 * 6


def bk_recursion(a: Row, b: Row, z: complex) -> Row:
    """The textbook's unscaled minors and their quotients; a, b real, the bands below and above alike."""
    n = len(a)
    products = [number * number for number in b]
    shifted = [Complex(float(number) - z) for number in a]
    c.TALLY["elementwise"] += 2 * n  # a real less a complex number, as any complex addition
    theta, phi = [Complex(1), shifted[0]], [Complex(1), shifted[-1]]
    for i in range(1, n):
        theta.append(shifted[i] * theta[i] - theta[i - 1] * products[i - 1])
    for i in range(1, n - 1):
        phi.append(shifted[n - 1 - i] * phi[i] - phi[i - 1] * products[n - 1 - i])
    return [theta[i] * phi[n - 1 - i] / theta[n] for i in range(n)]


class TestBKCore:
    """Published: 34·N forward and 26·N backward, for each sequence."""

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 6), st.integers(1, 300))
    def test_is_as_published(self, batch: int, n: int) -> None:
        cost = cost_of(bk_core._opoverload, *self.inputs(batch, n))
        theta, phi, quotients = 14 * n, 14 * n, 6 * n
        assert cost.forward == Work(elementwise=batch * (theta + phi), division=batch * quotients)
        square, two_gradients = 6 * n, 2 * 10 * n
        assert cost.grads == {"diagonal": Work(elementwise=batch * (square + two_gradients))}
        assert STANDARD.flops(cost.forward) == 34 * n * batch
        assert STANDARD.flops(cost.grads["diagonal"]) == 26 * n * batch

    def inputs(self, batch: int, n: int) -> tuple[Any, ...]:
        return reals(batch, n), reals(n - 1), reals(n - 1), 0.0, 1.0, 0.5

    @pytest.mark.parametrize("n", [2, 3, 8, 20])
    def test_is_less_than_the_textbook_recursion(self, n: int) -> None:
        a, b, z = [0.1 * i - 1 for i in range(n)], [0.5 + 0.1 * i for i in range(n - 1)], 0.3 + 1j
        dense = torch.diag(torch.tensor(a)) + torch.diag(torch.tensor(b), 1) + torch.diag(torch.tensor(b), -1)
        expected = torch.linalg.inv(dense.to(torch.complex128) - z * torch.eye(n)).diagonal()
        result, tally = tallied(bk_recursion, list(map(Real, a)), list(map(Real, b)), z)
        torch.testing.assert_close(
            torch.tensor([complex(number) for number in result], dtype=torch.complex128), expected, rtol=1e-5, atol=1e-6
        )
        assert sum(tally.values()) == 40 * n - 31
        assert sum(tally.values()) - 34 * n == 6 * n - 31

    def test_its_gradient_is_more_than_that_of_the_diagonal_alone(self) -> None:
        """−Re(ḡ·G²): a square at 6, and a real part at 2 products, a difference and a sign: 10·N, of which 26·N are
        the two blended gradients with what each needs.
        """
        n = 8
        cost = cost_of(BKCoreOf(n), reals(1, n))
        assert STANDARD.flops(cost.grads["diagonal"]) - n * (6 + 4) == 16 * n


class BKCoreOf(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.core = BKCore(n)

    def forward(self, diagonal: Tensor) -> Tensor:
        features: Tensor = bk_core(diagonal, self.core.lower, self.core.upper, 0.0, 1.0, 0.5)
        return features


class TestMixtureOfExperts:
    """Published, per token: gate 2·D·E, softmax 3·E, K experts of 8·D² + 2·D; backward twice that."""

    @settings(max_examples=15, deadline=None)
    @given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.data())
    def test_is_as_published(self, tokens: int, D: int, E: int, data: st.DataObject) -> None:
        K = data.draw(st.integers(1, E))
        cost = cost_of(SparseMoE(D, num_experts=E, top_k=K), reals(tokens, D))
        published = {"gate": 2 * D * E, "softmax": 3 * E, "experts": K * (8 * D**2 + 2 * D)}
        for name, per_token in published.items():
            part = cost.parts[name]
            assert STANDARD.flops(part.forward) == tokens * per_token
            assert STANDARD.flops(sum(part.grads.values(), Work())) == 2 * tokens * per_token

    def test_what_is_beyond_the_table_stands_apart(self) -> None:
        tokens, D, E, K = 5, 4, 3, 2
        parts = cost_of(SparseMoE(D, E, K, dropout=0.1), reals(tokens, D)).parts
        beyond = {name: part.forward for name, part in parts.items() if name not in ("gate", "softmax", "experts")}
        assert beyond == {
            "top_k": Work(elementwise=tokens * E),
            "dropout": Work(elementwise=tokens * K * 2 * D),
            "combine": Work(elementwise=2 * tokens * K * D),
            "fan_in": Work(),
        }

    @pytest.mark.parametrize("quiet", [lambda moe: moe.eval(), lambda moe: SparseMoE(4, 3, 2, dropout=0.0)])
    def test_without_dropping_there_is_nothing_to_pay_for_it(self, quiet: Any) -> None:
        cost = cost_of(quiet(SparseMoE(4, 3, 2, dropout=0.1)), reals(5, 4))
        assert cost.parts["dropout"].forward == Work()

    def test_the_parts_are_the_whole(self) -> None:
        cost = cost_of(SparseMoE(4, 3, 2), reals(5, 4))
        total_cost = sum(cost.parts.values(), Cost())
        assert (total_cost.forward, total_cost.grads) == (cost.forward, cost.grads)
