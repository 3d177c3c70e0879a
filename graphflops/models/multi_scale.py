"""Multi-scale: a layer on a downsampled sequence, with learned downsampling and upsampling."""

from __future__ import annotations

from torch import Tensor, nn

from graphflops.models.precision import LinearFactory


class AtScale(nn.Module):
    """A layer on N/f tokens: one linear layer merges f neighbours, f·D → D, another expands them again, D → f·D.

    Args:
        layer: for sequences of N/f tokens.
        factor: f.
        d_model: D.
        linear: the class of the two linear layers.
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
        expanded: Tensor = self.up(coarse)
        return expanded.reshape(batch, n, d)
