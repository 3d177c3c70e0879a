"""Adaptive computation: after each layer a halting unit decides which sequences skip the remaining layers.

The unit of layer i computes h_i, the mean over a sequence of sigmoid(Linear(D/2→1)·ReLU·Linear(D→D/2)). The output is
the mean of the layers' outputs with weights w_i = min(h_i, remainder of 1); the last layer gets the whole remainder. A
sequence continues while its remainder is positive. A loss term keeps its expected depth Σ i·w_i small.

The layers are data-dependent work at paths such as ``blocks.3``; the halting units are at ``halting.units.3``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphflops.models.losses import with_loss

Run = Callable[[nn.Module, Tensor], Tensor]
"""how a layer is called: directly, or checkpointed"""

MIN_REMAINDER = 1e-3
"""a sequence with a smaller remainder is finished"""


class HaltingUnit(nn.Sequential):
    """sigmoid(Linear(D/2 → 1)·ReLU·Linear(D → D/2)): the probability (…, 1) that a token (…, D) is finished."""

    def __init__(self, d_model: int) -> None:
        half = max(1, d_model // 2)
        super().__init__(nn.Linear(d_model, half), nn.ReLU(), nn.Linear(half, 1), nn.Sigmoid())


class Halting(nn.Module):
    """A halting unit for each layer but the last.

    Args:
        d_model: D.
        n_layers: number of layers.
        price: weight of the expected depth in the loss.
    """

    def __init__(self, d_model: int, n_layers: int, price: float = 0.01) -> None:
        super().__init__()
        self.units = nn.ModuleList(HaltingUnit(d_model) for _ in range(n_layers - 1))
        self.price = price

    def forward(self, layers: nn.ModuleList, x: Tensor, run: Run) -> Tensor:
        """The output of the layers for x (B, N, D), each run on the unfinished sequences."""
        state, rows = x, torch.arange(x.shape[0], device=x.device)
        remainder = x.new_ones(x.shape[0])
        mean, depth = torch.zeros_like(x), x.new_zeros(x.shape[0])
        for number, layer in enumerate(layers, start=1):
            state = run(layer, state)
            last = number == len(layers)
            weight = remainder if last else torch.minimum(self.units[number - 1](state).mean((1, 2)), remainder)
            mean = mean.index_add(0, rows, weight[:, None, None] * state)
            depth = depth.index_add(0, rows, number * weight)
            if not last:
                remainder = remainder - weight
                going = remainder > MIN_REMAINDER
                state, rows, remainder = state[going], rows[going], remainder[going]
        return with_loss(mean, self.price * depth.mean()) if self.training else mean


def run_all(layers: nn.ModuleList, x: Tensor, run: Run) -> Tensor:
    """The output of the layers for x, one after the other."""
    for layer in layers:
        x = run(layer, x)
    return x
