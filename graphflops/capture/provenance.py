"""Origins: how each tensor of a trace was made, and what was written to its memory since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.capture.signatures import signature_of
from graphflops.core.torch_compat import FakeTensor, OpOverload, tree_leaves

aten = torch.ops.aten


@dataclass(frozen=True)
class Call:
    """A call of an operator that made a tensor, or wrote to it; kept with the tensor, so that its id stays its own."""

    tensor: torch.Tensor
    op: OpOverload
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    index: int
    """which of its results the tensor is"""
    ordinal: int
    """how many calls there were before it, and one"""


class Origins:
    """The calls of one trace, by what they made and what they wrote to."""

    def __init__(self) -> None:
        self.ordinal = 0
        """how many calls there were"""
        self._made: dict[int, Call] = {}
        self._writes: dict[int, list[Call]] = {}

    def remember(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """An operator ran on these arguments."""
        self.ordinal += 1
        written = list(written_by(op, args, kwargs))
        for each in written:
            self._writes.setdefault(memory_of(each), []).append(Call(each, op, args, kwargs, 0, self.ordinal))
        for index, each in enumerate(result if isinstance(result, (tuple, list)) else (result,)):
            if not isinstance(each, FakeTensor) or id(each) in self._made or any(each is other for other in written):
                continue
            self._made[id(each)] = Call(each, op, args, kwargs, index, self.ordinal)

    def given(self, tensor: torch.Tensor) -> None:
        """A tensor was there before; without arguments, its call says nothing of it."""
        self._made.setdefault(id(tensor), Call(tensor, aten.alias.default, (), {}, 0, self.ordinal))

    def of(self, tensor: torch.Tensor) -> Call | None:
        """The call that made a tensor, if one did."""
        return self._made.get(id(tensor))

    def made_by(self, tensor: torch.Tensor) -> Call | None:
        """The call whose one result a tensor still is, on operands that are still what they were."""
        made = self._made.get(id(tensor))
        if made is None or not made.args or made.index or self.last_write(tensor) >= made.ordinal:
            return None
        operands = (each for each in tree_leaves(made.args) if torch.is_tensor(each))
        return None if any(self.last_write(each) >= made.ordinal for each in operands) else made

    def last_write(self, tensor: torch.Tensor) -> int:
        """The ordinal of the last call that wrote to the memory of a tensor; -1 if none did."""
        writes = self._writes.get(memory_of(tensor))
        return writes[-1].ordinal if writes else -1

    def writes(self, tensor: torch.Tensor, before: int | None = None) -> list[Call]:
        """The calls that wrote to the memory of a tensor, in order; those before a call alone, if one is named."""
        writes = self._writes.get(memory_of(tensor)) if self._writes else None
        if not writes:
            return []
        return writes if before is None else [each for each in writes if each.ordinal < before]

    def root_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor whose memory it was made a view of; itself, if it has its own."""
        memory = memory_of(tensor)
        while (made := self._made.get(id(tensor))) is not None:
            base = next((each for each in tree_leaves(made.args) if _shares(each, memory)), None)
            if base is None or base is tensor:
                break
            tensor = base
        return tensor


def memory_of(tensor: torch.Tensor) -> int:
    """A number that is the same for all views of the same memory."""
    return int(tensor.untyped_storage()._cdata) if not tensor.is_sparse else id(tensor)


def _shares(value: Any, memory: int) -> bool:
    return torch.is_tensor(value) and memory_of(value) == memory


def written_by(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """The tensors that a call writes to."""
    signature = signature_of(op)
    if not signature.written:
        return
    for name, each in (*zip(signature.names, args, strict=False), *kwargs.items()):
        if name in signature.written:
            yield from (part for part in tree_leaves(each) if torch.is_tensor(part))
