"""PyTorch's records of checkpointed regions: the number of saved tensors, and the results that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from graphflops.core.torch_compat import RECOMPUTED, SelectiveCheckpointMode, refuse


def frame_of(pack: Any) -> CheckpointFrame | None:
    """The record of the region that a hook of ``torch.utils.checkpoint`` is of; None while the region is run again.

    Raises:
        UnsupportedTorch: the hook is unknown.
    """
    if "frame" in pack.__code__.co_freevars:
        return CheckpointFrame(_closure_variable(pack, "frame"))
    if "_recomputation_hook" not in pack.__qualname__ and "target_frame_ref" not in pack.__code__.co_freevars:
        refuse(f"{pack.__qualname__}, a hook of a checkpoint, is not known")
    return None


class CheckpointFrame:
    """PyTorch's record of a checkpointed region."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    @property
    def key(self) -> int:
        """The identity of PyTorch's record."""
        return id(self.frame)

    @property
    def saved(self) -> int:
        """Number of tensors that have been saved in it so far."""
        return len(self.frame.weak_holders)

    @property
    def stops_early(self) -> bool:
        """Whether it is run again only until the last saved tensor is filled."""
        return bool(self.frame.early_stop)

    @property
    def inputs(self) -> list[Any]:
        """The inputs that it is run again on, with an object in the place of each tensor.

        Before 2.12 a node of autograd saves the tensors; it knows their positions.
        """
        if hasattr(self.frame, "saved_args"):
            return list(self.frame.saved_args)
        node = self.frame.input_saver.grad_fn
        values = _closure_variable(node.get_args, "args")[1:]
        positions = [index - 1 for index in _closure_variable(node.get_args, "tensor_indices") if index]
        return [object() if position in positions else value for position, value in enumerate(values)]

    def kept_results(self) -> KeptResults | None:
        """The results that it keeps; None if it is not selective."""
        mode = _closure_variable(self.frame.recompute_fn, "recompute_context")
        return KeptResults(mode.storage) if isinstance(mode, SelectiveCheckpointMode) else None


class KeptResults:
    """The results of operators that a selective checkpoint keeps.

    Since 2.13 PyTorch's record has an entry for each call, with a mark if its result is not kept. Before, it lists the
    kept results: that of a call is kept if the list is longer when the next call begins.
    """

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._calls: Counter[Any] = Counter()
        self._kept_before: dict[tuple[Any, int], int] = {}

    def count_call(self, op: Any) -> int:
        """Count a call of an operator that begins; returns the number of calls of it before."""
        call = self._calls[op]
        self._calls[op] += 1
        self._kept_before[op, call] = self._kept_count(op)
        return call

    def is_kept(self, op: Any, call: int) -> bool:
        """Whether the result of a call is kept, so that it does not run again; for a closed region."""
        if RECOMPUTED is not None:
            return self._storage.get(op, {}).get(call, RECOMPUTED) is not RECOMPUTED
        after = self._kept_before.get((op, call + 1), self._kept_count(op))
        return after > self._kept_before[op, call]

    def _kept_count(self, op: Any) -> int:
        return len(self._storage.get(op, ()))


def _closure_variable(function: Callable[..., Any], name: str) -> Any:
    """The variable that a function of PyTorch closes over under a name.

    Raises:
        UnsupportedTorch: there is none.
    """
    if name not in (names := function.__code__.co_freevars) or function.__closure__ is None:
        refuse(f"{function.__qualname__} does not hold {name}")
    return function.__closure__[names.index(name)].cell_contents  # type: ignore[index]
