"""Quantization: matrix products of 8-bit or 4-bit integers forward, straight through in floating point on the way back.

x̂ = round(x / s_x), s_x = max|x| / (2^(bits−1) − 1) for each row of x, and likewise ŵ for each row of the weight
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

SMALLEST = 1e-12
"""The least max|x| of a row that is divided by: a row of zeros stays one."""


def quantize(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integers (…, n) in int8 that stand for x (…, n), and the scale (…, 1) of each row.

    Integers of 4 bits are held in int8 as well, which is the narrowest that PyTorch multiplies.
    """
    scale = x.abs().amax(-1, keepdim=True).clamp_min(SMALLEST) / (2 ** (bits - 1) - 1)
    return (x / scale).round().to(torch.int8), scale


@torch.library.custom_op("graphflops::quantized_linear", mutates_args=())
def quantized_linear(input: Tensor, weight: Tensor, bits: int) -> Tensor:
    """x·Wᵀ (M, out) by a product of integers, of x (M, in) and W (out, in) that are quantized row by row.

    The gradient takes the rounding for the identity: dx = g·W̃ and dW = gᵀ·x̃ in floating point, of what the integers
    stand for.
    """
    rows, row_scale = quantize(input, bits)
    columns, column_scale = quantize(weight, bits)
    product = integer_product(rows, columns.t().contiguous())
    return product.to(input.dtype) * row_scale * column_scale.t()


@quantized_linear.register_fake
def _output_like(input: Tensor, weight: Tensor, bits: int) -> Tensor:
    return input.new_empty(input.shape[0], weight.shape[0])


def _keep_operands(ctx: Any, inputs: Any, output: Any) -> None:
    *operands, ctx.bits = inputs
    ctx.save_for_backward(*operands)


def _straight_through(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight = ctx.saved_tensors
    of_input, of_weight, _ = ctx.needs_input_grad
    return (
        grad @ _rounded(weight, ctx.bits) if of_input else None,
        grad.t() @ _rounded(x, ctx.bits) if of_weight else None,
        None,
    )


def _rounded(x: Tensor, bits: int) -> Tensor:
    """What the integers of x stand for."""
    integers, scale = quantize(x, bits)
    return integers.to(x.dtype) * scale


quantized_linear.register_autograd(_straight_through, setup_context=_keep_operands)


class QuantizedLinear(nn.Linear):
    """A linear layer whose product is of integers, computed in the dtype of its input otherwise.

    Args:
        in_features: the width of the input.
        out_features: the width of the output.
        bias: whether there is one; it is added in floating point.
        bits: the width of the integers, 8 or 4.
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
    """What makes linear layers of that width."""
    return partial(QuantizedLinear, bits=bits)
