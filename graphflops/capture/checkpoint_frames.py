"""PyTorch's own records of checkpointed regions: how often something was saved, and the results that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from graphflops.core.torch_compat import RECOMPUTED, SelectiveCheckpointMode, refuse


def frame_of(pack: Any) -> CheckpointFrame | None:
    """The checkpoint whose hook this is, of ``torch.utils.checkpoint``; None of one that is just run again.

    Raises:
        UnsupportedTorch: it is neither.
    """
    if "frame" in pack.__code__.co_freevars:
        return CheckpointFrame(_closed_over(pack, "frame"))
    if "_recomputation_hook" not in pack.__qualname__ and "target_frame_ref" not in pack.__code__.co_freevars:
        refuse(f"{pack.__qualname__}, a hook of a checkpoint, is not known")
    return None


class CheckpointFrame:
    """PyTorch's own record of a checkpointed region."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    @property
    def key(self) -> int:
        """The identity of PyTorch's record."""
        return id(self.frame)

    @property
    def saved(self) -> int:
        """How many tensors have been saved in it so far."""
        return len(self.frame.weak_holders)

    @property
    def stops_early(self) -> bool:
        """Whether it is run again only until the last of what is saved is there."""
        return bool(self.frame.early_stop)

    @property
    def inputs(self) -> list[Any]:
        """The inputs that it runs again on; its tensors are saved, and each here as something that is no plain value.

        Before 2.12 a node of autograd saves them, which tells how many there are.
        """
        if hasattr(self.frame, "saved_args"):
            return list(self.frame.saved_args)
        node = self.frame.input_saver.grad_fn
        plain = _closed_over(node.get_args, "args")[1:]
        indices = [each - 1 for each in _closed_over(node.get_args, "tensor_indices") if each]
        return [object() if place in indices else each for place, each in enumerate(plain)]

    def kept(self) -> KeptResults | None:
        """What it keeps of the operators that run in it, if it is selective."""
        mode = _closed_over(self.frame.recompute_fn, "recompute_context")
        return KeptResults(mode.storage) if isinstance(mode, SelectiveCheckpointMode) else None


class KeptResults:
    """The results of operators that a selective checkpoint keeps.

    Since 2.13 PyTorch's record has an entry for each call, with a mark if its result was not kept. Before, it has the
    kept ones alone, one after the other: of a call it was kept if there is one more when the next one begins.
    """

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._numbers: Counter[Any] = Counter()
        self._before: dict[tuple[Any, int], int] = {}

    def number(self, op: Any) -> int:
        """An operator begins to run: which time this is."""
        number = self._numbers[op]
        self._numbers[op] += 1
        self._before[op, number] = self._many(op)
        return number

    def is_kept(self, op: Any, number: int) -> bool:
        """Whether the result of an operator was kept, so that it does not run again; asked when the region is over."""
        if RECOMPUTED is not None:
            return self._storage.get(op, {}).get(number, RECOMPUTED) is not RECOMPUTED
        after = self._before.get((op, number + 1), self._many(op))
        return after > self._before[op, number]

    def _many(self, op: Any) -> int:
        return len(self._storage.get(op, ()))


def _closed_over(function: Callable[..., Any], name: str) -> Any:
    """What a function of PyTorch's own closes over under a name.

    Raises:
        UnsupportedTorch: it closes over nothing of that name.
    """
    if name not in (names := function.__code__.co_freevars) or function.__closure__ is None:
        refuse(f"{function.__qualname__} does not hold {name}")
    return function.__closure__[names.index(name)].cell_contents  # type: ignore[index]
