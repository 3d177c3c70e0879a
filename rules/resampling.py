"""Resampling: each element of the output is the nearest element of the input, or interpolated between several.

Work done once for a row, a column or an axis (indices and weights of neighbours) is left out.
"""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Spec, prod, size_max
from graphflops.rules.rule import rule
from graphflops.rules.templates import additions, free, gradient, operands_in_mask

LERP = 3  # (1 − t)·a + t·b
LERP_BACK = 2  # (1 − t)·g and t·g; they are added where they came from
CUBIC = 7  # four products, three additions
CUBIC_BACK = 4
NEAREST, BICUBIC = 1, 2  # as PyTorch numbers the modes of grid_sample


@rule(
    aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d,
    aten._upsample_nearest_exact1d, aten._upsample_nearest_exact2d, aten._upsample_nearest_exact3d,
    aten.reflection_pad1d, aten.reflection_pad2d, aten.reflection_pad3d,
    aten.replication_pad1d, aten.replication_pad2d, aten.replication_pad3d,
    aten.im2col, aten.unfold,
)  # fmt: skip
def nearest(out: Spec) -> Cost:
    """Elements picked by position: no arithmetic forward; backward each is added to where it came from."""
    return Cost(ZERO, {"self|input": Work(accumulate=out.numel)})


@rule(
    aten.upsample_nearest1d_backward, aten.upsample_nearest2d_backward, aten.upsample_nearest3d_backward,
    aten._upsample_nearest_exact1d_backward, aten._upsample_nearest_exact2d_backward,
    aten._upsample_nearest_exact3d_backward,
    aten.reflection_pad1d_backward, aten.reflection_pad2d_backward, aten.reflection_pad3d_backward,
    aten.replication_pad1d_backward, aten.replication_pad2d_backward, aten.replication_pad3d_backward,
)  # fmt: skip
def nearest_backward(grad_output: Spec) -> Cost:
    """Backward of ``nearest``: each is added to where it came from. The double backward indexes."""
    return Cost(gradient(nearest(grad_output), "self"), {"grad_output": ZERO, "self": ZERO})


@rule(aten.upsample_linear1d)
def linear(out: Spec) -> Cost:
    """(1 − t)·a + t·b: three an element; backward the two products, and two sums."""
    return _interpolation(out, 1)


@rule(aten.upsample_bilinear2d)
def bilinear(out: Spec) -> Cost:
    """Linear between two that are linear each: 3·3 an element; backward 3·2 products, and four sums."""
    return _interpolation(out, 2)


@rule(aten.upsample_trilinear3d)
def trilinear(out: Spec) -> Cost:
    """Linear between two that are bilinear each: 7·3 an element; backward 7·2 products, and eight sums."""
    return _interpolation(out, 3)


@rule(aten.upsample_bicubic2d)
def bicubic(out: Spec) -> Cost:
    """A cubic through four that are cubic each: 5·(4 products + 3 additions); backward 5·4 products, and 16 sums."""
    n = out.numel
    return Cost(
        Work(elementwise=5 * CUBIC * n), {"self|input": Work(elementwise=5 * CUBIC_BACK * n, accumulate=16 * n)}
    )


@rule(aten.upsample_linear1d_backward)
def linear_backward(grad_output: Spec) -> Cost:
    """Backward of ``linear``. The double backward is the interpolation again."""
    return _linear_backward(linear(grad_output))


@rule(aten.upsample_bilinear2d_backward)
def bilinear_backward(grad_output: Spec) -> Cost:
    """Backward of ``bilinear``. The double backward is the interpolation again."""
    return _linear_backward(bilinear(grad_output))


@rule(aten.upsample_trilinear3d_backward)
def trilinear_backward(grad_output: Spec) -> Cost:
    """Backward of ``trilinear``. The double backward is the interpolation again."""
    return _linear_backward(trilinear(grad_output))


@rule(aten.upsample_bicubic2d_backward)
def bicubic_backward(grad_output: Spec) -> Cost:
    """Backward of ``bicubic``. The double backward is the interpolation again."""
    return _linear_backward(bicubic(grad_output))


@rule(aten._upsample_bilinear2d_aa)
def bilinear_antialiased(self: Spec, out: Spec) -> Cost:
    """A row, then a column, each through a triangle that is as many samples wide as 2·max(1, in/out).

    Along an axis that is 2·max(in, out) taps in all, a product and an addition each; what of a filter is beyond the
    edge, and weighs nothing, is counted too. Backward a product and a sum a tap, along each axis in turn.
    """
    return _filter(self, out, taps=2)


@rule(aten._upsample_bicubic2d_aa)
def bicubic_antialiased(self: Spec, out: Spec) -> Cost:
    """As ``bilinear_antialiased``, through cubics that are as many samples wide as 4·max(1, in/out)."""
    return _filter(self, out, taps=4)


@rule(aten._upsample_bilinear2d_aa_backward)
def bilinear_antialiased_backward(grad_output: Spec, out: Spec) -> Cost:
    """Backward of ``bilinear_antialiased``. The double backward is the interpolation again."""
    return _linear_backward(bilinear_antialiased(out, grad_output))


@rule(aten._upsample_bicubic2d_aa_backward)
def bicubic_antialiased_backward(grad_output: Spec, out: Spec) -> Cost:
    """Backward of ``bicubic_antialiased``. The double backward is the interpolation again."""
    return _linear_backward(bicubic_antialiased(out, grad_output))


def _linear_backward(forward: Cost) -> Cost:
    """The backward of an operator that is linear in its input."""
    return Cost(gradient(forward, "self"), {"grad_output": forward.forward})


@rule(aten.col2im)
def col2im(self: Spec) -> Cost:
    """Columns are added into an image: one addition an element of theirs; backward each is picked."""
    return Cost(additions(self.numel, self), {"self": ZERO})


@rule(aten.grid_sampler_2d, aten.grid_sampler_3d)
def grid_sampler(input: Spec, grid: Spec, out: Spec, interpolation_mode: int) -> Cost:
    """A coordinate ((x + 1)·W − 1)/2 at 4, then a neighbour, or 2ᵈ corners weighed: a product and an addition each.

    Bilinear weights are ⌊x⌋, t and 1 − t a coordinate and d − 1 products a corner, once for all channels. Backward to
    the input a product a corner, and a sum; to the coordinates d products and an addition a corner, for each of d.
    Bicubic: the polynomials of four weights, 25 a coordinate, and a cubic through cubics. The gradient of coordinates
    has their derivatives, 17 a coordinate, and at each of 16 corners d + 1 products and an addition, for each of d.
    """
    axes = len(input.shape) - 2
    n, points = out.numel, prod(grid.shape[:-1])
    placed = Work(elementwise=3 * axes * points, division=axes * points)
    if interpolation_mode == NEAREST:
        rounded = Work(elementwise=axes * points)
        return Cost(placed + rounded, {"input": Work(accumulate=n), "grid": ZERO})
    if interpolation_mode == BICUBIC:
        weighed = Work(elementwise=(2 + 25) * axes * points + 5 * CUBIC * n)
        moved = Work(elementwise=16 * axes * (axes + 2) * n + (17 + 1) * axes * points)
        return Cost(placed + weighed, {"input": Work(elementwise=5 * CUBIC_BACK * n, accumulate=16 * n), "grid": moved})
    corners = 2**axes
    weights = Work(elementwise=(3 * axes + (axes - 1) * corners) * points)
    scaled = Work(elementwise=axes * points)
    grads = {
        "input": Work(elementwise=corners * n, accumulate=corners * n),
        "grid": Work(elementwise=axes * corners * (axes + 1) * n) + scaled,
    }
    return Cost(placed + weights + Work(elementwise=2 * corners * n), grads)


@rule(aten.grid_sampler_2d_backward, aten.grid_sampler_3d_backward)
def grid_sampler_backward(
    grad_output: Spec,
    input: Spec,
    grid: Spec,
    interpolation_mode: int,
    output_mask: tuple[bool, ...],
    grad_outputs: frozenset[int],
) -> Cost:
    """Backward of ``grid_sampler``: the gradients in ``output_mask``.

    Double backward, where PyTorch has it: upstream the sampling again if the gradient of the input is used, and its
    derivative if that of the coordinates is; for the input and the coordinates as much as their first gradients.
    """
    sampled = grid_sampler(input, grid, grad_output, interpolation_mode)
    first = {name: gradient(sampled, name) for name in ("input", "grid")}
    upstream = (sampled.forward if 0 in grad_outputs else ZERO) + (first["grid"] if 1 in grad_outputs else ZERO)
    grads = {
        "grad_output": upstream,
        "input": first["input"] if 1 in grad_outputs else ZERO,
        "grid": len(grad_outputs) * first["grid"],
    }
    return Cost(gradient(sampled, *operands_in_mask(("input", "grid"), output_mask)), grads)


@rule(aten.affine_grid_generator)
def affine_grid(theta: Spec, out: Spec) -> Cost:
    """θ·(x, y, 1) at every point: d + 1 products and additions a coordinate; backward a matrix product of as many."""
    count = theta.shape[-1] * out.numel
    return Cost(Work(elementwise=2 * count), {"theta": Work(macs=count)})


shuffles = free("a copy in another order; its gradient is one too", aten.pixel_unshuffle, aten.channel_shuffle)


def _filter(self: Spec, out: Spec, taps: int) -> Cost:
    """Along rows, which makes them as wide as the output, then along columns."""
    (*images, height, width), (rows, columns) = self.shape, out.shape[-2:]
    across = height * size_max(width, columns)
    down = columns * size_max(height, rows)
    n = taps * prod(images) * (across + down)
    return Cost(Work(elementwise=2 * n), {"self": Work(elementwise=n, accumulate=n)})


def _interpolation(out: Spec, axes: int) -> Cost:
    """2ᵃ − 1 interpolations between two, an element; backward their two products each, and 2ᵃ sums."""
    n, steps = out.numel, 2**axes - 1
    grads = {"self|input": Work(elementwise=steps * LERP_BACK * n, accumulate=2**axes * n)}
    return Cost(Work(elementwise=steps * LERP * n), grads)
