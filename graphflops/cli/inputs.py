"""Inputs on the command line: tensors by shape and dtype; numbers, strings, lists and dicts as literals.

``tokens=32x128:int64`` and ``x=8,3,224,224`` are meta tensors; ``lengths=[3,2,1]:int64`` is a tensor with data;
``n:=3``, ``mode:=sum`` and ``sizes=[2,4]`` are values; ``batch.ids=8x128:int64`` is a member of a dict.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, zip_longest
from typing import Any

import torch
from torch import nn

from graphflops.analysis.arguments import QUANTIZED
from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, did_you_mean, format_error, location_of, shortened

MAX_DIMENSIONS = 64
"""of a tensor, for most operators"""
MAX_SIZE = 2**63 - 1
"""of a dimension of a tensor"""
MAX_CHARACTERS = 100_000
"""of a value"""
MAX_NESTING = 50
"""levels of lists and dicts in a value"""
_ALIASES = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "bf16": "bfloat16",
    "i32": "int32",
    "i64": "int64",
}
_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*(?:\.[\w-]+)*)(?P<sign>:?=))?(?P<value>.*)", re.DOTALL)
_SHAPE = re.compile(r"(?P<shape>[0-9]+(?:x[0-9]+)*|[0-9]+(?:,[0-9]+)*|scalar)(?::(?P<dtype>\w+))?")
_VALUE = re.compile(
    r"(?P<text>[\[({'\"].*[\])}'\"]|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?|true|false|none|null)(?::(?P<dtype>\w+))?",
    re.IGNORECASE | re.DOTALL,
)
_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}
_SYNTAX = (
    "expected NAME=SIZExSIZE:DTYPE, for example tokens=32x128:int64, or NAME:=VALUE for a number, bool, string, list "
    "or dict"
)


@dataclass(frozen=True)
class Input:
    """An input of a model; positional if it has no name.

    A meta tensor if it has a dtype and no value, a tensor with data if it has both, otherwise the value.
    """

    name: str | None
    shape: tuple[int, ...] = ()
    dtype: torch.dtype | None = None
    value: Any = None
    keys: tuple[str, ...] = ()
    """path within the argument, if that is a dict or list"""
    text: str | None = None
    """the input text, if it may also be a number or a string, depending on the parameter"""

    @classmethod
    def parse(cls, text: str) -> Input:
        """Parse an input such as ``2x3x224x224``, ``scale=scalar:f32``, ``n:=3`` or ``batch.ids=8x128:int64``.

        Raises:
            UsageError: the text is not an input.
        """
        text = text.strip()
        parts = _INPUT.fullmatch(text)
        assert parts is not None
        path, literal = parts["name"], parts["value"]
        name, keys = (path.split(".")[0], tuple(path.split(".")[1:])) if path else (None, ())
        if parts["sign"] == ":=":
            return cls(name, value=_parse_value(literal, text), keys=keys)
        if (match := _SHAPE.fullmatch(literal)) is not None:
            dtype = _parse_dtype(match["dtype"] or "float32", text)
            is_number = match["shape"].isdigit() and not match["dtype"]
            shape = _parse_shape(match["shape"], text)
            return cls(name, shape, dtype, keys=keys, text=literal if is_number else None)
        if path and (match := _VALUE.fullmatch(literal)) is not None:
            value = _parse_value(match["text"], text)
            if not match["dtype"]:
                return cls(name, value=value, keys=keys)
            return cls(name, value=_data_tensor(value, _parse_dtype(match["dtype"], text), text), keys=keys)
        if path and not keys and re.fullmatch(r"[A-Za-z_][\w./-]*", literal):
            return cls(name, text=literal)
        raise UsageError(f"invalid input {shortened(text, 200)!r}: {_SYNTAX}")

    @property
    def path(self) -> str:
        """The name followed by the keys, separated by dots."""
        return ".".join([self.name or "", *self.keys])

    def with_batch(self, batch: int) -> Input:
        """A copy with another leading size, if this is a meta tensor."""
        return replace(self, shape=(batch, *self.shape[1:])) if self.shape else self

    def tensor(self) -> torch.Tensor:
        """The meta tensor.

        Raises:
            UsageError: it is too large for a tensor.
        """
        try:
            return torch.empty(self.shape, dtype=self.dtype, device="meta")
        except (RuntimeError, TypeError, OverflowError) as error:
            shape = "x".join(map(str, self.shape))
            raise UsageError(
                f"no tensor can be {shortened(shape, 100)} {str(self.dtype).removeprefix('torch.')}"
                f"{f' (input {self.path})' if self.name else ''}: {format_error(error).splitlines()[0]}"
            ) from error

    def value_for(self, parameter: inspect.Parameter | None) -> Any:
        """The value to pass to a parameter: ``n=3`` is the number 3 for an int, and a tensor otherwise.

        Raises:
            UsageError: it is a string, and the parameter does not take one.
        """
        if self.text is not None and not self.keys:
            types = _parameter_types(parameter)
            if self.text.isdigit():
                number = next((kind for kind in (int, float, bool) if kind in types), None)
                return self.tensor() if number is None else number(int(self.text))
            if str not in types:
                raise UsageError(f"invalid input {shortened(f'{self.name}={self.text}', 200)!r}: {_SYNTAX}")
            return self.text
        return self.value if self.dtype is None else self.tensor()


def split(texts: Iterable[str] | None) -> list[str]:
    """Split texts at spaces, and at commas that do not separate sizes or values, into one text per input."""
    return [piece for text in texts or () for piece in _pieces(text)]


def bind(
    model: nn.Module, inputs: Iterable[Input], made_up: Mapping[str, Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for a model's forward, from inputs that were given and inputs made up by name.

    Raises:
        UsageError: forward has no parameter of a given name, or a required argument is missing.
    """
    inputs = list(inputs)
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{type(model).__name__}.forward cannot be called: {format_error(error)}") from error
    except USER_EXCEPTIONS as error:
        name = type(model).__name__
        raise UsageError(f"{name}.forward cannot be called: {format_error(error)}\n    {location_of(error)}") from error
    parameters = signature.parameters
    positional = [value for value in inputs if value.name is None]
    args = tuple(
        value.value_for(parameter)
        for value, parameter in zip_longest(positional, list(parameters.values())[: len(positional)])
    )
    named = [value for value in inputs if value.name is not None]
    unexpected = [value.name for value in named if not _accepts(signature, str(value.name))]
    kwargs = {**(made_up or {}), **({} if unexpected else _keyword_arguments(named, parameters))}
    try:
        signature.bind(*args, **kwargs)
        problem = ""
    except TypeError as error:
        problem = str(error)
    if unexpected:
        near = did_you_mean(str(unexpected[0]), parameters)
        problem = f"no parameter {unexpected[0]!r}{f' ({near})' if near else ''}"
    if problem:
        listed = ", ".join(map(str, parameters.values())) or "no arguments"
        raise UsageError(
            f"inputs do not match {type(model).__name__}.forward({listed}): {problem}. "
            f"Write {_required_options(signature)}, and NAME:=VALUE for what is not a tensor"
        )
    return args, kwargs


def refuse_duplicates(option: str, names: Sequence[str]) -> None:
    """Check that no name is given twice.

    Raises:
        UsageError: a name is.
    """
    duplicate = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if duplicate is not None:
        raise UsageError(f"{option} {duplicate}=… is given twice: keep one")


def one_dimensional_hints(texts: Iterable[str]) -> list[str]:
    """Hints on inputs like ``n=3``, which are read as tensors of one dimension and may be meant as numbers."""
    pairs = [text.split("=") for text in split(texts) if re.fullmatch(r"[A-Za-z_][\w.-]*=[0-9]+", text)]
    return [
        f"{name}={size} is a tensor of size {size}, unless forward annotates {name} as int; for the number write "
        f"{name}:={size}"
        for name, size in pairs
    ]


def dtype_hints(texts: Iterable[str], message: str) -> list[str]:
    """Hints on inputs like ``tokens=2x8``, which are float32, where an error message asks for integers."""
    if re.search(r"\bLong|int64|\bindices\b|\bids\b", message) is None:
        return []
    untyped = [text for text in split(texts) if re.fullmatch(r"(?:[A-Za-z_][\w.-]*=)?[0-9]+(?:[x,][0-9]+)*", text)]
    return [f"{text} is float32; for indices or token ids write {text}:int64" for text in untyped]


# -- reading ---------------------------------------------------------------------------------------------------------


def _pieces(text: str) -> Iterator[str]:
    piece, quote, depth = "", "", 0
    for i, char in enumerate(f"{text} "):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and (depth or piece.endswith("=")):
            quote = char
        else:
            depth += (char in "[({") - (char in "])}")
            if depth <= 0 and (char.isspace() or (char == "," and not _separates_sizes(piece, text[i + 1 :]))):
                if piece:
                    yield piece
                piece = ""
                continue
        piece += char
    if piece.strip():
        yield piece


def _separates_sizes(before: str, after: str) -> bool:
    """Whether a comma between these texts separates the sizes of one tensor."""
    is_size = re.match(r"[0-9]+(?=[,:\s]|$)", after) is not None
    return is_size and re.fullmatch(r"[0-9]+(?:,[0-9]+)*", before.rpartition("=")[2]) is not None


def _parse_dtype(name: str, text: str) -> torch.dtype:
    dtype = getattr(torch, _ALIASES.get(name, name), None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"no dtype {name!r} (in {text!r}); expected float32, int64, bool, bf16, …")
    if dtype in QUANTIZED:
        raise UsageError(f"an input cannot be quantized: {text!r}; use the dtype before quantization, such as float32")
    return dtype


def _parse_shape(shape: str, text: str) -> tuple[int, ...]:
    sizes = [] if shape == "scalar" else re.split("[x,]", shape)
    if len(sizes) > MAX_DIMENSIONS:
        raise UsageError(
            f"the input {shortened(text, 100)!r} has {len(sizes):,} dimensions; at most {MAX_DIMENSIONS} are supported"
        )
    if any(len(size.lstrip("0")) > len(str(MAX_SIZE)) or int(size) > MAX_SIZE for size in sizes):
        raise UsageError(f"the input {shortened(text, 100)!r} has a size that no tensor can have: at most {MAX_SIZE:,}")
    return tuple(map(int, sizes))


def _parse_value(literal: str, text: str) -> Any:
    """A number, bool, string, list or dict in the syntax of Python or JSON; a bare word is a string."""
    if len(literal) > MAX_CHARACTERS:
        raise UsageError(f"the input {shortened(text, 100)!r} is longer than {MAX_CHARACTERS:,} characters")
    if literal.lower() in _CONSTANTS:
        return _CONSTANTS[literal.lower()]
    levels = accumulate((char in "[({") - (char in "])}") for char in literal)
    too_deep = max(levels, default=0) > MAX_NESTING  # deeper, the parsers of different Python versions differ
    for parse in () if too_deep else (ast.literal_eval, json.loads):
        try:
            return parse(literal)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    if re.fullmatch(r"[A-Za-z_][\w./-]*", literal):
        return literal
    raise UsageError(f"invalid value in {shortened(text, 200)!r}: expected a Python literal, strings in quotes")


def _data_tensor(value: Any, dtype: torch.dtype, text: str) -> torch.Tensor:
    try:
        return torch.tensor(value, dtype=dtype, device="cpu")
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"no tensor can have the values of {shortened(text, 200)!r}: {format_error(error).splitlines()[0]}"
        ) from error


# -- arguments -------------------------------------------------------------------------------------------------------


def _parameter_types(parameter: inspect.Parameter | None) -> set[Any]:
    """The types that a parameter takes, from its annotation and its default."""
    if parameter is None:
        return set()
    accepted: set[Any] = set()
    annotation = parameter.annotation
    if isinstance(annotation, str):
        names = re.sub(r"Optional\[(\w+)\]", r"\1", annotation).replace(" ", "").split("|")
        accepted |= {kind for kind in (int, float, bool, str) if kind.__name__ in names}
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        accepted |= set(typing.get_args(annotation))
    elif annotation is not parameter.empty:
        accepted.add(annotation)
    return accepted | ({type(parameter.default)} if parameter.default is not parameter.empty else set())


def _required_options(signature: inspect.Signature) -> str:
    """The options for the arguments that forward requires, or for one if it requires none."""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in optional
    ]
    return " ".join(f"--input {name}=SIZExSIZE:DTYPE" for name in names or ["NAME"])


def _accepts(signature: inspect.Signature, name: str) -> bool:
    parameters = signature.parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _keyword_arguments(inputs: Iterable[Input], parameters: typing.Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Values by parameter name; inputs with keys are combined into dicts, or lists if the keys are numbers."""
    arguments: dict[str, Any] = {}
    for value in inputs:
        assert value.name is not None
        parent, key = arguments, value.name
        for next_key in value.keys:
            parent = parent.setdefault(key, _Items())
            key = next_key
            if not isinstance(parent, _Items):
                raise UsageError(f"--input {value.path}=… is an item of an argument that is given as well: keep one")
        if key in parent:
            raise UsageError(f"--input {value.path}=… is given twice: keep one")
        parent[key] = value.value_for(parameters.get(value.name))
    return {name: _combine(argument) for name, argument in arguments.items()}


class _Items(dict[str, Any]):
    """Items of a dict or list argument, by key."""


def _combine(value: Any) -> Any:
    """The dict or list of the items."""
    if not isinstance(value, _Items):
        return value
    items = {key: _combine(item) for key, item in value.items()}
    if all(key.isdigit() for key in items):
        indices = [str(i) for i in range(len(items))]
        if set(items) != set(indices):
            raise UsageError(f"the indices {', '.join(items)} of a list do not count from 0 without a gap")
        return [items[i] for i in indices]
    return items
