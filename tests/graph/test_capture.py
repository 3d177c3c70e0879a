"""graphflops.capture: the graph that analyze counts, as a networkx.DiGraph."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from graphflops import UsageError, analyze, capture
from graphflops.graph.op_graph import OpGraph
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.project(x).chunk(3, dim=-1)
        return nn.functional.scaled_dot_product_attention(query, key, value) * self.scale


X = torch.randn(2, 5, 8)
MODELS = {
    "a perceptron": (nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), X),
    "convolutions": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval(), torch.randn(2, 3, 9, 9)),
    "attention": (Attention(), X),
    "blocks": (nn.Sequential(*(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(3))), X),
    "an LSTM": (nn.LSTM(8, 6), X),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_report_of_the_graph_is_that_of_the_model(name: str) -> None:
    model, x = MODELS[name]
    report, graph_report = analyze(model, (x,)), analyze(capture(model, (x,)))
    assert graph_report.by_module_and_operator("total") == report.by_module_and_operator("total")
    assert (graph_report.total, graph_report.optimizer, graph_report.parameters) == (
        report.total,
        report.optimizer,
        report.parameters,
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_flops_of_the_nodes_are_those_of_the_report(name: str) -> None:
    model, x = MODELS[name]
    graph = capture(model, (x,))
    flops = [flops for _, flops in graph.nodes(data="flops") if flops is not None]
    report = analyze(model, (x,), optimizer=None)
    assert sum(phases.get("forward", 0) for phases in flops) == report.forward
    assert sum(sum(phases.values()) for phases in flops) == report.total


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_module_computes_what_the_model_does(name: str) -> None:
    model, x = MODELS[name]
    torch.testing.assert_close(
        tree_leaves(capture(model, (x,), training=False).graph_module(x)),
        tree_leaves(model(x)),
    )


def test_a_node_without_a_rule_has_no_flops() -> None:
    graph = capture(lambda x: torch.linalg.eigvals(x), (torch.randn(3, 3),))
    missing = [name for name, op in graph.nodes(data="op") if op.kind == "call" and "flops" not in graph.nodes[name]]
    assert len(missing) == len(analyze(lambda x: torch.linalg.eigvals(x), (torch.randn(3, 3),)).unsupported_ops())


def test_an_edge_lists_every_tensor_that_is_read() -> None:
    graph = capture(lambda x: torch.matmul(x, x), (torch.randn(3, 3),))
    (maker, reader, reads) = next(iter(graph.edges(data="reads")))
    assert graph.nodes[maker]["op"].kind == "input"
    assert [(read.result, read.spec.shape) for read in reads] == [(None, (3, 3))] * len(reads)
    assert len(reads) == len(graph.nodes[reader]["op"].operands) == 2


def test_nodes_are_in_topological_order() -> None:
    model, x = MODELS["blocks"]
    graph = capture(model, (x,))
    position = {name: i for i, name in enumerate(graph)}
    assert nx.is_directed_acyclic_graph(graph)
    assert all(position[maker] < position[reader] for maker, reader in graph.edges)


def test_a_user_pass_runs_after_the_others() -> None:
    def count_edges(graph: OpGraph) -> OpGraph:
        for name in graph:
            graph.nodes[name]["readers"] = graph.out_degree(name)
        return graph

    model, x = MODELS["a perceptron"]
    graph = capture(model, (x,), passes=[count_edges])
    assert all(graph.nodes[maker]["readers"] > 0 for maker, _ in graph.edges)


def test_the_region_of_a_module_includes_its_submodules() -> None:
    model, x = MODELS["blocks"]
    graph = capture(model, (x,))
    regions = {region.path: region for region in graph.regions("module")}
    assert regions["0"].target == "TransformerEncoderLayer"
    assert {*regions["0.self_attn"].ops} < {*regions["0"].ops} < {*regions[""].ops}


def test_a_checkpointed_region_is_one_region() -> None:
    layer = nn.Linear(8, 8)
    graph = capture(lambda x: checkpoint(lambda x: layer(layer(x).relu()), x, use_reentrant=False).sum(), (X,))
    (region,) = graph.regions("checkpoint")
    assert "relu" in region.ops


class TestErrors:
    def test_a_graph_with_inputs(self) -> None:
        model, x = MODELS["a perceptron"]
        with pytest.raises(UsageError, match="has its inputs already"):
            analyze(capture(model, (x,)), (x,))

    def test_ops_of_a_graph_are_not_expanded(self) -> None:
        model, x = MODELS["a perceptron"]
        with pytest.raises(UsageError, match="analyze the model itself"):
            analyze(capture(model, (x,)), expand=True)

    def test_a_graph_that_cannot_be_run_says_why(self) -> None:
        model = ConfigurableResNetBK(ResNetBKConfig(vocab_size=16, d_model=8, n_layers=1, n_seq=4, num_experts=2))
        graph = capture(model, (torch.zeros(1, 4, dtype=torch.int64),))
        with pytest.raises(UsageError, match=r"cannot be run: .* is not run: its rule describes its outputs"):
            graph.graph_module  # noqa: B018
