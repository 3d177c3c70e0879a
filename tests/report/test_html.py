"""The HTML page as text: complete in itself, small, and safe whatever the names are."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from html_models import Llama, ResNet, llama_405b

import graphflops
from graphflops import Report
from graphflops.core.entries import Unknown
from graphflops.report.exports.charts import Chart, Curve
from graphflops.report.exports.sections import Section

HOSTILE = "</script><script>alert(1)</script><!--\u2028\"'&\x1b[2J"


class Page(HTMLParser):
    """The elements of a page, with the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    @property
    def data(self) -> Any:
        return json.loads(next(text for text in self.texts if text.startswith('{"model"')))


@pytest.fixture(scope="module")
def report() -> Report:
    return graphflops.analyze(Llama(3, 32, 4, 2, 48, 64), (torch.zeros(1, 8, dtype=torch.int64),), optimizer="adamw")


def forward_of(node: dict[str, Any], data: dict[str, Any]) -> int:
    """The forward FLOPs of a node, added up here."""
    own = sum(times * int((data["ops"][op].get("flops") or [0])[0]) for op, times in node["ops"])
    return own + sum(count * forward_of(data["nodes"][kid], data) for _, _, count, kid in node["kids"])


def test_the_page_names_no_other_file_and_forbids_the_network(report: Report) -> None:
    page = Page(report.to_html())
    assert not [attrs for _, attrs in page.elements if {"src", "href", "srcset", "action"} & attrs.keys()]
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttpRequest|import\(", report.to_html())
    policy = next(
        attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert str(policy).startswith("default-src 'none';")


def test_the_data_add_up_to_the_report(report: Report) -> None:
    data = Page(report.to_html()).data
    assert forward_of(data["nodes"][-1], data) == report.forward


def test_equal_blocks_are_stored_once(report: Report) -> None:
    data = Page(report.to_html()).data
    runs = [(first, last, count) for node in data["nodes"] for first, last, count, _ in node["kids"] if count > 1]
    assert runs == [("0", "2", 3)]


def test_a_model_of_405_billion_parameters_fits_in_300_kilobytes() -> None:
    model, tokens = llama_405b()
    report = graphflops.analyze(model, (tokens,), optimizer="adamw")
    assert 400e9 < sum(report.parameters.values()) < 410e9
    page = report.to_html()
    assert len(page.encode()) <= 300_000
    data = Page(page).data
    assert forward_of(data["nodes"][-1], data) == report.forward > 2**53 / 2


def test_a_report_that_was_saved_has_the_same_page(report: Report, tmp_path: Path) -> None:
    assert Report.from_json(report.to_json(tmp_path / "report.json")).to_html() == report.to_html()


def test_no_name_ends_a_script_or_becomes_an_element(report: Report) -> None:
    info = replace(
        report.info,
        name=HOSTILE,
        inputs={HOSTILE: HOSTILE},
        modules=dict.fromkeys(report.modules, HOSTILE) | {f"layers.{HOSTILE}": HOSTILE},
    )
    section = Section(
        HOSTILE,
        HOSTILE,
        [Chart(HOSTILE, HOSTILE, HOSTILE, [Curve(HOSTILE, [(1, 1)])])],
        [HOSTILE],
        [[HOSTILE]],
        [HOSTILE],
    )
    plain = Page(
        report.to_html(
            sections=[Section("plain", "plain", [Chart("x", "x", "x", [Curve("x", [(1, 1)])])], ["x"], [["x"]], ["x"])]
        )
    )
    page = Page(replace(report, info=info).to_html(sections=[section]))
    for tag in ("script", "style", "title", "h1", "section", "td", "svg"):
        assert page.count(tag) == plain.count(tag)
    assert "\x1b" not in "".join(page.texts)
    assert page.data["model"].startswith("</script>")


def test_ops_without_a_rule_are_said_first(report: Report) -> None:
    odd = Unknown("odd", "my::<kernel>", "layers.0", "model.py:3", ("float32(2, 2)",), ("float32(2, 2)",), "no rule")
    text = replace(report, costs=replace(report.costs, unknown=(odd,))).to_html()
    assert "Totals are lower bounds" not in report.to_html()
    assert text.index("Totals are lower bounds") < text.index("my::&lt;kernel&gt;") < text.index("<main>")


def test_a_file_is_written_whole_and_its_path_returned(report: Report, tmp_path: Path) -> None:
    path = report.to_html(tmp_path / "report.html")
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == report.to_html()


@pytest.mark.parametrize("convention", ["standard", "exact", "fvcore", "palm"])
def test_every_convention_has_a_page(report: Report, convention: str) -> None:
    chosen = report.with_convention(convention)
    data = Page(chosen.to_html()).data
    assert forward_of(data["nodes"][-1], data) == chosen.forward


def test_a_forward_pass_has_no_choice_of_phases() -> None:
    data = Page(graphflops.analyze(ResNet(), (torch.zeros(1, 3, 8, 8),), training=False).to_html()).data
    assert (data["choices"], data["columns"]) == ([], ["forward"])
