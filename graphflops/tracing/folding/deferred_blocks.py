"""Deferred blocks: their copies stay empty until something of them is read or written, so that they may be repeats."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphflops.core.torch_compat import DisableTorchFunction
from graphflops.tracing.copies.object_state import object_dict
from graphflops.tracing.folding.identical_blocks import PLAIN, Block
from graphflops.tracing.recording.writer import GraphWriter
from graphflops.tracing.session.aborts import FoldingAborted


class DeferredBlocks:
    """The blocks that have neither run nor been read or written."""

    def __init__(self, tracer: GraphWriter) -> None:
        self._tracer = tracer
        self._deferred: dict[int, tuple[nn.Module, Block]] = {}  # id of an empty copy → the module, and its block
        self._repeating: set[int] = set()

    def defer(self, block: Block) -> None:
        """Make empty copies of a block's modules; only attributes that shadow one of the class are in them."""
        for module, names in zip(block.modules, block.shadowing, strict=True):
            copied, attributes = self._tracer.copier.defer(module), vars(module)
            object_dict(copied).update({name: attributes[name] for name in names})
            self._deferred[id(copied)] = module, block

    def is_deferred(self, module: nn.Module) -> bool:
        """Whether a module is the empty copy of one in a deferred block."""
        return id(module) in self._deferred

    def mark_repeating(self, block: Block) -> None:
        """Note that a block repeats another one; it can no longer be materialized."""
        self._repeating.add(id(block))

    def refuse_repeating(self, block: Block) -> None:
        """Refuse a block that repeats another one already.

        Raises:
            FoldingAborted: its parameters would be there twice.
        """
        if id(block) in self._repeating:
            raise FoldingAborted

    def materialize(self, module: nn.Module) -> None:
        """Fill the copies of all modules in a module's block, if it is deferred.

        Raises:
            FoldingAborted: the block repeats another one already.
        """
        if not self.is_deferred(module):
            return
        block = self._deferred[id(module)][1]
        self.refuse_repeating(block)
        copier = self._tracer.copier
        for original in block.modules:
            self._deferred.pop(id(copier.copy_of(original)))
        with self._tracer.paused(), DisableTorchFunction():
            for original in block.modules:
                copier.fill(original)

    def attribute_of(self, module: nn.Module, name: str) -> Any:
        """Return an attribute of a deferred module; plain ones and submodules do not materialize its block."""
        attributes = vars(self._deferred[id(module)][0])
        if name in attributes and isinstance(attributes[name], PLAIN):
            return attributes[name]
        if name in (children := attributes["_modules"]):
            return self._tracer.copier.copy_of(children[name])
        self.materialize(module)
        return getattr(module, name)
