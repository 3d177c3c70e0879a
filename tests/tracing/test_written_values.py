"""Constants that are written in place are what was written, through any view, and what they were before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_run import Program, analyzed_macs, real_macs, report_of
from torch import Tensor

X = torch.zeros(12, 8)


def one_element(m: Program, x: Tensor) -> Tensor:
    length = torch.arange(5)
    length[0] = 3
    return m.linear(x[: int(length[0])])


def written_as_a_list(m: Program, x: Tensor) -> Tensor:
    lengths = torch.tensor([1, 2, 3])
    lengths[1] = 7
    lengths += 1
    return m.linear(x[: lengths[1]])


def parts_of_a_mask(m: Program, x: Tensor) -> Tensor:
    mask = torch.ones(12, dtype=torch.bool)
    mask[3:5].zero_()
    mask[7] = False
    mask[::5] = False
    return m.linear(x[mask])


def through_a_view(m: Program, x: Tensor) -> Tensor:
    counts = torch.zeros(3, 4)
    counts.view(-1)[5] = 4
    return m.linear(x[: int(counts.sum())]) if counts[1, 1] == 4 else x


def one_after_the_other(m: Program, x: Tensor) -> Tensor:
    counts = torch.zeros(6, dtype=torch.long)
    for i in range(1, 6):
        counts[i] = counts[i - 1] + 1
    return m.linear(x[: counts[-1]])


def before_and_after(m: Program, x: Tensor) -> Tensor:
    length = torch.zeros(6, dtype=torch.long)
    before = length + 1
    length.fill_(4)
    return m.linear(x[: before[0]]).sum() + m.linear(x[: length[0]])


def from_nothing(m: Program, x: Tensor) -> Tensor:
    counts = torch.empty(4)
    counts.fill_(2).mul_(3)
    return m.linear(x[: int(counts.sum()) // 3])


def by_indices(m: Program, x: Tensor) -> Tensor:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[torch.arange(3), torch.arange(3)] = True
    mask.logical_not_()
    mask.scatter_(1, torch.tensor([[1], [0], [0], [0]]), False)
    return m.linear(x[:4][mask.sum(1) > 2])


def overwritten_after_data(m: Program, x: Tensor) -> Tensor:
    length = torch.zeros(2)
    length[0] = x.sum()
    length.fill_(5)
    return m.linear(x[: int(length[0])])


def a_triangle(m: Program, x: Tensor) -> Tensor:
    hidden = torch.full((6, 6), -1e9).triu_(1)
    return m.linear(x[: int((hidden == 0).sum()) // 3])


@pytest.mark.parametrize(
    "function",
    [
        one_element,
        written_as_a_list,
        parts_of_a_mask,
        through_a_view,
        one_after_the_other,
        before_and_after,
        from_nothing,
        by_indices,
        overwritten_after_data,
        a_triangle,
    ],
)
def test_constants_have_their_written_values(function: Callable[..., Tensor]) -> None:
    model = Program(function)
    assert analyzed_macs(model, X) == real_macs(model, X) != (0, 0)
    assert not report_of(model, X).assumptions


def test_a_buffer_that_forward_counts_up_keeps_its_own_value() -> None:
    class Steps(Program):
        def __init__(self) -> None:
            super().__init__(lambda m, x: m.steps.add_(2) and m.linear(x[: int(m.steps)]))
            self.register_buffer("steps", torch.tensor(1))

    model = Steps()
    assert analyzed_macs(model, X) == real_macs(model, X) == (3 * 64, 3 * 64)
    assert model.steps.item() == 1
