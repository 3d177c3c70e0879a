"""Checkpointed regions: which operators autograd runs again in the backward pass, and how often.

A region that ``torch.utils.checkpoint`` runs without reentrance saves placeholders instead of tensors. It is run again
to fill them, and only until the last one is filled (*early stop*). So an operator runs again if something is saved
after it began: its own output, or an input of a later operator. A region inside another one is run again with that
one, and once more by itself; so each of the regions that an operator is in counts.

With *selective* checkpointing a region keeps the results of some operators, as its policy says; these do not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.core.torch_compat import (
    is_of_checkpoint,
    saved_tensors_hooks,
    top_saved_tensors_hooks,
)
from graphflops.tracing.recording.checkpoint_frames import CheckpointFrame, KeptResults, frame_of


@dataclass(eq=False)
class CheckpointedRegion:
    """A checkpointed region of a trace; ``frame`` is PyTorch's record of it, None if the region is reentrant."""

    frame: CheckpointFrame | None = None
    calls: int = 0
    """number of calls recorded in it so far"""
    is_repeat: bool = False
    """whether it contains a repeated block, and nothing else"""
    saved_by_inner: int = 0
    """number of tensors that reentrant regions in it have saved"""
    kept_results: KeptResults | None = None
    """the results that it keeps; None if it is not selective"""

    def __post_init__(self) -> None:
        if self.frame is not None:
            self.kept_results = self.frame.kept_results()

    @property
    def saved(self) -> int:
        """Number of tensors that have been saved in it so far."""
        return self.frame.saved + self.saved_by_inner if self.frame is not None else 0

    @property
    def stops_early(self) -> bool:
        """Whether it is run again only until the last saved tensor is filled."""
        return self.frame is not None and self.frame.stops_early

    @property
    def needs_outer(self) -> bool:
        """Whether the outer region has to run again first, to make the tensors that this one is run again on."""
        return self.frame is None or any(not isinstance(value, _NO_TENSORS) for value in self.frame.inputs)

    def runs_again(self, saved_before: int) -> bool:
        """Whether a call runs again that began after ``saved_before`` tensors were saved; for a closed region."""
        if self.frame is None:
            return True
        return self.saved > saved_before if self.stops_early else self.saved > 0

    def count_call(self, op: Any) -> int:
        """Count a call of an operator in a selective region; returns the number of calls of it before."""
        assert self.kept_results is not None
        return self.kept_results.count_call(op)

    def is_kept(self, op: Any, call: int) -> bool:
        """Whether the result of a call of an operator is kept, so that it does not run again."""
        return self.kept_results is not None and self.kept_results.is_kept(op, call)


_NO_TENSORS = (int, float, complex, str, bytes, bool, type(None), tuple, list, dict, torch.nn.Module)


@dataclass(frozen=True)
class DispatchedOp:
    """An operator that ran in selective regions: its arguments for a rule, and the count of its call in each region."""

    op: Any
    arguments: dict[str, Any]
    calls: Sequence[tuple[CheckpointedRegion, int]]

    def is_kept_by(self, region: CheckpointedRegion) -> bool:
        """Whether a region keeps its result."""
        return any(outer is region and outer.is_kept(self.op, call) for outer, call in self.calls)


@dataclass(frozen=True)
class RegionPosition:
    """The position of a call in checkpointed regions.

    ``regions`` are those that it ran in, from the outermost, each with the number of tensors saved before it;
    ``dispatched`` are the operators that it ran in selective ones.
    """

    regions: Sequence[tuple[CheckpointedRegion, int]] = ()
    dispatched: Sequence[DispatchedOp] = ()

    def reaches(self) -> tuple[int, ...]:
        """The regions that are run again if a gradient of the call is computed."""
        reached = []
        for region, _ in reversed(self.regions):
            reached.append(id(region))
            if not region.needs_outer:
                break
        return tuple(reached)

    def runs_again(self) -> dict[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None]:
        """The regions with which the call runs again; if results are kept, with the operators that run again."""
        recomputed_ops: dict[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None] = {}
        for region, saved in self.regions:
            if region.runs_again(saved):
                recomputed = [run for run in self.dispatched if not run.is_kept_by(region)]
                is_partial = len(recomputed) < len(self.dispatched)
                recomputed_ops[id(region)] = (
                    tuple((run.op, run.arguments) for run in recomputed) if is_partial else None
                )
        return recomputed_ops


class CheckpointedRegions:
    """The checkpointed regions of one trace."""

    def __init__(self) -> None:
        self.user_hooks: dict[Any, None] = {}
        """hooks on saved tensors that are the user's"""
        self._by_frame: dict[int, CheckpointedRegion] = {}
        # id of the innermost hook → the hook, and the open regions
        self._open: dict[int, tuple[Any, tuple[CheckpointedRegion, ...]]] = {}

    def open(self) -> tuple[CheckpointedRegion, ...]:
        """The open regions, from the outermost."""
        top = top_saved_tensors_hooks(True)
        if top is None:
            return ()
        if id(top[0]) not in self._open:
            regions = self._regions_of(saved_tensors_hooks())
            if not _is_of_region(top[0]):
                if not getattr(top[0], "__module__", "").startswith("torch."):
                    self.user_hooks.setdefault(top[0])
                return regions  # not cached: the same hook may be installed in several regions
            self._open[id(top[0])] = top[0], regions
        return self._open[id(top[0])][1]

    def _regions_of(self, hooks: Sequence[Any]) -> tuple[CheckpointedRegion, ...]:
        regions: list[CheckpointedRegion] = []
        for pack, _ in hooks:
            if isinstance(pack, _ReentrantHook):
                regions.append(pack.region)
            elif is_of_checkpoint(pack):
                frame = frame_of(pack)
                if frame is None:
                    regions.clear()  # a backward pass of the program runs a region again, which is recorded as it runs
                else:
                    regions.append(self._by_frame.setdefault(frame.key, CheckpointedRegion(frame)))
        return tuple(regions)

    def run_reentrant(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Run a reentrant region as its backward runs it: with grad, if an input requires it.

        Its own forward runs without grad, and saves the inputs at its end.
        """
        outer = self.open()
        tensors = [value for value in inputs if torch.is_tensor(value)]
        grad = any(tensor.requires_grad for tensor in tensors)
        hook = _ReentrantHook(CheckpointedRegion())
        with torch.set_grad_enabled(grad), torch.autograd.graph.saved_tensors_hooks(hook, _unpack_identity):
            result = function(*inputs)
        if outer and grad:
            outer[-1].saved_by_inner += len(tensors)
        return result


class RetainSavedTensors:
    """Hooks that pass saved tensors on to the outer hooks, and retain them until ``clear``.

    So the tensors that a region saves can be read without running it again.
    """

    def __init__(self) -> None:
        self._pack, self._unpack = top_saved_tensors_hooks(True)
        self._retained: list[Any] = []

    def __call__(self, tensor: Any) -> Any:
        """Pack a tensor."""
        self._retained.append(tensor)
        return len(self._retained) - 1, self._pack(tensor)

    def unpack(self, saved: Any) -> Any:
        """The retained tensor, or after ``clear`` the one that the outer hooks unpack."""
        index, packed = saved
        return self._retained[index] if self._retained else self._unpack(packed)

    def clear(self) -> None:
        """Release the tensors: those that a result is computed from would keep the result alive."""
        self._retained.clear()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Retain the tensors that are saved while this is open."""
        with torch.autograd.graph.saved_tensors_hooks(self, self.unpack):
            yield


class _ReentrantHook:
    """A pack hook that marks the open region, and hides the tensors that it saves from outer regions."""

    def __init__(self, region: CheckpointedRegion) -> None:
        self.region = region

    def __call__(self, tensor: Any) -> Any:
        return tensor


def _unpack_identity(saved: Any) -> Any:
    return saved


def _is_of_region(pack: Any) -> bool:
    return isinstance(pack, (_ReentrantHook, RetainSavedTensors)) or is_of_checkpoint(pack)
