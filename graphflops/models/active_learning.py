"""Active learning: of a pool of candidates, a step is made on those that the model is least sure of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Uncertainty(nn.Module):
    """The mean entropy of what a model says of each token of a sequence.

    Args:
        model: tokens (B, N) to logits (B, N, V).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Entropies (B,) of tokens (B, N)."""
        said = self.model(tokens).log_softmax(-1)
        entropy: Tensor = -(said.exp() * said).sum(-1).mean(-1)
        return entropy


@torch.no_grad()
def least_sure(model: nn.Module, pool: Tensor, count: int) -> Tensor:
    """The `count` sequences of a pool (P, N) that the model, in ``eval``, is least sure of, the least sure first.

    Raises:
        ValueError: there are not as many in the pool.
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
