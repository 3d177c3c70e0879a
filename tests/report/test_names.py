"""Parts of a model by name or pattern: their numbers are sums of those of the modules."""

import pytest
import torch
from torch import nn

from graphflops import Report, UsageError, analyze
from graphflops.cli import main


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(x).relu())


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Sequential(Block(), Block()), nn.Sequential(Block())
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer1(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def report() -> Report:
    return analyze(Model(), (torch.ones(5, 8),))


@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer", "total"])
@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("layer1.*", ["layer1"]),
        ("layer1", ["layer1"]),
        ("layer1.0.*", ["layer1.0"]),
        ("layer?", ["layer1", "layer2"]),
        ("*.up", ["layer1.0.up", "layer1.1.up", "layer2.0.up", "blocks.0.up", "blocks.1.up", "blocks.2.up"]),
        ("layer[12].0.down", ["layer1.0.down", "layer2.0.down"]),
        ("blocks.[02]", ["blocks.0", "blocks.2"]),
        ("layer_[02]", ["blocks.0", "blocks.2"]),
        ("*", [""]),
    ],
)
def test_a_pattern_has_the_flops_of_the_modules_that_it_matches(
    report: Report, phase: str, pattern: str, paths: list[str]
) -> None:
    by_module = report.by_module(phase)  # type: ignore[arg-type]
    assert report.flops(phase, of=pattern) == sum(by_module[path] for path in paths) > 0
    assert report.with_entries(report.select(pattern)).flops(phase) == report.flops(phase, of=pattern)


def test_a_pattern_alone_asks_for_the_total(report: Report) -> None:
    assert report.flops("layer1.*") == report.by_module("total")["layer1"]
    assert report.flops("head") == report.by_module("total")["head"]
    assert report.work("head") == report.with_entries(report.select("head")).work()


def test_a_pattern_of_operators(report: Report) -> None:
    assert report.flops("forward", of="rel*") == report.by_operator("forward")["relu"] == 6 * 5 * 16
    assert report.flops("forward", of="aten.relu*") == 6 * 5 * 16


def test_a_name_that_is_not_there_is_answered_with_those_that_are_close(report: Report) -> None:
    for query in (report.select, report.explain):
        with pytest.raises(UsageError, match=r"Model has no module, component or op 'layr1.\*'; did you mean layer1"):
            query("layr1.*")
    with pytest.raises(UsageError, match=r"there is no phase 'hed', of forward, .*did you mean head\?"):
        report.flops("hed")
    with pytest.raises(UsageError, match="there is no phase 'forwards'; there are: forward"):
        report.flops("forwards", of="head")
    with pytest.raises(UsageError, match=r"rate pattern 'layr1.\*' matches nothing.*did you mean layer1"):
        analyze(Model(), (torch.ones(5, 8),), rates={"layr1.*": 0.5})


def test_the_command_line_takes_patterns(report: Report, capsys: pytest.CaptureFixture[str], tmp_path) -> None:  # type: ignore[no-untyped-def]
    saved = str(report.to_json(tmp_path / "report.json"))
    assert main(["explain", saved, "--of", "layer1.*"]) == 0
    explained = capsys.readouterr().out
    assert main(["explain", saved, "--of", "layer1"]) == 0
    assert explained.splitlines()[1:] == capsys.readouterr().out.splitlines()[1:]
