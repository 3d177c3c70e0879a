"""Inputs as the command line describes them: tensors by their shapes; numbers, texts, lists and dicts by themselves.

``tokens=32x128:int64`` and ``x=8,3,224,224`` are tensors without data; ``lengths=[3,2,1]:int64`` is one with data;
``n:=3``, ``mode:=sum`` and ``sizes=[2,4]`` are values; ``batch.ids=8x128:int64`` is a member of a dict.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, zip_longest
from typing import Any

import torch
from torch import nn

from graphflops.analysis.arguments import QUANTIZED
from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, location_of, shortened

DIMENSIONS = 64
"""how many a tensor can have, for most operators"""
LARGEST = 2**63 - 1
"""the largest size that a tensor can have"""
LONGEST = 100_000
"""characters of a value that is written out"""
DEEPEST = 50
"""lists and dicts in each other in such a value"""
_SHORT = {"f16": "float16", "f32": "float32", "f64": "float64", "bf16": "bfloat16", "i32": "int32", "i64": "int64"}
_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*(?:\.[\w-]+)*)(?P<sign>:?=))?(?P<value>.*)", re.DOTALL)
_SHAPE = re.compile(r"(?P<shape>[0-9]+(?:x[0-9]+)*|[0-9]+(?:,[0-9]+)*|scalar)(?::(?P<dtype>\w+))?")
_VALUE = re.compile(
    r"(?P<text>[\[({'\"].*[\])}'\"]|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?|true|false|none|null)(?::(?P<dtype>\w+))?",
    re.IGNORECASE | re.DOTALL,
)
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_HOW = (
    "write NAME=SIZExSIZE:DTYPE, for example tokens=32x128:int64, or NAME:=VALUE for a number, a bool, a text, a "
    "list or a dict"
)


@dataclass(frozen=True)
class Input:
    """An input as the command line describes it; without a name it is positional.

    It is a tensor if it has a dtype and no value, a tensor with data if it has both, else the value.
    """

    name: str | None
    shape: tuple[int, ...] = ()
    dtype: torch.dtype | None = None
    value: Any = None
    keys: tuple[str, ...] = ()
    """where in the argument it belongs, if that is a dict or list"""
    text: str | None = None
    """what was written, if it may as well be meant as a number or a text: the argument decides"""

    @classmethod
    def parse(cls, text: str) -> Input:
        """What one input is, such as ``2x3x224x224``, ``scale=scalar:f32``, ``n:=3`` or ``batch.ids=8x128:int64``.

        Raises:
            UsageError: the text is none of these; the message says what is wrong with it.
        """
        text = text.strip()
        whole = _INPUT.fullmatch(text)
        assert whole is not None
        path, written = whole["name"], whole["value"]
        name, keys = (path.split(".")[0], tuple(path.split(".")[1:])) if path else (None, ())
        if whole["sign"] == ":=":
            return cls(name, value=_value(written, text), keys=keys)
        if (match := _SHAPE.fullmatch(written)) is not None:
            dtype = _dtype(match["dtype"] or "float32", text)
            is_number = match["shape"].isdigit() and not match["dtype"]
            return cls(name, _shape(match["shape"], text), dtype, keys=keys, text=written if is_number else None)
        if path and (match := _VALUE.fullmatch(written)) is not None:
            value = _value(match["text"], text)
            if not match["dtype"]:
                return cls(name, value=value, keys=keys)
            return cls(name, value=_tensor(value, _dtype(match["dtype"], text), text), keys=keys)
        if path and not keys and re.fullmatch(r"[A-Za-z_][\w./-]*", written):
            return cls(name, text=written)
        raise UsageError(f"cannot read the input {shortened(text, 200)!r}: {_HOW}")

    @property
    def path(self) -> str:
        """Its name with the keys after it."""
        return ".".join([self.name or "", *self.keys])

    def with_batch(self, batch: int) -> Input:
        """The same with another leading size, if it is a tensor without data."""
        return replace(self, shape=(batch, *self.shape[1:])) if self.shape else self

    def tensor(self) -> torch.Tensor:
        """A tensor without data.

        Raises:
            UsageError: no tensor is that large.
        """
        try:
            return torch.empty(self.shape, dtype=self.dtype, device="meta")
        except (RuntimeError, TypeError, OverflowError) as error:
            shape = "x".join(map(str, self.shape))
            raise UsageError(
                f"there is no tensor of {shortened(shape, 100)} {str(self.dtype).removeprefix('torch.')}, as an input "
                f"{f'({self.path}) ' if self.name else ''}should be: {format_error(error).splitlines()[0]}"
            ) from error

    def given_to(self, parameter: inspect.Parameter | None) -> Any:
        """What an argument is given. Where it asks for an int, ``n=3`` is the number 3, and where for a str, a text.

        Raises:
            UsageError: it is a text, and the argument does not ask for one.
        """
        if self.text is not None and not self.keys:
            kinds = _kinds(parameter)
            if self.text.isdigit():
                kind = next((each for each in (int, float, bool) if each in kinds), None)
                return self.tensor() if kind is None else kind(int(self.text))
            if str not in kinds:
                raise UsageError(f"cannot read the input {shortened(f'{self.name}={self.text}', 200)!r}: {_HOW}")
            return self.text
        return self.value if self.dtype is None else self.tensor()


def split(texts: Iterable[str] | None) -> list[str]:
    """The inputs of some texts, which are divided by spaces, or by commas where these divide no sizes or values."""
    return [each for text in texts or () for each in _pieces(text)]


def bind(model: nn.Module, inputs: Iterable[Input]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs for a model's forward.

    Raises:
        UsageError: forward has no argument of a given name, or needs one that is not given.
    """
    inputs = list(inputs)
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{type(model).__name__}.forward cannot be called: {format_error(error)}") from error
    except USER_EXCEPTIONS as error:
        name = type(model).__name__
        raise UsageError(f"{name}.forward cannot be called: {format_error(error)}\n    {location_of(error)}") from error
    asked = signature.parameters
    unnamed = [each for each in inputs if each.name is None]
    args = tuple(each.given_to(by) for each, by in zip_longest(unnamed, list(asked.values())[: len(unnamed)]))
    stray = [each.name for each in inputs if each.name is not None and not _takes(signature, each.name)]
    kwargs = {} if stray else _by_name([each for each in inputs if each.name is not None], asked)
    try:
        signature.bind(*args, **kwargs)
        problem = f"it has no argument {stray[0]!r}" if stray else ""
    except TypeError as error:
        problem = f"it has no argument {stray[0]!r}" if stray else str(error)
    if problem:
        listed = ", ".join(map(str, asked.values())) or "no arguments"
        raise UsageError(
            f"these inputs do not fit {type(model).__name__}.forward: {problem}; it takes ({listed}). "
            "Give each as --input NAME=SIZExSIZE:DTYPE, or NAME:=VALUE if it is no tensor"
        )
    return args, kwargs


def refuse_twice(option: str, names: Sequence[str]) -> None:
    """Say of an option that what it names is given once.

    Raises:
        UsageError: it is not.
    """
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise UsageError(f"{option} {twice}=… is given twice: keep one of them")


def numbers_as_tensors(texts: Iterable[str]) -> list[str]:
    """Of inputs that are read as tensors of one dimension and may be meant as numbers, how to say so."""
    bare = [text.split("=") for text in split(texts) if re.fullmatch(r"[A-Za-z_][\w.-]*=[0-9]+", text)]
    return [
        f"{name}={number} is a tensor of {number} numbers, unless forward says that it is an int; the number is "
        f"{name}:={number}"
        for name, number in bare
    ]


# -- reading ---------------------------------------------------------------------------------------------------------


def _pieces(text: str) -> Iterator[str]:
    piece, quote, depth = "", "", 0
    for i, letter in enumerate(f"{text} "):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and (depth or piece.endswith("=")):
            quote = letter
        else:
            depth += (letter in "[({") - (letter in "])}")
            if depth <= 0 and (letter.isspace() or (letter == "," and not _lists_sizes(piece, text[i + 1 :]))):
                if piece:
                    yield piece
                piece = ""
                continue
        piece += letter
    if piece.strip():
        yield piece


def _lists_sizes(before: str, after: str) -> bool:
    """Whether a comma stands between the sizes of one tensor."""
    is_size = re.match(r"[0-9]+(?=[,:\s]|$)", after) is not None
    return is_size and re.fullmatch(r"[0-9]+(?:,[0-9]+)*", before.rpartition("=")[2]) is not None


def _dtype(name: str, text: str) -> torch.dtype:
    dtype = getattr(torch, _SHORT.get(name, name), None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"there is no dtype {name!r} (in {text!r}); use float32, int64, bool, bf16, …")
    if dtype in QUANTIZED:
        raise UsageError(f"an input cannot be quantized, as {text!r} says; give the floats that it comes of")
    return dtype


def _shape(written: str, text: str) -> tuple[int, ...]:
    sizes = [] if written == "scalar" else re.split("[x,]", written)
    if len(sizes) > DIMENSIONS:
        raise UsageError(f"the input {shortened(text, 100)!r} has {len(sizes):,} dimensions: at most {DIMENSIONS}")
    if any(len(size.lstrip("0")) > len(str(LARGEST)) or int(size) > LARGEST for size in sizes):
        raise UsageError(f"the input {shortened(text, 100)!r} has a size that no tensor has: at most {LARGEST:,}")
    return tuple(map(int, sizes))


def _value(written: str, text: str) -> Any:
    """A number, truth value, text, list or dict, as Python or JSON writes it; a bare word is a text."""
    if len(written) > LONGEST:
        raise UsageError(f"the input {shortened(text, 100)!r} is longer than {LONGEST:,} characters")
    if written.lower() in _WORDS:
        return _WORDS[written.lower()]
    levels = accumulate((each in "[({") - (each in "])}") for each in written)
    too_deep = max(levels, default=0) > DEEPEST  # from which on readers differ, by the version of Python
    for read in () if too_deep else (ast.literal_eval, json.loads):
        try:
            return read(written)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    if re.fullmatch(r"[A-Za-z_][\w./-]*", written):
        return written
    raise UsageError(f"cannot read the value of {shortened(text, 200)!r}: write it as in Python, a text in quotes")


def _tensor(value: Any, dtype: torch.dtype, text: str) -> torch.Tensor:
    try:
        return torch.tensor(value, dtype=dtype, device="cpu")
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"there is no tensor of the numbers of {shortened(text, 200)!r}: {format_error(error).splitlines()[0]}"
        ) from error


# -- arguments -------------------------------------------------------------------------------------------------------


def _kinds(parameter: inspect.Parameter | None) -> set[Any]:
    """The types that an argument asks for, by its annotation and its default."""
    if parameter is None:
        return set()
    kinds: set[Any] = set()
    annotation = parameter.annotation
    if isinstance(annotation, str):
        names = re.sub(r"Optional\[(\w+)\]", r"\1", annotation).replace(" ", "").split("|")
        kinds |= {kind for kind in (int, float, bool, str) if kind.__name__ in names}
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds |= set(typing.get_args(annotation))
    elif annotation is not parameter.empty:
        kinds.add(annotation)
    return kinds | ({type(parameter.default)} if parameter.default is not parameter.empty else set())


def _takes(signature: inspect.Signature, name: str) -> bool:
    return name in signature.parameters or any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())


def _by_name(inputs: Iterable[Input], asked: typing.Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Inputs by the names of arguments; those with keys put together to dicts, or to lists where the keys count."""
    given: dict[str, Any] = {}
    for each in inputs:
        assert each.name is not None
        holder, last = given, each.name
        for key in each.keys:
            holder = holder.setdefault(last, _Members())
            last = key
            if not isinstance(holder, _Members):
                raise UsageError(f"--input {each.path}=… is of a member of what is given as a whole: keep one of them")
        if last in holder:
            raise UsageError(f"--input {each.path}=… is given twice: keep one of them")
        holder[last] = each.given_to(asked.get(each.name))
    return {name: _put_together(value) for name, value in given.items()}


class _Members(dict[str, Any]):
    """Members of an argument by their keys."""


def _put_together(value: Any) -> Any:
    if not isinstance(value, _Members):
        return value
    members = {key: _put_together(each) for key, each in value.items()}
    if all(key.isdigit() for key in members):
        count = [str(i) for i in range(len(members))]
        if set(members) != set(count):
            raise UsageError(f"the members {', '.join(members)} of a list are not counted from 0")
        return [members[i] for i in count]
    return members
