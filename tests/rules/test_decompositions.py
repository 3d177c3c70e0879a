"""Gradients of decompositions: the matrix products that autograd dispatches, for each choice of the results used."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import pytest
import reference_macs
import torch
from cases import meta, reals
from torch import linalg

from graphflops import analyze
from graphflops.analysis.mac_counter import MacCount, count_macs

SQUARE, TALL, WIDE = (5, 5), (7, 3), (3, 7)
pivots = partial(torch.zeros, 2, 5, dtype=torch.int32)


def agree(run: Callable[..., Any], *inputs: Any) -> None:
    """Multiply-adds are those of the reference count, forward and backward, and nothing is unknown."""
    report = analyze(run, inputs, attention="math")
    assert report.coverage.unknown == 0, report.unsupported_ops()
    backward = report.work("dgrad").macs + report.work("wgrad").macs
    assert MacCount(report.work("forward").macs, backward) == count_macs(run, inputs)


def choices(count: int) -> list[tuple[int, ...]]:
    """Every choice of at least one of so many results."""
    return [chosen for size in range(1, count + 1) for chosen in combinations(range(count), size)]


def using(function: Callable[..., Any], chosen: tuple[int, ...]) -> Callable[..., Any]:
    """A function of which some results are used."""

    def run(*inputs: Any) -> list[Any]:
        results = function(*inputs)
        return [results[i] for i in chosen]

    return run


of_any_shape = pytest.mark.parametrize("shape", [SQUARE, TALL, WIDE, (2, *TALL), (2, *WIDE)])
of_any_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])


@of_any_shape
@of_any_dtype
@pytest.mark.parametrize("chosen", choices(2))
def test_qr(shape: tuple[int, ...], dtype: Any, chosen: tuple[int, ...]) -> None:
    agree(using(linalg.qr, chosen), reals(*shape, dtype=dtype))


@pytest.mark.parametrize("shape", [SQUARE, WIDE])
@pytest.mark.parametrize("chosen", choices(2))
def test_complete_qr(shape: tuple[int, ...], chosen: tuple[int, ...]) -> None:
    agree(using(partial(linalg.qr, mode="complete"), chosen), reals(*shape))


@of_any_shape
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("chosen", choices(3))
def test_svd(shape: tuple[int, ...], full: bool, chosen: tuple[int, ...]) -> None:
    agree(using(partial(linalg.svd, full_matrices=full), chosen), reals(*shape))


@of_any_shape
@of_any_dtype
@pytest.mark.parametrize("pivot", [True, False])
@pytest.mark.parametrize("chosen", [(1,), (2,), (1, 2)])
def test_lu(shape: tuple[int, ...], dtype: Any, pivot: bool, chosen: tuple[int, ...]) -> None:
    agree(using(partial(linalg.lu, pivot=pivot), chosen), reals(*shape, dtype=dtype))
    agree(using(partial(linalg.lu_factor, pivot=pivot), (0,)), reals(*shape, dtype=dtype))


@of_any_dtype
@pytest.mark.parametrize("function", [linalg.eigh, linalg.eig])
@pytest.mark.parametrize("chosen", choices(2))
def test_eigenvalues_and_eigenvectors(dtype: Any, function: Callable[..., Any], chosen: tuple[int, ...]) -> None:
    agree(using(function, chosen), reals(2, 5, 5, dtype=dtype))


@of_any_shape
@of_any_dtype
@pytest.mark.parametrize("function", [linalg.pinv, linalg.svdvals, partial(linalg.matrix_norm, ord="nuc")])
def test_what_is_made_of_singular_values(shape: tuple[int, ...], dtype: Any, function: Callable[..., Any]) -> None:
    agree(function, reals(*shape, dtype=dtype))


@pytest.mark.parametrize("function", [linalg.eigvals, linalg.eigvalsh, linalg.matrix_exp, torch.cholesky_inverse])
@of_any_dtype
def test_functions_of_a_square_matrix(function: Callable[..., Any], dtype: Any) -> None:
    agree(function, reals(2, 5, 5, dtype=dtype))


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 3, 5, 8])
def test_matrix_powers(n: int) -> None:
    agree(partial(linalg.matrix_power, n=n), reals(2, 5, 5))


each_alone = pytest.mark.parametrize("needs_grad", [(True, True), (True, False), (False, True), (False, False)])


@each_alone
@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("unitriangular", [True, False])
def test_triangular_systems(needs_grad: tuple[bool, bool], upper: bool, left: bool, unitriangular: bool) -> None:
    solve = partial(linalg.solve_triangular, upper=upper, left=left, unitriangular=unitriangular)
    columns = (2, 5, 3) if left else (2, 3, 5)
    agree(solve, meta(2, 5, 5, requires_grad=needs_grad[0]), meta(*columns, requires_grad=needs_grad[1]))


@each_alone
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_systems_by_their_factors(needs_grad: tuple[bool, bool], left: bool, adjoint: bool) -> None:
    columns = (2, 5, 3) if left else (2, 3, 5)
    solve = partial(linalg.lu_solve, left=left, adjoint=adjoint)
    agree(
        solve,
        meta(2, 5, 5, requires_grad=needs_grad[0]),
        meta(2, 5, dtype=torch.int32),
        meta(*columns, requires_grad=needs_grad[1]),
    )


@each_alone
@pytest.mark.parametrize("upper", [True, False])
def test_systems_by_their_cholesky_factor(needs_grad: tuple[bool, bool], upper: bool) -> None:
    solve = partial(torch.cholesky_solve, upper=upper)
    agree(solve, meta(2, 5, 3, requires_grad=needs_grad[0]), meta(2, 5, 5, requires_grad=needs_grad[1]))


@each_alone
@of_any_dtype
@pytest.mark.parametrize(("shape", "reflections"), [((5, 5), 5), ((7, 3), 3), ((7, 5), 2), ((7, 3), 1)])
def test_householder_products(
    needs_grad: tuple[bool, bool], dtype: Any, shape: tuple[int, int], reflections: int
) -> None:
    v, tau = (2, *shape), (2, reflections)
    inputs = (meta(*shape, dtype=dtype, requires_grad=of_it) for shape, of_it in zip((v, tau), needs_grad, strict=True))
    agree(linalg.householder_product, *inputs)


@pytest.mark.parametrize(
    "needs_grad", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
)
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("reflections", [1, 3])
def test_reflections_of_columns(needs_grad: tuple[bool, ...], left: bool, transpose: bool, reflections: int) -> None:
    shapes = (2, 7, reflections), (2, reflections), (2, 7, 4) if left else (2, 4, 7)
    inputs = (meta(*shape, requires_grad=of_it) for shape, of_it in zip(shapes, needs_grad, strict=True))
    agree(partial(torch.ormqr, left=left, transpose=transpose), *inputs)


@pytest.mark.parametrize("function", [torch.svd_lowrank, torch.pca_lowrank])
@pytest.mark.parametrize("shape", [(9, 6), (6, 9)])
@pytest.mark.parametrize("chosen", choices(3))
def test_decompositions_of_low_rank(
    function: Callable[..., Any], shape: tuple[int, ...], chosen: tuple[int, ...]
) -> None:
    agree(using(partial(function, q=3), chosen), reals(*shape))


def test_a_result_that_is_not_used_has_no_gradient() -> None:
    values, with_vectors = (analyze(using(linalg.eigh, chosen), (reals(5, 5),)) for chosen in ((0,), (0, 1)))
    assert 0 < values.backward < with_vectors.backward


@each_alone
@pytest.mark.parametrize("shape", [SQUARE, TALL, WIDE])
@pytest.mark.parametrize("columns", [(), (2,)])
def test_least_squares(needs_grad: tuple[bool, bool], shape: tuple[int, int], columns: tuple[int, ...]) -> None:
    """Data decides the rank, so PyTorch runs this on real tensors alone, and so does the reference count."""
    inputs = (
        reference_macs.seeded(*shape, requires_grad=needs_grad[0]),
        reference_macs.seeded(shape[0], *columns, requires_grad=needs_grad[1]),
    )
    report = analyze(using(linalg.lstsq, (0,)), inputs)
    assert report.coverage.unknown == 0
    macs = {"forward": report.work("forward").macs, "backward": report.work("dgrad").macs + report.work("wgrad").macs}
    assert macs == reference_macs.count_macs(using(linalg.lstsq, (0,)), inputs)
