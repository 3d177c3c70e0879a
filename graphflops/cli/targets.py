"""Models on the command line: by name, or a configuration of ResNet-BK."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from graphflops import models
from graphflops.cli.inputs import Input, bind, refuse_duplicates, split
from graphflops.core.errors import UsageError
from graphflops.core.messages import format_error, shortened
from graphflops.integrations.loaded import Loaded, describe
from graphflops.integrations.targets import load
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig
from graphflops.report.terminal import Terminal, say, wrapped

DEFAULT_BATCH = 32
MAX_EXPERTS = 100_000
"""experts of ResNet-BK in all layers together"""


def model_and_inputs(
    target: str | None,
    inputs: Iterable[str] | None = None,
    *,
    batch: int | None = None,
    seq: int | None = None,
    image: str | None = None,
    config: str | None = None,
    training: bool = True,
) -> Loaded:
    """The model of a command, ResNet-BK by default, with its positional and keyword inputs.

    Raises:
        UsageError: the target, an input or the configuration is invalid, or they do not match.
    """
    parsed = [Input.parse(text) for text in split(inputs)]
    refuse_duplicates("--input", [value.path for value in parsed if value.name])
    if batch is not None:
        parsed = [value.with_batch(batch) for value in parsed]
    if target is None:
        default_model = resnet_bk(config, seq)
        tokens = f"tokens={batch or DEFAULT_BATCH}x{default_model.n_seq}:int64"
        return Loaded(default_model, *bind(default_model, parsed or [Input.parse(tokens)]))
    if config is not None:
        raise UsageError("--config is only for ResNet-BK; change other models as in hf:llama?num_hidden_layers=2")
    loaded = load(target, batch=batch, seq=seq, image=parse_image(image), training=training)
    if not isinstance(loaded.model, nn.Module):
        if parsed:
            raise UsageError(f"--input is not for {target}: a program is analyzed on the inputs it was exported with")
        return loaded
    if not loaded.made_up and (seq is not None or image is not None):
        raise UsageError("--seq and --image are for models of libraries; set the sizes of your model with --input")
    positional = any(value.name is None for value in parsed)
    given = {value.name for value in parsed}
    made_up = {name: value for name, value in loaded.made_up.items() if name not in given and not positional}
    return Loaded(loaded.model, *bind(loaded.model, parsed, made_up), about=loaded.about, made_up=made_up)


def print_notes(loaded: Loaded) -> int:
    """Print what was chosen for a model, and which inputs were made up; return the number of lines."""
    notes = [f"model      {'; '.join(loaded.about)}"] if loaded.about else []
    notes += [f"input      {describe(loaded.made_up)}"] if loaded.made_up else []
    lines = [line for note in notes for line in wrapped(note, Terminal(), " " * 11)]
    for line in lines:
        say(line)
    return len(lines)


def parse_image(text: str | None) -> tuple[int, int] | None:
    """Height and width of ``224`` or ``480x640``.

    Raises:
        UsageError: the text is neither.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})(?:[x,]([0-9]{1,6}))?", text.strip())
    if match is None:
        raise UsageError(f"invalid --image {shortened(text, 100)!r}: expected a size, as 224, or HEIGHTxWIDTH")
    return int(match[1]), int(match[2] or match[1])


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
