"""The graph of Ops as DOT: its nodes and edges, FLOPs, and Ops without a rule."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphflops
from graphflops.graph.op_graph import OpGraph

pydot = pytest.importorskip("pydot", reason="pydot is not installed: it comes with the extra dev")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydot's use of pyparsing


@torch.library.custom_op("drawing::odd", mutates_args=())
def odd(x: Tensor) -> Tensor:
    return x.clone()


@odd.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return odd(x)


def parsed(text: str) -> Any:
    (graph,) = pydot.graph_from_dot_data(text)
    return graph


@pytest.fixture(scope="module")
def graph() -> OpGraph:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Odd(), nn.Linear(16, 4))
    return graphflops.capture(model, (torch.ones(2, 8),))


def test_the_nodes_and_edges_are_those_of_the_graph(graph: OpGraph) -> None:
    drawn = parsed(graph.to_dot())
    labels = {node.get_name(): node.get("label").strip('"').split("\\n")[0] for node in drawn.get_nodes()[1:]}
    assert list(labels.values()) == list(graph)
    edges = {(labels[edge.get_source()], labels[edge.get_destination()]) for edge in drawn.get_edges()}
    assert edges == set(graph.edges)


def test_the_flops_are_those_of_the_graph_and_of_the_report(graph: OpGraph) -> None:
    flops = [int(node.get("flops").strip('"')) for node in parsed(graph.to_dot()).get_nodes()[1:] if node.get("flops")]
    assert sum(flops) == graphflops.analyze(graph, optimizer=None).total > 0


def test_an_op_without_a_rule_is_dashed_and_has_no_number(graph: OpGraph) -> None:
    nodes = parsed(graph.to_dot()).get_nodes()[1:]
    (dashed,) = [node for node in nodes if "dashed" in (node.get("style") or "")]
    assert dashed.get("label") == '"apply\\ndrawing.odd\\n2 Odd\\nunsupported"'
    assert dashed.get("flops") is None


def test_it_is_written_to_a_file(graph: OpGraph, tmp_path: Path) -> None:
    assert graph.to_dot(tmp_path / "ops.dot").read_text(encoding="utf-8") == graph.to_dot()
