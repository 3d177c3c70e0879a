"""Physics-informed training: a loss term for the energy that a layer adds or removes."""

from __future__ import annotations

from torch import Tensor, nn

from graphflops.models.losses import with_loss


class Energy(nn.Module):
    """E(x) = ½·mean_n ‖x_{n+1} − x_n‖² + mean_n u(x_n): kinetic energy along the line, and a learned potential.

    Args:
        d_model: D, the width of a token.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.potential = nn.Linear(d_model, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The energies (B,) of states x (B, N, D)."""
        kinetic = x.diff(dim=1).square().sum(-1).sum(-1) / (2 * x.shape[1])
        potential: Tensor = self.potential(x).squeeze(-1).mean(-1)
        return kinetic + potential


class EnergyConserving(nn.Module):
    """A layer with the loss term mean_B (E(x + layer(x)) − E(x))² in training.

    Args:
        layer: x ↦ update of x.
        energy: E.
    """

    def __init__(self, layer: nn.Module, energy: Energy) -> None:
        super().__init__()
        self.layer = layer
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        """The update of x (B, N, D)."""
        update: Tensor = self.layer(x)
        if not self.training:
            return update
        gained = self.energy(x + update) - self.energy(x)
        return with_loss(update, gained.square().mean())
