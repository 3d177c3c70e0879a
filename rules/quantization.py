"""Quantization: fake (in floats, rounded to the values of an integer type), or with integer products."""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Spec
from graphflops.rules.rule import rule
from graphflops.rules.templates import ALL_OPERANDS, dequantize_work, quantize_work


@rule(
    aten.fake_quantize_per_tensor_affine_cachemask, aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams,
    aten.fake_quantize_per_channel_affine_cachemask,
)  # fmt: skip
def fake_quantize(self: Spec) -> Cost:
    """s·(clamp(round(x/s) + z) − z), with 1/s as a factor: a product, a rounding, a sum, two comparisons, a difference
    and a product. Backward the gradient times 0 or 1; scale and zero point have none.
    """
    return Cost(Work(elementwise=7 * self.numel), {"self": Work(elementwise=self.numel), ALL_OPERANDS: ZERO})


@rule("graphflops.quantized_linear", example="graphflops.models.rule_examples:quantized_linear")
def quantized_linear(input: Spec, weight: Spec, bits: int, out: Spec) -> Cost:
    """y = (x̂·ŵᵀ)·s_x·s_w of integers x̂, ŵ: in·out products and sums a row are ``integer``; an element two products.

    Quantizing takes |x|, a comparison, a division and a rounding an element; a row's scale a comparison and a division.
    PyTorch's clamp of the scale, one comparison here, looks for NaN as well, two operations and one on truths a row.
    Backward straight through, in floating point: dx = g·W̃ and dW = gᵀ·x̃, of operands that are quantized once more and
    multiplied by their scales.
    """
    rows, columns = input.shape[0], weight.shape[0]
    macs = out.numel * weight.shape[-1]
    return Cost.of(
        product=Cost(Work(integer=2 * macs), dtype=f"int{bits}"),
        quantize=Cost(quantize_work(input.numel, rows) + quantize_work(weight.numel, columns)),
        scale=Cost(Work(elementwise=2 * out.numel)),
        straight_through=Cost(
            grads={
                "input": Work(macs=macs) + dequantize_work(weight.numel, columns),
                "weight": Work(macs=macs) + dequantize_work(input.numel, rows),
            }
        ),
    )
