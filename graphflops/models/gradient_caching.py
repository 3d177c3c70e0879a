"""Gradient caching: each gradient is used for several optimizer steps."""

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
    """Train on batches; the gradient of each is used for `every` optimizer steps.

    Args:
        loss_of: function from a batch to its loss.
        optimizer: the optimizer of the trained parameters.
        batches: one per gradient.
        every: optimizer steps per gradient.

    Returns:
        The loss of each batch before its steps.

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
