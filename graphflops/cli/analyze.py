"""Commands that make and show reports: analyze, show, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphflops.report.terminal import Terminal, say


def analyze(
    target: Annotated[
        str | None, typer.Argument(help="PACKAGE.MODULE:FACTORY; ResNet-BK if left out", show_default=False)
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="NAME=SIZExSIZE:DTYPE, or NAME:=VALUE; once for each")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="leading size of every input")] = None,
    seq: Annotated[int | None, typer.Option(min=1, help="sequence length of ResNet-BK")] = None,
    config: Annotated[
        str | None, typer.Option(help="configuration of ResNet-BK: a preset, FIELD=VALUE, or both, with commas")
    ] = None,
    optimizer: Annotated[
        str, typer.Option(help="adamw, adam, sgd, sgd_momentum, a class of torch.optim, PACKAGE.CLASS, or none")
    ] = "adamw",
    inference: Annotated[bool, typer.Option("--inference", help="forward alone: no backward, no optimizer")] = False,
    convention: Annotated[str, typer.Option(help="standard, exact, torch, fvcore, …, or a file.toml")] = "standard",
    attention: Annotated[str, typer.Option(help="whose backward attention has: flash or math")] = "flash",
    rules: Annotated[list[Path] | None, typer.Option(help="a file or folder of rules of your own")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a model with an op that no rule names")] = False,
    expand: Annotated[
        list[str] | None, typer.Option(help="count the single operations of these, by target: 'my.module.*', or '*'")
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            help="how often modules run, where data decides: '*.experts.*=top_k/num_experts', 'blocks.3=0.3..0.8'"
        ),
    ] = None,
    no_fold: Annotated[
        bool, typer.Option("--no-fold", help="look at each of a model's equal blocks; the report is the same")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="write the whole report to this file")] = None,
    explain: Annotated[
        str | None, typer.Option(help="say why the numbers of this module path, component or op are what they are")
    ] = None,
) -> None:
    """Analyse one training step of a model, without running it."""
    from graphflops.analysis import pipeline
    from graphflops.cli import targets
    from graphflops.report.text import print_report

    model, args, kwargs = targets.model_and_inputs(target, inputs, batch=batch, seq=seq, config=config)
    report = pipeline.analyze(
        model,
        args,
        kwargs,
        optimizer=None if optimizer == "none" else optimizer,
        training=not inference,
        rules=rules,
        convention=convention,
        attention=attention,  # type: ignore[arg-type]
        strict=strict,
        expand=expand or False,
        rates=targets.rates(rate),
        fold=not no_fold,
    )
    if explain is not None:
        say(report.explain(explain))
    else:
        print_report(report, Terminal())
    if json is not None:
        say(f"report     {report.to_json(json)}")


def show(
    file: Annotated[Path, typer.Argument(help="a report that analyze --json wrote")],
    convention: Annotated[str | None, typer.Option(help="standard, exact, torch, fvcore, …, or a file.toml")] = None,
    explain: Annotated[str | None, typer.Option(help="a module path, component or op")] = None,
) -> None:
    """Print a saved report, on a machine that needs neither the model nor torch."""
    from graphflops.report.report import Report
    from graphflops.report.text import print_report

    report = Report.from_json(file)
    report = report if convention is None else report.under(convention)
    if explain is not None:
        say(report.explain(explain))
    else:
        print_report(report, Terminal())


def explain(
    target: Annotated[
        str | None, typer.Argument(help="PACKAGE.MODULE:FACTORY, or a saved report; ResNet-BK if left out")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="NAME=SIZExSIZE:DTYPE, or NAME:=VALUE; once for each")
    ] = None,
    other: Annotated[
        str | None, typer.Option("--as", help="from our number to this convention's, line by line")
    ] = None,
    what: Annotated[str, typer.Option("--of", help="a module path, component or op; the whole model if left out")] = "",
    convention: Annotated[str, typer.Option(help="what our number is counted in")] = "standard",
    rules: Annotated[list[Path] | None, typer.Option(help="a file or folder of rules of your own")] = None,
) -> None:
    """Say why a number is what it is; with --as, why another counter says something else, forward."""
    from graphflops.core.errors import UsageError
    from graphflops.report.report import Report

    if target is not None and target.endswith(".json"):
        if inputs or rules:
            raise UsageError("--input and --rules are of a model; a saved report is what it is")
        report = Report.from_json(target).under(convention)
    else:
        from graphflops.analysis import pipeline
        from graphflops.cli import targets

        model, args, kwargs = targets.model_and_inputs(target, inputs)
        report = pipeline.analyze(model, args, kwargs, rules=rules, convention=convention)
    if other is None:
        say(report.explain(what))
    else:
        say(report.with_entries(report.select(what)).diff(other))
