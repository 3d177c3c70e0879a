"""Convolution: every output element is a sum over one filter; groups, strides and dilation included."""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Sizes, Spec, prod
from graphflops.rules.rule import rule
from graphflops.rules.templates import additions, gradient, multiply_adds, operands_in_mask


@rule(aten.convolution, aten._convolution, aten.convolution_overrideable)
def convolution(input: Spec, weight: Spec, transposed: bool, out: Spec) -> Cost:
    """out · (channels in / groups) · kernel: what an output element's filter holds. The bias is its first addend.

    A transposed convolution is the gradient of a plain one: each *input* element meets a filter. The gradients of input
    and weight cost as much as forward each, with groups as without. Padding counts as if it were data.
    """
    positions = input if transposed else out
    macs = multiply_adds(positions.numel * prod(weight.shape[1:]), out)
    return Cost(macs, {"input": macs, "weight": macs, "bias": Work(accumulate=out.numel)})


_INPUT, _WEIGHT, _BIAS = 0, 1, 2


@rule(aten.convolution_backward, aten.convolution_backward_overrideable)
def convolution_backward(
    grad_output: Spec,
    input: Spec,
    weight: Spec,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    groups: Size,
    output_mask: tuple[bool, ...],
    grad_outputs: frozenset[int],
) -> Cost:
    """Backward of a convolution: each gradient in ``output_mask`` is as much as forward.

    The gradients of those in ``grad_outputs`` are convolutions again; PyTorch runs all of them if it needs one. Of that
    of the input: the incoming gradient's convolution with the weight, and the weight's gradient, a convolution whose
    kernel is the output; what its result has beyond the kernel, where the stride leaves a rest, is computed and
    thrown away. Of that of the weight: the convolution of the input, and the gradient of the input.
    """
    first = convolution(input, weight, transposed, grad_output)
    macs = first.forward
    names = operands_in_mask(("input", "weight", "bias"), output_mask)
    n = additions(grad_output.numel, grad_output).elementwise
    second, met = ZERO, 0
    if _INPUT in grad_outputs:
        (batch, channels, *image), (_, filters, *positions) = input.shape, grad_output.shape
        if transposed:
            image, positions = positions, image
        axes = range(len(image))
        stride, padding, dilation = (_per_axis(setting, len(image)) for setting in (stride, padding, dilation))
        taps = [(image[i] + 2 * padding[i] - stride[i] * (positions[i] - 1) - 1) // dilation[i] + 1 for i in axes]
        by_weight = batch * channels * filters * prod(positions) * prod(taps) // groups
        second, met = macs + multiply_adds(by_weight, grad_output), 1
    if _WEIGHT in grad_outputs:
        second, met = second + 2 * macs, met + 1
    if _BIAS in grad_outputs:
        met = met + 1
    return Cost(
        gradient(first, *names),
        {"grad_output|input|weight": second + Work(accumulate=max(met - 1, 0) * n)},
    )


def _per_axis(sizes: Sizes, axes: int) -> Sizes:
    """One number stands for all axes."""
    return sizes if len(sizes) == axes else sizes * axes


@rule(aten.conv_tbc)
def conv_tbc(self: Spec, weight: Spec, out: Spec, pad: int = 0) -> Cost:
    """Time first: (T, B, in) by (kernel, in, out), a product for each tap of the kernel. Padding is skipped.

    Of p steps of padding, tap i < p finds p − i at the beginning, and so from the other end: p·(p + 1) in all, of a
    kernel that is no shorter than p. PyTorch computes the gradients of input, weight and bias together, also where one
    of them is needed.
    """
    taps, *channels = weight.shape
    steps = taps * out.shape[0] - pad * (pad + 1)
    macs = multiply_adds(steps * out.shape[1] * prod(channels), out)
    return Cost(macs, {"self|weight|bias": 2 * macs + Work(accumulate=out.numel)})
