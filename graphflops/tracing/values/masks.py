"""Assumptions about data-dependent masks, consistent over all masks that are made of the same numbers.

A mask whose count is read is assumed full. Then its complement is empty, whether it is written ``~mask``, ``x <= 0``
beside ``x > 0``, or ``ids == 1`` beside ``ids == 0``: otherwise more rows would be selected in total than there are. So
an assumption is one about numbers: ``x > 0`` everywhere restricts x to that range, and other comparisons of x follow
from it. A mask that is made of no comparison is assumed by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from graphflops.core.torch_compat import OpOverload
from graphflops.tracing.values.provenance import Call

aten = torch.ops.aten

MAX_MASK_DEPTH = 50
"""operations between a mask and the comparisons that it is made of"""
MAX_KEY_DEPTH = 8
"""operations that are compared to tell whether two tensors hold the same numbers: ``x[:, 0]`` and ``x[:, 0]``"""


@dataclass(frozen=True)
class NumberRange:
    """The numbers between two bounds, without some points."""

    lower: float = -math.inf
    upper: float = math.inf
    lower_is_open: bool = False
    upper_is_open: bool = False
    excluded: frozenset[float] = field(default_factory=frozenset)

    def __contains__(self, number: float) -> bool:
        above = number > self.lower or (number == self.lower and not self.lower_is_open)
        below = number < self.upper or (number == self.upper and not self.upper_is_open)
        return above and below and number not in self.excluded

    @property
    def is_empty(self) -> bool:
        """Whether no number is in the range."""
        return self.lower > self.upper or (self.lower == self.upper and self.lower not in self)

    def __and__(self, other: NumberRange) -> NumberRange:
        low = max(self, other, key=lambda numbers: (numbers.lower, numbers.lower_is_open))
        high = min(self, other, key=lambda numbers: (numbers.upper, not numbers.upper_is_open))
        excluded = self.excluded | other.excluded
        return NumberRange(low.lower, high.upper, low.lower_is_open, high.upper_is_open, excluded)


@dataclass(frozen=True)
class Condition:
    """A comparison of a number, or of the difference of two, with a bound.

    ``key`` identifies the tensor of the numbers, ``name`` is that of the operator: gt, ge, lt, le, eq or ne.
    """

    key: Any
    name: str
    bound: float
    is_integer: bool

    @property
    def negated(self) -> Condition:
        """The condition that holds where this one does not."""
        return replace(self, name=_OPPOSITE[self.name])

    @property
    def range(self) -> NumberRange:
        """The numbers for which the condition holds; of integers ``> 0`` are those ``>= 1``."""
        bound, is_integer = self.bound, self.is_integer and math.isfinite(self.bound)
        if self.name == "gt":
            if is_integer:
                return NumberRange(lower=math.floor(bound) + 1)
            return NumberRange(lower=bound, lower_is_open=True)
        if self.name == "ge":
            return NumberRange(lower=math.ceil(bound) if is_integer else bound)
        if self.name == "lt":
            if is_integer:
                return NumberRange(upper=math.ceil(bound) - 1)
            return NumberRange(upper=bound, upper_is_open=True)
        if self.name == "le":
            return NumberRange(upper=math.floor(bound) if is_integer else bound)
        return NumberRange(bound, bound) if self.name == "eq" else NumberRange(excluded=frozenset({bound}))


_OPPOSITE = {"gt": "le", "le": "gt", "lt": "ge", "ge": "lt", "eq": "ne", "ne": "eq"}
_MIRRORED = {"gt": "lt", "lt": "gt", "ge": "le", "le": "ge", "eq": "eq", "ne": "ne"}
_SAME_ELEMENTS = {
    *(aten.view, aten._unsafe_view, aten.reshape, aten.expand, aten.unsqueeze, aten.squeeze, aten.alias, aten.detach),
    *(aten.clone, aten.permute, aten.t, aten.transpose, aten.lift_fresh, aten.contiguous),
}
"""operators whose result has the elements of the operand, in any order"""
_NOT = {aten.logical_not, aten.bitwise_not}
_AND, _OR = {aten.logical_and, aten.bitwise_and, aten.mul}, {aten.logical_or, aten.bitwise_or}
_SELECTIONS = {aten.slice, aten.select, aten.index, aten.index_select, aten.narrow}


class TensorFacts(Protocol):
    """The facts about tensors that assumptions about masks are derived from."""

    def current_producer(self, tensor: torch.Tensor) -> Call | None:
        """The call that made a tensor; None if it is not known, or the tensor or an operand was written to since."""

    def version_of(self, tensor: torch.Tensor) -> int:
        """A number that changes whenever the memory of a tensor is written to."""

    def number_in(self, tensor: torch.Tensor) -> float | None:
        """The number that all elements of a tensor equal, if it follows from constants."""


class MaskAssumptions:
    """The assumptions about the masks of one trace. It keeps tensors alive, so that their ids stay unique."""

    def __init__(self, facts: TensorFacts) -> None:
        self.facts = facts
        self._ranges: dict[Any, NumberRange] = {}
        self._kept: dict[int, torch.Tensor] = {}

    @property
    def ranges(self) -> dict[Any, NumberRange]:
        """All assumptions so far; assign them again to take later ones back."""
        return dict(self._ranges)

    @ranges.setter
    def ranges(self, ranges: dict[Any, NumberRange]) -> None:
        self._ranges = ranges

    def truth(self, mask: torch.Tensor) -> bool | None:
        """The truth value of all elements of a mask, if it follows from the assumptions; else None."""
        return self._truth(mask, 0) if self._ranges else None

    def assume(self, mask: torch.Tensor, truth: bool = True) -> None:
        """Assume that all elements of a mask are true, or false, by restricting the numbers that it is made of."""
        self._assume(mask, truth, 0)

    def _truth(self, mask: torch.Tensor, depth: int) -> bool | None:
        kind, parts = self._parse(mask, depth)
        if kind == "not":
            inner = self._truth(parts[0], depth + 1)
            return None if inner is None else not inner
        if kind in ("and", "or"):
            truths = [self._truth_or_constant(part, depth + 1) for part in parts]
            decisive = kind == "or"
            if decisive in truths:
                return decisive
            return None if None in truths else not decisive
        return self._truth_of_condition(parts[0])

    def _truth_or_constant(self, mask: torch.Tensor, depth: int) -> bool | None:
        number = self.facts.number_in(mask)
        return self._truth(mask, depth) if number is None else bool(number)

    def _truth_of_condition(self, condition: Condition) -> bool | None:
        assumed = self._range(condition.key)
        if assumed is None:
            return None
        if (assumed & condition.range).is_empty:
            return False
        return True if (assumed & condition.negated.range).is_empty else None

    def _range(self, key: Any) -> NumberRange | None:
        """The assumed range of a tensor's numbers, by itself and as a part of other tensors."""
        assumed = self._ranges.get(key)
        while key[0] in _SELECTIONS:
            key = key[1]
            of_base = self._ranges.get(key)
            if of_base is not None:
                assumed = of_base if assumed is None else assumed & of_base
        return assumed

    def _assume(self, mask: torch.Tensor, truth: bool, depth: int) -> None:
        if self.facts.number_in(mask) is not None:
            return
        kind, parts = self._parse(mask, depth)
        if kind == "not":
            self._assume(parts[0], not truth, depth + 1)
        elif kind in ("and", "or"):
            undecided = [part for part in parts if self._truth_or_constant(part, depth + 1) is None]
            needs_all = (kind == "and") is truth  # else one part suffices
            if not needs_all and any(self._truth_or_constant(part, depth + 1) is truth for part in parts):
                return
            for part in undecided if needs_all else undecided[:1]:
                self._assume(part, truth, depth + 1)
        else:
            condition = parts[0] if truth else parts[0].negated
            assumed = self._range(condition.key)
            numbers = condition.range if assumed is None else assumed & condition.range
            if not numbers.is_empty:
                self._ranges[condition.key] = numbers

    def _parse(self, mask: torch.Tensor, depth: int) -> tuple[str, list[Any]]:
        """``not``, ``and`` or ``or`` with the masks that it is made of, or ``condition`` with a Condition."""
        mask = self._source(mask)
        call = self.facts.current_producer(mask) if depth < MAX_MASK_DEPTH else None
        if call is not None:
            packet, args = call.op.overloadpacket, call.args
            masks = [argument for argument in args if torch.is_tensor(argument) and argument.dtype == torch.bool]
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
                return "condition", [self._condition(name, *args)]
        return "condition", [Condition(self._key(mask), "ne", 0, is_integer=True)]

    def _condition(self, name: str, left: Any, right: Any) -> Condition:
        if not torch.is_tensor(left):
            return self._condition(_MIRRORED[name], right, left)
        bound = self._number(right)
        if bound is None and torch.is_tensor(right) and (number := self._number(left)) is not None:
            return self._condition(_MIRRORED[name], right, number)
        left = self._source(left)
        is_integer = not (left.is_floating_point() or left.is_complex())
        if bound is not None:
            return Condition(self._key(left), name, bound, is_integer)
        right = self._source(right)
        is_integer = is_integer and not right.is_floating_point()
        keys = self._key(left), self._key(right)
        if repr(keys[1]) < repr(keys[0]):
            keys, name = keys[::-1], _MIRRORED[name]
        return Condition(("difference", *keys), name, 0, is_integer)

    def _number(self, value: Any) -> float | None:
        if torch.is_tensor(value):
            return self.facts.number_in(value)
        return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else None

    def _key(self, tensor: torch.Tensor, depth: int = 0) -> Any:
        """A key that tensors with the same numbers share, as far as their operators tell."""
        tensor = self._source(tensor)
        call = self.facts.current_producer(tensor) if depth < MAX_KEY_DEPTH else None
        if call is not None and _is_pure(call.op):
            parts = tuple(self._key_of_argument(value, depth + 1) for value in (*call.args, *call.kwargs.items()))
            if any(isinstance(argument, torch.Tensor) for argument in call.args):
                return call.op.overloadpacket if call.op.overloadpacket in _SELECTIONS else call.op, *parts
        self._kept[id(tensor)] = tensor
        return "tensor", id(tensor), self.facts.version_of(tensor)

    def _key_of_argument(self, value: Any, depth: int) -> Any:
        if isinstance(value, torch.Tensor):
            return self._key(value, depth)
        if isinstance(value, (tuple, list)):
            return tuple(self._key_of_argument(part, depth) for part in value)
        return type(value).__name__, repr(value)

    def _source(self, tensor: torch.Tensor) -> torch.Tensor:
        """The first tensor that has the elements of a tensor, before views, copies and casts."""
        for _ in range(MAX_MASK_DEPTH):
            call = self.facts.current_producer(tensor)
            if call is None or not (call.op.overloadpacket in _SAME_ELEMENTS or _is_exact_cast(tensor, call)):
                break
            tensor = call.args[0]
        return tensor


def _is_exact_cast(tensor: torch.Tensor, call: Call) -> bool:
    """Whether a call copies to the same dtype, or casts a mask."""
    operand = call.args[0]
    return call.op.overloadpacket is aten._to_copy and (tensor.dtype == operand.dtype or operand.dtype == torch.bool)


def _is_pure(op: OpOverload) -> bool:
    """Whether the result of an operator depends on its arguments alone, and it writes to none."""
    return op.namespace == "aten" and not op._schema.is_mutable and torch.Tag.nondeterministic_seeded not in op.tags
