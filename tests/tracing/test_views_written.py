"""Several in-place writes to views in one program: as exact as one, and no assertion of PyTorch's own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

Body = Callable[[nn.Module, Tensor], Tensor]


class Runs(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.layer, self.body = nn.Linear(8, 8), body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.layer, x)


def halves(layer: nn.Module, x: Tensor) -> Tensor:
    h = layer(x)
    h[:, :4].mul_(2)
    h[:, 4:].add_(1)
    return layer(h)


def views_of_views(layer: nn.Module, x: Tensor) -> Tensor:
    h = layer(x).clone()
    view = h.view(4, 4, 8)
    first = view[0]
    first.zero_()
    view[1].copy_(x[:4])
    h[3:].mul_(2)
    return layer(view.view(16, 8)) + first.sum()


def transposed(layer: nn.Module, x: Tensor) -> Tensor:
    h = layer(x)
    turned, column = h.t(), h[:, 1]
    turned[0] = 0
    column += 1
    turned[2].mul_(3)
    return layer(turned.t())


def diagonals(layer: nn.Module, x: Tensor) -> Tensor:
    h = layer(x)
    upper = torch.diagonal(h[:8])
    upper.fill_(0)
    torch.diagonal(h[8:]).add_(upper)
    return h @ h.t()


def row_by_row(layer: nn.Module, x: Tensor) -> Tensor:
    rows = torch.empty(4, 16, 8)
    for i in range(4):
        rows[i] = layer(x)
        rows[i, :2] *= 2
    return layer(rows.sum(0))


def strided(layer: nn.Module, x: Tensor) -> Tensor:
    h = layer(x)
    even, odd = h.as_strided((8, 8), (16, 1)), h.as_strided((8, 8), (16, 1), 8)
    even.mul_(2)
    odd.add_(even)
    return layer(h)


def masked(layer: nn.Module, x: Tensor) -> Tensor:
    distances = x.square().sum(-1)[:, None] - x.square().sum(-1)
    distances.masked_fill_(torch.zeros(16, 16, dtype=torch.bool), 1e9)
    distances.diagonal().fill_(0.0)
    distances[0].add_(1)
    return layer(layer(x)[distances.topk(4, largest=False).indices])


@pytest.mark.parametrize("body", [halves, views_of_views, transposed, diagonals, row_by_row, strided, masked])
def test_writes_to_views_are_exact(body: Body) -> None:
    model, x = Runs(body), torch.randn(16, 8)
    report, dispatched = analyze(model, (x,)), count_macs(model, (x,))
    assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
    assert not report.unsupported_ops()
