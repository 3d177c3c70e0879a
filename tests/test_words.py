"""The words of the code are those of PyTorch's documentation: retired names do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [*(ROOT / "graphflops").rglob("*.py"), *(ROOT / "rules").glob("*.py")]
RETIRED = frozenset(
    re.findall(
        r"\w+",
        """
StandIns stand_ins lending lend in_charge Unfold Stretch stretches whose watching plainly forgotten
with_second_thoughts denied let_through looked_at Pattern Body Again Likeness is_asleep spoil unspoilt
surroundings is_read_alike alike_blocks of_path of_op written_out annotate _Flow flowing asks_for asked_about
strays Unpriced Prices Answers is_proved ledger Ledger everywhere announced_by dotted_name rules_made moves
compares summed_back NOTHING abreast Interval found_rates at_rates speaks_over witness mathematics adds_up
Contradicted unheld rule_pages Shares run_amount home_config home_report Carrier
""",
    )
)
"""names that need decoding; each has a plain one now"""
VAGUE = frozenset(
    ["asked", "each", "everything", "found", "its", "lacking", "made", "mine", "said", "seen", "theirs", "wanted"]
)
"""names of variables that do not say which thing they are"""
TESTS = [file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__)]
KEPT = {("report/differences.py", "theirs"), ("analysis/scaling/growth.py", "stretches"), ("core/costs.py", "abreast")}
"""old public names, which are aliases for one version"""


def names_in(file: Path) -> Iterator[str]:
    """Names that a file defines: functions, classes, arguments, variables and attributes."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def test_retired_names_do_not_come_back() -> None:
    defined = {
        (file.relative_to(ROOT).as_posix().removeprefix("graphflops/"), name)
        for file in FILES
        for name in names_in(file)
    }
    assert sorted((file, name) for file, name in defined - KEPT if name in RETIRED | VAGUE) == []


def test_variables_of_tests_are_named_for_the_thing_they_are() -> None:
    names = {(file.relative_to(ROOT).as_posix(), name) for file in TESTS for name in names_in(file)}
    assert sorted((file, name) for file, name in names if name in VAGUE) == []


@pytest.mark.parametrize("folder", ["graphflops", "rules", "docs", "tests"])
def test_no_sentence_begins_with_what(folder: str) -> None:
    files = [file for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".md", ".toml")]
    assert files
    pattern = re.compile(r'(?:^ *|"""|[.:] |# )What (?!else\b)', re.MULTILINE)
    assert [file.name for file in files if pattern.search(file.read_text(encoding="utf-8"))] == []
