"""ResNet-BK language models: LanguageModel takes fields, ConfigurableResNetBK a configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphflops.models.adaptive import Halting, run_all
from graphflops.models.configuration import ResNetBKConfig, without_options
from graphflops.models.distillation import Distillation
from graphflops.models.layers import TokenAndPositionEmbedding
from graphflops.models.parts import make_blocks, make_head


class LanguageModel(nn.Module):
    """Tokens (B, N) to the logits (B, N, V): embedding, `n_layers` blocks, a layer norm and a linear head.

    Args:
        fields: fields of `ResNetBKConfig`, which documents and checks them. Each is an attribute of the model.

    Raises:
        TypeError: no such field.
        ValueError: a field has the wrong type or is out of range.
    """

    vocab_size: int
    n_seq: int
    use_gradient_checkpointing: bool
    use_curriculum_learning: bool

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        config = ResNetBKConfig(**fields)
        for name, value in dataclasses.asdict(config).items():
            setattr(self, name, value)
        self.embedding = TokenAndPositionEmbedding(config.vocab_size, config.d_model, config.n_seq)
        self.blocks = make_blocks(config)
        self.final_layernorm = nn.LayerNorm(config.d_model)
        self.lm_head = make_head(config)
        self.halting = Halting(config.d_model, config.n_layers) if config.use_adaptive_computation else None
        self.distillation = (
            Distillation(LanguageModel(**dataclasses.asdict(without_options(config))))
            if config.use_distillation
            else None
        )
        self.shortest = max(config.scales)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """The logits (B, N, V) of integer tokens (B, N), each in 0..V−1; with targets (B, N), their cross-entropy.

        In training, a backward pass from the result also trains the loss terms of the options `use_koopman`,
        `use_physics_informed`, `use_distillation` and `use_adaptive_computation`. They are not part of its value.

        The resolvent couples every position with all others, including later ones: the logits are not causal.

        Raises:
            ValueError: `tokens` is not an int32 or int64 tensor of shape (B, n_seq), or `targets` of another shape.
        """
        self._check("tokens", tokens)
        if targets is not None:
            self._check("targets", targets)
        run = _checkpointed if self.use_gradient_checkpointing and self.training else _direct
        run_layers = run_all if self.halting is None else self.halting
        x = run_layers(self.blocks, self.embedding(tokens), run)
        logits: Tensor = self.lm_head(self.final_layernorm(x))
        if self.distillation is not None:
            logits = self.distillation(logits, tokens)
        return logits if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten().long())

    def _check(self, name: str, tokens: Tensor) -> None:
        expected = f"{name} must be an int64 or int32 tensor of shape (B, n_seq) = (B, {self.n_seq})"
        if not isinstance(tokens, Tensor):
            raise ValueError(f"{expected}, got {type(tokens).__name__}; make it a tensor with torch.tensor({name})")
        actual = f"got {tokens.dtype} of shape {tuple(tokens.shape)}"
        if tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{expected}, {actual}; pass token ids, converted with {name}.long() if need be")
        if tokens.dim() != 2 or not self._takes(tokens.shape[1]):
            shorter = f", or to fewer in steps of {self.shortest}" if self.use_curriculum_learning else ""
            raise ValueError(
                f"{expected}, {actual}; cut or pad each sequence to {self.n_seq} tokens{shorter} and stack them in a "
                f"batch, or build the model with another n_seq"
            )

    def _takes(self, length: int) -> bool:
        if not self.use_curriculum_learning:
            return length == self.n_seq
        return 1 <= length <= self.n_seq and length % self.shortest == 0


class ConfigurableResNetBK(LanguageModel):
    """The `LanguageModel` that a `ResNetBKConfig` describes.

    `self.config` is a copy of the config. Later assignments to either do not change the model.

    Raises:
        ValueError: `config` is not a `ResNetBKConfig`, or a field is out of range.
    """

    def __init__(self, config: ResNetBKConfig) -> None:
        if not isinstance(config, ResNetBKConfig):
            raise ValueError(
                f"config must be a ResNetBKConfig, got {type(config).__name__}; "
                f"pass ResNetBKConfig(d_model=64, ...) or BASELINE_CONFIG"
            )
        config = dataclasses.replace(config)  # checks the fields again
        super().__init__(**dataclasses.asdict(config))
        self.config = config


def _direct(layer: nn.Module, x: Tensor) -> Tensor:
    """Call a layer."""
    y: Tensor = layer(x)
    return y


def _checkpointed(layer: nn.Module, x: Tensor) -> Tensor:
    """Call a layer that saves only its input, and runs again in the backward pass."""
    y: Tensor = checkpoint(layer, x, use_reentrant=False)
    return y
