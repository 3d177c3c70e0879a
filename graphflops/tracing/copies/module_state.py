"""State outside of a model, in Python modules and classes: restored where the traced program wrote to it.

A program looks up global names and class attributes by itself, so that no copy can stand in for them. Therefore a
snapshot of the files of a model is taken before the trace. Afterwards the holders that the trace wrote to are restored:
those that refer to a fake tensor or a copy always, all others if no other thread could have written to them.
"""

from __future__ import annotations

import collections
import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from contextvars import ContextVar
from types import CellType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from graphflops.core.messages import try_getattr
from graphflops.tracing.copies.code_names import imports_in, is_users_file
from graphflops.tracing.copies.object_state import (
    DICT_VIEWS,
    has_slots,
    is_a,
    is_iterator,
    is_plain,
    is_shared_class,
    object_dict,
)
from graphflops.tracing.copies.per_analysis import (
    BUILTIN_METHODS,
    LRU_CACHE,
    CachedPerAnalysis,
    IteratorPerAnalysis,
    replace_everywhere,
)
from graphflops.tracing.copies.records import (
    ATOMS,
    CELLS,
    CLASSES,
    DEQUES,
    DICTS,
    FUNCTIONS,
    LISTS,
    NAMESPACES,
    OF_THREAD,
    OPAQUE,
    ORDERED_DICTS,
    SETS,
    SLOTS,
    Content,
    Kind,
    is_array,
    kind_of_content,
)
from graphflops.tracing.session.random_numbers import with_own_generator
from graphflops.tracing.session.session import IsOwn, is_alone

_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "numpy", "graphflops"} - {"__main__"})
"""packages that hold no state of a model"""
_RECORDED_OF_PYTHON = frozenset(
    {"collections", "contextlib", "functools", "logging", "queue", "threading", "weakref", "_weakrefset"}
)
"""modules of the standard library whose instances have attributes that are recorded"""
_MAX_VALUES = 200_000
"""values that a snapshot looks at"""
MAX_ARRAY_BYTES = 2**26
"""size of all numpy arrays in a snapshot"""


class Snapshot:
    """The state in the files of a model, before the trace. Meanwhile cached functions have new caches.

    ``copy`` returns the copy of an object in the trace, such as of an iterator, which is then used instead.
    """

    def __init__(self, root: nn.Module, classes: Collection[type], copy: Callable[[Any], Any]) -> None:
        self._walk = StateWalk(_files_of(root, classes), copy)
        self._restores: list[Callable[[], None]] = []
        self._walk.visit_files(classes)
        self._replace()

    def add(self, value: Any) -> None:
        """Add the state of a value that the trace shares with the program."""
        self._walk.visit(value)
        self._replace()

    def _replace(self) -> None:
        walk = self._walk
        self._restores += replace_everywhere(walk.replacements, walk.compounds, walk.recorded)
        walk.replacements.clear()
        walk.compounds.clear()

    def restore(self, is_own: IsOwn, alone: bool) -> None:
        """Restore what was written to: all of it, or, if not ``alone``, what refers to a fake tensor or a copy."""
        for restore_binding in reversed(self._restores):
            restore_binding()
        for array in sorted(self._walk.large_arrays, key=lambda array: array.base is not None):  # views last
            array.setflags(write=True)
        for kind, contents in self._walk.recorded.items():
            for holder, before in kind.modified(contents):
                kind.restore(holder, before, is_own, alone)


# -- files ---------------------------------------------------------------------------------------------------------


def _files_of(root: nn.Module, classes: Collection[type]) -> set[str]:
    """The Python modules of a model's classes and functions, and those that these import from."""
    names = {base.__module__ for cls in classes for base in cls.__mro__}
    function = object_dict(root).get("forward")
    while function is not None:
        names.add(try_getattr(function, "__module__"))
        names.add(type(try_getattr(function, "__self__")).__module__)
        function = try_getattr(function, "func") or try_getattr(function, "__func__")
    names = set(filter(_is_users, names))
    pending = [*names]
    while pending:
        name = pending.pop()
        imported = _imported_from(name, len(vars(sys.modules[name]))) - names
        names |= imported
        pending += (origin for origin in imported if is_users_file(sys.modules[origin]))  # else its whole package
    return names


@functools.lru_cache(maxsize=1024)
def _imported_from(name: str, size: int) -> frozenset[str]:
    """The users' modules that a module imports, or whose functions and classes it has; again when it has grown."""
    module = sys.modules[name]
    origins: set[Any] = set()
    functions: list[Any] = []
    for value in [*vars(module).values()]:
        if is_a(value, (FunctionType, type, LRU_CACHE)):
            origins.add(try_getattr(value, "__module__"))
            functions += vars(value).values() if is_a(value, type) else [value]
        elif is_a(value, ModuleType) and is_users_file(value):
            origins.add(value.__name__)
    if is_users_file(module):
        package = str(vars(module).get("__package__") or "")
        codes = [function.__code__ for function in functions if is_a(function, FunctionType)]
        for imported in {imported for code in codes for imported in imports_in(code)}:
            named = sys.modules.get(imported) or sys.modules.get(f"{package}.{imported}")
            if isinstance(named, ModuleType) and is_users_file(named):
                origins.add(named.__name__)
    return frozenset(filter(_is_users, origins))


def _is_users(name: Any) -> bool:
    """Whether a module's name is that of a user's file; models of graphflops are such files too."""
    if not is_a(name, str) or not is_a(sys.modules.get(name), ModuleType):
        return False
    return name.partition(".")[0] not in _LIBRARIES or name.startswith("graphflops.models")


# -- the walk ------------------------------------------------------------------------------------------------------

_Visit = Callable[[Any, bool], None]


_methods: weakref.WeakKeyDictionary[type, str | Kind | None] = weakref.WeakKeyDictionary()
"""class → the method of ``StateWalk`` that visits its instances, or their kind; None if they have no state"""
_METHODS_BY_BASE: tuple[tuple[Any, str | Kind], ...] = (
    (collections.OrderedDict, ORDERED_DICTS),
    (dict, DICTS),
    (list, LISTS),
    (collections.deque, DEQUES),
    (set, SETS),
    (CellType, CELLS),
    ((tuple, frozenset), "_immutable"),
    (FunctionType, "_function"),
    (type, "_class"),
    (MethodType, "_method"),
    (BUILTIN_METHODS, "_builtin_method"),
    ((classmethod, staticmethod), "_descriptor"),
    (property, "_property"),
    (functools.partial, "_partial"),
    (LRU_CACHE, "_cached"),
    ((MappingProxyType, *DICT_VIEWS), "_view"),
    (weakref.ref, "_weak_reference"),
    (memoryview, "_memory_view"),
    (ContextVar, "_context_variable"),
    (threading.local, "_thread_local"),
    (torch.Tensor, "_tensor"),
)


def _method_for(cls: type) -> str | Kind | None:
    if is_shared_class(cls):
        return None
    if cls is dict:
        return "_dict"
    for base, method in _METHODS_BY_BASE:
        if issubclass(cls, base):
            return method
    if kind_of_content(cls) is not None:
        return "_content"
    if is_iterator(cls):
        return "_iterator"
    package = (cls.__module__ or "").partition(".")[0]
    is_of_python = package in _RECORDED_OF_PYTHON and not issubclass(cls, threading.Thread)
    is_recorded = issubclass(cls, nn.Module) or (not issubclass(cls, OPAQUE) and (is_plain(cls) or is_of_python))
    return "_object" if is_recorded else None


def may_have_state(cls: type) -> bool:
    """Whether instances of a class have state that is recorded."""
    return _method_for(cls) is not None


class StateWalk:
    """The state of Python modules that a program may write to: globals, containers, objects, functions, classes.

    Of an object whose class is defined elsewhere, its own attributes are included, but not those of further such
    objects that it refers to: these lead to all that its library knows.
    """

    def __init__(self, names: Collection[str], copy: Callable[[Any], Any]) -> None:
        self.recorded: dict[Kind, list[Content]] = {}
        self.replacements: dict[int, tuple[Any, Any]] = {}
        """id of a value that is replaced during the analysis → the value and its replacement"""
        self.compounds: list[Any] = []
        """immutable objects that may contain such values, outer ones first"""
        self.large_arrays: list[Any] = []
        """arrays that cannot be written to until the analysis ends"""
        self._array_bytes = MAX_ARRAY_BYTES
        self._names = names
        self._copy = copy
        self._dicts = self.recorded.setdefault(DICTS, [])
        self._functions = self.recorded.setdefault(FUNCTIONS, [])
        self._users: dict[Any, bool] = {}
        self._visited: set[int] = set()
        self._stateless: set[type] = {*ATOMS}
        self._visits: dict[type, _Visit] = {}
        self._contents: dict[type, Kind | None] = {}
        self._own: list[Any] = []
        self._foreign: list[Any] = []

    def visit_files(self, classes: Collection[type]) -> None:
        """Record the state of the files, and of some classes."""
        self._push((base for cls in classes for base in cls.__mro__), False)
        for name in self._names:
            self._record(NAMESPACES, sys.modules[name], False)
        self._walk()

    def visit(self, value: Any) -> None:
        """Record the state of another value; of a class whatever file it is from."""
        if issubclass(type(value), type):  # isinstance asks objects that may raise
            for base in value.__mro__:
                if id(base) not in self._visited and self._is_users(base.__module__):
                    self._visited.add(id(base))
                    self._record(CLASSES, base, False)
        else:
            self._push((value,), False)
        self._walk()

    def _is_users(self, module: Any) -> bool:
        if module not in self._users:
            self._users[module] = _is_users(module)
        return self._users[module]

    def _walk(self) -> None:
        own, foreign, visited, visits = self._own, self._foreign, self._visited, self._visits
        while (own or foreign) and len(visited) < _MAX_VALUES:
            is_foreign = not own
            value = (own or foreign).pop()
            if id(value) in visited:
                continue
            visited.add(id(value))
            cls = type(value)
            if (visit := visits.get(cls)) is not None:
                visit(value, is_foreign)
            elif (first_visit := self._visit_of(cls)) is not None:
                visits[cls] = first_visit
                first_visit(value, is_foreign)
            else:
                self._stateless.add(cls)

    def _push(self, values: Iterable[Any], is_foreign: bool) -> None:
        stateless = self._stateless
        (self._foreign if is_foreign else self._own).extend([value for value in values if type(value) not in stateless])

    def _record(self, kind: Kind, holder: Any, is_foreign: bool) -> None:
        before = kind.read(holder)
        self.recorded.setdefault(kind, []).append((holder, before))
        self._push(kind.values(before), is_foreign)

    def _dict(self, value: dict[Any, Any], is_foreign: bool) -> None:
        """Record a dict, as most holders are: faster than ``_record``."""
        before, stateless = value.copy(), self._stateless
        self._dicts.append((value, before))
        (self._foreign if is_foreign else self._own).extend(
            [value for value in before.values() if type(value) not in stateless]
        )

    def _visit_of(self, cls: type) -> _Visit | None:
        """The method that visits the instances of a class; None if they have no state."""
        if cls not in _methods:
            _methods[cls] = _method_for(cls)
        if (name := _methods[cls]) is None:
            return None
        if isinstance(name, str):
            return getattr(self, name)  # type: ignore[no-any-return]
        if cls.__module__ in ("builtins", "collections"):
            return functools.partial(self._record, name)
        return functools.partial(self._holder, name)

    # -- kinds of values ---------------------------------------------------------------------------------------------

    def _holder(self, kind: Kind, value: Any, is_foreign: bool) -> None:
        self._record(kind, value, is_foreign)
        self._object(value, is_foreign)

    def _object(self, value: Any, is_foreign: bool) -> None:
        cls = type(value)
        is_defined_elsewhere = cls.__module__ not in self._names and not is_a(value, nn.Module)
        if is_foreign and is_defined_elsewhere:
            return
        if cls.__dictoffset__ and id(attributes := object_dict(value)) not in self._visited:
            self._visited.add(id(attributes))
            self._dict(attributes, is_defined_elsewhere)
        if has_slots(cls):
            self._record(SLOTS, value, is_defined_elsewhere)

    def _property(self, value: Any, is_foreign: bool) -> None:
        self._push((value.fget, value.fset, value.fdel), is_foreign)

    def _weak_reference(self, value: Any, is_foreign: bool) -> None:
        self._push((weakref.ref.__call__(value),), is_foreign)

    def _memory_view(self, value: Any, is_foreign: bool) -> None:
        self._push((value.obj,), is_foreign)

    def _context_variable(self, value: Any, is_foreign: bool) -> None:
        self._push((value.get(None),), is_foreign)

    def _immutable(self, value: Any, is_foreign: bool) -> None:
        if is_a(value, tuple):
            self.compounds.append(value)
            self._push(tuple.__iter__(value), is_foreign)
        else:
            self._push(frozenset.__iter__(value), is_foreign)
        if type(value) not in (tuple, frozenset):
            self._object(value, is_foreign)

    def _class(self, value: Any, is_foreign: bool) -> None:
        if value.__module__ in self._names:
            self._record(CLASSES, value, False)

    def _function(self, function: Any, is_foreign: bool) -> None:
        if not self._is_users(function.__module__):
            return
        self._functions.append((function, FUNCTIONS.read(function)))
        self._push((function.__defaults__, function.__kwdefaults__), is_foreign)
        if vars(function):
            self._dict(vars(function), is_foreign)
        if function.__closure__:
            self._push(function.__closure__, is_foreign)

    def _method(self, method: Any, is_foreign: bool) -> None:
        if not self._draws(method):
            self._push((method.__func__, method.__self__), is_foreign)

    def _builtin_method(self, method: Any, is_foreign: bool) -> None:
        if self._draws(method) or is_a(owner := method.__self__, (ModuleType, type)):
            return
        self.compounds.append(method)
        self._push((owner,), is_foreign)

    def _descriptor(self, value: Any, is_foreign: bool) -> None:
        self.compounds.append(value)
        self._push((value.__func__,), is_foreign)

    def _partial(self, value: Any, is_foreign: bool) -> None:
        self.compounds.append(value)
        self._push((value.func, value.keywords, object_dict(value), *value.args), is_foreign)

    def _cached(self, value: Any, is_foreign: bool) -> None:
        self.replacements[id(value)] = value, CachedPerAnalysis(value)
        self._push((value.__wrapped__,), is_foreign)

    def _draws(self, function: Any) -> bool:
        """Replace a function that draws random numbers; return whether it is one."""
        if (replacement := with_own_generator(function)) is not None:
            self.replacements[id(function)] = function, replacement
        return replacement is not None

    def _iterator(self, value: Any, is_foreign: bool) -> None:
        self.replacements[id(value)] = value, IteratorPerAnalysis(value, self._copy)

    def _view(self, value: Any, is_foreign: bool) -> None:
        mapping = gc.get_referents(value)[0]
        if not (is_a(mapping, dict) and "__module__" in mapping):  # else it is the namespace of a class
            self._push((mapping,), is_foreign)

    def _thread_local(self, value: Any, is_foreign: bool) -> None:
        self._record(OF_THREAD, threading.local.__getattribute__(value, "__dict__"), is_foreign)

    def _tensor(self, value: Any, is_foreign: bool) -> None:
        if type(value) in (torch.Tensor, nn.Parameter):
            self._dict(object_dict(value), True)

    def _content(self, value: Any, is_foreign: bool) -> None:
        """Record an instance of a class that keeps its state to itself."""
        if is_array(value):
            if value.dtype.hasobject:
                self._push(value.flat, is_foreign)
            if not value.flags.writeable or not self._fits(value):
                return
        cls = type(value)
        if cls not in self._contents:
            self._contents[cls] = kind_of_content(cls)
        if (kind := self._contents[cls]) is not None:
            self._record(kind, value, is_foreign)

    def _fits(self, array: Any) -> bool:
        """Whether an array is small enough to be recorded; else it cannot be written to during the analysis."""
        if (left := self._array_bytes - array.nbytes) >= 0:
            self._array_bytes = left
            return True
        with suppress(ValueError):  # an array whose memory numpy does not own
            view = array[:0] if array.ndim else array[()]
            view.setflags(write=False)
            view.setflags(write=True)
            if is_alone():
                array.setflags(write=False)
                self.large_arrays.append(array)
        return False
