"""The state that an analysis could change: objects, tensors to the bit, and settings of the process.

``state_of(roots)`` is compared before and after. It includes attributes, containers, slots, closures, and
the globals and class attributes of the files that define the classes of objects, and functions.
"""

import collections
import ctypes
import functools
import hashlib
import logging
import random
import signal
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

try:
    import numpy
except ImportError:
    numpy = None

State = dict[str, Any]
PLAIN = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size, range, slice)
RECREATED = (tuple, types.MethodType, types.BuiltinMethodType)
"""classes of objects that may be new at each access"""
LIBRARIES = {
    *sys.stdlib_module_names,
    "torch",
    "numpy",
    "graphflops",
    "transformers",
    "torchvision",
    "timm",
    "pytest",
    "_pytest",
}
TESTING = {"_pytest", "pytest", "pluggy", "xdist", "hypothesis"}


def state_of(*roots: Any, files: bool = True) -> State:
    """Path → value, for all objects that are reachable, through ``files`` too, and for settings of the process."""
    state: State = {f"process: {name}": value for name, value in _process()}
    visited: dict[int, str] = {}
    pending: list[tuple[str, Any]] = [(f"[{i}]", root) for i, root in enumerate(roots)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, PLAIN):
            state[path] = value
            continue
        state[path] = (id(value) if not isinstance(value, RECREATED) else 0, type(value).__name__)
        if id(value) in visited:
            continue
        visited[id(value)] = path
        if isinstance(value, torch.Tensor):
            state[f"{path}: tensor"] = _tensor(value)
            pending.append((f"{path}.grad", value.grad if value.is_leaf else None))
        pending += ((f"{path}{name}", inner) for name, inner in _parts(value, files))
    return state


def differences(before: State, after: State) -> list[str]:
    """The paths at which two states differ, with both values."""
    paths = [*dict.fromkeys((*before, *after))]
    return [f"{path}: {before.get(path)} → {after.get(path)}" for path in paths if before.get(path) != after.get(path)]


def _tensor(tensor: torch.Tensor) -> Any:
    bits = None
    if type(tensor).__name__ != "FakeTensor" and not tensor.is_meta and tensor.layout == torch.strided:
        dense = tensor.detach().cpu().contiguous()
        bits = hashlib.sha1(ctypes.string_at(dense.data_ptr(), dense.nbytes)).hexdigest() if dense.numel() else ""
    return type(tensor).__name__, tuple(tensor.shape), tensor._version, tensor.requires_grad, bits


def _parts(value: Any, files: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (type, types.ModuleType)):
        name = value.__module__ if isinstance(value, type) else value.__name__
        if name.partition(".")[0] not in LIBRARIES:
            yield from (
                (f".{key}", attribute)
                for key, attribute in vars(value).items()
                if not key.startswith("__") and key != "pytestmark"
            )
        return
    if isinstance(value, types.FunctionType) and (value.__module__ or "").partition(".")[0] in LIBRARIES:
        return
    if (type(value).__module__ or "").partition(".")[0] in TESTING:
        return
    module = sys.modules.get(getattr(type(value), "__module__", ""))
    if module is not None and files:
        yield f"'s file {module.__name__}", module
        yield "'s class", type(value)
    if isinstance(value, dict):
        yield ": keys", repr([key if isinstance(key, PLAIN) else id(key) for key in dict.keys(value)])
        yield from ((f"[{key!r}]", member) for key, member in dict.items(value))
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        base = next(cls for cls in (list, tuple, set, frozenset, collections.deque) if isinstance(value, cls))
        yield ": length", base.__len__(value)  # a subclass may refuse to say
        yield from ((f"[{i}]", member) for i, member in enumerate(base.__iter__(value)))
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            yield "'s closure", cell.cell_contents
        yield "'s defaults", value.__defaults__
        if files and value.__module__ in sys.modules and value.__module__.partition(".")[0] not in LIBRARIES:
            yield "'s file", sys.modules[value.__module__]
    elif isinstance(value, types.MethodType):
        yield "'s function", value.__func__
        yield "'s object", value.__self__
    elif isinstance(value, functools.partial):
        yield from (("'s function", value.func), ("'s arguments", value.args), ("'s names", value.keywords))
    elif isinstance(value, functools._lru_cache_wrapper):
        yield ": remembers", value.cache_info().currsize
    elif isinstance(value, torch.Generator):
        yield ": state", value.get_state().tolist().__repr__()
    elif isinstance(value, torch.jit.ScriptModule):
        for name, tensor in (*value.named_parameters(), *value.named_buffers()):
            yield (
                f".{name} in C++",
                (
                    type(tensor).__name__,
                    str(tensor.tolist()) if type(tensor) is not torch.Tensor else "",
                ),
            )
    elif numpy is not None and isinstance(value, numpy.ndarray):
        yield ": numbers", value.tobytes()
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        yield ": attributes", repr([*attributes])
        yield from ((f".{name}", attribute) for name, attribute in attributes.items())
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                yield f".{slot}", getattr(value, slot)


def _process() -> Iterator[tuple[str, Any]]:
    yield "torch's random numbers", hash(bytes(torch.get_rng_state().tolist()))
    yield "Python's random numbers", hash(random.getstate())
    if numpy is not None:
        yield (
            "numpy's random numbers",
            hash(str(numpy.random.get_state()[1:]) + numpy.random.get_state()[1].tobytes().hex()),
        )
    yield "default dtype", torch.get_default_dtype()
    yield "default device", str(torch.get_default_device())
    yield "threads of torch", torch.get_num_threads()
    yield "modes of functions", len(torch.overrides._get_current_function_mode_stack())
    yield "modes of operators", torch._C._len_torch_dispatch_stack()
    yield "gradients", (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    yield "autocast", tuple(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    yield "kernels", (torch._C._get_mkldnn_enabled(), torch.backends.mha.get_fastpath_enabled())
    yield "deterministic", torch.are_deterministic_algorithms_enabled()
    yield "anomaly mode", torch.is_anomaly_enabled()
    for owner in (nn.Module, torch.autograd.function._SingleLevelFunction, torch.autograd.Function, random, torch):
        name = getattr(owner, "__name__", "")
        yield (
            f"members of {name}",
            hash(
                tuple(
                    (key, id(attribute))
                    for key, attribute in sorted(vars(owner).items())
                    if callable(attribute) or isinstance(attribute, classmethod)
                )
            ),
        )
    yield "finders", tuple(map(id, sys.meta_path))
    yield "logging", (logging.root.manager.disable, len(logging.getLogger("torch._subclasses.fake_tensor").filters))
    yield "recursion limit", sys.getrecursionlimit()
    yield "size of stacks", threading.stack_size()
    yield "path", tuple(sys.path)
    yield "warnings", len(warnings.filters)
    yield "signals", signal.getsignal(signal.SIGINT)
    yield "lifting", torch._C._only_lift_cpu_tensors()
