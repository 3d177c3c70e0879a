"""Loss terms that a module adds to its output's gradient, without changes to the training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class WithLoss(torch.autograd.Function):
    """Returns `x` unchanged; in the backward pass the gradient of `loss` is 1, as if it were added to the total loss.

    ``loss_of(model(tokens)).backward()`` thus trains the terms of all modules. Scaling the total loss does not scale
    them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        """A view of `x`; `loss` is a scalar."""
        ctx.dtype = loss.dtype
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of `x` unchanged, and 1."""
        (grad,) = grads
        return grad, torch.ones((), dtype=ctx.dtype, device=grad.device)


def with_loss(x: Tensor, loss: Tensor) -> Tensor:
    """`x`, whose backward pass also trains `loss`."""
    output: Tensor = WithLoss.apply(x, loss)  # type: ignore[no-untyped-call]
    return output
