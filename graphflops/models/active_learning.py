"""Active learning: train on the candidates of a pool that the model is most uncertain about."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Uncertainty(nn.Module):
    """The entropy of a model's predictions, averaged over the tokens of a sequence.

    Args:
        model: tokens (B, N) to logits (B, N, V).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Entropies (B,) of tokens (B, N)."""
        log_probs = self.model(tokens).log_softmax(-1)
        entropy: Tensor = -(log_probs.exp() * log_probs).sum(-1).mean(-1)
        return entropy


@torch.no_grad()
def most_uncertain(model: nn.Module, pool: Tensor, count: int) -> Tensor:
    """The `count` sequences of a pool (P, N) with the highest entropy in ``eval`` mode, the highest first.

    Raises:
        ValueError: the pool has fewer sequences.
    """
    if not 1 <= count <= pool.shape[0]:
        raise ValueError(f"count must be in 1..{pool.shape[0]}, the size of the pool, got {count!r}")
    was_training = model.training
    model.eval()
    try:
        chosen = Uncertainty(model)(pool).topk(count).indices
    finally:
        model.train(was_training)
    return pool[chosen]
