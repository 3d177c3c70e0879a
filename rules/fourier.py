"""Fourier transforms by the published 5·N·log₂ N (Cooley & Tukey 1965): real operations for N complex numbers.

Of a real signal half of it. Where a length is no power of two log₂ is taken as the next whole number, so that counts
stay exact; what other algorithms do for such a length is left out.
"""

from __future__ import annotations

from graphflops.core.costs import Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Spec
from graphflops.rules.rule import rule
from graphflops.rules.templates import ceil_log2


@rule(aten._fft_c2c)
def fft(self: Spec, dim: list[int], normalization: int) -> Cost:
    """5·N·log₂ N, with N·log₂ N over all axes that are transformed; two products an element for a normalisation.

    The gradient is a transform again.
    """
    work = Work(elementwise=5 * self.numel * _stages(self, dim)) + _normalization(2 * self.numel, normalization)
    return Cost(work, {"self": work})


@rule(aten._fft_r2c)
def rfft(self: Spec, dim: list[int], normalization: int, out: Spec) -> Cost:
    """Of real numbers, as symmetry lets half of the work do: 5/2·N·log₂ N."""
    work = Work(elementwise=5 * self.numel * _stages(self, dim) // 2) + _normalization(2 * out.numel, normalization)
    return Cost(work, {"self": work})


@rule(aten._fft_c2r)
def irfft(dim: list[int], normalization: int, out: Spec) -> Cost:
    """To real numbers: 5/2·N·log₂ N."""
    work = Work(elementwise=5 * out.numel * _stages(out, dim) // 2) + _normalization(out.numel, normalization)
    return Cost(work, {"self": work})


def _stages(signal: Spec, dim: list[int]) -> Size:
    """log₂ N of the axes together."""
    stages: Size = 0
    for axis in dim:
        stages = stages + ceil_log2(signal.shape[axis])
    return stages


def _normalization(numbers: Size, normalization: int) -> Work:
    return Work(elementwise=numbers) if normalization else Work()
