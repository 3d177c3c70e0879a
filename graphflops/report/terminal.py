"""The one place where text goes out: everything that is printed goes through ``say`` or a ``Terminal``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from graphflops.core.characters import READABLE, readable, safe

WIDEST = 100_000
"""characters of a line, whatever COLUMNS says"""


def say(text: object = "", *, end: str = "\n", error: bool = False) -> None:
    """Print a text, to the error stream if it is an error; that nobody listens there is no error of its own."""
    file = sys.stderr if error else sys.stdout
    if file is None:  # it was closed before Python started
        return
    try:
        file.write(_fit(f"{text}{end}", file))
        if error:
            file.flush()
    except (OSError, ValueError):
        if not error:
            raise


class Terminal(Console):
    """A console that prints text as text: no markup, no emoji names, nothing that its terminal obeys or lacks."""

    def __init__(self, file: IO[str] | None = None, *, width: int | None = None, highlight: bool = True) -> None:
        super().__init__(
            file=file, width=width, highlight=highlight, markup=False, emoji=False, _environ=_environment(os.environ)
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Console does, cell by cell, so that tables stay aligned."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_fit(segment.text, self.file))


@contextmanager
def prepared() -> Iterator[None]:
    """While this is open, what others print to our streams is readable on any console too, at a width that there is."""
    streams: list[Any] = [each for each in (sys.stdout, sys.stderr) if hasattr(each, "reconfigure")]
    errors = [each.errors for each in streams]
    environment = dict(os.environ)
    sound = _environment(environment)
    for name in environment.keys() - sound.keys():
        del os.environ[name]
    for each in streams:
        each.reconfigure(errors=READABLE)
    try:
        yield
    finally:
        for each, before in zip(streams, errors, strict=True):
            if not each.closed:
                each.reconfigure(errors=before)
        os.environ.update({name: environment[name] for name in environment.keys() - sound.keys()})


def let_go() -> None:
    """Forget what standard output could not take: Python would try again as it ends, and complain."""
    if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno())
        os.close(nowhere)


def _fit(text: str, file: Any) -> str:
    encoding = (getattr(file, "encoding", None) or "utf-8").lower()
    text = safe(text)
    return text if encoding.startswith("utf") else readable(text, encoding)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without a width or height that no terminal has."""
    return {
        name: value
        for name, value in environment.items()
        if name not in ("COLUMNS", "LINES") or (value.isascii() and value.isdigit() and _is_size(value))
    }


def _is_size(value: str) -> bool:
    return len(value) < 20 and 1 <= int(value) <= WIDEST
