"""Pooling: a window of K elements for each element of the output. Padding counts as if it were data."""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Sizes, Spec, prod
from graphflops.rules.rule import rule
from graphflops.rules.templates import additions, free, gradient


@rule(aten.max_pool2d_with_indices, aten.fractional_max_pool2d)
def max_pool2d(self: Spec, kernel_size: Sizes, out: tuple[Spec, ...]) -> Cost:
    """K comparisons an element of the output; backward each gradient is added to where its maximum came from.

    Of fractional pooling, where the windows lie is drawn at random, once for all elements of a row.
    """
    return _maximum(self, out[0], _window(kernel_size, 2))


@rule(aten.max_pool3d_with_indices, aten.fractional_max_pool3d)
def max_pool3d(self: Spec, kernel_size: Sizes, out: tuple[Spec, ...]) -> Cost:
    """As ``max_pool2d``."""
    return _maximum(self, out[0], _window(kernel_size, 3))


@rule(aten.avg_pool2d)
def avg_pool2d(self: Spec, kernel_size: Sizes, out: Spec) -> Cost:
    """K additions and a division an element of the output; backward the division, and K sums: windows may overlap."""
    return _average(out, _window(kernel_size, 2))


@rule(aten.avg_pool3d)
def avg_pool3d(self: Spec, kernel_size: Sizes, out: Spec) -> Cost:
    """As ``avg_pool2d``."""
    return _average(out, _window(kernel_size, 3))


@rule(aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d)
def adaptive_avg_pool(self: Spec, out: Spec) -> Cost:
    """One addition an element of the input, one division an element of the output; backward the division.

    Left out: where the sizes do not divide, windows share an element with their neighbour.
    """
    divided = Work(division=out.numel)
    return Cost(Work(elementwise=self.numel) + divided, {"self": divided})


@rule(aten.adaptive_max_pool2d, aten.adaptive_max_pool3d)
def adaptive_max_pool(self: Spec) -> Cost:
    """One comparison an element of the input; backward each gradient goes to where its maximum came from."""
    return Cost(additions(self.numel, self), {"self": ZERO})


unpool = free("puts elements in place by index; backward they are picked", aten.max_unpool2d, aten.max_unpool3d)


@rule(
    aten.max_pool2d_with_indices_backward, aten.max_pool3d_with_indices_backward,
    aten.fractional_max_pool2d_backward, aten.fractional_max_pool3d_backward,
)  # fmt: skip
def max_pool_backward(grad_output: Spec) -> Cost:
    """Backward of a maximum: each is added to the position of its maximum; the double backward indexes."""
    return Cost(Work(accumulate=grad_output.numel), {"grad_output": ZERO, "self": ZERO})


@rule(aten.avg_pool2d_backward)
def avg_pool2d_backward(grad_output: Spec, kernel_size: Sizes) -> Cost:
    """Backward of ``avg_pool2d``. The double backward is average pooling of the gradient's gradient."""
    return _average_backward(grad_output, _window(kernel_size, 2))


@rule(aten.avg_pool3d_backward)
def avg_pool3d_backward(grad_output: Spec, kernel_size: Sizes) -> Cost:
    """As ``avg_pool2d_backward``."""
    return _average_backward(grad_output, _window(kernel_size, 3))


@rule(aten._adaptive_avg_pool2d_backward, aten._adaptive_avg_pool3d_backward)
def adaptive_avg_pool_backward(grad_output: Spec, self: Spec) -> Cost:
    """Backward of ``adaptive_avg_pool``: a division. The double backward is the pooling again."""
    pooled = adaptive_avg_pool(self, grad_output)
    return Cost(gradient(pooled, "self"), {"grad_output": pooled.forward, "self": ZERO})


adaptive_max_pool_backward = free(
    "each gradient is added to the position of its maximum, and the double backward indexes",
    aten.adaptive_max_pool2d_backward, aten.adaptive_max_pool3d_backward,
)  # fmt: skip


def _average_backward(grad_output: Spec, window: Size) -> Cost:
    pooled = _average(grad_output, window)
    return Cost(gradient(pooled, "self"), {"grad_output": pooled.forward, "self": ZERO})


def _window(kernel_size: Sizes, dimensions: int) -> Size:
    """How many elements a window has; one number stands for a cube."""
    return prod(kernel_size) if len(kernel_size) == dimensions else kernel_size[0] ** dimensions


def _maximum(self: Spec, out: Spec, window: Size) -> Cost:
    return Cost(additions(window * out.numel, self), {"self": Work(accumulate=out.numel)})


def _average(out: Spec, window: Size) -> Cost:
    divided = Work(division=out.numel)
    forward = Work(elementwise=window * out.numel) + divided
    return Cost(forward, {"self": divided + Work(accumulate=window * out.numel)})
