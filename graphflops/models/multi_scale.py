"""Multi-scale: a layer on a sequence that is shorter by a factor, with learned ways down and up."""

from __future__ import annotations

from torch import Tensor, nn

from graphflops.models.precision import LinearFactory


class AtScale(nn.Module):
    """A layer on N/f tokens, each made of f neighbours by one linear layer, f·D → D, and spread by another, D → f·D.

    Args:
        layer: for sequences of N/f tokens.
        factor: f.
        d_model: D.
        linear: what makes the two linear layers.
    """

    def __init__(self, layer: nn.Module, factor: int, d_model: int, *, linear: LinearFactory = nn.Linear) -> None:
        super().__init__()
        self.factor = factor
        self.down = linear(factor * d_model, d_model)
        self.layer = layer
        self.up = linear(d_model, factor * d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape; f divides N."""
        batch, n, d = x.shape
        coarse = self.layer(self.down(x.reshape(batch, n // self.factor, self.factor * d)))
        spread: Tensor = self.up(coarse)
        return spread.reshape(batch, n, d)
