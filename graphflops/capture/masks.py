"""Masks that data decides: what is assumed of one is so for all that are made of the same numbers.

A mask that is asked how many it has, has all. Then its complement has none, whether it is written ``~mask``, ``x <= 0``
beside ``x > 0``, or ``ids == 1`` beside ``ids == 0``: otherwise more rows would be chosen in all than there are. So an
assumption is one about the numbers: ``x > 0`` everywhere puts all elements of x in that region, and what other
comparisons of x are is read off it. A truth that is made of nothing known is assumed to be so by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from graphflops.core.torch_compat import OpOverload

aten = torch.ops.aten

DEEPEST = 50
"""operations that a mask is followed through to the comparisons that it is made of"""
ALIKE = 8
"""operations that are compared to know whether two tensors hold the same numbers: ``x[:, 0]`` and ``x[:, 0]``"""


@dataclass(frozen=True)
class Region:
    """Numbers between two bounds, each of which may be left out, and without some points."""

    least: float = -math.inf
    most: float = math.inf
    without_least: bool = False
    without_most: bool = False
    without: frozenset[float] = field(default_factory=frozenset)

    def __contains__(self, number: float) -> bool:
        above = number > self.least or (number == self.least and not self.without_least)
        below = number < self.most or (number == self.most and not self.without_most)
        return above and below and number not in self.without

    @property
    def is_empty(self) -> bool:
        """Whether there is no such number."""
        return self.least > self.most or (self.least == self.most and self.least not in self)

    def __and__(self, other: Region) -> Region:
        low = max(self, other, key=lambda each: (each.least, each.without_least))
        high = min(self, other, key=lambda each: (each.most, not each.without_most))
        return Region(low.least, high.most, low.without_least, high.without_most, self.without | other.without)


@dataclass(frozen=True)
class Condition:
    """That a number, or the difference of two, is in a region, or that it is not."""

    key: Any
    name: str
    bound: float
    is_whole: bool

    @property
    def negated(self) -> Condition:
        """The condition that holds where this one does not."""
        return replace(self, name=_OPPOSITE[self.name])

    @property
    def region(self) -> Region:
        """The numbers of which it holds; of whole ones ``> 0`` are those ``>= 1``."""
        bound, whole = self.bound, self.is_whole and math.isfinite(self.bound)
        if self.name == "gt":
            return Region(least=math.floor(bound) + 1) if whole else Region(least=bound, without_least=True)
        if self.name == "ge":
            return Region(least=math.ceil(bound) if whole else bound)
        if self.name == "lt":
            return Region(most=math.ceil(bound) - 1) if whole else Region(most=bound, without_most=True)
        if self.name == "le":
            return Region(most=math.floor(bound) if whole else bound)
        return Region(bound, bound) if self.name == "eq" else Region(without=frozenset({bound}))


_OPPOSITE = {"gt": "le", "le": "gt", "lt": "ge", "ge": "lt", "eq": "ne", "ne": "eq"}
_MIRRORED = {"gt": "lt", "lt": "gt", "ge": "le", "le": "ge", "eq": "eq", "ne": "ne"}
_SAME = {
    *(aten.view, aten._unsafe_view, aten.reshape, aten.expand, aten.unsqueeze, aten.squeeze, aten.alias, aten.detach),
    *(aten.clone, aten.permute, aten.t, aten.transpose, aten.lift_fresh, aten.contiguous),
}
"""what has the same elements, in whatever order"""
_NOT = {aten.logical_not, aten.bitwise_not}
_AND, _OR = {aten.logical_and, aten.bitwise_and, aten.mul}, {aten.logical_or, aten.bitwise_or}
_PARTS = {aten.slice, aten.select, aten.index, aten.index_select, aten.narrow}


class Known(Protocol):
    """What is asked about tensors."""

    def made_by(self, tensor: torch.Tensor) -> tuple[OpOverload, tuple[Any, ...], Mapping[str, Any]] | None:
        """The operator that made a tensor, and on what; None if that is not known, or written over since."""

    def version_of(self, tensor: torch.Tensor) -> int:
        """A number that is another one after the memory of a tensor was written to."""

    def number_in(self, tensor: torch.Tensor) -> float | None:
        """The number that all elements of a tensor are, as far as constants tell."""


class Masks:
    """What is assumed of the masks of one trace. Tensors are kept, so that their ids stay their own."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self._regions: dict[Any, Region] = {}
        self._kept: dict[int, torch.Tensor] = {}

    @property
    def regions(self) -> dict[Any, Region]:
        """All that is assumed so far, to be set again if it was for nothing."""
        return dict(self._regions)

    @regions.setter
    def regions(self, regions: dict[Any, Region]) -> None:
        self._regions = regions

    def truth(self, mask: torch.Tensor) -> bool | None:
        """What all elements of a mask are, if it was assumed, or follows from what was; None if not."""
        return self._truth(mask, 0) if self._regions else None

    def assume(self, mask: torch.Tensor, truth: bool = True) -> None:
        """Assume of the numbers that a mask is made of what makes all of it true, or false."""
        self._assume(mask, truth, 0)

    def _truth(self, mask: torch.Tensor, depth: int) -> bool | None:
        kind, parts = self._made_of(mask, depth)
        if kind == "not":
            inner = self._truth(parts[0], depth + 1)
            return None if inner is None else not inner
        if kind in ("and", "or"):
            truths = [self._truth_or_constant(each, depth + 1) for each in parts]
            decisive = kind == "or"
            if decisive in truths:
                return decisive
            return None if None in truths else not decisive
        return self._of_condition(parts[0])

    def _truth_or_constant(self, mask: torch.Tensor, depth: int) -> bool | None:
        number = self.known.number_in(mask)
        return self._truth(mask, depth) if number is None else bool(number)

    def _of_condition(self, condition: Condition) -> bool | None:
        region = self._region(condition.key)
        if region is None:
            return None
        if (region & condition.region).is_empty:
            return False
        return True if (region & condition.negated.region).is_empty else None

    def _region(self, key: Any) -> Region | None:
        """What was assumed of a tensor, and of those that it is a part of."""
        found = self._regions.get(key)
        while key[0] in _PARTS:
            key = key[1]
            region = self._regions.get(key)
            if region is not None:
                found = region if found is None else found & region
        return found

    def _assume(self, mask: torch.Tensor, truth: bool, depth: int) -> None:
        if self.known.number_in(mask) is not None:
            return
        kind, parts = self._made_of(mask, depth)
        if kind == "not":
            self._assume(parts[0], not truth, depth + 1)
        elif kind in ("and", "or"):
            undecided = [each for each in parts if self._truth_or_constant(each, depth + 1) is None]
            every = (kind == "and") is truth  # all of them have to be so; else one of them is enough
            if not every and any(self._truth_or_constant(each, depth + 1) is truth for each in parts):
                return
            for each in undecided if every else undecided[:1]:
                self._assume(each, truth, depth + 1)
        else:
            condition = parts[0] if truth else parts[0].negated
            before = self._region(condition.key)
            region = condition.region if before is None else before & condition.region
            if not region.is_empty:
                self._regions[condition.key] = region

    def _made_of(self, mask: torch.Tensor, depth: int) -> tuple[str, list[Any]]:
        """``not``, ``and`` or ``or`` of other masks, or one condition on numbers."""
        mask = self._source(mask)
        made = self.known.made_by(mask) if depth < DEEPEST else None
        if made is not None:
            packet, args = made[0].overloadpacket, made[1]
            masks = [each for each in args if torch.is_tensor(each) and each.dtype == torch.bool]
            name = packet.__name__
            if packet in _NOT and masks:
                return "not", masks[:1]
            if len(masks) == 2 and packet in _AND:
                return "and", masks
            if len(masks) == 2 and packet in _OR:
                return "or", masks
            if name in _OPPOSITE and len(args) == 2:
                if len(masks) == 1 and name in ("eq", "ne") and (number := self._number(args[1])) in (0, 1):
                    return ("not", masks) if (name == "eq") is (number == 0) else ("and", masks)
                return "condition", [self._compared(name, *args)]
        return "condition", [Condition(self._key(mask), "ne", 0, is_whole=True)]

    def _compared(self, name: str, left: Any, right: Any) -> Condition:
        if not torch.is_tensor(left):
            return self._compared(_MIRRORED[name], right, left)
        bound = self._number(right)
        if bound is None and torch.is_tensor(right) and (number := self._number(left)) is not None:
            return self._compared(_MIRRORED[name], right, number)
        left = self._source(left)
        whole = not (left.is_floating_point() or left.is_complex())
        if bound is not None:
            return Condition(self._key(left), name, bound, whole)
        right = self._source(right)
        whole = whole and not right.is_floating_point()
        keys = self._key(left), self._key(right)
        if repr(keys[1]) < repr(keys[0]):
            keys, name = keys[::-1], _MIRRORED[name]
        return Condition(("difference", *keys), name, 0, whole)

    def _number(self, value: Any) -> float | None:
        if torch.is_tensor(value):
            return self.known.number_in(value)
        return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else None

    def _key(self, tensor: torch.Tensor, depth: int = 0) -> Any:
        """What is equal for tensors that hold the same numbers, as far as how they were made tells."""
        tensor = self._source(tensor)
        made = self.known.made_by(tensor) if depth < ALIKE else None
        if made is not None and _is_pure(made[0]):
            op, args, kwargs = made
            parts = tuple(self._part(each, depth + 1) for each in (*args, *kwargs.items()))
            if any(isinstance(each, torch.Tensor) for each in args):
                return op.overloadpacket if op.overloadpacket in _PARTS else op, *parts
        self._kept[id(tensor)] = tensor
        return "tensor", id(tensor), self.known.version_of(tensor)

    def _part(self, value: Any, depth: int) -> Any:
        if isinstance(value, torch.Tensor):
            return self._key(value, depth)
        if isinstance(value, (tuple, list)):
            return tuple(self._part(each, depth) for each in value)
        return type(value).__name__, repr(value)

    def _source(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor whose elements these are, as they are in another shape."""
        for _ in range(DEEPEST):
            made = self.known.made_by(tensor)
            if made is None or not (made[0].overloadpacket in _SAME or _is_cast(tensor, *made[:2])):
                break
            tensor = made[1][0]
        return tensor


def _is_cast(tensor: torch.Tensor, op: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether a tensor has the same truths, or the same numbers, in another dtype."""
    return op.overloadpacket is aten._to_copy and (tensor.dtype == args[0].dtype or args[0].dtype == torch.bool)


def _is_pure(op: OpOverload) -> bool:
    """Whether an operator makes the same of the same."""
    return op.namespace == "aten" and not op._schema.is_mutable and torch.Tag.nondeterministic_seeded not in op.tags
