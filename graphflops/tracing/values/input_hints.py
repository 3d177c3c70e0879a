"""Sentences that say what to write instead, for the usual mistakes in the inputs of a model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

import torch
from torch import nn

from graphflops.core.messages import USER_EXCEPTIONS, format_error, one_line, try_getattr
from graphflops.tracing.copies.reachable_modules import positional_names

_WRONG_TYPE = re.compile(r"must be Tensor, not (?:numpy\.)?(\w+)|got \((\w+)[,)]|^'(\w+)' object has no attribute")
_SIGNATURE = re.compile(r"\w+\(\) (missing \d+ required|takes .* positional|got an unexpected|got multiple values)")
_DTYPE = re.compile(r"same dtype|scalar type|should be the same|does not match weight dtype|indices to be long")
_RANK = re.compile(
    r"[Ee]xpected (?:input to be )?(?P<expected>\d)D.*got (?P<given>\d)D"
    r"|unpack \(expected (?P<items>\d), got (?P<axes>\d)\)"
)
_CHANNELS = re.compile(
    r"Invalid channel dimensions|number of channels|running_mean should contain|channels, but got|match model"
)
_SMALL = re.compile(r"Output size is too small|Kernel size can't be greater|output would be too small")
_FEATURES = re.compile(r"same reduction dim|shapes cannot be multiplied")
_ROWS = re.compile(
    r"index out of range in self: \d+, and the table has (?P<rows>\d+) rows"
    r"|broadcast a dimension of length (?P<length>\d+) at"
    r"|expanded size of the tensor \((?P<expanded>\d+)\) must match the existing size \((?P<existing>\d+)\)"
    r"|size of tensor a \((?P<a>\d+)\) must match .* b \((?P<b>\d+)\)"
)
_ONE_VALUE = re.compile(r"more than 1 (?:value per channel|spatial element)")


def input_hint(
    error: Exception, root: nn.Module, module: nn.Module, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """The sentence that says what to write instead, if an error in a module at ``path`` is usual; else empty."""
    names = positional_names(try_getattr(root, "forward"))[: len(args)]
    named = [(name or "an input", value) for name, value in zip_longest(names, args)] + list(kwargs.items())
    text, tensors = (
        format_error(error).partition(": ")[2],
        [(name, value) for name, value in named if isinstance(value, torch.Tensor)],
    )
    hints = (
        *_of_signature(text, root, path),
        *_of_type(text, named),
        *_of_dtype(text, root, tensors),
        *_of_shape(text, module, path, tensors),
    )
    return next(iter(hints), "")


def _of_signature(text: str, root: nn.Module, path: str) -> Iterator[str]:
    """The arguments of forward, if the call of the model does not fit them."""
    if path or not _SIGNATURE.search(text):
        return
    try:
        parameters = ", ".join(map(str, inspect.signature(root.forward).parameters.values()))
    except USER_EXCEPTIONS:
        return
    yield f"forward takes ({one_line(parameters, 400)}): pass an input for each that has no default, and no other."


def _of_type(text: str, named: list[tuple[str, Any]]) -> Iterator[str]:
    """The input that is no tensor, if the error is about a value of its type."""
    match = _WRONG_TYPE.search(text)
    kind = next(filter(None, match.groups()), "") if match else ""
    for name, value in named:
        if type(value).__name__ != kind or isinstance(value, torch.Tensor):
            continue
        if value is None:
            yield f"{name} is None, and forward needs a tensor there."
        elif isinstance(value, str):
            yield f"{name} is a string: pass its token ids, as from tokenizer(text, return_tensors='pt')."
        elif isinstance(value, Mapping):
            yield f"{name} is a dict: for keyword inputs, write analyze(model, batch), not analyze(model, (batch,))."
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
            yield f"{name} is a {kind} of tensors, and forward needs a tensor: torch.stack({name}) makes one."
        elif isinstance(value, (list, tuple)):
            yield f"{name} is a {kind}: write input_size=(…) for a shape, or torch.tensor({name}) for its values."
        else:
            yield f"{name} is of type {kind}, and forward needs a tensor there."


def _of_dtype(text: str, root: nn.Module, tensors: list[tuple[str, torch.Tensor]]) -> Iterator[str]:
    """The input whose dtype is not that of the model's parameters."""
    if "'indices' to have one of" in text or "indices to be long" in text:
        for name, tensor in tensors:
            if tensor.is_floating_point():
                yield (
                    f"{name} is {_dtype(tensor)}, and an embedding needs integers: write {name}.long(), or pass "
                    f"torch.zeros({tuple(tensor.shape)}, dtype=torch.int64)."
                )
    elif _DTYPE.search(text):
        dtypes = [parameter.dtype for parameter in root.parameters() if parameter.is_floating_point()]
        for name, tensor in tensors:
            if dtypes and tensor.dtype not in dtypes:
                model_dtype = str(dtypes[0]).removeprefix("torch.")
                other = f", or model.to({tensor.dtype})" if tensor.is_floating_point() else ""
                yield (
                    f"{name} is {_dtype(tensor)}, and the parameters of the model are {model_dtype}: write "
                    f"{name}.to({dtypes[0]}){other}."
                )


def _of_shape(text: str, module: nn.Module, path: str, tensors: list[tuple[str, torch.Tensor]]) -> Iterator[str]:
    """The input with a missing batch, channels in the last dimension, or sizes that the module does not take."""
    place = f"{path or 'the model'} ({type(module).__name__})"
    match = _RANK.search(text)
    if match and int(match["given"] or match["axes"]) == int(match["expected"] or match["items"]) - 1:
        axes = int(match["given"] or match["axes"])
        for name, tensor in tensors:
            if tensor.dim() == axes:
                shape = tuple(tensor.shape)
                yield f"{name} is of shape {shape}: if the batch is missing, write {name}[None], or (1, …)."
    if match or _CHANNELS.search(text) or _FEATURES.search(text):
        for name, tensor in tensors:
            if tensor.dim() == 4 and tensor.shape[-1] <= 4 < min(tensor.shape[1:3]):
                yield f"{name} has its channels last, {tuple(tensor.shape)}: write {name}.permute(0, 3, 1, 2)."
    channels = try_getattr(module, "in_channels", None) or try_getattr(module, "num_features", None)
    if _CHANNELS.search(text) and isinstance(channels, int):
        yield f"{place} takes {channels} channels."
    features = try_getattr(module, "in_features", None)
    if _FEATURES.search(text) and isinstance(features, int):
        yield f"{place} takes {features} features, in the last dimension; they may depend on the size of the input."
    if _SMALL.search(text):
        yield f"The input is too small for the strides before {place}: make it larger."
    yield from _of_length(text, place, tensors)
    if _ONE_VALUE.search(text):
        yield "Normalization in training mode needs more than one value a channel: a batch of 2, or model.eval()."
    if 'missing the required "forward"' in text:
        yield f"A {type(module).__name__} has no forward: pass a module that calls its members, such as nn.Sequential."


def _of_length(text: str, place: str, tensors: list[tuple[str, torch.Tensor]]) -> Iterator[str]:
    """The input that is longer than the table of positions that is added to it."""
    if (match := _ROWS.search(text)) is None:
        return
    sizes = {int(size) for size in match.groupdict().values() if size is not None}
    for name, tensor in tensors:
        rows = min(sizes)
        is_long = tensor.dim() > 1 and rows > 1 and tensor.shape[1] > rows
        if is_long and (len(sizes) == 1 or tensor.shape[1] in sizes):
            yield (
                f"{name} is {tensor.shape[1]} long, and {place} has {rows} positions: make it at most {rows} long "
                f"(--seq {rows}), or the model larger."
            )


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
