"""ResNet-BK: a language model whose tokens meet in the resolvent of a tridiagonal matrix instead of in attention."""

import dataclasses

import torch
from torch import Tensor, nn

from graphflops.models.bk_core import BKCore
from graphflops.models.configuration import ResNetBKConfig
from graphflops.models.moe import SparseMoE


class ResNetBKLayer(nn.Module):
    """f + bk_scale · output_proj(features), where f = moe_ffn(x) and the features mix the tokens.

    Each token's f is read as a potential v = clamp(v_proj(f), ±v_max) on its site, and
    features = clamp(bk_core(v), ±feature_clamp) as (Re G_ii, Im G_ii) of that potential.

    Args:
        d_model: D, the width of a token.
        n_seq: N, the length of every sequence.
        num_experts: E, experts in the mixture.
        top_k: experts that work on each token, in 1..E.
        dropout: probability of dropping a hidden unit of an expert, in [0, 1).
        use_analytic_gradient: see `BKCore`.
        grad_blend: see `BKCore`.
        v_max: the bound on |v|.
        feature_clamp: the bound on |Re G_ii| and |Im G_ii|.

    Raises:
        ValueError: an argument is of the wrong type or out of its range.
    """

    def __init__(
        self,
        d_model: int,
        n_seq: int,
        num_experts: int = 4,
        top_k: int = 1,
        dropout: float = 0.1,
        use_analytic_gradient: bool = True,
        grad_blend: float = 0.5,
        v_max: float = 3.0,
        feature_clamp: float = 10.0,
    ) -> None:
        super().__init__()
        self.v_max = v_max
        self.feature_clamp = feature_clamp
        self.moe_ffn = SparseMoE(d_model, num_experts, top_k, dropout)
        self.v_proj = nn.Linear(d_model, 1)
        self.bk_core = BKCore(n_seq, use_analytic_gradient=use_analytic_gradient, grad_blend=grad_blend)
        self.output_proj = nn.Linear(2, d_model)
        self.bk_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape and dtype."""
        ffn: Tensor = self.moe_ffn(x)
        v = self.v_proj(ffn).squeeze(-1).clamp(-self.v_max, self.v_max)
        features = self.bk_core(v).clamp(-self.feature_clamp, self.feature_clamp)
        mixed: Tensor = self.output_proj(features.to(x.dtype))
        return ffn + self.bk_scale * mixed


class ResNetBKBlock(nn.Module):
    """x + bk_layer(layer_norm(x)): the pre-norm residual around a `ResNetBKLayer`, which takes the arguments."""

    def __init__(
        self,
        d_model: int,
        n_seq: int,
        num_experts: int = 4,
        top_k: int = 1,
        dropout: float = 0.1,
        use_analytic_gradient: bool = True,
        grad_blend: float = 0.5,
    ) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(d_model)
        self.bk_layer = ResNetBKLayer(d_model, n_seq, num_experts, top_k, dropout, use_analytic_gradient, grad_blend)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape and dtype."""
        update: Tensor = self.bk_layer(self.layer_norm(x))
        return x + update


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


class LanguageModel(nn.Module):
    """Tokens (B, N) to the logits (B, N, V): embedding, `n_layers` blocks, a layer norm and a linear head.

    The arguments are the fields of `ResNetBKConfig`, which explains and checks them.

    Raises:
        ValueError: an argument is of the wrong type or out of its range.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 30000,
        d_model: int = 64,
        n_layers: int = 4,
        n_seq: int = 128,
        num_experts: int = 4,
        top_k: int = 1,
        dropout: float = 0.1,
        use_analytic_gradient: bool = True,
        grad_blend: float = 0.5,
    ) -> None:
        super().__init__()
        ResNetBKConfig(
            vocab_size, d_model, n_layers, n_seq, num_experts, top_k, dropout, use_analytic_gradient, grad_blend
        )
        self.vocab_size = vocab_size
        self.d_model = d_model
        self.n_layers = n_layers
        self.n_seq = n_seq
        self.num_experts = num_experts
        self.top_k = top_k
        self.dropout = float(dropout)
        self.use_analytic_gradient = use_analytic_gradient
        self.grad_blend = grad_blend
        self.embedding = TokenAndPositionEmbedding(vocab_size, d_model, n_seq)
        self.blocks = nn.ModuleList(
            ResNetBKBlock(d_model, n_seq, num_experts, top_k, dropout, use_analytic_gradient, grad_blend)
            for _ in range(n_layers)
        )
        self.final_layernorm = nn.LayerNorm(d_model)
        self.lm_head = nn.Linear(d_model, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits (B, N, V) of integer tokens (B, N), each in 0..V−1.

        The resolvent couples every position with every other, later ones too: the logits are not causal.

        Raises:
            ValueError: `tokens` is not an int32 or int64 tensor of shape (B, n_seq).
        """
        self._check(tokens)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.lm_head(self.final_layernorm(x))
        return logits

    def _check(self, tokens: Tensor) -> None:
        expected = f"tokens must be an int64 or int32 tensor of shape (B, n_seq) = (B, {self.n_seq})"
        if not isinstance(tokens, Tensor):
            raise ValueError(f"{expected}, got {type(tokens).__name__}; make it a tensor with torch.tensor(tokens)")
        came = f"got {tokens.dtype} of shape {tuple(tokens.shape)}"
        if tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{expected}, {came}; pass token ids, converted with tokens.long() if need be")
        if tokens.dim() != 2 or tokens.shape[1] != self.n_seq:
            raise ValueError(
                f"{expected}, {came}; cut or pad each sequence to {self.n_seq} tokens and stack them in a batch, "
                f"or build the model with another n_seq"
            )


class ConfigurableResNetBK(LanguageModel):
    """The `LanguageModel` that a `ResNetBKConfig` describes.

    `self.config` is a copy of what the model was built from: assigning to the caller's config later changes
    nothing here, and assigning to the copy does not change the model.

    Raises:
        ValueError: `config` is no `ResNetBKConfig`, or one of its fields is out of its range.
    """

    def __init__(self, config: ResNetBKConfig) -> None:
        if not isinstance(config, ResNetBKConfig):
            raise ValueError(
                f"config must be a ResNetBKConfig, got {type(config).__name__}; "
                f"pass ResNetBKConfig(d_model=64, ...) or BASELINE_CONFIG"
            )
        config = dataclasses.replace(config)  # constructs anew, and so checks again
        super().__init__(**dataclasses.asdict(config))
        self.config = config
