"""The design, held by tests: one direction of data, and a report that needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import graphflops

PACKAGE = Path(graphflops.__file__).parent
STAGES = [
    *("tracing", "graph", "annotation", "pricing", "expansion", "attribution", "rates"),
    *("report", "analysis", "scaling", "cli"),
]
"""in the order in which data flows"""


def imports_of(file: Path) -> set[str]:
    """The modules of graphflops that a file imports, by their short names, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        found |= {name.split(".")[1] for name in names if name.startswith("graphflops.")}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_never_imports_a_later_one(stage: str) -> None:
    files = [PACKAGE / f"{stage}.py"] if (PACKAGE / f"{stage}.py").exists() else [*(PACKAGE / stage).glob("*.py")]
    later = set(STAGES[STAGES.index(stage) + 1 :])
    assert files
    assert not set().union(*map(imports_of, files)) & later


@pytest.mark.parametrize(
    "part", ["sizes", "costs", "conventions", "ledger", "rates", "report", "report_json", "report_text"]
)
def test_what_a_saved_report_needs_does_not_import_torch(part: str) -> None:
    code = f"import sys, graphflops.{part}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_public_function_shares_the_name_of_its_module() -> None:
    modules = {file.stem for file in PACKAGE.glob("*.py")}
    assert not modules & set(graphflops.__all__)


def test_every_public_name_is_there_and_documented() -> None:
    for name in graphflops.__all__:
        assert getattr(graphflops, name).__doc__, name


@pytest.mark.parametrize("part", ["record", "growth", "arrays", "law_json", "law_text", "growth_text", "plotting"])
def test_what_a_saved_law_needs_does_not_import_torch(part: str) -> None:
    code = f"import sys, graphflops.scaling.{part}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_naming_the_law_imports_neither_numpy_nor_sympy_nor_torch() -> None:
    heavy = "{'numpy', 'sympy', 'torch'} & {*sys.modules}"
    code = f"import sys, graphflops; graphflops.law, graphflops.multiples; sys.exit(len({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
