"""BlockTemplate: a block that ran, and may be repeated."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from graphflops.tracing.folding.identical_blocks import Block
from graphflops.tracing.folding.own_parts import Parts
from graphflops.tracing.folding.reachable_state import ReachableState
from graphflops.tracing.folding.shared_objects import is_same
from graphflops.tracing.recording.checkpoints import CheckpointedRegion
from graphflops.tracing.recording.repeats import TemplateGraph


@dataclass(eq=False)
class BlockTemplate:
    """A block that ran, and everything that has to be equal in a block that repeats it."""

    block: Block
    key: Any
    """of its call"""
    state: ReachableState
    """the state that it reaches beside its inputs, to which somebody else may write before a block repeats it"""
    reads: list[tuple[int, str, Any]] = field(default_factory=list)
    """the attributes that it read: the number of the module, the name and the value"""
    graph: TemplateGraph | None = None
    parts: Parts | None = None
    """its reads and writes of the objects among its inputs"""
    tensor_keys: Any = None
    """what has to be equal of its tensors, with those that it read of these objects"""
    region: CheckpointedRegion | None = None
    """the checkpointed region that it ran in"""
    unknown_modules: list[weakref.ref[nn.Module]] = field(default_factory=list)
    """modules that were written to, and that are not the model's"""
    calls: int = 0
    """how many calls there were in that region when it had run"""

    @property
    def is_alone(self) -> bool:
        """Whether there is nothing else in its checkpointed region, whose calls decide together what runs again."""
        return self.region is None or self.region.calls == self.calls

    def same_reads(self, attributes: Sequence[dict[str, Any]], is_copied: Callable[[Any], bool]) -> bool:
        """Whether all attributes that were read are equal in another block.

        A container that ``is_copied`` already, though no copy of the block ran, may have been written to by others.
        """
        return all(
            name in attributes[i]
            and is_same(value, attributes[i][name])
            and (value is attributes[i][name] or not any(map(is_copied, _containers_in(attributes[i][name]))))
            for i, name, value in self.reads
        )


def _containers_in(value: Any) -> Iterator[Any]:
    """Yield the lists and dicts in an attribute."""
    if isinstance(value, (tuple, list, dict)):
        if not isinstance(value, tuple):
            yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers_in(item)
