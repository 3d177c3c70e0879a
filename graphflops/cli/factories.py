"""Model factories for ``scale``: functions from sizes to a model and its inputs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.cli.inputs import Input, bind, split
from graphflops.cli.targets import DEFAULT_BATCH, model_and_inputs, resnet_bk
from graphflops.core.errors import UsageError
from graphflops.core.messages import EXIT_EXCEPTIONS, format_error, location_of
from graphflops.integrations.factories import load_object
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

Factory = Callable[..., tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]]

RESNET_BK_SIZES = {
    "N": "n_seq",
    "D": "d_model",
    "V": "vocab_size",
    "E": "num_experts",
    "K": "top_k",
    "L": "n_layers",
}
"""size symbol of the papers → field of ResNetBKConfig"""


def resnet_bk_factory(config: str | None) -> tuple[Factory, dict[str, int]]:
    """A factory of ResNet-BK, and the default of each size.

    Raises:
        UsageError: the configuration is invalid.
    """
    base: ResNetBKConfig = resnet_bk(config, None).config

    def factory(B: int, **sizes: int) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
        fields: dict[str, Any] = {RESNET_BK_SIZES[name]: value for name, value in sizes.items()}
        model = ConfigurableResNetBK(replace(base, **fields))
        return model, *bind(model, [Input.parse(f"tokens={B}x{model.n_seq}:int64")])

    return factory, {"B": DEFAULT_BATCH, **{name: getattr(base, field) for name, field in RESNET_BK_SIZES.items()}}


NAMED_SIZES = ("batch", "seq", "image")
"""sizes of the inputs that are made up for a model of a library"""


def library_factory(
    target: str, inputs: Iterable[str] | None, sizes: Mapping[str, SizeRange], *, training: bool
) -> Factory:
    """A factory for a model by its name: its sizes are batch, seq and image, those of an input, and changed fields.

    A field is changed as in ``hf:llama?num_hidden_layers=layers``.

    Raises:
        UsageError: a size is none of these.
    """
    name, _, query = target.partition("?")
    changes = [part.partition("=") for part in query.split("&")] if query else []
    texts = split(inputs)
    known = {
        *NAMED_SIZES,
        *(value for _, _, value in changes),
        *(size for text in texts for size in _sizes_in(text, sizes)),
    }
    if unused := sorted(set(sizes) - known):
        raise UsageError(
            f"{', '.join(unused)}: no size of {name}; expected batch, seq or image, a name in an --input, such as "
            f"input_ids=1xN:int64, or that of a field, as in {name}?num_hidden_layers={unused[0]}"
        )

    def factory(**values: int) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
        changed = "&".join(f"{field}{equals}{values.get(value, value)}" for field, equals, value in changes)
        image = values.get("image")
        loaded = model_and_inputs(
            f"{name}?{changed}" if changed else name,
            [_substitute_sizes(text, values) for text in texts],
            batch=values.get("batch"),
            seq=values.get("seq"),
            image=None if image is None else str(image),
            training=training,
        )
        return loaded.model, loaded.args, loaded.kwargs

    return factory


def target_factory(target: str, inputs: Iterable[str] | None, sizes: Mapping[str, SizeRange]) -> Factory:
    """A factory that calls ``MODULE:FACTORY`` with the sizes that are among its parameters.

    The target returns a model, and ``inputs`` describe its inputs with names of sizes (``tokens=BxN:int64``); or it
    returns a model and its inputs, as ``graphflops.law`` expects.

    Raises:
        UsageError: the target is not a function, or a size is neither a parameter of it nor part of an input.
    """
    function = load_object(target)
    if not callable(function) or isinstance(function, nn.Module):
        raise UsageError(
            f"{target} is a {type(function).__name__}; expected a function that takes sizes and returns a model"
        )
    texts = split(inputs)
    parameters = _size_parameters(function, sizes)
    unused = set(sizes) - parameters - {name for text in texts for name in _sizes_in(text, sizes)}
    if unused:
        names = ", ".join(sorted(unused))
        raise UsageError(f"{names}: neither a parameter of {target} nor a size in an --input, such as tokens=BxN")

    def factory(**values: int) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
        try:
            result = function(**{name: value for name, value in values.items() if name in parameters})
        except EXIT_EXCEPTIONS as error:
            raise UsageError(f"{target} raised {format_error(error)}\n    {location_of(error)}") from error
        if isinstance(result, nn.Module):
            return result, *bind(result, [Input.parse(_substitute_sizes(text, values)) for text in texts])
        return result  # type: ignore[no-any-return]  # law checks it

    return factory


def _size_parameters(function: Callable[..., Any], sizes: Mapping[str, SizeRange]) -> set[str]:
    """The sizes that a function takes as parameters."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    names = {parameter.name for parameter in parameters} & set(sizes)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return names or (set(sizes) if takes_any and not inspect.isclass(function) else set())


def _sizes_in(text: str, sizes: Mapping[str, object]) -> list[str]:
    shape = text.rpartition("=")[2].partition(":")[0]
    return [size for size in shape.split("x") if size in sizes]


def _substitute_sizes(text: str, values: Mapping[str, int]) -> str:
    """``tokens=BxN:int64`` as ``tokens=32x128:int64``."""
    name, equals, value = text.rpartition("=")
    if name.endswith(":"):  # a value
        return f"{name}{equals}{values.get(value, value)}"
    shape, colon, dtype = value.partition(":")
    sizes = [str(values.get(size, size)) for size in shape.split("x")]
    unknown = [size for size in sizes if re.fullmatch(r"[A-Za-z_]\w*", size) and size != "scalar"]
    if unknown:
        raise UsageError(f"unknown size {', '.join(unknown)} in the input {text!r}: add --size {unknown[0]}=VALUE")
    return f"{name}{equals}{'x'.join(sizes)}{colon}{dtype}"
