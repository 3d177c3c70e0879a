"""The command that says how a cost grows: graphflops scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from graphflops.report.terminal import Terminal, say


def scale(
    target: Annotated[
        str | None,
        typer.Argument(
            help="PACKAGE.MODULE:FACTORY, a function of the sizes; ResNet-BK if left out", show_default=False
        ),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size", "-s", help="NAME=VALUE, NAME=LOW..HIGH, or NAME=LOW..HIGH:32 for multiples; each size once"
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="NAME=SIZExSIZE:DTYPE with names of sizes: tokens=BxN:int64"),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="configuration of ResNet-BK: a preset, FIELD=VALUE, or both, with commas")
    ] = None,
    phase: Annotated[str, typer.Option(help="total, forward, backward, dgrad, wgrad, optimizer, parameters")] = "total",
    optimizer: Annotated[str, typer.Option(help="adamw, adam, sgd, sgd_momentum, or none")] = "adamw",
    inference: Annotated[bool, typer.Option("--inference", help="forward alone: no backward, no optimizer")] = False,
    convention: Annotated[str, typer.Option(help="standard, exact, torch, fvcore, …, or a file.toml")] = "standard",
    attention: Annotated[str, typer.Option(help="whose backward attention has: flash or math")] = "flash",
    rules: Annotated[list[Path] | None, typer.Option(help="a file or folder of rules of your own")] = None,
    budget: Annotated[
        float | None, typer.Option(help="say the largest size within so many FLOPs, such as 1e18")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="draw it into this file: .png, .svg or .pdf")] = None,
    json: Annotated[Path | None, typer.Option(help="write the law to this file")] = None,
) -> None:
    """The law of what a model costs in its sizes, by component; its order of growth, a table and a plot."""
    from graphflops.analysis.scaling import law
    from graphflops.analysis.scaling.law_terms import check_phase
    from graphflops.analysis.scaling.law_text import print_law, print_sweep
    from graphflops.analysis.scaling.plotting import plot as draw
    from graphflops.analysis.scaling.ranges import SizeRange, parse_size, values_to_show
    from graphflops.cli import factories
    from graphflops.cli.inputs import refuse_twice
    from graphflops.core.errors import UsageError

    check_phase(phase)
    given = [parse_size(each) for text in sizes or () for each in text.replace(",", " ").split()]
    refuse_twice("--size", [name for name, _, _ in given])
    if budget is not None and not 0 < budget < math.inf:
        raise UsageError(f"--budget is a number of FLOPs, such as 1e18, not {budget}")
    ranges: dict[str, SizeRange] = {}
    if target is None:
        factory, home = factories.home(config)
        ranges = {name: SizeRange(1, value) for name, value in home.items()}
        given = given or [parse_size("N=128..2048")]
        unknown = [name for name, _, _ in given if name not in ranges]
        if unknown:
            raise UsageError(f"ResNet-BK has no size {unknown[0]!r}; it has: {', '.join(ranges)}")
    elif config is not None:
        raise UsageError("--config is ResNet-BK's; give the sizes of your model with --size")
    ranges |= {name: each for name, each, _ in given}
    if target is not None:
        factory = factories.of_target(target, inputs, ranges)
    found = law(
        factory,
        ranges,
        optimizer=None if optimizer == "none" else optimizer,
        training=not inference,
        rules=rules,
        convention=convention,
        attention=attention,
    )
    console = Terminal(highlight=False)
    print_law(found, console)
    for name, each, high in given:
        if high is None:
            continue
        say("")
        say(found.order(name, phase))  # type: ignore[arg-type]
        values = values_to_show(each.base, high, each.multiple_of)
        print_sweep(found, name, values, console, phase)  # type: ignore[arg-type]
        if budget is not None:
            most = found.solve(name, budget, phase)  # type: ignore[arg-type]
            say(f"budget     {budget:g} {found.convention.unit}s are enough up to {name} = {most:,}")
        if plot is not None:
            say(f"plot       {draw(found, name, values, plot, phase)}")  # type: ignore[arg-type]
            plot = None
    if json is not None:
        say(f"law        {found.to_json(json)}")
