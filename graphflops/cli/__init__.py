"""The command line: arguments in, a report out, and an exit code.

Exit codes: 0 done · 1 usage or capture error · 2 unknown ops under --strict · 4 a witness contradicts a rule · 130
interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from itertools import pairwise
from typing import Annotated

import typer

from graphflops.cli import analyze, compare, rules, scale, verify
from graphflops.core.errors import CaptureError, GraphflopsError, MissingRules, UsageError, VerificationFailed
from graphflops.core.messages import bug_report, format_error, location_of, shortened
from graphflops.report import terminal

EXIT_CODES: dict[type[GraphflopsError], int] = {MissingRules: 2, VerificationFailed: 4}
INTERRUPTED = 130

app = typer.Typer(
    help="What a PyTorch model costs, read from its graph: forward, backward and optimizer FLOPs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(analyze.analyze)
app.command()(analyze.show)
app.command()(analyze.explain)
app.command()(scale.scale)
app.command()(compare.compare)
app.command()(verify.verify)
app.add_typer(rules.app, name="rules")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    """What a PyTorch model costs, read from its graph."""
    if show_version:
        from importlib.metadata import version

        terminal.say(f"graphflops {version('graphflops')}")
    elif context.invoked_subcommand is None:
        terminal.say(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    stdout, stderr = sys.stdout, sys.stderr
    with terminal.prepared():
        code = _code_of(sys.argv[1:] if arguments is None else arguments)
        sys.stdout, sys.stderr = stdout, stderr  # typer puts others in the place of what nobody reads
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError) as error:
            code = _not_written(error)
    return code


def _code_of(arguments: list[str]) -> int:
    """The exit code of a command, whatever its code or the user's raises."""
    try:
        _refuse_unspeakable(arguments)
        code = app(args=arguments, prog_name="graphflops", standalone_mode=False)
        if code == INTERRUPTED:  # typer caught it
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        terminal.say("interrupted", error=True)
        return INTERRUPTED
    except GraphflopsError as error:
        terminal.say("\n".join([f"error: {error}", *_hints(error, arguments)]), error=True)
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    except OSError as error:
        return _not_written(error)
    except BaseException as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer and rich leave so
            return _not_written(error.__context__)
        terminal.say(f"error: {_told(error)}", error=True)
        if sys.flags.dev_mode:
            traceback.print_exception(error)
        return 1
    return code if isinstance(code, int) else 0


def _hints(error: GraphflopsError, arguments: list[str]) -> list[str]:
    """What may have been meant by inputs that a model cannot be called with."""
    if not isinstance(error, CaptureError):
        return []
    from graphflops.cli.inputs import numbers_as_tensors

    texts = [each for option, each in pairwise(arguments) if option in ("-i", "--input")]
    return numbers_as_tensors([*texts, *(each[8:] for each in arguments if each.startswith("--input="))])


def _refuse_unspeakable(arguments: list[str]) -> None:
    """No name of a file or module has a NUL or a lone surrogate in it, and systems say so in many ways."""
    for argument in arguments:
        try:
            if b"\0" not in os.fsencode(argument):
                continue
        except UnicodeEncodeError:
            pass
        raise UsageError(f"the argument {shortened(argument, 200)!r} has a character in it that no name can have")


def _told(error: BaseException) -> str:
    """An error that is not one of ours: the parser's, of bad usage; an exit of the user's code; or a fault here."""
    if callable(message := getattr(error, "format_message", None)):
        path = getattr(getattr(error, "ctx", None), "command_path", "graphflops")
        return f"{shortened(message(), 500)} (usage: {path} --help)"
    if not isinstance(error, Exception):
        return f"{format_error(error)}, raised by code that was analysed\n    {location_of(error)}"
    if isinstance(error, (MemoryError, RecursionError)):
        return f"this is too large, or nested too deeply: {format_error(error)}\n    {location_of(error)}"
    return (
        f"graphflops is at fault, and not what it was given: {format_error(error)}\n    {location_of(error)}\n"
        f"Please report this line: {bug_report(error)}"
    )


def _not_written(error: OSError | ValueError) -> int:
    """Standard output is full or closed, which is said; or nobody reads on, which needs no word."""
    terminal.let_go()
    if not isinstance(error, BrokenPipeError):
        named = isinstance(error, OSError) and error.filename
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        terminal.say(f"error: cannot {f'use {named}' if named else 'write the output'}: {reason}", error=True)
    return 1
