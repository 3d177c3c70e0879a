"""Given rates: the matched modules, several rates at once, and the effect on each phase."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from data_dependent import WIDTH, Deep, Dense, EagerMoE, Masked
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflops import Report, UsageError, analyze
from graphflops.analysis.rates import Rate, layers
from graphflops.report.data import Query

TOKENS = 16
X = torch.zeros(TOKENS, WIDTH)
BLOCK = WIDTH * WIDTH * TOKENS
"""multiply-adds of a block"""


def deep(rates: Any = None, **options: Any) -> Report:
    return analyze(Deep(), (X,), rates=rates, **options)


class TestPatterns:
    @pytest.mark.parametrize("pattern", ["blocks.3", "blocks.3.*", "blocks.[3]", "*.blocks.3", "layer_3", "*.3.*"])
    def test_match_a_module_and_all_in_it(self, pattern: str) -> None:
        assert deep().macs - deep({pattern: 0}).macs == BLOCK
        assert "blocks.3" not in {path for path, flops in deep({pattern: 0}).by_module().items() if flops}

    @pytest.mark.parametrize("pattern", ["blocks", "blocks.*", "block*", "*.blocks.*", "blocks.?"])
    def test_match_the_members_of_a_list(self, pattern: str) -> None:
        report = deep({pattern: 0.5})
        assert set(report.rates) == {f"blocks.{index}" for index in range(8)}
        assert report.by_module()["blocks"] * 2 == deep().by_module()["blocks"]

    def test_match_an_operator_if_no_module(self) -> None:
        assert deep({"*add*": 0.5}).forward == deep().forward - 4 * X.numel()
        assert deep({"aten.add*": 0}).forward == deep().forward - 8 * X.numel()
        assert deep({"add": Fraction(1, 2)}).forward == deep().forward - 4 * X.numel()

    def test_of_nested_modules_multiply(self) -> None:
        report = deep({"blocks.3": "1/2", "blocks.3.linear": "1/4"})
        assert report.by_module_and_operator()["blocks.3"]["linear"] == 2 * BLOCK // 8
        assert report.by_module_and_operator()["blocks.3"]["add"] == X.numel() // 2

    def test_with_more_letters_win_in_any_order(self) -> None:
        orders = [{"blocks.*": 0.5, "blocks.3.*": 0.25}, {"blocks.3.*": 0.25, "blocks.*": 0.5}]
        for rates in orders:
            assert deep(rates).rates["blocks.3"] == Rate("1/4")
            assert deep(rates).rates["blocks.4"] == Rate("1/2")

    def test_of_modules_that_did_not_run_warn(self) -> None:
        report = analyze(EagerMoE(), (X[:2],), rates={"*.experts.*": "top_k/num_experts"})
        (warning,) = report.warnings
        assert "did not run on these inputs: experts.2, experts.3. Experts in a loop" in warning
        assert not analyze(EagerMoE(), (X,), rates={"*.experts.*": "top_k/num_experts"}).warnings

    @pytest.mark.parametrize("rates", [["blocks.3"], "blocks.3=0.5", {3: 0.5}])
    def test_are_the_keys_of_a_dict(self, rates: Any) -> None:
        with pytest.raises(UsageError, match="rates must be a dict from patterns to rates"):
            deep(rates)

    def test_without_a_match_are_an_error_with_similar_names(self) -> None:
        with pytest.raises(UsageError, match=r"rate pattern 'block\.3' matches nothing.*did you mean blocks\.3"):
            deep({"block.3": 0.5})


class TestNumbers:
    @pytest.mark.parametrize("rate", [0.62, Fraction(31, 50), "0.62", "31/50", "62/100", (0.62, 0.62), Rate(0.62)])
    def test_are_exact_in_each_notation(self, rate: Any) -> None:
        assert deep({"blocks.3": rate}).rates == {"blocks.3": Rate(Fraction(31, 50))}

    def test_are_expressions_in_attributes_of_the_nearest_module_that_has_them(self) -> None:
        report = analyze(EagerMoE(8, 2), (X,), rates={"*.experts.*": "top_k/num_experts"})
        assert set(report.rates.values()) == {Rate("1/4")}

    def test_unknown_names_are_an_error_with_similar_names(self) -> None:
        with pytest.raises(
            UsageError, match=r"invalid rate of experts\.0, 'topk/num_experts': unknown name 'topk'; did you mean top_k"
        ):
            analyze(EagerMoE(), (X,), rates={"experts": "topk/num_experts"})

    @pytest.mark.parametrize(
        "rate",
        [
            *(1.5, -0.1, float("nan"), float("inf"), True, None, "", "half", "1/0", "__import__('os')", "2**99"),
            *((0.8, 0.3), (0.1, 0.2, 0.3, 0.4), [], "0.3..", layers(9), "avg_layers_executed=9", "(1).real"),
        ],
    )
    def test_invalid_rates(self, rate: Any) -> None:
        with pytest.raises(UsageError, match="rate of 'blocks'"):
            deep({"blocks": rate})

    def test_more_than_one_needs_a_rate_object(self) -> None:
        with pytest.raises(UsageError, match=r"give graphflops\.rates\.Rate\(3\.4\)"):
            deep({"blocks.3": 3.4})
        assert deep({"blocks.3": Rate(3.4)}).macs - deep().macs == BLOCK * 24 // 10


class TestAverageDepth:
    @pytest.mark.parametrize("rate", [layers(5.2), "avg_layers_executed=5.2", "avg_layers_executed=26/5"])
    def test_has_the_rates_of_a_model_that_halts(self, rate: Any) -> None:
        rates = deep({"blocks": rate}).rates
        assert [str(rates[f"blocks.{index}"]) for index in range(8)] == ["1", "1", "1", "1", "1", "1/5", "0", "0"]

    def test_costs_as_much_as_equal_rates(self) -> None:
        halting, even = deep({"blocks": layers(4.5)}), deep({"blocks": Fraction(45, 80)})
        assert (halting.forward, halting.total) == (even.forward, even.total)

    def test_may_have_bounds(self) -> None:
        report = deep({"blocks": "avg_layers_executed=4..6"})
        assert report.lower_bound.macs == 2 * BLOCK + 4 * BLOCK
        assert report.upper_bound.macs == 2 * BLOCK + 6 * BLOCK


class TestPhases:
    def test_forward_and_backward_are_at_the_rate(self) -> None:
        def phases(report: Report) -> list[int]:
            return [report.by_module(phase)["blocks.3"] for phase in ("forward", "dgrad", "wgrad")]

        assert [2 * count for count in phases(deep({"blocks.3": 0.5}))] == phases(deep())

    def test_a_parameter_is_updated_at_any_rate_above_0(self) -> None:
        assert deep({"blocks.3": 0.01}).optimizer == deep().optimizer
        update = deep().by_module("optimizer")["blocks.3"]
        assert deep().optimizer - deep({"blocks.3": 0}).optimizer == update > 0

    def test_counts_are_whole_and_rounded_down_once(self) -> None:
        report = deep({"blocks.3": Fraction(1, 3), "blocks.3.linear": Fraction(2, 7)})
        assert report.by_module_and_operator()["blocks.3"]["linear"] == 2 * (BLOCK * 2 // 21)


MODELS = {"deep": (Deep, "blocks"), "experts by mask": (Masked, "layer"), "eager": (EagerMoE, "gate")}


@pytest.mark.parametrize("name", MODELS)
def test_rate_one_changes_nothing(name: str) -> None:
    make, pattern = MODELS[name]
    assert analyze(make(), (X,), rates={pattern: 1}).entries == analyze(make(), (X,)).entries


def test_rate_zero_leaves_only_the_router() -> None:
    report = analyze(EagerMoE(), (X,), rates={"experts": 0})
    assert report.macs == report.by_module("forward")["gate"] // 2 == TOKENS * WIDTH * 4
    assert report.coverage.counted == analyze(EagerMoE(), (X,)).coverage.counted


@pytest.mark.parametrize(("num_experts", "top_k"), [(4, 1), (4, 2), (8, 2), (4, 4)])
class TestExperts:
    def test_at_k_of_e_are_k_experts(self, num_experts: int, top_k: int) -> None:
        for rates in (None, {"*.experts.*": "top_k/num_experts"}):
            moe = analyze(EagerMoE(num_experts, top_k), (X,), rates=rates)
            dense = analyze(Dense(num_experts, top_k), (X,))
            for phase in ("forward", "wgrad"):
                assert moe.by_module(phase)["experts"] == dense.by_module(phase)["experts"]  # type: ignore[arg-type]

    def test_in_full_are_all_of_them(self, num_experts: int, top_k: int) -> None:
        moe = analyze(EagerMoE(num_experts, top_k), (X,))
        dense = analyze(Dense(num_experts, num_experts), (X,))
        assert moe.at_full_rate.by_module()["experts"] == dense.by_module()["experts"]

    def test_that_are_active_hold_k_of_e_of_the_parameters(self, num_experts: int, top_k: int) -> None:
        moe, dense = analyze(EagerMoE(num_experts, top_k), (X,)), analyze(Dense(num_experts, top_k), (X,))
        assert moe.active_parameters == sum(dense.parameters.values())


class TestIntervals:
    def test_totals_are_intervals_and_the_number_is_the_upper_bound(self) -> None:
        report = deep({"blocks": (0.25, 0.75)})
        assert report.bounds("forward") == (
            deep({"blocks": 0.25}).forward,
            deep({"blocks": 0.75}).forward,
        )
        assert report.forward == report.bounds("forward").upper
        assert deep({"blocks": (0.25, 0.5, 0.75)}).forward == deep({"blocks": 0.5}).forward

    def test_a_point_is_an_interval_of_one_number(self) -> None:
        report = deep({"blocks": 0.5})
        assert report.bounds("total") == (report.total, report.total)
        assert not report.has_bounds

    def test_are_printed_with_both_bounds_and_the_full_cost(self) -> None:
        text = str(deep({"blocks": (0.25, 0.75)}))
        assert "lower – upper" in text
        assert "full rate" in text
        assert "rate 1/4 – 3/4: blocks.0, blocks.1, blocks.2 and 5 more" in text

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.fractions(0, 1, max_denominator=64), min_size=3, max_size=3).map(sorted))
    def test_contain_every_point_in_them(self, numbers: list[Fraction]) -> None:
        least, point, upper = numbers
        interval = analyze(Deep(2), (X,), rates={"blocks": (least, upper)})
        at = analyze(Deep(2), (X,), rates={"blocks": point})
        phases: tuple[Query, ...] = ("forward", "backward", "total")
        for phase in phases:
            low, high = interval.bounds(phase)
            assert low <= at.flops(phase) <= high <= at.at_full_rate.flops(phase)


class TestFiles:
    def test_a_report_with_rates_is_the_same_when_it_is_read(self, tmp_path: Any) -> None:
        report = analyze(EagerMoE(), (X,), rates={"*.experts.*": (0.1, 0.2, 0.3)})
        read = Report.from_json(report.to_json(tmp_path / "report.json"))
        assert read == report
        assert read.bounds() == report.bounds()
        assert read.at_full_rate.total == report.at_full_rate.total
        assert str(read) == str(report)

    def test_a_file_of_the_first_version_is_read(self, tmp_path: Any) -> None:
        path = deep().to_json(tmp_path / "report.json")
        first = path.read_text().replace("graphflops.report/2", "graphflops.report/1")
        path.write_text(first)
        assert Report.from_json(path) == deep()


def test_rates_apply_under_conventions_of_weights_and_not_of_tools() -> None:
    half = deep({"": 0.5})
    assert half.under("torch").forward * 2 == deep().under("torch").forward
    assert half.under("fvcore").forward == deep().under("fvcore").forward
