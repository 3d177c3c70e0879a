"""The command that compares two models: compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphflops.cli import options
from graphflops.core.errors import UsageError
from graphflops.core.messages import shortened
from graphflops.report.terminal import Terminal, say

if TYPE_CHECKING:
    from graphflops.models.waterfall import Waterfall


BASELINE, FULL = "BASELINE_CONFIG", "FULL_CONFIG"


def compare(
    first: Annotated[
        str | None,
        typer.Argument(
            help=f"{options.MODEL_HELP} or a saved report; default: configurations of ResNet-BK", show_default=False
        ),
    ] = None,
    second: Annotated[str | None, typer.Argument(help="model or report to compare it with", show_default=False)] = None,
    inputs: options.Inputs = None,
    batch: options.Batch = None,
    seq: options.Seq = None,
    image: options.Image = None,
    start: Annotated[str, typer.Option("--from", help=options.CONFIG_HELP)] = BASELINE,
    end: Annotated[str, typer.Option("--to", help="configuration of ResNet-BK to compare it with")] = FULL,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="compare training runs of this many steps, with curriculum, active learning, caching",
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="compare ResNet-BK, Mamba and a Transformer at these sequence lengths: 128,512,2048"),
    ] = None,
    optimizer: options.Optimizer = "adamw",
    convention: options.Convention = "standard",
    rate: options.Rate = None,
    rules: options.Rules = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="compare the modules of this level; default: components")
    ] = None,
    by: Annotated[str, typer.Option(help="compare by component, or role (attention, MLP, norm, …)")] = "component",
    fail_over: options.FailOver = None,
    json: options.Json = None,
) -> None:
    """Compare two models: FLOPs added or saved, by configuration flag or by component."""
    from graphflops.cli import targets
    from graphflops.models.length_sweep import SCHEMA, length_sweep, print_length_sweep
    from graphflops.models.waterfall import print_waterfall
    from graphflops.report.budgets import check_growth, parse_tolerance

    tolerance = None if fail_over is None else parse_tolerance(fail_over)
    analysis: dict[str, Any] = {
        "optimizer": options.optimizer_or_none(optimizer),
        "convention": convention,
        "rules": rules,
        "rates": targets.parse_rates(rate),
    }
    resnet_bk_options = {"--steps": steps, "--from": start != BASELINE, "--to": end != FULL}
    model_sizes = {"--input": inputs, "--batch": batch, "--seq": seq, "--image": image}
    size_options = {**resnet_bk_options, **model_sizes}
    model_options = {**model_sizes, "--rules": rules, "--rate": rate}
    if (first is None) != (second is None):
        raise UsageError("give two models to compare, or none to compare configurations of ResNet-BK")
    if first is None:
        _refuse({"--depth": depth, "--by": by != "component"}, "only for two models")
    if first is not None and second is not None:
        _refuse(resnet_bk_options, "only for configurations of ResNet-BK, not for two models")
        if options.is_saved_report(first) and options.is_saved_report(second):
            _refuse(model_options, "not for saved reports; analyze the models again")
    if lengths is not None:
        _refuse(size_options, "not with --lengths, which sets the sizes")
        _refuse({"--fail-over": fail_over}, "not with --lengths, which compares more than two numbers")
        _refuse({"--rate": rate}, "not with --lengths: none of these models is data-dependent")
        if first is not None:
            raise UsageError("--lengths compares ResNet-BK, Mamba and a Transformer: give no other models")
        curves = length_sweep(_parse_lengths(lengths), **analysis)
        print_length_sweep(curves, Terminal())
        content: dict[str, Any] = {"schema": SCHEMA, "members": [curve.to_dict() for curve in curves]}
    else:
        if first is None or second is None:
            waterfall = _compare_configurations(start, end, batch, seq, inputs, {**analysis, "steps": steps})
        else:
            sizes = {"batch": batch, "seq": seq, "image": image}
            waterfall = _compare_targets(first, second, inputs, sizes, analysis, depth=depth, by=by)
        print_waterfall(waterfall, Terminal())
        content = waterfall.to_dict()
    if json is not None:
        _write(json, content)
    if tolerance is not None:
        check_growth(waterfall.start.total, waterfall.end.total, tolerance, (waterfall.before, waterfall.after))


def _refuse(options: dict[str, Any], reason: str) -> None:
    if names := [name for name, value in options.items() if value]:
        raise UsageError(f"{', '.join(names)}: {reason}")


def _compare_configurations(
    start: str, end: str, batch: int | None, seq: int | None, inputs: list[str] | None, analysis: dict[str, Any]
) -> "Waterfall":
    from graphflops.cli import targets
    from graphflops.cli.inputs import Input
    from graphflops.models.waterfall import waterfall

    if inputs:
        raise UsageError("--input is for other models; the tokens of ResNet-BK are set by --batch and --seq")
    first, second = (targets.resnet_bk(config, seq).config for config in (start, end))
    batch = batch or targets.DEFAULT_BATCH
    for config in (first, second):
        Input.parse(f"tokens={batch}x{config.n_seq}:int64").tensor()  # raises a clear error for impossible sizes
    try:
        return waterfall(first, second, batch, names=(start, end), **analysis)
    except ValueError as error:
        raise UsageError(f"invalid configuration: {error}") from error


def _compare_targets(
    first: str, second: str, inputs: list[str] | None, sizes: dict[str, Any], analysis: dict[str, Any], **rows: Any
) -> "Waterfall":
    from graphflops.analysis import pipeline
    from graphflops.cli import targets
    from graphflops.models.waterfall import difference
    from graphflops.report.report import Report

    def report(target: str) -> Report:
        if options.is_saved_report(target):
            return Report.from_json(target).under(analysis["convention"])
        loaded = targets.model_and_inputs(target, inputs, **sizes)
        targets.print_notes(loaded)
        return pipeline.analyze(*loaded, **analysis)

    return difference(report(first), report(second), names=(first, second), **rows)


def _parse_lengths(text: str) -> list[int]:
    try:
        return [int(length) for length in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"invalid lengths {shortened(text, 100)!r}: expected 128,512,2048") from None


def _write(path: Path, content: dict[str, Any]) -> None:
    import json

    from graphflops.report.files import write_atomic

    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    say(f"comparison {write_atomic(path, text.encode('utf-8', 'backslashreplace'))}")  # a path may have surrogates
