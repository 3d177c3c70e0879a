"""The icicle as a picture and in notebooks: its widths are the shares of the report."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from html_models import Llama, ResNet, llama_405b
from torch import nn

import graphflops
from graphflops import Report, UsageError
from graphflops.core.costs import Work
from graphflops.core.entries import Entry, Formula
from graphflops.report.conventions import STANDARD
from graphflops.report.exports.charts import Chart, Curve, chart_svg
from graphflops.report.parts import Costs, ModelInfo

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title><script>alert(1)</script>&\x1b"


@pytest.fixture(scope="module")
def report() -> Report:
    return graphflops.analyze(ResNet(), (torch.zeros(2, 3, 16, 16),), optimizer="adamw")


def widths(svg: str) -> dict[str, float]:
    """Title, without the numbers → width of the rectangle, one pixel of which is left free."""
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return {
        str(group.findtext(f"{SVG}title")).partition(":")[0]: float(group.find(f"{SVG}rect").attrib["width"]) + 1  # type: ignore[union-attr]
        for group in groups
    }


@pytest.mark.parametrize("phase", ["total", "forward", "backward"])
def test_a_module_is_as_wide_as_its_share(report: Report, tmp_path: Path, phase: str) -> None:
    svg = report.to_picture(tmp_path / "picture.svg", phase=phase).read_text(encoding="utf-8")  # type: ignore[arg-type]
    flops, drawn = report.by_module(phase), widths(svg)  # type: ignore[arg-type]
    for name, path in (("stem Conv2d", "stem"), ("stages Sequential", "stages"), ("0–2 ConvBlock", "stages")):
        assert drawn[name] / drawn["ResNet ResNet"] == pytest.approx(flops[path] / flops[""], abs=2e-4)


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<svg")])
def test_the_ending_of_the_name_is_the_format(report: Report, tmp_path: Path, name: str, start: bytes) -> None:
    assert report.to_picture(tmp_path / name).read_bytes().startswith(start)


def test_what_cannot_be_drawn_is_said(report: Report, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot draw into .*: give a name that ends in \.svg, \.png, \.pdf"):
        report.to_picture(tmp_path / "a.gif")
    with pytest.raises(UsageError):
        report.to_picture(tmp_path / "a.svg", phase="sideways")  # type: ignore[arg-type]


def test_a_notebook_shows_the_totals_and_needs_no_script(report: Report) -> None:
    html = report._repr_html_()
    tree = ElementTree.fromstring(html)
    assert f"{report.total:,}" in html
    assert not list(tree.iter("script"))
    assert "0–2 ConvBlock ×3" in html


def test_a_notebook_is_small_for_a_large_model() -> None:
    model, tokens = llama_405b()
    report = graphflops.analyze(model, (tokens,))
    assert len(report._repr_html_().encode()) < 20_000


def report_of(path: str, macs: int) -> Report:
    """A report with one entry."""
    modules = {".".join(path.split(".")[: i + 1]): HOSTILE for i in range(path.count(".") + 1)} | {"": HOSTILE}
    entry = Entry("call", path, "op", HOSTILE, "", "", {"forward": Work(macs=macs)}, "", "", Formula("0", {}, {}))
    return Report(ModelInfo(HOSTILE, {}, {}, frozenset(), modules, frozenset(modules)), Costs((entry,)), STANDARD)


@pytest.mark.parametrize("path", ["", HOSTILE, ".".join("m" * 900)], ids=["model", "hostile", "deep"])
@pytest.mark.parametrize("macs", [0, 1, 2**80])
def test_any_report_is_drawn(path: str, macs: int, tmp_path: Path) -> None:
    report = report_of(path, macs)
    ElementTree.fromstring(report._repr_html_())
    ElementTree.fromstring(report.to_picture(tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert "alert(1)</script>" not in report._repr_html_()
    assert report.to_html()


def test_a_chart_places_its_points_by_their_logarithms() -> None:
    points = [(1, 10.0), (4, 1000.0), (16, 100000.0)]
    svg = chart_svg(Chart("title", "x", "y", [Curve("a", points)], log_x=True, log_y=True))
    circles = [circle.attrib for circle in ElementTree.fromstring(svg).iter("circle")]
    x, y = ([float(circle[name]) for circle in circles] for name in ("cx", "cy"))
    assert x[0] < x[1]
    assert y[0] > y[1]  # y grows downwards
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)


@pytest.mark.parametrize("points", [[(1, 1)], [(0, 0), (10, 0)], [(1, 2**80), (2, 1)], [(3, 5), (3, 5)]])
def test_any_points_are_drawn(points: list[tuple[float, float]]) -> None:
    ElementTree.fromstring(chart_svg(Chart("t", "x", "y", [Curve("a", points), Curve("none", ())])))


def test_a_law_is_a_section_with_its_numbers() -> None:
    def make(N: int, D: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        return Llama(2, D, 4, 2, 2 * D, 32), (torch.empty(1, N, dtype=torch.int64),)

    law = graphflops.law(make, {"N": 16, "D": graphflops.multiples(8, base=32)}, optimizer=None, training=False)
    (chart,) = law.section("forward", N=[8, 16, 64]).charts
    forward = {n: graphflops.analyze(*make(n, 32), training=False).forward for n in (8, 16, 64)}
    assert dict(chart.curves[0].points) == forward
    section = law.section("forward")
    assert [chart.x for chart in section.charts] == ["N", "D"]
    assert section.rows[-1][0] == "total"
    with pytest.raises(UsageError, match="no size 'M'"):
        law.section(M=[1])
