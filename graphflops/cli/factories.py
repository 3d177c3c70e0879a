"""What the command line names, as factories of sizes: the home model by its fields, others by their arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.cli.inputs import Input, bind, split
from graphflops.cli.targets import DEFAULT_BATCH, home_model, load
from graphflops.core.errors import UsageError
from graphflops.core.messages import EXIT_EXCEPTIONS, format_error, location_of
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

Factory = Callable[..., tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]]

HOME = {
    "N": "n_seq",
    "D": "d_model",
    "V": "vocab_size",
    "E": "num_experts",
    "K": "top_k",
    "L": "n_layers",
}
"""the letters of papers, and which fields of ResNet-BK's configuration they are"""


def home(config: str | None) -> tuple[Factory, dict[str, int]]:
    """ResNet-BK in its sizes, and their values in a configuration.

    Raises:
        UsageError: the configuration is not possible.
    """
    chosen: ResNetBKConfig = home_model(config, None).config

    def resnet_bk(B: int, **sizes: int) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
        fields: dict[str, Any] = {HOME[name]: value for name, value in sizes.items()}
        model = ConfigurableResNetBK(replace(chosen, **fields))
        return model, *bind(model, [Input.parse(f"tokens={B}x{model.n_seq}:int64")])

    return resnet_bk, {"B": DEFAULT_BATCH, **{name: getattr(chosen, field) for name, field in HOME.items()}}


def of_target(target: str, inputs: Iterable[str] | None, sizes: Mapping[str, SizeRange]) -> Factory:
    """What ``PACKAGE.MODULE:FACTORY`` makes when it is called with the sizes that it has arguments for.

    It returns a model, whose inputs are then described with names of sizes (``tokens=BxN:int64``), or a model and its
    inputs as ``graphflops.law`` asks for.

    Raises:
        UsageError: it is no function, or the inputs speak of a size that is not given.
    """
    made = load(target)
    if not callable(made) or isinstance(made, nn.Module):
        raise UsageError(f"{target} is a {type(made).__name__}: a law needs a function of sizes that makes the model")
    texts = split(inputs)
    asked = _arguments(made, sizes)
    unused = set(sizes) - asked - {name for text in texts for name in _sizes_in(text, sizes)}
    if unused:
        raise UsageError(
            f"neither {target} nor an input takes {', '.join(sorted(unused))}: name it in --input, as in BxN"
        )

    def factory(**values: int) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
        try:
            built = made(**{name: value for name, value in values.items() if name in asked})
        except EXIT_EXCEPTIONS as error:
            raise UsageError(f"{target} raised {format_error(error)}\n    {location_of(error)}") from error
        if isinstance(built, nn.Module):
            return built, *bind(built, [Input.parse(_with_numbers(text, values)) for text in texts])
        return built  # type: ignore[no-any-return]  # law says what is wrong with it

    return factory


def _arguments(factory: Callable[..., Any], sizes: Mapping[str, SizeRange]) -> set[str]:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return set()
    if any(each.kind is each.VAR_KEYWORD for each in parameters) and not inspect.isclass(factory):
        named = {each.name for each in parameters}
        return named & set(sizes) or set(sizes)
    return {each.name for each in parameters} & set(sizes)


def _sizes_in(text: str, sizes: Mapping[str, object]) -> list[str]:
    shape = text.rpartition("=")[2].partition(":")[0]
    return [each for each in shape.split("x") if each in sizes]


def _with_numbers(text: str, values: Mapping[str, int]) -> str:
    """``tokens=BxN:int64`` as ``tokens=32x128:int64``."""
    name, equals, rest = text.rpartition("=")
    if name.endswith(":"):  # a value
        return f"{name}{equals}{values.get(rest, rest)}"
    shape, colon, dtype = rest.partition(":")
    parts = [str(values.get(each, each)) for each in shape.split("x")]
    unknown = [each for each in parts if re.fullmatch(r"[A-Za-z_]\w*", each) and each != "scalar"]
    if unknown:
        raise UsageError(f"the input {text!r} speaks of {', '.join(unknown)}: give --size {unknown[0]}=VALUE")
    return f"{name}{equals}{'x'.join(parts)}{colon}{dtype}"
