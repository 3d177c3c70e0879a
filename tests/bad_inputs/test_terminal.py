"""Printed text: no name sends commands to a terminal, any console shows it, and a full disk is no traceback."""

import ast
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from rich.table import Table
from torch import nn

import graphflops
from graphflops import Report, analyze
from graphflops.cli import main
from graphflops.core.characters import in_line, readable, safe
from graphflops.report.terminal import Terminal

HERE = Path(__file__).parent
PACKAGE = Path(graphflops.__file__).parent
COMMANDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""what a terminal obeys, or cannot show"""
PAINTED = ["\x1b[2Jx", "\x1b]0;title\x07", "[/nope]", "[bold]b", "\u202enihton", "\udc80", "\x9b1m", "a\rb", "\u2066c"]
ENCODINGS = ["ascii", "latin-1", "cp1252", "utf-8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, with reports, a law, a convention and rules in it."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "rules.py").write_text('from graphflops import rule, Cost\n@rule("a.b")\ndef f(x): "\x1b[2J [/nope]"\n')
    toml = 'name = "mine"\nabout = "[/nope] [x] \\u001b[2J \\u202e"\n[weights]\nmacs = 2\n'
    (folder / "mine.toml").write_text(toml)
    before = Path.cwd(), sys.path[:]
    os.chdir(folder)
    sys.path.insert(0, str(HERE))
    analyze(nn.Linear(4, 4), (torch.ones(2, 4),)).to_json("report.json")
    yield folder
    os.chdir(before[0])
    sys.path[:] = before[1]


def printed(*arguments: str, encoding: str = "utf-8") -> tuple[int, str, str]:
    """The output of a command on a console that accepts one encoding only."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    texts = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        texts.append(stream.read())
    return code, *texts


COMMANDS = [
    ["analyze"],
    ["analyze", "--help"],
    ["analyze", "--explain", "blocks.0"],
    ["analyze", "bad_models:Painted", "-i", "2x4"],
    ["analyze", "bad_models:FrozenBranches", "-i", "2x4"],
    ["analyze", "bad_models:factory_paints"],
    ["verify", "bad_models:Painted", "-i", "2x4"],
    ["scale", "bad_models:of_size", "--size", "N=2..8"],
    ["compare", "--to", "STEP2_CONFIG"],
    ["compare", "bad_models:Painted", "bad_models:Simple", "-i", "2x4"],
    ["compare", "--lengths", "8,16"],
    ["show", "report.json"],
    ["show", "report.json", "--convention", "mine.toml"],
    ["explain", "report.json"],
    ["explain", "report.json", "--as", "fvcore"],
    ["explain", "report.json", "--as", "mine.toml"],
    ["rules", "show", "aten.softmax"],
    ["rules", "show", "graphflops.bk_core"],
    ["rules", "list", "softmax"],
    ["rules", "stub", "torch.nn:Linear"],
    ["rules", "check", "rules.py"],
    ["--bogus", "\x1b[2J"],
    ["nope\u202e"],
    ["show", "\u202e.json"],
]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda case: " ".join(case)[:40].encode("unicode_escape").decode())
def test_every_command_is_readable_on_every_console(folder: Path, arguments: list[str], encoding: str) -> None:
    code, out, err = printed(*arguments, encoding=encoding)
    assert code in (0, 1, 4)
    assert "Traceback" not in err
    assert out or err
    assert not COMMANDING.search(out + err)


class TestSafe:
    @pytest.mark.parametrize("name", PAINTED)
    def test_nothing_is_obeyed_and_nothing_is_lost(self, name: str) -> None:
        assert not COMMANDING.search(safe(name))
        assert safe(name).encode().decode("unicode_escape").encode("utf-8", "surrogatepass") == name.encode(
            "utf-8", "surrogatepass"
        )

    def test_letters_of_all_languages_stay(self) -> None:
        assert safe("größe 大小 حجم ∂L/∂x\n\t") == "größe 大小 حجم ∂L/∂x\n\t"

    def test_a_name_stays_on_its_line(self) -> None:
        assert in_line("a\nb\tc") == "a\\nb\\tc"

    @pytest.mark.parametrize(
        ("text", "ascii"),
        [
            ("2·N² − 1", "2.N^2 - 1"),
            ("⌊N/2⌋ → θ", "floor(N/2) -> theta"),
            ("café", "cafe"),
            ("大", "\\u5927"),
            ("…", "..."),
        ],
    )
    def test_characters_missing_on_a_console_are_replaced_by_similar_ones(self, text: str, ascii: str) -> None:
        assert readable(text, "ascii") == ascii


class TestNames:
    @pytest.mark.parametrize("name", PAINTED)
    def test_in_a_report(self, name: str) -> None:
        model = nn.Sequential()
        model.add_module(name, nn.Linear(4, 4))
        model.add_module("other", nn.Linear(4, 4))
        report = analyze(model, (torch.ones(2, 4),))
        for text in (str(report), report.explain()):
            assert not COMMANDING.search(text)
            assert in_line(name) in text

    def test_a_table_with_them_is_aligned(self) -> None:
        file = io.StringIO()
        table = Table(box=None, show_header=False)
        for name in PAINTED:
            table.add_row(in_line(name), "|")
        Terminal(file, width=60).print(table)
        assert len({line.index("|") for line in file.getvalue().splitlines()}) == 1

    def test_in_a_saved_report(self, tmp_path: Path) -> None:
        report = analyze(nn.Linear(4, 4), (torch.ones(2, 4),))
        text = report.to_json(tmp_path / "r.json").read_text()
        for before in ('"Linear"', "float32(2, 4)", '"input"'):
            text = text.replace(before, before[:-1] + "\\u001b[31m[/nope]\\u202e" + before[-1])
        (tmp_path / "r.json").write_text(text)
        code, out, err = printed("show", str(tmp_path / "r.json"))
        assert (code, err) == (0, "")
        assert not COMMANDING.search(out)
        assert "[/nope]" in out
        assert not COMMANDING.search(str(Report.from_json(tmp_path / "r.json")))

    def test_in_an_error(self) -> None:
        from graphflops import UsageError

        assert str(UsageError("\x1b[2J gone")) == "\\x1b[2J gone"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_text_goes_out_in_one_place(file: Path) -> None:
    if file.name in ("terminal.py", "exporting.py"):  # the one place; and what torch prints as it always did
        return
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not called & {"Console", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"}
    assert file.parent.name != "cli" or "print" not in called


class TestWidths:
    @pytest.mark.parametrize("columns", ["0", "-3", "", "x", "²", "9" * 5000, "1"])
    def test_a_width_that_no_terminal_has(self, folder: Path, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        for arguments in (["show", "report.json"], ["show", "--help"]):
            code, out, _ = printed(*arguments)
            assert code == 0
            assert "Linear" in re.sub(r"\s", "", out) or "report" in out or columns == "1"
        assert os.environ["COLUMNS"] == columns


def command(*arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "graphflops", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["show", "report.json"], ["rules", "list"], ["--help"], ["--version"]])
def test_a_full_disk_is_one_line(folder: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        process = command(*arguments, stdout=full.fileno())
    assert process.returncode == 1
    assert process.stderr.decode().splitlines() == ["error: cannot write the output: No space left on device"]


def test_nobody_reads_on(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = command("rules", "list", stdout=writer)
    os.close(writer)
    assert (process.returncode, process.stderr) == (1, b"")


def test_closed_streams(folder: Path) -> None:
    shell = f"{sys.executable} -m graphflops show report.json >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_console_of_another_age(folder: Path, environment: dict[str, str]) -> None:
    process = command("explain", "report.json", "--as", "fvcore", **environment)
    assert (process.returncode, process.stderr) == (0, b"")
    assert b"->" in process.stdout
