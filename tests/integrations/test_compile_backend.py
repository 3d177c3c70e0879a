"""The backend of torch.compile: its graphs sum to the report of the model, which runs as it does without."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from graphflops import CompileBackend, Report, analyze, compiled_graphs

ROOT = Path(__file__).parents[2]
PHASES = ("forward", "dgrad", "wgrad", "recompute", "total")


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(self.norm(x)).relu()


class Broken(nn.Module):
    """A model that prints and reads a number, so that Dynamo captures three graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 4)
        self.register_buffer("scale", torch.ones(4))
        self.mean = 0.0

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        print("running")
        y = self.head(x) * self.scale
        self.mean = y.detach().mean().item()
        return y + self.head(x)


class BrokenBlock(Block):
    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        torch._dynamo.graph_break()
        return x + self.linear(y)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.norm = nn.BatchNorm1d(16)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.layer(self.embed(tokens)).mean(1))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(self.block, x, use_reentrant=False)
        return result


def trained(model: nn.Module, call: Any, *inputs: Tensor) -> list[Tensor]:
    """The output of a call, and the gradients of the parameters."""
    output = call(*inputs)
    output.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    return [output, *gradients]


def compiled(model: nn.Module, *inputs: Tensor, **options: Any) -> tuple[CompileBackend, list[Tensor]]:
    backend = CompileBackend(**options)
    return backend, trained(model, torch.compile(model, backend=backend), *inputs)


def numbers(counted: Report | CompileBackend) -> dict[str, int]:
    return {phase: counted.flops(phase) for phase in PHASES}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "inputs", "calls"),
    [
        (Broken, torch.randn(5, 8), 3),
        (Attention, torch.randint(0, 10, (3, 7)), 1),
        (lambda: nn.Sequential(*(BrokenBlock() for _ in range(3))), torch.randn(5, 8), 6),
    ],
    ids=["print_and_item", "attention", "equal_blocks_share_a_graph"],
)
def test_the_graphs_sum_to_the_model_and_run_as_it_does(make: Any, inputs: Tensor, calls: int) -> None:
    torch.manual_seed(0)
    model = make()
    backend, results = compiled(model, inputs)
    assert sum(graph.calls for graph in backend.graphs) == calls
    assert numbers(backend) == numbers(analyze(model, (inputs,), optimizer=None))
    assert all(map(torch.equal, results, trained(model, model, inputs)))


def test_a_break_has_the_users_line_and_the_reason() -> None:
    backend, _ = compiled(Broken(), torch.randn(5, 8))
    printed, read = backend.graph_breaks
    assert (printed.source, read.source) == ('print("running")', "self.mean = y.detach().mean().item()")
    assert [graph.ends_at for graph in backend.graphs] == [printed, read, None]
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    file, _, line = read.location.rpartition(":")
    assert Path(file).name == Path(__file__).name
    assert lines[int(line) - 1].strip() == read.source
    assert "trace builtin operator `print`" in printed.reason
    assert "does not support tracing `Tensor.item()`" in read.reason
    assert all(text in str(backend) for text in ("3 graphs", "2 graph breaks", read.location, read.source))


def test_a_break_before_any_operation_is_listed() -> None:
    class First(Block):
        def forward(self, x: Tensor) -> Tensor:
            print("first")
            return super().forward(x)

    backend, _ = compiled(First(), torch.randn(5, 8))
    assert [place.source for place in backend.graph_breaks] == ['print("first")']
    assert [graph.ends_at for graph in backend.graphs] == [None]


def test_reports_have_the_modules_and_parameters_of_the_model() -> None:
    model, x = Broken(), torch.randn(5, 8)
    first = compiled(model, x)[0].reports[0]
    whole = analyze(model, (x,), optimizer=None)
    assert first.parameters == {name: size for name, size in whole.parameters.items() if "blocks" in name}
    assert {path: first.flops("total", path) for path in ("blocks.0.linear", "blocks.1.norm", "blocks.1")} == {
        path: whole.flops("total", path) for path in ("blocks.0.linear", "blocks.1.norm", "blocks.1")
    }
    assert first.modules["blocks.1.norm"] == "LayerNorm"
    assert first.inputs == {"x": "float32(5, 8)"}


def test_other_sizes_have_a_report_of_their_own_whether_dynamo_captures_again_or_not() -> None:
    model, backend = Block(), CompileBackend()
    captured = []

    def spy(module: Any, inputs: Any) -> Any:
        captured.append(module)
        return backend(module, inputs)

    call = torch.compile(model, backend=spy)
    rows = [3, 4, 5, 6, 4]
    for size in rows:
        call(torch.randn(size, 8))
    assert len(captured) == 2  # the second is for any number of rows
    assert [graph.calls for graph in backend.graphs] == [1, 2, 1, 1]
    assert backend.total == sum(analyze(model, (torch.randn(size, 8),), optimizer=None).total for size in rows)


def test_without_gradients_there_is_no_backward() -> None:
    model, backend = Block(), CompileBackend()
    with torch.no_grad():
        torch.compile(model, backend=backend)(torch.randn(5, 8))
    assert numbers(backend) == numbers(analyze(model, (torch.randn(5, 8),), training=False))


def test_a_checkpoint_is_recomputed_to_its_end_as_pytorch_runs_it() -> None:
    model, x = Checkpointed(), torch.randn(5, 8)
    backend = CompileBackend(convention="torch")
    call = torch.compile(model, backend=backend)
    output = call(x).sum()
    with FlopCounterMode(display=False) as counter:  # around the call, Dynamo would capture nothing
        output.backward()
    assert backend.flops("recompute") == backend.flops("forward")
    assert backend.flops("recompute") + backend.flops("backward") == counter.get_total_flops()


def test_what_a_model_does_with_its_data_is_counted_as_it_went() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cheap, self.dear = nn.Linear(8, 1), nn.Linear(8, 100)

        def forward(self, x: Tensor) -> Tensor:
            return self.dear(x) if x.sum() > 0 else self.cheap(x)

    model, backend = Decides(), CompileBackend(convention="torch")
    call = torch.compile(model, backend=backend)
    with torch.no_grad():
        call(torch.ones(5, 8))
        assert backend.total == 2 * 5 * 8 * 100
        backend.clear()
        call(-torch.ones(5, 8))
    assert backend.total == 2 * 5 * 8 * 1


def test_an_error_of_an_analysis_is_in_the_answer_and_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Block(), torch.randn(5, 8)
    expected = trained(model, model, x)
    backend, results = compiled(model, x, convention="nonsense")
    assert all(map(torch.equal, results, expected))
    assert (backend.reports, backend.total) == ((), 0)
    (error,) = backend.errors
    assert "UsageError: there is no convention 'nonsense'" in error
    assert "Totals are lower bounds" in str(backend)


def test_clear_forgets_calls_and_breaks_and_a_graph_that_is_called_is_there_again() -> None:
    model, x = Broken(), torch.randn(5, 8)
    backend = CompileBackend()
    call = torch.compile(model, backend=backend)
    for _ in range(3):
        call(x)
    once = analyze(model, (x,), optimizer=None).total
    assert backend.total == 3 * once
    backend.clear()
    assert (backend.graphs, backend.graph_breaks, backend.total) == ((), (), 0)
    call(x)
    assert backend.total == once


def test_the_backend_has_a_name() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    ((name, value),) = declared["torch_dynamo_backends"].items()
    if name not in torch.compiler.list_backends():  # the environment was installed from an older pyproject.toml
        torch._dynamo.register_backend(EntryPoint(name, value, "torch_dynamo_backends").load(), name)
    compiled_graphs().clear()
    torch.compile(nn.Linear(4, 8), backend="graphflops")(torch.ones(2, 4))
    assert compiled_graphs().flops("forward") == 2 * 2 * 4 * 8
