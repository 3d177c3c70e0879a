"""Read the inputs of a call as people write them: tensors, shapes, arrays, batches, and dicts of these.

A tuple of ints is a shape, and a list of ints is data. Where forward could also take the numbers themselves, an error
says how to write each of the two; an existing call, of a tuple of tensors, is returned as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from graphflops.analysis.signatures import TENSOR_NAMES, Parameters, parameters_of
from graphflops.core.errors import UsageError
from graphflops.core.messages import first_of, format_value
from graphflops.core.torch_compat import tree_any, tree_map
from graphflops.tracing.copies.layouts import MAX_KNOWN_ELEMENTS

if TYPE_CHECKING:
    import numpy

_HOW_TO = "pass a tuple of inputs, analyze(model, (x,)); or a tensor, a shape such as (1, 3, 224, 224), or a dict"
_ID_NAMES = frozenset({"ids", "idx", "indices", "tokens"})
_ID_ENDINGS = ("_ids", "_mask")
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

InputsLike: TypeAlias = "Sequence[Any] | torch.Tensor | Mapping[str, Any] | numpy.ndarray[Any, Any]"
"""Positional inputs, one tensor or array, the shape of one, several shapes, or keyword inputs."""
Sizes: TypeAlias = "Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Sequence[int]]"
"""The shape of an input, several shapes, or a dict from names of inputs to shapes."""


class Inputs(NamedTuple):
    """The inputs of a call, and what was decided about them."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()


def read_inputs(model: Any, args: Any, kwargs: Mapping[str, Any] | None = None, input_size: Any = None) -> Inputs:
    """Return the positional and keyword inputs that the arguments of ``analyze`` describe.

    ``args`` is a tuple or list of inputs; one tensor or array; the shape of one, or several shapes; a dict of keyword
    inputs. ``input_size`` is a shape, a list of shapes, or a dict of them, whatever forward takes.

    Raises:
        UsageError: it is none of these, or it may be two of them; the message says how to write each.
    """
    reader = _Reader(model)
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UsageError(f"kwargs must be a dict from argument names of forward to inputs, not {type(kwargs).__name__}")
    keywords = dict(kwargs or {})
    if input_size is not None:
        if not isinstance(args, tuple) or args:
            raise UsageError("args and input_size are both given: keep one")
        args = _shapes(input_size)
        if isinstance(args, Mapping):
            keywords |= {name: reader.tensor_of_shape(name, shape) for name, shape in args.items()}
            return reader.inputs((), keywords)
        return reader.inputs([reader.tensor_of_shape(i, shape) for i, shape in enumerate(args)], keywords)
    if isinstance(args, Mapping):
        if twice := [name for name in args if name in keywords]:
            raise UsageError(f"the input {twice[0]} is given in args and in kwargs: keep one")
        if reader.takes_dict(args):
            args = (args,)
        else:
            reader.check_names(args)
            keywords, args = {**args, **keywords}, ()
    elif isinstance(args, (torch.Tensor, PackedSequence)) or _is_array(args):
        args = (args,)
    elif not isinstance(args, (tuple, list)):
        raise UsageError(f"args must be a tuple of inputs, not {_described(args)}")
    if not tree_any(_is_tensor, (args, keywords)):
        args = reader.without_tensors(args)
    args = [reader.value(i, value) for i, value in enumerate(reader.arranged(args))]
    return reader.inputs(args, {name: reader.value(name, value) for name, value in keywords.items()})


class _Reader:
    """Reads the inputs of one model. The model is looked at only where its inputs leave something open."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.is_module = isinstance(model, nn.Module)
        self.notes: list[str] = []
        self._parameters: Parameters | None = None

    @property
    def parameters(self) -> Parameters:
        """The parameters of forward."""
        if self._parameters is None:
            self._parameters = parameters_of(self.model)
        return self._parameters

    def inputs(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Inputs:
        """The result, with the notes."""
        return Inputs(tuple(args), kwargs, tuple(self.notes))

    def takes_dict(self, given: Mapping[Any, Any]) -> bool:
        """Whether a dict is the first input itself, which forward annotates as one, and not inputs by name."""
        return self.parameters.kind(0) == "dict" and not any(name in self.parameters.names for name in given)

    def check_names(self, given: Mapping[Any, Any]) -> None:
        """Check that forward has the names of a dict of inputs, if it says which it has."""
        parameters = self.parameters
        if not parameters.is_known or parameters.takes_any_name:
            return
        unexpected = [name for name in given if name not in parameters.names]
        if unexpected:
            listed = ", ".join(parameters.names) or "no inputs"
            raise UsageError(
                f"forward has no parameter {format_value(unexpected[0])}; it takes {listed}. Rename or leave out the "
                f"{'key' if len(unexpected) == 1 else 'keys'} {first_of([format_value(name) for name in unexpected])}, "
                "or write args=(batch,) to pass the dict itself"
            )

    def without_tensors(self, args: tuple[Any, ...] | list[Any]) -> Sequence[Any]:
        """Inputs without a tensor among them: one shape, several shapes, lists of numbers; or values, as they are."""
        if isinstance(args, torch.Size) or (isinstance(args, tuple) and _is_shape(args) and self._is_one_shape(args)):
            return (self.tensor_of_shape(0, tuple(args)),)
        if not (args and self.is_module):
            return args
        kinds = {self.parameters.kind(i) for i in range(len(args))}
        if all(map(_is_shape, args)) and kinds.isdisjoint({"value", "list"}):
            return [self.tensor_of_shape(i, shape) for i, shape in enumerate(args)]
        if isinstance(args, list) and _is_numbers(args) and kinds not in ({"value"}, {"list"}):
            return (self._tensor_of_list(0, args),)
        return args

    def arranged(self, args: Sequence[Any]) -> Sequence[Any]:
        """A list of tensors as one input where forward takes a list; a batch without its labels."""
        if not args or not self.is_module:
            return args
        if isinstance(args, list) and self.parameters.kind(0) == "list" and all(map(_is_tensor, args)):
            return (args,)
        if len(args) == 2 and all(map(_is_tensor, args)) and self.parameters.max_positional == 1:
            batch, labels = args
            if batch.is_floating_point() and not labels.is_floating_point() and batch.shape[:1] == labels.shape[:1]:
                self.notes.append(
                    f"forward takes one input: the second of the batch, {_spec(labels)}, is taken for labels, and is "
                    "not passed"
                )
                return (batch,)
        return args

    def value(self, place: int | str, value: Any) -> Any:
        """An input as a tensor if it is an array, or a shape or list where forward takes a tensor."""
        if _is_tensor(value):
            return value
        if _is_array(value) or (isinstance(value, (list, tuple, dict)) and tree_any(_is_array, value)):
            if self.is_module or self.parameters.kind(place) == "tensor":
                return tree_map(lambda leaf: self._tensor_of_array(place, leaf) if _is_array(leaf) else leaf, value)
        elif _is_shape(value) and self._takes_tensor(place):
            return self.tensor_of_shape(place, value)
        elif isinstance(value, list) and _is_numbers(value) and self._takes_tensor(place):
            return self._tensor_of_list(place, value)
        return value

    def tensor_of_shape(self, place: int | str, shape: Sequence[int]) -> torch.Tensor:
        """A meta tensor of a shape; its dtype is that of the model's parameters, or int64 for token ids."""
        name = self.parameters.name(place)
        reason = "the dtype of the model's parameters"
        dtype = self._float_dtype()
        if dtype is None:
            dtype, reason = torch.get_default_dtype(), "the default dtype"
        if self._takes_ids(place):
            dtype, reason = torch.int64, "the dtype of token ids"
        try:
            tensor = torch.empty(tuple(shape), dtype=dtype, device="meta")
        except (RuntimeError, TypeError, OverflowError) as error:
            raise UsageError(f"no tensor has the shape {format_value(tuple(shape))}: {error}") from error
        self.notes.append(f"{name} is {_spec(tensor)}, made from its shape with {reason}")
        return tensor

    def _is_one_shape(self, args: tuple[int, ...]) -> bool:
        """Whether a tuple of ints is the shape of one input, and not an input for each."""
        parameters = self.parameters
        count = len(args)
        if parameters.is_known and not parameters.required <= count <= parameters.max_positional:
            return True
        kinds = {parameters.kind(i) for i in range(count)}
        if "tensor" in kinds:
            return True
        if kinds == {"value"} or not self.is_module:
            return False
        if parameters.name(0) in TENSOR_NAMES:
            return True
        numbers = ", ".join(f"{parameters.name(i)!r}: {number}" for i, number in enumerate(args))
        raise UsageError(
            f"{args} may be a shape or {'a number' if count == 1 else f'{count} numbers'}: write input_size={args} for "
            f"a tensor of this shape, or kwargs={{{numbers}}}"
        )

    def _takes_tensor(self, place: int | str) -> bool:
        """Whether forward annotates a tensor, or calls a parameter of a module by a usual name of one."""
        kind, name = self.parameters.kind(place), self.parameters.name(place)
        return kind == "tensor" or (
            not kind and self.is_module and (name in TENSOR_NAMES or name.endswith(_ID_ENDINGS))
        )

    def _takes_ids(self, place: int | str) -> bool:
        """Whether an input is of token ids, by its annotation or name, or as the first of a model of embeddings."""
        parameters = self.parameters
        name = parameters.name(place)
        if parameters.is_integer(place) or name in _ID_NAMES or name.endswith(_ID_ENDINGS):
            return True
        is_first = place == 0 or (parameters.names and place == parameters.names[0])
        return bool(is_first) and self.is_module and isinstance(_first_module(self.model), _EMBEDDINGS)

    def _float_dtype(self) -> torch.dtype | None:
        """The dtype of the model's first parameter that is a floating-point number of at least two bytes."""
        dtypes = (parameter.dtype for _, parameter in _parameters(self.model))
        return next((dtype for dtype in dtypes if dtype.is_floating_point and dtype.itemsize > 1), None)

    def _tensor_of_array(self, place: int | str, array: Any) -> Any:
        """A real tensor of an array of integers or bools; a meta tensor of one of floats, of the model's dtype."""
        name = self.parameters.name(place)
        try:
            dtype = torch.from_numpy(array[:0].copy() if array.ndim else array.reshape(1).copy()).dtype
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"the input {name} is an array of {array.dtype}, which no tensor is: {error}") from error
        if not dtype.is_floating_point:
            if array.size <= MAX_KNOWN_ELEMENTS:
                return torch.from_numpy(array.copy())
            return torch.empty(array.shape, dtype=dtype, device="meta")
        model_dtype = self._float_dtype() or dtype
        if model_dtype is not dtype:
            self.notes.append(
                f"{name} is an array of {array.dtype}, read with the dtype of the model's parameters, "
                f"{str(model_dtype).removeprefix('torch.')}"
            )
        return torch.empty(array.shape, dtype=model_dtype, device="meta")

    def _tensor_of_list(self, place: int | str, values: list[Any]) -> torch.Tensor:
        """The integers of a list of lists as token ids."""
        name = self.parameters.name(place)
        if not self._takes_ids(place) or any(type(item) is int for item in values):
            raise UsageError(
                f"the input {name} is a list of numbers, {format_value(values)}: write torch.tensor([…]) for these "
                "values, as return_tensors='pt' of a tokenizer does; or a tuple, such as (1, 3, 224, 224), for a shape"
            )
        try:
            tensor = torch.tensor(values, dtype=torch.int64, device="cpu")
        except (ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"the lists of the input {name} make no tensor: give them the same length (padding=True of a "
                f"tokenizer), or write shapes as tuples: {error}"
            ) from error
        self.notes.append(f"{name} is {_spec(tensor)}, token ids made from a list")
        return tensor


def _shapes(input_size: Any) -> Sequence[Sequence[int]] | Mapping[str, Sequence[int]]:
    """The shapes of ``input_size``: one, several, or a dict of them."""
    if isinstance(input_size, Mapping):
        if all(isinstance(name, str) and _is_sizes(shape) for name, shape in input_size.items()):
            return input_size
    elif _is_sizes(input_size):
        return (input_size,)
    elif isinstance(input_size, (tuple, list)) and all(map(_is_sizes, input_size)):
        return input_size
    raise UsageError(
        "input_size must be a shape, such as (1, 3, 224, 224), a list of shapes, or a dict from names of inputs to "
        f"shapes, not {format_value(input_size)}"
    )


def _is_sizes(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(type(size) is int and size >= 0 for size in value) and bool(value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and _is_sizes(value)


def _is_numbers(value: Any) -> bool:
    """Whether a value is an integer, or lists of lists of them."""
    return all(map(_is_numbers, value)) and bool(value) if isinstance(value, list) else type(value) is int


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _parameters(model: Any) -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """Yield the parameters of a module, each with the module that holds it, in the order in which they are held."""
    remaining: list[nn.Module | None] = [model] if isinstance(model, nn.Module) else []
    visited: set[int] = set()
    while remaining:
        module = remaining.pop()
        if module is not None and id(module) not in visited:
            visited.add(id(module))
            yield from ((module, parameter) for parameter in module._parameters.values() if parameter is not None)
            remaining += reversed(module._modules.values())


def _first_module(model: Any) -> nn.Module | None:
    return next((module for module, _ in _parameters(model)), None)


def _spec(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _described(value: Any) -> str:
    if isinstance(value, str):
        return "a string: pass its token ids, as from tokenizer(text, return_tensors='pt')"
    if isinstance(value, torch.utils.data.DataLoader):
        return "a DataLoader: pass a batch, next(iter(loader))"
    return f"{type(value).__name__}: {_HOW_TO}"
