"""Graphs that the user brings are taken as they are, and cost what the model costs that they came from."""

import pytest
import torch
from torch import Tensor, fx, nn

from graphflops import CaptureError, Report, analyze


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.layer(x)) * scale}


SINCE_2_9 = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)
X, SCALE = torch.zeros(2, 5, 8), torch.zeros(3)


def works(report: Report) -> dict[str, dict[str, int]]:
    by_phase = {}
    for phase in ("forward", "dgrad", "wgrad", "recompute", "optimizer"):
        by_phase[phase] = {path: flops for path, flops in report.by_module(phase).items() if flops}
    return by_phase


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_program(strict: bool) -> None:
    model = Net()
    program = torch.export.export(model, (X,), {"scale": SCALE}, strict=strict)
    report = analyze(program, (X,), {"scale": SCALE}, convention="exact")
    alone = analyze(model, (X,), {"scale": SCALE}, convention="exact")
    if strict and not SINCE_2_9:  # whose programs name no modules in an encoder's layer
        assert report.flops() == alone.flops()
        return
    assert works(report) == works(alone)
    assert report.modules["layer.self_attn"] == "MultiheadAttention"
    assert report.capture_notes == ("an exported program, replayed as it is",)


def test_an_exported_program_has_frozen_parameters() -> None:
    model = Net()
    model.layer.requires_grad_(False)
    program = torch.export.export(model, (X, SCALE))
    assert analyze(program, (X, SCALE)).work("wgrad").macs == 2 * 5 * 8 * 3


def test_a_graph_module() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.GELU(), nn.LayerNorm(8)), nn.Linear(8, 2))
    x = torch.zeros(6, 4)
    report = analyze(fx.symbolic_trace(model), (x,), convention="exact")
    assert report.capture_notes == ("a GraphModule, replayed as it is",)
    assert works(report) == works(analyze(model, (x,), convention="exact"))


def test_a_compiled_module_is_its_model() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    x = torch.zeros(6, 4)
    assert works(analyze(torch.compile(model), (x,))) == works(analyze(model, (x,)))


class Halves(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., :2].exp(), x[..., 2:].exp()


class Blocks(nn.Module):
    """Equal blocks, of which all but the first are repeats, and a module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(4))
        self.shared = nn.Linear(8, 8)
        self.halves = Halves()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for block in self.blocks:
            x = x + block(x)
        x = self.shared(self.shared(x).relu()[:2])
        left, right = self.halves(x)
        return {"left": left, "sum": left.sum() + right}


@pytest.mark.parametrize("fold", [True, False])
def test_modules_of_an_exported_program_have_the_shapes_that_they_return(fold: bool) -> None:
    model, x = Blocks(), torch.zeros(5, 3, 8)
    program = torch.export.export(model, (x,))
    assert analyze(program, (x,), fold=fold).info.output_shapes == analyze(model, (x,)).info.output_shapes


@pytest.mark.parametrize("fold", [True, False])
def test_modules_of_a_graph_module_have_the_shapes_that_they_return(fold: bool) -> None:
    model, x = Blocks(), torch.zeros(5, 3, 8)
    graph = fx.symbolic_trace(model.blocks[0])
    assert analyze(graph, (x,), fold=fold).info.output_shapes == analyze(model.blocks[0], (x,)).info.output_shapes


class Careful(nn.Module):
    """Looks at its data, unless it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if not torch.compiler.is_exporting() and x.sum() > 1e6:
            return x
        return self.layer(x)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_model_that_exports_although_it_looks_at_its_data_is_exported() -> None:
    model = Careful()
    report = analyze(model, (torch.zeros(2, 3),))
    assert (report.model, report.macs, report.work("backward").macs) == ("Careful", 24, 24)
    assert set(report.parameters) == {"layer.weight", "layer.bias"}
    assert report.capture_notes[0] == "run on fake tensors: stopped where data decides; exported by torch.export"
    assert model.calls == 0


def test_the_error_has_the_message_of_torch_export() -> None:
    with pytest.raises(CaptureError, match=r"\(2\) torch\.export: GuardOnDataDependentSymNode: .+; no rule"):
        analyze(Branches(), (torch.zeros(3),))
