"""What PyTorch does otherwise by mode, machine or compiler, done one plain way, so that a model has one answer.

* Fused kernels that are picked by mode or machine are not: their work is that of the operators they fuse.
* What asks for a device gets the one that all stand-ins are on.
* What is compiled runs uncompiled, and control flow of the compiler (``cond``, ``scan``, ``while_loop``,
  ``flex_attention``) as the Python that it stands for.
* A module that is converted on the way (``layer.to(dtype)``) holds the converted parameters, under their names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._C import DispatchKey
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

Decide = Callable[[torch.Tensor], bool]
"""whether a tensor of one truth value is true"""


@contextmanager
def plainly(decide: Decide) -> Iterator[None]:
    """Everything plain while this is open; ``decide`` says which branch a ``cond`` takes."""
    printed = _replaced(torch.SymFloat, "__format__", lambda number, how: str(number))  # however it is to be rounded
    with plain_kernels(), _uncompiled(), _replaced(nn.Module, "_apply", _converted), printed, _Plain(decide):
        yield


@contextmanager
def plain_kernels() -> Iterator[None]:
    """No fused kernels that PyTorch picks by mode or machine."""
    fast_path, onednn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch._C._set_mkldnn_enabled(onednn)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Functions that are compiled, or were before, run as they are written."""
    with ExitStack() as stack:
        stack.enter_context(_replaced(torch, "compile", _as_it_is))
        stack.enter_context(_unspecialized())
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        flex = sys.modules.get("torch.nn.attention.flex_attention")
        if flex is not None:  # it refuses to be trained on a CPU
            stack.enter_context(_replaced(flex, "_validate_device", lambda *_: None))
        yield


@contextmanager
def _unspecialized() -> Iterator[None]:
    """TorchScript runs the graph that was written, also after it has made one of its own of runs that it watched.

    Its own differentiates in a way of its own, and in it stand-ins do not require grad. The setting is the thread's.
    """
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before) if own else delattr(owner, name)


def _as_it_is(model: Any = None, **options: Any) -> Any:
    return model if model is not None else lambda decorated: decorated


def _converted(module: nn.Module, convert: Callable[[Any], Any], recurse: bool = True) -> nn.Module:
    """``Module._apply`` by putting what is converted in the place of what was there, which fake tensors allow."""
    for child in module.children() if recurse else ():
        _converted(child, convert)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                made = convert(parameter)
            if made is not parameter:
                module._parameters[name] = nn.Parameter(made, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        module._buffers[name] = convert(buffer) if buffer is not None else None
    return module


class _Plain(TorchFunctionMode):
    """Takes devices out of calls, and runs the compiler's control flow as Python."""

    def __init__(self, decide: Decide) -> None:
        super().__init__()
        self.decide = decide

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(function, HigherOrderOperator):
            with self:
                return self._as_python(function, args, kwargs)
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
            from torch._higher_order_ops.scan import generic_scan

            step, start, sequence, rest = args
            return generic_scan(step, start, sequence, additional_inputs=rest)  # type: ignore[no-untyped-call]
        kernel = program.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
        return (kernel or program)(*args, **kwargs)

    def _is_true(self, truth: Any) -> bool:
        return self.decide(truth) if torch.is_tensor(truth) else bool(truth)


def _padded(
    data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed sequences put in their places, as PyTorch's own does by writing to memory that stand-ins do not have."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        many = batch_sizes.tolist()
        step = torch.arange(len(many)).repeat_interleave(batch_sizes)
        sequence = torch.cat([torch.arange(each) for each in many])
        lengths = (batch_sizes[:, None] > torch.arange(many[0])).sum(0)
    padded = data.new_full((max(len(many), total_length), many[0], *data.shape[1:]), padding)
    padded = padded.index_put((step, sequence), data)
    return padded.transpose(0, 1) if batch_first else padded, lengths


def _is_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device))
