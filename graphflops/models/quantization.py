"""Quantization: 8-bit or 4-bit integer matrix products forward, straight-through gradients in floating point backward.

x̂ = round(x / s_x), s_x = max|x| / (2^(bits−1) − 1) per row of x, and likewise ŵ per row of the weight
y = (x̂ · ŵᵀ) · s_x · s_w + bias
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from graphflops.core.torch_compat import integer_product
from graphflops.models.checks import require_bits
from graphflops.models.precision import LinearFactory

MIN_ROW_MAXIMUM = 1e-12
"""lower bound of max|x| of a row, so that a row of zeros is not divided by 0"""


def quantize(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """x (…, n) as int8 integers (…, n) and a scale (…, 1) per row.

    4-bit integers are stored as int8 too, the narrowest type that PyTorch multiplies.
    """
    scale = x.abs().amax(-1, keepdim=True).clamp_min(MIN_ROW_MAXIMUM) / (2 ** (bits - 1) - 1)
    return (x / scale).round().to(torch.int8), scale


@torch.library.custom_op("graphflops::quantized_linear", mutates_args=())
def quantized_linear(input: Tensor, weight: Tensor, bits: int) -> Tensor:
    """x·Wᵀ (M, out) as an integer product of x (M, in) and W (out, in), quantized row by row.

    The gradient treats rounding as the identity: dx = g·W̃ and dW = gᵀ·x̃ in floating point, of the dequantized
    operands.
    """
    rows, row_scale = quantize(input, bits)
    columns, column_scale = quantize(weight, bits)
    product = integer_product(rows, columns.t().contiguous())
    return product.to(input.dtype) * row_scale * column_scale.t()


@quantized_linear.register_fake
def _output_like(input: Tensor, weight: Tensor, bits: int) -> Tensor:
    return input.new_empty(input.shape[0], weight.shape[0])


def _save_operands(ctx: Any, inputs: Any, output: Any) -> None:
    *operands, ctx.bits = inputs
    ctx.save_for_backward(*operands)


def _straight_through(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight = ctx.saved_tensors
    needs_input, needs_weight, _ = ctx.needs_input_grad
    return (
        grad @ _dequantized(weight, ctx.bits) if needs_input else None,
        grad.t() @ _dequantized(x, ctx.bits) if needs_weight else None,
        None,
    )


def _dequantized(x: Tensor, bits: int) -> Tensor:
    """x after quantization, in floating point."""
    integers, scale = quantize(x, bits)
    return integers.to(x.dtype) * scale


quantized_linear.register_autograd(_straight_through, setup_context=_save_operands)


class QuantizedLinear(nn.Linear):
    """A linear layer with an integer product; bias and scaling are computed in the dtype of its input.

    Args:
        in_features: the width of the input.
        out_features: the width of the output.
        bias: whether to add a bias, in floating point.
        bits: bit width of the integers, 8 or 4.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, bits: int = 8) -> None:
        require_bits(bits)
        super().__init__(in_features, out_features, bias)
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        y: Tensor = quantized_linear(x.reshape(-1, self.in_features), self.weight.to(x.dtype), self.bits)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(x.dtype)


def quantized(bits: int) -> LinearFactory:
    """A factory of linear layers with this bit width."""
    return partial(QuantizedLinear, bits=bits)
