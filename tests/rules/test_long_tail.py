"""The long tail: other products to the last multiply-add, recurrent layers, transforms and decompositions."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sympy
import torch
import torch.nn.functional as F
from cases import complexes, cost_of, ints, meta, reals
from counting_numbers import Real, tallied, tally_of
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from graphflops import Work, analyze, spec
from graphflops.analysis.mac_counter import MacCount, count_macs
from graphflops.core.sizes import size_min
from graphflops.rules.loading import shipped
from graphflops.rules.templates import ceil_log2

grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm
"""public since PyTorch 2.10"""


def agree(run: Callable[..., Any], *inputs: Any) -> None:
    report = analyze(run, inputs)
    assert report.coverage.unknown == 0, report.unsupported_ops()
    backward = report.work("dgrad").macs + report.work("wgrad").macs
    assert MacCount(report.work("forward").macs, backward) == count_macs(run, inputs)


MAC_FORMULAS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "addbmm": (torch.addbmm, ((4, 5), (2, 4, 6), (2, 6, 5))),
    "addbmm scaled": (partial(torch.addbmm, alpha=2, beta=3), ((4, 5), (2, 4, 6), (2, 6, 5))),
    "addr": (torch.addr, ((4, 5), (4,), (5,))),
    "einsum of three": (partial(torch.einsum, "ij,jk,kl->il"), ((2, 3), (3, 4), (4, 5))),
    "einsum of four": (partial(torch.einsum, "bi,ij,jk,bk->b"), ((2, 3), (3, 4), (4, 5), (2, 5))),
    "tensordot": (partial(torch.tensordot, dims=([1, 2], [0, 1])), ((2, 3, 4), (3, 4, 5))),
    "distances by matrices": (torch.cdist, ((40, 5), (60, 5))),
    "inverse": (torch.linalg.inv, ((2, 5, 5),)),
    "solve": (torch.linalg.solve, ((2, 5, 5), (2, 5, 3))),
    "solve triangular": (partial(torch.linalg.solve_triangular, upper=True), ((2, 5, 5), (2, 5, 3))),
    "cholesky": (torch.linalg.cholesky, ((2, 5, 5),)),
    "determinant": (torch.linalg.det, ((2, 5, 5),)),
    "matrix power": (partial(torch.linalg.matrix_power, n=5), ((2, 5, 5),)),
}


@pytest.mark.parametrize("name", MAC_FORMULAS)
@pytest.mark.parametrize("frozen", [None, 0, 1, 2])
def test_really_dispatched(name: str, frozen: int | None) -> None:
    run, shapes = MAC_FORMULAS[name]
    agree(run, *(meta(*shape, requires_grad=i != frozen) for i, shape in enumerate(shapes)))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True, "num_layers": 2}, {"bias": False}])
@pytest.mark.parametrize("of_input", [True, False])
def test_recurrent_layers(kind: Any, options: dict[str, Any], of_input: bool) -> None:
    agree(kind(4, 5, **options), meta(3, 2, 4, requires_grad=of_input))


@pytest.mark.parametrize("cell", [nn.RNNCell(4, 5), nn.GRUCell(4, 5), nn.LSTMCell(4, 5)])
def test_recurrent_cells(cell: nn.Module) -> None:
    agree(cell, reals(3, 4))


def test_an_lstm_is_four_gates_a_step() -> None:
    steps, batch, inputs, hidden = 3, 2, 4, 5
    work = analyze(nn.LSTM(inputs, hidden), (meta(steps, batch, inputs),)).work("forward")
    assert work.macs == steps * batch * 4 * hidden * (inputs + hidden)


@pytest.mark.parametrize(
    ("left", "right", "ends"), [((8, 8), (3, 8, 16), 3), ((8, 8), (8, 16), 3), ((3, 8, 8), (8, 16), 3)]
)
def test_a_product_in_groups_is_one_product_in_total(left: tuple[int, ...], right: tuple[int, ...], ends: int) -> None:
    factors = (meta(*operand, dtype=torch.bfloat16, requires_grad=True) for operand in (left, right))
    cost = cost_of(lambda a, b, at: grouped_mm(a, b, offs=at), *factors, meta(ends, dtype=torch.int32))
    assert cost.forward == cost.grads["self"] == cost.grads["mat2"] == Work(macs=8 * 8 * 16)


def test_the_outputs_of_a_grouped_product() -> None:
    describe = shipped().rules["aten::_grouped_mm"].output_specs
    rows, batch, ends = spec(8, 6), spec(3, 6, 4), spec(3, dtype="int32")
    assert describe({"self": rows, "mat2": batch, "offs": ends}) == (spec(8, 4),)
    assert describe({"self": rows, "mat2": spec(6, 4), "offs": ends}) == (spec(3, 8, 4),)
    assert describe({"self": spec(3, 8, 6), "mat2": batch}) == (spec(3, 8, 4),)
    assert describe({"self": spec(3, 8, 6), "mat2": spec(6, 4), "offs": ends}) == (spec(8, 4),)
    (narrow,) = describe({"self": rows, "mat2": batch, "offs": ends, "out_dtype": torch.bfloat16})
    assert narrow.dtype == "bfloat16"


def test_a_batch_of_groups_is_a_batched_product() -> None:
    a, b = (meta(3, 8, n, dtype=torch.bfloat16) for n in (8, 16))
    assert cost_of(grouped_mm, a, b).forward == cost_of(torch.bmm, a, b).forward


def test_products_of_integers_are_multiply_adds() -> None:
    a, b = meta(32, 8, dtype=torch.int8), meta(8, 16, dtype=torch.int8)
    assert cost_of(torch._int_mm, a, b).forward == Work(macs=32 * 8 * 16)


def test_a_bilinear_layer_is_a_sum_over_pairs() -> None:
    report = analyze(nn.Bilinear(4, 5, 6, bias=False), (meta(3, 4), meta(3, 5)))
    assert report.work("forward") == Work(macs=3 * 6 * 4 * 5, elementwise=3 * 6 * 4 * 5)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_a_distance(p: float) -> None:
    x, y = [0.3, 0.9, 0.5], [0.7, 0.2, 0.8]

    def distance(x: Any, y: Any) -> Any:
        total = Real(0)
        for a, b in zip(x, y, strict=True):
            d = a - b
            total = total + (d * d if p == 2 else abs(d))
        return total

    _, tally = tallied(distance, [Real(number) for number in x], [Real(number) for number in y])
    tally["division"] += p == 2  # the root
    assert tally_of(cost_of(partial(torch.cdist, p=p), reals(1, 3), reals(1, 3)).forward) == tally


class TestFourier:
    def test_is_published(self) -> None:
        assert cost_of(torch.fft.fft, complexes(3, 1024)).forward == Work(elementwise=3 * 5 * 1024 * 10)

    def test_of_reals_is_half(self) -> None:
        assert cost_of(torch.fft.rfft, reals(3, 1024)).forward == Work(elementwise=3 * 5 * 1024 * 10 // 2)

    def test_of_two_axes_is_each_of_them_in_turn(self) -> None:
        one, other = (cost_of(partial(torch.fft.fft, dim=dim), complexes(8, 16)).forward for dim in (0, 1))
        assert cost_of(torch.fft.fft2, complexes(8, 16)).forward == one + other

    @pytest.mark.parametrize("n", [*range(1, 70), 2**40 - 1, 2**40, 2**40 + 1, 3**30])
    def test_the_logarithm_is_whole_and_the_same_in_symbols(self, n: int) -> None:
        assert 2 ** ceil_log2(n) >= n > (0 if n == 1 else 2 ** (ceil_log2(n) - 1))
        symbol = sympy.Symbol("n", integer=True, positive=True)
        assert ceil_log2(symbol).subs(symbol, n) == ceil_log2(n)


class TestDecompositions:
    """Loops, whose count has the leading term of the rule."""

    @pytest.mark.parametrize("n", [40, 80])
    def test_elimination(self, n: int) -> None:
        operations = sum((n - k - 1) + 2 * (n - k - 1) ** 2 for k in range(n))
        rule = cost_of(torch.linalg.lu_factor_ex, meta(n, n)).forward.elementwise
        assert math.isclose(operations, rule, rel_tol=2 / n)

    @pytest.mark.parametrize("n", [40, 80])
    def test_cholesky(self, n: int) -> None:
        operations = sum(1 + (n - k - 1) + (n - k - 1) * (n - k) for k in range(n))
        rule = cost_of(torch.linalg.cholesky_ex, meta(n, n)).forward.elementwise
        assert math.isclose(operations, rule, rel_tol=4 / n)

    @pytest.mark.parametrize("n", [40, 80])
    def test_a_triangular_system(self, n: int) -> None:
        operations = 3 * sum(1 + 2 * k for k in range(n))
        solve = partial(torch.linalg.solve_triangular, upper=True)
        assert cost_of(solve, meta(n, n), meta(n, 3)).forward.elementwise == operations

    def test_are_linear_in_the_batch_and_four_times_as_much_of_complex(self) -> None:
        one, seven = (cost_of(torch.linalg.inv_ex, meta(batch, 6, 6)).forward for batch in (1, 7))
        assert seven == 7 * one
        assert cost_of(torch.linalg.inv_ex, meta(1, 6, 6, dtype=torch.complex64)).forward == 4 * one

    @pytest.mark.parametrize("name", ["svd", "lu_factor_ex"])
    def test_a_matrix_and_its_transpose_cost_the_same(self, name: str) -> None:
        run = getattr(torch.linalg, name)
        assert cost_of(run, meta(5, 9)).forward == cost_of(run, meta(9, 5)).forward

    def test_the_smaller_of_two_sizes_in_symbols(self) -> None:
        n = sympy.Symbol("n", integer=True, positive=True)
        assert size_min(n, 5).subs(n, 3) == size_min(3, 5) == 3


def margins(x: list[Any], labels: list[int]) -> Any:
    """The loss of one row in which every margin counts."""
    total, unlabelled = 0.0, [i for i in range(len(x)) if i not in labels]
    for label in labels:
        for other in unlabelled:
            margin = 1 - x[label] + x[other]
            if margin > 0:
                total = total + margin
    return total / len(x)


def margins_back(x: list[Any], labels: list[int]) -> list[Any]:
    gradient: list[Any] = [Real(0) for _ in x]
    for label in labels:
        for other in (i for i in range(len(x)) if i not in labels):
            if 1 - x[label] + x[other] > 0:
                gradient[label] = gradient[label] - 1 / len(x)
                gradient[other] = gradient[other] + 1 / len(x)
    return gradient


@pytest.mark.parametrize("classes", [4, 5])
def test_multilabel_margins_are_those_between_half_of_the_classes_and_the_rest(classes: int) -> None:
    row = torch.linspace(0.3, 0.5, classes, dtype=torch.float64, requires_grad=True)
    labels = list(range(classes // 2))
    target = torch.tensor([*labels, *[-1] * (classes - len(labels))])
    loss = F.multilabel_margin_loss(row, target)
    (gradient,) = torch.autograd.grad(loss, row)
    counting = [Real(number) for number in row.tolist()]

    result, forward = tallied(margins, counting, labels)
    back, backward = tallied(margins_back, counting, labels)
    assert float(result) == pytest.approx(loss.item())
    assert [float(number) for number in back] == pytest.approx(gradient.tolist())

    unreduced = cost_of(partial(F.multilabel_margin_loss, reduction="none"), reals(1, classes), ints(1, classes))
    assert tally_of(unreduced.forward) == forward
    assert tally_of(unreduced.grads["self"]) == backward


@pytest.mark.parametrize("cluster", [0, 1, 2])
def test_adaptive_softmax_is_its_head_and_the_clusters_of_its_targets(cluster: int) -> None:
    """All rows are counted in each cluster; with targets in one of them, that is what runs on real data."""
    layer, cutoffs = nn.AdaptiveLogSoftmaxWithLoss(32, 20, [5, 10], head_bias=True), [0, 5, 10, 20]
    x, target = torch.randn(6, 32, requires_grad=True), torch.full((6,), cutoffs[cluster])
    with FlopCounterMode(display=False) as forward:
        loss = layer(x, target).loss
    with FlopCounterMode(display=False) as backward:
        loss.backward()

    report = analyze(layer, (x, target), optimizer=None)
    at = ["head", *(f"tail.{cluster - 1}" for _ in range(cluster > 0))]
    entries = [entry for entry in report.entries if entry.path in at]
    assert 2 * sum(entry.work["forward"].macs for entry in entries) == forward.get_total_flops()
    gradients = sum(entry.work[phase].macs for entry in entries for phase in ("dgrad", "wgrad") if phase in entry.work)
    assert 2 * gradients == backward.get_total_flops()
    assert not report.unknown
