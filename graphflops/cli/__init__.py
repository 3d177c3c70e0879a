"""The command line.

Exit codes: 0 success · 1 invalid arguments or failed capture · 2 unsupported ops with --strict · 3 a budget or
--fail-over is exceeded · 4 failed verification · 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated

import typer

from graphflops.cli import analyze, budget, compare, diff, generate, options, resnet_bk, rules, scale, verify
from graphflops.core.errors import (
    BudgetExceeded,
    CaptureError,
    GraphflopsError,
    MissingRules,
    UsageError,
    VerificationFailed,
)
from graphflops.core.messages import bug_report, format_error, location_of, shortened
from graphflops.report import terminal

EXIT_CODES: dict[type[GraphflopsError], int] = {MissingRules: 2, BudgetExceeded: 3, VerificationFailed: 4}
INTERRUPTED = 130

app = typer.Typer(
    help="Count the FLOPs of a PyTorch model (forward, backward, optimizer step) without running it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(resnet_bk.moved(analyze.analyze, "config"))
app.command()(analyze.show)
app.command()(analyze.explain)
app.command()(resnet_bk.moved(scale.scale, "config"))
app.command()(resnet_bk.moved(compare.compare, "start", "end", "steps", "lengths"))
app.command()(diff.diff)
app.command()(generate.generate)
app.command()(verify.verify)
app.add_typer(resnet_bk.app, name="resnet-bk")
app.add_typer(rules.app, name="rules")
app.add_typer(budget.app, name="budget")
COMMANDS = {
    *(command.name or command.callback.__name__ for command in app.registered_commands if command.callback),
    *(str(group.name) for group in app.registered_groups),
}


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    """Count the FLOPs of a PyTorch model without running it."""
    if show_version:
        from importlib.metadata import version

        terminal.say(f"graphflops {version('graphflops')}")
    elif context.invoked_subcommand is None:
        terminal.say(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    stdout, stderr = sys.stdout, sys.stderr
    with terminal.printable_streams():
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout, sys.stderr = stdout, stderr  # typer replaces streams whose reader is gone
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError) as error:
            code = _report_write_error(error)
    return code


def _run(arguments: list[str]) -> int:
    """Run a command and return its exit code; every exception becomes a message."""
    try:
        _check_characters(arguments)
        code = app(args=_with_command(arguments), prog_name="graphflops", standalone_mode=False)
        if code == INTERRUPTED:  # typer handled it
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        terminal.say("interrupted", error=True)
        return INTERRUPTED
    except GraphflopsError as error:
        terminal.say("\n".join([f"error: {error}", *_hints(error, arguments)]), error=True)
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    except OSError as error:
        return _report_write_error(error)
    except BaseException as error:
        if isinstance(error.__context__, BrokenPipeError):  # how typer and rich exit
            return _report_write_error(error.__context__)
        terminal.say(f"error: {_format_exception(error)}", error=True)
        if sys.flags.dev_mode:
            traceback.print_exception(error)
        return 1
    return code if isinstance(code, int) else 0


def _with_command(arguments: list[str]) -> list[str]:
    """Arguments that begin with a command: a model is analyzed, a saved report is shown.

    >>> _with_command(["resnet50", "-b", "8"]), _with_command(["report.json"]), _with_command(["analize"])
    (['analyze', 'resnet50', '-b', '8'], ['show', 'report.json'], ['analize'])
    """
    target = arguments[0] if arguments else "-"
    if target.startswith("-") or target in COMMANDS or get_close_matches(target, COMMANDS, n=1, cutoff=0.8):
        return arguments
    return ["show" if options.is_saved_report(target) else "analyze", *arguments]


def _hints(error: GraphflopsError, arguments: list[str]) -> list[str]:
    """Hints on inputs that may be the cause of a failed capture."""
    if not isinstance(error, CaptureError):
        return []
    from graphflops.cli.inputs import dtype_hints, one_dimensional_hints

    texts = [value for option, value in pairwise(arguments) if option in ("-i", "--input")]
    prefix = "--input="
    texts += [argument.removeprefix(prefix) for argument in arguments if argument.startswith(prefix)]
    return dtype_hints(texts, str(error)) or one_dimensional_hints(texts)


def _check_characters(arguments: list[str]) -> None:
    """Refuse a NUL or a lone surrogate: no file or module name has one, and systems report it differently."""
    for argument in arguments:
        try:
            if b"\0" not in os.fsencode(argument):
                continue
        except UnicodeEncodeError:
            pass
        raise UsageError(f"the argument {shortened(argument, 200)!r} contains a character that no name can have")


def _format_exception(error: BaseException) -> str:
    """The message of an exception other than GraphflopsError: bad usage, an exit in user code, or a bug."""
    if callable(message := getattr(error, "format_message", None)):
        path = getattr(getattr(error, "ctx", None), "command_path", "graphflops")
        return f"{shortened(message(), 500)} (usage: {path} --help)"
    if not isinstance(error, Exception):
        return f"{format_error(error)}, raised by the analyzed code\n    {location_of(error)}"
    if isinstance(error, (MemoryError, RecursionError)):
        return f"too large or too deeply nested: {format_error(error)}\n    {location_of(error)}"
    return (
        f"internal error in graphflops: {format_error(error)}\n    {location_of(error)}\n"
        f"Please report it with this line: {bug_report(error)}"
    )


def _report_write_error(error: OSError | ValueError) -> int:
    """Report that standard output is full or closed; a reader that stopped reading is not an error to report."""
    terminal.discard_stdout()
    if not isinstance(error, BrokenPipeError):
        file = isinstance(error, OSError) and error.filename
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        terminal.say(f"error: cannot {f'use {file}' if file else 'write the output'}: {reason}", error=True)
    return 1
