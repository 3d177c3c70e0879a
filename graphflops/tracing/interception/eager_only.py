"""Eager reference code in place of what PyTorch selects by mode, machine or compiler, so that a model has one answer.

* No fused kernels: their work is that of the operators they fuse.
* An operator on a list of tensors runs as a loop of the operator on one tensor (``foreach.py``).
* Every device is the one that all fake tensors are on.
* Compiled code runs uncompiled, and control flow of the compiler (``cond``, ``scan``, ``while_loop``,
  ``flex_attention``) as Python.
* ``torch.inference_mode`` is ``torch.no_grad``: under the real one composite operators hide the operators they run.
* A module that the program converts (``layer.to(dtype)``) holds the converted parameters, under their names.
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

from graphflops.core.torch_compat import (
    DisableTorchFunction,
    DispatchKey,
    HigherOrderOperator,
    is_function_call,
    no_dispatch_modes,
    set_grad_enabled,
    tree_leaves,
)
from graphflops.tracing.interception.foreach import foreach_loop
from graphflops.tracing.values.constant_propagation import ConstantPropagation
from graphflops.tracing.values.failures import NO_ADDRESS

Decide = Callable[[torch.Tensor], bool]
"""returns the truth value of a tensor of one element"""


@contextmanager
def eager_reference_mode(values: ConstantPropagation, decide: Decide) -> Iterator[None]:
    """Run eager reference code in this thread while this is open; ``decide`` selects the branch of a ``cond``.

    Real tensors that a program refers to by globals, or by objects that cannot be copied, are replaced by their fake
    tensors in every call, so that the program writes to these.

    Under any function mode PyTorch takes no fast path of attention.
    """
    with _EagerReferenceMode(values, decide), _unspecialized():
        yield


@contextmanager
def _unspecialized() -> Iterator[None]:
    """TorchScript runs the original graph, also after it has created one that is specialized to earlier runs.

    A specialized graph has a differentiation of its own, and in it fake tensors do not require grad. The setting is
    the thread's.
    """
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        yield


def identity_compile(model: Any = None, **options: Any) -> Any:
    """``torch.compile`` without compilation."""
    return model if model is not None else lambda decorated: decorated


class InferenceModeAsNoGrad:
    """``torch.inference_mode`` as ``torch.no_grad``, and ``inference_mode(False)`` as ``torch.enable_grad``."""

    _thread = threading.local()

    def __init__(self, mode: bool = True) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        self._before = torch.is_grad_enabled(), self.is_entered()
        set_grad_enabled(not self.mode)
        self._thread.entered = self.mode

    def __exit__(self, *raised: object) -> None:
        grad, self._thread.entered = self._before
        set_grad_enabled(grad)

    @classmethod
    def is_entered(cls) -> bool:
        """Whether this thread is in inference mode."""
        return getattr(cls._thread, "entered", False)


def convert_module(module: nn.Module, convert: Callable[[Any], Any], recurse: bool = True) -> nn.Module:
    """``Module._apply`` that replaces parameters and buffers, where PyTorch's sets their data, which fakes lack."""
    for child in module.children() if recurse else ():
        convert_module(child, convert)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                converted = convert(parameter)
            if converted is not parameter:
                module._parameters[name] = nn.Parameter(converted, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        module._buffers[name] = convert(buffer) if buffer is not None else None
    return module


class _EagerReferenceMode(TorchFunctionMode):
    """Replaces functions and arguments in calls of torch functions."""

    def __init__(self, values: ConstantPropagation, decide: Decide) -> None:
        super().__init__()
        self.values = values
        self.decide = decide

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replace_real_tensors = self.values.fakes.replace_real_tensors
        args, kwargs = replace_real_tensors(args), dict(replace_real_tensors(kwargs)) if kwargs else {}
        if function in _ADDRESSES:
            raise RuntimeError(NO_ADDRESS)
        if function in _AS_DATA and (data := self._data(args[0])) is not None:
            with no_dispatch_modes(), DisableTorchFunction():
                return function(data, *args[1:], **kwargs)
        if isinstance(function, HigherOrderOperator) and not is_function_call(function):
            with self:
                return self._as_python(function, args, kwargs)
        if function is torch.lstm and isinstance(args[1], (tuple, list)):
            with DisableTorchFunction():
                return _lstm(*args, **kwargs)
        if (loop := foreach_loop(function)) is not None:
            with DisableTorchFunction():
                return loop(*args, **kwargs)
        if function is torch.Tensor.__deepcopy__ and args[0].is_leaf:  # PyTorch refuses others
            return _deepcopy(*args)
        if function in _CONSTRUCTORS and _has_scalar_tensors(args[-1]):
            default = args[0].dtype if function is torch.Tensor.new_tensor else None
            return _stack_scalars(args[-1], kwargs.get("dtype") or default, kwargs.get("requires_grad", False))
        if function is torch.Tensor.cuda:
            return args[0]
        if function is torch.Tensor.__format__ and not args[0].dim():
            return format(args[0].item(), *args[1:])  # as a real tensor does, and no fake one
        if getattr(function, "__name__", "") == "_pad_packed_sequence":
            return _pad_packed_sequence(*args, **kwargs)
        if function is torch.Tensor.to:
            args = tuple(torch.device("cpu") if _is_device(arg) else arg for arg in args)
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        return function(*args, **kwargs)

    def _as_python(self, op: HigherOrderOperator, args: Any, kwargs: Mapping[str, Any]) -> Any:
        name = op.name()  # type: ignore[no-untyped-call]
        if name == "cond":
            condition, true_branch, false_branch, operands = args
            return (true_branch if self._is_true(condition) else false_branch)(*operands)
        if name == "scan":
            return _scan(*args)
        kernel = op.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
        return (kernel or op)(*args, **kwargs)

    def _data(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A copy of a tensor's data, if it is known; in a training step also an assumed number, to be logged."""
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


def _scan(step: Any, init: Sequence[Any], xs: Sequence[Any], additional: Sequence[Any]) -> list[torch.Tensor]:
    """``scan`` as a Python loop: the final carry, and the outputs of all steps, stacked.

    The loop of PyTorch 2.8 calls the step once more than there are elements.
    """
    carry, outputs = [*init], []
    for index in range(len(xs[0])):
        results = step(*carry, *(x[index] for x in xs), *additional)
        carry = [*results[: len(init)]]
        outputs.append(results[len(init) :])
    return [*carry, *map(torch.stack, zip(*outputs, strict=True))]


_CONSTRUCTORS = {torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor}


def _deepcopy(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    """``Tensor.__deepcopy__`` for fake tensors."""
    if id(tensor) not in memo:
        copied = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):  # whose copy has no gradient
            memo[id(tensor)] = nn.Parameter(copied, tensor.requires_grad)
        else:
            memo[id(tensor)] = copied.requires_grad_(tensor.requires_grad)
            copied.grad = None if tensor.grad is None else _deepcopy(tensor.grad, memo)
    return memo[id(tensor)]  # type: ignore[no-any-return]


def _has_scalar_tensors(data: Any) -> bool:
    """Whether a list, nested or not, has tensors among its numbers, all without dimensions."""
    tensors = [leaf for leaf in tree_leaves(data) if torch.is_tensor(leaf)]
    return isinstance(data, (list, tuple)) and bool(tensors) and not any(tensor.dim() for tensor in tensors)


def _stack_scalars(data: Any, dtype: torch.dtype | None, requires_grad: bool) -> torch.Tensor:
    """A tensor of such a list. PyTorch's own constructors read the value of each, which fake tensors lack."""
    leaves = [leaf if torch.is_tensor(leaf) else torch.tensor(leaf) for leaf in tree_leaves(data)]
    common = dtype or functools.reduce(torch.promote_types, (leaf.dtype for leaf in leaves))

    def stack(member: Any) -> torch.Tensor:
        if isinstance(member, (list, tuple)):
            return torch.stack([*map(stack, member)])
        return member.detach().to(common) if torch.is_tensor(member) else torch.tensor(member, dtype=common)

    return stack(data).requires_grad_(requires_grad)


def _pad_packed_sequence(
    data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``torch._C._VF._pad_packed_sequence`` for fake tensors: PyTorch's own writes to their memory."""
    with no_dispatch_modes(), DisableTorchFunction():
        sizes = batch_sizes.tolist()
        step = torch.arange(len(sizes)).repeat_interleave(batch_sizes)
        sequence = torch.cat([torch.arange(size) for size in sizes])
        lengths = (batch_sizes[:, None] > torch.arange(sizes[0])).sum(0)
    padded = data.new_full((max(len(sizes), total_length), sizes[0], *data.shape[1:]), padding)
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
    """``torch.lstm`` as PyTorch runs it on a CPU without oneDNN, which is a setting of the whole process."""
    output = input.transpose(0, 1) if batch_first else input
    hidden, cells = hx[0].unbind(0), hx[1].unbind(0)
    per_cell = (4 if has_biases else 2) + (hx[0].shape[2] != hx[1].shape[2])  # one more is the projection
    states: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer in range(layers):
        directions = []
        for direction in range(2 if bidirectional else 1):
            cell = len(states)
            own_weights = weights[cell * per_cell : (cell + 1) * per_cell]
            steps, state = _lstm_direction(output, (hidden[cell], cells[cell]), own_weights, has_biases, direction)
            directions.append(torch.stack(steps, 0))
            states.append(state)
        output = torch.cat(directions, -1) if bidirectional else directions[0]
        if dropout and train and layer < layers - 1:
            output = torch.dropout(output, dropout, True)
    last, last_cells = (torch.stack(tensors, 0) for tensors in zip(*states, strict=True))
    return output.transpose(0, 1) if batch_first else output, last, last_cells


def _lstm_direction(
    input: torch.Tensor,
    state: tuple[torch.Tensor, torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    backwards: int,
) -> tuple[list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    input_weight, hidden_weight, *rest = weights
    biases, projection = (rest[:2], rest[2:]) if has_biases else ((None, None), rest)
    steps = F.linear(input, input_weight, biases[0]).unbind(0)
    hidden, cell = state
    outputs = []
    for step in reversed(steps) if backwards else steps:
        gates = F.linear(hidden, hidden_weight, biases[1]).add_(step)
        chunks = gates.unsafe_chunk(4, 1)
        input_gate, forget_gate = chunks[0].sigmoid_(), chunks[1].sigmoid_()
        cell_gate, output_gate = chunks[2].tanh_(), chunks[3].sigmoid_()
        cell = (forget_gate * cell).add_(input_gate * cell_gate)
        hidden = output_gate * cell.tanh()
        if projection:
            hidden = torch.matmul(hidden, projection[0].t())
        outputs.append(hidden)
    return outputs[::-1] if backwards else outputs, (hidden, cell)


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))
