"""A Transformer with the vocabulary of ResNet-BK: a baseline whose attention grows with N²."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from graphflops.models.checks import require_dropout, require_size
from graphflops.models.layers import TokenAndPositionEmbedding


class CausalAttention(nn.Module):
    """Causal softmax(q·kᵀ/√d)·v, in heads of width d = D/heads.

    Args:
        d_model: D.
        n_heads: number of heads; divides D.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape."""
        batch, n, d = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.n_heads, d // self.n_heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(attended.transpose(1, 2).reshape(batch, n, d))
        return out


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with an MLP D → 4·D → GELU → D."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = CausalAttention(d_model, n_heads)
        self.mlp_norm = nn.LayerNorm(d_model)
        self.mlp = nn.Sequential(
            nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * d_model, d_model)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class TransformerLM(nn.Module):
    """Tokens (B, N) to the logits (B, N, V): embedding, pre-norm blocks, a layer norm and a linear head.

    Args:
        vocab_size: V.
        d_model: D.
        n_layers: number of blocks.
        n_seq: maximal sequence length.
        n_heads: attention heads; divides D.
        dropout: the probability of dropping a hidden unit of an MLP in training, in [0, 1).

    Raises:
        ValueError: an argument has the wrong type or is out of range.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 30000,
        d_model: int = 64,
        n_layers: int = 4,
        n_seq: int = 128,
        n_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "d_model": d_model, "n_layers": n_layers, "n_seq": n_seq, "n_heads": n_heads}
        for name, size in sizes.items():
            require_size(name, size)
        require_dropout(dropout)
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model = {d_model}, got {n_heads!r}")
        self.embedding = TokenAndPositionEmbedding(vocab_size, d_model, n_seq)
        self.blocks = nn.ModuleList(TransformerBlock(d_model, n_heads, dropout) for _ in range(n_layers))
        self.final_layernorm = nn.LayerNorm(d_model)
        self.lm_head = nn.Linear(d_model, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits (B, N, V) of integer tokens (B, N), N at most `n_seq`."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.lm_head(self.final_layernorm(x))
        return logits
