"""Structural copies: what a model is made of, without its data, for a trace to run on and to write to.

Copied are modules, containers, plain objects, and functions that close over any of them; tensors become fake ones, the
same one for each. Whatever has no state of its own (classes, Python modules, torch's functions), or a state that Python
cannot see (locks, files, handles of libraries), is shared. So the original is only ever read.

Mutable objects are made empty and filled later, from a list: cycles end there, and depth costs no recursion.
"""

from __future__ import annotations

import argparse
import collections
import copy
import copyreg
import dis
import enum
import functools
import io
import itertools
import logging
import queue
import random
import site
import sys
import sysconfig
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import fx, nn

from graphflops.capture.distributed import bypass_wrapper, without_distributed_hooks
from graphflops.core.torch_compat import BufferDict, ModuleDict, ParameterDict, RecursiveScriptModule, wrap_cpp_module

Handler = Callable[[Any], Any]

_ATOMS: frozenset[type] = frozenset(
    {
        *(int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), range, slice),
        *(type, object, property, staticmethod, classmethod),
        *(types.ModuleType, types.CodeType, types.GenericAlias, types.UnionType, types.WrapperDescriptorType),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
    }
)
"""types whose values cannot be written to, or are nobody's state"""

_STATEFUL_OF_PYTHON: tuple[type, ...] = (types.SimpleNamespace, argparse.Namespace, queue.Queue, random.Random)
"""classes of the standard library whose instances are copied; those of others are shared"""

_SHARED_OF_TORCH = tuple(f"torch.{name}" for name in ("_", "fx", "export", "distributed", "library", "cuda", "jit"))
"""where classes of torch are defined whose instances are shared: compilers, graphs, handles of processes"""

_ITERATORS: tuple[type, ...] = (itertools.count, itertools.cycle, itertools.chain, type(iter([])), type(iter(())))
_DICTS: tuple[type, ...] = (collections.OrderedDict, collections.defaultdict, dict)
_CONTAINERS: tuple[type, ...] = (dict, collections.OrderedDict, set)
_REGISTRIES: frozenset[str] = frozenset(vars(nn.Module()))
"""attributes of every module; an empty container among them is never shared by two modules"""
_CELL = types.CellType
COMPILED_CALL = "_compiled_call_impl"
"""the attribute of a module that PyTorch calls in place of the module, if it is there: what was compiled"""


class Copier:
    """Copies of one trace, each object once. ``fake`` makes the tensor that stands for a tensor.

    ``on_optimizer_copied`` is given the copy of each optimizer.
    """

    def __init__(
        self,
        fake: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self.fake = fake
        self.on_optimizer_copied: Callable[[Any], None] | None = None
        # id of an original → itself, so that the id stays its own, and its copy
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._pending: list[Callable[[], None]] = []
        self._at_last: list[Callable[[], None]] = []  # when all that is pending is done
        self._deferred: set[int] = set()
        self._handlers: dict[type, Handler | None] = dict.fromkeys(_ATOMS)
        # id of the globals of a file → them, and what functions of the file are given instead
        self._globals: dict[int, tuple[dict[str, Any], types.ModuleType]] = {}
        self._working = False

    def copy(self, value: Any) -> Any:
        """The copy of a value; itself, if there is nothing in it to write to."""
        copied = self._copy(value)
        self._work()
        return copied

    def handle(self, cls: type, handler: Handler) -> None:
        """Copy instances of a class by a function of its own."""
        self._handlers[cls] = lambda value: self._keep(value, handler(value))

    def defer(self, module: nn.Module) -> nn.Module:
        """An empty copy of a module, to be filled by ``fill`` if it is ever needed."""
        shell = self._shell(module)
        self._deferred.add(id(module))
        return shell

    def fill(self, module: nn.Module) -> None:
        """Fill the copy of a module that was deferred."""
        if id(module) in self._deferred:
            self._deferred.discard(id(module))
            self._fill_module(module, self._copies[id(module)][1])
            self._work()

    def copy_of(self, value: Any) -> Any:
        """The copy that was made of an object; the object, if none was."""
        return self._copies[id(value)][1] if id(value) in self._copies else value

    def all_copies(self) -> Iterator[Any]:
        """All copies so far that are not their originals, tensors apart."""
        return (copy for original, copy in self._copies.values() if copy is not original)

    def release(self) -> None:
        """Let go of all copies: whoever holds on to one holds nothing."""
        for original, copied in self._copies.values():
            if copied is original or isinstance(copied, torch.Tensor):
                continue
            if type(copied) is dict:  # as most of them are
                copied.clear()
                continue
            try:
                _emptied(copied)
            except Exception:
                continue
        for _, shadow in self._globals.values():
            vars(shadow).clear()
        self._copies.clear()
        self._globals.clear()
        self._pending.clear()
        self._at_last.clear()

    # -- the walk ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._working:
            return
        self._working = True
        try:
            while waiting := self._pending or self._at_last:
                waiting.pop()()
        finally:
            self._working = False

    def _copy(self, value: Any) -> Any:
        cls = type(value)
        try:
            handler = self._handlers[cls]
        except KeyError:
            handler = self._handlers[cls] = self._handler(cls)
        if handler is None:
            return value
        known = self._copies.get(id(value))
        if known is not None:
            return known[1]
        try:
            return handler(value)
        except Exception:  # an object that Python cannot copy is shared
            return self._keep(value, value)

    def _keep(self, value: Any, copied: Any) -> Any:
        self._copies[id(value)] = value, copied
        return copied

    def is_stateful(self, value: Any) -> bool:
        """Whether a value would be copied, apart from functions that close over nothing of that kind."""
        cls = type(value)
        if cls not in self._handlers:
            self._handlers[cls] = self._handler(cls)
        handler = self._handlers[cls]
        if handler is None:
            return False
        if is_a(value, (types.FunctionType, types.MethodType, types.BuiltinMethodType, functools.partial)):
            return self._reaches_state(value)
        if is_a(value, (tuple, frozenset)):
            return any(map(self.is_stateful, value))
        return True

    def _handler(self, cls: type) -> Handler | None:
        """How instances of a class are copied; None if they are shared."""
        if getattr(cls, "_graphflops_shares_it", False) is True:
            return None
        kinds: tuple[tuple[Any, Handler | None], ...] = (
            ((type, enum.Enum, BaseException, types.ModuleType), None),
            (torch.Tensor, self._tensor),
            (torch.Generator, self._generator),
            (torch.jit.ScriptFunction, None),
            (RecursiveScriptModule, self._script_module),
            (torch.jit.ScriptModule, None),
            (nn.Module, self._module),
            ((fx.Graph, fx.Node), None),
            (types.FunctionType, self._function),
            (types.MethodType, self._method),
            (types.BuiltinMethodType, self._builtin_method),
            (functools.partial, self._partial),
            (functools._lru_cache_wrapper, self._memo),
            (weakref.ref, self._weak),
            (dict, self._dict),
            (list, self._list),
            (collections.deque, self._deque),
            (set, self._set),
            (tuple, self._tuple),
            (frozenset, self._frozenset),
            (bytearray, bytearray),
            (_ITERATORS, self._iterator),
            (weakref.WeakKeyDictionary, self._weak_keys),
            (weakref.WeakValueDictionary, self._weak_values),
            (weakref.WeakSet, self._weak_set),
        )
        for base, handler in kinds:
            if issubclass(cls, base):
                return handler
        if (numpy := sys.modules.get("numpy")) is not None and issubclass(cls, numpy.ndarray):
            return self._array
        return self._object if is_plain(cls) else None

    # -- tensors -------------------------------------------------------------------------------------------------

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.fake(tensor)  # which remembers it

    def _generator(self, generator: torch.Generator) -> torch.Generator:
        copied = torch.Generator(generator.device)
        copied.set_state(generator.get_state())
        self._keep(generator, copied)
        return copied

    def _array(self, array: Any) -> Any:
        """An array of numpy: a copy; of a large one a view that cannot be written to."""
        if array.nbytes <= _LARGEST_ARRAY or array.dtype.hasobject:
            return self._keep(array, array.copy())
        view = array.view()
        view.setflags(write=False)
        return self._keep(array, view)

    # -- modules -------------------------------------------------------------------------------------------------

    def _shell(self, module: nn.Module) -> nn.Module:
        shell: nn.Module = object.__new__(type(module))
        object.__setattr__(shell, "__dict__", {})
        return self._keep(module, shell)  # type: ignore[no-any-return]

    def _module(self, module: nn.Module) -> nn.Module:
        shell = self._shell(module)
        self._pending.append(lambda: self._fill_module(module, shell))
        return shell

    def _fill_module(self, module: nn.Module, shell: nn.Module) -> None:
        copied, atoms, registries = self._copy, _ATOMS, _REGISTRIES
        attributes: dict[str, Any] = {}
        for name, value in object_dict(module).items():
            cls = type(value)
            if name == COMPILED_CALL:
                continue
            if cls in atoms:
                attributes[name] = value
            elif name in registries and cls in _CONTAINERS and not value:  # most of them are
                attributes[name] = cls()
            else:
                attributes[name] = copied(without_distributed_hooks(name, value))
        object.__setattr__(shell, "__dict__", attributes)
        for name, value in _slots_of(module):
            object.__setattr__(shell, name, copied(value))
        if (compiled := attributes.get("_orig_mod")) is not None and "dynamo_ctx" in attributes:
            attributes["forward"] = compiled  # not through the compiler
        bypass_wrapper(shell, attributes)

    def _script_module(self, module: Any) -> Any:
        """A TorchScript module: its C++ object and those in it anew, with fake tensors for attributes."""
        copied = wrap_cpp_module(self._script_object(module._c))  # type: ignore[no-untyped-call]
        self._keep(module, copied)
        names = dict(copied.named_modules())
        for path, inner in module.named_modules():
            if path and path in names:
                self._keep(inner, names[path])
        for name, value in object_dict(module).items():
            if (
                name not in object_dict(copied) and name != COMPILED_CALL and not callable(value)
            ):  # methods are those of its own
                object_dict(copied)[name] = self._copy(value)
        return copied

    def _script_object(self, original: Any) -> Any:
        made = copy.copy(original)
        for name, inner in ModuleDict(original).items():
            made.setattr(name, self._script_object(inner))
        kinds: tuple[Any, ...] = (ParameterDict, BufferDict)
        for held in (kind(original) for kind in kinds):
            for name, tensor in held.items():
                made.setattr(name, self.fake(tensor))
        return made

    # -- containers ----------------------------------------------------------------------------------------------

    def _dict(self, original: dict[Any, Any]) -> Any:
        cls = type(original)
        base: Any = next(each for each in _DICTS if issubclass(cls, each))
        made: Any = base() if cls is base else base.__new__(cls)
        self._keep(original, made)
        if base is collections.defaultdict:
            made.default_factory = self._copy(original.default_factory)  # type: ignore[attr-defined]
        if original or cls is not base:
            put, items = base.__setitem__, base.items

            def fill() -> None:
                for key, value in items(original):
                    put(made, key if type(key) is str else self._hashable(key), self._copy(value))
                self._fill_attributes(original, made)

            self._pending.append(fill)
        return made

    def _list(self, original: list[Any]) -> Any:
        return self._members(original, list.__new__(type(original)), list, list.extend)

    def _deque(self, original: collections.deque[Any]) -> Any:
        made = collections.deque.__new__(type(original))
        collections.deque.__init__(made, (), original.maxlen)
        return self._members(original, made, collections.deque, collections.deque.extend)

    def _set(self, original: set[Any]) -> Any:
        return self._members(original, set.__new__(type(original)), set, set.update, self._hashable)

    def _hashable(self, key: Any) -> Any:
        """The copy of a key, filled at once if its hash may be of what is in it."""
        waiting = len(self._pending)
        copied = self._copy(key)
        hashed_by: Any = type(key).__hash__
        if copied is not key and hashed_by is not object.__hash__:
            while len(self._pending) > waiting:
                self._pending.pop()()
        return copied

    def _members(
        self,
        original: Any,
        made: Any,
        base: Any,
        put: Callable[..., None],
        member: Callable[[Any], Any] | None = None,
    ) -> Any:
        """A container to be filled with copies of its members, read and written by its base class."""
        copied = member or self._copy
        self._keep(original, made)

        def fill() -> None:
            self._fill_attributes(original, made)
            put(made, map(copied, base.__iter__(original)))

        if original or type(original) is not base:
            self._pending.append(fill)
        return made

    def _tuple(self, original: tuple[Any, ...]) -> Any:
        cls = type(original)
        copies = [self._copy(each) for each in tuple.__iter__(original)]
        if all(one is other for one, other in zip(copies, original, strict=True)):
            return original
        if cls is tuple:
            return self._keep(original, tuple(copies))
        made = tuple.__new__(cls, copies)
        self._fill_attributes(original, made)
        return self._keep(original, made)

    def _frozenset(self, original: frozenset[Any]) -> Any:
        copies = [self._hashable(each) for each in original]
        if all(any(one is other for other in original) for one in copies):
            return original
        return self._keep(original, frozenset.__new__(type(original), copies))

    def _iterator(self, original: Any) -> Any:
        reduced = original.__reduce__()
        made = reduced[0](*map(self._copy, reduced[1]))
        if len(reduced) > 2 and reduced[2] is not None:
            made.__setstate__(self._copy(reduced[2]))
        return self._keep(original, made)

    def _weak(self, reference: Any) -> Any:
        target = reference()
        if target is None or (copied := self._copy(target)) is target:
            return self._keep(reference, reference)
        return self._keep(reference, weakref.ref(copied))

    def _weak_keys(self, original: Any) -> Any:
        made = self._keep(original, type(original)())

        def fill() -> None:
            made.update({self._copy(key): self._copy(value) for key, value in original.items()})

        self._pending.append(fill)
        return made

    def _weak_values(self, original: Any) -> Any:
        made = self._keep(original, type(original)())
        self._pending.append(lambda: made.update({key: self._copy(value) for key, value in original.items()}))
        return made

    def _weak_set(self, original: Any) -> Any:
        made = self._keep(original, type(original)())
        self._pending.append(lambda: made.update(map(self._copy, original)))
        return made

    # -- objects -------------------------------------------------------------------------------------------------

    def _object(self, original: Any) -> Any:
        state = object_dict(original)
        if not state and not _slots_of(original):
            return self._keep(original, original)  # a mark, which is compared by identity
        cls = type(original)
        made = self._keep(original, (cls if issubclass(cls, _STATEFUL_OF_PYTHON) else object).__new__(cls))
        if isinstance(original, random.Random):
            random.Random.setstate(made, random.Random.getstate(original))
        is_optimizer = callable(getattr(cls, "step", None)) and (
            "param_groups" in state or hasattr(cls, "param_groups")
        )

        self._pending.append(lambda: self._fill_attributes(original, made))
        if is_optimizer and (on_optimizer_copied := self.on_optimizer_copied) is not None:
            self._at_last.append(lambda: on_optimizer_copied(made))
        return made

    def _fill_attributes(self, original: Any, made: Any) -> None:
        state = object_dict(original)
        if state:
            object_dict(made).update({name: self._copy(value) for name, value in state.items()})
        for name, value in _slots_of(original):
            with suppress(AttributeError):  # a property has the name of a slot, and makes what it returns
                object.__setattr__(made, name, self._copy(value))

    # -- functions -----------------------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> Any:
        if not self._reaches_state(function):
            return function
        cells = tuple(_CELL() for _ in function.__closure__ or ())
        made = types.FunctionType(
            function.__code__, self._globals_of(function), function.__name__, None, cells if cells else None
        )
        self._keep(function, made)
        made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
        made.__annotations__ = function.__annotations__

        def fill() -> None:
            made.__defaults__ = self._copy(function.__defaults__)
            made.__kwdefaults__ = self._copy(function.__kwdefaults__)
            vars(made).update({name: self._copy(value) for name, value in vars(function).items()})
            for cell, original in zip(cells, function.__closure__ or (), strict=True):
                if (content := content_of(original)) is not NOTHING:
                    cell.cell_contents = self._named(content, function.__code__)

        self._pending.append(fill)
        return made

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        """The globals that a copied function runs on: those of its file, with copies of the state that it names."""
        own, code = function.__globals__, function.__code__
        if not self._state_among(own, code) and not _written_in(code)[0]:
            return vars(self._globals[id(own)][1]) if id(own) in self._globals else own
        return vars(self._shadow_of(own, code))

    def _shadow_of(self, own: dict[str, Any], code: types.CodeType) -> types.ModuleType:
        """A module with the globals of a file, and copies of the state among those that a function names."""
        if id(own) not in self._globals:
            self._globals[id(own)] = own, types.ModuleType(str(own.get("__name__", "")))
            vars(self._globals[id(own)][1]).update(own)
        module = self._globals[id(own)][1]
        shadow = vars(module)
        for name in self._state_among(own, code):
            if shadow.get(name) is own[name]:
                del shadow[name]  # in a circle of modules it is looked for again
                shadow[name] = self._named(own[name], code)
        return module

    def _named(self, value: Any, code: types.CodeType) -> Any:
        """The copy of what a function names; of a module of Python's, with copies of what the function finds in it."""
        if not is_a(value, types.ModuleType):
            return self._copy(value)
        return self._shadow_of(vars(value), code) if self._reaches_state_in(value, code) else value

    def _state_among(self, own: dict[str, Any], code: types.CodeType) -> list[str]:
        """The names of a function under which a file has state, or a module of Python's in which it finds some."""
        named = [(name, own[name]) for name in names_in(code) if name in own]
        return [name for name, each in named if self.is_stateful(each) or self._reaches_state_in(each, code)]

    def _reaches_state_in(self, module: Any, code: types.CodeType) -> bool:
        """Whether something is a module of Python's in which a function finds state, or to which it writes."""
        return any(
            any(self.is_stateful(each) for _, each in found) or not vars(file).keys().isdisjoint(_written_in(code)[1])
            for file, found in files_named(module, code)
        )

    def _reaches_state(self, function: Any) -> bool:
        """Whether a function binds something to copy, closes over it, or names it among the globals of its file."""
        waiting, seen = [function], set()
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if is_a(value, types.FunctionType):
                if is_of_libraries(value.__module__) and not value.__closure__:
                    continue
                code = value.__code__
                enclosed = [each for each in map(content_of, value.__closure__ or ()) if each is not NOTHING]
                if any(self._reaches_state_in(each, code) for each in enclosed):
                    return True
                waiting += enclosed
                waiting += value.__defaults__ or ()
                waiting += (value.__kwdefaults__ or {}).values()
                if not is_of_libraries(value.__module__):
                    if _written_in(code)[0]:
                        return True
                    own = value.__globals__
                    found = [own[name] for name in names_in(code) if name in own]
                    if any(self._reaches_state_in(each, code) for each in found):
                        return True
                    waiting += found
            elif is_a(value, types.MethodType):
                waiting += [value.__func__, value.__self__]
            elif is_a(value, types.BuiltinMethodType):
                waiting.append(value.__self__)
            elif is_a(value, functools.partial):
                waiting += [value.func, *value.args, *value.keywords.values()]
            elif is_a(value, (tuple, frozenset)):
                waiting += value
            elif self.is_stateful(value):
                return True
        return False

    def _method(self, method: types.MethodType) -> Any:
        function, owner = self._copy(method.__func__), self._copy(method.__self__)
        if function is method.__func__ and owner is method.__self__:
            return method
        return self._keep(method, types.MethodType(function, owner))

    def _builtin_method(self, method: Any) -> Any:
        owner = method.__self__
        if isinstance(owner, types.ModuleType) or (copied := self._copy(owner)) is owner:
            return method
        return self._keep(method, getattr(copied, method.__name__))

    def _partial(self, original: functools.partial[Any]) -> Any:
        if not self._reaches_state(original) and not object_dict(original):
            return original
        made = functools.partial.__new__(
            type(original),
            self._copy(original.func),
            *map(self._copy, original.args),
            **{name: self._copy(value) for name, value in original.keywords.items()},
        )
        self._keep(original, made)
        self._fill_attributes(original, made)
        return made

    def _memo(self, original: Any) -> Any:
        """A function that remembers its results: one that remembers nothing yet."""
        parameters = original.cache_parameters()
        made = functools.lru_cache(parameters["maxsize"], parameters["typed"])(self._copy(original.__wrapped__))
        return self._keep(original, made)


def is_a(value: Any, kinds: Any) -> bool:
    """Whether a value is of one of these classes, without asking it: placeholders of imports answer with errors."""
    return issubclass(type(value), kinds)


_LARGEST_ARRAY = 2**26
"""bytes of the largest array of numpy that is copied"""

NOTHING = object()


def object_dict(value: Any) -> dict[str, Any]:
    """The attributes of an object as Python keeps them, whatever its class makes of it; none if it keeps none."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def _slots_of(value: Any) -> list[tuple[str, Any]]:
    found = []
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        with suppress(AttributeError):
            found.append((name, object.__getattribute__(value, name)))
    return found


def is_plain(cls: type) -> bool:
    """Whether all that an instance of a class is made of is written in Python, and is its own."""
    if getattr(cls, "_graphflops_shares_it", False) is True:
        return False
    module = cls.__module__ or ""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names and package != "__main__":
        return issubclass(cls, (*_STATEFUL_OF_PYTHON, collections.UserDict, collections.UserList))
    if package == "torch" and module.startswith(_SHARED_OF_TORCH):
        return False
    if package == "sympy":  # whose expressions are made once each
        return False
    if any(issubclass(cls, base) for base in _SHARED_BASES) or cls.__itemsize__:
        return False
    if issubclass(cls, random.Random):
        return True
    expected = object.__basicsize__ + 8 * (
        (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0) + len(copyreg._slotnames(cls))  # type: ignore[attr-defined]
    )
    return cls.__basicsize__ <= expected


_SHARED_BASES: tuple[type, ...] = (logging.Logger, logging.Handler, threading.Thread, threading.local, io.IOBase)


@functools.cache
def is_of_libraries(module: str | None) -> bool:
    """Whether a function is Python's or torch's own, which keep no state of a model among their globals."""
    package = (module or "").partition(".")[0]
    return package == "torch" or (package in sys.stdlib_module_names and package != "__main__")


def is_users_file(module: types.ModuleType) -> bool:
    """Whether a module of Python's is neither a library nor of a package that is installed."""
    file = str(vars(module).get("__file__") or "")
    return not (is_of_libraries(module.__name__) or file.startswith(_INSTALLED))


def files_named(module: Any, code: types.CodeType) -> Iterator[tuple[types.ModuleType, list[tuple[str, Any]]]]:
    """A module and those that a function names in it, as far as they are users' files, each with the names found."""
    waiting, seen = [module], set()
    while waiting:
        file = waiting.pop()
        if is_a(file, types.ModuleType) and id(file) not in seen and is_users_file(file):
            seen.add(id(file))
            found = [(name, vars(file)[name]) for name in names_in(code) if name in vars(file)]
            waiting += (each for _, each in found)
            yield file, found


_INSTALLED = tuple({*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def content_of(cell: types.CellType) -> Any:
    """The value of a variable of a closure; NOTHING, if it has none yet."""
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return NOTHING


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> tuple[str, ...]:
    """The names that a function may look up among its globals, also from functions that it defines."""
    inner = (name for each in code.co_consts if isinstance(each, types.CodeType) for name in names_in(each))
    return (*dict.fromkeys((*code.co_names, *inner)),)


@functools.lru_cache(maxsize=4096)
def _written_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The globals, and the attributes of whatever it is, that a function sets or deletes, and those that it defines."""
    inner = [_written_in(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    own = [(each.opname.partition("_")[2], each.argval) for each in dis.get_instructions(code) if _writes(each.opname)]
    return (
        frozenset(name for kind, name in own if kind == "GLOBAL").union(*(each for each, _ in inner)),
        frozenset(name for kind, name in own if kind == "ATTR").union(*(each for _, each in inner)),
    )


def _writes(operation: str) -> bool:
    return operation in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR")


def _emptied(value: Any) -> None:
    """Take out of a copy all that it holds."""
    if isinstance(value, dict):
        dict.clear(value)
    elif isinstance(value, list):
        list.clear(value)
    elif isinstance(value, set):
        set.clear(value)
    elif isinstance(value, collections.deque):
        collections.deque.clear(value)
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            cell.cell_contents = None
        value.__defaults__ = value.__kwdefaults__ = None
    elif hasattr(value, "cache_clear"):
        value.cache_clear()
    if isinstance(value, torch.jit.ScriptModule):
        return
    object_dict(value).clear()
    for name, _ in _slots_of(value):
        object.__delattr__(value, name)
