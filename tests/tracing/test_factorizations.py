"""A program that asks whether a factorization succeeded goes on as in a run in which it did."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

X = torch.eye(4)


def with_any(x: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(x @ x)
    if torch.any(info):
        raise ValueError("not positive definite")
    return factor @ x


def with_item(x: Tensor) -> Tensor:
    inverse, info = torch.linalg.inv_ex(x @ x)
    return inverse @ x if info.item() == 0 else x


def in_a_loop(x: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(x @ x)
    while bool((info > 0).any()):
        x = x + 1
        factor, info = torch.linalg.cholesky_ex(x @ x)
    return factor


def of_two(x: Tensor) -> Tensor:
    lu, _, info = torch.linalg.lu_factor_ex(x @ x)
    solved, failed = torch.linalg.solve_ex(x, lu)
    return solved @ x if not info.any() and not failed.any() else x


@pytest.mark.parametrize("program", [with_any, with_item, in_a_loop, of_two])
def test_it_succeeded(program: Callable[[Tensor], Tensor]) -> None:
    x = X.clone().requires_grad_()
    report, dispatched = analyze(program, (x,)), count_macs(program, (x,))
    assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
    assert report.assumptions == ()
