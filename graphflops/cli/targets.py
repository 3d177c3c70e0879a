"""Models as the command line names them: a factory as PACKAGE.MODULE:FACTORY, or a configuration of ResNet-BK."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphflops import models
from graphflops.analysis.arguments import checked_model
from graphflops.cli.inputs import Input, bind, refuse_twice, split
from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, location_of, shortened
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

DEFAULT_BATCH = 32
MOST_MODULES = 100_000
"""experts of ResNet-BK in all its layers"""


def load(target: str) -> Any:
    """What ``PACKAGE.MODULE:NAME`` names.

    Raises:
        UsageError: there is no such module or name, or importing it fails.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path) or module_name.startswith("."):
        raise UsageError(f"cannot read the target {target!r}: write PACKAGE.MODULE:FACTORY, for example my.models:tiny")
    made: Any = _import(module_name, target)
    for name in path.split("."):
        try:
            made = getattr(made, name)
        except AttributeError:
            near = get_close_matches(name, vars(made) if hasattr(made, "__dict__") else (), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"{target}: {module_name} has no {path!r}{hint}") from None
        except USER_EXCEPTIONS as error:
            raise UsageError(
                f"{target}: to look up {name!r} raised {format_error(error)}\n    {location_of(error)}"
            ) from error
    return made


def load_model(target: str) -> nn.Module:
    """The model that ``PACKAGE.MODULE:FACTORY`` makes: a function, a class to be called without arguments, a module.

    It is built on the meta device, without memory for weights; only a factory that cannot do that is given the CPU.

    Raises:
        UsageError: no such module or name, the factory raises, or what it makes is not a torch.nn.Module.
    """
    made = load(target)
    model = made if issubclass(type(made), nn.Module) else _call(made, target)
    if not issubclass(type(model), nn.Module):
        raise UsageError(f"{target} made a {type(model).__name__}, not a torch.nn.Module")
    checked_model(model)
    return model  # type: ignore[no-any-return]


def model_and_inputs(
    target: str | None,
    inputs: Iterable[str] | None,
    *,
    batch: int | None = None,
    seq: int | None = None,
    config: str | None = None,
) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model that a command is about, ResNet-BK if it names none, with its positional and keyword inputs.

    Raises:
        UsageError: the target, an input or the configuration is wrong, or they do not go together.
    """
    given = [Input.parse(each) for each in split(inputs)]
    refuse_twice("--input", [each.path for each in given if each.name])
    model: nn.Module
    if target is None:
        model = home = home_model(config, seq)
        given = given or [Input.parse(f"tokens={DEFAULT_BATCH}x{home.n_seq}:int64")]
    else:
        if config is not None or seq is not None:
            raise UsageError("--config and --seq are ResNet-BK's; give the sizes of your model's inputs with --input")
        model = load_model(target)
    if batch is not None:
        given = [each.with_batch(batch) for each in given]
    return model, *bind(model, given)


def rates(texts: Iterable[str] | None) -> dict[str, str]:
    """``blocks.3.*=0.62`` as pattern and rate.

    Raises:
        UsageError: there is no pattern, or no rate.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        pattern, _, rate = map(str.strip, text.partition("="))
        if not (pattern and rate):
            raise UsageError(f"cannot read the rate {text!r}: write PATTERN=RATE, for example 'blocks.3.*=0.62'")
        if pattern in found:
            raise UsageError(f"--rate {pattern} is given twice, as {found[pattern]} and as {rate}: keep one of them")
        found[pattern] = rate
    return found


def home_model(config: str | None, seq: int | None) -> ConfigurableResNetBK:
    """ResNet-BK from ``CONFIG``, without memory for weights.

    Raises:
        UsageError: as ``home_config``.
    """
    chosen = home_config(config, seq)
    try:
        with torch.device("meta"):
            return ConfigurableResNetBK(chosen)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise UsageError(f"there is no model of this size: {format_error(error).splitlines()[0]}") from error


def home_config(config: str | None, seq: int | None) -> ResNetBKConfig:
    """What ``CONFIG`` says: a preset, fields, or both: ``BASELINE_CONFIG,d_model=128,n_layers=8``.

    Raises:
        UsageError: no such preset or field, or a value that is not allowed.
    """
    chosen = ResNetBKConfig()
    changes: dict[str, Any] = {} if seq is None else {"n_seq": seq}
    for part in filter(None, re.split(r"[,\s]+", config or "")):
        name, equals, text = part.partition("=")
        if equals:
            changes[name] = _field_value(name, text)
        else:
            chosen = _preset(name)
    layers, experts = (changes.get(name, getattr(chosen, name)) for name in ("n_layers", "num_experts"))
    if layers * experts > MOST_MODULES:  # each is built, if without memory
        raise UsageError(
            f"n_layers = {shortened(str(layers), 40)} of num_experts = {shortened(str(experts), 40)} are too many: "
            f"at most {MOST_MODULES:,} experts in all can be built"
        )
    try:
        return replace(chosen, **changes)
    except ValueError as error:
        raise UsageError(f"the configuration is not possible: {shortened(str(error), 300)}") from error


def _preset(name: str) -> ResNetBKConfig:
    known = [each for each in dir(models) if each.endswith("_CONFIG")]
    if name not in known:
        raise UsageError(f"there is no preset {name!r}; there are: {', '.join(known)}. A field is written NAME=VALUE")
    preset: ResNetBKConfig = getattr(models, name)
    return preset


def _field_value(name: str, text: str) -> object:
    kinds = {field.name: getattr(field.type, "__name__", str(field.type)) for field in fields(ResNetBKConfig)}
    if name not in kinds:
        raise UsageError(f"ResNetBKConfig has no field {name!r}; it has: {', '.join(kinds)}")
    truth = {"true": True, "1": True, "false": False, "0": False}
    try:
        if kinds[name] == "bool":
            return truth[text.lower()]
        return int(text) if kinds[name] == "int" else float(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name} is a {kinds[name]}, not {shortened(text, 100)!r}") from None


def _import(module_name: str, target: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UsageError(f"{target}: there is no module {module_name!r} here or among the installed") from error
        raise UsageError(f"{target}: importing {module_name} failed, {location_of(error)}: {error}") from error
    except USER_EXCEPTIONS as error:
        raise UsageError(
            f"{target}: importing {module_name} failed, {location_of(error)}: {format_error(error)}"
        ) from error


def _call(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise UsageError(f"{target} is a {type(factory).__name__}, neither a model nor a function that makes one")
    try:
        with suppress(Exception), torch.device("meta"):
            return factory()
        return factory()  # some factories need values while they build
    except USER_EXCEPTIONS as error:
        where = location_of(error)
        if isinstance(error, TypeError) and where.startswith(__file__):
            raise UsageError(f"{target} cannot be called without arguments: {format_error(error)}") from error
        raise UsageError(f"{target} raised {format_error(error)}\n    {where}") from error
