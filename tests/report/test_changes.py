"""The difference of two reports: it adds up exactly, a rename is a rename, and changed layers are named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import graphflops
from graphflops import Report, UsageError, Work
from graphflops.core.entries import PHASES, Entry, Formula
from graphflops.report.changes.groups import common_label, groups_of
from graphflops.report.conventions import STANDARD
from graphflops.report.parts import Costs, ModelInfo, Versions

X = torch.empty(2, 8, 32, device="meta")


class Block(nn.Module):
    def __init__(self, width: int, hidden: int, up: str, activation: type[nn.Module]) -> None:
        super().__init__()
        self.up = up
        self.add_module(up, nn.Linear(width, hidden))
        self.act = activation()
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(getattr(self, self.up)(x)))


class Net(nn.Module):
    """Blocks and a head; every part can have another size, number or name."""

    def __init__(
        self,
        blocks: int = 4,
        hidden: int = 64,
        name: str = "layers",
        up: str = "fc",
        activation: type[nn.Module] = nn.ReLU,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.ModuleList(Block(32, hidden, up, activation) for _ in range(blocks)))
        self.norm = nn.LayerNorm(32) if norm else None
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        for block in getattr(self, self.name):
            x = block(x)
        return self.head(x if self.norm is None else self.norm(x))


class Renamed(Net):
    """The same network under another name."""


def report(**options: Any) -> Report:
    with torch.device("meta"):
        return graphflops.analyze(Net(**options), (X,))


@pytest.fixture(scope="module")
def net() -> Report:
    return report()


# -- synthetic reports -------------------------------------------------------------------------------------------------

PATHS = ("", "a", "a.0", "a.1", "a.2", "a.1.x", "b", "b.c", "b.c.d", "e")
TARGETS = ("aten.linear", "aten.add.Tensor", "my.Kernel")
works = st.dictionaries(st.sampled_from(PHASES), st.builds(Work, macs=st.integers(0, 9), elementwise=st.integers(0, 9)))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    size = draw(st.integers(1, 4))
    return Entry(
        "call",
        draw(st.sampled_from(PATHS)),
        f"op_{draw(st.integers(0, 99))}",
        draw(st.sampled_from(TARGETS)),
        *("", "", draw(works), "a rule", "", Formula("", {}, {})),
        operands={"input": (size,)},
        outputs=((size,),),
    )


def synthetic(entries: list[Entry]) -> Report:
    modules = {"": "Net", **dict.fromkeys(PATHS[1:], "Module"), **{entry.path: "Module" for entry in entries}}
    info = ModelInfo("Net", {}, {"w": len(entries)}, frozenset(), modules, frozenset(modules))
    return Report(info, Costs(tuple(entries)), STANDARD)


@given(st.lists(entries(), max_size=12), st.lists(entries(), max_size=12))
def test_the_rows_sum_to_the_difference_of_the_totals_in_every_phase(first: list[Entry], second: list[Entry]) -> None:
    left, right = synthetic(first), synthetic(second)
    difference = graphflops.diff(left, right)
    for phase in (*PHASES, "backward", "total"):
        assert sum(row.difference(phase) for row in difference.rows) == right.flops(phase) - left.flops(phase)
    groups, free = groups_of(difference)
    rows = [row for group in groups for row in group.rows]
    assert sorted(map(repr, [*rows, *free])) == sorted(map(repr, difference.rows))


@given(st.lists(entries(), max_size=12), st.lists(entries(), max_size=12))
def test_every_operator_is_in_one_row_or_unchanged(first: list[Entry], second: list[Entry]) -> None:
    difference = graphflops.diff(synthetic(first), synthetic(second))
    operators = [len({(entry.path, entry.target) for entry in side}) for side in (first, second)]
    kinds = [row.kind for row in difference.rows]
    matched = difference.unchanged + kinds.count("changed") + kinds.count("renamed")
    assert [matched + kinds.count("removed"), matched + kinds.count("added")] == operators


@given(st.lists(entries(), max_size=12), st.sampled_from(["x_{}", "{}_1", "model.{}"]))
def test_the_same_operators_under_other_names_are_no_difference(calls: list[Entry], pattern: str) -> None:
    def other(path: str) -> str:
        return ".".join(pattern.format(part) for part in path.split(".")) if path else ""

    renamed = [replace(entry, path=other(entry.path)) for entry in calls]
    difference = graphflops.diff(synthetic(calls), synthetic(renamed))
    assert difference.is_empty
    assert difference.unchanged + len(difference.renamed) == len({(entry.path, entry.target) for entry in calls})


# -- models ------------------------------------------------------------------------------------------------------------


def test_a_report_does_not_differ_from_itself(net: Report) -> None:
    difference = graphflops.diff(net, net)
    assert difference.rows == ()
    assert difference.is_empty


def test_an_identical_model_of_other_names_has_an_empty_difference(net: Report) -> None:
    with torch.device("meta"):
        other = graphflops.analyze(Renamed(name="blocks", up="wide"), (X,))
    difference = graphflops.diff(net, other)
    assert difference.is_empty
    assert ("layers.2.fc", "blocks.2.wide") in {(row.before, row.after) for row in difference.renamed}


def test_changed_sizes_are_named_with_their_module(net: Report) -> None:
    difference = graphflops.diff(net, report(hidden=96))
    assert {row.kind for row in difference.changes} == {"changed"}
    linear = next(row for row in difference.changes if row.path == "layers.1.fc" and row.operator == "linear")
    assert linear.details == ("weight 64×32 → 96×32", "bias 64 → 96", "output 2×8×64 → 2×8×96")
    macs = 2 * 8 * 32 * 32  # of 32 more outputs
    assert linear.difference("forward") == 2 * macs
    assert {row.path.rpartition(".")[2] for row in difference.changes} == {"fc", "act", "down"}


def test_changed_layers_are_found_under_other_names(net: Report) -> None:
    difference = graphflops.diff(net, report(hidden=96, name="blocks", up="wide"))
    assert {(row.before, row.after) for row in difference.changes if row.operator == "linear"} == {
        pair
        for i in range(4)
        for pair in ((f"layers.{i}.fc", f"blocks.{i}.wide"), (f"layers.{i}.down", f"blocks.{i}.down"))
    }


def test_more_blocks_are_added_blocks(net: Report) -> None:
    difference = graphflops.diff(net, report(blocks=6))
    assert {row.kind for row in difference.changes} == {"added"}
    groups, _ = groups_of(difference)
    assert [(group.kind, group.blocks) for group in groups if group.kind == "added"] == [("added", 2)]
    removed = graphflops.diff(report(blocks=6), net)
    assert removed.difference() == -difference.difference()
    assert {row.kind for row in removed.changes} == {"removed"}


def test_a_layer_that_is_inserted_into_a_sequence_only_shifts_those_behind_it() -> None:
    def vgg(norm: bool) -> Report:
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 8), (8, 16), (16, 32)):
            layers += [nn.Conv2d(inputs, outputs, 3), *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU()]
        return graphflops.analyze(nn.Sequential(*layers), (torch.empty(1, 3, 16, 16),))

    difference = graphflops.diff(vgg(False), vgg(True))
    assert {row.path for row in difference.changes} == {"1", "4", "7"}
    assert {row.kind for row in difference.changes} == {"added"}


def test_an_operator_that_replaces_another_is_one_change(net: Report) -> None:
    difference = graphflops.diff(net, report(activation=nn.GELU))
    assert {(row.kind, row.operator) for row in difference.changes} == {("changed", "relu → gelu")}


def test_a_view_does_not_replace_an_operator_with_flops() -> None:
    linear = Entry("call", "a", "linear", "aten.linear", "", "", {"forward": Work(macs=4)}, "", "", Formula("", {}, {}))
    view = replace(linear, op="view", target="aten.view", work={})
    difference = graphflops.diff(synthetic([linear]), synthetic([view]))
    assert [(row.kind, row.operator) for row in difference.rows] == [("removed", "linear"), ("added", "view")]


def test_versions_and_rules_that_changed_are_said(net: Report) -> None:
    old = Versions("0.0.1", "1.0", {**net.costs.versions.rules, "rules/linear.py": "other"})
    earlier = replace(net, costs=replace(net.costs, versions=old))
    assert graphflops.diff(earlier, net).notes == (
        f"torch was 1.0 and is {torch.__version__}",
        f"graphflops was 0.0.1 and is {net.costs.versions.graphflops}",
        "these files of rules changed: rules/linear.py",
    )


def test_the_versions_of_a_report_are_saved(net: Report, tmp_path: Path) -> None:
    versions = net.costs.versions
    assert versions.torch == torch.__version__
    assert {"rules/linear.py", "rules/optimizers.py", "rules/templates.py"} <= versions.rules.keys()
    assert Report.from_json(net.to_json(tmp_path / "report.json")).costs.versions == versions


def test_a_report_without_versions_is_read(net: Report, tmp_path: Path) -> None:
    path = net.to_json(tmp_path / "report.json")
    data = json.loads(path.read_text())
    del data["versions"]
    path.write_text(json.dumps(data))
    assert graphflops.diff(Report.from_json(path), net).notes == ()


def test_reports_that_cannot_be_compared_are_refused(net: Report) -> None:
    with pytest.raises(UsageError, match="two reports, not a Net"):
        graphflops.diff(Net(), net)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="different conventions, standard and fvcore"):
        graphflops.diff(net, net.with_convention("fvcore"))
    inference = graphflops.analyze(Net(), (X,), training=False)
    with pytest.raises(UsageError, match="training step and other of a forward pass"):
        graphflops.diff(net, inference, names=("net", "other"))


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"hidden": 96, "name": "a_container_of_blocks_with_a_long_name" * 3}])
def test_the_text_fits_80_columns(net: Report, options: dict[str, Any]) -> None:
    text = str(graphflops.diff(net, report(**options), names=("a" * 90, "other\x1b")))
    assert max(map(len, text.splitlines())) <= 80
    assert text == "\n".join(line.rstrip() for line in text.splitlines())
    assert "\x1b" not in text


def test_equal_rows_of_repeated_blocks_are_one_line(net: Report) -> None:
    lines = str(graphflops.diff(net, report(hidden=96))).splitlines()
    assert [line.split()[1:3] for line in lines if line.startswith("  changed")] == [
        ["layers.0–3.down", "×4"],
        ["layers.0–3.fc", "×4"],
        ["layers.0–3.act", "×4"],
    ]


def test_a_label_covers_exactly_the_blocks_it_stands_for() -> None:
    assert common_label(["a.0 → b.0", "a.1 → b.1"]) == "a.0–1 → b.0–1"
    assert common_label(["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1"]) == "a.0–1.b.0–1"
    assert common_label(["a.0.b.1", "a.1.b.0"]) == "a.*.b.*"


def test_markdown_is_a_table_whatever_names_the_modules_have(net: Report) -> None:
    text = graphflops.diff(net, report(norm=True), names=("a|b", "<script>`x`")).to_markdown()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (5, 6) for line in tables)
    assert "| added | `norm` | LayerNorm: layer\\_norm |" in text


def test_the_file_has_all_rows_and_adds_up(net: Report, tmp_path: Path) -> None:
    difference = graphflops.diff(net, report(blocks=3, norm=True))
    data = json.loads(difference.to_json(tmp_path / "diff.json").read_text(encoding="utf-8"))
    rows = sum(sum(row["right"].values()) - sum(row["left"].values()) for row in data["rows"])
    assert rows == data["difference"]["total"] == data["after"]["total"] - data["before"]["total"]
