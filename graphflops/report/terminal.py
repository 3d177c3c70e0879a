"""Output: everything is printed by ``say`` or a ``Terminal``."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from graphflops.core.characters import READABLE, readable, safe

MAX_WIDTH = 100_000
"""characters of a line, whatever COLUMNS is"""


def say(text: object = "", *, end: str = "\n", error: bool = False) -> None:
    """Print a text, or an error to the error stream; a closed error stream is ignored."""
    file = sys.stderr if error else sys.stdout
    if file is None:  # closed before Python started
        return
    try:
        file.write(fitted(f"{text}{end}", file))
        if error:
            file.flush()
    except (OSError, ValueError):
        if not error:
            raise


class Terminal(Console):
    """A console without markup and emoji names, which escapes control characters and characters of other encodings."""

    @property
    def line_width(self) -> int | None:
        """Characters of a line; None where lines are as long as they need, in a file or a pipe without COLUMNS."""
        return self.width if self.is_terminal or self._has_width else None

    def __init__(self, file: IO[str] | None = None, *, width: int | None = None, highlight: bool = True) -> None:
        super().__init__(
            file=file, width=width, highlight=highlight, markup=False, emoji=False, _environ=_environment(os.environ)
        )
        self._has_width = width is not None or "COLUMNS" in _environment(os.environ)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Console does; the text of each cell is made printable, so that tables stay aligned."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=fitted(segment.text, self.file))


def wrapped(text: str, console: Terminal, indent: str = "  ") -> list[str]:
    """A text as lines of a console's width, each but the first after an indent."""
    text = fitted(text, console.file)
    if console.line_width is None:
        return text.splitlines()
    width = max(console.line_width, 2 * len(indent))
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)


def text_of(printed: Callable[[Terminal], None], width: int | None = None) -> str:
    """Plain text of what a function prints, by default as wide as the terminal."""
    file = io.StringIO()
    printed(Terminal(file, width=width or shutil.get_terminal_size((100, 24)).columns))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


@contextmanager
def printable_streams() -> Iterator[None]:
    """A context in which other code prints to the standard streams in any encoding, at a valid width."""
    streams: list[Any] = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    errors = [stream.errors for stream in streams]
    environment = dict(os.environ)
    invalid = environment.keys() - _environment(environment).keys()
    for name in invalid:
        del os.environ[name]
    for stream in streams:
        stream.reconfigure(errors=READABLE)
    try:
        yield
    finally:
        for stream, handler in zip(streams, errors, strict=True):
            if not stream.closed:
                stream.reconfigure(errors=handler)
        os.environ.update({name: environment[name] for name in invalid})


def discard_stdout() -> None:
    """Discard text that standard output did not accept; otherwise Python writes it again at exit, and fails."""
    if sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.__stdout__.fileno())
        os.close(null)


def fitted(text: str, file: Any) -> str:
    """A text without characters that control a terminal, and that the encoding of a file has."""
    encoding = (getattr(file, "encoding", None) or "utf-8").lower()
    text = safe(text)
    return text if encoding.startswith("utf") else readable(text, encoding)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without an invalid width or height of the terminal."""
    return {
        name: value
        for name, value in environment.items()
        if name not in ("COLUMNS", "LINES") or (value.isascii() and value.isdigit() and _is_size(value))
    }


def _is_size(value: str) -> bool:
    return len(value) < 20 and 1 <= int(value) <= MAX_WIDTH
