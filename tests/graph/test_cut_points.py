"""Where a checkpoint can cut, against runs on data without anything else that ran before, and against brute force."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_storages import Interpreter, resnet, transformer
from torch import Tensor, fx, nn

from graphflops import Spec, capture
from graphflops.graph.cut_points import mark_cut_points
from graphflops.graph.op import Kind, Op, Operand, Source
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.storages import mark_storages
from graphflops.tracing.trace import Trace

IMAGE, SEQUENCE = torch.randn(2, 3, 12, 12), torch.randn(2, 5, 8)


class Forgetting(Interpreter):
    """Runs the captured calls, and forgets all results of calls up to one of them, but for that one."""

    def __init__(self, graph: OpGraph, last: str) -> None:
        super().__init__(graph)
        self.last = last
        self.kept: tuple[Tensor, Tensor] | None = None

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if self.names.get(n) == self.last:
            kept = result.clone()
            given = {value.data_ptr() for node, value in self.env.items() if node.op in ("placeholder", "get_attr")}
            for value in self.env.values():
                if torch.is_tensor(value) and value.data_ptr() not in given:
                    value.fill_(torch.nan)
            self.kept = result.copy_(kept), kept
        return result


def suffices(graph: OpGraph, name: str, x: Tensor) -> bool:
    """Whether the result is the same if only one tensor is kept of those before, and nothing writes to it later."""
    with torch.no_grad():
        expected = Interpreter(graph).run(x)
        interpreter = Forgetting(graph, name)
        result = interpreter.run(x)
    assert interpreter.kept is not None
    return torch.equal(result, expected) and torch.equal(*interpreter.kept)


@pytest.mark.parametrize(("model", "x"), [(resnet(), IMAGE), (nn.Sequential(transformer(), transformer()), SEQUENCE)])
def test_a_cut_point_is_all_that_the_rest_needs(model: nn.Module, x: Tensor) -> None:
    graph = capture(model.eval(), (x,), training=False)
    calls = [op.name for op in graph.calls() if not isinstance(op.out, tuple)]
    cut_names = {name for name, index in graph.cut_points if index is None}
    names = [name for name in calls if _is_activation(graph, name)]
    assert {name for name in names[:-1] if suffices(graph, name, x)} == cut_names & {*names}
    assert cut_names


def _is_activation(graph: OpGraph, name: str) -> bool:
    """Whether a result is no view, which is forgotten with its base."""
    return all(storage is not None and storage.shared_with is None for storage in graph.op(name).storages)


def paths(graph: OpGraph) -> list[str]:
    return [graph.op(name).module_path for name, _ in graph.cut_points]


def test_the_borders_of_residual_blocks_are_cut_points() -> None:
    assert paths(capture(resnet(), (IMAGE,)))[-5:] == ["3", "4", "5", "6", "7"]


def test_the_borders_of_transformer_blocks_are_cut_points_whatever_else_they_read() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(16, 8), nn.Linear(8, 16)
            self.layers = nn.ModuleList([transformer(norm_first=True) for _ in range(3)])

        def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
            x, states = self.embedding(tokens), []
            bias = torch.zeros(5, 5).masked_fill(mask.logical_not(), -torch.inf)
            for layer in self.layers:
                x = layer(x, src_mask=bias)
                states.append(x)
            return self.head(x), states

    graph = capture(Model(), (torch.zeros(2, 5, dtype=torch.long), torch.ones(5, 5, dtype=torch.bool)))
    points = [name for name, _ in graph.cut_points]
    assert {graph.op(name).module_path for name in points} == {"embedding", "layers.0", "layers.1", "layers.2"}
    last_of = {graph.op(name).module_path: name for name in graph if graph.op(name).module_path.startswith("layers")}
    assert {last_of[f"layers.{i}"] for i in range(3)} <= {*points}


def test_a_tensor_that_is_written_to_later_is_no_cut_point() -> None:
    graph = capture(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4)), (torch.randn(2, 4),))
    assert graph.cut_points == (("relu_", None),)


def test_of_a_call_with_several_results_one_can_be_a_cut_point_but_not_two() -> None:
    weight = nn.Parameter(torch.randn(4, 4))
    one = capture(lambda x: (x @ weight).sort().values.exp(), (torch.randn(4, 4),))
    two = capture(lambda x: torch.mul(*(x @ weight).sort()).exp(), (torch.randn(4, 4),))
    assert [index for _, index in one.cut_points] == [None, 0]
    assert [name for name, _ in two.cut_points] == [two.cut_points[0][0], "mul"]


CALLS = st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans())
DAGS = st.lists(CALLS, min_size=1, max_size=9)


@given(DAGS)
@settings(max_examples=100, deadline=None)
def test_cut_points_are_those_of_brute_force(calls: list[tuple[int, int, bool]]) -> None:
    spec = Spec((1,), "float32")

    def op(name: str, kind: Kind, *sources: str) -> Op:
        operands = tuple(Operand(f"x.{i}", source, None, spec, False) for i, source in enumerate(sources))
        return Op(name, kind, None, "", "", operands, {}, spec, False)

    reads = {"0": ["input"]}
    for i, (first, second, reads_both) in enumerate(calls, 1):
        reads[str(i)] = [str(first % i), *([str(second % i)] if reads_both else [])]
    final = str(len(calls))
    graph = OpGraph(trace=Trace(fx.Graph(), {}, frozenset(), ""))
    graph.add_op(op("input", "input"))
    for name, sources in reads.items():
        graph.add_op(op(name, "call", *sources))
    graph.add_op(op("output", "output", final))

    def reaches(name: str, without: str) -> bool:
        return name == "input" or (name != without and any(reaches(source, without) for source in reads[name]))

    expected: tuple[Source, ...] = tuple((name, None) for name in reads if name != final and not reaches(final, name))
    assert mark_cut_points(mark_storages(graph)).cut_points == expected
