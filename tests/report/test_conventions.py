"""Conventions as data: imitations of tools against published numbers, files of one's own, and the way between two."""

from pathlib import Path

import pytest
import torch
from torch import nn
from vit import ViT

from graphflops import Report, UsageError, analyze
from graphflops.cli import main
from graphflops.core.expressions import ExpressionError
from graphflops.report.conventions import CONVENTIONS, as_data, convention_named, from_data
from graphflops.report.conventions.expressions import CountExpression

VIT_B_16 = {
    "torchvision": 17_563_828_224,
    "timm": 17_582_740_224,
    "fvcore": 16_867_412_736,
    "ptflops_aten": 16_864_992_232,
    "torchinfo": 173_232_616,
    "torch_flops": 35_164_979_282 - 2,
    "deepspeed": 35_153_981_184,
    "lightning": 35_127_656_448,
}
"""as each of them says: torchvision's table, timm's table and its older one (fvcore), the tools themselves; torch_flops
counts timm's own model, where the size of the image is checked by two comparisons"""


@pytest.fixture(scope="module")
def vit() -> Report:
    with torch.device("meta"):
        return analyze(ViT().eval(), (torch.empty(1, 3, 224, 224),), training=False)


@pytest.fixture(scope="module")
def small() -> Report:
    model = nn.Sequential(nn.Linear(20, 30), nn.GELU(), nn.LayerNorm(30), nn.Linear(30, 10, bias=False))
    return analyze(model, (torch.zeros(4, 20),))


class TestImitations:
    @pytest.mark.parametrize("name", VIT_B_16)
    def test_the_published_numbers_of_vit_b_16_come_of_one_graph(self, vit: Report, name: str) -> None:
        assert vit.with_convention(name).forward == VIT_B_16[name]

    @pytest.mark.parametrize("name", [name for name, value in CONVENTIONS.items() if not value.formula])
    def test_the_lines_between_two_add_up_the_largest_first(self, vit: Report, name: str) -> None:
        diff = vit.diff(name)
        assert diff.left == vit.forward
        assert diff.left + sum(row.difference for row in diff.rows) == vit.with_convention(name).forward
        sizes = [abs(row.difference) for row in diff.rows]
        assert sizes == sorted(sizes, reverse=True)

    def test_each_line_has_a_reason(self, vit: Report) -> None:
        diff = vit.diff("fvcore")
        (line,) = (row for row in diff.rows if row.operator == "scaled_dot_product_attention")
        assert (line.ops, line.module, line.right) == (12, "MultiheadAttention", 0)
        assert line.why in str(diff)

    def test_operations_that_a_tool_does_not_count_have_no_backward_either(self, small: Report) -> None:
        assert small.backward > 0
        assert small.with_convention("fvcore").backward == 0
        assert "not counted" in str(small.diff("fvcore", "backward"))

    def test_all_groupings_agree_with_the_total(self, vit: Report) -> None:
        converted = vit.with_convention("ptflops")
        assert converted.by_module()[""] == sum(converted.by_component().values()) == converted.forward
        assert sum(converted.by_operator().values()) == converted.forward

    def test_a_saved_report_can_be_counted_otherwise(self, small: Report, tmp_path: Path) -> None:
        report = Report.from_json(small.to_json(tmp_path / "report.json"))
        assert report.with_convention("ptflops") == small.with_convention("ptflops")
        assert Report.from_json(
            small.with_convention("ptflops").to_json(tmp_path / "report.json")
        ) == small.with_convention("ptflops")

    def test_numbers_are_called_by_their_right_name(self, small: Report) -> None:
        assert "MACs" in str(small.with_convention("fvcore"))
        assert "FLOPs" not in str(small.with_convention("fvcore"))


class TestFiles:
    def test_a_file_of_ones_own(self, small: Report, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('about = "outputs of linear layers"\nweights = {}\n'
                        '[[counts]]\noperators = ["linear"]\ncount = "numel(out)"\nwhy = "one each"\n')  # fmt: skip
        assert small.with_convention(file).forward == small.with_convention(str(file)).forward == 4 * 30 + 4 * 10
        assert small.with_convention(file).convention.name == "mine"

    @pytest.mark.parametrize("name", CONVENTIONS)
    def test_data_and_back(self, name: str) -> None:
        assert from_data(as_data(CONVENTIONS[name])) == CONVENTIONS[name]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("about = ", "not TOML"),
            ("weights = {}", "about is missing"),
            ('about = "x"\nweights = { mac = 2 }', r"weights\.mac is .*not a class of work"),
            ('about = "x"\nweights = { macs = 0.5 }', r"weights\.macs is 0\.5, not an integer"),
            (
                'about = "x"\nweights = {}\nphases = ["sideways"]',
                r"phases\[0\] is 'sideways', not a phase",
            ),
            ('about = "x"\nweights = {}\ncolour = 1', "colour is not a known key"),
            ('about = "x"\nweights = {}\nformula = "6ND"', "formula is '6ND', not a formula"),
            ('about = "x"\nweights = {}\n[[counts]]\ncount = "1"', r"counts\[0\]\.why is missing"),
            (
                'about = "x"\nweights = {}\n[[counts]]\ncount = "open(1)"\nwhy = ""',
                r"\[0\]\.count .*open\(1\) is not",
            ),
        ],
    )
    def test_errors_name_the_file(self, tmp_path: Path, text: str, message: str) -> None:
        file = tmp_path / "wrong.toml"
        file.write_text(text)
        with pytest.raises(UsageError, match=rf"wrong\.toml.*{message}"):
            convention_named(file)

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="cannot read the convention"):
            convention_named("nowhere.toml")

    def test_a_count_that_asks_for_what_an_op_has_not_names_both(self, small: Report, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('about = "x"\nweights = {}\n[[counts]]\ncount = "numel(query)"\nwhy = ""')
        with pytest.raises(UsageError, match=r"convention mine: .*'query'.*aten\.linear"):
            print(small.with_convention(file).forward)


class TestExpressions:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("2 * numel(x) // x[0] - 1", 7),
            ("rank(x)", 2),
            ("numel(x[1:])", 4),
            ("-1 if has(y) else x[-1]", 4),
            ("root(x[0] * x[0])", 3),
        ],
    )
    def test_whole_numbers_of_shapes(self, text: str, value: int) -> None:
        assert CountExpression(text)({"x": (3, 4)}) == value

    @pytest.mark.parametrize("text", ["x.y", "__import__('os')", "1.5", "x / 2", "2 ** 99", "lambda: 1", "f(x)", "1 +"])
    def test_nothing_else_is_in_the_language(self, text: str) -> None:
        with pytest.raises(ExpressionError):
            CountExpression(text)

    @pytest.mark.parametrize("text", ["x", "x[7]", "y", "1 // 0", "root(-1)", "root(x)"])
    def test_what_cannot_be_told_is_an_error(self, text: str) -> None:
        with pytest.raises(ExpressionError):
            CountExpression(text)({"x": (3, 4)})


def test_the_command_goes_from_our_number_to_theirs(
    small: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small.to_json(tmp_path / "report.json")
    assert main(["explain", str(file), "--as", "fvcore"]) == 0
    assert capsys.readouterr().out == f"{small.diff('fvcore')}\n"
    assert main(["explain", str(file)]) == 0
    assert capsys.readouterr().out == f"{small.explain()}\n"
