"""The numbers that PyTorch expects of its own counter, in its test/test_flop_counter.py: each of them, from our graph.

Where a test there runs on a GPU only, for its kernels, its numbers are a matter of shapes, and are so here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

from graphflops import Report, analyze
from graphflops.analysis.mac_counter import count_macs


def empty(*shape: int, requires_grad: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, requires_grad=requires_grad, dtype=dtype, device="meta")


class Published(NamedTuple):
    """A test of PyTorch, and the FLOPs that it expects, forward and backward."""

    test: str
    flops: int
    run: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    training: bool = True


def variety(*x: Tensor) -> Any:
    return (
        torch.mm(x[0], x[1]),
        torch.addmm(x[2], x[0], x[1], beta=0.5, alpha=0.5),
        torch.matmul(x[3], x[4]),
        torch.einsum("ab,bc->ac", x[5], x[6]),
        F.linear(x[7], x[8], x[9]),
    )


def expanded(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.bmm((a @ b).unsqueeze(0).expand(7, 4, 6), c).sum()


def twice(a: Tensor) -> Tensor:
    return a.mm(a.t()).sum() + a.mm(a.t()).sum()


def squared(x: dict[str, Tensor]) -> dict[str, Tensor]:
    x = {"a": x["a"].relu_()}
    return {"a": torch.mm(x["a"], x["a"])}


def nested(x: Tensor) -> Tensor:
    return squared(squared({"a": x.clone()}))["a"].sum()


def transposed_loop(x: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    return [F.conv_transpose2d(x, weight, bias, stride=2).sum() for _ in range(50)]


def written(x: Tensor, y: Tensor) -> Tensor:
    return torch.mm(x, x, out=y)


a, b = empty(4, 5), empty(5, 6)
VARIETY = (a, b, empty(4, 6), empty(5, 6), empty(6, 7), empty(6, 7), empty(7, 8), empty(8, 9), empty(10, 9), empty(10))
WEIGHTS = (empty(4, 8, 2, 2, requires_grad=True), empty(8, requires_grad=True))

TABLE = [
    Published("test_flop_counter_variety", 3012, variety, VARIETY),
    Published("test_op, mm", 240, torch.mm, (a, b)),
    Published("test_op, bmm", 720, torch.bmm, (empty(3, 4, 5), empty(3, 5, 6))),
    Published(
        "test_op, addmm of three shapes",
        720,
        lambda a, b, *case: [torch.addmm(c, a, b) for c in case],
        (a, b, empty(4, 6), empty(4, 1), empty(6)),
    ),
    Published("test_op, baddbmm", 720, torch.baddbmm, (empty(3, 4, 6), empty(3, 4, 5), empty(3, 5, 6))),
    Published(
        "test_op, conv2d", 28_800, lambda x, w: F.conv2d(x, w, padding=1), (empty(2, 3, 6, 6), empty(6, 3, 4, 4))
    ),
    Published("test_op, conv1d", 1440, lambda x, w: F.conv1d(x, w, padding=1), (empty(2, 3, 6), empty(6, 3, 4))),
    Published("test_backward", 5184, expanded, (empty(4, 5, requires_grad=True), b, empty(7, 6, 7))),
    Published("test_backward_reset", 960, twice, (empty(4, 5, requires_grad=True),)),
    Published("test_conv_transpose_loop", 1_536_000, transposed_loop, (empty(1, 4, 30, 2), *WEIGHTS)),
    Published("test_addmm_out", 2000, written, (empty(10, 10), empty(10, 10))),
    Published("test_pytrees, twice", 12_000, nested, (empty(10, 10, requires_grad=True),)),
    Published("test_pytrees, once", 6000, lambda x: (torch.mm(x, x),), (empty(10, 10, requires_grad=True),)),
]


@pytest.mark.parametrize("published", TABLE, ids=[row.test for row in TABLE])
def test_an_operation(published: Published) -> None:
    report = analyze(published.run, published.inputs, convention="torch", attention="math")
    assert report.forward + report.backward == published.flops
    assert report.coverage.unknown == 0
    assert 2 * sum(vars(count_macs(published.run, published.inputs)).values()) == published.flops


CHANNELS = [(1, 1), (1, 3), (3, 1), (3, 7), (2, 4), (4, 2)]
CONVOLUTIONS = [
    (F.conv_transpose2d, (1, 1, 2, 2), (1, 1, 2, 2), 32),
    (F.conv2d, (1, 1, 2, 2), (1, 1, 1, 1), 8),
    *[(F.conv2d, (1, inner, 4, 4), (outer, inner, 2, 2), None) for inner, outer in CHANNELS],
    *[(F.conv_transpose2d, (1, inner, 4, 4), (inner, outer, 2, 2), None) for inner, outer in CHANNELS],
]


@pytest.mark.parametrize(("convolution", "image", "weight", "flops"), CONVOLUTIONS)
def test_a_convolution_costs_twice_as_much_backward(
    convolution: Callable[..., Tensor], image: tuple[int, ...], weight: tuple[int, ...], flops: int | None
) -> None:
    """test_convs, which gives the first two a number."""
    report = analyze(
        convolution, (empty(*image, requires_grad=True), empty(*weight, requires_grad=True)), convention="torch"
    )
    assert report.backward == 2 * report.forward
    assert flops in (None, report.forward)


def attention(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], way: str, **options: Any) -> Report:
    inputs = [empty(*tensor, requires_grad=True, dtype=torch.float16) for tensor in (query, key, value)]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, **options)

    return analyze(attend, tuple(inputs), convention="torch", attention=way)


SAME = (4, 8, 128, 64), (4, 8, 128, 64), (4, 8, 128, 64)
MORE_KEYS = (4, 8, 128, 64), (4, 8, 256, 64), (4, 8, 256, 64)


@pytest.mark.parametrize(
    ("shapes", "way", "forward", "total"),
    [
        (SAME, "math", 134_217_728, 134_217_728 * 3),
        (SAME, "flash", 134_217_728, 134_217_728 * 7 // 2),
        (MORE_KEYS, "math", 268_435_456, 805_306_368),
        (MORE_KEYS, "flash", 268_435_456, 939_524_096),
    ],
    ids=["math", "flash", "math, more keys", "flash, more keys"],
)
def test_attention(shapes: tuple[tuple[int, ...], ...], way: str, forward: int, total: int) -> None:
    """test_sdpa: three times forward the math way, three and a half times what does not keep the scores."""
    report = attention(*shapes, way)
    assert report.forward == forward
    assert report.forward + report.backward + report.recompute == total


def _knows_groups() -> bool:
    try:
        return bool(sdpa_flop_count((1, 2, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)))
    except AssertionError:
        return False


KNOWS_GROUPS = _knows_groups()


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 8, 128, 64), (4, 2, 256, 64), (4, 2, 256, 64)),
        ((4, 8, 128, 64), (4, 1, 128, 64), (4, 1, 128, 32)),
        ((4, 8, 128, 64), (4, 8, 256, 64), (4, 8, 256, 96)),
    ],
    ids=["grouped queries", "one key for all, values of their own width", "values of their own width"],
)
def test_attention_of_other_shapes(shapes: tuple[tuple[int, ...], ...]) -> None:
    """The FLOPs of the fused kernels by PyTorch's own formulas."""
    if shapes[0][1] != shapes[1][1] and not KNOWS_GROUPS:
        pytest.skip("before PyTorch 2.9 its formulas ask for as many keys as queries")
    report = attention(*shapes, "flash", enable_gqa=shapes[0][1] != shapes[1][1])
    out = (*shapes[0][:-1], shapes[2][-1])
    assert report.forward == sdpa_flop_count(*shapes)
    if shapes[0][1] == shapes[1][1]:
        assert report.backward + report.recompute == sdpa_backward_flop_count(out, *shapes)


def test_attention_of_sequences_of_four_lengths_is_their_sum() -> None:
    """test_sdpa_nested_tensor: dense attention over 32, 64, 96 and 128 tokens, one after the other."""
    lengths = [32, 64, 96, 128]
    costs = [attention((1, 8, n, 64), (1, 8, n, 64), (1, 8, n, 64), "flash").forward for n in lengths]
    assert sum(costs) == sum(134_217_728 // 4 * n * n // 128**2 for n in lengths)


def test_a_scaled_product() -> None:
    """test_scaled_mm, of 8-bit floats."""

    def scaled(left: Tensor, right: Tensor, one: Tensor) -> Tensor:
        return torch._scaled_mm(left, right.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    narrow = torch.float8_e4m3fn
    report = analyze(scaled, (empty(48, 80, dtype=narrow), empty(112, 80, dtype=narrow), empty()), convention="torch")
    assert report.forward == 860_160


class Residual(nn.Module):
    """Two 3 × 3 convolutions around a shortcut; at a stride the shortcut is a convolution too."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """He et al. 2016."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        widths = [64, 64, 128, 256, 512]
        for i in range(4):
            stride = 1 if i == 0 else 2
            blocks = Residual(widths[i], widths[i + 1], stride), Residual(widths[i + 1], widths[i + 1], 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(x.mean((-2, -1))).sum()


@pytest.fixture(scope="module")
def resnet18() -> Report:
    with torch.device("meta"):
        model = ResNet18()
    return analyze(model, (empty(1, 3, 224, 224, requires_grad=True),), convention="torch")


def test_resnet18_forward_and_backward_to_the_image(resnet18: Report) -> None:
    """test_module: one image of 224 × 224 whose gradient is asked for, so that backward is twice forward."""
    assert sum(resnet18.parameters.values()) == 11_689_512
    assert resnet18.forward + resnet18.backward == 10_884_440_064


def test_the_convolutions_of_its_first_layer(resnet18: Report) -> None:
    assert resnet18.by_module()["layer1"] == 924_844_032
    assert resnet18.by_module("backward")["layer1"] == 1_849_688_064


def test_resnet18_costs_the_same_in_inference_mode(resnet18: Report) -> None:
    """test_inference_mode."""
    with torch.device("meta"):
        model = ResNet18()
    with torch.inference_mode():
        assert analyze(model, (empty(1, 3, 224, 224),), convention="torch").forward == resnet18.forward
