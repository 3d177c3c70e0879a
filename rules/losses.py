"""Losses on n elements. Their reduction counts one addition an element, and the mean one division."""

from __future__ import annotations

import torch

from graphflops.costs import NOTHING, Cost, Work
from graphflops.rulebook import rule
from graphflops.sizes import Size, Spec

aten = torch.ops.aten

NO_REDUCTION, MEAN = 0, 1


@rule(aten.nll_loss_forward, aten.nll_loss2d_forward)
def nll_loss(target: Spec, reduction: int, weight: Spec | None = None) -> Cost:
    """−Σ log p[target] / n, of log-probabilities: a pick, a sign and an addition a target; backward −g/n at each.

    Weights of the classes multiply each term, and n is then their sum. Cross-entropy is log-softmax, then this.
    """
    n = target.numel
    forward = _reduced(Work(elementwise=n), n, reduction)
    backward = Work(elementwise=n, division=n if reduction == MEAN else 0)
    if weight is not None:
        forward += Work(elementwise=2 * n if reduction == MEAN else n)
        backward += Work(elementwise=n)
    return Cost(forward, {"self": backward})


@rule(aten.mse_loss)
def mse_loss(self: Spec, reduction: int = 1) -> Cost:
    """Σ (x − y)² / n: subtract, square, add; each gradient 2/n·(x − y)·g: three operations."""
    n = self.numel
    gradient = Work(elementwise=3 * n)
    return Cost(_reduced(Work(elementwise=2 * n), n, reduction), {"self": gradient, "target": gradient})


@rule(aten.huber_loss)
def huber_loss(self: Spec, reduction: int = 1) -> Cost:
    """d²/2 or δ·(|d| − δ/2): subtract, abs, compare, and either branch at 2. Backward d or ±δ, times 1/n and g:
    subtract, two comparisons, two products.
    """
    n = self.numel
    gradient = Work(elementwise=5 * n)
    return Cost(_reduced(Work(elementwise=5 * n), n, reduction), {"self": gradient, "target": gradient})


@rule(aten.smooth_l1_loss)
def smooth_l1_loss(self: Spec, reduction: int = 1) -> Cost:
    """d²/2β or |d| − β/2: as ``huber_loss`` with a division by β, the longer branch counted each way."""
    divided = Work(division=self.numel)
    return huber_loss(self, reduction) + Cost(divided, {"self": divided, "target": divided})


@rule(aten.binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits(
    self: Spec, reduction: int = 1, weight: Spec | None = None, pos_weight: Spec | None = None
) -> Cost:
    """(1 − y)·x − log σ(x), log σ as min(x, 0) − log1p(e⁻|x|); backward (σ(x) − y)·g.

    A weight multiplies the loss and its gradient. With ``pos_weight`` p there is (1 + (p − 1)·y) before log σ, and
    ((p·y + 1 − y)·σ(x) − p·y)·g backward.
    """
    n = self.numel
    forward, backward = Work(elementwise=7 * n, transcendental=2 * n), Work(elementwise=2 * n)
    if pos_weight is not None:
        forward += Work(elementwise=3 * n + pos_weight.numel)
        backward += Work(elementwise=4 * n)
    if weight is not None:
        forward += Work(elementwise=n)
        backward += Work(elementwise=n)
    return Cost(
        _reduced(forward, n, reduction),
        {
            "self": backward + Work(elementwise=2 * n, transcendental=n, division=n),
            "target": Work(elementwise=2 * n),
            "weight": Work(elementwise=n),
            "pos_weight": Work(elementwise=2 * n),
        },
    )


@rule(aten.binary_cross_entropy)
def binary_cross_entropy(self: Spec, reduction: int = 1, weight: Spec | None = None) -> Cost:
    """−(y·log x + (1 − y)·log(1 − x)); backward (x − y) / (x·(1 − x))·g. A weight multiplies each."""
    n = self.numel
    weighted = Work(elementwise=n) if weight is not None else NOTHING
    return Cost(
        _reduced(Work(elementwise=6 * n, transcendental=2 * n) + weighted, n, reduction),
        {
            "self": Work(elementwise=4 * n, division=n) + weighted,
            "target": Work(elementwise=3 * n, transcendental=2 * n) + weighted,
        },
    )


def _reduced(work: Work, n: Size, reduction: int) -> Work:
    """A loss that is summed (2) or averaged (1); PyTorch numbers its reductions so, 0 is none."""
    if reduction == NO_REDUCTION:
        return work
    return work + Work(elementwise=n, division=1 if reduction == MEAN else 0)


@rule(aten.soft_margin_loss)
def soft_margin_loss(self: Spec, reduction: int = 1) -> Cost:
    """log(1 + e⁻ʸˣ): a product, a sign, an exp, an addition, a log; backward −y·g·σ(−y·x): the exp again."""
    n = self.numel
    return Cost(
        _reduced(Work(elementwise=3 * n, transcendental=2 * n), n, reduction),
        {"self": Work(elementwise=5 * n, transcendental=n, division=n)},
    )


@rule(aten.multi_margin_loss)
def multi_margin_loss(self: Spec, target: Spec, reduction: int = 1) -> Cost:
    """Σᵢ max(0, 1 − x[y] + xᵢ) / C: subtract, add, compare and sum a class, a division a row; backward 3 a class."""
    n, rows = self.numel, target.numel
    return Cost(_reduced(Work(elementwise=4 * n, division=rows), rows, reduction), {"self": Work(elementwise=3 * n)})
