"""Checkpointed regions: which operators autograd runs again on the way back, and how often.

A region that ``torch.utils.checkpoint`` runs without reentrance saves, in place of tensors, places to be filled when it
is run again; and it is run again only until the last place is filled (*early stop*). So an operator is computed again
if something is saved after it began: its own output, or an input of a later one. A region that is inside of another
one is run again with it, and once more by itself; so each of the regions that an operator is in counts.

With *selective* checkpointing a region keeps the results of some operators, as its policy says; these do not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.capture.checkpoint_frames import CheckpointFrame, KeptResults, frame_of
from graphflops.core.torch_compat import (
    is_of_checkpoint,
    saved_tensors_hooks,
    top_saved_tensors_hooks,
)


@dataclass(eq=False)
class CheckpointedRegion:
    """A region in which operators are recorded; ``frame`` is PyTorch's own record of it, None if it is reentrant."""

    frame: CheckpointFrame | None = None
    calls: int = 0
    """how many calls were written down in it so far"""
    repeats: bool = False
    """whether what is in it is a block that repeats another one, and nothing else"""
    for_others: int = 0
    """how many tensors reentrant regions in it have saved"""
    keeps: KeptResults | None = None
    """what was kept of the operators that ran in it; None if it keeps nothing"""

    def __post_init__(self) -> None:
        if self.frame is not None:
            self.keeps = self.frame.kept()

    @property
    def saved(self) -> int:
        """How many tensors have been saved in it so far."""
        return self.frame.saved + self.for_others if self.frame is not None else 0

    @property
    def stops_early(self) -> bool:
        """Whether it is run again only until the last of what is saved is there."""
        return self.frame is not None and self.frame.stops_early

    @property
    def needs_outer(self) -> bool:
        """Whether it is run again on tensors that the region around it has to be run again for."""
        return self.frame is None or any(not isinstance(each, _PLAIN) for each in self.frame.inputs)

    def runs_again(self, saved_before: int) -> bool:
        """Whether what began when that many tensors were saved is computed again; asked when the region is closed."""
        if self.frame is None:
            return True
        return self.saved > saved_before if self.stops_early else self.saved > 0

    def number(self, op: Any) -> int:
        """An operator runs in it, which keeps results: which time this is."""
        assert self.keeps is not None
        return self.keeps.number(op)

    def is_kept(self, op: Any, number: int) -> bool:
        """Whether the result of an operator was kept, so that it does not run again."""
        return self.keeps is not None and self.keeps.is_kept(op, number)


_PLAIN = (int, float, complex, str, bytes, bool, type(None), tuple, list, dict, torch.nn.Module)


@dataclass(frozen=True)
class Dispatched:
    """An operator that ran in selective regions: what a rule is asked about, and which time it ran in each of them."""

    op: Any
    offered: dict[str, Any]
    numbers: Sequence[tuple[CheckpointedRegion, int]]

    def is_kept_by(self, region: CheckpointedRegion) -> bool:
        """Whether a region kept its result."""
        return any(each is region and each.is_kept(self.op, number) for each, number in self.numbers)


@dataclass(frozen=True)
class Place:
    """Where a call ran: in which regions, from the outermost, how much each had saved before, and what it ran."""

    regions: Sequence[tuple[CheckpointedRegion, int]] = ()
    ran: Sequence[Dispatched] = ()

    def reaches(self) -> tuple[int, ...]:
        """The regions that are run again if a gradient of the call is computed."""
        reached = []
        for region, _ in reversed(self.regions):
            reached.append(id(region))
            if not region.needs_outer:
                break
        return tuple(reached)

    def runs_again(self) -> dict[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None]:
        """The regions with which it runs again; where some of it was kept, the operators that do run."""
        again: dict[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None] = {}
        for region, saved in self.regions:
            if region.runs_again(saved):
                again[id(region)] = None
                if any(each.is_kept_by(region) for each in self.ran):
                    again[id(region)] = tuple(
                        (each.op, each.offered) for each in self.ran if not each.is_kept_by(region)
                    )
        return again


class CheckpointedRegions:
    """The regions of one trace."""

    def __init__(self) -> None:
        self.others: dict[Any, None] = {}
        """hooks of the user's that were met"""
        self._of_frames: dict[int, CheckpointedRegion] = {}
        self._open: dict[
            int, tuple[Any, tuple[CheckpointedRegion, ...]]
        ] = {}  # id of hooks → them, and what is open under them

    def open(self) -> tuple[CheckpointedRegion, ...]:
        """The regions that are open, from the outermost."""
        top = top_saved_tensors_hooks(True)
        if top is None:
            return ()
        if id(top[0]) not in self._open:
            found = self._among(saved_tensors_hooks())
            if not _is_own(top[0]):
                if not getattr(top[0], "__module__", "").startswith("torch."):
                    self.others.setdefault(top[0])
                return found  # hooks of the user's, which may be there in several places
            self._open[id(top[0])] = top[0], found
        return self._open[id(top[0])][1]

    def _among(self, hooks: Sequence[Any]) -> tuple[CheckpointedRegion, ...]:
        found: list[CheckpointedRegion] = []
        for pack, _ in hooks:
            if isinstance(pack, _Reentrant):
                found.append(pack.region)
            elif is_of_checkpoint(pack):
                frame = frame_of(pack)
                if frame is None:
                    found.clear()  # a backward pass inside of the program runs a region again, which is seen as it runs
                else:
                    found.append(self._of_frames.setdefault(frame.key, CheckpointedRegion(frame)))
        return tuple(found)

    def reentrant(self, run: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Run a region that is checkpointed with reentrance, as its backward runs it: with grad, if an input has it.

        Its own forward runs without grad and saves its inputs when it is through.
        """
        outer = self.open()
        tensors = [each for each in inputs if torch.is_tensor(each)]
        grad = any(each.requires_grad for each in tensors)
        pack = _Reentrant(CheckpointedRegion())
        with torch.set_grad_enabled(grad), torch.autograd.graph.saved_tensors_hooks(pack, _as_it_is):
            result = run(*inputs)
        if outer and grad:
            outer[-1].for_others += len(tensors)
        return result


class AtHand:
    """Hooks that do what those below them do, and keep the tensors until ``clear``.

    So in a region what is saved is there without running the region again.
    """

    def __init__(self) -> None:
        self._pack, self._unpack = top_saved_tensors_hooks(True)
        self._kept: list[Any] = []

    def __call__(self, tensor: Any) -> Any:
        """Pack a tensor."""
        self._kept.append(tensor)
        return len(self._kept) - 1, self._pack(tensor)

    def unpack(self, saved: Any) -> Any:
        """The tensor that was kept, or if it is no more, what the hooks below make of what they packed."""
        place, packed = saved
        return self._kept[place] if self._kept else self._unpack(packed)

    def clear(self) -> None:
        """Keep nothing any more: what a result is computed from would keep the result itself."""
        self._kept.clear()

    @contextmanager
    def on(self) -> Iterator[None]:
        """What is saved while this is open is kept."""
        with torch.autograd.graph.saved_tensors_hooks(self, self.unpack):
            yield


class _Reentrant:
    """Hooks that do nothing but say which region is open; what is saved in it, regions around it do not see."""

    def __init__(self, region: CheckpointedRegion) -> None:
        self.region = region

    def __call__(self, tensor: Any) -> Any:
        return tensor


def _as_it_is(saved: Any) -> Any:
    return saved


def _is_own(pack: Any) -> bool:
    return isinstance(pack, (_Reentrant, AtHand)) or is_of_checkpoint(pack)
