"""Contents: what memory holds that a program has written to, as far as all that was written is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.capture.provenance import Call, Origins, memory_of
from graphflops.capture.random_numbers import Draws
from graphflops.core.torch_compat import DisableTorchFunction, no_dispatch_modes, tree_map

aten = torch.ops.aten

LARGEST = 2**24
"""elements of the largest memory that is followed"""


@dataclass(frozen=True)
class Value:
    """What a tensor holds, and what was assumed to know it."""

    tensor: torch.Tensor
    assumed: frozenset[str] = frozenset()

    @property
    def is_uniform(self) -> bool:
        """Whether all elements are the same one in memory: such a tensor may have any size."""
        return not any(size > 1 and stride for size, stride in zip(self.shape, self.tensor.stride(), strict=True))

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return self.tensor.shape


@contextmanager
def real_execution() -> Iterator[None]:
    """Computing with values, unseen by whoever watches."""
    with no_dispatch_modes(), DisableTorchFunction(), torch.no_grad():
        yield


class Contents:
    """The memory of one trace that was written to. ``value_of`` says what a tensor held before a call."""

    def __init__(
        self, origins: Origins, draws: Draws, value_of: Callable[[torch.Tensor, int | None], Value | None]
    ) -> None:
        self.origins = origins
        self.draws = draws
        self.value_of = value_of
        self._states: dict[int, _State] = {}
        self._drawn: dict[int, torch.Tensor] = {}

    def of(self, tensor: torch.Tensor, before: int | None) -> Value | None:
        """What a view of memory that was written to holds, or held before a call; None if that is not known."""
        writes = self.origins.writes(tensor, before)
        memory = memory_of(tensor)
        state = self._states.get(memory)
        if state is None or state.done > len(writes):
            started = self._start(self.origins.root_of(tensor))
            state = started if state is not None else self._states.setdefault(memory, started)
        while state.done < len(writes):
            write = writes[state.done]
            state.done += 1
            self._apply(state, write)
        if state.real is None or state.real.dtype != tensor.dtype:
            return None
        with real_execution():
            return Value(_view(state.real, tensor).clone(), frozenset(state.assumed))

    def forget(self) -> None:
        """What was not known may be known now."""
        self._states = {memory: state for memory, state in self._states.items() if state.real is not None}

    def _start(self, root: torch.Tensor) -> _State:
        """Memory as it was before anything was written to it."""
        state = _State(root)
        writes = self.origins.writes(root)
        value = self.value_of(root, writes[0].ordinal)
        if value is not None and state.size <= LARGEST and value.tensor.dtype == root.dtype:
            state.assumed = set(value.assumed)
            with real_execution():
                state.real = torch.empty(state.size, dtype=root.dtype)
                _view(state.real, root).copy_(value.tensor)
        return state

    def _apply(self, state: _State, write: Call) -> None:
        if state.real is None or write.tensor.dtype != state.real.dtype:
            state.real = None
            if not _overwrites(write, state):
                return
            state.assumed = set()
            with real_execution():
                state.real = torch.empty(state.size, dtype=state.root.dtype)
        try:
            self._replay(state, write)
        except (RuntimeError, _Unknown):  # of what is not known nothing is known
            state.real = None

    def _replay(self, state: _State, write: Call) -> None:
        if write.op.namespace != "aten" or torch.Tag.inplace_view in write.op.tags or "foreach" in write.op._opname:
            raise _Unknown
        memory = memory_of(state.root)

        def real(each: Any) -> Any:
            if not torch.is_tensor(each):
                return torch.device("cpu") if isinstance(each, torch.device) else each
            if memory_of(each) == memory:
                assert state.real is not None
                if each.dtype != state.real.dtype:
                    raise _Unknown
                return _view(state.real, each)
            value = self.value_of(each, write.ordinal)
            if value is None:
                raise _Unknown
            state.assumed |= value.assumed
            return value.tensor

        with real_execution():
            args, kwargs = tree_map(real, (write.args, dict(write.kwargs)))
            if torch.Tag.nondeterministic_seeded in write.op.tags:
                self._draw(state, write, args, kwargs)
            else:
                write.op(*args, **kwargs)

    def _draw(self, state: _State, write: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        assert state.real is not None
        state.assumed.add("draw")
        view = _view(state.real, write.tensor)
        if write.ordinal in self._drawn:
            view.copy_(self._drawn[write.ordinal])
        elif self.draws.run(write.op, args, kwargs) is None:
            raise _Unknown
        else:
            self._drawn[write.ordinal] = view.clone()


class _Unknown(Exception):
    """Something that was written is not known."""


class _State:
    """Memory after so many writes. ``real`` has the numbers, or is None if they are not known."""

    def __init__(self, root: torch.Tensor) -> None:
        self.root = root
        self.size = int(root.untyped_storage().nbytes()) // root.element_size()
        self.real: torch.Tensor | None = None
        self.assumed: set[str] = set()
        self.done = 0


def _view(memory: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return memory.as_strided(of.shape, of.stride(), of.storage_offset())


_OVERWRITING = ("fill_", "zero_", "copy_", "uniform_", "normal_", "random_", "exponential_", "bernoulli_", "geometric_")
"""operators that leave nothing of what was there"""


def _overwrites(write: Call, state: _State) -> bool:
    if write.tensor.dtype != state.root.dtype or state.size > LARGEST:
        return False
    return write.op._opname in _OVERWRITING and write.tensor.numel() == state.size
