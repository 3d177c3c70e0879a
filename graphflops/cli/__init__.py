"""The command line: arguments in, a report out, and an exit code.

Exit codes: 0 done · 1 usage or capture error · 2 unknown ops under --strict · 4 a witness contradicts a rule.
"""

from __future__ import annotations

from typing import Annotated

import typer

from graphflops.cli import comparison, reports, rules, scaling, verification
from graphflops.errors import Contradicted, GraphflopsError, MissingRules

EXIT_CODES: dict[type[GraphflopsError], int] = {MissingRules: 2, Contradicted: 4}

app = typer.Typer(
    help="What a PyTorch model costs, read from its graph: forward, backward and optimizer FLOPs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(reports.analyze)
app.command()(reports.show)
app.command()(reports.explain)
app.command()(scaling.scale)
app.command()(comparison.compare)
app.command()(verification.verify)
app.add_typer(rules.app, name="rules")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    """What a PyTorch model costs, read from its graph."""
    if show_version:
        from importlib.metadata import version

        typer.echo(f"graphflops {version('graphflops')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        app(args=arguments, prog_name="graphflops")
    except SystemExit as stop:
        return 1 if stop.code else 0  # the parser's own code for bad usage is 2, which is ours for unknown ops
    except GraphflopsError as error:
        typer.echo(f"error: {error}", err=True)
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    return 0
