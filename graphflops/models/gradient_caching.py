"""Gradient caching: a gradient is computed once and used for several steps of the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from graphflops.models.checks import require_size

Batch = TypeVar("Batch")


def train_reusing_gradients(
    loss_of: Callable[[Batch], Tensor], optimizer: torch.optim.Optimizer, batches: Iterable[Batch], every: int = 2
) -> list[float]:
    """Train on batches, each for `every` steps of the optimizer with the one gradient that is computed of it.

    Args:
        loss_of: a batch to its loss.
        optimizer: of the parameters that are trained.
        batches: one for each gradient.
        every: how many steps a gradient is used for.

    Returns:
        The loss of each batch, before the steps that are made on it.

    Raises:
        ValueError: `every` is not a positive integer.
    """
    require_size("every", every)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        for _ in range(every):
            optimizer.step()
    return losses
