"""The part of a shared object that belongs to one block: what the block reaches through an index of its own.

Blocks may share an object that each of them writes, such as a cache with one layer for each block. While a block runs
as a template, its reads and writes of the objects among its inputs are recorded. A later block repeats it if it would
read the same, but for its index; then the same is written to its part, with tensors of its own.

An access whose effect is not known discards the template. A proxy that outlives it aborts the folding. In doubt, a
block runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from graphflops.tracing.copies.object_state import object_dict
from graphflops.tracing.folding.identical_blocks import Block
from graphflops.tracing.folding.shared_objects import (
    ABSENT,
    DictView,
    Index,
    ListView,
    View,
    can_be_watched,
    is_constant,
    is_same,
    thread,
    unwatch,
    watch,
)
from graphflops.tracing.recording.repeats import Output
from graphflops.tracing.session.aborts import FoldingAborted


class _Own(NamedTuple):
    """A key that is an attribute of one of the block's modules."""

    ordinal: int
    name: str


class _Part(NamedTuple):
    """The number of a part: a value that is an object, list or dict which is watched as well."""

    number: int


class _Tensor(NamedTuple):
    """The number of a tensor that existed before the block ran."""

    number: int


_EXISTS = object()
"""in the place of a value that existed, and was not read"""

_UNREFERENCED = 2
"""references to an object that only a list holds, while they are counted"""


@dataclass(eq=False)
class Part:
    """A shared object, list or dict that a block reached."""

    shared: Any
    before: Mapping[Any, Any]
    """its contents before the block ran"""
    names: dict[Any, set[Any]] = field(default_factory=dict)
    """key that was used → how it was named: an `_Own`, or the key itself"""
    reads: dict[Any, Any] = field(default_factory=dict)
    """key → its value before the block wrote it"""
    written: set[Any] = field(default_factory=set)
    all_keys: bool = False
    """whether the number of keys or their order matters"""
    view: Any = None


@dataclass(frozen=True)
class Match:
    """The parts of a block that repeats a template, and its tensors in them, in the order of the template's."""

    block: Block
    parts: Sequence[Any]
    tensors: Sequence[torch.Tensor]


class Parts:
    """The reads and writes of a template of the objects among its inputs."""

    def __init__(
        self, roots: Sequence[Any], block: Block, identical: Sequence[Block], discard: Callable[[], None]
    ) -> None:
        self.block = block
        self.tensors: list[torch.Tensor] = []
        """the tensors that were read"""
        self.is_watching = False
        self._identical = identical
        self._discard = discard
        self._parts: list[Part] = []
        self._roots = len(roots)
        self._versions: list[int] = []
        self._values_that_matter: set[_Own] = set()
        self._comparisons: dict[tuple[_Own, Callable[..., bool], Any], bool] = {}
        self._part_numbers: dict[int, int] = {}  # by the id of the shared object
        self._tensor_numbers: dict[int, int] = {}  # by the id of the tensor
        self._indices: dict[_Own, Index] = {}
        self._classes: list[type] = []
        for root in roots:
            self._part_of(root)

    # -- while the block runs ------------------------------------------------------------------------------------

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the shared objects.

        Raises:
            FoldingAborted: the block failed, perhaps because of a proxy, or keeps a proxy.
        """
        outer, thread.listener = thread.listener, self
        self.is_watching = True
        try:
            yield
        except Exception as error:
            if self._indices or len(self._parts) > self._roots:
                raise FoldingAborted from error
            raise
        finally:
            self.stop()
            thread.listener = outer
        proxies = [*self._indices.values(), *(part.view for part in self._parts if part.view is not None)]
        self._indices.clear()
        for part in self._parts:
            part.view = None
        if any(sys.getrefcount(proxies[place]) > _UNREFERENCED for place in range(len(proxies))):
            raise FoldingAborted

    def stop(self) -> None:
        """Stop watching."""
        self.is_watching = False
        while self._classes:
            unwatch(self._classes.pop())

    def discard_template(self) -> None:
        """Stop watching, as the block cannot be a template."""
        if self.is_watching:
            self.stop()
            self._discard()

    def index(self, ordinal: int, name: str, value: Any) -> Any:
        """Return an `Index` in the place of an attribute of one of the modules; None if it is read as it is."""
        own = _Own(ordinal, name)
        if own in self._indices:
            return self._indices[own]
        if type(value) is not int or not self.is_watching:
            return None
        values = [vars(block.modules[ordinal])[name] for block in self._identical]
        if all(type(number) is int and number == value for number in values):
            return None
        self._indices[own] = index = Index(self, own, value)
        return index

    def is_shared(self, value: Any) -> bool:
        """Whether an object, list or dict is watched."""
        return self.is_watching and id(value) in self._part_numbers

    def get(self, shared: Any, key: Any) -> Any:
        """Record the read of a key, and return its value; ``ABSENT`` if it has none."""
        part = self._parts[self._part_numbers[id(shared)]]
        plain = self._plain(part, key)
        value = _contents(shared).get(plain, ABSENT)
        if plain not in part.written and plain not in part.reads:
            part.reads[plain] = self._recorded(value)
        number = self._part_numbers.get(id(value)) if self.is_watching else None
        view = None if number is None else self._parts[number].view
        return value if view is None else view

    def put(self, shared: Any, key: Any, value: Any) -> Any:
        """Record that a key is written or deleted, and return the value to write."""
        part = self._parts[self._part_numbers[id(shared)]]
        if type(value) is Index:
            value = value.plain()
        elif isinstance(value, View):
            value = value.shared
            self.discard_template()
        plain = self._plain(part, key)
        part.reads.setdefault(plain, _EXISTS if plain in part.before else ABSENT)
        part.written.add(plain)
        return value

    def keys(self, shared: Any) -> list[Any]:
        """Return all keys, whose number and order matter from now on."""
        part = self._parts[self._part_numbers[id(shared)]]
        part.all_keys = True
        keys = list(_contents(shared))
        if keys != list(part.before):
            self.discard_template()
        return keys

    def compare(self, index: Index, comparison: Callable[..., bool], operand: Any) -> bool:
        """Compare an index with a number; the answer has to be the same in a repeat."""
        answer = comparison(index.value, operand)
        if self.is_watching:
            self._comparisons[index.name, comparison, operand] = answer
        return answer

    def value_of(self, index: Index) -> int:
        """Return the number that an index stands for, which has to be equal in a repeat."""
        if self.is_watching:
            self._values_that_matter.add(index.name)
        return index.value

    def _plain(self, part: Part, key: Any) -> Any:
        """Return a key as the part has it, and record how it was named."""
        plain, name = (key.value, key.name) if type(key) is Index else (key, key)
        if isinstance(part.shared, list) and plain < 0:
            part.all_keys = True
            if type(key) is Index:
                self.value_of(key)
            plain = name = plain + len(part.shared)
        part.names.setdefault(plain, set()).add(name)
        return plain

    def _recorded(self, value: Any) -> Any:
        """Return a value as it is compared with that of a repeat."""
        if value is ABSENT or isinstance(value, type) or is_constant(value):
            return value
        if isinstance(value, torch.Tensor):
            if id(value) not in self._tensor_numbers:
                self._tensor_numbers[id(value)] = len(self.tensors)
                self.tensors.append(value)
                self._versions.append(value._version)
            return _Tensor(self._tensor_numbers[id(value)])
        if id(value) in self._part_numbers or can_be_watched(value):
            return _Part(self._part_of(value))
        self.discard_template()
        return value

    def _part_of(self, shared: Any) -> int:
        """Return the number of the part that an object, list or dict is."""
        if id(shared) not in self._part_numbers:
            self._part_numbers[id(shared)] = len(self._parts)
            part = Part(shared, dict(_contents(shared)))
            self._parts.append(part)
            if type(shared) is list:
                part.view = ListView(shared)
            elif type(shared) is dict:
                part.view = DictView(shared)
            else:
                watch(type(shared))
                self._classes.append(type(shared))
        return self._part_numbers[id(shared)]

    # -- after it has run -----------------------------------------------------------------------------------------

    def writes(self) -> list[tuple[int, Any, Any]] | None:
        """Return number of the part, key and value of each write; None if a repeat could not make one of them."""
        writes: list[tuple[int, Any, Any]] = []
        for number, part in enumerate(self._parts):
            after = _contents(part.shared)
            unseen = {*part.before, *after} - part.written
            if any(after.get(key, ABSENT) is not part.before.get(key, ABSENT) for key in unseen):
                return None
            for key in part.written:
                value = after.get(key, ABSENT)
                if id(value) in self._tensor_numbers:
                    value = _Tensor(self._tensor_numbers[id(value)])
                elif id(value) in self._part_numbers:
                    value = _Part(self._part_numbers[id(value)])
                elif not (value is ABSENT or isinstance(value, (type, torch.Tensor)) or is_constant(value)):
                    return None
                writes.append((number, key, value))
        if [tensor._version for tensor in self.tensors] != self._versions:
            return None
        return writes

    def match(self, block: Block, roots: Sequence[Any]) -> Match | None:
        """Return the parts of another block, called with its own roots; None if it would not read the same."""
        shared: list[Any] = [*roots, *([ABSENT] * (len(self._parts) - len(roots)))]
        tensors: list[Any] = [ABSENT] * len(self.tensors)
        if not self._has_numbers_for(block):
            return None
        for part, counterpart in zip(self._parts, shared, strict=True):  # each is reached through those before it
            if type(counterpart) is not type(part.shared):
                return None
            contents = _contents(counterpart)
            keys = [{_key(block, name) for name in names} for names in part.names.values()]
            if part.all_keys and list(contents) != list(part.before):
                return None
            if any(len(names) > 1 for names in keys) or len(set().union(*keys)) < len(keys):
                return None  # one key of the template is two here, or two are one
            for (key,), expected in zip(keys, (part.reads[key] for key in part.names), strict=True):
                value = contents.get(key, ABSENT)
                if isinstance(expected, (_Part, _Tensor)):
                    known = shared if isinstance(expected, _Part) else tensors
                    if known[expected.number] is ABSENT:
                        known[expected.number] = value
                    if value is ABSENT or known[expected.number] is not value:
                        return None
                elif value is ABSENT if expected is _EXISTS else not is_same(expected, value):
                    return None
        if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
            return None
        if len({*map(id, shared)}) < len(shared) or len({*map(id, tensors)}) < len(tensors):
            return None
        return Match(block, shared, tensors)

    def write(self, match: Match, writes: Sequence[tuple[int, Any, Any]], outputs: Sequence[Any]) -> None:
        """Make the writes to the parts of another block, with its own outputs."""
        for number, key, value in writes:
            shared = match.parts[number]
            contents: Any = shared if isinstance(shared, (list, dict)) else object_dict(shared)
            key = _key(match.block, next(iter(self._parts[number].names[key])))
            if isinstance(value, Output):
                value = outputs[value.place]
            elif isinstance(value, _Tensor):
                value = match.tensors[value.number]
            elif isinstance(value, _Part):
                value = match.parts[value.number]
            if value is ABSENT:
                contents.pop(key, None)
            else:
                contents[key] = value

    def _has_numbers_for(self, block: Block) -> bool:
        """Whether the numbers of a block compare as those of the template, and are equal where they matter."""
        names = {name for part in self._parts for names in part.names.values() for name in names}
        own = {name for name in names if isinstance(name, _Own)} | {name for name, *_ in self._comparisons}
        return (
            all(type(_key(block, name)) is int for name in own)
            and all(is_same(_key(self.block, name), _key(block, name)) for name in self._values_that_matter)
            and all(
                comparison(_key(block, name), operand) is answer
                for (name, comparison, operand), answer in self._comparisons.items()
            )
        )


def _key(block: Block, name: Any) -> Any:
    """Return the key that a name stands for in a block."""
    return vars(block.modules[name.ordinal])[name.name] if isinstance(name, _Own) else name


def _contents(shared: Any) -> Mapping[Any, Any]:
    """Return the contents of a part by its keys: names of attributes, places in a list, or keys of a dict."""
    if isinstance(shared, list):
        return dict(enumerate(shared))
    return shared if isinstance(shared, dict) else object_dict(shared)
