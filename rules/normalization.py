"""Norms and softmax, by the formulas of papers."""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Sizes, Spec, prod
from graphflops.rules.rule import rule
from graphflops.rules.templates import gradient, operands_in_mask


@rule(aten.layer_norm, aten.native_layer_norm)
def layer_norm(input: Spec, weight: Spec | None = None) -> Cost:
    """y = (x − mean)·rstd·w + b, published as 5 FLOPs an element forward and 5 backward (ResNet-BK's table).

    The 5 of backward are 4 for the gradient of x and 1 for that of w; sums over the rows for w and b are accumulate.
    A count of the single operations gives more: mean 1, variance 3, normalise 1, affine 2;
    backward 11 for x, with x̂ computed again, and a product for w.
    """
    n = input.numel
    summed = Work(accumulate=n)
    return Cost(
        Work(elementwise=5 * n),
        {"input": Work(elementwise=4 * n), "weight": Work(elementwise=n) + summed, "bias": summed},
    )


@rule(aten.group_norm, aten.native_group_norm)
def group_norm(input: Spec) -> Cost:
    """As layer norm, over groups of channels: 5 an element forward, 4 + 1 backward; single operations are more."""
    return layer_norm(input)


@rule(
    aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_functional,
    aten.cudnn_batch_norm, aten.miopen_batch_norm,
)  # fmt: skip
def batch_norm(input: Spec, training: bool) -> Cost:
    """In training as layer norm, over the batch: 5 an element forward, 4 + 1 backward; instance norm is one too.

    In eval mode x·s + t, a product and a sum an element, with s = w/√(var + ε) and t = b − mean·s; backward g·s, and
    Σ g·(x − mean)·rstd for w at two. Operations once a channel, such as running averages, are left out.
    Single operations are more: in eval mode PyTorch runs 4 forward, x minus the mean first.
    """
    if training:
        return layer_norm(input)
    n = input.numel
    summed = Work(accumulate=n)
    grads = {"input": Work(elementwise=n), "weight": Work(elementwise=2 * n) + summed, "bias": summed}
    return Cost(Work(elementwise=2 * n), grads)


@rule(aten._batch_norm_with_update, aten._batch_norm_with_update_functional)
def batch_norm_with_update(input: Spec) -> Cost:
    """Batch norm in training."""
    return batch_norm(input, training=True)


@rule(aten._native_batch_norm_legit_no_training, aten._batch_norm_no_update)
def batch_norm_no_update(input: Spec) -> Cost:
    """Batch norm in eval mode."""
    return batch_norm(input, training=False)


_OPERANDS = ("input", "weight", "bias")
_INPUT, _WEIGHT, _BIAS = range(3)


@rule(aten.native_layer_norm_backward)
def layer_norm_backward(
    input: Spec, output_mask: tuple[bool, ...], grad_outputs: frozenset[int], weight: Spec | None = None
) -> Cost:
    """Backward of ``layer_norm``: the gradients in ``output_mask``.

    Double backward of those in ``grad_outputs``. Upstream, the derivative of the norm is applied to
    the gradient of the gradient of x, at 4, w multiplies it, and those of w and b are a product and a sum. For x the
    sums of g, G, g·x̂, G·x̂ and g·G, and their combination: 14; if the gradient of w is used the
    derivative once more. For w a product. PyTorch runs more, x̂ computed again and powers of the deviation among it.
    """
    first = gradient(layer_norm(input, weight), *operands_in_mask(_OPERANDS, output_mask))
    return Cost(first, {**_norm_double_backward(input, grad_outputs), "bias": ZERO})


@rule(aten.native_group_norm_backward)
def group_norm_backward(input: Spec, output_mask: tuple[bool, ...]) -> Cost:
    """Backward of ``group_norm``: the gradients in ``output_mask``. For the double backward PyTorch runs
    others in their place.
    """
    return Cost(gradient(group_norm(input), *operands_in_mask(_OPERANDS, output_mask)))


@rule(aten.native_batch_norm_backward)
def batch_norm_backward(input: Spec, train: bool, output_mask: tuple[bool, ...], grad_outputs: frozenset[int]) -> Cost:
    """Backward of ``batch_norm``: the gradients in ``output_mask``; double backward as of ``layer_norm_backward``.

    In eval mode the double backward is G·s upstream, 2 for the gradient of w, as many for x, and
    Σ G·g·rstd for w.
    """
    first = gradient(batch_norm(input, train), *operands_in_mask(_OPERANDS, output_mask))
    if train:
        return Cost(first, _norm_double_backward(input, grad_outputs))
    n = input.numel
    of_input = n if _INPUT in grad_outputs else 0
    of_weight = 2 * n if _WEIGHT in grad_outputs else 0
    grads = {
        "grad_out": Work(elementwise=of_input + of_weight, accumulate=_sums(grad_outputs) * n),
        "input": Work(elementwise=of_weight),
        "weight": Work(elementwise=2 * of_input, accumulate=of_input),
    }
    return Cost(first, grads)


@rule(aten.batch_norm_backward, aten.cudnn_batch_norm_backward, aten.miopen_batch_norm_backward)
def batch_norm_backward_on_device(input: Spec, grad_outputs: frozenset[int]) -> Cost:
    """Backward of ``batch_norm`` in training; double backward as of ``layer_norm_backward``."""
    second = _norm_double_backward(input, grad_outputs)
    upstream = {"grad_out|grad_output": second["grad_out"]}
    return Cost(gradient(batch_norm(input, True), *_OPERANDS), second | upstream)


def _norm_double_backward(input: Spec, grad_outputs: frozenset[int]) -> dict[str, Work]:
    """The gradients of a norm's gradients, those of ``grad_outputs`` being used."""
    n = input.numel
    of_input = n if _INPUT in grad_outputs else 0
    of_weight = n if _WEIGHT in grad_outputs else 0
    return {
        "grad_out|weight": Work(elementwise=4 * of_input),
        "grad_out": Work(elementwise=of_input + of_weight, accumulate=_sums(grad_outputs) * n),
        "input": Work(elementwise=14 * of_input + 5 * of_weight),
        "weight": Work(elementwise=of_input, accumulate=of_input),
    }


def _sums(grad_outputs: frozenset[int]) -> int:
    """The number of sums that combine several gradients."""
    return max(len(grad_outputs) - 1, 0)


@rule(aten.rms_norm, aten._fused_rms_norm)
def rms_norm(input: Spec, normalized_shape: Sizes, weight: Spec | None = None) -> Cost:
    """y = x·rsqrt(mean(x²) + ε)·w: square, sum, scale; mean, ε and rsqrt once a row; w if there is one.

    Backward with g = dy·w: dx = rstd·(g − x̂·mean(g·x̂)). PyTorch does so with a power of rstd, dividing each element.
    """
    d = prod(normalized_shape)
    n, rows = input.numel, prod(input.shape[: len(input.shape) - len(normalized_shape)])
    cost = Cost(Work(elementwise=3 * n + rows, division=2 * rows), {"input": Work(elementwise=5 * n, division=rows)})
    if weight is not None:
        scaled = Work(elementwise=n)
        cost += Cost(scaled, {"input": scaled, "weight": scaled + Work(accumulate=n - d)})
    return cost


@rule(aten._fused_rms_norm_backward)
def rms_norm_backward(
    input: Spec, normalized_shape: Sizes, output_mask: tuple[bool, ...], weight: Spec | None = None
) -> Cost:
    """Backward of ``rms_norm``: the gradients in ``output_mask``. No double backward."""
    cost = rms_norm(input, normalized_shape, weight)
    return Cost(gradient(cost, *operands_in_mask(("input", "weight"), output_mask)))


@rule(aten._softmax, aten._safe_softmax)
def softmax(self: Spec) -> Cost:
    """y = eˣ / Σ eˣ: exp, sum, divide. Backward y·(g − Σ g·y): four. The maximum taken off first is not counted."""
    n = self.numel
    return Cost(Work(elementwise=n, transcendental=n, division=n), {"self": Work(elementwise=4 * n)})


@rule(aten._softmax_backward_data)
def softmax_backward(output: Spec) -> Cost:
    """Backward of ``softmax``, y·(g − Σ g·y). Double backward, with G: the same again upstream, and for y
    G·g − G·Σ g·y − g·Σ G·y: nine.
    """
    first = gradient(softmax(output), "self")
    return Cost(first, {"grad_output": first, "output": Work(elementwise=9 * output.numel)})


@rule(aten._log_softmax)
def log_softmax(self: Spec, dim: int) -> Cost:
    """y = x − log Σ eˣ: exp, sum and subtract, a log a row. Backward g − eʸ·Σ g. The maximum is not counted."""
    n = self.numel
    rows = prod(size for i, size in enumerate(self.shape) if i != dim % len(self.shape)) if self.shape else 1
    return Cost(Work(elementwise=2 * n, transcendental=n + rows), {"self": Work(elementwise=3 * n, transcendental=n)})


@rule(aten._log_softmax_backward_data)
def log_softmax_backward(output: Spec, dim: int) -> Cost:
    """Backward of ``log_softmax``, g − eʸ·Σ g. Double backward, with G: G − Σ G·eʸ upstream, and for y
    −G·eʸ·Σ g; the exponential is computed once more for both.
    """
    n = output.numel
    grads = {
        "grad_output|output": Work(elementwise=n, transcendental=n),
        "grad_output": Work(elementwise=2 * n),
        "output": Work(elementwise=3 * n),
    }
    return Cost(gradient(log_softmax(output, dim), "self"), grads)


@rule(aten.dropout, aten.native_dropout)
def dropout(input: Spec, p: float, train: bool) -> Cost:
    """y = x·m with m = 0 or 1/(1 − p): one multiplication an element each way; to draw m is no arithmetic.

    In eval mode, and with p = 0, it passes its input through. PyTorch divides the mask by 1 − p, or compares random
    numbers to p, one operation an element more.
    """
    scaled = Work(elementwise=input.numel) if train and p else ZERO
    return Cost(scaled, {"input": scaled})


@rule(aten.native_dropout_backward)
def dropout_backward(grad_output: Spec) -> Cost:
    """Backward of ``dropout``, one multiplication an element, and its double backward. PyTorch scales the mask first,
    one more.
    """
    scaled = Work(elementwise=grad_output.numel)
    return Cost(scaled, {"grad_output": scaled})


@rule(aten._weight_norm_interface)
def weight_norm(v: Spec, g: Spec) -> Cost:
    """w = g·v / ‖v‖: square and add an element, a root and a quotient a row, then a product an element.

    Backward with s = Σ dw·v of each row: dg = s / ‖v‖, dv = (g/‖v‖)·(dw − v·s/‖v‖²).
    """
    n, rows = v.numel, g.numel
    return Cost(
        Work(elementwise=3 * n, division=2 * rows),
        {"v|g": Work(elementwise=2 * n), "v": Work(elementwise=3 * n, division=2 * rows), "g": Work(division=rows)},
    )


@rule(aten._weight_norm_interface_backward)
def weight_norm_backward(saved_v: Spec, saved_g: Spec) -> Cost:
    """Backward of ``weight_norm``. PyTorch computes its double backward by other operators."""
    return Cost(gradient(weight_norm(saved_v, saved_g), "v", "g"))
