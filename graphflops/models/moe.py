"""A sparse mixture of experts: each token is processed by its top k experts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphflops.models.checks import require_dropout, require_size, require_top_k
from graphflops.models.precision import LinearFactory
from graphflops.models.quantization import QuantizedLinear


class Experts(nn.ModuleList):
    """E experts, each D → 2D → ReLU → dropout → D, each run only on the tokens routed to it.

    Args:
        d_model: D, the width of a token.
        num_experts: E.
        dropout: the probability of dropping a hidden unit in training, in [0, 1).
        linear: the class of their linear layers.
    """

    def __init__(
        self, d_model: int, num_experts: int, dropout: float = 0.1, *, linear: LinearFactory = nn.Linear
    ) -> None:
        super().__init__(
            nn.Sequential(linear(d_model, 2 * d_model), nn.ReLU(), nn.Dropout(dropout), linear(2 * d_model, d_model))
            for _ in range(num_experts)
        )
        self.dropout = float(dropout)
        self.quantization_bits = next(
            (module.bits for module in self.modules() if isinstance(module, QuantizedLinear)), None
        )

    @property
    def num_experts(self) -> int:
        """E."""
        return len(self)

    def forward(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Σ_k weights_k · expert_{chosen_k}(token) for tokens (T, D), of weights (T, k) and indices chosen (T, k)."""
        mixed = torch.zeros_like(tokens)
        for index, expert in enumerate(self):
            # An expert without tokens runs on an empty batch: no data-dependent branch is needed.
            token, slot = torch.where(chosen == index)
            weighted = weights[token, slot].unsqueeze(-1) * expert(tokens[token])
            mixed = mixed.index_add(0, token, weighted)
        return mixed


class SparseMoE(nn.Module):
    """y = Σ_{e in top-k(p)} p_e · expert_e(x), with p = softmax(gate(x)) over all E experts.

    The work per token is that of k experts. The k weights are not renormalized to sum to 1: with k = 1 the weight would
    be the constant 1, and the gate would receive no gradient.

    Args:
        d_model: D, the width of a token.
        num_experts: E.
        top_k: k, experts per token, in 1..E.
        dropout: the probability of dropping a hidden unit in training, in [0, 1).
        linear: the class of the experts' linear layers.
        gate: the class of the gate.

    Raises:
        ValueError: an argument has the wrong type or is out of range.
    """

    def __init__(
        self,
        d_model: int,
        num_experts: int = 4,
        top_k: int = 1,
        dropout: float = 0.1,
        *,
        linear: LinearFactory = nn.Linear,
        gate: LinearFactory = nn.Linear,
    ) -> None:
        super().__init__()
        require_size("d_model", d_model)
        require_size("num_experts", num_experts)
        require_top_k(top_k, num_experts)
        require_dropout(dropout)
        self.d_model = d_model
        self.num_experts = num_experts
        self.top_k = top_k
        self.dropout = float(dropout)
        self.gate = gate(d_model, num_experts)
        self.experts = Experts(d_model, num_experts, dropout, linear=linear)
        self.quantization_bits = self.experts.quantization_bits

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens x (..., D) to the same shape and dtype."""
        tokens = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(tokens).softmax(dim=-1).topk(self.top_k, dim=-1)
        mixed: Tensor = self.experts(tokens, weights, chosen)
        return mixed.reshape(x.shape)
