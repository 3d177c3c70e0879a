"""docs/commands/: a page for each command, with the options that it has."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphflops.cli import main
from graphflops.cli.pages import BEGIN, reference, updated

PAGES = Path(__file__).parents[2] / "docs/commands"


@pytest.mark.parametrize("name", reference())
def test_a_page_has_the_options_of_its_command(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert page == updated(page, name), "run make commands"


@pytest.mark.parametrize("name", reference())
def test_a_page_has_an_example(name: str) -> None:
    """The examples are run by tests/test_readme.py."""
    assert f"```console\n$ graphflops {name}" in (PAGES / f"{name}.md").read_text(encoding="utf-8")


def test_there_is_no_page_of_a_command_that_is_gone() -> None:
    assert {file.stem for file in PAGES.glob("*.md")} == set(reference())


def test_every_option_of_the_help_is_in_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    for name in set(reference()) - {"budget", "resnet-bk", "rules"}:  # these have commands of their own
        main([name, "--help"])
        printed = set(re.findall(r"^│ (--[a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE)) - {"--help"}
        assert printed
        assert not {option for option in printed if f"`{option}`" not in reference()[name]}


def test_the_command_writes_pages_and_keeps_text_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "show.md").write_text((PAGES / "show.md").read_text(encoding="utf-8").replace("`--json`", ""))
    subprocess.run([sys.executable, "-m", "graphflops.cli.pages", str(tmp_path)], check=True, capture_output=True)
    assert (tmp_path / "show.md").read_text(encoding="utf-8") == (PAGES / "show.md").read_text(encoding="utf-8")
    assert {file.stem for file in tmp_path.glob("*.md")} == set(reference())


def test_a_page_without_the_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="put them where its options belong"):
        updated("# graphflops show\n" + BEGIN, "show")
