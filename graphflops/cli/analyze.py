"""Commands that create and print reports: analyze, show, explain."""

from pathlib import Path
from typing import Annotated

import typer

from graphflops.cli import options
from graphflops.core.errors import UsageError
from graphflops.report.terminal import Terminal, say


def analyze(
    target: options.Target = None,
    inputs: options.Inputs = None,
    batch: options.Batch = None,
    seq: options.Seq = None,
    image: options.Image = None,
    config: options.Config = None,
    optimizer: options.Optimizer = "adamw",
    inference: options.Inference = False,
    convention: options.Convention = "standard",
    attention: options.Attention = "flash",
    rules: options.Rules = None,
    strict: Annotated[bool, typer.Option("--strict", help="fail if any op is unsupported")] = False,
    expand: Annotated[
        list[str] | None,
        typer.Option(help="count these ops by decomposition instead of by rule: 'my.module.*', or '*'; repeatable"),
    ] = None,
    rate: options.Rate = None,
    no_fold: Annotated[
        bool, typer.Option("--no-fold", help="trace every repeated block (slower, same result)")
    ] = False,
    depth: options.Depth = None,
    top: options.Top = None,
    min_share: options.MinShare = None,
    sort: options.Sort = "cost",
    phase: options.Phase = "total",
    columns: options.Columns = None,
    by: options.By = "module",
    json: options.Json = None,
    csv: options.Csv = None,
    html: options.Html = None,
    markdown: options.Markdown = None,
    dot: options.Dot = None,
    trace: options.Trace = None,
    picture: options.Picture = None,
    explain: Annotated[str | None, typer.Option(help=options.EXPLAIN_HELP)] = None,
) -> None:
    """Count the FLOPs of a training step of a model, without running it."""
    from graphflops.analysis import pipeline
    from graphflops.cli import targets
    from graphflops.report.text import print_report

    table = options.table_options(depth, top, min_share, sort, phase, columns, by)
    loaded = targets.model_and_inputs(
        target, inputs, batch=batch, seq=seq, image=image, config=config, training=not inference
    )
    lines_above = targets.print_notes(loaded)
    report = pipeline.analyze(
        *loaded,
        optimizer=options.optimizer_or_none(optimizer),
        training=not inference,
        rules=rules,
        convention=convention,
        attention=attention,  # type: ignore[arg-type]
        strict=strict,
        expand=expand or False,
        rates=targets.parse_rates(rate),
        fold=not no_fold,
    )
    if explain is not None:
        say(report.explain(explain))
    else:
        print_report(report, Terminal(), table, lines_above=lines_above)
    options.write_files(report, json=json, csv=csv, html=html, markdown=markdown, dot=dot, trace=trace, picture=picture)


def show(
    file: Annotated[Path, typer.Argument(help="a report saved by analyze --json")],
    convention: Annotated[str | None, typer.Option(help="standard, exact, torch, fvcore, …, or a file.toml")] = None,
    explain: Annotated[str | None, typer.Option(help=options.EXPLAIN_HELP)] = None,
    depth: options.Depth = None,
    top: options.Top = None,
    min_share: options.MinShare = None,
    sort: options.Sort = "cost",
    phase: options.Phase = "total",
    columns: options.Columns = None,
    by: options.By = "module",
    json: options.Json = None,
    csv: options.Csv = None,
    html: options.Html = None,
    markdown: options.Markdown = None,
    dot: options.Dot = None,
    trace: options.Trace = None,
    picture: options.Picture = None,
) -> None:
    """Print a saved report, or write it in another format. Neither the model nor torch is needed."""
    from graphflops.report.report import Report
    from graphflops.report.text import print_report

    table = options.table_options(depth, top, min_share, sort, phase, columns, by)
    report = Report.from_json(file)
    report = report if convention is None else report.under(convention)
    if explain is not None:
        say(report.explain(explain))
    else:
        print_report(report, Terminal(), table)
    options.write_files(report, json=json, csv=csv, html=html, markdown=markdown, dot=dot, trace=trace, picture=picture)


def explain(
    target: Annotated[
        str | None,
        typer.Argument(help=f"{options.MODEL_HELP}, or a saved report; default: ResNet-BK", show_default=False),
    ] = None,
    inputs: options.Inputs = None,
    batch: options.Batch = None,
    seq: options.Seq = None,
    image: options.Image = None,
    other_convention: Annotated[
        str | None, typer.Option("--as", help="list the differences to this convention, line by line")
    ] = None,
    query: Annotated[str, typer.Option("--of", help="module, component, op or pattern; default: the whole model")] = "",
    convention: options.Convention = "standard",
    rules: options.Rules = None,
) -> None:
    """Explain a number; with --as, explain why another counter reports a different forward number."""
    from graphflops.report.report import Report

    if target is not None and options.is_saved_report(target):
        if inputs or rules or batch or seq or image:
            raise UsageError("--input, --batch, --seq, --image and --rules need a model, not a saved report")
        report = Report.from_json(target).under(convention)
    else:
        from graphflops.analysis import pipeline
        from graphflops.cli import targets

        loaded = targets.model_and_inputs(target, inputs, batch=batch, seq=seq, image=image)
        targets.print_notes(loaded)
        report = pipeline.analyze(*loaded, rules=rules, convention=convention)
    if other_convention is None:
        say(report.explain(query))
    else:
        say(report.with_entries(report.select(query)).diff(other_convention))
