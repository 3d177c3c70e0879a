"""rules show and the pages made of the rules: formulas in symbols, held to what the rules say of real sizes."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from graphflops import Cost, Spec, Work, analyze, rule
from graphflops.cli import main
from graphflops.core.errors import UsageError
from graphflops.rules.formulas import symbolic_example
from graphflops.rules.loading import rulebook, shipped
from graphflops.rules.pages import describe_rule, pages

PAGES = Path(__file__).parents[2] / "docs" / "rules"


class Halve(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


@rule(Halve)
def halved(x: Spec, out: Spec) -> Cost:
    """Half of each."""
    return Cost(Work(division=out.numel), {"x": Work(division=out.numel)}, span=1)


class TestShow:
    @pytest.mark.parametrize(
        "target", ["F.gelu", "torch.nn.functional.gelu", "aten.gelu", "aten::gelu", "torch.nn.GELU"]
    )
    def test_finds_a_target_under_each_of_its_names(self, target: str) -> None:
        assert "rule gelu (rules/activations.py:" in describe_rule(shipped(), target)

    def test_a_module_without_a_rule_is_shown_by_what_its_code_calls(self) -> None:
        text = describe_rule(shipped(), "torch.nn.Linear")
        assert "no rule names it" in text
        assert "aten.linear: rule linear" in text
        assert "aten.empty" not in text, "what its construction calls is no work of a call"

    @pytest.mark.parametrize(
        ("target", "operator", "named"),
        [
            ("torch.nn.Conv2d", "aten.convolution", "convolution"),
            ("torch.nn.ConvTranspose1d", "aten.convolution", "convolution"),
            ("F.conv3d", "aten.convolution", "convolution"),
            ("torch.nn.InstanceNorm2d", "aten.native_batch_norm", "batch_norm"),
        ],
    )
    def test_a_composite_is_shown_by_its_operators(self, target, operator, named) -> None:
        assert re.search(rf"^aten\..*{operator}: rule {named} ", describe_rule(shipped(), target), flags=re.MULTILINE)

    def test_the_formula_is_the_number_of_a_call(self) -> None:
        text = describe_rule(shipped(), "aten.linear")
        (count,) = re.findall(r"forward +macs = (.*)", text)
        assert count == "out.numel·weight₁"
        out, weight = (4, 16), (16, 8)
        report = analyze(nn.Linear(8, 16), (torch.zeros(4, 8),))
        assert report.macs == math.prod(out) * weight[1]

    def test_a_rule_of_ones_own_with_its_source_span_and_what_it_asks_for(self) -> None:
        text = describe_rule(rulebook([halved]), f"{__name__}.Halve")
        for part in (
            f"rule halved (rules/test_show.py:{halved.line}), given",
            "about     Half of each.",
            "arguments x, out",
            "forward   division = out.numel",
            "gradient of x   division = out.numel",
            "span      1",
            "classes   division",
        ):
            assert part in text

    def test_lists_overridden_rules(self) -> None:
        @rule("aten.gelu")
        def own_rule(self: Spec) -> Cost:
            return Cost()

        assert "overrides gelu (rules/activations.py:" in describe_rule(rulebook([own_rule]), "aten.gelu")

    def test_a_generic_rule_says_that_it_is(self) -> None:
        assert "generic pointwise" in describe_rule(shipped(), "aten.special_bessel_j0").splitlines()[0]

    @pytest.mark.parametrize(
        ("target", "near"),
        [
            ("aten.gleu", "aten.gelu"),
            ("optimizer.adamx", "optimizer.adam"),
            ("SparseMoe", "graphflops.models.moe.SparseMoE"),
        ],
    )
    def test_an_unknown_target_has_suggestions(self, target: str, near: str) -> None:
        with pytest.raises(UsageError, match=f"no rule names '{target}'; did you mean .*{near}"):
            describe_rule(shipped(), target)

    def test_the_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["rules", "show", "optimizer.adamw"]) == 0
        assert "elementwise = 11·param.numel, division = 4·param.numel" in capsys.readouterr().out
        assert main(["rules", "show", "no.such.thing"]) == 1


class TestPages:
    def test_they_are_the_output_of_the_command(self) -> None:
        assert {file.name: file.read_text(encoding="utf-8") for file in PAGES.glob("*.md")} == pages(), "run make rules"

    def test_every_rule_and_target_is_in_them(self) -> None:
        text = "\n".join(pages().values())
        for key, shipped_rule in shipped():
            assert f"## {shipped_rule.name}\n" in text
            assert f"`{str(key).replace('::', '.')}`" in text

    def test_the_site_leads_to_each(self) -> None:
        navigation = (PAGES.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
        assert not [name for name in pages() if f"rules/{name}" not in navigation]

    def test_nearly_every_formula_is_written_out(self) -> None:
        rules = {id(rule): rule for _, rule in shipped()}.values()
        assert {rule.name for rule in rules if symbolic_example(rule) is None} <= {
            "trilinear",
            "vector_norm",
            "adaptive_log_softmax_with_loss",
            "unscale",
        }
