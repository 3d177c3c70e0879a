"""graphflops.capture: the graph that analyze counts, as a networkx.DiGraph."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from graphflops import Cost, NotSupported, Spec, UsageError, Work, analyze, capture, rule
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
    @rule("torch.nn.Linear")
    def declines(out: Spec) -> Cost:
        """No cost of this layer is known."""
        raise NotSupported("unknown")

    graph = capture(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), (X,), rules=[declines])
    assert [(op.target, "flops" in graph.nodes[op.name]) for op in graph.calls()] == [
        ("torch.nn.modules.linear.Linear", False),
        ("aten.relu", True),
    ]


def test_a_node_whose_rule_lacks_a_gradient_has_no_flops() -> None:
    @rule("torch.nn.Linear")
    def only_input(input: Spec, out: Spec) -> Cost:
        """The gradient of the weight is missing."""
        return Cost(Work(macs=out.numel), {"input": Work(macs=out.numel)})

    graph = capture(nn.Linear(8, 4), (X,), rules=[only_input])
    (call,) = graph.calls()
    assert call.target == "torch.nn.modules.linear.Linear"
    assert "flops" not in graph.nodes[call.name]


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
    @pytest.mark.parametrize("training", [True, False])
    def test_training_that_differs_from_that_of_the_capture(self, training: bool) -> None:
        model, x = MODELS["a perceptron"]
        graph = capture(model, (x,), training=training)
        with pytest.raises(UsageError, match=f"captured with training={training}"):
            analyze(graph, training=not training)

    def test_a_pass_that_returns_no_graph(self) -> None:
        def forgets(graph: OpGraph) -> OpGraph:
            return None  # type: ignore[return-value]

        model, x = MODELS["a perceptron"]
        with pytest.raises(UsageError, match="the pass forgets returned NoneType"):
            capture(model, (x,), passes=[forgets])

    def test_a_pass_that_raises(self) -> None:
        def fails(graph: OpGraph) -> OpGraph:
            raise KeyError("no such node")

        model, x = MODELS["a perceptron"]
        with pytest.raises(UsageError, match="the pass fails raised KeyError: 'no such node'"):
            capture(model, (x,), passes=[fails])

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
