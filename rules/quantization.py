"""Quantization that is played in floats, for training: each element is rounded to what an integer could hold."""

from __future__ import annotations

from graphflops.costs import NOTHING, Cost, Work
from graphflops.laws import ANY
from graphflops.names import aten
from graphflops.rulebook import rule
from graphflops.sizes import Spec


@rule(
    aten.fake_quantize_per_tensor_affine_cachemask, aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams,
    aten.fake_quantize_per_channel_affine_cachemask,
)  # fmt: skip
def fake_quantize(self: Spec) -> Cost:
    """s·(clamp(round(x/s) + z) − z), with 1/s as a factor: a product, a rounding, a sum, two comparisons, a difference
    and a product. Backward the gradient times 0 or 1; scale and zero point have none.
    """
    return Cost(Work(elementwise=7 * self.numel), {"self": Work(elementwise=self.numel), ANY: NOTHING})
