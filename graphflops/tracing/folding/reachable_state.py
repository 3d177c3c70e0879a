"""The state that the code of a block reads or writes beside its inputs, and whether somebody wrote to it.

Code reaches state through its modules, the cells and defaults of its functions, the globals that it names, and the
attributes of classes and other Python modules that it names. So whenever a function starts for the first time while a
block runs, everything that it may reach is recorded before it can be written to: containers and objects as a whole,
however deep; of globals, classes and Python modules only the names that occur in code that ran. Libraries hold no state
of a model. If a value does not show its state, such as an iterator, its block is no template.
"""

from __future__ import annotations

import collections
import contextvars
import copyreg
import dis
import enum
import functools
import gc
import logging
import operator
import random
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from graphflops.tracing.copies.code_names import is_of_libraries
from graphflops.tracing.copies.object_state import is_a, is_plain, object_dict
from graphflops.tracing.copies.per_analysis import LRU_CACHE, IteratorPerAnalysis, UncopyableIterator
from graphflops.tracing.folding.holders import (
    ADDED,
    Holder,
    Namespace,
    attributes_and_slots,
    attributes_of,
    bytes_of,
    cache_size,
    cell_contents,
    deque_members,
    function_contents,
    items,
    list_members,
    set_members,
    thread_contents,
    variable_contents,
)
from graphflops.tracing.folding.identical_blocks import OF_TORCH

_MAX_VALUES = 30_000
"""values that a walk visits; a block that reaches more is no template"""
_MAX_ARRAY_BYTES = 4096
"""size of the largest numpy array whose content is compared"""


class _Opaque(Exception):
    """A value whose state cannot be seen, or too many values."""


# -- values ------------------------------------------------------------------------------------------------------------

_ATOMS = frozenset(
    {
        *(int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), range, slice, object),
        *(types.CodeType, types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType),
        *(types.MethodDescriptorType, types.ClassMethodDescriptorType, types.GenericAlias, types.UnionType),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
        *(type(threading.Lock()), type(threading.RLock()), type(sys.flags), type(sys.version_info)),
        *(operator.itemgetter, operator.attrgetter, operator.methodcaller),
    }
)
"""types whose values hold no state"""
_STATELESS_BASES = (enum.Enum, BaseException, logging.Logger, typing.TypeVar)
_STATELESS_MODULES = frozenset(
    {
        "re",
        "typing",
        "dataclasses",
        "datetime",
        "decimal",
        "fractions",
        "pathlib",
        "uuid",
        "inspect",
        "ast",
        "string",
        "_abc",
    }
)
"""modules of the standard library whose instances hold no state"""
_MODULES_OF_LIBRARIES = frozenset({"numpy", "graphflops", "sympy"})
_UNSEEN = (random.Random, torch.Generator, IteratorPerAnalysis, UncopyableIterator)
"""classes whose instances show none of their state"""
_BY_LIBRARIES = frozenset({"forward", "backward", "setup_context"})
"""attributes of classes that libraries look up"""


def _is_library(name: Any) -> bool:
    """Whether a Python module holds no state of a model."""
    if not is_a(name, str):
        return True
    package = name.partition(".")[0]
    return is_of_libraries(name) or (package in _MODULES_OF_LIBRARIES and not name.startswith("graphflops.models"))


@functools.lru_cache(maxsize=8192)
def _words_in(code: types.CodeType) -> frozenset[str]:
    """Return the names that code may look up, also by a string, code of inner functions included."""
    constants = code.co_consts
    inner = [_words_in(constant) for constant in constants if isinstance(constant, types.CodeType)]
    strings = [constant for constant in constants if isinstance(constant, str) and constant.isidentifier()]
    return frozenset((*code.co_names, *strings)).union(*inner)


@functools.lru_cache(maxsize=8192)
def _imports_in(code: types.CodeType) -> frozenset[str]:
    """Return the names of the Python modules that code imports, without those of their packages."""
    inner = [_imports_in(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    if dis.opmap["IMPORT_NAME"] not in code.co_code[::2]:
        return frozenset().union(*inner)
    own = (
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("IMPORT_NAME", "IMPORT_FROM")
    )
    return frozenset(own).union(*inner)


def _is_of_the_collector(frame: types.FrameType | None) -> bool:
    """Whether a function was called by a callback of the garbage collector, which interrupts whatever runs."""
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks} - {None}
    while codes and frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


# -- the record ------------------------------------------------------------------------------------------------------


class ReachableState:
    """The state that a block reaches while it runs."""

    def __init__(self, modules: Iterable[nn.Module], inputs: Iterable[Any]) -> None:
        """Record the state in modules; ``inputs`` are watched in another way, and only their classes are recorded."""
        self.is_visible = True
        """whether all state was seen"""
        self._own: list[Holder] = []  # of the block's own modules
        self._shared: list[Holder] = []
        self._namespaces: dict[int, Namespace] = {}
        self._open: list[Namespace] = []
        self._names: set[str] = set(_BY_LIBRARIES)  # that occur in code that ran
        self._codes: dict[int, types.CodeType] = {}
        self._classes: set[int] = set()
        self._pending: list[Any] = []
        self._visited: dict[int, Any] = {}  # also keeps alive what was made for the visit
        self._visits: dict[type, Callable[[Any], None]] = {}
        try:
            for module in modules:
                self._visit_module(module, self._own)
            self._drain()
            self._visit_classes(inputs)
            self._drain()
        except _Opaque:
            self._give_up()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record what each function that starts in this thread can reach, while this is open."""
        if sys.getprofile() is not None:  # somebody else looks at each call
            self._give_up()
        if not self.is_visible:
            yield
            return
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)

    def is_unmodified(self) -> bool:
        """Whether all state was seen, and nobody wrote to it, the block included."""
        return self.is_visible and self.is_shared_unmodified() and all(holder.is_unmodified for holder in self._own)

    def is_shared_unmodified(self) -> bool:
        """Whether nobody wrote to what a block that repeats this one would reach too."""
        return all(holder.is_unmodified for holder in self._shared) and all(
            space.is_unmodified for space in self._namespaces.values()
        )

    def _give_up(self) -> None:
        self.is_visible = False
        self._own, self._shared, self._namespaces, self._open, self._visited = [], [], {}, [], {}

    # -- code ----------------------------------------------------------------------------------------------------------

    def _on_event(self, frame: types.FrameType, event: str, arg: Any) -> None:
        """Record what a function can reach that starts for the first time."""
        if event != "call" or id(frame.f_code) in self._codes:
            return
        code = frame.f_code
        try:
            if not _is_library(frame.f_globals.get("__name__")):
                if _is_of_the_collector(frame):
                    return
                self._look_into(code, frame.f_globals)
                self._drain()
            self._codes[id(code)] = code
        except _Opaque:
            self._give_up()
            sys.setprofile(None)

    def _look_into(self, code: types.CodeType, own: dict[str, Any]) -> None:
        words = _words_in(code)
        space = self._space(own, own)
        if "globals" in words:
            self._open_up(space)
        self._look_up(space, words)
        new = words - self._names
        self._names |= new
        for space in self._open:
            self._look_up(space, new)
        if imported := _imports_in(code):
            self._visit_imports(str(own.get("__package__") or ""), imported)

    def _visit_imports(self, package: str, names: Collection[str]) -> None:
        """Visit the Python modules that a function imports by itself."""
        while True:
            imported = (sys.modules.get(f"{package}.{name}" if package else name) for name in names)
            self._add(module for module in imported if module is not None)
            if not package:
                return
            package = package.rpartition(".")[0]

    def _space(self, owner: Any, values: Mapping[str, Any]) -> Namespace:
        """Return the namespace of the globals of a file, or of a class."""
        if id(owner) not in self._namespaces:
            self._namespaces[id(owner)] = Namespace(values)
            self._visited[id(owner)] = owner
        return self._namespaces[id(owner)]

    def _open_up(self, space: Namespace) -> None:
        if not space.is_open:
            space.is_open = True
            self._open.append(space)
            self._look_up(space, self._names)

    def _look_up(self, space: Namespace, names: Set[str]) -> None:
        """Visit the values of names in a namespace."""
        for name in space.values.keys() & names:
            if name not in space.known and name not in ADDED:
                space.known[name] = value = space.values[name]
                self._add((value,))

    # -- values --------------------------------------------------------------------------------------------------------

    def _visit_module(self, module: nn.Module, holders: list[Holder]) -> None:
        """Visit a module; its registries are its own."""
        attributes = object_dict(module)
        self._visited[id(module)] = module
        self._hold(attributes_of, module, holders)
        for name, value in attributes.items():
            if name in OF_TORCH and is_a(value, (dict, set)):
                if value:
                    self._visited[id(value)] = value
                    contents = items if is_a(value, dict) else set_members
                    self._hold(contents, value, holders)
                    self._add(contents(value))
            else:
                self._add((value,))
        self._class(type(module))

    def _visit_classes(self, values: Iterable[Any]) -> None:
        """Visit the classes of values and of everything in them."""
        pending = [*values]
        while pending:
            value = pending.pop()
            cls = type(value)
            if cls in _ATOMS or id(value) in self._visited or is_a(value, (torch.Tensor, nn.Module)):
                continue
            self._count_in(value)
            if is_a(value, type):
                self._class(value)
            elif is_a(value, dict):
                pending += dict.values(value)
            elif is_a(value, (list, tuple)):
                pending += value
            elif is_plain(cls):
                pending += object_dict(value).values()
            self._class(cls)

    def _drain(self) -> None:
        pending, visited, visits = self._pending, self._visited, self._visits
        while pending:
            value = pending.pop()
            if id(value) in visited:
                continue
            self._count_in(value)
            cls = type(value)
            visit = visits.get(cls)
            if visit is None:
                visits[cls] = visit = self._visit_of(cls)
            visit(value)

    def _count_in(self, value: Any) -> None:
        self._visited[id(value)] = value
        if len(self._visited) > _MAX_VALUES:
            raise _Opaque

    def _add(self, values: Iterable[Any]) -> None:
        self._pending += [value for value in values if type(value) not in _ATOMS]

    def _hold(self, contents: Callable[[Any], Sequence[Any]], value: Any, holders: list[Holder] | None = None) -> None:
        (self._shared if holders is None else holders).append(Holder(contents, value, contents(value)))

    def _visit_of(self, cls: type) -> Callable[[Any], None]:
        """Return how a value of a class is visited."""
        for base, visit in (
            (_UNSEEN, self._opaque),
            (_STATELESS_BASES, _leave),
            (dict, functools.partial(self._container, items)),
            (list, functools.partial(self._container, list_members)),
            (collections.deque, functools.partial(self._container, deque_members)),
            ((set, frozenset), functools.partial(self._container, set_members)),
            (tuple, self._tuple),
            (types.FunctionType, self._function),
            (types.MethodType, lambda value: self._add((value.__func__, value.__self__))),
            ((types.BuiltinMethodType, types.MethodWrapperType), self._builtin),
            (functools.partial, self._partial),
            (types.CellType, self._cell),
            (type, self._class),
            (types.ModuleType, self._module),
            (property, lambda value: self._add((value.fget, value.fset, value.fdel))),
            ((classmethod, staticmethod), lambda value: self._add((value.__func__,))),
            (functools.cached_property, lambda value: self._add((value.func,))),
            (LRU_CACHE, self._cached),
            (types.MappingProxyType, lambda value: self._add((*value.values(),))),
            (weakref.ref, lambda value: self._add((weakref.ref.__call__(value),))),
            (contextvars.ContextVar, self._context_variable),
            (torch.Tensor, self._tensor),
        ):
            if issubclass(cls, base):
                return visit
        if (numpy := sys.modules.get("numpy")) is not None and issubclass(cls, numpy.ndarray):
            return self._array
        if issubclass(cls, nn.Module):
            return lambda value: self._visit_module(value, self._shared)
        if issubclass(cls, threading.local):
            return functools.partial(self._container, thread_contents)
        if is_plain(cls):
            return self._object
        module = cls.__module__ or ""
        package = module.partition(".")[0]
        is_stateless = package in ("torch", *_MODULES_OF_LIBRARIES) and not module.startswith("numpy.random")
        return _leave if is_stateless or module in _STATELESS_MODULES else self._opaque

    def _opaque(self, value: Any) -> None:
        if value is not getattr(random, "_inst", None):  # its draws are counted
            raise _Opaque

    def _container(self, contents: Callable[[Any], Sequence[Any]], value: Any) -> None:
        self._hold(contents, value)
        self._add(contents(value))
        if type(value).__module__ != "builtins":
            self._object(value)

    def _tuple(self, value: Any) -> None:
        self._add(tuple.__iter__(value))
        if type(value) is not tuple:
            self._object(value)

    def _object(self, value: Any) -> None:
        contents = attributes_and_slots if copyreg._slotnames(type(value)) else attributes_of  # type: ignore[attr-defined]
        self._hold(contents, value)
        self._add(contents(value))
        self._class(type(value))

    def _tensor(self, value: torch.Tensor) -> None:
        if type(value) in (torch.Tensor, nn.Parameter) and object_dict(value):
            self._object(value)

    def _array(self, value: Any) -> None:
        if value.nbytes > _MAX_ARRAY_BYTES or value.dtype.hasobject:
            raise _Opaque
        self._hold(bytes_of, value)

    def _builtin(self, value: Any) -> None:
        if not is_a(owner := value.__self__, (types.ModuleType, type)):
            self._add((owner,))

    def _partial(self, value: Any) -> None:
        self._add((value.func, value.args, value.keywords, object_dict(value)))

    def _cell(self, value: types.CellType) -> None:
        self._hold(cell_contents, value)
        self._add(cell_contents(value))

    def _context_variable(self, value: contextvars.ContextVar[Any]) -> None:
        self._hold(variable_contents, value)
        self._add(variable_contents(value))

    def _cached(self, value: Any) -> None:
        """Visit a cached function; a block that adds to its cache ran otherwise than the next one will."""
        self._hold(cache_size, value)
        self._add((object_dict(value).get("__wrapped__"),))

    def _function(self, function: types.FunctionType) -> None:
        """Visit what a function holds; what it names is visited when it runs."""
        if not _is_library(function.__globals__.get("__name__")):
            self._hold(function_contents, function)
            self._add(items(vars(function)))
        self._add((function.__defaults__, function.__kwdefaults__))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._add((cell,) if name != "__class__" else cell_contents(cell))

    def _module(self, module: types.ModuleType) -> None:
        if not _is_library(vars(module).get("__name__")):
            self._open_up(self._space(vars(module), vars(module)))

    def _class(self, cls: Any) -> None:
        """Visit a class, and the functions in it that Python calls by themselves."""
        if id(cls) in self._classes:
            return
        self._classes.add(id(cls))
        for base in (*cls.__mro__, *type(cls).__mro__):
            if _is_library(base.__module__):
                continue
            attributes = vars(base)
            self._open_up(self._space(base, attributes))
            self._look_up(self._namespaces[id(base)], {name for name in attributes if _holds_state(attributes, name)})


def _holds_state(attributes: Mapping[str, Any], name: str) -> bool:
    """Whether an attribute of a class is a function that Python calls by itself, and that holds values."""
    value = attributes[name]
    if not name.startswith("__") or type(value) is not types.FunctionType:
        return False
    return bool(value.__defaults__ or value.__kwdefaults__ or set(value.__code__.co_freevars) - {"__class__"})


def _leave(value: Any) -> None:
    """Do not visit a value without state."""
