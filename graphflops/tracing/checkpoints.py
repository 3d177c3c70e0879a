"""Checkpointed regions: what of a region autograd will run again on the way back.

A region that ``torch.utils.checkpoint`` runs without reentrance saves, in place of tensors, places to be filled when it
is run again; and it is run again only until the last place is filled (*early stop*). So an operator is computed again
if something is saved after it began: its own output, or an input of a later one.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.checkpoint


@dataclass
class Region:
    """A region in which operators are recorded; ``frame`` is PyTorch's own record of it, None if it is reentrant."""

    frame: Any = None
    calls: int = 0
    """how many calls were written down in it so far"""
    repeats: bool = False
    """whether what is in it is a block that repeats another one, and nothing else"""

    @property
    def saved(self) -> int:
        """How many tensors have been saved in it so far."""
        return len(self.frame.weak_holders) if self.frame is not None else 0

    @property
    def stops_early(self) -> bool:
        """Whether it is run again only until the last of what is saved is there."""
        return self.frame is not None and bool(self.frame.early_stop)

    def runs_again(self, saved_before: int) -> bool:
        """Whether what began when that many tensors were saved is computed again; asked when the region is closed."""
        return not self.stops_early or self.saved > saved_before


def open_frame() -> Any:
    """PyTorch's record of the checkpointed region that is open now, or None."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    pack = hooks[0] if hooks else None
    if getattr(pack, "__module__", "") != torch.utils.checkpoint.__name__:
        return None
    return inspect.getclosurevars(pack).nonlocals.get("frame")
