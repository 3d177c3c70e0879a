"""The command that compares two models operator by operator: diff."""

from pathlib import Path
from typing import Annotated

import typer

from graphflops.cli import options
from graphflops.report.terminal import say

SIDE_HELP = "a model, a saved report, or one of them as TARGET@COMMIT"


def diff(
    first: Annotated[str, typer.Argument(help=SIDE_HELP)],
    second: Annotated[str, typer.Argument(help=f"{SIDE_HELP}, to compare it with")],
    inputs: options.Inputs = None,
    batch: options.Batch = None,
    seq: options.Seq = None,
    image: options.Image = None,
    optimizer: options.Optimizer = "adamw",
    inference: options.Inference = False,
    convention: options.Convention = "standard",
    attention: options.Attention = "flash",
    rate: options.Rate = None,
    rules: options.Rules = None,
    fail_over: options.FailOver = None,
    json: options.Json = None,
    markdown: Annotated[Path | None, typer.Option(help="write it to this Markdown file, for a pull request")] = None,
) -> None:
    """Say which layers of two models differ: added, removed, changed with sizes, renamed. The rows add up exactly."""
    from graphflops.cli.reports import Analysis, refuse_for_saved_reports
    from graphflops.report.budgets import check_growth, parse_tolerance
    from graphflops.report.changes.diff import diff as compare
    from graphflops.report.files import write_atomic

    tolerance = None if fail_over is None else parse_tolerance(fail_over)
    analysis = Analysis(
        inputs or (), batch, seq, image, optimizer, inference, convention, attention, rules or (), rate or ()
    )
    refuse_for_saved_reports(analysis, first, second)
    difference = compare(analysis.report(first), analysis.report(second), names=(first, second))
    say(difference)
    if json is not None:
        say(f"difference {difference.to_json(json)}")
    if markdown is not None:
        say(f"difference {write_atomic(markdown, difference.to_markdown())}")
    if tolerance is not None:
        check_growth(difference.before(), difference.after(), tolerance, (first, second))
