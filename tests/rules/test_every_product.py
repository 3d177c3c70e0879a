"""Every way that PyTorch spells a matrix product, with every choice of what requires grad, real and complex: the rules
agree with what autograd dispatches to the last multiply-add, forward and backward.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import pytest
import torch
import torch.nn.functional as F
from cases import meta
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from graphflops import Work, analyze
from graphflops.analysis.mac_counter import MacCount, count_macs

grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm
"""public since PyTorch 2.10"""

Shape: TypeAlias = tuple[int, ...]
Call: TypeAlias = tuple[Callable[..., Any], tuple[Shape, ...]]

attend = F.scaled_dot_product_attention


def einsum(equation: str, *shapes: Shape) -> Call:
    return partial(torch.einsum, equation), shapes


def _folded(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution as people write it by hand: columns, a product, and back."""
    return F.fold(weight @ F.unfold(x, 3, padding=1), (6, 6), 1)


def _multiplied(*factors: Tensor) -> Tensor:
    return torch.linalg.multi_dot(factors)


def _in_place(into: Tensor, *factors: Tensor) -> Tensor:
    return into.clone().addmm_(*factors)


MATMUL = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((3,), (5, 3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
]

# name → the call and the shapes of what it is given
MAC_FORMULAS: dict[str, Call] = {
    **{f"matmul of {len(a)} by {len(b)} axes, {a} {b}": (torch.matmul, (a, b)) for a, b in MATMUL},
    "linear": (F.linear, ((2, 3, 4), (5, 4), (5,))),
    "mv": (torch.mv, ((3, 4), (4,))),
    "dot": (torch.dot, ((4,), (4,))),
    "vdot": (torch.vdot, ((4,), (4,))),
    "vecdot": (torch.linalg.vecdot, ((2, 4), (2, 4))),
    "outer": (torch.outer, ((3,), (4,))),
    "inner": (torch.inner, ((2, 3), (4, 3))),
    "inner of vectors": (torch.inner, ((3,), (3,))),
    "inner with a number": (torch.inner, ((), (2, 3))),
    "kron": (torch.kron, ((2, 3), (4, 5))),
    "addmm": (torch.addmm, ((5,), (4, 6), (6, 5))),
    "addmm in place": (_in_place, ((4, 5), (4, 6), (6, 5))),
    "addmv": (torch.addmv, ((4,), (4, 6), (6,))),
    "addr": (torch.addr, ((4, 5), (4,), (5,))),
    "baddbmm": (torch.baddbmm, ((4, 5), (2, 4, 6), (2, 6, 5))),
    "baddbmm scaled": (partial(torch.baddbmm, beta=0.5, alpha=2), ((2, 4, 5), (2, 4, 6), (2, 6, 5))),
    "addbmm": (torch.addbmm, ((4, 5), (2, 4, 6), (2, 6, 5))),
    "by itself": (lambda x: x @ x, ((4, 4),)),
    "matrix_power": (partial(torch.linalg.matrix_power, n=6), ((4, 4),)),
    "chain_matmul": (torch.chain_matmul, ((2, 3), (3, 4), (4, 5))),
    "multi_dot of three": (_multiplied, ((2, 3), (3, 4), (4, 5))),
    "multi_dot of four": (_multiplied, ((10, 2), (2, 9), (9, 3), (3, 4))),
    "multi_dot between vectors": (_multiplied, ((3,), (3, 4), (4,))),
    "tensordot": (partial(torch.tensordot, dims=2), ((2, 3, 4), (3, 4, 5))),
    "tensordot over nothing": (partial(torch.tensordot, dims=0), ((2, 3), (4,))),
    "a trace by einsum": einsum("ii->", (4, 4)),
    "a sum by einsum": einsum("ij->j", (4, 3)),
    "a diagonal by einsum": einsum("ii,i->i", (4, 4), (4,)),
    "element by element by einsum": einsum("ij,ij->ij", (2, 3), (2, 3)),
    "outer by einsum": einsum("i,j->ij", (3,), (4,)),
    "a batch by einsum": einsum("...ij,...jk->...ik", (5, 2, 3), (5, 3, 4)),
    "a batch on one side by einsum": einsum("...ij,jk", (5, 2, 3), (3, 4)),
    "scores by einsum": einsum("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    "three by einsum": einsum("bi,oij,bj->bo", (2, 3), (6, 3, 4), (2, 4)),
    "four by einsum": einsum("ab,bc,cd,de->ae", (2, 3), (3, 4), (4, 5), (5, 6)),
    "cov": (torch.cov, ((3, 7),)),
    "corrcoef": (torch.corrcoef, ((3, 7),)),
    "conv1d as long as before": (partial(F.conv1d, padding="same"), ((2, 4, 9), (6, 4, 3), (6,))),
    "conv1d without a batch": (F.conv1d, ((4, 9), (6, 4, 3))),
    "conv2d dilated": (partial(F.conv2d, padding="same", dilation=2), ((2, 4, 9, 9), (6, 4, 3, 3))),
    "conv2d of groups": (partial(F.conv2d, groups=2, stride=2), ((2, 4, 9, 9), (6, 2, 3, 3), (6,))),
    "conv3d": (partial(F.conv3d, padding="valid"), ((2, 4, 5, 5, 5), (6, 4, 2, 2, 2))),
    "conv_transpose1d": (F.conv_transpose1d, ((2, 4, 9), (4, 6, 3))),
    "conv_transpose2d of groups": (partial(F.conv_transpose2d, groups=2, stride=2), ((2, 4, 9, 9), (4, 3, 3, 3))),
    "conv_transpose3d": (F.conv_transpose3d, ((2, 4, 3, 3, 3), (4, 6, 2, 2, 2))),
    "unfold and fold": (_folded, ((2, 3, 6, 6), (12, 27))),
}

# what PyTorch offers for real numbers alone
REAL_ONLY: dict[str, Call] = {
    "bilinear": (F.bilinear, ((2, 3), (2, 4), (6, 3, 4), (6,))),
    "cdist, few": (torch.cdist, ((3, 5), (4, 5))),
    "cdist, many": (torch.cdist, ((30, 5), (40, 5))),
    "cdist, a batch": (torch.cdist, ((2, 30, 5), (2, 40, 5))),
    "conv_tbc": (torch.conv_tbc, ((9, 2, 4), (3, 4, 6), (6,))),
    "conv_tbc padded": (partial(torch.conv_tbc, pad=2), ((9, 2, 4), (3, 4, 6), (6,))),
    "attention": (attend, ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8))),
    "attention, causal": (partial(attend, is_causal=True, scale=0.3), ((2, 4, 5, 8),) * 3),
    "attention with dropout": (partial(attend, dropout_p=0.1), ((2, 4, 5, 8),) * 3),
    "attention with a mask": (attend, ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8), (5, 7))),
    "attention of groups": (partial(attend, enable_gqa=True), ((2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8))),
    "attention of one head of queries": (attend, ((2, 1, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8))),
    "attention of one head of keys": (attend, ((2, 4, 5, 8), (2, 1, 7, 8), (2, 4, 7, 8))),
    "attention of queries without a batch": (attend, ((5, 8), (2, 4, 7, 8), (2, 4, 7, 8))),
    "attention with narrow values": (attend, ((2, 5, 8), (2, 7, 8), (2, 7, 6))),
}

CASES = [
    *(pytest.param(*call, torch.float32, id=name) for name, call in (MAC_FORMULAS | REAL_ONLY).items()),
    *(pytest.param(*call, torch.complex64, id=f"complex {name}") for name, call in MAC_FORMULAS.items()),
]


def choices(n: int) -> list[tuple[bool, ...]]:
    """All require grad, none, or one alone."""
    return list(dict.fromkeys([(True,) * n, (False,) * n, *(tuple(i == j for j in range(n)) for i in range(n))]))


def agree(run: Callable[..., Any], *inputs: Tensor) -> None:
    report = analyze(run, inputs, attention="math")
    assert not report.unsupported_ops()
    backward = report.work("dgrad").macs + report.work("wgrad").macs
    assert MacCount(report.work("forward").macs, backward) == count_macs(run, inputs)


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated", "ignore:Using padding='same'")
@pytest.mark.parametrize(("run", "shapes", "dtype"), CASES)
def test_as_dispatched(run: Callable[..., Any], shapes: tuple[Shape, ...], dtype: torch.dtype) -> None:
    for required in choices(len(shapes)):
        agree(run, *(meta(s, dtype=dtype, requires_grad=grad) for s, grad in zip(shapes, required, strict=True)))


@pytest.mark.parametrize("required", choices(2))
@pytest.mark.parametrize(
    ("left", "right", "groups"),
    [
        ((3, 8, 8), (3, 8, 16), 0),
        ((8, 8), (3, 8, 16), 3),
        ((8, 8), (8, 16), 3),
        ((3, 8, 8), (8, 16), 3),
    ],
)
def test_grouped_products(left: Shape, right: Shape, groups: int, required: tuple[bool, bool]) -> None:
    ends = meta(groups, dtype=torch.int32) if groups else None
    factors = (meta(*s, dtype=torch.bfloat16, requires_grad=g) for s, g in zip((left, right), required, strict=True))
    agree(lambda a, b, *ends: grouped_mm(a, b, offs=ends[0] if ends else None), *factors, *([ends] if groups else []))


def test_a_product_of_narrow_floats() -> None:
    one = meta(())
    a, b = meta(16, 32, dtype=torch.float8_e4m3fn), meta(48, 32, dtype=torch.float8_e4m3fn)
    agree(lambda a, b, one: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16), a, b, one)


INTEGERS: dict[str, tuple[Callable[..., Any], Shape, Shape]] = {
    "mm": (torch.mm, (32, 8), (8, 16)),
    "matmul": (torch.matmul, (2, 32, 8), (8, 16)),
    "bmm": (torch.bmm, (2, 32, 8), (2, 8, 16)),
    "einsum": (partial(torch.einsum, "ij,jk->ik"), (32, 8), (8, 16)),
    "conv2d": (F.conv2d, (1, 2, 5, 5), (3, 2, 3, 3)),
}


class TestIntegers:
    """Their products are multiply-adds in another dtype; the reference is PyTorch's own counter, on real integers."""

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int8])
    @pytest.mark.parametrize("name", INTEGERS)
    def test_are_counted_as_pytorch_counts_them(self, name: str, dtype: torch.dtype) -> None:
        function, left, right = INTEGERS[name]
        a, b = torch.ones(left, dtype=dtype), torch.ones(right, dtype=dtype)
        with FlopCounterMode(display=False) as counter:
            function(a, b)
        report = analyze(function, (a, b))
        assert report.under("torch").forward == counter.get_total_flops() > 0
        assert count_macs(function, (a, b)).forward == report.macs

    def test_so_is_the_product_of_int8(self) -> None:
        a, b = torch.ones(32, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)
        with FlopCounterMode(display=False) as counter:
            product = torch.mm(a.int(), b.int())
        assert torch.equal(product, torch._int_mm(a, b))
        report = analyze(torch._int_mm, (a, b))
        assert report.forward == report.under("torch").forward == counter.get_total_flops()
        assert count_macs(torch._int_mm, (a, b)).forward == report.macs

    def test_the_report_says_in_which_dtype(self) -> None:
        a, b = torch.ones(32, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)
        assert analyze(torch._int_mm, (a, b)).by_dtype() == {"int32": Work(macs=32 * 8 * 16)}


@pytest.mark.parametrize("mode", ["use_mm_for_euclid_dist", "use_mm_for_euclid_dist_if_necessary"])
def test_distances_by_a_product_are_one(mode: str) -> None:
    """As PyTorch writes it: of (−2·x, |x|², 1) and (y, 1, |y|²)."""

    def written(x: Tensor, y: Tensor) -> Tensor:
        square, other = x.pow(2).sum(-1, keepdim=True), y.pow(2).sum(-1, keepdim=True)
        left = torch.cat([-2 * x, square, torch.ones_like(square)], -1)
        right = torch.cat([y, torch.ones_like(other), other], -1)
        return (left @ right.mT).clamp_min(0).sqrt()

    x, y = torch.randn(30, 5), torch.randn(40, 5)
    with FlopCounterMode(display=False) as counter:
        distances = written(x, y)
    assert torch.allclose(distances, torch.cdist(x, y, compute_mode=mode), atol=1e-3)
    assert 2 * analyze(partial(torch.cdist, compute_mode=mode), (x, y)).macs == counter.get_total_flops()
