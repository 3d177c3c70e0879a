"""Koopman: a linear operator on lifted, wider states predicts a nonlinear layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from graphflops.models.checks import require_size
from graphflops.models.losses import with_loss
from graphflops.models.precision import LinearFactory


class Koopman(nn.Module):
    """x ↦ ψ(K·φ(x)), with the lift φ: D → K → tanh → K, an operator K×K without bias, and a projection ψ: K → D.

    Args:
        d_model: D, the width of a token.
        koopman_dim: K, the width of a lifted token.
        linear: the class of the linear layers.
    """

    def __init__(self, d_model: int, koopman_dim: int = 256, *, linear: LinearFactory = nn.Linear) -> None:
        super().__init__()
        require_size("koopman_dim", koopman_dim)
        self.lift = nn.Sequential(linear(d_model, koopman_dim), nn.Tanh(), linear(koopman_dim, koopman_dim))
        self.operator = linear(koopman_dim, koopman_dim, bias=False)
        self.project = linear(koopman_dim, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """The predicted output for x (…, D), in the same shape."""
        projected: Tensor = self.project(self.operator(self.lift(x)))
        return projected

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """mse(ψ(K·φ(x)), y) + mse(K·φ(x), φ(y)): the prediction error for x, plain and lifted; y is detached."""
        y = y.detach()
        advanced = self.operator(self.lift(x))
        return F.mse_loss(self.project(advanced), y) + F.mse_loss(advanced, self.lift(y))


class KoopmanLayer(nn.Module):
    """A layer, with a `Koopman` that learns to predict it in training and replaces it in ``eval`` mode.

    Args:
        layer: x ↦ y of the same shape.
        koopman: the predictor.
    """

    def __init__(self, layer: nn.Module, koopman: Koopman) -> None:
        super().__init__()
        self.layer = layer
        self.koopman = koopman

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape."""
        if not self.training:
            predicted: Tensor = self.koopman(x)
            return predicted
        y: Tensor = self.layer(x)
        return with_loss(y, self.koopman.loss(x.detach(), y))
