"""The quick reference: its snippets run as printed, only their import lines changed, and give what it says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphflops import FLOPsCount, compare_models
from graphflops.models import FULL_CONFIG, ConfigurableResNetBK, ResNetBKConfig

ROOT = Path(__file__).parents[2]
PRINTED = (ROOT / "tests/data/quick_reference_snippets.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/quick-reference.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)^```", PRINTED, flags=re.DOTALL | re.MULTILINE))
COMPONENTS = ["embedding", "layer_0", "layer_1", "layer_2", "layer_3", "final_layernorm", "lm_head"]

Run = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a snippet after the quick start; gives its names and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    ran = set()

    def run_snippet(title: str, **names: Any) -> tuple[dict[str, Any], str]:
        if "Quick Start" not in ran:
            exec(SNIPPETS["Quick Start"], names)
            ran.add("Quick Start")
        if title != "Quick Start":
            capsys.readouterr()
            exec(SNIPPETS[title], names)
        return names, capsys.readouterr().out

    return run_snippet


def test_no_snippet_is_lost() -> None:
    assert len(SNIPPETS) == PRINTED.count("```python") == 12


@pytest.mark.parametrize("title", SNIPPETS)
def test_the_page_of_the_documentation_prints_the_same_snippet(title: str) -> None:
    assert SNIPPETS[title] in PAGE


def test_quick_start_prints_a_summary(run: Run) -> None:
    _, printed = run("Quick Start")
    for name, reading in (
        ("Forward Pass:", "16.3"),
        ("Backward Pass:", "32.6"),
        ("Optimizer Step:", "0.06"),
        ("Total", "48.9"),
    ):
        assert re.search(rf"^ *{name} +{reading} GFLOPs", printed, flags=re.MULTILINE), printed
    for component in COMPONENTS:
        assert component in printed


def test_total(run: Run) -> None:
    names, printed = run("Get Total FLOPs")
    flops = names["flops"]
    assert isinstance(flops, FLOPsCount)
    assert flops.total == flops.forward + flops.backward + flops.optimizer
    assert f"{flops.total / 1e9:.1f}" == "48.9"
    assert flops.optimizer == 62_191_800
    assert printed.splitlines()[0] == f"Total: {flops.total:,} FLOPs ({flops.total / 1e9:.3f} GFLOPs)"
    assert printed.splitlines()[2] == f"Backward: {flops.backward:,} FLOPs)"


def test_breakdown(run: Run) -> None:
    names, printed = run("Get Component Breakdown")
    breakdown, total = names["breakdown"], names["counter"].count_total_flops()
    assert list(breakdown) == COMPONENTS
    for phase in ("forward", "backward", "optimizer", "total"):
        assert sum(part[phase] for part in breakdown.values()) == total[phase]
    assert f"lm_head: {15_728_640_000:,} FLOPs" in printed.splitlines()


def test_compare_models(run: Run) -> None:
    model1, model2 = (ConfigurableResNetBK(ResNetBKConfig(n_layers=n, vocab_size=500)) for n in (4, 2))
    names, printed = run("Compare Models", model1=model1, model2=model2)
    comparison = names["comparison"]
    first, second = comparison["Model A"], comparison["Model B"]
    assert list(comparison["speedup"]) == ["forward", "backward", "total"]
    for phase, speedup in comparison["speedup"].items():
        assert speedup == first[phase] / second[phase]
    assert comparison["speedup"]["total"] > 1
    assert printed.splitlines()[-1] == f"Speedup: {comparison['speedup']['total']:.2f}×"
    assert f"{first.total:,}" in printed
    assert f"{second.total:,}" in printed


def test_json(run: Run, tmp_path: Path) -> None:
    names, _ = run("Save to JSON")
    assert [file.name for file in tmp_path.iterdir()] == ["flops_count.json"]
    content = json.loads((tmp_path / "flops_count.json").read_text(encoding="utf-8"))
    sizes = {"d_model": 64, "n_layers": 4, "vocab_size": 30_000, "num_experts": 4, "top_k": 1}
    assert (sizes | {"seq_len": 128, "batch_size": 32}).items() <= content["model_config"].items()
    assert content["total_flops"] == names["counter"].count_total_flops().to_dict()
    assert content["component_breakdown"] == names["counter"].get_breakdown()
    assert (content["optimizer"], content["convention"]) == ("adamw", "standard")
    assert content["unit"] == "FLOP"
    assert type(content["schema_version"]) is int


def test_training_cost_of_ten_thousand_steps(run: Run) -> None:
    names, printed = run("Measure Training Cost")
    assert names["total_flops"] == 10_000 * names["flops_per_step"].total
    assert (names["flops_per_step"] * 10_000).total == names["total_flops"]
    assert printed == f"Total training cost: {names['total_flops'] / 1e12:.2f} TFLOPs\n"


@pytest.mark.slow
def test_compare_configurations(run: Run) -> None:
    names, printed = run("Compare Configurations", FULL_CONFIG=FULL_CONFIG, compare_models=compare_models)
    comparison = names["comparison"]
    assert comparison["Model 1"].forward == 16_297_377_792
    assert comparison["waterfall"].end.flops == comparison["Model 2"]
    assert printed.splitlines()[-1] == f"Optimization provides {comparison['speedup']['total']:.2f}× speedup"


def test_bottlenecks(run: Run) -> None:
    names, printed = run("Analyze Bottlenecks")
    title, first, *rest = printed.splitlines()
    assert title == "Top 3 bottlenecks:"
    assert re.fullmatch(r"  lm_head: 96\.[56]%", first)
    assert [re.sub(r"\d: ", "i: ", line) for line in rest] == ["  layer_i: 0.9%"] * 2
    costs = [component["forward"] for _, component in names["sorted_components"]]
    assert costs == sorted(costs, reverse=True)


def test_growth_with_the_sequence_length(run: Run) -> None:
    names, printed = run("Validate O(N) Complexity")
    assert names["seq_lengths"] == [128, 256, 512, 1024]
    assert printed.splitlines() == [f"N={n}→{2 * n}: 2.00× (expected 2.00×)" for n in (128, 256, 512)]


def test_a_counter_takes_the_model_of_the_quick_start(run: Run) -> None:
    names, _ = run("AttributeError when creating counter")
    assert f"{names['counter'].count_total_flops().total / 1e9:.1f}" == "48.9"


def test_one_sequence_costs_a_batch_th(run: Run) -> None:
    names, _ = run("FLOPs seem too high/low")
    assert 32 * names["counter"].count_forward_flops().forward == 16_297_377_792


def test_the_breakdown_is_filled_with_an_earlier_call_and_without(run: Run) -> None:
    names, _ = run("Component breakdown empty")
    assert names["breakdown"] == names["counter"].get_breakdown()
    assert list(names["breakdown"]) == COMPONENTS


def test_adamw_costs_seven_and_a_half_times_what_sgd_costs(run: Run) -> None:
    names, _ = run("Quick Start")
    counter, total = names["counter"], names["counter"].count_total_flops()
    adamw, sgd = (counter.count_optimizer_flops(name).optimizer for name in ("adamw", "sgd"))
    assert adamw == 7.5 * sgd
    assert adamw < total.total / 100
    assert counter.count_total_flops("sgd").optimizer == sgd


def test_a_modified_preset_does_not_reach_the_next_importer(run: Run) -> None:
    from graphflops.models import BASELINE_CONFIG as BEFORE

    names, _ = run("Validate O(N) Complexity")
    names["config"].d_model = 7
    from graphflops.models import BASELINE_CONFIG as AFTER

    assert names["config"].n_seq == 1024
    assert BEFORE == AFTER == ResNetBKConfig()
    assert AFTER is not names["config"]
