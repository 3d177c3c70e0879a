"""Formulas of rules as LaTeX."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
import sympy
from latex2mathml.converter import convert

from graphflops import Cost, Work
from graphflops.rules.typesetting import latex_rows

PAGES = sorted((Path(__file__).parents[2] / "docs/rules").glob("*.md"))


def symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, integer=True, positive=True)


def test_each_pass_and_class_of_work_is_a_row() -> None:
    n, m = symbol("x.numel"), symbol("weight₁")
    rows = latex_rows(Cost(Work(macs=n * m, division=m), {"x": Work(macs=2 * n), "weight": Work()}, span=m + 1))
    assert list(rows) == [
        r"\text{forward} & \text{macs} = & \text{weight}_{1} \cdot \left| \text{x} \right|",
        r"& \text{division} = & \text{weight}_{1}",
        r"\text{gradient of x} & \text{macs} = & 2 \cdot \left| \text{x} \right|",
        r"\text{gradient of weight} && 0",
        r"\text{span} && \text{weight}_{1} + 1",
    ]


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("mat₂₁", r"\text{mat2}_{1}"),  # size 1 of the operand mat2
        ("out.₁.₀", r"\text{out}_{1, 0}"),  # size 0 of output 1
        ("padding.₀.", r"\text{padding}_{0}"),
        ("grad_output.numel", r"\left| \text{grad\_output} \right|"),
        ("top_k", r"\text{top\_k}"),
    ],
)
def test_a_size_has_the_name_of_its_operand_and_an_index(name: str, latex: str) -> None:
    assert list(latex_rows(Cost(Work(macs=symbol(name))))) == [rf"\text{{forward}} & \text{{macs}} = & {latex}"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_formula_of_a_page_becomes_mathml(page: Path) -> None:
    for formula in re.findall(r"```math\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        mathml = convert(formula)
        text = unescape(re.sub(r"<[^>]*>", "", mathml)).replace("\\_", "_")
        assert mathml.count("<mtr>") == formula.count("\n") - 2
        assert not set("\\&{}") & set(text), text
