"""The documents: every block of Python runs, and every output is that of the command before it.

In a document, a ``console`` block is a command and its output, a ``text`` block is what the Python block before it
printed, and a Python block with a title is a file. A line of output that is only ``…`` stands for any number of lines.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphflops import analyze
from graphflops.cli import main
from graphflops.models.bk_core import bk_core

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/conformance"))
import shim  # noqa: E402, F401  # beside a CPU build of torch, transformers imports torchvision only with it

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/index.md",
    "docs/coming-from.md",
    "docs/custom-kernels.md",
    "docs/laws.md",
    "docs/models.md",
    "docs/conventions.md",
    "docs/design.md",
    "docs/diff.md",
    "docs/exports.md",
    "docs/html-page.md",
    "docs/inputs-python.md",
    "docs/quick-reference.md",
    "docs/rates.md",
    "docs/tables.md",
    "docs/torch-compile.md",
    "docs/resnet-bk.md",
    "docs/verification.md",
    "docs/writing-rules.md",
    *(f"docs/tutorial/{page.name}" for page in sorted((ROOT / "docs/tutorial").glob("*.md"))),
    *(f"docs/commands/{page.name}" for page in sorted((ROOT / "docs/commands").glob("*.md"))),
]
STUDIES = {"docs/quick-reference.md", "docs/resnet-bk.md", "docs/laws.md", "docs/commands/generate.md"}
"""documents whose tables take seconds each: a training step of full size for every option"""
DOCUMENTED = "2.13."
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")


def blocks(document: str) -> list[tuple[str, str, str]]:
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


def agrees(printed: str, expected: str) -> bool:
    """Line by line, spaces at the ends of lines and of the whole aside."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else _as_pattern(line.rstrip()) + r"[ ]*\n"
        for line in expected.strip("\n").splitlines()
    )
    return re.fullmatch(r"\n*" + pattern + r"\s*", printed.strip("\n") + "\n") is not None


def _as_pattern(line: str) -> str:
    """A line to the letter; but how many operators a model calls that cost nothing, PyTorch changes by version."""
    if line.startswith("coverage") and not torch.__version__.startswith(DOCUMENTED):
        return r"coverage .*"
    return re.escape(line)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own, from which modules can be imported and leave nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.mark.parametrize(
    "document", [pytest.param(page, marks=pytest.mark.slow if page in STUDIES else ()) for page in DOCUMENTS]
)
def test_blocks_run_and_print_what_the_document_says(
    document: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if document == "docs/models.md":
        pytest.importorskip("transformers")
    names: dict[str, Any] = {}
    printed = ""
    skipped = False
    for language, title, text in blocks(document):
        skipped = "import AutoModel" in text or (skipped and language == "text")
        if skipped:  # test_a_model_of_transformers runs these
            continue
        if title:
            (elsewhere / title).parent.mkdir(parents=True, exist_ok=True)
            (elsewhere / title).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, document, "exec"), names)
            printed = capsys.readouterr().out
        elif language == "text":
            assert agrees(printed, text), printed
        elif language == "console":
            command, _, expected = text.partition("\n")
            printed = run(command.removeprefix("$ "), capsys)
            assert not expected or agrees(printed, expected), printed


def test_a_model_of_transformers(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    (_, _, code), (_, _, expected), *_ = [block for block in blocks("README.md") if block[0] in ("python", "text")]
    exec(compile(code, "README.md", "exec"), {})
    assert agrees(capsys.readouterr().out, expected)


def run(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The output of a command; ``make analyze`` is expanded as in the Makefile."""
    command = command.replace("make analyze", "graphflops analyze --json graphflops-report.json")
    program, *arguments = shlex.split(command)
    if program == "pytest":
        status = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", ".", *arguments])
        printed = capsys.readouterr().out
        assert status == 0, printed
        return printed
    assert program == "graphflops", command
    main(arguments)
    captured = capsys.readouterr()
    return captured.out + captured.err


PRICES = {
    "layer norm": nn.LayerNorm(10),
    "softmax": nn.Softmax(dim=-1),
    "dropout": nn.Dropout(0.5),
    "ReLU": nn.ReLU(),
    "GELU": nn.GELU(),
    "BK-Core": lambda x: bk_core(x, torch.ones(9), torch.ones(9), 0.0, 1.0, 0.5),
}


@pytest.mark.parametrize("name", PRICES)
def test_prices_of_an_element_are_those_of_the_rules(name: str) -> None:
    page = (ROOT / "docs/conventions.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {name} \| (\d+) \| (\d+) \|", page, flags=re.MULTILINE)
    x = torch.zeros(7, 10, requires_grad=True)
    report = analyze(PRICES[name], (x,))
    assert (report.forward, report.backward) == tuple(int(cell) * x.numel() for cell in row)


ALL_PAGES = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md"))),
]


@pytest.mark.parametrize("document", ALL_PAGES)
def test_links_lead_to_files_and_headings_that_exist(document: str) -> None:
    page = ROOT / document
    for target, anchor in LINK.findall(re.sub(r"`[^`\n]*`", "", _without_code(page))):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), f"{target}#{anchor}"


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    lines = re.findall(r"^#+ (.*)$", _without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


def _without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_site_begins_with_the_first_screen_of_the_readme() -> None:
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Why did it say that?")[0]
    first_page = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert first_page.startswith(first_screen.replace("](docs/", "]("))


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make analyze" in text
    assert "make test" in text


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("a  \nb\nc\n", "a\n…\nc", True),
        ("a\nb\nc\n", "a\nc", False),
        ("a\nb\n", "…\nb\n…", True),
        ("a\nb\n", "…\nc", False),
        ("a.c\n", "abc", False),
    ],
)
def test_outputs_are_compared_line_by_line(printed: str, expected: str, same: bool) -> None:
    assert agrees(printed, expected) is same
