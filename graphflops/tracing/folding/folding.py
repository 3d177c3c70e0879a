"""Folding: a block that is identical to one that has run, and is called in the same way, repeats it without running.

While a block runs as a *template*, the attributes of its modules are set aside, so that each read of one is recorded.
A later block repeats the template if what was read is equal in it and if it is called with the same kinds of inputs.
Until then the blocks that may repeat one are *deferred*: their copies are empty, and a read or write of one
materializes its block, which then runs as any other module. In doubt, a block runs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.renaming import Renaming, numbered
from graphflops.core.torch_compat import DisableTorchFunction, last_node, name_counts, nodes_after, tree_unflatten
from graphflops.tracing.copies.object_state import object_dict
from graphflops.tracing.folding.block_calls import BlockCall, block_call, keys_of_tensors, state_around
from graphflops.tracing.folding.block_template import BlockTemplate
from graphflops.tracing.folding.deferred_blocks import DeferredBlocks
from graphflops.tracing.folding.identical_blocks import OF_TORCH, Block
from graphflops.tracing.folding.own_parts import Match, Parts
from graphflops.tracing.folding.reachable_state import ReachableState
from graphflops.tracing.folding.template_graph import template_graph
from graphflops.tracing.recording.record import NodeRecord, record_of
from graphflops.tracing.recording.repeats import Repeat
from graphflops.tracing.recording.writer import GraphWriter
from graphflops.tracing.session.aborts import FoldingAborted
from graphflops.tracing.values.failures import user_line

MAX_TEMPLATES = 8
"""of blocks that are identical but for what they read"""


class Folding:
    """The blocks of one trace. Their modules are the user's own, which are only read; what runs are copies of these."""

    def __init__(self, tracer: GraphWriter, blocks: Sequence[Block]) -> None:
        self.tracer = tracer
        self.deferred = DeferredBlocks(tracer)
        self.writes = 0
        """how many attributes of modules were written so far"""
        self.kinds: set[str] = set()
        """the kinds of the calls in all templates"""
        self._taken_names: set[str] = set()  # kinds of names that tensors outside of blocks have
        self._identical: dict[str, list[Block]] = {}  # blocks by their kind
        self._views: dict[int, torch.Tensor] = {}  # results of repeats that are views in the template
        self._paths: Mapping[int, str] = {}
        self._heads: dict[int, Block] = {}  # id of the copy of its first module → the block
        self._templates: dict[str, list[BlockTemplate]] = {}
        self._unseen: set[str] = set()  # kinds of blocks that reach state which cannot be seen
        self._stock: dict[int, list[torch.Tensor]] = {}  # id of a template's result → results of repeats of it
        self._running: BlockTemplate | None = None
        self._aside: dict[int, tuple[nn.Module, int, dict[str, Any]]] = {}  # of the modules of the running template
        for block in blocks:
            identical = self._identical.setdefault(block.kind, [])
            if identical:
                self.deferred.defer(block)
            identical.append(block)

    def on_copied(self, paths: Mapping[int, str]) -> None:
        """Recognize the blocks by their copies from now on; ``paths`` are by ids of copies."""
        self._paths = paths
        for blocks in self._identical.values():
            self._heads.update((id(self.tracer.copier.copy_of(block.head)), block) for block in blocks)

    def attribute_of(self, get: Callable[..., Any], module: nn.Module, name: str) -> Any:
        """Return an attribute of a module that Python does not find by itself; ``get`` finds it as PyTorch does."""
        if self._aside and id(module) in self._aside:
            _, ordinal, attributes = self._aside[id(module)]
            if name in attributes:
                assert self._running is not None
                parts = self._running.parts
                if parts is not None and (index := parts.index(ordinal, name, attributes[name])) is not None:
                    return index
                original = vars(self._running.block.modules[ordinal])[name]
                self._running.reads.append((ordinal, name, original))
                return attributes[name]
        elif self.deferred.is_deferred(module):
            return self.deferred.attribute_of(module, name)
        return get(module, name)

    def on_module_written(self, module: nn.Module) -> None:
        """Discard the running template, and materialize the module's block.

        A module that is not the model's may be made by the block, and gone when that has run. Then the template is
        still valid.
        """
        if self._running is not None and id(module) not in self._paths and not self.deferred.is_deferred(module):
            self._running.unknown_modules.append(weakref.ref(module))
            return
        self.writes += 1
        self.discard_template()
        self.deferred.materialize(module)

    def on_name(self, name: str) -> None:
        """Note the name in the graph of a tensor that no module holds, or that the model itself holds.

        Raises:
            FoldingAborted: a call in a repeat may have the same name.
        """
        if name and "." not in name:
            self._taken_names.add(numbered(name)[0])
            if not self.kinds.isdisjoint(self._taken_names):
                raise FoldingAborted

    def on_tensor_written(self, tensor: torch.Tensor) -> None:
        """Refuse to write in place to a result of a repeat that shares its storage in the template.

        Raises:
            FoldingAborted: it is such a result.
        """
        if self._views and (id(tensor) in self._views or id(tensor._base) in self._views):
            raise FoldingAborted

    def call(self, run: Callable[[], Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the result of a module's call: ``run`` runs it, unless it is a block that repeats another one."""
        is_differentiated = self.tracer.hook is None and not self.tracer.own_code_depth
        block = self._heads.get(id(module)) if is_differentiated else None
        if block is None:
            self.deferred.materialize(module)
            return run()
        with DisableTorchFunction():  # reads of a tensor's shape are intercepted as well
            call = block_call(self.tracer, self.writes, args, kwargs)
            if self.deferred.is_deferred(module):
                self.deferred.refuse_repeating(block)
                if call is not None and (repeatable := self._repeatable(block, call)) is not None:
                    return self._repeat(block, *repeatable)
        self.deferred.materialize(module)
        has_all_templates = len(self._templates.get(block.kind, ())) >= MAX_TEMPLATES or block.kind in self._unseen
        if call is None or self._running is not None or has_all_templates:
            return run()
        return self._run_as_template(run, block, call)

    # -- repeats -------------------------------------------------------------------------------------------------

    def _repeatable(self, block: Block, call: BlockCall) -> tuple[BlockTemplate, BlockCall, Match | None] | None:
        """Return the template that a call of a block repeats, the call with all tensors that it reads, and its parts.

        None if no template fits.
        """
        attributes = [vars(module) for module in block.modules]
        for template in self._templates.get(block.kind, ()):
            graph, match, complete_call = template.graph, None, call
            if (
                graph is None
                or template.key != call.key
                or not template.is_alone
                or not template.same_reads(attributes, self.tracer.copier.is_copied)
                or not template.state.is_shared_unmodified()
                or not (graph.line is None or graph.line == self._line())
            ):
                continue
            if template.parts is not None:
                match = template.parts.match(block, call.objects)
                if match is None:
                    continue
                complete_call = replace(call, tensors=[*call.tensors, *match.tensors])
                if keys_of_tensors(self.tracer, complete_call.tensors) != template.tensor_keys:
                    continue
            if all(complete_call.tensors[place] is tensor for place, tensor in graph.pinned) and all(
                tensor._version == version for tensor, version in graph.value_reads
            ):
                return template, complete_call, match
        return None

    def _repeat(self, block: Block, template: BlockTemplate, call: BlockCall, match: Match | None) -> Any:
        """Record that a block repeats a template, and return new tensors in the place of its results."""
        graph, tracer = template.graph, self.tracer
        assert graph is not None
        self.deferred.mark_repeating(block)
        if (region := tracer.current_region()) is not None:
            region.calls, region.is_repeat = 1, True
        counts = name_counts(tracer.graph)
        shifts = {}
        for kind, (first, count) in graph.kinds.items():
            shifts[kind] = counts[kind] - (first - 1)
            counts[kind] += count
        renaming = Renaming(block.path, template.block.path, shifts)
        tracer.called.update((renaming.path(path), shapes) for path, shapes in graph.called.items())
        tracer.unnamed[False] += graph.constants
        inputs = [tracer.nodes.get(id(tensor)) for tensor in call.tensors]
        tracer.read_by_repeats.update(node for node in inputs if node is not None)
        repeat = tracer.graph.create_node("call_function", _repeated, name=_NAME)
        results = [
            self._result_like(record_of(output).value) if isinstance(output, fx.Node) else output
            for output in graph.outputs
        ]
        repeat.meta["record"] = NodeRecord(tuple(results), block.path, repeat=Repeat(graph, renaming, inputs))
        for output, result in zip(graph.outputs, results, strict=True):
            if isinstance(output, fx.Node):
                part = tracer.graph.create_node("call_function", _part, name=_NAME)
                part.meta["record"] = NodeRecord(result, block.path, part_of=(renaming, output))
                record_of(part).storages = tracer.fakes.storages_of(result)
                tracer.nodes[id(result)] = part
                tracer.kept_alive.append(result)
                if record_of(output).value._base is not None:
                    self._views[id(result)] = result
        if template.parts is not None and match is not None:
            template.parts.write(match, graph.writes, results)
        return tree_unflatten(results[: graph.structure.num_leaves], graph.structure)

    def _result_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor with the spec of a template's result and unknown values."""
        fakes, spec = self.tracer.fakes, (tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.requires_grad:
            if not (stock := self._stock.setdefault(id(tensor), [])):
                with self.tracer.paused():
                    stock += fakes.intermediates(*spec, min(len(self._heads), 64))
            result = stock.pop()
        else:
            result = fakes.make(*spec)
        self.tracer.values.evaluator.mark_unknown(result)
        return result

    # -- templates -----------------------------------------------------------------------------------------------

    def _run_as_template(self, run: Callable[[], Any], block: Block, call: BlockCall) -> Any:
        """Return the result of a block that runs, and keep it as a template if a repeat of it would lack nothing."""
        tracer = self.tracer
        state = ReachableState(map(tracer.copier.copy_of, block.modules), call.objects)
        template = BlockTemplate(block, call.key, state, region=tracer.current_region())
        if call.objects:
            template.parts = Parts(call.objects, block, self._identical[block.kind], self.discard_template)
        last = last_node(tracer.graph)
        inputs = [tracer.nodes.get(id(tensor)) for tensor in call.tensors]
        around = state_around(tracer, call)
        line = self._line()
        called_before, tracer.called = tracer.called, {}
        tracer.values.evaluator.value_reads.clear()
        try:
            watched = template.parts.watched() if template.parts else nullcontext()
            with self._recorded(template), watched, state.recorded():
                result = run()
                still_valid = self._running is template
        finally:
            keeps_module = any(module() is not None for module in template.unknown_modules)
            self.writes += keeps_module
            called, tracer.called = tracer.called, called_before | tracer.called
        if not state.is_visible:
            self._unseen.add(block.kind)
        nodes = [*nodes_after(tracer.graph, last)]
        is_valid = still_valid and not keeps_module and state_around(tracer, call) == around and state.is_unmodified()
        if not is_valid:
            return result
        template.calls = template.region.calls if template.region else 0
        tensors = call.tensors
        if template.parts is not None:
            tensors = [*call.tensors, *template.parts.tensors]
            own = {*nodes}
            read = [tracer.nodes.get(id(tensor)) for tensor in template.parts.tensors]
            inputs += [None if node in own else node for node in read]
            template.tensor_keys = keys_of_tensors(tracer, tensors)
        template.graph = template_graph(
            tracer, block.path, template.parts, tensors, nodes, inputs, called, self._taken_names, line, result
        )
        if template.graph is not None:
            self.kinds.update(template.graph.kinds)
            self._templates.setdefault(block.kind, []).append(template)
        return result

    @contextmanager
    def _recorded(self, template: BlockTemplate) -> Iterator[None]:
        """Record in a template the attributes of its modules that are read while this is open."""
        self._running = template
        for ordinal, module in enumerate(template.block.modules):
            copied = self.tracer.copier.copy_of(module)
            attributes, shadowing = object_dict(copied), template.block.shadowing[ordinal]
            template.reads += [(ordinal, name, attributes[name]) for name in shadowing]
            names = [name for name in attributes if name not in OF_TORCH and name not in shadowing]
            self._aside[id(copied)] = copied, ordinal, {name: attributes.pop(name) for name in names}
        try:
            yield
        finally:
            self.discard_template()

    def discard_template(self) -> None:
        """Stop recording the running block, and give its modules back the attributes that were set aside."""
        if self._running is not None:
            self._running = None
            for module, _, aside in self._aside.values():
                attributes = vars(module)
                attributes.update({name: value for name, value in aside.items() if name not in attributes})
            self._aside.clear()

    def _line(self) -> str:
        return self.tracer.line or user_line()


_NAME = "folded_block"


def _repeated() -> Any:
    raise NotImplementedError("a block that repeats another one is not run")


def _part() -> Any:
    raise NotImplementedError("a block that repeats another one is not run")
