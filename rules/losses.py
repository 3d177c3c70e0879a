"""Losses on n elements. Their reduction counts one addition an element, and the mean one division."""

from __future__ import annotations

import torch

from graphflops.costs import Cost, Work
from graphflops.rulebook import rule
from graphflops.sizes import Size, Spec

aten = torch.ops.aten


@rule(aten.nll_loss_forward, aten.nll_loss2d_forward)
def nll_loss(target: Spec, reduction: int) -> Cost:
    """−Σ log p[target] / n, of log-probabilities: a pick, a sign and an addition a target; backward −g/n at each.

    Cross-entropy is log-softmax, then this.
    """
    n = target.numel
    return Cost(_reduced(Work(elementwise=n), n, reduction), {"self": Work(elementwise=n, division=n)})


@rule(aten.mse_loss)
def mse_loss(self: Spec, reduction: int = 1) -> Cost:
    """Σ (x − y)² / n: subtract, square, add; each gradient 2/n·(x − y)·g: three operations."""
    n = self.numel
    gradient = Work(elementwise=3 * n)
    return Cost(_reduced(Work(elementwise=2 * n), n, reduction), {"self": gradient, "target": gradient})


@rule(aten.smooth_l1_loss, aten.huber_loss)
def huber_loss(self: Spec, reduction: int = 1) -> Cost:
    """Quadratic near zero, linear beyond: subtract, abs, compare, and the longer branch at 3; backward 5."""
    n = self.numel
    gradient = Work(elementwise=5 * n)
    return Cost(_reduced(Work(elementwise=6 * n), n, reduction), {"self": gradient, "target": gradient})


@rule(aten.binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits(self: Spec, reduction: int = 1) -> Cost:
    """(1 − y)·x − log σ(x), log σ as min(x, 0) − log(1 + e⁻|x|); backward (σ(x) − y)·g."""
    n = self.numel
    return Cost(
        _reduced(Work(elementwise=7 * n, transcendental=2 * n), n, reduction),
        {
            "self": Work(elementwise=4 * n, transcendental=n, division=n),
            "target": Work(elementwise=2 * n),
            "weight": Work(elementwise=n),
            "pos_weight": Work(elementwise=2 * n),
        },
    )


@rule(aten.binary_cross_entropy)
def binary_cross_entropy(self: Spec, reduction: int = 1) -> Cost:
    """−(y·log x + (1 − y)·log(1 − x)); backward (x − y) / (x·(1 − x))·g."""
    n = self.numel
    return Cost(
        _reduced(Work(elementwise=6 * n, transcendental=2 * n), n, reduction),
        {"self": Work(elementwise=4 * n, division=n), "target": Work(elementwise=3 * n, transcendental=2 * n)},
    )


def _reduced(work: Work, n: Size, reduction: int) -> Work:
    """A loss that is summed (2) or averaged (1); PyTorch numbers its reductions so, 0 is none."""
    if reduction == 0:
        return work
    return work + Work(elementwise=n, division=1 if reduction == 1 else 0)
