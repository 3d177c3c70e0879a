"""Markdown: tables that a parser reads as they are meant, literal names, and rows that sum to the report."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import torch
from hypothesis import given
from made_reports import FEW, NAMES, reports
from markdown_it import MarkdownIt
from torch import nn

from graphflops import Report, analyze
from graphflops.cli import main
from graphflops.core.characters import in_line
from graphflops.report.exports.markdown import MAX_ROWS, literal
from graphflops.report.parts import Notes

PARSER = MarkdownIt("commonmark").enable("table")


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, as HTML."""
    table_texts = re.findall(r"<table>(.*?)</table>", PARSER.render(text), flags=re.DOTALL)
    return [
        [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in table.split("<tr>")[1:]]
        for table in table_texts
    ]


def number(cell: str) -> int:
    return int(re.sub(r"<[^>]*>|,", "", cell))


@FEW
@given(reports())
def test_the_totals_are_those_of_the_report(report: Report) -> None:
    totals, modules = tables(report.to_markdown())
    assert number(totals[-1][1]) == sum(number(row[1]) for row in totals[1:-1]) == report.total
    assert number(modules[1][-2]) == report.total
    assert "**Totals are lower bounds" in report.to_markdown()


@FEW
@given(reports())
def test_the_rows_of_a_module_sum_to_it(report: Report) -> None:
    _, (_, *rows) = tables(report.to_markdown())
    levels = [row[0].count("\u2003") for row in rows]
    totals = [number(row[-2]) for row in rows]
    for index, level in enumerate(levels):
        inside = []
        for below, total in zip(levels[index + 1 :], totals[index + 1 :], strict=True):
            if below <= level:
                break
            if below == level + 1:
                inside.append(total)
        assert not inside or sum(inside) == totals[index]


@FEW
@given(NAMES)
def test_a_name_is_literal(name: str) -> None:
    html = PARSER.render(f"| a |\n|---|\n| {literal(name)} |\n")
    (cell,) = re.findall(r"<td>(.*?)</td>", html, flags=re.DOTALL)
    content = re.fullmatch(r"<code>(.*)</code>", cell, flags=re.DOTALL)
    assert content is not None
    assert unescape(content[1]) == in_line(name)


def test_a_mention_and_markup_in_names_are_code() -> None:
    assert literal("@someone") == "<code>&#64;someone</code>"
    assert literal("<img src=x>") == "<code>&#60;img&#32;src&#61;x&#62;</code>"


def test_equal_blocks_share_a_row_and_deep_models_stay_short() -> None:
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(30)))
    text = analyze(blocks, (torch.ones(2, 8),), training=False).to_markdown()
    assert "| &emsp;`0–29 Sequential` ×30 |" in text
    nested = nn.Sequential(*(nn.Sequential(nn.Linear(size, size + 1), nn.ReLU()) for size in range(8, 40)))
    _, modules = tables(analyze(nested, (torch.ones(2, 8),)).to_markdown())
    assert len(modules) - 1 <= MAX_ROWS


def test_assumptions_and_warnings_are_listed() -> None:
    report = analyze(nn.Linear(2, 2), (torch.ones(1, 2),))
    assumptions = tuple(f"model.py:{line}: balanced selection assumed" for line in range(7))
    warned = replace(report, notes=Notes(("a rule | was left out",), (), assumptions))
    lines = warned.to_markdown().splitlines()
    listed = [line for line in lines if line.startswith("- assumption: ")]
    assert listed[0] == "- assumption: `model.py:0: balanced selection assumed`"
    assert listed[5:] == ["- assumption: and 2 more in `report.assumptions`"]
    assert "- warning: <code>a&#32;rule&#32;&#124;&#32;was&#32;left&#32;out</code>" in lines


def test_the_command_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    assert main(["analyze", "torch.nn:GELU", "--input", "input=2x3", "--markdown", str(path)]) == 0
    assert "`GELU`" in path.read_text(encoding="utf-8")
