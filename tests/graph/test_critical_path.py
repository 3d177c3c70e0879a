"""The span and the critical path of the forward pass."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from graphflops import Cost, NotSupported, Spec, Work, capture, rule
from graphflops.graph.build import build
from graphflops.graph.op import Span
from graphflops.graph.passes import CAPTURE_PASSES, PASSES, run_passes
from graphflops.rules.loading import rulebook
from graphflops.tracing.attempts import trace

X = torch.randn(4, 8)


@rule("torch.nn.Linear")
def linear(input: Spec, out: Spec) -> Cost:
    """A product whose sums are trees of three levels: for eight rows."""
    return Cost(Work(macs=out.numel * input.shape[-1]), {"input|weight|bias": Work()}, span=4)


def test_spans_of_rules_add_along_the_longest_chain() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.b(self.a(x)), self.c(x)])

    assert capture(Branches(), (X,), rules=[linear]).span == Span(8, 8)


def test_a_call_without_a_span_is_between_one_operation_and_all_in_sequence() -> None:
    graph = capture(lambda x: (x.exp() + x).view(-1), (X,))
    assert graph.span == Span(2, 2 * 32)
    assert capture(lambda x: x @ x.T, (X,)).span == Span(1, 2 * 4 * 4 * 8)


def test_an_op_without_a_rule_leaves_the_span_unbounded() -> None:
    @rule("torch.nn.Linear")
    def declines(out: Spec) -> Cost:
        """No cost of this layer is known."""
        raise NotSupported("unknown")

    assert capture(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), (X,), rules=[declines]).span == Span(1, None)


def test_the_critical_path_has_the_most_flops() -> None:
    wide, narrow = nn.Parameter(torch.randn(8, 64)), nn.Parameter(torch.randn(8, 2))

    def model(x: Tensor) -> Tensor:
        return (x @ wide).sum() + (x @ narrow).exp().exp().exp().sum()

    graph = capture(model, (X,))
    assert [graph.op(name).target.split(".")[1] for name in graph.critical_path] == ["mm", "sum", "add"]
    assert graph.nodes[graph.critical_path[0]]["flops"]["forward"] == 2 * 4 * 8 * 64


@pytest.mark.parametrize("fold", [True, False])
def test_repeats_are_on_the_path_as_often_as_they_run(fold: bool) -> None:
    model = nn.Sequential(*(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(6)))
    x = torch.randn(2, 5, 8)

    def one_each(graph):  # type: ignore[no-untyped-def]
        for op in graph.calls():
            graph.nodes[op.name].update(span=Span(1, 1), flops={"forward": 1})
        return graph

    traced = trace(model, (x,), {}, rulebook(), fold=fold, storages=True)
    graph = run_passes(build(traced), (*PASSES, one_each, *CAPTURE_PASSES))
    assert bool(graph.repeats()) == fold
    assert graph.span.lower == len(graph.critical_path)
    paths = {op.name: op.module_path for op in graph.every_op()}
    per_block = Counter(paths[name].partition(".")[0] for name in graph.critical_path)
    assert len(per_block) == 6
    assert len({*per_block.values()}) == 1
