"""The commands of ResNet-BK, ``graphflops resnet-bk analyze``: those of every model, with options of its own."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args

import typer

from graphflops.cli import analyze, compare, scale, verify
from graphflops.report.terminal import say

Command = Callable[..., None]

app = typer.Typer(help="Analyze ResNet-BK, the bundled example, and compare its configurations.", no_args_is_help=True)


def without(command: Command, *names: str) -> Command:
    """A command without some of its parameters, which have their defaults."""
    return _with_parameters(
        command, [parameter for parameter in _parameters(command) if parameter.name not in names], command
    )


def moved(command: Command, *names: str) -> Command:
    """A command with some of its options hidden: they work as before, and a hint says where they are now."""
    parameters = [
        parameter.replace(annotation=_hidden(parameter.annotation)) if parameter.name in names else parameter
        for parameter in _parameters(command)
    ]
    defaults = {parameter.name: parameter.default for parameter in parameters if parameter.name in names}

    @functools.wraps(command)
    def run(**options: Any) -> None:
        command(**options)
        if any(options[name] != default for name, default in defaults.items()):
            say(f"hint: options of ResNet-BK are now those of: graphflops resnet-bk {command.__name__}", error=True)

    return _with_parameters(command, parameters, run)


def _with_parameters(command: Command, parameters: list[inspect.Parameter], run: Command) -> Command:
    @functools.wraps(command)
    def with_parameters(**options: Any) -> None:
        run(**options)

    with_parameters.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_parameters.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_parameters


def _parameters(command: Command) -> list[inspect.Parameter]:
    return list(inspect.signature(command, eval_str=True).parameters.values())


def _hidden(annotation: Any) -> Any:
    kind, option = get_args(annotation)
    option = copy.copy(option)
    option.hidden = True
    return Annotated[kind, option]


app.command()(without(analyze.analyze, "target", "image"))
app.command()(without(analyze.explain, "target", "image"))
app.command()(without(scale.scale, "target", "inputs"))
app.command()(without(compare.compare, "first", "second", "inputs", "image"))
app.command()(without(verify.verify, "target", "image"))
