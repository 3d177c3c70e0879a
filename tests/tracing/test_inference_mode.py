"""``torch.inference_mode`` inside of a model costs what ``torch.no_grad`` does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

LAYER, LAST = nn.Linear(8, 8), nn.Linear(8, 3)
X = torch.zeros(2, 6, 8)


def einsum(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.einsum("bnd,ed->bne", LAYER(x), LAYER.weight).flatten(1).softmax(-1)


def matmul(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return (LAYER(x) @ LAYER.weight).reshape(2, -1).type_as(x)


@torch.inference_mode()
def decorated(x: Tensor) -> Tensor:
    y = x.new_zeros(x.shape)
    y[0] = 1
    return torch.where(y > 0, LAYER(x), y)


def attention(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return nn.functional.scaled_dot_product_attention(x, x, x)


def switched_off_again(x: Tensor) -> Tensor:
    with torch.inference_mode():
        y = LAYER(x)
        with torch.inference_mode(False):
            return LAST(y.clone())


def asked_for(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return LAYER(x) if torch.is_inference_mode_enabled() else x


@pytest.mark.parametrize("program", [einsum, matmul, decorated, attention, switched_off_again, asked_for])
def test_costs_what_autograd_dispatches(program: Callable[[Tensor], Tensor]) -> None:
    report = analyze(program, (X,), attention="math")
    assert report.unsupported_ops() == {}
    dispatched = count_macs(program, (X,))
    assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
    assert dispatched.forward > 0


def test_gradients_flow_beside_it() -> None:
    class Teacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher, self.student = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            with torch.inference_mode():
                target = self.teacher(x)
            return (self.student(x) - target).pow(2).mean()

    report = analyze(Teacher(), (X,))
    assert report.work("backward").macs == 2 * 6 * 8 * 8
    assert not torch.is_inference_mode_enabled()
