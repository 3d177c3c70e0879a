"""The scattering router: the phase of the resolvent selects the experts, without parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphflops.models.checks import require_top_k
from graphflops.models.moe import Experts


class ScatteringRouter(nn.Module):
    """Expert e has the phase 2π·e/E; a token's weights are the k largest of p = softmax_e cos(arg G − 2π·e/E).

    Args:
        num_experts: E.
        top_k: k.
    """

    phases: Tensor

    def __init__(self, num_experts: int, top_k: int) -> None:
        super().__init__()
        require_top_k(top_k, num_experts)
        self.top_k = top_k
        self.register_buffer("phases", 2 * math.pi * torch.arange(num_experts) / num_experts, persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (T, k) and expert indices (T, k) from features (T, 2), which are (Re G, Im G)."""
        phase = torch.atan2(features[..., 1], features[..., 0])
        closeness = (phase.unsqueeze(-1) - self.phases.to(phase.dtype)).cos()
        weights, chosen = closeness.softmax(dim=-1).topk(self.top_k, dim=-1)
        return weights, chosen


class ScatteringMoE(nn.Module):
    """`Experts` behind a `ScatteringRouter`."""

    def __init__(self, experts: Experts, router: ScatteringRouter) -> None:
        super().__init__()
        self.experts = experts
        self.router = router

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Map tokens x (B, N, D) with features (B, N, 2) to the shape and dtype of x."""
        weights, chosen = self.router(features.reshape(-1, 2))
        mixed: Tensor = self.experts(x.reshape(-1, x.shape[-1]), weights.to(x.dtype), chosen)
        return mixed.reshape(x.shape)
