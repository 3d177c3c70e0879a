"""Loss terms that a module adds by itself: they ride on what it returns, and ask nothing of whoever trains it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class WithLoss(torch.autograd.Function):
    """Hands `x` on as it is; on the way back the gradient of `loss` starts here, as if it had been added to the whole.

    So whoever calls ``loss_of(model(tokens)).backward()`` trains the terms of all modules, and sees none of them.
    A term is not scaled by what the caller scales the whole with.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        """`x` itself, as a view; `loss` is one number."""
        ctx.dtype = loss.dtype
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of `x` as it comes, and 1."""
        (grad,) = grads
        return grad, torch.ones((), dtype=ctx.dtype, device=grad.device)


def with_loss(x: Tensor, loss: Tensor) -> Tensor:
    """`x`, through which a backward pass trains `loss` too."""
    carried: Tensor = WithLoss.apply(x, loss)  # type: ignore[no-untyped-call]
    return carried
