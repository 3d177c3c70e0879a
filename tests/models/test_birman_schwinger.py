"""Birman-Schwinger: the semiseparable elimination against dense matrices, and its rule against what runs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphflops import Work, analyze
from graphflops.analysis.op_counter import count_scalar_ops
from graphflops.models import BirmanSchwingerCore
from graphflops.models.birman_schwinger import free_resolvent, perturbed_diagonal, sweep

OFF_AXIS = st.builds(complex, st.floats(-3, 3), st.floats(0.2, 2) | st.floats(-2, -0.2))
quick = settings(max_examples=25, deadline=None)


def potential(n: int, seed: int) -> Tensor:
    return 2 * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def free(n: int, z: complex) -> Tensor:
    q, c = free_resolvent(z)
    return torch.tensor([[c * q ** abs(i - j) for j in range(n)] for i in range(n)], dtype=torch.complex128)


@quick
@given(z=OFF_AXIS)
def test_the_free_resolvent_solves_its_equation_and_decays(z: complex) -> None:
    q, c = free_resolvent(z)
    assert abs(q) < 1
    assert abs(c * q + c * q - (2 + z) * c - 1) < 1e-9  # at the site itself
    assert abs(1 + q * q - (2 + z) * q) < 1e-9  # and beside it


@quick
@given(n=st.integers(1, 6), seed=st.integers(0, 2**31), z=OFF_AXIS)
def test_is_the_resolvent_that_the_operator_k_gives(n: int, seed: int, z: complex) -> None:
    v = potential(n, seed)
    left, right = v.abs().sqrt().to(torch.complex128), (v.sign() * v.abs().sqrt()).to(torch.complex128)
    r0 = free(n, z)
    k = left[:, None] * r0 * right
    g = r0 - r0 @ torch.diag(right) @ torch.linalg.inv(torch.eye(n) + k) @ torch.diag(left) @ r0
    torch.testing.assert_close(perturbed_diagonal(v, z), g.diagonal(), rtol=1e-7, atol=1e-9)


def test_is_the_resolvent_on_a_line_so_long_that_its_ends_are_not_felt() -> None:
    v, pad = potential(5, seed=0), 60
    n = 5 + 2 * pad
    line = torch.zeros(n, dtype=torch.float64).index_add(0, torch.arange(pad, pad + 5), v)
    beside = torch.ones(n - 1, dtype=torch.float64)
    h = torch.diag(line - 2) + torch.diag(beside, 1) + torch.diag(beside, -1)
    g = torch.linalg.inv(h - 1j * torch.eye(n)).diagonal()[pad : pad + 5]
    torch.testing.assert_close(perturbed_diagonal(v, 1j), g)


@quick
@given(n=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_the_pivots_multiply_to_the_determinant(n: int, seed: int) -> None:
    v = potential(n, seed)
    k = v.abs().sqrt()[:, None] * free(n, 1j) * (v.sign() * v.abs().sqrt())
    _, pivots = sweep(v, 1j)
    torch.testing.assert_close(pivots.prod(), torch.linalg.det(torch.eye(n) + k))


def test_stays_in_range_on_long_lines() -> None:
    core = BirmanSchwingerCore(3000)
    features = core(1e3 * torch.randn(1, 3000, dtype=torch.float64))
    assert features.isfinite().all()
    assert (torch.view_as_complex(features).abs() <= 1).all()  # 1 / Im z


def test_of_no_potential_is_the_free_one() -> None:
    _, c = free_resolvent(1j)
    torch.testing.assert_close(perturbed_diagonal(torch.zeros(4), 1j), torch.full((4,), c, dtype=torch.complex128))


@pytest.mark.parametrize(("batch", "n"), [(1, 1), (1, 4), (3, 7)])
def test_its_rule_is_what_runs_forward(batch: int, n: int) -> None:
    v = torch.zeros(batch, n, dtype=torch.float64, requires_grad=True)
    report = analyze(BirmanSchwingerCore(n), (v,))
    assert report.work("forward") == count_scalar_ops(BirmanSchwingerCore(n), (v,)).forward
    assert report.work("backward") == Work(elementwise=26 * batch * n)


def test_keeps_the_rules_of_a_custom_operator() -> None:
    from graphflops.models.birman_schwinger import birman_schwinger

    v = torch.randn(2, 4, requires_grad=True)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(birman_schwinger, (v, 1.0, 0.5), test_utils=tests)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("inf"), None])
def test_refuses_points_on_the_axis(epsilon: object) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        BirmanSchwingerCore(4, epsilon)
