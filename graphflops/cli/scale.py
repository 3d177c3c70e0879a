"""The command that finds scaling laws: scale."""

import math
from pathlib import Path
from typing import Annotated

import typer

from graphflops.cli import options
from graphflops.core.errors import UsageError
from graphflops.report.terminal import Terminal, say


def scale(
    target: Annotated[
        str | None,
        typer.Argument(help=f"{options.MODEL_HELP}, where FACTORY takes sizes; default: ResNet-BK", show_default=False),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            "-s",
            help="NAME=VALUE, NAME=LOW..HIGH, or NAME=LOW..HIGH:32 for multiples of 32; of a model by its name: batch, "
            "seq, image; repeatable",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="NAME=SIZExSIZE:DTYPE with size names: tokens=BxN:int64; repeatable"),
    ] = None,
    config: options.Config = None,
    phase: Annotated[str, typer.Option(help="total, forward, backward, dgrad, wgrad, optimizer, parameters")] = "total",
    optimizer: options.Optimizer = "adamw",
    inference: options.Inference = False,
    convention: options.Convention = "standard",
    attention: options.Attention = "flash",
    rules: options.Rules = None,
    budget: Annotated[float | None, typer.Option(help="print the largest size within this many FLOPs: 1e18")] = None,
    plot: Annotated[Path | None, typer.Option(help="plot to this file: .png, .svg or .pdf")] = None,
    json: options.Json = None,
) -> None:
    """Find the FLOPs of a model as an exact expression in its sizes, with its order of growth, a table and a plot."""
    from graphflops.analysis.scaling import law
    from graphflops.analysis.scaling.law_terms import check_phase
    from graphflops.analysis.scaling.law_text import print_law, print_sweep
    from graphflops.analysis.scaling.plotting import plot as draw
    from graphflops.analysis.scaling.ranges import SizeRange, parse_size, values_to_show
    from graphflops.cli import factories
    from graphflops.cli.inputs import refuse_duplicates
    from graphflops.integrations.factories import EXPORTED
    from graphflops.integrations.targets import library_of

    check_phase(phase)
    parsed = [parse_size(size) for text in sizes or () for size in text.replace(",", " ").split()]
    refuse_duplicates("--size", [name for name, _, _ in parsed])
    if budget is not None and not 0 < budget < math.inf:
        raise UsageError(f"--budget must be a positive number of FLOPs, such as 1e18, not {budget}")
    ranges: dict[str, SizeRange] = {}
    if target is None:
        factory, defaults = factories.resnet_bk_factory(config)
        ranges = {name: SizeRange(1, value) for name, value in defaults.items()}
        parsed = parsed or [parse_size("N=128..2048")]
        unknown = [name for name, _, _ in parsed if name not in ranges]
        if unknown:
            raise UsageError(f"ResNet-BK has no size {unknown[0]!r}; expected one of {', '.join(ranges)}")
    elif config is not None:
        raise UsageError("--config is only for ResNet-BK; set the sizes of your model with --size")
    ranges |= {name: size_range for name, size_range, _ in parsed}
    is_named = False
    if target is not None:
        if target.endswith(EXPORTED):
            raise UsageError(f"{target} was exported with its sizes: give the model that it was exported from")
        is_named = ":" not in target or bool(library_of(target))
        if is_named:
            factory = factories.library_factory(target, inputs, ranges, training=not inference)
        else:
            factory = factories.target_factory(target, inputs, ranges)
    scaling_law = law(
        factory,
        ranges,
        optimizer=options.optimizer_or_none(optimizer),
        training=not inference,
        rules=rules,
        convention=convention,
        attention=attention,
    )
    used = {str(symbol) for symbol in scaling_law.total.free_symbols}
    if is_named and (unused := [name for name in ranges if name not in used]):
        raise UsageError(f"{unused[0]}: no number of {str(target).partition('?')[0]} depends on it")
    console = Terminal(highlight=False)
    print_law(scaling_law, console)
    for name, size_range, high in parsed:
        if high is None:
            continue
        say("")
        say(scaling_law.order(name, phase))  # type: ignore[arg-type]
        values = values_to_show(size_range.base, high, size_range.multiple_of)
        print_sweep(scaling_law, name, values, console, phase)  # type: ignore[arg-type]
        if budget is not None:
            largest = scaling_law.solve(name, budget, phase)  # type: ignore[arg-type]
            say(f"budget     {budget:g} {scaling_law.convention.unit}s are enough up to {name} = {largest:,}")
        if plot is not None:
            say(f"plot       {draw(scaling_law, name, values, plot, phase)}")  # type: ignore[arg-type]
            plot = None
    if json is not None:
        say(f"law        {scaling_law.to_json(json)}")
