"""Rules for torchvision's operators, against loops on counting numbers; torchvision need not be there."""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import pytest
import torch
from counting_numbers import Real, tallied, tally_of

from graphflops import Cost, NotSupported, Work, analyze, spec
from graphflops.rules.loading import shipped


def cost_of(name: str, **arguments: Any) -> Cost:
    return shipped().rules[f"torchvision.{name}"].evaluate(arguments)


def larger(a: Any, b: Any) -> Any:
    return a if a > b else b


def smaller(a: Any, b: Any) -> Any:
    return a if a < b else b


BOXES = [(0, 0, 4, 4), (1, 1, 5, 5), (8, 8, 9, 9), (2, 0, 4, 3), (20, 20, 21, 30)]


def test_all_pairs_of_boxes_are_compared() -> None:
    def suppressed(boxes: list[Any]) -> int:
        areas = [(right - left) * (below - above) for left, above, right, below in boxes]
        suppressed = 0
        for (i, a), (j, b) in combinations(enumerate(boxes), 2):
            width = larger(0.0, smaller(a[2], b[2]) - larger(a[0], b[0]))
            height = larger(0.0, smaller(a[3], b[3]) - larger(a[1], b[1]))
            overlap = Real(width) * Real(height)
            suppressed += overlap / (areas[i] + areas[j] - overlap) > 0.5
        return suppressed

    _, tally = tallied(suppressed, [[Real(number) for number in box] for box in BOXES])
    sorting = len(BOXES)
    forward = cost_of("nms", dets=spec(len(BOXES), 4)).forward
    assert tally_of(forward) == {**tally, "elementwise": tally["elementwise"] + sorting}


IMAGE = [[float(i * j % 5) for i in range(8)] for j in range(8)]
RATIO, CHANNELS = 2, 3


def corners(y: float, x: float) -> Iterator[tuple[int, int]]:
    return product((int(y), int(y) + 1), (int(x), int(x) + 1))


def weights(s: Any, t: Any, rest_s: Any, rest_t: Any) -> list[Any]:
    return [a * b for a, b in product((rest_s, s), (rest_t, t))]


def test_an_aligned_bin_is_the_mean_of_points_between_corners() -> None:
    def one_bin() -> list[Any]:
        totals = [Real(0)] * CHANNELS
        for y, x in product((0.25, 0.75), repeat=2):
            weighed = weights(Real(y), Real(x), Real(1 - y), Real(1 - x))
            for channel in range(CHANNELS):
                for weight, (row, column) in zip(weighed, corners(y, x), strict=True):
                    totals[channel] = totals[channel] + weight * IMAGE[row][column]
        return [total / RATIO**2 for total in totals]

    _, tally = tallied(one_bin)
    cost = cost_of("roi_align", rois=spec(1, 5), out=spec(1, CHANNELS, 1, 1), sampling_ratio=RATIO)
    assert tally_of(cost.forward) == tally
    read = CHANNELS * RATIO**2 * 4
    assert cost.grads == {"input": Work(elementwise=read, accumulate=read, division=CHANNELS), "rois": Work()}


def test_regions_and_bins_are_all_alike() -> None:
    one, many = (
        cost_of("roi_align", rois=spec(regions, 5), out=spec(regions, 4, bins, bins), sampling_ratio=2).forward
        for regions, bins in ((1, 1), (7, 3))
    )
    assert many == 7 * 9 * one


@pytest.mark.parametrize("name", ["roi_align", "ps_roi_align"])
def test_as_many_points_as_a_region_is_large_are_unknown(name: str) -> None:
    out = spec(5, 8, 2, 2)
    with pytest.raises(NotSupported, match="give a sampling_ratio"):
        cost_of(name, rois=spec(5, 5), out=(out, out) if name.startswith("ps") else out, sampling_ratio=-1)


def test_a_pooled_region_is_taken_to_be_the_whole_image() -> None:
    regions, bins, height, width = 5, 2, 8, 8
    image, rois = spec(1, 12, height, width), spec(regions, 5)
    largest = cost_of("roi_pool", input=image, rois=rois, out=(spec(regions, 12, bins, bins),) * 2)
    assert largest.forward == Work(elementwise=regions * 12 * height * width)
    assert largest.grads["input"] == Work(accumulate=regions * 12 * bins * bins)
    means = cost_of("ps_roi_pool", input=image, rois=rois, out=(spec(regions, 3, bins, bins),) * 2)
    assert means.forward == Work(elementwise=regions * 3 * height * width, division=regions * 3 * bins * bins)


def deformed(groups: int = 1, offset_groups: int = 1, *, mask: bool = True) -> Cost:
    image, filters, out = spec(2, 4, 9, 9), spec(6, 4 // groups, 3, 3), spec(2, 6, 7, 7)
    return cost_of("deform_conv2d", input=image, weight=filters, out=out, offset_groups=offset_groups, use_mask=mask)


def test_a_deformed_convolution_has_the_products_of_a_plain_one() -> None:
    for groups in (1, 2):
        plain = analyze(torch.nn.Conv2d(4, 6, 3, groups=groups), (torch.zeros(2, 4, 9, 9, requires_grad=True),))
        cost = deformed(groups)
        assert cost.forward.macs == plain.work("forward").macs
        assert cost.grads["input|offset|mask"].macs == plain.work("dgrad").macs
        assert cost.grads["weight"].macs == plain.work("wgrad").macs


def test_its_samples_stand_between_corners() -> None:
    def sample(y: float, x: float, dy: Any, dx: Any, mask: Any) -> list[Any]:
        y, x = y + dy, x + dx
        row, column = Real(int(y)), Real(int(x))
        s, t = y - row, x - column
        weighed = weights(s, t, 1 - s, 1 - t)
        totals = []
        for _ in range(4):
            total = Real(0)
            for weight, (i, j) in zip(weighed, corners(float(row), float(column)), strict=True):
                total = total + weight * IMAGE[i][j]
            totals.append(total * mask)
        return totals

    _, tally = tallied(sample, 2.0, 3.0, Real(0.3), Real(0.6), Real(0.5))
    tally["elementwise"] += 2  # the floors
    taps, places = 3 * 3, 2 * 7 * 7
    forward = deformed().forward
    assert forward.elementwise == taps * places * tally["elementwise"]
    assert forward.elementwise - deformed(mask=False).forward.elementwise == taps * places * 4
    one, two = (deformed(offset_groups=groups).forward.elementwise for groups in (1, 2))
    assert two - one == taps * places * (tally["elementwise"] - 4 * (2 * 4 + 1))  # places and weights once more


@pytest.mark.filterwarnings("ignore:`create_unbacked_symint`:FutureWarning")  # of torchvision, if it is there
def test_an_operator_by_that_name_is_found() -> None:
    declared = "torchvision::nms"
    with torch.library._scoped_library("torchvision", "FRAGMENT") as library:
        if not torch._C._jit_get_schemas_for_operator(declared):
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.impl("nms", lambda dets, *_: dets.new_empty(len(dets), dtype=torch.int64), "Meta")
        boxes, scores = torch.zeros(6, 4), torch.zeros(6)
        report = analyze(lambda boxes, scores: torch.ops.torchvision.nms(boxes, scores, 0.5), (boxes, scores))
    assert report.coverage.unknown == 0
    assert report.work("forward") == cost_of("nms", dets=spec(6, 4)).forward
