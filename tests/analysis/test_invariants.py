"""Invariants of reports, at sizes that hypothesis chooses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphflops import Report, analyze
from graphflops.core.costs import WORK_CLASSES
from graphflops.models import LanguageModel, SparseMoE

sizes = st.integers(1, 9)
PHASES = ("forward", "dgrad", "wgrad", "recompute", "optimizer")
few = settings(max_examples=6, deadline=None)


class Block(nn.Module):
    """A transformer block with operations of its own beside its submodules."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width * heads)
        self.attention = nn.MultiheadAttention(width * heads, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width * heads, 3), nn.GELU(), nn.Linear(3, width * heads))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x) * 0.5


def block(batch: int, length: int, width: int, heads: int, **options: object) -> Report:
    model = nn.Sequential(Block(width, heads), Block(width, heads))
    return analyze(model, (torch.zeros(batch, length, width * heads),), **options)


@few
@given(sizes, sizes, sizes, sizes)
def test_leaves_sum_to_the_total(batch: int, length: int, width: int, heads: int) -> None:
    report = block(batch, length, width, heads)
    for convention in ("standard", "exact", "torch"):
        weighed = report.under(convention)
        assert weighed.total == sum(weighed.flops(phase) for phase in PHASES)
        for phase in (*PHASES, "backward", "total"):
            total = weighed.flops(phase)
            assert sum(weighed.by_component(phase).values()) == total
            assert sum(weighed.by_operator(phase).values()) == total
            assert weighed.by_module(phase)[""] == total
            children = [path for path in weighed.modules if path and "." not in path]
            assert sum(weighed.by_module(phase)[path] for path in children) == total, "the root has none of its own"


@few
@given(sizes, sizes, sizes, sizes, st.integers(2, 5))
def test_work_is_linear_in_the_batch(batch: int, length: int, width: int, heads: int, times: int) -> None:
    """The update of parameters does not depend on the batch size."""
    one, many = block(batch, length, width, heads), block(batch * times, length, width, heads)
    for phase in ("forward", "dgrad", "wgrad", "recompute"):
        for name in WORK_CLASSES:
            assert getattr(many.work(phase), name) == times * getattr(one.work(phase), name), (phase, name)
    assert many.optimizer == one.optimizer


@few
@given(sizes, sizes, sizes, sizes)
def test_a_frozen_model_has_forward_work_alone(batch: int, length: int, width: int, heads: int) -> None:
    model = Block(width, heads).requires_grad_(False)
    report = analyze(model, (torch.zeros(batch, length, width * heads),), convention="exact")
    assert report.total == report.forward > 0


@few
@given(sizes, sizes, sizes, sizes)
def test_forward_attention_does_not_depend_on_the_backward_implementation(
    batch: int, length: int, width: int, heads: int
) -> None:
    flash, math = (block(batch, length, width, heads, attention=attention) for attention in ("flash", "math"))
    assert flash.forward == math.forward
    assert flash.backward == math.backward
    scores = batch * heads * length * length * width
    assert flash.work("recompute").macs == 2 * scores, "one of the two matmuls, in each of two blocks"
    assert not math.work("recompute")


@few
@given(sizes, sizes, st.integers(1, 6))
def test_a_top_1_moe_is_one_expert_and_the_router(tokens: int, width: int, experts: int) -> None:
    x = torch.zeros(tokens, width, requires_grad=True)
    moe = analyze(SparseMoE(width, experts, top_k=1), (x,))
    expert = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, width))
    gate = analyze(nn.Linear(width, experts), (x,))
    dense = analyze(expert, (x,))
    for phase in ("forward", "dgrad", "wgrad"):
        assert moe.work(phase).macs == dense.work(phase).macs + gate.work(phase).macs
    router = 3 * tokens * experts + tokens * experts  # softmax, top-k
    combine = 2 * tokens * width
    assert moe.forward == dense.forward + gate.forward + router + combine


@pytest.mark.slow
@few
@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.data())
def test_resnet_bk_is_linear_in_batch_and_layers(
    layers: int, n: int, width: int, experts: int, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, experts))

    def step(layers: int, batch: int) -> Report:
        model = LanguageModel(vocab_size=11, d_model=width, n_layers=layers, n_seq=n, num_experts=experts, top_k=top_k)
        return analyze(model, (torch.zeros(batch, n, dtype=torch.int64),))

    report = step(layers, 2)
    assert step(layers, 6).forward == 3 * report.forward
    two, three = step(layers + 1, 2), step(layers + 2, 2)
    assert three.total - two.total == two.total - report.total
    assert report.coverage.unknown == 0


def test_totals_order_as_the_weights_of_conventions() -> None:
    report = block(2, 3, 4, 2)
    assert report.under("torch").total <= report.total <= report.under("exact").total
    assert report.under("torch").forward == 2 * report.macs
