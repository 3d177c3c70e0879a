"""The pages of docs/commands/: the options of each command, from the definitions that ``--help`` prints.

A page is written by hand, but for the text between two markers. ``make commands`` runs this module with the folder as
its argument; a command without a page gets one.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from graphflops.cli import app
from graphflops.report.files import write_atomic
from graphflops.report.terminal import say

BEGIN, END = "<!-- written by make commands: begin -->", "<!-- written by make commands: end -->"
_GENERATED = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), flags=re.DOTALL)


def reference() -> dict[str, str]:
    """Command → Markdown: usage, description, and tables of its arguments and options, between the two markers."""
    group: Any = typer.main.get_command(app)
    return {name: "\n".join((BEGIN, *_reference(name, command), END)) for name, command in group.commands.items()}


def updated(page: str, name: str) -> str:
    """The text of a page with the current reference of a command; of an empty text, a page with nothing else."""
    text = page or f"# graphflops {name}\n\n{BEGIN}{END}\n"
    if not _GENERATED.search(text):
        raise ValueError(f"the page of {name} has lost the lines {BEGIN} and {END}: put them where its options belong")
    return _GENERATED.sub(lambda _: reference()[name], text)


def _reference(name: str, command: Any) -> Iterator[str]:
    """The lines for a command, or for each command of a group, under a heading of its own."""
    if subcommands := getattr(command, "commands", None):
        yield command.help
        for subname, subcommand in subcommands.items():
            yield ""
            yield f"## {name} {subname}"
            yield ""
            yield from _reference(f"{name} {subname}", subcommand)
        return
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = (argument.name.upper() if argument.required else f"[{argument.name.upper()}]" for argument in arguments)
    yield from ("```sh", " ".join(("graphflops", name, *(["[OPTIONS]"] * bool(options)), *usage)), "```", "")
    yield inspect.cleandoc(command.help)
    for title, parameters in (("argument", arguments), ("option", options)):
        if parameters:
            yield from ("", f"| {title} | default | meaning |", "|---|---|---|")
            yield from map(_row, parameters)


def _row(parameter: Any) -> str:
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
    default = "" if parameter.default in (None, False, "") else f"`{parameter.default}`"
    return f"| {', '.join(f'`{name}`' for name in names)} | {default} | {_cell(parameter.help or '')} |"


def _cell(text: str) -> str:
    """Text of ``--help``, which is plain, as Markdown in a table."""
    return re.sub(r"([|*_<>])", r"\\\1", text)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in reference():
        file = folder / f"{name}.md"
        write_atomic(file, updated(file.read_text(encoding="utf-8") if file.exists() else "", name))
    say(f"wrote {len(reference())} pages to {folder}")
