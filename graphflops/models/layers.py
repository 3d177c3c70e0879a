"""Modules of ResNet-BK: embedding, layer and block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphflops.models.precision import LinearFactory
from graphflops.models.scattering import ScatteringMoE


class TokenAndPositionEmbedding(nn.Module):
    """token[tokens] + position[0 … N−1], both learned, of width `d_model`."""

    def __init__(self, vocab_size: int, d_model: int, n_seq: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(n_seq, d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N) to vectors (B, N, D); the positions (N, D) are looked up once for the whole batch."""
        positions = torch.arange(tokens.shape[-1], device=tokens.device)
        embedded: Tensor = self.token(tokens) + self.position(positions)
        return embedded


class ResNetBKLayer(nn.Module):
    """f + bk_scale · output_proj(features), where f = moe_ffn(x) and the features mix the tokens.

    Each token's f determines a potential v = clamp(v_proj(f), ±v_max) on its site, and
    features = clamp(bk_core(v), ±feature_clamp) as (Re G_ii, Im G_ii) of that potential.

    Args:
        d_model: D, the width of a token.
        moe_ffn: (B, N, D) to the same shape.
        bk_core: potentials (B, N) to features (B, N, 2).
        linear: the class of the two projections.
        v_max: the bound on |v|.
        feature_clamp: the bound on |Re G_ii| and |Im G_ii|.
    """

    def __init__(
        self,
        d_model: int,
        moe_ffn: nn.Module,
        bk_core: nn.Module,
        *,
        linear: LinearFactory = nn.Linear,
        v_max: float = 3.0,
        feature_clamp: float = 10.0,
    ) -> None:
        super().__init__()
        self.v_max = v_max
        self.feature_clamp = feature_clamp
        self.moe_ffn = moe_ffn
        self.v_proj = linear(d_model, 1)
        self.bk_core = bk_core
        self.output_proj = linear(2, d_model)
        self.bk_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape and dtype."""
        ffn: Tensor = self.moe_ffn(x)
        return ffn + self.project(self.features(ffn))

    def features(self, x: Tensor) -> Tensor:
        """(Re G, Im G), clamped, of the potential that x (B, N, D) determines: (B, N, 2) in the dtype of x."""
        v = self.v_proj(x).squeeze(-1).clamp(-self.v_max, self.v_max)
        features: Tensor = self.bk_core(v).clamp(-self.feature_clamp, self.feature_clamp)
        return features.to(x.dtype)

    def project(self, features: Tensor) -> Tensor:
        """The update (B, N, D) of the tokens from features (B, N, 2)."""
        projected: Tensor = self.output_proj(features)
        return self.bk_scale * projected


class ScatteringLayer(ResNetBKLayer):
    """The layer with the resolvent first: x determines the potential, and the phase of G selects the experts.

    Args:
        moe_ffn: a `ScatteringMoE`; all other arguments are as in `ResNetBKLayer`.
    """

    moe_ffn: ScatteringMoE

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape and dtype."""
        features = self.features(x)
        ffn: Tensor = self.moe_ffn(x, features)
        return ffn + self.project(features)


class ResNetBKBlock(nn.Module):
    """x + bk_layer(layer_norm(x)): the pre-norm residual around a layer."""

    def __init__(self, d_model: int, bk_layer: nn.Module) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(d_model)
        self.bk_layer = bk_layer

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape and dtype."""
        update: Tensor = self.bk_layer(self.layer_norm(x))
        return x + update
