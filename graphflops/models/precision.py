"""Mixed precision: matrix products in bfloat16, with weights in float32."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearFactory(Protocol):
    """A class or function that creates a linear layer, with the arguments of ``nn.Linear``."""

    def __call__(self, in_features: int, out_features: int, bias: bool = True) -> nn.Module:
        """A layer from `in_features` to `out_features`."""


class CastLinear(nn.Linear):
    """A linear layer that casts its parameters to the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class InBfloat16(nn.Module):
    """Runs a layer in bfloat16; the output has the dtype of the input.

    Args:
        layer: made of `CastLinear` layers.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for x."""
        y: Tensor = self.layer(x.to(torch.bfloat16))
        return y.to(x.dtype)
