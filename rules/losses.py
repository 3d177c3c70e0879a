"""Losses on n elements. Their reduction counts one addition an element, and the mean one division."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Spec, prod
from graphflops.rules.rule import rule
from graphflops.rules.templates import gradient

NO_REDUCTION, MEAN = 0, 1


@rule(aten.nll_loss_forward, aten.nll_loss2d_forward)
def nll_loss(target: Spec, reduction: int, weight: Spec | None = None) -> Cost:
    """−Σ log p[target] / n, of log-probabilities: a pick, a sign and an addition a target; backward −g/n at each.

    Weights of the classes multiply each term, and n is then their sum. Cross-entropy is log-softmax, then this.
    PyTorch looks for the class that is ignored, and multiplies the zeros among its gradients; that is left out.
    """
    n = target.numel
    forward = _reduce(Work(elementwise=n), n, reduction)
    backward = Work(elementwise=n, division=n if reduction == MEAN else 0)
    if weight is not None:
        forward += Work(elementwise=2 * n if reduction == MEAN else n)
        backward += Work(elementwise=n)
    return Cost(forward, {"self": backward})


@rule(aten.nll_loss_backward, aten.nll_loss2d_backward)
def nll_loss_backward(target: Spec, reduction: int, weight: Spec | None = None) -> Cost:
    """Backward of ``nll_loss``. The double backward is the loss again, of the gradient's gradient."""
    loss = nll_loss(target, reduction, weight)
    return Cost(gradient(loss, "self"), {"grad_output": loss.forward, "self": ZERO})


@rule(aten.mse_loss)
def mse_loss(self: Spec, reduction: int = 1) -> Cost:
    """Σ (x − y)² / n: subtract, square, add; each gradient 2/n·(x − y)·g: three operations."""
    n = self.numel
    gradient = Work(elementwise=3 * n)
    return Cost(_reduce(Work(elementwise=2 * n), n, reduction), {"self": gradient, "target": gradient})


@rule(aten.mse_loss_backward)
def mse_loss_backward(self: Spec) -> Cost:
    """Backward of ``mse_loss``. Double backward, with G: the same again upstream, multiplied and summed;
    2/n·g·G for x, and for y with its sign changed.
    """
    return _difference_backward(self, gradient(mse_loss(self), "self"), Work(elementwise=3 * self.numel))


@rule(aten.huber_loss)
def huber_loss(self: Spec, reduction: int = 1) -> Cost:
    """d²/2 or δ·(|d| − δ/2): subtract, abs, compare, and either branch at 2. Backward d or ±δ, times 1/n and g:
    subtract, two comparisons, two products. PyTorch computes both branches, and chooses.
    """
    n = self.numel
    gradient = Work(elementwise=5 * n)
    return Cost(_reduce(Work(elementwise=5 * n), n, reduction), {"self": gradient, "target": gradient})


@rule(aten.huber_loss_backward)
def huber_loss_backward(self: Spec) -> Cost:
    """Backward of ``huber_loss``. Double backward, with G: the same again upstream, multiplied and summed;
    g·G/n for x where |d| < δ: subtract, two comparisons, two products; for y with its sign changed.
    """
    return _difference_backward(self, gradient(huber_loss(self), "self"), Work(elementwise=5 * self.numel))


@rule(aten.smooth_l1_loss)
def smooth_l1_loss(self: Spec, reduction: int = 1) -> Cost:
    """d²/2β or |d| − β/2: as ``huber_loss`` with a division by β, the longer branch counted each way.

    PyTorch computes both branches, and chooses.
    """
    divided = Work(division=self.numel)
    return huber_loss(self, reduction) + Cost(divided, {"self": divided, "target": divided})


@rule(aten.smooth_l1_loss_backward)
def smooth_l1_loss_backward(self: Spec) -> Cost:
    """Backward of ``smooth_l1_loss``; double backward as of ``huber_loss_backward``, with a division."""
    n = self.numel
    return _difference_backward(self, gradient(smooth_l1_loss(self), "self"), Work(elementwise=5 * n, division=n))


def _difference_backward(self: Spec, first: Work, second: Work) -> Cost:
    """Backward and double backward of a loss of x − y."""
    n = self.numel
    grads = {
        "grad_output": first + Work(elementwise=2 * n),
        "self|target": second,
        "self": ZERO,
        "target": Work(elementwise=n),
    }
    return Cost(first, grads)


@rule(aten.binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits(
    self: Spec, reduction: int = 1, weight: Spec | None = None, pos_weight: Spec | None = None
) -> Cost:
    """(1 − y)·x − log σ(x), log σ as min(x, 0) − log1p(e⁻|x|); backward (σ(x) − y)·g.

    A weight multiplies the loss and its gradient. With ``pos_weight`` p there is (1 + (p − 1)·y) before log σ, and
    ((p·y + 1 − y)·σ(x) − p·y)·g backward. Backward through its own operators, as PyTorch may, is longer.
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
        _reduce(forward, n, reduction),
        {
            "self": backward + Work(elementwise=2 * n, transcendental=n, division=n),
            "target": Work(elementwise=2 * n),
            "weight": Work(elementwise=n),
            "pos_weight": Work(elementwise=2 * n),
        },
    )


@rule(aten.binary_cross_entropy)
def binary_cross_entropy(self: Spec, reduction: int = 1, weight: Spec | None = None) -> Cost:
    """−(y·log x + (1 − y)·log(1 − x)); backward (x − y) / (x·(1 − x))·g. A weight multiplies each.

    PyTorch keeps logarithms and the denominator within bounds, which is left out.
    """
    n = self.numel
    weighted = Work(elementwise=n) if weight is not None else ZERO
    return Cost(
        _reduce(Work(elementwise=6 * n, transcendental=2 * n) + weighted, n, reduction),
        {
            "self": Work(elementwise=4 * n, division=n) + weighted,
            "target": Work(elementwise=3 * n, transcendental=2 * n) + weighted,
        },
    )


@rule(aten.binary_cross_entropy_backward)
def binary_cross_entropy_backward(self: Spec, weight: Spec | None = None) -> Cost:
    """Backward of ``binary_cross_entropy``. Double backward, with G: the same again upstream;
    G·g·(x² − 2·x·y + y) / (x·(1 − x))² for x, and −G·g / (x·(1 − x)) for y.
    """
    n = self.numel
    weighted = Work(elementwise=n) if weight is not None else ZERO
    first = gradient(binary_cross_entropy(self, weight=weight), "self")
    grads = {
        "grad_output": first,
        "self": Work(elementwise=10 * n, division=n) + weighted,
        "target": Work(elementwise=5 * n, division=n) + weighted,
    }
    return Cost(first, grads)


def _reduce(work: Work, n: Size, reduction: int) -> Work:
    """A loss that is summed (2) or averaged (1); PyTorch numbers its reductions so, 0 is none."""
    if reduction == NO_REDUCTION:
        return work
    return work + Work(elementwise=n, division=1 if reduction == MEAN else 0)


@rule(aten.soft_margin_loss)
def soft_margin_loss(self: Spec, reduction: int = 1) -> Cost:
    """log(1 + e⁻ʸˣ): a product, a sign, an exp, an addition, a log; backward −y·g·σ(−y·x): the exp again.

    PyTorch divides z·g by 1 + z.
    """
    n = self.numel
    return Cost(
        _reduce(Work(elementwise=3 * n, transcendental=2 * n), n, reduction),
        {"self": Work(elementwise=5 * n, transcendental=n, division=n)},
    )


@rule(aten.soft_margin_loss_backward)
def soft_margin_loss_backward(self: Spec) -> Cost:
    """Backward of ``soft_margin_loss``. Double backward, with G: the same again upstream, multiplied and
    summed; G·g·y²·σ·(1 − σ) for x.
    """
    n = self.numel
    first = gradient(soft_margin_loss(self), "self")
    second = Work(elementwise=8 * n, transcendental=n, division=n)
    return Cost(first, {"grad_output": first + Work(elementwise=2 * n), "self": second})


@rule(aten.multi_margin_loss)
def multi_margin_loss(self: Spec, target: Spec, reduction: int = 1) -> Cost:
    """Σᵢ max(0, 1 − x[y] + xᵢ) / C: subtract, add, compare and sum a class, a division a row; backward 3 a class."""
    n, rows = self.numel, target.numel
    return Cost(_reduce(Work(elementwise=4 * n, division=rows), rows, reduction), {"self": Work(elementwise=3 * n)})


@rule(aten.multi_margin_loss_backward)
def multi_margin_loss_backward(self: Spec, target: Spec) -> Cost:
    """Backward of ``multi_margin_loss``. No double backward."""
    return Cost(gradient(multi_margin_loss(self, target), "self"))


@rule(aten.multilabel_margin_loss_forward)
def multilabel_margin_loss(self: Spec, target: Spec, reduction: int = 1) -> Cost:
    """Σⱼᵢ max(0, 1 − x[yⱼ] + xᵢ) / C, of each label j and each class i that is none: subtract, add, compare and sum.

    Backward is as long: a margin that counts is added at one class and taken off at the other. How many of the C
    classes are labels is data; it is counted for the half of them, which makes the most pairs.
    """
    *batch, classes = self.shape
    rows = prod(batch)
    pairs = rows * (classes * classes // 4)
    forward = _reduce(Work(elementwise=4 * pairs, division=rows), rows, reduction)
    return Cost(forward, {"self": Work(elementwise=5 * pairs)})


@rule(aten.multilabel_margin_loss_backward)
def multilabel_margin_loss_backward(self: Spec, target: Spec) -> Cost:
    """Backward of ``multilabel_margin_loss``. No double backward."""
    return Cost(gradient(multilabel_margin_loss(self, target), "self"))


def _ctc_states(log_probs: Spec, targets: Spec, target_lengths: Any) -> tuple[Spec, Spec]:
    """A loss for each sequence, and the states that backward reads."""
    times, batch = log_probs.shape[:2]
    longest = targets.shape[-1] if isinstance(target_lengths, Spec) else max(target_lengths)
    return Spec((batch,), log_probs.dtype), Spec((batch, times, 2 * longest + 1), log_probs.dtype)


@rule(aten._ctc_loss, outputs=_ctc_states)
def ctc(log_probs: Spec, targets: Spec, input_lengths: Any, target_lengths: Any) -> Cost:
    """Connectionist temporal classification (Graves et al. 2006): L labels are 2·L + 1 states, at each of T times.

    A state is log(eᵃ + eᵇ + eᶜ) of three before it, and its log-probability added, also where there is no third: at
    equal labels and blanks. Backward the same from the end, a sum of both, and log(eᵃ + eᵇ) into its class; then for
    each class (eˣ − eᵃ⁺ᵇ⁻ˣ)·g. Maxima are not counted. Lengths that are tensors are taken to be as long as there is
    room.
    """
    times, *batch, _ = log_probs.shape
    if isinstance(input_lengths, Spec) or isinstance(target_lengths, Spec):
        states: Size = times * (2 * targets.numel + prod(batch))
    else:
        states = sum(length * (2 * labels + 1) for length, labels in zip(input_lengths, target_lengths, strict=True))
    recursion = Work(elementwise=3 * states, transcendental=4 * states)
    joined = Work(elementwise=2 * states, transcendental=3 * states)
    of_classes = Work(elementwise=4 * log_probs.numel, transcendental=2 * log_probs.numel)
    return Cost(recursion, {"log_probs": recursion + joined + of_classes})


@rule(aten._ctc_loss_backward)
def ctc_backward(log_probs: Spec, targets: Spec, input_lengths: Any, target_lengths: Any) -> Cost:
    """Backward of ``ctc``. No double backward."""
    return Cost(gradient(ctc(log_probs, targets, input_lengths, target_lengths), "log_probs"))


def _ctc_output(log_probs: Spec, reduction: str = "mean") -> Spec:
    return Spec(log_probs.shape[1:-1] if reduction == "none" else (), log_probs.dtype)


@rule("torch.nn.functional.ctc_loss", outputs=_ctc_output)
def ctc_loss(log_probs: Spec, targets: Spec, input_lengths: Any, target_lengths: Any, reduction: str = "mean") -> Cost:
    """``ctc`` of each sequence, and an addition if they are reduced; a mean divides each by its labels, and the sum by
    how many they are, and so the gradients.
    """
    batch = prod(log_probs.shape[1:-1])
    cost = ctc(log_probs, targets, input_lengths, target_lengths)
    if reduction == "none":
        return cost
    divided = Work(division=batch + 1) if reduction == "mean" else ZERO
    return cost + Cost(Work(elementwise=batch) + divided, {"log_probs": divided})


def _head(rows: Size, classes: int) -> tuple[Work, Work]:
    """Log-softmax, forward and backward, as ``aten._log_softmax``."""
    n = rows * classes
    return Work(elementwise=2 * n, transcendental=n + rows), Work(elementwise=3 * n, transcendental=n)


class _Adaptive(NamedTuple):
    output: Spec
    loss: Spec


def _adaptive_loss(input_: Spec, target_: Spec) -> _Adaptive:
    return _Adaptive(Spec(target_.shape, input_.dtype), Spec((), input_.dtype))


@rule(
    "torch.nn.modules.adaptive.AdaptiveLogSoftmaxWithLoss", outputs=_adaptive_loss, example=lambda: _adaptive_example()
)
def adaptive_log_softmax_with_loss(
    input_: Spec,
    target_: Spec,
    in_features: int,
    shortlist_size: int,
    cutoffs: Any,
    div_value: float,
    head_bias: bool,
) -> Cost:
    """Frequent classes by one layer, the rest by a narrower one for each cluster (Grave et al. 2017).

    Which rows' target lies in which cluster is data: all of them are counted in each, and a rate for ``tail.0``,
    ``tail.1``, … says how many are. A row is a linear layer, log-softmax, a pick and an addition.
    """
    rows = target_.numel
    width = shortlist_size + len(cutoffs) - 1
    macs = Work(macs=rows * in_features * width)
    scores, gradient = _head(rows, width)
    head = {"input_": macs, "head.weight": macs, "input_|head.*": gradient}
    if head_bias:
        head["head.bias"] = Work(accumulate=rows * width)
    parts = {"head": Cost(macs + scores, head)}
    for i, (low, high) in enumerate(pairwise(cutoffs)):
        narrow = int(in_features // div_value ** (i + 1))
        down, up = Work(macs=rows * in_features * narrow), Work(macs=rows * narrow * (high - low))
        scores, gradient = _head(rows, high - low)
        gradients = {
            "input_": down + Work(accumulate=rows * in_features),
            f"tail.{i}.0.weight": down,
            f"input_|tail.{i}.0.weight": up,
            f"tail.{i}.1.weight": up,
            f"input_|tail.{i}.*": gradient,
        }
        parts[f"tail.{i}"] = Cost(down + up + scores + Work(elementwise=rows), gradients)
    mean = Cost(Work(elementwise=2 * rows, division=1), {"input_|head.*|tail.*": Work(elementwise=rows, division=1)})
    return Cost.of(**parts, loss=mean)


def _adaptive_example() -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch
    from torch import nn

    layer = nn.AdaptiveLogSoftmaxWithLoss(32, 20, [5, 10])
    return (layer, torch.zeros(6, 32, requires_grad=True), torch.zeros(6, dtype=torch.int64)), {}


@rule("graphflops.models.losses.WithLoss", example="graphflops.models.rule_examples:with_loss")
def with_loss(x: Spec) -> Cost:
    """x unchanged, where the gradient of a loss starts: a view, and a 1 in the backward pass."""
    return Cost(ZERO, {"x": ZERO, "loss": ZERO})
