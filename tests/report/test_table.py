"""The table of a report: the rows that are shown, the columns that fit, and roles."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import Report, UsageError, analyze
from graphflops.cli import main
from graphflops.report.roles import roles
from graphflops.report.table import TableOptions
from graphflops.report.terminal import Terminal
from graphflops.report.text import as_text, print_report
from graphflops.report.tree import MAX_DEPTH, Row, Selection, module_tree


def encoder(layers: int = 6) -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, batch_first=True)
    return nn.Sequential(nn.Embedding(500, 64), nn.TransformerEncoder(layer, layers), nn.Linear(64, 500))


def widths(count: int) -> nn.Module:
    """Layers that all differ, inside of a wrapper."""
    sizes = [8 + index for index in range(count + 1)]
    return nn.Sequential(nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes))))


def nested(depth: int) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nested(depth - 1) if depth else nn.ReLU())


def tokens() -> Tensor:
    return torch.zeros(2, 16, dtype=torch.int64)


MODELS: dict[str, Callable[[], tuple[Callable[..., Any], Tensor]]] = {
    "transformer": lambda: (encoder(), tokens()),
    "100 layers": lambda: (widths(100), torch.zeros(1, 8)),
    "many children": lambda: (nn.Sequential(*widths(60)[0].children()), torch.zeros(1, 8)),  # type: ignore[index]
    "deep": lambda: (nested(50), torch.zeros(1, 8)),
    "deeper than rows": lambda: (nested(MAX_DEPTH + 20), torch.zeros(1, 8)),
    "a function": lambda: (torch.exp, torch.zeros(3)),
}


@pytest.fixture(scope="module")
def report() -> Report:
    return analyze(encoder(), (tokens(),))


@pytest.fixture(scope="module")
def forward() -> Report:
    return analyze(encoder(), (tokens(),), training=False)


def columns_of(table: str) -> list[str]:
    return table.splitlines()[0].split()


def names_of(table: str) -> list[str]:
    return [line.split()[0] for line in table.splitlines()[2:]]


class TestRows:
    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("training", [True, False])
    def test_any_model_fits_on_a_page(self, name: str, training: bool) -> None:
        model, x = MODELS[name]()
        lines = as_text(analyze(model, (x,), training=training), 80).splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 80

    @pytest.mark.parametrize("name", MODELS)
    def test_flops_of_rows_sum_to_their_module(self, name: str) -> None:
        model, x = MODELS[name]()
        report = analyze(model, (x,))
        root = module_tree(report)
        assert root.flops.of("total") == report.total
        pending, by_module = [(root, "")], report.by_module("total")
        while pending:
            row, path = pending.pop()
            if row.children:
                assert [
                    sum(numbers) for numbers in zip(*(child.flops.expected for child in row.children), strict=True)
                ] == [*row.flops.expected]
            if path is not None and row.is_module:
                assert row.flops.of("total") == by_module[path]
            pending += [
                (child, f"{path}.{child.name}" if path else child.name)
                for child in row.children
                if child.is_module and child.count == 1
            ]

    @pytest.mark.parametrize(("top", "share"), [(1, 0.0), (2, 0.05), (None, 0.3)])
    def test_hidden_rows_are_summed(self, report: Report, top: int | None, share: float) -> None:
        root = module_tree(report)
        selection = Selection(lambda row: row.flops.of("total"), depth=1, top=top, min_share=share)
        first, *others = selection.lines(root)
        assert sum(line.row.flops.of("total") for line in others) == first.row.flops.of("total") == report.total

    def test_equal_blocks_are_one_row_with_their_sum(self, forward: Report) -> None:
        (row,) = (line for line in forward.table(depth=3, width=120).splitlines() if "×6" in line)
        assert row.split()[0] == "0–5"
        layers = sum(forward.by_module()[f"1.layers.{index}"] for index in range(6))
        assert f"{layers / 10**6:.2f} M" in row or f"{layers / 10**6:.1f} M" in row

    def test_blocks_that_differ_are_not_one_row(self) -> None:
        blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), *[nn.ReLU()] * (index == 2)) for index in range(6)))
        table = analyze(blocks, (torch.zeros(2, 8),), training=False).table(depth=1, width=100)
        assert {"0–1,", "2"} <= {*names_of(table)}
        assert "0–1, 3–5 Sequential ×5" in table

    def test_depth_top_share_order_and_phase(self, report: Report) -> None:
        assert names_of(report.table(depth=1, width=100))[:4] == ["Sequential", "1", "2", "0"]
        assert names_of(report.table(depth=1, sort="order", width=100))[:4] == ["Sequential", "0", "1", "2"]
        assert names_of(report.table(depth=1, top=1, width=100))[:3] == ["Sequential", "1", "…"]
        assert "… 2 below 30 %" in report.table(depth=1, min_share=0.3, width=100)
        assert columns_of(report.table(phase="optimizer", width=100)) == [
            "component",
            "output",
            "params",
            "optimizer",
            "%",
        ]

    def test_the_columns_that_are_named(self, report: Report) -> None:
        table = report.table(columns=["dgrad", "share"], width=100)
        assert columns_of(table) == ["component", "dgrad", "%"]

    def test_a_forward_pass_has_no_rows_and_columns_of_zeros(self, forward: Report) -> None:
        text = as_text(forward, 120)
        assert "backward" not in text
        assert "optimizer" not in text
        assert columns_of(forward.table(width=120)) == ["component", "output", "params", "forward", "%"]

    def test_a_module_with_parameters_alone_is_shown(self, forward: Report) -> None:
        assert re.search(r"0 Embedding .* 32\.0 k +0 +0", forward.table(width=120))

    @pytest.mark.parametrize(
        "options",
        [
            *({"depth": -1}, {"depth": True}, {"top": 0}, {"min_share": 2}, {"min_share": "1%"}, {"sort": "name"}),
            *({"phase": "sideways"}, {"columns": "forward"}, {"columns": ["flops"]}, {"by": "layer"}),
        ],
    )
    def test_other_values_are_refused(self, report: Report, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            report.table(**options)


class TestOutput:
    @pytest.mark.parametrize("others", [2, 9])
    def test_a_block_with_several_outputs_has_the_first_shape_and_the_number_of_others(
        self, others: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Down(nn.Conv2d):
            def forward(self, x: Tensor) -> Any:
                return super().forward(x), [x] * others

        monkeypatch.delenv("COLUMNS", raising=False)
        report = analyze(Down(3, 8, 1), (torch.ones(2, 3, 128, 128, device="meta"),), training=False)
        cell = "float32[2, 8, 128, 128] + " + ("2 more" if others == 2 else "more")
        assert all(f"  {cell}  " in line for line in self.printed(report, "utf-8") if line.startswith("Down  "))
        assert cell in report.table(width=100)
        assert report.info.output_shapes[""].count("float32") == min(others + 1, 4)

    def printed(self, report: Report, encoding: str) -> list[str]:
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        print_report(report, Terminal(file), TableOptions())
        file.seek(0)
        return file.read().splitlines()

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    def test_a_pipe_has_whole_names_and_no_blanks_at_the_ends(
        self, report: Report, encoding: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("COLUMNS", raising=False)
        lines = self.printed(report, encoding)
        assert all(line == line.rstrip() for line in lines)
        assert any("1 TransformerEncoder" in line for line in lines)
        heading = next(line for line in lines if line.startswith("component"))
        rows = lines[lines.index(heading) + 2 :][:6]
        assert all(len(row) == len(heading) for row in rows)  # aligned, in ASCII as well

    @pytest.mark.parametrize("width", [30, 60, 80, 100, 140])
    def test_no_line_is_wider_than_the_terminal(self, report: Report, width: int) -> None:
        assert max(map(len, report.table(width=width).splitlines())) <= width

    def test_the_command_has_the_same_options(self, report: Report, tmp_path: Path, capsys: Any) -> None:
        path = str(report.to_json(tmp_path / "r.json"))
        options = "--depth 1 --top 2 --min 1% --sort order --phase backward --columns parameters,backward"
        assert main(["show", path, *options.split()]) == 0
        expected = report.table(
            depth=1,
            top=2,
            min_share=0.01,
            sort="order",
            phase="backward",
            columns=["parameters", "backward"],
            width=200,
        )
        assert expected in capsys.readouterr().out
        assert main(["show", path, "--min", "few"]) == 1
        assert "--min is 'few'" in capsys.readouterr().err


class MLP(nn.Sequential):
    pass


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(MLP(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(2))
        self.gate = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        first, second = self.experts
        return weights[..., :1] * first(x) + weights[..., 1:] * second(x)  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """Attention by what it calls alone."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(*self.both(x).chunk(3, -1))


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix, self.feed = nn.LayerNorm(8), Mixer(), Experts()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.feed(self.mix(self.norm(x)))  # type: ignore[no-any-return]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stage, self.classifier = nn.Conv1d(3, 8, 1), Stage(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.stage(self.stem(x).mT))  # type: ignore[no-any-return]


class TestRoles:
    def test_parts_have_the_role_of_what_they_are_for(self) -> None:
        report = analyze(Model(), (torch.zeros(2, 3, 7),))
        for phase in ("forward", "backward", "optimizer", "total"):
            modules, by_role = report.by_module(phase), report.by_role(phase)
            paths = {
                "attention": "stage.mix",
                "router": "stage.feed.gate",
                "norm": "stage.norm",
                "head": "classifier",
                "convolution": "stem",
            }
            assert {role: by_role[role] for role in paths} == {role: modules[path] for role, path in paths.items()}
            assert by_role["experts"] == modules["stage.feed"] - modules["stage.feed.gate"]
            assert sum(by_role.values()) == report.flops(phase)

    def test_roles_of_a_transformer_of_torch(self, report: Report) -> None:
        modules, by_role = report.by_module("total"), report.by_role("total")
        layers = [f"1.layers.{index}" for index in range(6)]
        assert by_role["attention"] == sum(modules[f"{layer}.self_attn"] for layer in layers)
        assert by_role["MLP"] == sum(modules[f"{layer}.linear{number}"] for layer in layers for number in (1, 2))
        assert by_role["norm"] == sum(modules[f"{layer}.norm{number}"] for layer in layers for number in (1, 2))
        assert by_role["embedding"] == modules["0"]

    @pytest.mark.parametrize(
        ("cls", "name", "role"),
        [
            *(("LlamaAttention", "x", "attention"), ("MHA", "x", "attention"), ("WindowAttentionV2", "x", "attention")),
            *(("Qwen2MoeAttention", "x", "attention"), ("LlamaMLP", "x", "MLP"), ("GEGLU", "x", "MLP")),
            *(("Linear", "fc1", "MLP"), ("Linear", "c_proj", "other"), ("MixtralSparseMoeBlock", "x", "experts")),
            *(("MixtralTopKRouter", "x", "router"), ("BatchNorm2d", "x", "norm"), ("PatchEmbed", "x", "embedding")),
            *(("Linear", "ffn_output", "MLP"), ("Linear", "pwconv1", "MLP"), ("PatchMerging", "x", "embedding")),
            *(("FactorAttnConvRelPosEnc", "x", "attention"), ("ConvMlp", "x", "MLP")),
            *(("MambaMixer", "x", "recurrence"), ("LSTM", "x", "recurrence"), ("Conv2d", "fc1", "MLP")),
            *(
                ("CrossAttnDownBlock2D", "x", "other"),
                ("AttentionUNet", "x", "other"),
                ("CrossEntropyLoss", "x", "loss"),
            ),
        ],
    )
    def test_names_that_libraries_use(self, cls: str, name: str, role: str, report: Report) -> None:
        from dataclasses import replace

        info = replace(report.info, modules={"": "Model", "block": "Block", f"block.{name}": cls})
        assert roles(replace(report, info=info)).of_module(f"block.{name}") == role

    @pytest.mark.parametrize("name", ["lm_head", "lm_loss", "vocab_projector", "vocab_transform", "classifier"])
    def test_a_child_of_the_model_may_be_its_head(self, name: str, report: Report) -> None:
        from dataclasses import replace

        info = replace(report.info, modules={"": "Model", name: "Linear"})
        assert roles(replace(report, info=info)).of_module(name) == "head"

    def test_the_table_has_a_row_for_each(self, report: Report) -> None:
        table = report.table(by="role", width=100)
        assert {*report.by_role("total")} - {"head", "other"} <= {*names_of(table)}


def test_numbers_of_equal_rows_are_multiplied() -> None:
    from graphflops.report.tree import Flops, equal_blocks

    flops = Flops((1, 2, 0, 0, 3), (1, 2, 0, 0, 3), (0,) * 5, (4,) * 5)
    inner = Row("fc", flops, "Linear", parameters=5)
    rows = equal_blocks([Row(f"layer{index}", flops, "Block", parameters=5, children=(inner,)) for index in (1, 2, 4)])
    assert [(row.name, row.count, row.parameters, row.flops.expected) for row in rows] == [
        ("layer1–2, 4", 3, 15, (3, 6, 0, 0, 9))
    ]
    assert rows[0].children[0].flops.upper == (12,) * 5
