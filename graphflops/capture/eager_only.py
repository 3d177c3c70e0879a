"""What PyTorch does otherwise by mode, machine or compiler, done one plain way, so that a model has one answer.

* Fused kernels that are picked by mode or machine are not: their work is that of the operators they fuse.
* An operator on a list of tensors is the operator on one, for each (``graphflops.capture.foreach``).
* What asks for a device gets the one that all stand-ins are on.
* What is compiled runs uncompiled, and control flow of the compiler (``cond``, ``scan``, ``while_loop``,
  ``flex_attention``) as the Python that it stands for.
* ``torch.inference_mode`` is ``torch.no_grad``: under the real one composite operators hide what they run.
* A module that is converted on the way (``layer.to(dtype)``) holds the converted parameters, under their names.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from graphflops.capture.constant_propagation import ConstantPropagation
from graphflops.capture.foreach import foreach_loop
from graphflops.core.errors import CaptureError
from graphflops.core.torch_compat import (
    DisableTorchFunction,
    DispatchKey,
    HigherOrderOperator,
    is_function_call,
    no_dispatch_modes,
    set_grad_enabled,
    tree_leaves,
)

Decide = Callable[[torch.Tensor], bool]
"""whether a tensor of one truth value is true"""


@contextmanager
def eager_reference_mode(values: ConstantPropagation, decide: Decide) -> Iterator[None]:
    """Everything plain in this thread while this is open; ``decide`` says which branch a ``cond`` takes.

    Real tensors that a program finds by itself, among globals or in what cannot be copied, are replaced by their
    stand-ins wherever they are used, so that what is written to them is written to these.

    A mode of functions is enough for the fast paths of attention, which PyTorch takes only where nobody looks on.
    """
    with _EagerReferenceMode(values, decide), _unspecialized():
        yield


@contextmanager
def _unspecialized() -> Iterator[None]:
    """TorchScript runs the graph that was written, also after it has made one of its own of runs that it watched.

    Its own differentiates in a way of its own, and in it stand-ins do not require grad. The setting is the thread's.
    """
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        yield


def identity_compile(model: Any = None, **options: Any) -> Any:
    """``torch.compile`` that compiles nothing."""
    return model if model is not None else lambda decorated: decorated


class InferenceModeAsNoGrad:
    """``torch.inference_mode`` as ``torch.no_grad``, and one that is off as ``torch.enable_grad``."""

    _here = threading.local()

    def __init__(self, mode: bool = True) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        self._before = torch.is_grad_enabled(), self.is_entered()
        set_grad_enabled(not self.mode)
        self._here.entered = self.mode

    def __exit__(self, *raised: object) -> None:
        grad, self._here.entered = self._before
        set_grad_enabled(grad)

    @classmethod
    def is_entered(cls) -> bool:
        """Whether this thread is in one."""
        return getattr(cls._here, "entered", False)


def convert_module(module: nn.Module, convert: Callable[[Any], Any], recurse: bool = True) -> nn.Module:
    """``Module._apply`` by putting what is converted in the place of what was there, which fake tensors allow."""
    for child in module.children() if recurse else ():
        convert_module(child, convert)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                made = convert(parameter)
            if made is not parameter:
                module._parameters[name] = nn.Parameter(made, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        module._buffers[name] = convert(buffer) if buffer is not None else None
    return module


class _EagerReferenceMode(TorchFunctionMode):
    """Takes devices out of calls, and runs the compiler's control flow as Python."""

    def __init__(self, values: ConstantPropagation, decide: Decide) -> None:
        super().__init__()
        self.values = values
        self.decide = decide

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replace_real_tensors = self.values.fakes.replace_real_tensors
        args, kwargs = replace_real_tensors(args), dict(replace_real_tensors(kwargs)) if kwargs else {}
        if function in _ADDRESSES:
            raise CaptureError(_NO_ADDRESS)
        if function in _AS_DATA and (data := self._data(args[0])) is not None:
            with no_dispatch_modes(), DisableTorchFunction():
                return function(data, *args[1:], **kwargs)
        if isinstance(function, HigherOrderOperator) and not is_function_call(function):
            with self:
                return self._as_python(function, args, kwargs)
        if function is torch.lstm and isinstance(args[1], (tuple, list)):
            with DisableTorchFunction():
                return _lstm(*args, **kwargs)
        if (one := foreach_loop(function)) is not None:
            with DisableTorchFunction():
                return one(*args, **kwargs)
        if function is torch.Tensor.__deepcopy__ and args[0].is_leaf:  # of others PyTorch makes none
            return _deep_copied(*args)
        if function in _OF_NUMBERS and _is_of_scalars(args[-1]):
            like = args[0].dtype if function is torch.Tensor.new_tensor else None
            return _of_scalars(args[-1], kwargs.get("dtype") or like, kwargs.get("requires_grad", False))
        if function is torch.Tensor.cuda:
            return args[0]
        if function is torch.Tensor.__format__ and not args[0].dim():
            return format(args[0].item(), *args[1:])  # what a real tensor does, and only a real one
        if getattr(function, "__name__", "") == "_pad_packed_sequence":
            return _padded(*args, **kwargs)
        if function is torch.Tensor.to:
            args = tuple(torch.device("cpu") if _is_device(each) else each for each in args)
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        return function(*args, **kwargs)

    def _as_python(self, program: HigherOrderOperator, args: Any, kwargs: Mapping[str, Any]) -> Any:
        name = program.name()  # type: ignore[no-untyped-call]
        if name == "cond":
            truth, yes, no, operands = args
            return (yes if self._is_true(truth) else no)(*operands)
        if name == "scan":
            step, start, sequence, rest = args
            return _scan(step, start, sequence, rest)
        kernel = program.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
        return (kernel or program)(*args, **kwargs)

    def _data(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A copy of what a tensor holds, if that is known and nothing was assumed of it, but in a step."""
        with DisableTorchFunction():
            value = self.values.read(tensor)
        is_logged = value is None and tensor.is_floating_point() and self.values.numbers.may_log()
        number = self.values.numbers.assume_logged() if is_logged else None
        with no_dispatch_modes(), DisableTorchFunction():
            if number is not None:  # one element in memory, whatever the shape
                return torch.full((), number, dtype=tensor.dtype).expand(tensor.shape)
            return None if value is None else value.tensor.detach().clone()

    def _is_true(self, truth: Any) -> bool:
        return self.decide(truth) if torch.is_tensor(truth) else bool(truth)


_ADDRESSES = {torch.Tensor.data_ptr, torch.UntypedStorage.data_ptr, torch.TypedStorage.data_ptr}
_AS_DATA = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}
_NO_ADDRESS = (
    "the address of a tensor was asked for, and a tensor without data has none: a kernel that is called by pointers "
    "cannot be run here"
)


def _scan(step: Any, start: Sequence[Any], sequence: Sequence[Any], rest: Sequence[Any]) -> list[torch.Tensor]:
    """``scan`` as a Python loop: the final carry, and the outputs of all steps, stacked.

    The loop of PyTorch 2.8 calls the step once more than there are elements.
    """
    carried, made = [*start], []
    for index in range(len(sequence[0])):
        results = step(*carried, *(each[index] for each in sequence), *rest)
        carried = [*results[: len(start)]]
        made.append(results[len(start) :])
    return [*carried, *map(torch.stack, zip(*made, strict=True))]


_OF_NUMBERS = {torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor}


def _deep_copied(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    """Deep copy of a fake tensor, as ``Tensor.__deepcopy__`` makes it of a real one."""
    if id(tensor) not in memo:
        made = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):  # which leaves its gradient behind
            memo[id(tensor)] = nn.Parameter(made, tensor.requires_grad)
        else:
            memo[id(tensor)] = made.requires_grad_(tensor.requires_grad)
            made.grad = None if tensor.grad is None else _deep_copied(tensor.grad, memo)
    return memo[id(tensor)]  # type: ignore[no-any-return]


def _is_of_scalars(data: Any) -> bool:
    """Whether a list, nested or not, has tensors among its numbers, and none of several elements."""
    tensors = [each for each in tree_leaves(data) if torch.is_tensor(each)]
    return isinstance(data, (list, tuple)) and bool(tensors) and not any(each.dim() for each in tensors)


def _of_scalars(data: Any, dtype: torch.dtype | None, requires_grad: bool) -> torch.Tensor:
    """A tensor of such a list. PyTorch's own asks each for its number; none of them has any here."""
    leaves = [each if torch.is_tensor(each) else torch.tensor(each) for each in tree_leaves(data)]
    common = dtype or functools.reduce(torch.promote_types, (each.dtype for each in leaves))

    def made(each: Any) -> torch.Tensor:
        if isinstance(each, (list, tuple)):
            return torch.stack([*map(made, each)])
        return each.detach().to(common) if torch.is_tensor(each) else torch.tensor(each, dtype=common)

    return made(data).requires_grad_(requires_grad)


def _padded(
    data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed sequences put in their places, as PyTorch's own does by writing to memory that stand-ins do not have."""
    with no_dispatch_modes(), DisableTorchFunction():
        many = batch_sizes.tolist()
        step = torch.arange(len(many)).repeat_interleave(batch_sizes)
        sequence = torch.cat([torch.arange(each) for each in many])
        lengths = (batch_sizes[:, None] > torch.arange(many[0])).sum(0)
    padded = data.new_full((max(len(many), total_length), many[0], *data.shape[1:]), padding)
    padded = padded.index_put((step, sequence), data)
    return padded.transpose(0, 1) if batch_first else padded, lengths


def _lstm(
    input: torch.Tensor,
    hx: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An LSTM as PyTorch runs it on a CPU where oneDNN is off, which is a switch for the whole process."""
    output = input.transpose(0, 1) if batch_first else input
    hidden, cells = hx[0].unbind(0), hx[1].unbind(0)
    each = (4 if has_biases else 2) + (hx[0].shape[2] != hx[1].shape[2])  # with a projection if the sizes differ
    states: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer in range(layers):
        directions = []
        for direction in range(2 if bidirectional else 1):
            place = len(states)
            steps, state = _lstm_direction(
                output, (hidden[place], cells[place]), weights[place * each : (place + 1) * each], has_biases, direction
            )
            directions.append(torch.stack(steps, 0))
            states.append(state)
        output = torch.cat(directions, -1) if bidirectional else directions[0]
        if dropout and train and layer < layers - 1:
            output = torch.dropout(output, dropout, True)
    last, last_cells = (torch.stack(each, 0) for each in zip(*states, strict=True))
    return output.transpose(0, 1) if batch_first else output, last, last_cells


def _lstm_direction(
    input: torch.Tensor,
    state: tuple[torch.Tensor, torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    backwards: int,
) -> tuple[list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    of_input, of_hidden, *rest = weights
    biases, projection = (rest[:2], rest[2:]) if has_biases else ((None, None), rest)
    steps = F.linear(input, of_input, biases[0]).unbind(0)
    hidden, cell = state
    outputs = []
    for step in reversed(steps) if backwards else steps:
        gates = F.linear(hidden, of_hidden, biases[1]).add_(step)
        chunks = gates.unsafe_chunk(4, 1)
        enter, forget, new, leave = chunks[0].sigmoid_(), chunks[1].sigmoid_(), chunks[2].tanh_(), chunks[3].sigmoid_()
        cell = (forget * cell).add_(enter * new)
        hidden = leave * cell.tanh()
        if projection:
            hidden = torch.matmul(hidden, projection[0].t())
        outputs.append(hidden)
    return outputs[::-1] if backwards else outputs, (hidden, cell)


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))
