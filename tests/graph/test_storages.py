"""Which results share storage, against the storages of real tensors when the captured calls run on data."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from graphflops import UsageError, analyze, capture
from graphflops.core.torch_compat import DisableTorchFunction
from graphflops.graph.build import build
from graphflops.graph.op import Source
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.passes import CAPTURE_PASSES, PASSES, run_passes
from graphflops.rules.loading import rulebook
from graphflops.tracing.attempts import trace


class Interpreter(fx.Interpreter):
    """Runs the captured calls on data, and notes the storage of each tensor right after the call that made it."""

    def __init__(self, graph: OpGraph) -> None:
        super().__init__(graph.graph_module)
        names = (op.name for op in graph.ops())
        nodes = self.module.graph.nodes
        self.names = {node: next(names) for node in nodes if node.target is not operator.getitem}
        self.storages: dict[int, tuple[torch.UntypedStorage, list[Source]]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.names and n.op != "output":
            many = isinstance(result, (tuple, list))
            for i, tensor in enumerate(result if many else [result]):
                with DisableTorchFunction():
                    storage = tensor.untyped_storage()
                self.storages.setdefault(storage._cdata, (storage, []))[1].append((self.names[n], i if many else None))
        return result


def on_data(graph: OpGraph, *inputs: Tensor) -> tuple[dict[frozenset[Source], int], OpGraph]:
    interpreter = Interpreter(graph)
    interpreter.run(*inputs)
    return {frozenset(tensors): storage.nbytes() for storage, tensors in interpreter.storages.values()}, graph


def in_place(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 0] = 1
    y.view(-1)[3:].add_(1)
    return F.relu(y, inplace=True).t().contiguous()


def views(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    c = x.unsqueeze(0).expand(3, *x.shape).reshape(-1)
    return a.T @ b.contiguous() + c.sum() + x.contiguous().to(x.dtype).permute(1, 0)[:2].flatten()[0]


def storage_is_replaced(x: Tensor) -> Tensor:
    y, z = x + 1, x + 2
    w = y.view(-1)
    y.set_(z)  # type: ignore[call-overload]
    return w + y.view(-1)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        y += x
        return F.relu(y, inplace=True)


def resnet() -> nn.Module:
    stem = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    return nn.Sequential(*stem, Residual(4), Residual(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


class Tied(nn.Module):
    """A weight that is a view of another parameter, as recurrent layers' flat weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.full = nn.Parameter(torch.randn(16, 8))
        self.part = nn.Parameter(self.full.data[:8])

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.part @ self.full.T


def transformer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, **options)


X, IMAGE = torch.randn(4, 8), torch.randn(2, 3, 12, 12)
SEQUENCE = torch.randn(2, 5, 8)
MODELS: dict[str, tuple[Callable[..., Any], Tensor]] = {
    "in place": (in_place, X),
    "views": (views, X),
    "set_": (storage_is_replaced, X),
    "split and unbind": (lambda x: sum(x.split([3, 5], -1)[1].unbind(0)), X),
    "real and imaginary": (lambda x: torch.view_as_real(torch.fft.rfft(x)).sum(), X),
    "a perceptron": (nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.0), nn.Linear(16, 4)), X),
    "an identity": (nn.Sequential(nn.Identity(), nn.Dropout(0.5).eval(), nn.Linear(8, 4)), X),
    "convolutions": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), IMAGE),
    "a ResNet": (resnet(), IMAGE),
    "a transformer block": (transformer(), SEQUENCE),
    "a transformer block with norms first": (transformer(norm_first=True), SEQUENCE),
    "equal blocks": (nn.Sequential(*(transformer() for _ in range(6))), SEQUENCE),
    "an LSTM": (nn.LSTM(8, 6, 2), SEQUENCE),
    "tied parameters": (Tied(), X),
}


@pytest.mark.parametrize("name", MODELS)
def test_results_share_storage_where_real_tensors_do(name: str) -> None:
    model, x = MODELS[name]
    expected, graph = on_data(capture(model, (x,), training=False), x)
    assert {frozenset(group.tensors): group.nbytes for group in graph.storages} == expected
    assert len(expected) < sum(map(len, expected)) or name == "an LSTM", "something is shared"


def test_inputs_share_storage_where_the_users_tensors_do() -> None:
    x = torch.randn(8)
    graph = capture(lambda a, b, c: a + b + c, (x[:4], x[4:], x[:4].clone()))
    assert [group.nbytes for group in graph.storages if len(group.tensors) == 2] == [32]


@pytest.mark.parametrize("name", ["equal blocks", "a ResNet"])
def test_repeats_are_written_out(name: str) -> None:
    model, x = MODELS[name]
    traced = trace(model, (x,), {}, rulebook(), fold=True, storages=True)
    folded = run_passes(build(traced), (*PASSES, *CAPTURE_PASSES))
    whole = capture(model, (x,))
    assert (len(folded) < len(whole)) == (name == "equal blocks")
    assert {*map(frozenset, (group.tensors for group in folded.storages))} == {
        *map(frozenset, (group.tensors for group in whole.storages))
    }
    assert folded.cut_points == whole.cut_points


def test_an_analysis_keeps_no_storages() -> None:
    model, x = MODELS["a perceptron"]
    graph = run_passes(build(trace(model, (x,), {}, rulebook())), PASSES)
    assert not any(op.storages for op in graph.ops())
    with pytest.raises(UsageError, match=r"no storages: graphflops\.capture sets it"):
        graph.storages  # noqa: B018
    assert analyze(model, (x,)).total > 0
