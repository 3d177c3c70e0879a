"""The command that sets two models side by side: compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphflops.core.messages import shortened
from graphflops.report.terminal import Terminal, say

if TYPE_CHECKING:
    from graphflops.models.waterfall import Waterfall


BASELINE, FULL = "BASELINE_CONFIG", "FULL_CONFIG"


def compare(
    first: Annotated[
        str | None,
        typer.Argument(help="PACKAGE.MODULE:FACTORY or a saved report; ResNet-BK's configurations if left out"),
    ] = None,
    second: Annotated[str | None, typer.Argument(help="the other one, of the same kind")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="NAME=SIZExSIZE:DTYPE, or NAME:=VALUE, of both; for each"),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="leading size of every input")] = None,
    seq: Annotated[int | None, typer.Option(min=1, help="sequence length of ResNet-BK")] = None,
    start: Annotated[
        str, typer.Option("--from", help="configuration of ResNet-BK: a preset, FIELD=VALUE, or both, with commas")
    ] = BASELINE,
    end: Annotated[str, typer.Option("--to", help="the other configuration")] = FULL,
    steps: Annotated[
        int | None, typer.Option(min=1, help="of a run of so many steps, in which curriculum, pool and cache count")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="ResNet-BK beside Mamba and a Transformer, at these N: 128,512,2048")
    ] = None,
    optimizer: Annotated[
        str, typer.Option(help="adamw, adam, sgd, sgd_momentum, a class of torch.optim, PACKAGE.CLASS, or none")
    ] = "adamw",
    convention: Annotated[str, typer.Option(help="standard, exact, torch, fvcore, …, or a file.toml")] = "standard",
    rate: Annotated[
        list[str] | None,
        typer.Option(help="how often data has a part run, as of analyze: blocks=avg_layers_executed=2.5"),
    ] = None,
    rules: Annotated[list[Path] | None, typer.Option(help="a file or folder of rules of your own")] = None,
    json: Annotated[Path | None, typer.Option(help="write what is printed to this file, as numbers")] = None,
) -> None:
    """What is added or saved on the way from one model to another: flag by flag, or component by component."""
    from graphflops.cli import targets
    from graphflops.core.errors import UsageError
    from graphflops.models.length_sweep import SCHEMA, family, print_family
    from graphflops.models.waterfall import print_waterfall

    options: dict[str, Any] = {
        "optimizer": None if optimizer == "none" else optimizer,
        "convention": convention,
        "rules": rules,
        "rates": targets.rates(rate),
    }
    if (first is None) != (second is None):
        raise UsageError("name two models to compare, or none for the configurations of ResNet-BK")
    of_home = {"--seq": seq, "--steps": steps, "--from": start != BASELINE, "--to": end != FULL}
    if first is not None and (strange := [name for name, value in of_home.items() if value]):
        raise UsageError(f"{', '.join(strange)}: of ResNet-BK's configurations, and two other models are named")
    if lengths is not None and (
        strange := [name for name, value in {**of_home, "--batch": batch, "--input": inputs}.items() if value]
    ):
        raise UsageError(f"--lengths has sizes of its own: give no {', '.join(strange)}")
    if first is not None and second is not None and first.endswith(".json") and second.endswith(".json"):
        of_models = {"--input": inputs, "--batch": batch, "--rules": rules, "--rate": rate}
        if strange := [name for name, value in of_models.items() if value]:
            raise UsageError(f"{', '.join(strange)}: two saved reports are what they are; analyse the models again")
    if lengths is not None:
        if first is not None:
            raise UsageError("--lengths is of ResNet-BK, Mamba and a Transformer, and names no other models")
        if rate:
            raise UsageError("--lengths is of models that always run whole: give no --rate")
        members = family(_numbers(lengths), **options)
        print_family(members, Terminal())
        content: dict[str, Any] = {"schema": SCHEMA, "members": [each.to_dict() for each in members]}
    else:
        if first is None or second is None:
            between = _configurations(start, end, batch, seq, inputs, {**options, "steps": steps})
        else:
            between = _targets(first, second, inputs, batch, options)
        print_waterfall(between, Terminal())
        content = between.to_dict()
    if json is not None:
        _write(json, content)


def _configurations(
    start: str, end: str, batch: int | None, seq: int | None, inputs: list[str] | None, options: dict[str, Any]
) -> Waterfall:
    from graphflops.cli import targets
    from graphflops.cli.inputs import Input
    from graphflops.core.errors import UsageError
    from graphflops.models.waterfall import waterfall

    if inputs:
        raise UsageError("--input is of models that are named; ResNet-BK's tokens have --batch and --seq")
    first, second = (targets.home_model(each, seq).config for each in (start, end))
    batch = batch or targets.DEFAULT_BATCH
    for config in (first, second):
        Input.parse(f"tokens={batch}x{config.n_seq}:int64").tensor()  # says what is wrong with the sizes
    try:
        return waterfall(first, second, batch, names=(start, end), **options)
    except ValueError as error:
        raise UsageError(f"the configuration is not possible: {error}") from error


def _targets(
    first: str, second: str, inputs: list[str] | None, batch: int | None, options: dict[str, Any]
) -> Waterfall:
    from graphflops.analysis import pipeline
    from graphflops.cli import targets
    from graphflops.models.waterfall import difference
    from graphflops.report.report import Report

    def report(target: str) -> Report:
        if target.endswith(".json"):
            return Report.from_json(target).under(options["convention"])
        model, args, kwargs = targets.model_and_inputs(target, inputs, batch=batch)
        return pipeline.analyze(model, args, kwargs, **options)

    return difference(report(first), report(second), names=(first, second))


def _numbers(text: str) -> list[int]:
    from graphflops.core.errors import UsageError

    try:
        return [int(each) for each in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"cannot read the lengths {shortened(text, 100)!r}: write 128,512,2048") from None


def _write(path: Path, content: dict[str, Any]) -> None:
    import json

    from graphflops.report.files import write_atomic

    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    say(f"comparison {write_atomic(path, text.encode('utf-8', 'backslashreplace'))}")  # a path may have surrogates
