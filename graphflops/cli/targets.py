"""Models on the command line: MODULE:FACTORY, or a configuration of ResNet-BK."""

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
from graphflops.analysis.arguments import check_model
from graphflops.cli.inputs import Input, bind, refuse_duplicates, split
from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, location_of, shortened
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

DEFAULT_BATCH = 32
MAX_EXPERTS = 100_000
"""experts of ResNet-BK in all layers together"""


def load(target: str) -> Any:
    """The object that ``MODULE:NAME`` refers to.

    Raises:
        UsageError: no such module or name, or the import fails.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path) or module_name.startswith("."):
        raise UsageError(f"invalid target {target!r}: expected MODULE:FACTORY, for example my.models:tiny")
    value: Any = _import(module_name, target)
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            near = get_close_matches(name, vars(value) if hasattr(value, "__dict__") else (), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"{target}: {module_name} has no {path!r}{hint}") from None
        except USER_EXCEPTIONS as error:
            raise UsageError(
                f"{target}: reading {name!r} raised {format_error(error)}\n    {location_of(error)}"
            ) from error
    return value


def load_model(target: str) -> nn.Module:
    """The model of ``MODULE:FACTORY``: a function or class that is called without arguments, or a module.

    It is built on the meta device, without memory for weights, or on the CPU if the factory fails on meta.

    Raises:
        UsageError: no such module or name, or the factory raises or does not return a torch.nn.Module.
    """
    factory = load(target)
    model = factory if issubclass(type(factory), nn.Module) else _call(factory, target)
    if not issubclass(type(model), nn.Module):
        raise UsageError(f"{target} returned a {type(model).__name__}, not a torch.nn.Module")
    check_model(model)
    return model  # type: ignore[no-any-return]


def model_and_inputs(
    target: str | None,
    inputs: Iterable[str] | None,
    *,
    batch: int | None = None,
    seq: int | None = None,
    config: str | None = None,
) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model of a command, ResNet-BK by default, with its positional and keyword inputs.

    Raises:
        UsageError: the target, an input or the configuration is invalid, or they do not match.
    """
    parsed = [Input.parse(text) for text in split(inputs)]
    refuse_duplicates("--input", [value.path for value in parsed if value.name])
    model: nn.Module
    if target is None:
        model = default_model = resnet_bk(config, seq)
        parsed = parsed or [Input.parse(f"tokens={DEFAULT_BATCH}x{default_model.n_seq}:int64")]
    else:
        if config is not None or seq is not None:
            raise UsageError("--config and --seq are only for ResNet-BK; set the sizes of your model with --input")
        model = load_model(target)
    if batch is not None:
        parsed = [value.with_batch(batch) for value in parsed]
    return model, *bind(model, parsed)


def parse_rates(texts: Iterable[str] | None) -> dict[str, str]:
    """Pattern → rate, from texts such as ``blocks.3.*=0.62``.

    Raises:
        UsageError: a pattern or a rate is missing, or a pattern is given twice.
    """
    rates: dict[str, str] = {}
    for text in texts or ():
        pattern, _, rate = map(str.strip, text.partition("="))
        if not (pattern and rate):
            raise UsageError(f"invalid rate {text!r}: expected PATTERN=RATE, for example 'blocks.3.*=0.62'")
        if pattern in rates:
            raise UsageError(f"--rate {pattern} is given twice, as {rates[pattern]} and as {rate}: keep one")
        rates[pattern] = rate
    return rates


def resnet_bk(config: str | None, seq: int | None) -> ConfigurableResNetBK:
    """ResNet-BK as ``--config`` describes it, on the meta device.

    Raises:
        UsageError: as for ``parse_config``, or a size is too large.
    """
    parsed = parse_config(config, seq)
    try:
        with torch.device("meta"):
            return ConfigurableResNetBK(parsed)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise UsageError(f"no model can have these sizes: {format_error(error).splitlines()[0]}") from error


def parse_config(config: str | None, seq: int | None) -> ResNetBKConfig:
    """The configuration of a text: a preset, fields, or both, as in ``BASELINE_CONFIG,d_model=128,n_layers=8``.

    Raises:
        UsageError: no such preset or field, or an invalid value.
    """
    base = ResNetBKConfig()
    changes: dict[str, Any] = {} if seq is None else {"n_seq": seq}
    for part in filter(None, re.split(r"[,\s]+", config or "")):
        name, equals, text = part.partition("=")
        if equals:
            changes[name] = _field_value(name, text)
        else:
            base = _preset(name)
    layers, experts = (changes.get(name, getattr(base, name)) for name in ("n_layers", "num_experts"))
    if layers * experts > MAX_EXPERTS:  # each is built, though without memory
        raise UsageError(
            f"n_layers = {shortened(str(layers), 40)} with num_experts = {shortened(str(experts), 40)} is too large: "
            f"at most {MAX_EXPERTS:,} experts in total are supported"
        )
    try:
        return replace(base, **changes)
    except ValueError as error:
        raise UsageError(f"invalid configuration: {shortened(str(error), 300)}") from error


def _preset(name: str) -> ResNetBKConfig:
    presets = [attribute for attribute in dir(models) if attribute.endswith("_CONFIG")]
    if name not in presets:
        raise UsageError(f"no preset {name!r}; expected one of {', '.join(presets)}, or FIELD=VALUE")
    preset: ResNetBKConfig = getattr(models, name)
    return preset


def _field_value(name: str, text: str) -> object:
    types = {field.name: getattr(field.type, "__name__", str(field.type)) for field in fields(ResNetBKConfig)}
    if name not in types:
        raise UsageError(f"ResNetBKConfig has no field {name!r}; expected one of {', '.join(types)}")
    booleans = {"true": True, "1": True, "false": False, "0": False}
    try:
        if types[name] == "bool":
            return booleans[text.lower()]
        return int(text) if types[name] == "int" else float(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name} must be a {types[name]}, not {shortened(text, 100)!r}") from None


def _import(module_name: str, target: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UsageError(f"{target}: no module {module_name!r} in this folder or installed") from error
        raise UsageError(f"{target}: importing {module_name} failed, {location_of(error)}: {error}") from error
    except USER_EXCEPTIONS as error:
        raise UsageError(
            f"{target}: importing {module_name} failed, {location_of(error)}: {format_error(error)}"
        ) from error


def _call(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise UsageError(f"{target} is a {type(factory).__name__}; expected a torch.nn.Module or a function")
    try:
        with suppress(Exception), torch.device("meta"):
            return factory()
        return factory()  # some factories read values of weights
    except USER_EXCEPTIONS as error:
        location = location_of(error)
        if isinstance(error, TypeError) and location.startswith(__file__):
            raise UsageError(f"{target} cannot be called without arguments: {format_error(error)}") from error
        raise UsageError(f"{target} raised {format_error(error)}\n    {location}") from error
