"""Watched objects that blocks share: reads and writes of them are reported to a listener while a block runs.

The proxy of a number that belongs to the block is an `Index`, which may be a key and be compared. Any other use reports
that its value matters. An object is watched by methods that its class has meanwhile. The proxy of a list or dict is a
`View`: a subclass whose storage contains placeholders, so that C code that reads it without its methods fails instead
of going unnoticed.
"""

from __future__ import annotations

import copy
import functools
import operator
import threading
import types
from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch

from graphflops.tracing.copies.object_state import is_plain
from graphflops.tracing.folding.identical_blocks import PLAIN

ABSENT = object()
"""in the place of a value that does not exist"""


class Listener(Protocol):
    """Receives the reads and writes of watched objects."""

    is_watching: bool

    def is_shared(self, value: Any) -> bool:
        """Whether an object, list or dict is watched."""

    def get(self, shared: Any, key: Any) -> Any:
        """Return the value of a key; ``ABSENT`` if it has none."""

    def put(self, shared: Any, key: Any, value: Any) -> Any:
        """Record that a key is written or deleted, and return the value to write."""

    def keys(self, shared: Any) -> list[Any]:
        """Return all keys, whose number and order matter from now on."""

    def compare(self, index: Index, comparison: Callable[..., bool], operand: Any) -> bool:
        """Compare an index with a number."""

    def value_of(self, index: Index) -> int:
        """Return the number that an index stands for, whose value matters from now on."""

    def discard_template(self) -> None:
        """Stop watching, after an access whose effect is not known."""


class _Thread(threading.local):
    listener: Listener | None = None


thread = _Thread()
"""its ``listener`` receives the accesses in this thread"""


def is_constant(value: Any) -> bool:
    """Whether a value is immutable and compared by its contents."""
    if type(value) is tuple:
        return all(map(is_constant, value))
    return type(value) in PLAIN or type(value) is torch.Size


def is_same(value: Any, candidate: Any) -> bool:
    """Whether two attributes are the same object, or plain and equal."""
    if value is candidate:
        return True
    if type(value) is not type(candidate):
        return False
    if isinstance(value, (tuple, list)):
        return len(value) == len(candidate) and all(map(is_same, value, candidate))
    if isinstance(value, dict):
        return list(value) == list(candidate) and all(is_same(item, candidate[key]) for key, item in value.items())
    if type(value) is functools.partial:
        return all(map(is_same, *((partial.func, partial.args, partial.keywords) for partial in (value, candidate))))
    return isinstance(value, (*PLAIN, torch.Size)) and bool(value == candidate)


# -- numbers -------------------------------------------------------------------------------------------------------


class Index:
    """A number that differs between blocks, in the place of an int."""

    __slots__ = ("listener", "name", "value")

    def __init__(self, listener: Listener, name: Any, value: int) -> None:
        self.listener, self.name, self.value = listener, name, value

    def plain(self) -> int:
        """Return the int, for a use in which its value matters."""
        return self.listener.value_of(self)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # read by isinstance
        return int

    def __hash__(self) -> int:
        return hash(self.plain())

    def __bool__(self) -> bool:
        return self.listener.compare(self, operator.ne, 0)

    def __copy__(self) -> int:
        return self.plain()

    def __deepcopy__(self, memo: Any) -> int:
        return self.plain()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return int, (self.plain(),)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain(), name)


def _comparing(name: str) -> Callable[..., Any]:
    comparison, method = getattr(operator, name), getattr(int, name)

    def compare(self: Index, operand: Any) -> Any:
        if type(operand) in (int, bool, float):
            return self.listener.compare(self, comparison, operand)
        if operand is None:
            return method(self.value, operand)
        return method(self.plain(), operand.plain() if type(operand) is Index else operand)

    return compare


def _computing(name: str) -> Callable[..., Any]:
    plain, method = name.strip("_"), getattr(int, name)
    forward = getattr(operator, f"__{plain}__", None)
    reflected = getattr(operator, f"__{plain.removeprefix('r')}__", None)

    def compute(self: Index, *operands: Any) -> Any:
        values = [operand.plain() if type(operand) is Index else operand for operand in operands]
        if len(values) == 1 and forward is not None:  # so that a tensor's own method is tried as well
            return forward(self.plain(), *values)
        if len(values) == 1 and reflected is not None:
            return reflected(*values, self.plain())
        return method(self.plain(), *values)

    return compute


for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Index, _name, _comparing(_name))
_LIKE_ANY_OBJECT = ("__getattribute__", "__getnewargs__", "__sizeof__")
_OF_C = (types.WrapperDescriptorType, types.MethodDescriptorType)
for _name, _method in vars(int).items():
    if _name.startswith("__") and isinstance(_method, _OF_C) and _name not in {*vars(Index), *_LIKE_ANY_OBJECT}:
        setattr(Index, _name, _computing(_name))


# -- objects -------------------------------------------------------------------------------------------------------

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE, of classes that a program makes
_ACCESS = ("__getattribute__", "__setattr__", "__delattr__")
_COPYING = tuple(name for name in ("__reduce_ex__", "__getstate__") if hasattr(object, name))
_OTHER_KINDS = (torch.nn.Module, torch.Tensor, type, BaseException, tuple, list, dict, set, types.ModuleType)


def can_be_watched(value: Any) -> bool:
    """Whether all reads and writes of an object can be intercepted."""
    cls = type(value)
    if cls in (list, dict):
        return True
    return (
        type(cls) in (type, ABCMeta)
        and bool(cls.__flags__ & _HEAP_TYPE)
        and cls.__dictoffset__ != 0
        and not issubclass(cls, _OTHER_KINDS)
        and all(getattr(cls, name) in (getattr(object, name), _METHODS[name]) for name in _ACCESS)
        and is_plain(cls)
        and not any(vars(base).get("__slots__") for base in cls.__mro__)
    )


def _get_attribute(shared: Any, name: str) -> Any:
    listener = thread.listener
    if listener is None or not listener.is_shared(shared):
        return object.__getattribute__(shared, name)
    of_class = _of_class(shared, name)
    if name == "__dict__" or name in _COPYING:
        listener.discard_template()
    elif name != "__class__" and not hasattr(type(of_class), "__set__"):
        value = listener.get(shared, name)
        if value is not ABSENT:
            return value
        if not (is_constant(of_class) or isinstance(of_class, type) or hasattr(type(of_class), "__get__")):
            listener.discard_template()  # an attribute of the class, which may change
    return object.__getattribute__(shared, name)


def _set_attribute(shared: Any, name: str, value: Any) -> None:
    listener = thread.listener
    if listener is not None and listener.is_shared(shared):
        if name.startswith("__"):
            listener.discard_template()
        elif not hasattr(type(_of_class(shared, name)), "__set__"):
            value = listener.put(shared, name, value)
    object.__setattr__(shared, name, value)


def _delete_attribute(shared: Any, name: str) -> None:
    listener = thread.listener
    if listener is not None and listener.is_shared(shared):
        listener.put(shared, name, None)
    object.__delattr__(shared, name)


def _copying(name: str) -> Callable[..., Any]:
    original = getattr(object, name)

    def call(shared: Any, *args: Any) -> Any:
        listener = thread.listener
        if listener is not None and listener.is_shared(shared):
            listener.discard_template()
        return original(shared, *args)

    return call


def _of_class(shared: Any, name: str) -> Any:
    """Return an attribute of the class of an object without binding it; None if there is none."""
    return next((vars(base)[name] for base in type(shared).__mro__ if name in vars(base)), None)


_METHODS: Mapping[str, Callable[..., Any]] = {
    "__getattribute__": _get_attribute,
    "__setattr__": _set_attribute,
    "__delattr__": _delete_attribute,
    **{name: _copying(name) for name in _COPYING},
}
WATCHING = frozenset(_METHODS)
"""names of the methods that the class of a watched object has meanwhile"""
_gate = threading.Lock()
_watched: dict[type, tuple[int, list[str]]] = {}


def watch(cls: type) -> None:
    """Let a class report accesses to those of its instances that are watched, in the threads that watch them."""
    with _gate:
        users, names = _watched.get(cls, (0, []))
        if not users:
            names = [name for name in _METHODS if getattr(cls, name) in (getattr(object, name), _METHODS[name])]
            for name in names:
                setattr(cls, name, _METHODS[name])
        _watched[cls] = users + 1, names


def unwatch(cls: type) -> None:
    """Restore a class after `watch`, unless it is watched elsewhere."""
    with _gate:
        users, names = _watched.pop(cls)
        if users > 1:
            _watched[cls] = users - 1, names
        else:
            for name in names:
                delattr(cls, name)


# -- lists and dicts -----------------------------------------------------------------------------------------------


class _Placeholder:
    """An item in the storage of a view."""


class View:
    """The proxy of a shared list or dict."""

    shared: Any

    def _listener(self) -> Listener | None:
        """Return the listener; None if the list or dict is no longer watched."""
        listener = thread.listener
        return listener if listener is not None and listener.is_shared(self.shared) else None

    def _original(self) -> Any:
        """Return the shared list or dict, for a use whose effect is not known."""
        if (listener := self._listener()) is not None:
            listener.discard_template()
        return self.shared


class ListView(View, list):  # type: ignore[type-arg]
    """The proxy of a shared list."""

    def __init__(self, shared: list[Any]) -> None:
        list.__init__(self, (_Placeholder() for _ in shared))
        self.shared = shared

    def __getitem__(self, key: Any) -> Any:
        listener = self._listener()
        if listener is None or not self._is_place(key):
            return self._original()[_plain(key)]
        return listener.get(self.shared, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        listener = self._listener()
        if listener is None or not self._is_place(key):
            self._original()[_plain(key)] = value
        else:
            value = listener.put(self.shared, key, value)
            self.shared[_plain(key)] = value

    def __len__(self) -> int:
        if (listener := self._listener()) is not None:
            listener.keys(self.shared)
        return len(self.shared)

    def __iter__(self) -> Iterator[Any]:
        place = 0
        while place < len(self):
            yield self[place]
            place += 1

    def _is_place(self, key: Any) -> bool:
        return type(key) in (int, Index) and -len(self.shared) <= _plain(key) < len(self.shared)


class DictView(View, dict):  # type: ignore[type-arg]
    """The proxy of a shared dict."""

    def __init__(self, shared: dict[Any, Any]) -> None:
        dict.__init__(self, {key: _Placeholder() for key in shared})
        self.shared = shared

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, ABSENT)
        if value is ABSENT:
            raise KeyError(_plain(key))
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key."""
        listener = self._listener()
        if listener is None or type(key) not in _KEYS:
            return self._original().get(_plain(key), default)
        value = listener.get(self.shared, key)
        return default if value is ABSENT else value

    def __setitem__(self, key: Any, value: Any) -> None:
        listener = self._listener()
        if listener is None or type(key) not in _KEYS:
            self._original()[_plain(key)] = value
        else:
            value = listener.put(self.shared, key, value)
            self.shared[_plain(key)] = value

    def __contains__(self, key: Any) -> bool:
        return self.get(key, ABSENT) is not ABSENT

    def __len__(self) -> int:
        return len(self._keys())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys())

    def keys(self) -> Any:
        """Return the keys."""
        return dict.fromkeys(self._keys()).keys()

    def values(self) -> Any:
        """Return the values, all of which count as read."""
        return {key: self[key] for key in self._keys()}.values()

    def items(self) -> Any:
        """Return the keys with their values, all of which count as read."""
        return {key: self[key] for key in self._keys()}.items()

    def _keys(self) -> list[Any]:
        listener = self._listener()
        return list(self.shared) if listener is None else listener.keys(self.shared)


_KEYS = (int, str, Index)


def _plain(key: Any) -> Any:
    return key.value if type(key) is Index else key


def _unsupported(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._original(), name)(*args, **kwargs)

    return call


def _copy(self: Any) -> Any:
    return copy.copy(self._original())


def _deep_copy(self: Any, memo: Any) -> Any:
    return copy.deepcopy(self._original(), memo)


def _added_to(self: Any, operand: Any) -> Any:
    return operand + self._original()


_OF_EVERY_OBJECT = ("__new__", "__init__", "__getattribute__", "__class_getitem__", "__sizeof__", "__doc__", "__hash__")
for _view, _base in ((ListView, list), (DictView, dict)):
    for _name, _use in (("__copy__", _copy), ("__deepcopy__", _deep_copy), ("__radd__", _added_to)):
        setattr(_view, _name, _use)
    for _name in (*vars(_base), "__reduce_ex__", "__reduce__"):
        if _name not in vars(_view) and _name not in _OF_EVERY_OBJECT:
            setattr(_view, _name, _unsupported(_name))
