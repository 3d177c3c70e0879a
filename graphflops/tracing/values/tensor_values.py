"""Values of tensors, and of memory that a program has written to, as far as all that was written is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.core.torch_compat import DisableTorchFunction, no_dispatch_modes, tree_map
from graphflops.tracing.copies.layouts import MAX_KNOWN_ELEMENTS
from graphflops.tracing.session.random_numbers import Draws
from graphflops.tracing.values.provenance import Call, Provenance, memory_of

_OVERWRITING = ("fill_", "zero_", "copy_", "uniform_", "normal_", "random_", "exponential_", "bernoulli_", "geometric_")
"""operators that overwrite their whole first argument"""


@dataclass(frozen=True)
class Value:
    """The value of a tensor, and the kinds of assumptions that it depends on.

    The kinds are ``rank`` (balanced selection), ``mask`` (full or empty), ``number`` (finite), ``check`` (passes) and
    ``draw`` (drawn from the generator of the analysis).
    """

    tensor: torch.Tensor
    assumptions: frozenset[str] = frozenset()

    @property
    def is_uniform(self) -> bool:
        """Whether all elements share one place in memory; such a tensor may have any size."""
        return not any(size > 1 and stride for size, stride in zip(self.shape, self.tensor.stride(), strict=True))

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return self.tensor.shape


@contextmanager
def real_execution() -> Iterator[None]:
    """Run operators on real tensors while this is open: without modes, interception or gradients."""
    with no_dispatch_modes(), DisableTorchFunction(), torch.no_grad():
        yield


class WrittenMemory:
    """The contents of the memory that one trace has written to.

    ``value_of(tensor, ordinal)`` returns the value of a tensor before a call.
    """

    def __init__(
        self, provenance: Provenance, draws: Draws, value_of: Callable[[torch.Tensor, int | None], Value | None]
    ) -> None:
        self.provenance = provenance
        self.draws = draws
        self.value_of = value_of
        self._contents: dict[int, _Contents] = {}
        self._drawn: dict[int, torch.Tensor] = {}

    def value(self, tensor: torch.Tensor, before: int | None) -> Value | None:
        """The value of a view of written memory, now or before a call; None if it is not known."""
        writes = self.provenance.writes(tensor, before)
        memory = memory_of(tensor)
        contents = self._contents.get(memory)
        if contents is None or contents.applied > len(writes):
            initial = self._initial_contents(self.provenance.base_of(tensor))
            contents = initial if contents is not None else self._contents.setdefault(memory, initial)
        while contents.applied < len(writes):
            write = writes[contents.applied]
            contents.applied += 1
            self._apply(contents, write)
        if contents.data is None or contents.data.dtype != tensor.dtype:
            return None
        with real_execution():
            return Value(_view(contents.data, tensor).clone(), frozenset(contents.assumptions))

    def forget_unknown(self) -> None:
        """Forget which contents are unknown: they are looked up again."""
        known_contents = {memory: contents for memory, contents in self._contents.items() if contents.data is not None}
        self._contents = known_contents

    def _initial_contents(self, base: torch.Tensor) -> _Contents:
        """The contents of memory before the first write."""
        contents = _Contents(base)
        writes = self.provenance.writes(base)
        value = self.value_of(base, writes[0].ordinal)
        if value is not None and contents.size <= MAX_KNOWN_ELEMENTS and value.tensor.dtype == base.dtype:
            contents.assumptions = set(value.assumptions)
            with real_execution():
                contents.data = torch.empty(contents.size, dtype=base.dtype)
                _view(contents.data, base).copy_(value.tensor)
        return contents

    def _apply(self, contents: _Contents, write: Call) -> None:
        if contents.data is None or write.tensor.dtype != contents.data.dtype:
            contents.data = None
            if not _overwrites_all(write, contents):
                return
            contents.assumptions = set()
            with real_execution():
                contents.data = torch.empty(contents.size, dtype=contents.base.dtype)
        try:
            self._replay(contents, write)
        except (RuntimeError, _UnknownOperand):
            contents.data = None

    def _replay(self, contents: _Contents, write: Call) -> None:
        """Run a write on the contents.

        Raises:
            _UnknownOperand: the value of an operand is not known.
        """
        if write.op.namespace != "aten" or torch.Tag.inplace_view in write.op.tags or "foreach" in write.op._opname:
            raise _UnknownOperand
        memory = memory_of(contents.base)

        def real(argument: Any) -> Any:
            if not torch.is_tensor(argument):
                return torch.device("cpu") if isinstance(argument, torch.device) else argument
            if memory_of(argument) == memory:
                assert contents.data is not None
                if argument.dtype != contents.data.dtype:
                    raise _UnknownOperand
                return _view(contents.data, argument)
            value = self.value_of(argument, write.ordinal)
            if value is None:
                raise _UnknownOperand
            contents.assumptions |= value.assumptions
            return value.tensor

        with real_execution():
            args, kwargs = tree_map(real, (write.args, dict(write.kwargs)))
            if torch.Tag.nondeterministic_seeded in write.op.tags:
                self._draw(contents, write, args, kwargs)
            else:
                write.op(*args, **kwargs)

    def _draw(self, contents: _Contents, write: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        assert contents.data is not None
        contents.assumptions.add("draw")
        view = _view(contents.data, write.tensor)
        if write.ordinal in self._drawn:
            view.copy_(self._drawn[write.ordinal])
        elif self.draws.run(write.op, args, kwargs) is None:
            raise _UnknownOperand
        else:
            self._drawn[write.ordinal] = view.clone()


class _UnknownOperand(Exception):
    """The value of an operand of a write is not known."""


class _Contents:
    """The contents of memory after some writes; ``data`` is None if they are not known."""

    def __init__(self, base: torch.Tensor) -> None:
        self.base = base
        self.size = int(base.untyped_storage().nbytes()) // base.element_size()
        self.data: torch.Tensor | None = None
        self.assumptions: set[str] = set()
        self.applied = 0
        """number of writes so far"""


def _view(memory: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The view of some memory that has the shape, strides and offset of a tensor."""
    return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _overwrites_all(write: Call, contents: _Contents) -> bool:
    if write.tensor.dtype != contents.base.dtype or contents.size > MAX_KNOWN_ELEMENTS:
        return False
    return write.op._opname in _OVERWRITING and write.tensor.numel() == contents.size
