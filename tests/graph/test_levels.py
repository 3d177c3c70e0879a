"""The level below: composite calls by the ATen operators that they run, whatever rules exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from graphflops import Cost, Spec, UsageError, Work, analyze, capture, rule
from graphflops.graph.build import build
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.passes import run_passes
from graphflops.report.report import Report
from graphflops.rules.loading import rulebook
from graphflops.rules.targets import qualified_name
from graphflops.tracing.attempts import trace
from graphflops.tracing.isolation.isolation import run_isolated

Calls = list[tuple[str, tuple[tuple[tuple[int, ...], str], ...]]]
"""target, and shape and dtype of each result"""


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Block(nn.Module):
    """Attention by products of unusual strides, a buffer, a write in place, and a Function."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24, bias=False)
        self.norm = nn.LayerNorm(8)
        self.register_buffer("scale", torch.full((8,), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.project(self.norm(x)).chunk(3, dim=-1)
        scores = torch.einsum("bid,bjd->bij", query, key).softmax(-1)
        mixed = torch.matmul(scores, value) * self.scale
        return Square.apply(mixed.mul_(2.0)) + F.gelu(x.transpose(0, 1)).transpose(0, 1)


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)


def attention(**options: Any) -> Callable[..., torch.Tensor]:
    return lambda x: F.scaled_dot_product_attention(x, x, x, **options)


X = torch.randn(2, 5, 8)
IMAGE = torch.randn(2, 3, 9, 9)
MODELS: dict[str, tuple[Callable[..., Any], torch.Tensor]] = {
    "an encoder": (encoder(), X),
    "two encoders": (nn.Sequential(encoder(), encoder()), X),
    "dropout": (nn.TransformerEncoderLayer(8, 2, 16, 0.1), X),
    "an LSTM": (nn.LSTM(8, 6, num_layers=2).double(), X.double()),  # in float32 it is one operator of a library
    "a GRU": (nn.GRU(8, 6, bidirectional=True), X),
    "convolutions": (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU()), IMAGE),
    "one dimension": (nn.Sequential(nn.Conv1d(5, 4, 3), nn.InstanceNorm1d(4), nn.Flatten()), X),
    "pools": (nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Upsample(scale_factor=2)), IMAGE),
    "attention alone": (attention(), X[:, None].clone().requires_grad_()),
    "masked attention": (attention(attn_mask=torch.ones(5, 5, dtype=torch.bool).tril()), X[:, None].clone()),
    "causal attention": (attention(is_causal=True), X[:, None].clone().requires_grad_()),
    "a block": (nn.Sequential(Block(), Block()), X),
    "a table": (nn.Sequential(nn.Embedding(10, 8), encoder(), nn.Linear(8, 10)), torch.zeros(2, 5, dtype=torch.int64)),
}


@rule(
    "torch.nn.TransformerEncoderLayer",
    "torch.nn.MultiheadAttention",
    "torch.nn.LSTM",
    "torch.nn.GRU",
    "torch.nn.Conv2d",
    "torch.nn.BatchNorm2d",
    "torch.nn.InstanceNorm1d",
    "torch.nn.AdaptiveAvgPool2d",
    "test_levels.Block",
)
def of_modules(out: Spec) -> Cost:
    """Some cost of whole modules."""
    return Cost(Work(macs=1), {"*": Work(macs=1)})


@rule("test_levels.Square", "torch.nn.functional.gelu", "torch.nn.functional.layer_norm", "aten.einsum", "aten.matmul")
def of_functions(out: Spec) -> Cost:
    """Some cost of functions."""
    return Cost(Work(macs=1), {"*": Work(macs=1)})


RULES: dict[str, Sequence[Any]] = {"no rule": (), "modules": (of_modules,), "functions": (of_functions,)}
BOOKKEEPING = ("aten.detach", "aten.alias", "aten.empty.memory_format", "aten._local_scalar_dense")
"""what autograd saves, notes of views that were written to, workspace of batch norm, and numbers that Python reads"""


class Witness(TorchDispatchMode):
    """The operators that really run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Calls = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        if (target := qualified_name(op)) not in BOOKKEEPING:
            tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            specs = tuple((tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for tensor in tensors)
            self.calls.append((target, specs))
        return result


def calls_of(graph: OpGraph) -> Calls:
    """The calls of ATen operators in a graph, but for those of a backward pass."""
    return [
        (op.target, tuple((tuple(spec.shape), spec.dtype) for spec in op.outputs if spec.dtype != "none"))
        for op in graph.ops()
        if op.kind == "call" and op.hook is None and op.own_code is None and op.target not in BOOKKEEPING
    ]


def by_phase(report: Report) -> list[int]:
    """Not what is recomputed: attention with dropout runs as two products here, and these save the scores."""
    return [report.flops(phase) for phase in ("forward", "dgrad", "wgrad", "optimizer")]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", MODELS)
def test_the_level_below_has_the_operators_that_really_run(name: str, rules: str) -> None:
    model, x = MODELS[name]
    flat = capture(model, (x,), rules=RULES[rules]).flattened()
    with Witness() as witness:
        model(x)
    assert calls_of(flat) == witness.calls


@pytest.mark.parametrize("name", MODELS)
def test_the_level_below_has_the_products_of_the_rules(name: str) -> None:
    model, x = MODELS[name]
    graph = capture(model, (x,), convention="torch")
    report, below = analyze(graph, convention="torch"), analyze(graph.flattened(), convention="torch")
    assert not below.unsupported_ops()
    assert by_phase(below) == by_phase(report)


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_checkpointed_region_runs_again_what_it_did(early_stop: bool) -> None:
    model = encoder()

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.utils.checkpoint.set_checkpoint_early_stop(early_stop):
            return checkpoint(model, x, use_reentrant=False)

    graph = capture(run, (X,))
    report, below = analyze(graph, convention="torch"), analyze(graph.flattened(), convention="torch")
    assert below.recompute == report.recompute > 0


def test_a_step_has_the_products_of_the_rules() -> None:
    model = encoder()

    def step(x: torch.Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model(x).sum().backward()
        optimizer.step()

    graph = capture(step, (X,))
    report, below = analyze(graph, convention="torch"), analyze(graph.flattened(), convention="torch")
    assert by_phase(below) == by_phase(report)


def test_repeats_have_the_insides_of_their_template() -> None:
    model = nn.Sequential(*(encoder() for _ in range(4)))

    def graph(*, fold: bool) -> OpGraph:
        return run_passes(build(trace(model, (X,), {}, rulebook(None), fold=fold, insides=True)))

    folded, unfolded = run_isolated(lambda: graph(fold=True)), run_isolated(lambda: graph(fold=False))
    assert folded.repeats()
    assert list(folded.flattened().ops()) == list(unfolded.flattened().ops())
    assert list(folded.regions("composite")) == list(unfolded.regions("composite"))


def test_the_inside_of_a_call_is_a_graph_from_its_operands_to_its_results() -> None:
    graph = capture(nn.Linear(8, 4), (X,))
    (region,) = graph.regions("composite")
    inside = graph.inside(region.name)
    assert region.target == "aten.linear"
    assert [op.target for op in inside.ops() if op.name in region.ops] == [
        "aten.view",
        "aten.t",
        "aten.addmm",
        "aten.view",
    ]
    inputs = [op.name for op in inside.ops() if op.kind == "input"]
    assert inputs == ["linear/input", "linear/weight", "linear/bias"]
    assert nx.ancestors(inside, "linear/output") == {*inside} - {"linear/output"}


def test_operators_inside_of_a_module_have_its_submodules_as_paths() -> None:
    graph = capture(nn.Sequential(encoder()), (X,), rules=[of_modules])
    (region,) = graph.regions("composite")
    assert region.target.endswith("TransformerEncoderLayer")
    paths = {op.module_path for op in graph.inside(region.name).calls()}
    assert paths == {"0", "0.self_attn", "0.norm1", "0.norm2", "0.linear1", "0.linear2"}


def test_the_level_below_keeps_the_composites_as_regions() -> None:
    flat = capture(encoder(), (X,)).flattened()
    regions = [region for region in flat.regions("composite") if region.target == "aten.linear"]
    assert len(regions) == 4
    assert all(name in flat for region in regions for name in region.ops)


def test_a_pass_of_the_users_runs_on_the_level_below() -> None:
    def count(graph: OpGraph) -> OpGraph:
        graph.graph["count"] = len(graph)
        return graph

    graph = capture(encoder(), (X,), passes=[count])
    flat = graph.flattened()
    assert flat.graph["count"] == len(flat) > graph.graph["count"]


def test_the_backward_of_a_function_that_a_rule_names_is_unknown_below() -> None:
    graph = capture(MODELS["a block"][0], (X,), rules=[of_functions])
    below = analyze(graph.flattened())
    assert {unknown.target for unknown in below.unknown} == {"test_levels.Square"}
    assert all("its own backward is not recorded" in unknown.why for unknown in below.unknown)


def test_an_operator_has_nothing_inside() -> None:
    graph = capture(nn.ReLU(), (X,))
    with pytest.raises(UsageError, match=r"relu \(aten.relu\) has no operators inside"):
        graph.inside("relu")
