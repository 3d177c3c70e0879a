"""Matrix products, forward and each gradient, to the last multiply-add of what autograd really dispatches."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference_macs import count_macs, patterns, seeded
from torch import Tensor, nn

from graphflops import Report, analyze
from graphflops.models import SparseMoE


def counted(report: Report) -> dict[str, int]:
    assert report.coverage.unknown == 0, report.unsupported_ops()
    return {
        "forward": int(report.work("forward").macs),
        "backward": int(report.work("dgrad").macs + report.work("wgrad").macs),
    }


def agree(run: Callable[..., Any], inputs: tuple[Any, ...]) -> Report:
    """The report of a run, after it agreed with the reference count."""
    report = analyze(run, inputs, attention="math")
    assert counted(report) == count_macs(run, inputs)
    assert not report.recompute
    return report


def test_the_reference_count_is_arithmetic() -> None:
    n, k, m, batch = 2, 3, 4, 5
    assert count_macs(torch.mm, tensors("2x3 3x4")) == {"forward": n * k * m, "backward": 2 * (n * k * m)}
    assert count_macs(torch.bmm, tensors("5x2x3 5x3x4", (True, False))) == {
        "forward": batch * n * k * m,
        "backward": batch * n * k * m,
    }
    assert count_macs(torch.mv, tensors("2x3 3")) == {"forward": n * k, "backward": n * k}


def tensors(shapes: str, needs_grad: tuple[bool, ...] | None = None) -> tuple[Tensor, ...]:
    """``"4x5 5"`` as tensors."""
    sizes = [[int(size) for size in shape.split("x")] for shape in shapes.split()]
    return tuple(seeded(*size, requires_grad=needs_grad is None or needs_grad[i]) for i, size in enumerate(sizes))


FUNCTIONS: list[tuple[Callable[..., Tensor], str]] = [
    (F.linear, "3 4x3"),
    (F.linear, "3 4x3 4"),
    (F.linear, "2x3 4x3"),
    (F.linear, "2x3 4x3 4"),
    (F.linear, "5x2x3 4x3"),
    (F.linear, "5x2x3 4x3 4"),
    (F.linear, "2x5x2x3 4x3"),
    (F.linear, "2x5x2x3 4x3 4"),
    (F.linear, "2x3 3"),
    (torch.mm, "2x3 3x4"),
    (torch.bmm, "5x2x3 5x3x4"),
    (torch.addmm, "4 2x3 3x4"),
    (torch.addmm, "2x4 2x3 3x4"),
    (torch.addmm, "1 2x3 3x4"),
    (partial(torch.addmm, alpha=2, beta=3), "4 2x3 3x4"),
    (torch.baddbmm, "5x2x4 5x2x3 5x3x4"),
    (torch.baddbmm, "2x4 5x2x3 5x3x4"),
    (torch.mv, "2x3 3"),
    (torch.addmv, "2 2x3 3"),
    (torch.dot, "3 3"),
    (torch.inner, "3 3"),
    (torch.inner, "2x3 4x3"),
    (torch.outer, "3 4"),
    (torch.tensordot, "2x3x4 3x4x2"),
    (F.linear, "3 3"),
    (torch.linalg.multi_dot, "2x3 3x4 4x5"),
    (torch.kron, "2x3 3x4"),
]

MATMULS = """3 3 | 3 3x4 | 2x3 3 | 2x3 3x4 | 3 5x3x4 | 5x2x3 3 | 5x2x3 3x4 | 2x3 5x3x4 | 5x2x3 5x3x4 | 5x2x3 1x3x4
| 1x2x3 5x3x4 | 2x5x2x3 3x4 | 2x5x2x3 3 | 2x5x2x3 5x3x4 | 2x1x2x3 5x3x4 | 2x1x2x3 1x5x3x4 | 1x3 3x1 | 5x1x3 3x1"""

EINSUMS = [
    ("ij,jk->ik", "2x3 3x4"),
    ("ij,ij->", "2x3 2x3"),
    ("ij,kj->ik", "2x3 4x3"),
    ("bij,bjk->bik", "5x2x3 5x3x4"),
    ("bhid,bhjd->bhij", "2x2x3x4 2x2x5x4"),
    ("bij,jk->bk", "5x2x3 3x4"),
    ("i,j->ij", "3 4"),
    ("ab,bc,cd->ad", "2x3 3x4 4x5"),
    ("ij->ji", "2x3"),
]


def all_patterns(cases: list[tuple[Any, str]]) -> list[Any]:
    return [
        pytest.param(run, shapes, needs_grad, id=f"{name_of(run)} {shapes} {''.join('01'[bit] for bit in needs_grad)}")
        for run, shapes in cases
        for needs_grad in patterns(len(shapes.split()))
    ]


def name_of(run: Any) -> str:
    return run if isinstance(run, str) else getattr(run, "__name__", "scaled")


class TestOneOperator:
    """A gradient for every subset of the operands, so that each is counted alone and with the others."""

    @pytest.mark.parametrize(("run", "shapes", "needs_grad"), all_patterns(FUNCTIONS))
    def test_functions(self, run: Callable[..., Tensor], shapes: str, needs_grad: tuple[bool, ...]) -> None:
        agree((lambda *xs: run(list(xs))) if run is torch.linalg.multi_dot else run, tensors(shapes, needs_grad))

    @pytest.mark.parametrize(
        ("run", "shapes", "needs_grad"),
        all_patterns([(torch.matmul, shapes) for shapes in map(str.strip, MATMULS.split("|"))]),
    )
    def test_matmul_broadcasts(self, run: Callable[..., Tensor], shapes: str, needs_grad: tuple[bool, ...]) -> None:
        agree(run, tensors(shapes, needs_grad))

    @pytest.mark.parametrize(("equation", "shapes", "needs_grad"), all_patterns(EINSUMS))
    def test_einsum(self, equation: str, shapes: str, needs_grad: tuple[bool, ...]) -> None:
        agree(partial(torch.einsum, equation), tensors(shapes, needs_grad))

    def test_the_gradient_of_a_vector_product_has_no_sums(self) -> None:
        matrix, vector = tensors("2x3 3", (True, False))
        report = agree(torch.mv, (matrix, vector))
        assert report.work("dgrad").elementwise == 2 * 3


class TestPhases:
    """Which of the gradients is dgrad and which wgrad."""

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("of_input", [True, False])
    @pytest.mark.parametrize("of_weight", [True, False])
    def test_linear(self, bias: bool, of_input: bool, of_weight: bool) -> None:
        layer = nn.Linear(3, 4, bias=bias)
        layer.weight.requires_grad_(of_weight)
        report = agree(layer, (seeded(2, 3, requires_grad=of_input),))
        assert report.work("dgrad").macs == 2 * 3 * 4 * of_input
        assert report.work("wgrad").macs == 2 * 3 * 4 * of_weight

    def test_of_a_product_of_activations_both_are_dgrad(self) -> None:
        report = agree(torch.mm, tensors("2x3 3x4"))
        assert (report.work("dgrad").macs, report.work("wgrad").macs) == (2 * (2 * 3 * 4), 0)


attend = F.scaled_dot_product_attention
ATTENTION = [
    (attend, "2x3x5x4 2x3x5x4 2x3x5x4"),
    (partial(attend, is_causal=True), "2x3x5x4 2x3x5x4 2x3x5x4"),
    (attend, "2x3x5x4 2x3x7x4 2x3x7x4"),
    (attend, "2x3x5x4 2x3x7x4 2x3x7x6"),
    (attend, "3x5x4 3x7x4 3x7x4"),
    (attend, "2x3x5x4 2x3x7x4 2x3x7x4 5x7"),
    (attend, "2x3x5x4 2x3x7x4 2x3x7x4 2x1x5x7"),
    (partial(attend, enable_gqa=True), "2x6x5x4 2x2x7x4 2x2x7x4"),
    (partial(attend, enable_gqa=True), "2x6x5x4 2x1x7x4 2x1x7x4"),
    (partial(attend, scale=0.5), "2x3x5x4 2x3x5x4 2x3x5x4"),
]


def block(layers: int, *, training: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).train(training)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: block(2, training=True), id="two blocks"),
        pytest.param(lambda: SparseMoE(8, num_experts=3, top_k=2, dropout=0.0), id="mixture of experts"),
    ],
)
def test_dgrad_is_what_a_frozen_model_does_for_its_input(make: Callable[[], nn.Module]) -> None:
    model, frozen = make(), make().requires_grad_(False)
    inputs = (seeded(3, 5, 8, requires_grad=True),)
    report = agree(model, inputs)
    assert report.work("dgrad").macs == count_macs(frozen, inputs)["backward"]


class TestAttention:
    @pytest.mark.parametrize(("run", "shapes", "needs_grad"), all_patterns(ATTENTION))
    def test_every_operand(self, run: Callable[..., Tensor], shapes: str, needs_grad: tuple[bool, ...]) -> None:
        agree(run, tensors(shapes, needs_grad))

    @pytest.mark.parametrize("need_weights", [True, False])
    @pytest.mark.parametrize("of_input", [True, False])
    @pytest.mark.parametrize("frozen", ["", "in_proj", "out_proj", "weight"])
    def test_multihead(self, need_weights: bool, of_input: bool, frozen: str) -> None:
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        freeze(attention, frozen)
        run = Call(attention, need_weights=need_weights)
        agree(run, (*[seeded(3, 5, 8, requires_grad=of_input)] * 3,))

    def test_multihead_across_lengths_and_widths(self) -> None:
        attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)
        inputs = tensors("3x5x8 3x7x6 3x7x4")
        agree(Call(attention, need_weights=False), inputs)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("of_input", [True, False])
    def test_encoder_layer(self, training: bool, of_input: bool) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).train(training)
        agree(layer, (seeded(3, 5, 8, requires_grad=of_input),))

    @pytest.mark.parametrize("training", [True, False])
    def test_decoder_layer(self, training: bool) -> None:
        layer = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True).train(training)
        agree(layer, tensors("3x5x8 3x7x8"))

    def test_frozen_encoder_layer_in_eval_mode(self) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval().requires_grad_(False)
        assert agree(layer, tensors("3x5x8", (False,))).backward == 0

    @pytest.mark.parametrize("of_input", [True, False])
    @pytest.mark.parametrize("frozen", ["", "0.", "1.", "linear", "attn", "in_proj", "weight", ".linear1|1."])
    def test_two_blocks_with_parts_frozen(self, frozen: str, of_input: bool) -> None:
        model = block(2, training=True)
        freeze(model, frozen)
        agree(model, (seeded(3, 5, 8, requires_grad=of_input),))


class Call(nn.Module):
    """A module called with options."""

    def __init__(self, inner: nn.Module, **options: Any) -> None:
        super().__init__()
        self.inner, self.options = inner, options

    def forward(self, *inputs: Tensor) -> Any:
        return self.inner(*inputs, **self.options)[0]


def freeze(model: nn.Module, frozen: str) -> None:
    """Freeze the parameters whose names contain one of the parts, as in ``"experts|gate"``; "" freezes none."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in filter(None, frozen.split("|"))))


class TestMixtureOfExperts:
    """The rule never runs the layer; the reference count runs it, each expert on the tokens routed to it."""

    @pytest.mark.parametrize("top_k", [1, 2, 3])
    @pytest.mark.parametrize("of_input", [True, False])
    @pytest.mark.parametrize(
        "frozen",
        [
            pytest.param("", id="all trainable"),
            pytest.param("gate|experts", id="all frozen"),
            pytest.param("gate", id="experts alone"),
            pytest.param("experts", id="gate alone"),
            pytest.param(".0.weight|.0.bias", id="first layer of experts frozen"),
            pytest.param(".3.weight|.3.bias", id="last layer of experts frozen"),
            pytest.param("gate|.3.|.0.weight", id="biases of the first layer alone"),
            pytest.param("weight", id="biases alone"),
        ],
    )
    def test_really_dispatched(self, top_k: int, of_input: bool, frozen: str) -> None:
        moe = SparseMoE(4, num_experts=3, top_k=top_k)
        freeze(moe, frozen)
        agree(moe, (seeded(2, 7, 4, requires_grad=of_input),))

    def test_for_one_token_and_experts_that_stay_idle(self) -> None:
        agree(SparseMoE(4, num_experts=8, top_k=1), (seeded(1, 4, requires_grad=True),))
