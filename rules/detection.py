"""The operators of torchvision: overlap of boxes, pooling of regions, deformable convolutions.

Targets are names, so that these rules load without torchvision. As in resampling, work done once for a row or a column
of a region is left out.
"""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.errors import NotSupported
from graphflops.core.sizes import Size, Spec, prod
from graphflops.rules.rule import rule
from graphflops.rules.templates import ALL_OPERANDS, multiply_adds

CORNERS = 4
WEIGHTS = 4  # of the corners: (1 − s)·(1 − t), …
PAIR = 12  # corners of the overlap 4, its sides 4, its area, the union 2, a comparison


@rule("torchvision.nms")
def nms(dets: Spec) -> Cost:
    """Each box against all that score less: 12 operations and a division for each of n·(n − 1)/2 pairs.

    That is all pairs, the most there can be: a box that is dropped is compared no further, which data decides. An area
    is 3 a box, and sorting a comparison a box, the leading term of a selection. No gradient.
    """
    n = dets.shape[0]
    pairs = n * (n - 1) // 2  # exact: one of two neighbours is even
    return Cost(Work(elementwise=PAIR * pairs + (3 + 1) * n, division=pairs), {ALL_OPERANDS: ZERO})


@rule("torchvision.roi_align")
def roi_align(rois: Spec, out: Spec, sampling_ratio: int) -> Cost:
    """The mean of r·r points in each bin of a region, interpolated between four corners each: 4 products and 4 sums.

    The weights of the corners are 4 products a point, once for all channels; the mean is a division a bin. Backward the
    division, a product a corner, and a sum where it came from. Regions have no gradient.
    """
    return _roi_align(rois, out, sampling_ratio)


@rule("torchvision.ps_roi_align")
def ps_roi_align(rois: Spec, out: tuple[Spec, Spec], sampling_ratio: int) -> Cost:
    """As ``roi_align``, where each bin reads a channel of its own."""
    return _roi_align(rois, out[0], sampling_ratio)


def _roi_align(rois: Spec, out: Spec, ratio: int) -> Cost:
    if ratio <= 0:
        raise NotSupported(
            "with sampling_ratio ≤ 0 as many points as a region is large are read: give a sampling_ratio"
        )
    n, points = out.numel * ratio**2, rois.shape[0] * prod(out.shape[2:]) * ratio**2
    forward = Work(elementwise=WEIGHTS * points + 2 * CORNERS * n, division=out.numel)
    back = Work(elementwise=CORNERS * n, accumulate=CORNERS * n, division=out.numel)
    return Cost(forward, {"input": back, "rois": ZERO})


@rule("torchvision.roi_pool")
def roi_pool(input: Spec, rois: Spec, out: tuple[Spec, Spec]) -> Cost:
    """The maximum of each bin of a region: a comparison for each element in it. Backward an addition a bin.

    How large a region is, data decides; each is taken to be the whole image, the most that it can be.
    """
    compared = Work(elementwise=rois.shape[0] * prod(input.shape[1:]))
    return Cost(compared, {"input": Work(accumulate=out[0].numel), "rois": ZERO})


@rule("torchvision.ps_roi_pool")
def ps_roi_pool(input: Spec, rois: Spec, out: tuple[Spec, Spec]) -> Cost:
    """The mean of each bin of a region, each of a channel of its own: an addition an element, a division a bin.

    Backward the division, and an addition for each element. A region is taken to be the whole image, as in
    ``roi_pool``.
    """
    pooled = out[0]
    n = rois.shape[0] * pooled.shape[1] * prod(input.shape[2:])
    divided = pooled.numel
    return Cost(Work(elementwise=n, division=divided), {"input": Work(accumulate=n, division=divided), "rois": ZERO})


@rule("torchvision.deform_conv2d")
def deform_conv2d(input: Spec, weight: Spec, out: Spec, offset_groups: int, use_mask: bool) -> Cost:
    """A convolution, out · (channels in / groups) · kernel, of samples that stand where offsets move its taps.

    A point is its place, two sums, and the weights of its corners, 10 as in ``grid_sampler``, once for all channels of
    a group of offsets; a sample is a product and an addition a corner, and a product if there is a mask. Backward the
    gradient of the samples is a product as large as forward, once for input, offset and mask: to the input a product
    and a sum a corner, to the offsets 3 a corner for each of two, to the mask a product and a sum. Samples are kept for
    the gradient of the weight, where torchvision computes them again.
    """
    macs = multiply_adds(out.numel * prod(weight.shape[1:]), out)
    places = input.shape[0] * prod(weight.shape[2:]) * prod(out.shape[2:])
    points, n = places * offset_groups, places * input.shape[1]
    masked = Work(elementwise=n) if use_mask else ZERO
    sampled = Work(elementwise=(2 + 3 * 2 + WEIGHTS) * points + 2 * CORNERS * n)
    return Cost(
        macs + sampled + masked,
        {
            "input|offset|mask": macs,
            "input|offset": masked,
            "input": _scatter(n),
            "offset": Work(elementwise=2 * 3 * CORNERS * n),
            "mask": Work(elementwise=2 * n),
            "weight": macs,
            "bias": Work(accumulate=out.numel),
        },
    )


def _scatter(samples: Size) -> Work:
    """Each sample's gradient, weighed, is added to its corners."""
    return Work(elementwise=CORNERS * samples, accumulate=CORNERS * samples)
