"""Adaptive computation: after each layer a halting unit says which sequences are done, and these skip what follows.

The unit of layer i gives h_i, the mean over a sequence of sigmoid(Linear(D/2→1)·ReLU·Linear(D→D/2)). The result is the
mean of what layers make, with the weights w_i = min(h_i, what is left of 1), the last layer taking all that is left; a
sequence goes on while something is. Its expected depth Σ i·w_i has a price, a loss term that keeps it small.

The layers are the work that data decides about, and have paths of their own (``blocks.3``); the units decide, and have
theirs (``halting.units.3``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphflops.models.losses import with_loss

Run = Callable[[nn.Module, Tensor], Tensor]
"""how a layer is called: as it is, or checkpointed"""

LEAST = 1e-3
"""what is left of 1 when a sequence is done"""


class HaltingUnit(nn.Sequential):
    """sigmoid(Linear(D/2 → 1)·ReLU·Linear(D → D/2)): how likely a token (…, D) is done, (…, 1)."""

    def __init__(self, d_model: int) -> None:
        half = max(1, d_model // 2)
        super().__init__(nn.Linear(d_model, half), nn.ReLU(), nn.Linear(half, 1), nn.Sigmoid())


class Halting(nn.Module):
    """A halting unit for each layer but the last, after which nothing is left to skip.

    Args:
        d_model: D.
        n_layers: how many layers there are.
        price: what a layer costs in the loss.
    """

    def __init__(self, d_model: int, n_layers: int, price: float = 0.01) -> None:
        super().__init__()
        self.units = nn.ModuleList(HaltingUnit(d_model) for _ in range(n_layers - 1))
        self.price = price

    def forward(self, layers: nn.ModuleList, x: Tensor, run: Run) -> Tensor:
        """What the layers make of x (B, N, D), each run on the sequences that are not done."""
        state, rows = x, torch.arange(x.shape[0], device=x.device)
        left = x.new_ones(x.shape[0])
        mean, depth = torch.zeros_like(x), x.new_zeros(x.shape[0])
        for number, layer in enumerate(layers, start=1):
            state = run(layer, state)
            last = number == len(layers)
            weight = left if last else torch.minimum(self.units[number - 1](state).mean((1, 2)), left)
            mean = mean.index_add(0, rows, weight[:, None, None] * state)
            depth = depth.index_add(0, rows, number * weight)
            if not last:
                left = left - weight
                going = left > LEAST
                state, rows, left = state[going], rows[going], left[going]
        return with_loss(mean, self.price * depth.mean()) if self.training else mean


def in_turn(layers: nn.ModuleList, x: Tensor, run: Run) -> Tensor:
    """What the layers make of x, one after the other."""
    for layer in layers:
        x = run(layer, x)
    return x
