"""Provenance: which call made each tensor of a trace, and which calls wrote to its memory since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.core.torch_compat import FakeTensor, OpOverload, tree_leaves
from graphflops.tracing.values.signatures import signature_of

aten = torch.ops.aten


@dataclass(frozen=True)
class Call:
    """A call of an operator that made a tensor, or wrote to it; kept with the tensor, so that its id stays unique."""

    tensor: torch.Tensor
    op: OpOverload
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    index: int
    """position of the tensor among the results"""
    ordinal: int
    """position of the call in the trace, from 1"""


class Provenance:
    """The calls of one trace, by the tensors that they made and the memory that they wrote to."""

    def __init__(self) -> None:
        self.ordinal = 0
        """number of calls so far"""
        self._producers: dict[int, Call] = {}
        self._writes: dict[int, list[Call]] = {}

    def record(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Record a call of an operator."""
        self.ordinal += 1
        mutated = list(mutated_tensors(op, args, kwargs))
        for tensor in mutated:
            self._writes.setdefault(memory_of(tensor), []).append(Call(tensor, op, args, kwargs, 0, self.ordinal))
        for index, tensor in enumerate(result if isinstance(result, (tuple, list)) else (result,)):
            if not isinstance(tensor, FakeTensor) or id(tensor) in self._producers:
                continue
            if not any(tensor is operand for operand in mutated):
                self._producers[id(tensor)] = Call(tensor, op, args, kwargs, index, self.ordinal)

    def record_external(self, tensor: torch.Tensor) -> None:
        """Record a tensor that no call made; its producer is a call without arguments."""
        self._producers.setdefault(id(tensor), Call(tensor, aten.alias.default, (), {}, 0, self.ordinal))

    def producer(self, tensor: torch.Tensor) -> Call | None:
        """The call that made a tensor, if one did."""
        return self._producers.get(id(tensor))

    def current_producer(self, tensor: torch.Tensor) -> Call | None:
        """The call of which a tensor is the first result, if neither it nor an operand was written to since."""
        call = self._producers.get(id(tensor))
        if call is None or not call.args or call.index or self.last_write(tensor) >= call.ordinal:
            return None
        operands = (operand for operand in tree_leaves(call.args) if torch.is_tensor(operand))
        return None if any(self.last_write(operand) >= call.ordinal for operand in operands) else call

    def last_write(self, tensor: torch.Tensor) -> int:
        """The ordinal of the last call that wrote to the memory of a tensor; -1 if none did."""
        writes = self._writes.get(memory_of(tensor))
        return writes[-1].ordinal if writes else -1

    def writes(self, tensor: torch.Tensor, before: int | None = None) -> list[Call]:
        """The calls that wrote to the memory of a tensor, in order, or those of them before the call ``before``."""
        writes = self._writes.get(memory_of(tensor)) if self._writes else None
        if not writes:
            return []
        return writes if before is None else [call for call in writes if call.ordinal < before]

    def base_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor of whose memory a tensor is a view; the tensor itself, if it is no view."""
        memory = memory_of(tensor)
        while (call := self._producers.get(id(tensor))) is not None:
            operands = (operand for operand in tree_leaves(call.args) if torch.is_tensor(operand))
            base = next((operand for operand in operands if memory_of(operand) == memory), None)
            if base is None or base is tensor:
                break
            tensor = base
        return tensor


def memory_of(tensor: torch.Tensor) -> int:
    """A number that identifies the memory of a tensor, the same for all of its views."""
    return int(tensor.untyped_storage()._cdata) if not tensor.is_sparse else id(tensor)


def mutated_tensors(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """The tensors that a call writes to."""
    signature = signature_of(op)
    if not signature.written:
        return
    for name, argument in (*zip(signature.names, args, strict=False), *kwargs.items()):
        if name in signature.written:
            yield from (leaf for leaf in tree_leaves(argument) if torch.is_tensor(leaf))
