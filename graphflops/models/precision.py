"""Mixed precision: products in bfloat16, of weights that are kept in float32."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearFactory(Protocol):
    """What makes a linear layer; ``nn.Linear`` does, and so do its kin here and in ``quantization``."""

    def __call__(self, in_features: int, out_features: int, bias: bool = True) -> nn.Module:
        """A layer from `in_features` to `out_features`."""


class CastLinear(nn.Linear):
    """A linear layer in the dtype of its input, whatever the dtype of its parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class InBfloat16(nn.Module):
    """A layer whose input is rounded to bfloat16, and whose output goes on in the dtype that the input came in.

    Args:
        layer: of `CastLinear` layers, so that it works in the dtype of its input.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of x."""
        y: Tensor = self.layer(x.to(torch.bfloat16))
        return y.to(x.dtype)
