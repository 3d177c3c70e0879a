"""Structural copies of a model, without its data: the trace runs on them and writes to them; the original is only read.

Copied are modules, containers, plain objects, and functions that reach any of them. Each tensor becomes a fake tensor.
Shared are values without state of their own (classes, Python modules, torch's functions), and values with a state that
Python cannot see (locks, files, handles of libraries).
"""

from __future__ import annotations

import array
import collections
import copy
import enum
import functools
import io
import random
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.torch_compat import BufferDict, ModuleDict, ParameterDict, RecursiveScriptModule, wrap_cpp_module
from graphflops.tracing.copies.copier_base import Handler
from graphflops.tracing.copies.copy_functions import FunctionCopier
from graphflops.tracing.copies.distributed import bypass_wrapper, without_distributed_hooks
from graphflops.tracing.copies.module_state import MAX_ARRAY_BYTES, may_have_state
from graphflops.tracing.copies.object_state import (
    COPIED_OF_PYTHON,
    DICT_VIEWS,
    is_iterator,
    is_plain,
    is_shared_class,
    object_dict,
    object_slots,
)
from graphflops.tracing.copies.per_analysis import BUILTIN_METHODS

_SHARED: frozenset[type] = frozenset(
    {
        *(int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), range, slice),
        *(type, object, property, staticmethod, classmethod),
        *(types.ModuleType, types.CodeType, types.GenericAlias, types.UnionType, types.WrapperDescriptorType),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
    }
)
"""types whose values cannot be written to, or hold no state of a model"""
_CONTAINERS: tuple[type, ...] = (dict, collections.OrderedDict, set)
_REGISTRIES: frozenset[str] = frozenset(vars(nn.Module()))
"""attributes of every module; an empty container among them is never shared by two modules"""
COMPILED_CALL = "_compiled_call_impl"
"""the attribute of a module, if it is compiled, that PyTorch calls in its place"""


class Copier(FunctionCopier):
    """Copies of one trace. ``fake`` returns the fake tensor of a tensor.

    ``on_optimizer_copied`` is called with the copy of each optimizer.
    """

    def __init__(self, fake: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(fake, _SHARED)
        self.on_optimizer_copied: Callable[[Any], None] | None = None
        self._deferred: set[int] = set()

    def defer(self, module: nn.Module) -> nn.Module:
        """An empty copy of a module, which ``fill`` fills if it is ever needed."""
        copied = self._empty_module(module)
        self._deferred.add(id(module))
        return copied

    def fill(self, module: nn.Module) -> None:
        """Fill the copy of a module that was deferred."""
        if id(module) in self._deferred:
            self._deferred.discard(id(module))
            self._fill_module(module, self._copies[id(module)][1])
            self._run_pending()

    def release(self) -> None:
        """Empty all copies, so that an object that still holds a copy holds nothing else."""
        for original, copied in self._copies.values():
            if copied is original or isinstance(copied, torch.Tensor):
                continue
            if type(copied) is dict:  # as most of them are
                copied.clear()
                continue
            try:
                _empty(copied)
            except Exception:
                continue
        for _, module in self._globals.values():
            vars(module).clear()
        self._copies.clear()
        self._globals.clear()
        self._pending.clear()
        self._final.clear()

    def _find_handler(self, cls: type) -> Handler | None:
        if is_shared_class(cls):
            return None
        handlers: tuple[tuple[Any, Handler | None], ...] = (
            ((type, types.ModuleType), None),
            ((enum.Enum, BaseException), self._share),
            (torch.Tensor, self._tensor),
            (torch.Generator, self._generator),
            (torch.jit.ScriptFunction, None),
            (RecursiveScriptModule, self._script_module),
            (torch.jit.ScriptModule, None),
            (nn.Module, self._module),
            ((fx.Graph, fx.Node), None),
            (types.FunctionType, self._function),
            (types.MethodType, self._method),
            (BUILTIN_METHODS, self._builtin_method),
            (functools.partial, self._partial),
            (functools._lru_cache_wrapper, self._lru_cache),
            (weakref.ref, self._weak_reference),
            (dict, self._dict),
            (list, self._list),
            (collections.deque, self._deque),
            (set, self._set),
            (tuple, self._tuple),
            (frozenset, self._frozenset),
            (types.MappingProxyType, self._mapping_proxy),
            (DICT_VIEWS, self._dict_view),
            (memoryview, self._memory_view),
            ((bytearray, array.array), lambda values: self._keep(values, values[:])),
            ((io.BytesIO, io.StringIO), self._memory_file),
            (weakref.WeakKeyDictionary, self._weak_key_dict),
            (weakref.WeakValueDictionary, self._weak_value_dict),
            (weakref.WeakSet, self._weak_set),
        )
        for base, handler in handlers:
            if issubclass(cls, base):
                return handler
        if (numpy := sys.modules.get("numpy")) is not None and issubclass(cls, numpy.ndarray):
            return self._array
        if (random_of_numpy := sys.modules.get("numpy.random")) is not None and issubclass(
            cls, (random_of_numpy.Generator, random_of_numpy.RandomState, random_of_numpy.BitGenerator)
        ):
            return lambda value: self._keep(value, copy.deepcopy(value))
        if is_iterator(cls):
            return self._iterator
        if is_plain(cls):
            return self._object
        return self._share if may_have_state(cls) else None

    # -- tensors -------------------------------------------------------------------------------------------------

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.fake(tensor)  # which remembers it

    def _generator(self, generator: torch.Generator) -> torch.Generator:
        copied = torch.Generator(generator.device)
        copied.set_state(generator.get_state())
        self._keep(generator, copied)
        return copied

    def _array(self, values: Any) -> Any:
        """The copy of a numpy array; of a large one, a view that cannot be written to."""
        if values.dtype.hasobject:
            copied = self._keep(values, values.copy())
            if values.dtype == object:
                for index, value in enumerate(values.flat):
                    copied.flat[index] = self._copy(value)
            return copied
        if values.nbytes <= MAX_ARRAY_BYTES:
            return self._keep(values, values.copy())
        view = values.view()
        view.setflags(write=False)
        return self._keep(values, view)

    # -- modules -------------------------------------------------------------------------------------------------

    def _empty_module(self, module: nn.Module) -> nn.Module:
        copied: nn.Module = object.__new__(type(module))
        object.__setattr__(copied, "__dict__", {})
        return self._keep(module, copied)  # type: ignore[no-any-return]

    def _module(self, module: nn.Module) -> nn.Module:
        copied = self._empty_module(module)
        self._pending.append(lambda: self._fill_module(module, copied))
        return copied

    def _fill_module(self, module: nn.Module, copied: nn.Module) -> None:
        copy_value, shared, registries = self._copy, _SHARED, _REGISTRIES
        attributes: dict[str, Any] = {}
        for name, value in object_dict(module).items():
            cls = type(value)
            if name == COMPILED_CALL:
                continue
            if cls in shared:
                attributes[name] = value
            elif name in registries and cls in _CONTAINERS and not value:  # as most of them are
                attributes[name] = cls()
            else:
                attributes[name] = copy_value(without_distributed_hooks(name, value))
        object.__setattr__(copied, "__dict__", attributes)
        for name, value in object_slots(module):
            object.__setattr__(copied, name, copy_value(value))
        if (original := attributes.get("_orig_mod")) is not None and "dynamo_ctx" in attributes:
            attributes["forward"] = original  # not through the compiler
        bypass_wrapper(copied, attributes)

    def _script_module(self, module: Any) -> Any:
        """A TorchScript module with new C++ objects, whose attributes are fake tensors."""
        copied = wrap_cpp_module(self._script_object(module._c))  # type: ignore[no-untyped-call]
        self._keep(module, copied)
        submodules = dict(copied.named_modules())
        for path, submodule in module.named_modules():
            if path and path in submodules:
                self._keep(submodule, submodules[path])
        own = object_dict(copied)
        for name, value in object_dict(module).items():
            if name not in own and name != COMPILED_CALL and not callable(value):  # it has methods of its own
                own[name] = self._copy(value)
        return copied

    def _script_object(self, original: Any) -> Any:
        copied = copy.copy(original)
        for name, submodule in ModuleDict(original).items():
            copied.setattr(name, self._script_object(submodule))
        tensor_dicts: tuple[Any, ...] = (ParameterDict(original), BufferDict(original))
        for tensors in tensor_dicts:
            for name, tensor in tensors.items():
                copied.setattr(name, self.fake(tensor))
        return copied

    # -- objects -------------------------------------------------------------------------------------------------

    def _object(self, original: Any) -> Any:
        state = object_dict(original)
        if not state and not object_slots(original):
            return self._share(original)  # a marker, which is compared by identity
        cls = type(original)
        copied = self._keep(original, (cls if issubclass(cls, COPIED_OF_PYTHON) else object).__new__(cls))
        if isinstance(original, random.Random):
            random.Random.setstate(copied, random.Random.getstate(original))
        is_optimizer = callable(getattr(cls, "step", None)) and (
            "param_groups" in state or hasattr(cls, "param_groups")
        )

        self._pending.append(lambda: self._fill_attributes(original, copied))
        if is_optimizer and (callback := self.on_optimizer_copied) is not None:
            self._final.append(lambda: callback(copied))
        return copied


def _empty(copied: Any) -> None:
    """Remove all members, attributes and bound values of a copy."""
    if isinstance(copied, dict):
        dict.clear(copied)
    elif isinstance(copied, list):
        list.clear(copied)
    elif isinstance(copied, set):
        set.clear(copied)
    elif isinstance(copied, collections.deque):
        collections.deque.clear(copied)
    elif isinstance(copied, types.FunctionType):
        for cell in copied.__closure__ or ():
            cell.cell_contents = None
        copied.__defaults__ = copied.__kwdefaults__ = None
    elif hasattr(copied, "cache_clear"):
        copied.cache_clear()
    if isinstance(copied, torch.jit.ScriptModule):
        return
    object_dict(copied).clear()
    for name, _ in object_slots(copied):
        object.__delattr__(copied, name)
