"""The report: fvcore's queries, coverage, explanation, JSON, and tables at every width."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import graphflops
from graphflops import MissingRules, Report, UsageError, analyze
from graphflops.models import LanguageModel
from graphflops.report.conventions import Convention
from graphflops.report.json_format import as_dict
from graphflops.report.text import as_text


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)) * 3


for name in ("mystery", "small"):
    torch.library.define(f"test_report::{name}", "(Tensor x) -> Tensor")
    torch.library.register_fake(f"test_report::{name}", torch.empty_like)
operators = torch.ops.test_report
"""operators that no rule names, and of which nobody has the code"""


@pytest.fixture(scope="module")
def report() -> Report:
    return analyze(Net(), (torch.zeros(10, 4),))


@pytest.fixture(scope="module")
def unknown() -> Report:
    return analyze(lambda x: operators.mystery(x @ x), (torch.zeros(3, 3),))


class TestQueries:
    def test_by_module_has_every_path_and_the_whole_under_the_empty_one(self, report: Report) -> None:
        body, head, relu, scale = 2 * 10 * 4 * 8, 2 * 10 * 8 * 2, 10 * 8, 10 * 2
        assert report.by_module() == {
            "": body + relu + head + scale,
            "body": body + relu,
            "body.0": body,
            "body.1": relu,
            "head": head,
        }

    def test_by_operator_is_sorted_by_cost(self, report: Report) -> None:
        assert report.by_operator() == Counter(linear=2 * 10 * 4 * 8 + 2 * 10 * 8 * 2, relu=80, mul=20)
        assert list(report.by_operator()) == ["linear", "relu", "mul"]

    def test_by_operator_names_the_optimizer_where_it_costs(self, report: Report) -> None:
        assert report.by_operator("optimizer")["adamw"] == report.optimizer

    def test_by_module_and_operator(self, report: Report) -> None:
        assert report.by_module_and_operator()["body"] == Counter(linear=640, relu=80)

    def test_by_component_names_blocks_as_people_do(self) -> None:
        model = LanguageModel(vocab_size=5, d_model=4, n_layers=2, n_seq=3)
        tokens = torch.zeros(1, 3, dtype=torch.int64)
        names = ["embedding", "layer_0", "layer_1", "final_layernorm", "lm_head"]
        assert list(analyze(model, (tokens,)).by_component()) == names

    def test_the_work_of_the_root_itself_is_a_component_of_its_own(self, report: Report) -> None:
        assert report.by_component() == {"other": 20, "body": 720, "head": 320}

    def test_macs_are_those_of_forward(self, report: Report) -> None:
        assert report.macs == 10 * 4 * 8 + 10 * 8 * 2

    def test_an_unknown_phase_names_those_that_are(self, report: Report) -> None:
        with pytest.raises(UsageError, match="forward, dgrad, wgrad"):
            report.by_module("sideways")

    def test_an_unknown_convention_names_those_that_are(self, report: Report) -> None:
        with pytest.raises(UsageError, match="standard, exact, torch, torchvision"):
            report.with_convention("cubits")


class TestCoverage:
    def test_every_op_is_exactly_one_of_three(self, report: Report) -> None:
        assert str(report.coverage) == "4 ops, 4 counted, 0 free (views, casts), 0 unsupported"

    def test_an_op_without_a_rule_stands_in_the_report(self, unknown: Report) -> None:
        assert unknown.coverage.unknown == 1
        assert unknown.unsupported_ops() == {"test_report.mystery": 1}
        (op,) = unknown.unknown
        assert op.inputs == ("float32(3, 3)",)
        assert op.line.startswith(__file__)
        text = str(unknown)
        assert "1 unsupported" in text
        assert "Totals are lower bounds" in text
        assert "test_report.mystery" in text
        assert '@rule("test_report.mystery")' in text

    def test_by_output_elements_and_bytes_too(self, unknown: Report) -> None:
        coverage = unknown.coverage
        assert (coverage.elements.counted, coverage.elements.zero, coverage.elements.unknown) == (9, 0, 9)
        assert (coverage.nbytes.counted, coverage.nbytes.unknown) == (36, 36)
        assert "1 unsupported (50.0 % of output elements, 50.0 % of bytes)" in str(coverage)

    def test_the_op_with_the_largest_output_is_first(self) -> None:
        def model(x: Tensor) -> list[Tensor]:
            return [*(operators.small(x[0]) for _ in range(5)), operators.mystery(x)]

        text = str(analyze(model, (torch.zeros(9, 3),)))
        assert text.index("1×  test_report.mystery") < text.index("5×  test_report.small")

    @pytest.mark.parametrize("width", [40, 80])
    def test_the_rule_to_paste_is_whole_on_a_narrow_terminal(self, unknown: Report, width: int) -> None:
        text = as_text(unknown, width)
        stub = text[text.index("    from graphflops import") : text.index("then analyse with")]
        compile("\n".join(line[4:] for line in stub.splitlines()), "stub", "exec")

    def test_strict_refuses_it(self) -> None:
        with pytest.raises(MissingRules) as caught:
            analyze(operators.mystery, (torch.zeros(3),), strict=True)
        assert [op.target for op in caught.value.ops] == ["test_report.mystery"]

    def test_a_gradient_that_no_rule_gives_is_unknown_too(self) -> None:
        @graphflops.rule(torch.ops.aten.exp)
        def half(self: graphflops.Spec) -> graphflops.Cost:
            return graphflops.Cost(graphflops.Work(transcendental=self.numel))

        report = analyze(torch.exp, (torch.zeros(3, requires_grad=True),), rules=[half])
        assert report.coverage.unknown == 1
        assert "gives no gradient of self" in report.unknown[0].why
        assert analyze(torch.exp, (torch.zeros(3),), rules=[half]).coverage.unknown == 0


class TestExplanation:
    @pytest.mark.parametrize(
        "message",
        [
            "aten.linear in head",
            "macs = out₀·out₁·weight₁",
            "out₀ = 10, out₁ = 2",
            "rules/linear.py:",
            "y = x·Wᵀ + b",
            "test_report.py:",
            "forward   = 320 FLOPs (macs 160)",
        ],
    )
    def test_a_number_can_be_explained(self, report: Report, message: str) -> None:
        assert message in report.explain("head")

    def test_an_op_a_component_and_the_model_can_be_explained(self, report: Report) -> None:
        (mul,) = (entry.op for entry in report.entries if entry.operator == "mul")
        assert "forward   = 20 FLOPs" in report.explain(mul)
        assert "forward   = 720 FLOPs" in report.explain("body")
        assert f"forward   = {report.forward:,} FLOPs" in report.explain()

    def test_all_ops_of_an_operator_can_be_explained(self, report: Report) -> None:
        assert "forward   = 960 FLOPs" in report.explain("linear")

    def test_the_parts_of_a_composite_layer_are_told_apart(self) -> None:
        model = LanguageModel(vocab_size=5, d_model=4, n_layers=1, n_seq=3)
        report = analyze(model, (torch.zeros(1, 3, dtype=torch.int64),))
        text = report.explain("blocks.0.bk_layer.moe_ffn")
        assert all(part in text for part in ("gate", "softmax", "experts", "num_experts·x₀·x₁·x₂", "rules/moe.py:"))

    def test_a_wrong_name_suggests_a_right_one(self, report: Report) -> None:
        with pytest.raises(UsageError, match="did you mean head"):
            report.explain("heda")


class TestJson:
    def test_a_report_survives_the_round_trip(self, report: Report, tmp_path: Path) -> None:
        assert Report.from_json(report.to_json(tmp_path / "report.json")) == report

    def test_so_does_one_with_parts_and_unknown_ops(self, unknown: Report, tmp_path: Path) -> None:
        model = LanguageModel(vocab_size=5, d_model=4, n_layers=1, n_seq=3)
        parts = analyze(model, (torch.zeros(1, 3, dtype=torch.int64),))
        for original in (unknown, parts):
            report = Report.from_json(original.to_json(tmp_path / "report.json"))
            assert report == original
            assert str(report) == str(original)

    def test_numbers_for_machines_are_plain_integers_with_unit_and_convention(
        self, report: Report, tmp_path: Path
    ) -> None:
        data = json.loads(report.to_json(tmp_path / "report.json").read_text())
        assert (data["unit"], data["convention"]["name"]) == ("FLOP", "standard")
        assert data["total_flops"]["total"] == report.total
        assert type(data["total_flops"]["total"]) is int
        assert data["component_breakdown"]["head"]["forward"] == 320

    def test_it_takes_as_long_as_there_are_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        counted = []
        of = Convention.of
        monkeypatch.setattr(Convention, "of", lambda *arguments: (counted.append(1), of(*arguments))[1])

        def steps(blocks: int) -> int:
            counted.clear()
            model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(blocks)))
            as_dict(analyze(model, (torch.zeros(1, 4),)))
            return len(counted)

        assert steps(40) < 2.1 * steps(20)

    def test_a_path_that_cannot_be_written_leaves_nothing(self, report: Report, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot write"):
            report.to_json(tmp_path / "nowhere" / "report.json")
        (tmp_path / "folder").mkdir()
        with pytest.raises(UsageError, match="cannot write"):
            report.to_json(tmp_path / "folder")
        assert [file.name for file in tmp_path.iterdir()] == ["folder"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "cannot read"),
            ("{", "not JSON"),
            ("{}", "not a report"),
            ("[]", "not a report"),
            ('{"schema": "graphflops.report/2"}', "not a complete report: convention is missing"),
        ],
    )
    def test_a_file_that_is_no_report_is_refused(self, tmp_path: Path, text: str | None, message: str) -> None:
        file = tmp_path / "report.json"
        if text is not None:
            file.write_text(text)
        with pytest.raises(UsageError, match=message):
            Report.from_json(file)


class TestTables:
    @pytest.mark.parametrize("width", [60, 80, 120, 200])
    def test_no_line_is_wider_than_the_terminal(self, report: Report, width: int) -> None:
        assert max(map(len, as_text(report, width).splitlines())) <= width

    def test_rows_are_sorted_by_cost(self, report: Report) -> None:
        lines = report.table(depth=1, min_share=0, width=120).splitlines()
        rows = [line.split()[0] for line in lines if line.startswith("  ")]
        assert rows.index("body") < rows.index("head")

    def test_blocks_that_cost_the_same_are_one_row(self) -> None:
        model = LanguageModel(vocab_size=5, d_model=4, n_layers=3, n_seq=3)
        text = analyze(model, (torch.zeros(1, 3, dtype=torch.int64),)).table(depth=9, width=120)
        assert text.count("moe_ffn") == 1
        assert "0–2 ResNetBKBlock ×3" in text

    def test_small_shares_stay_visible(self) -> None:
        model = nn.Sequential(nn.Linear(1000, 1000), nn.LayerNorm(1000), nn.Linear(1000, 1))
        text = as_text(analyze(model, (torch.zeros(1, 1000),)), 120)
        assert "<0.1" in text
        assert not re.search(r"\b0\.00?\b", text)


class TestRulesThatAreNotPure:
    def test_a_rule_that_branches_on_a_size_is_refused_with_file_and_line(self) -> None:
        @graphflops.rule(torch.ops.aten.exp)
        def branches(self: graphflops.Spec) -> graphflops.Cost:
            return graphflops.Cost(graphflops.Work(transcendental=self.numel if self.numel > 9 else 0))

        with pytest.raises(graphflops.RuleError, match=r"test_report\.py:\d+: rule branches raised .*") as caught:
            analyze(torch.exp, (torch.zeros(3),), rules=[branches])
        assert "does not branch on a size" in str(caught.value)

    @pytest.mark.parametrize(("count", "message"), [(0.5, "0.5"), (-3, "-3")])
    def test_counts_are_whole_and_not_negative(self, count: float, message: str) -> None:
        @graphflops.rule(torch.ops.aten.exp)
        def wrong() -> graphflops.Cost:
            return graphflops.Cost(graphflops.Work(transcendental=count))

        with pytest.raises(
            graphflops.RuleError,
            match=rf"test_report\.py:\d+: rule wrong returned {message}: a count is a whole number",
        ):
            analyze(torch.exp, (torch.zeros(3),), rules=[wrong])
