"""Folding: a block that is alike one that has run, and is called in the same way, does not run: it repeats it.

While a block runs as a *pattern*, its modules' own attributes are kept aside, so that whoever reads one is seen to read
it. A later block repeats the pattern if what the pattern read is the same in it and it is called with the same kinds of
inputs. Until then the blocks that may repeat one are *asleep*: they hold nothing, and whoever reads or writes
something of one wakes it, so that it runs as any other module does. In doubt, nothing repeats anything.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.renaming import Renaming, numbered
from graphflops.core.torch_compat import (
    DisableTorchFunction,
    last_node,
    name_counts,
    nodes_after,
    open_dispatch_modes,
    open_function_modes,
    top_saved_tensors_hooks,
    tree_flatten,
    tree_unflatten,
)
from graphflops.tracing.copies.layouts import nnz_of
from graphflops.tracing.copies.object_state import object_dict
from graphflops.tracing.folding.identical_blocks import OF_TORCH, PLAIN, Block
from graphflops.tracing.folding.own_parts import Match, Parts
from graphflops.tracing.folding.shared_objects import can_be_watched, is_same
from graphflops.tracing.recording.backward_hooks import has_hooks
from graphflops.tracing.recording.checkpoints import CheckpointedRegion
from graphflops.tracing.recording.record import NodeRecord, record_of
from graphflops.tracing.recording.repeats import Body, Output, Repeat
from graphflops.tracing.recording.writer import GraphWriter
from graphflops.tracing.session.aborts import FoldingAborted
from graphflops.tracing.values.failures import user_line

MOST_PATTERNS = 8
"""of blocks that are alike, but for what they read"""


@dataclass(eq=False)
class Pattern:
    """A block that ran, and what it takes to repeat it."""

    block: Block
    key: Any
    """how it was called"""
    reads: list[tuple[int, str, Any]] = field(default_factory=list)
    """the attributes that it read: which module's, under which name, and what it was"""
    body: Body | None = None
    parts: Parts | None = None
    """what it read and wrote of the objects that it was called with"""
    tensors: Any = None
    """what must be equal in a repeat of its tensors, with those that it read of these objects"""
    region: CheckpointedRegion | None = None
    """the checkpointed region that it ran in"""
    made: list[weakref.ref[nn.Module]] = field(default_factory=list)
    """modules that were written to, and that no path leads to"""
    calls: int = 0
    """how many calls there were in that region when it had run"""

    @property
    def is_alone(self) -> bool:
        """Whether there is nothing else in its checkpointed region, whose calls decide together what runs again."""
        return self.region is None or self.region.calls == self.calls

    def is_read_alike(self, attributes: list[dict[str, Any]]) -> bool:
        """Whether another block has the same in all that was read."""
        return all(name in attributes[i] and is_same(value, attributes[i][name]) for i, name, value in self.reads)


class Folding:
    """The blocks of one trace. Their modules are the user's own, which are only read; what runs are copies of these."""

    def __init__(self, tracer: GraphWriter, blocks: list[Block]) -> None:
        self.tracer = tracer
        copier = tracer.copier
        self.writes = 0
        """how many attributes of modules were written so far"""
        self.kinds: set[str] = set()
        """the kinds of the calls in all patterns"""
        self._named: set[str] = set()  # kinds of names that something else has as well
        self._alike: dict[str, list[Block]] = {}  # by their kind
        self._views: dict[int, torch.Tensor] = {}  # results of repeats that are views in the pattern
        self._paths: Mapping[int, str] = {}
        self._heads: dict[int, Block] = {}  # id of the copy of its first module → the block
        self._patterns: dict[str, list[Pattern]] = {}
        self._asleep: dict[int, tuple[nn.Module, Block]] = {}  # id of an empty copy → the module, and its block
        self._repeating: set[int] = set()
        self._stock: dict[int, list[torch.Tensor]] = {}  # id of a pattern's result → others like it
        self._running: Pattern | None = None
        self._kept: dict[int, tuple[int, dict[str, Any]]] = {}  # aside, of the pattern that runs
        self._modules: dict[int, nn.Module] = {}
        first: set[str] = set()
        for block in blocks:
            self._alike.setdefault(block.kind, []).append(block)
            if block.kind not in first:
                first.add(block.kind)
            else:
                for module, names in zip(block.modules, block.shadowing, strict=True):
                    shell, attributes = copier.defer(module), vars(module)
                    object_dict(shell).update({name: attributes[name] for name in names})
                    self._asleep[id(shell)] = module, block

    def copied(self, paths: Mapping[int, str]) -> None:
        """The model is copied: from now on its blocks are known by their copies; ``paths`` are by ids of copies."""
        self._paths = paths
        for blocks in self._alike.values():
            self._heads.update((id(self.tracer.copier.copy_of(block.head)), block) for block in blocks)

    def attribute_of(self, get: Callable[..., Any], module: nn.Module, name: str) -> Any:
        """An attribute of a module that Python does not find by itself; ``get`` finds it as PyTorch does."""
        if self._kept and id(module) in self._kept:
            ordinal, attributes = self._kept[id(module)]
            if name in attributes:
                assert self._running is not None
                parts = self._running.parts
                if parts is not None and (index := parts.index(ordinal, name, attributes[name])) is not None:
                    return index
                original = vars(self._running.block.modules[ordinal])[name]
                self._running.reads.append((ordinal, name, original))
                return attributes[name]
        elif id(module) in self._asleep:
            return self._asked(module, name)
        return get(module, name)

    # -- asleep --------------------------------------------------------------------------------------------------

    def is_asleep(self, module: nn.Module) -> bool:
        """Whether a module's block has neither run nor been asked anything."""
        return id(module) in self._asleep

    def wake(self, module: nn.Module) -> None:
        """All of the block that a module is in can be run from now on.

        Raises:
            FoldingAborted: it repeats another block already.
        """
        block = self._asleep[id(module)][1]
        if id(block) in self._repeating:
            raise FoldingAborted
        copier = self.tracer.copier
        for each in block.modules:
            self._asleep.pop(id(copier.copy_of(each)))
        with self.tracer.paused(), DisableTorchFunction():
            for each in block.modules:
                copier.fill(each)

    def _asked(self, module: nn.Module, name: str) -> Any:
        """An attribute of a module that is asleep; plain ones and modules, which sleep as well, do not wake it."""
        attributes = vars(self._asleep[id(module)][0])
        if name in attributes and isinstance(attributes[name], PLAIN):
            return attributes[name]
        if name in (children := attributes["_modules"]):
            return self.tracer.copier.copy_of(children[name])
        self.wake(module)
        return getattr(module, name)

    def written(self, module: nn.Module) -> None:
        """A module is written to: what runs is no pattern, and a block that is asleep wakes.

        One that no path leads to may be made by the block, and gone when that has run: then nobody else knows of it.
        """
        if self._running is not None and id(module) not in self._paths and id(module) not in self._asleep:
            self._running.made.append(weakref.ref(module))
            return
        self.writes += 1
        self.spoil()
        if id(module) in self._asleep:
            self.wake(module)

    def is_named(self, name: str) -> None:
        """A tensor that no module holds, or the model itself, gets a name in the graph.

        Raises:
            FoldingAborted: a call in a repeat may have the same.
        """
        if name and "." not in name:
            self._named.add(numbered(name)[0])
            if not self.kinds.isdisjoint(self._named):
                raise FoldingAborted

    # -- patterns ------------------------------------------------------------------------------------------------

    def call(self, run: Callable[[], Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """The result of a module's call: ``run`` runs it, which a block that repeats another one need not do."""
        apart = self.tracer.hook is not None or self.tracer.own_code_depth  # from what autograd differentiates
        block = None if apart else self._heads.get(id(module))
        if block is None:
            if id(module) in self._asleep:
                self.wake(module)
            return run()
        with DisableTorchFunction():  # who asks a tensor for its shape is heard as well, and waits
            call = self._call(args, kwargs)
            if id(module) in self._asleep:
                if id(block) in self._repeating:
                    raise FoldingAborted  # its parameters would be there twice
                if call is not None and (repeated := self._repeated_by(block, call)) is not None:
                    return self._repeat(block, *repeated)
        if id(module) in self._asleep:
            self.wake(module)
        many = len(self._patterns.get(block.kind, ())) >= MOST_PATTERNS
        if call is None or self._running is not None or many:
            return run()
        return self._run(run, block, call)

    def _call(self, args: Any, kwargs: Any) -> _Call | None:
        """How a block is called; None if it is in a way that makes it neither a pattern nor a repeat."""
        region = self.tracer.current_region()
        if self.tracer.is_transformed() or (region is not None and region.calls):
            return None
        if len(regions := self.tracer.regions.open()) > 1 or any(each.kept_results is not None for each in regions):
            return None
        leaves, structure = tree_flatten((args, kwargs))
        key: list[Any] = [structure, self.writes, region and region.stops_early, *surroundings()]
        tensors: list[torch.Tensor] = []
        objects: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                key.append(torch.Tensor)
                tensors.append(leaf)
            elif isinstance(leaf, PLAIN):
                key += [type(leaf), leaf]
            elif can_be_watched(leaf):
                key.append(id(leaf))
                objects.append(leaf)
            else:
                return None
        described = self._described(tensors)
        if described is None or len({*map(id, objects)}) < len(objects):
            return None
        return _Call([*key, described], (args, kwargs), tensors, objects)

    def _described(self, tensors: Sequence[torch.Tensor]) -> list[Any] | None:
        """What must be equal in a repeat of the tensors that a block reads; None if it can't be repeated."""
        key: list[Any] = []
        places: dict[int, int] = {}
        memories: dict[int, int] = {}
        nodes: dict[Any, int] = {}
        for i, tensor in enumerate(tensors):
            if not self.tracer.fakes.is_fake(tensor) or nnz_of(tensor) is not None:
                return None
            if self.tracer.values.routing.is_routed(tensor):
                return None
            place = places.setdefault(id(tensor), i)
            key.append(place)
            if place < i:
                continue
            memory = memories.setdefault(tensor.untyped_storage()._cdata, place)
            key += [tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad, tensor.is_leaf]
            key += [type(tensor), memory]
            node = self.tracer.nodes.get(id(tensor))
            key.append(id(tensor) if node is None else nodes.setdefault(node, place))
        return key

    def _repeated_by(self, block: Block, call: _Call) -> tuple[Pattern, _Call, Match | None] | None:
        """The pattern that a block repeats if it is called so, all tensors that it reads, and its own parts."""
        attributes = [vars(module) for module in block.modules]
        for pattern in self._patterns.get(block.kind, ()):
            body, match, read = pattern.body, None, call
            if (
                body is None
                or pattern.key != call.key
                or not pattern.is_alone
                or not pattern.is_read_alike(attributes)
                or not (body.line is None or body.line == self._line())
            ):
                continue
            if pattern.parts is not None:
                match = pattern.parts.match(block, call.objects)
                if match is None:
                    continue
                read = replace(call, tensors=[*call.tensors, *match.tensors])
                if self._described(read.tensors) != pattern.tensors:
                    continue
            if all(read.tensors[place] is tensor for place, tensor in body.pinned) and all(
                tensor._version == version for tensor, version in body.looked_at
            ):
                return pattern, read, match
        return None

    def _repeat(self, block: Block, pattern: Pattern, call: _Call, match: Match | None) -> Any:
        """Write down that a block repeats a pattern, and make what it returns."""
        body, tracer = pattern.body, self.tracer
        assert body is not None
        self._repeating.add(id(block))
        if (region := tracer.current_region()) is not None:
            region.calls, region.is_repeat = 1, True
        counts = name_counts(tracer.graph)
        shifts = {}
        for kind, (first, many) in body.kinds.items():
            shifts[kind] = counts[kind] - (first - 1)
            counts[kind] += many
        renaming = Renaming(block.path, pattern.block.path, shifts)
        tracer.called.update(map(renaming.path, body.called))
        tracer.unnamed[False] += body.constants
        inputs = [tracer.nodes.get(id(each)) for each in call.tensors]
        tracer.read_by_repeats.update(each for each in inputs if each is not None)
        node = tracer.graph.create_node("call_function", _repeated, name=_NAME)
        results = [self._like(record_of(each).value) if isinstance(each, fx.Node) else each for each in body.outputs]
        node.meta["record"] = NodeRecord(tuple(results), block.path, repeat=Repeat(body, renaming, inputs))
        for each, result in zip(body.outputs, results, strict=True):
            if isinstance(each, fx.Node):
                part = tracer.graph.create_node("call_function", _part, name=_NAME)
                part.meta["record"] = NodeRecord(result, block.path, part_of=(renaming, each))
                tracer.nodes[id(result)] = part
                tracer.kept_alive.append(result)
                if record_of(each).value._base is not None:
                    self._views[id(result)] = result
        if pattern.parts is not None and match is not None:
            pattern.parts.write(match, body.writes, results)
        return tree_unflatten(results[: body.structure.num_leaves], body.structure)

    def is_written(self, tensor: torch.Tensor) -> None:
        """A tensor is written to in place.

        Raises:
            FoldingAborted: it is a result of a repeat, and in the pattern it shares its memory with another tensor.
        """
        if self._views and (id(tensor) in self._views or id(tensor._base) in self._views):
            raise FoldingAborted

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        """A result like that of the pattern, made by nobody knows what."""
        fakes, spec = self.tracer.fakes, (tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.requires_grad:
            if not (stock := self._stock.setdefault(id(tensor), [])):
                with self.tracer.paused():
                    stock += fakes.intermediates(*spec, min(len(self._heads), 64))
            made = stock.pop()
        else:
            made = fakes.make(*spec)
        self.tracer.values.evaluator.mark_unknown(made)
        return made

    def _run(self, run: Callable[[], Any], block: Block, call: _Call) -> Any:
        """Run a block as a pattern; it is one if nothing was seen in it that a repeat would lack."""
        tracer = self.tracer
        pattern = Pattern(block, call.key, region=tracer.current_region())
        if call.objects:
            pattern.parts = Parts(call.objects, block, self._alike[block.kind], self.spoil)
        last = last_node(tracer.graph)
        before = self._state(call)
        inputs = [tracer.nodes.get(id(each)) for each in call.tensors]
        copies = [tracer.copier.copy_of(each) for each in block.modules]
        held = [_held_by(each) for each in copies]
        line = self._line()
        called, tracer.called = tracer.called, set()
        tracer.values.evaluator.value_reads.clear()
        try:
            with self.running(pattern), pattern.parts.watched() if pattern.parts else nullcontext():
                result = run()
                unspoilt = self._running is pattern
        finally:
            is_known = any(made() is not None for made in pattern.made)
            self.writes += is_known
            now, tracer.called = tracer.called, called | tracer.called
        nodes = [*nodes_after(tracer.graph, last)]
        if (
            unspoilt
            and not is_known
            and self._state(call) == before
            and all(_is_unchanged(*each) for each in zip(copies, held, strict=True))
        ):
            pattern.calls = pattern.region.calls if pattern.region else 0
            if pattern.parts is not None:
                call = replace(call, tensors=[*call.tensors, *pattern.parts.tensors])
                new = set(nodes)
                read = [tracer.nodes.get(id(tensor)) for tensor in pattern.parts.tensors]
                inputs += [None if node in new else node for node in read]
                pattern.tensors = self._described(call.tensors)
            pattern.body = self._body(pattern, call, nodes, inputs, now, line, result)
            if pattern.body is not None:
                self.kinds.update(pattern.body.kinds)
                self._patterns.setdefault(block.kind, []).append(pattern)
        return result

    def _state(self, call: _Call) -> Any:
        """What a pattern leaves as it was."""
        return (
            _identities(call.given),
            [(each._version, id(self.tracer.nodes.get(id(each)))) for each in call.tensors],
            self.tracer.values.state(),
            surroundings(),
            self.tracer.session.draws,
        )

    def _body(
        self,
        pattern: Pattern,
        call: _Call,
        nodes: list[fx.Node],
        inputs: list[fx.Node | None],
        called: set[str],
        line: str,
        result: Any,
    ) -> Body | None:
        """What a block put into the graph, if it can be repeated."""
        block, writes = pattern.block, pattern.parts.writes() if pattern.parts else []
        if writes is None:
            return None
        constants = {node for node in nodes if _is_made_constant(node)}
        own = [
            node
            for node in nodes
            if node.op != "get_attr" or node in constants or _is_below(str(node.target), block.path)
        ]
        inside = set(own)
        for node in nodes:
            if node not in inside and record_of(node).name is None:
                return None  # it has a number in the way of others
        for node in own:
            record = record_of(node)
            if record.repeat or has_hooks(record.value):
                return None
            if not (_is_below(record.module_path or "", block.path) or node in constants):
                return None
            for each in _read_by(node):
                held = each.op == "get_attr" and not _is_below(str(each.target), block.path)
                if each not in inside and each not in inputs and not (held and record_of(each).value._version == 0):
                    return None
        if not all(_is_below(path, block.path) for path in called):
            return None
        leaves, structure = tree_flatten(result)
        outputs: list[Any] = []
        for leaf in leaves:
            made = self.tracer.nodes.get(id(leaf)) if isinstance(leaf, torch.Tensor) else None
            if made is None and not isinstance(leaf, PLAIN):
                return None
            if made is not None and not (made in inside and _is_fresh(leaf, made) and made not in outputs):
                return None
            outputs.append(leaf if made is None else made)
        places = {id(leaf): place for place, leaf in enumerate(leaves)}
        for i, (part, key, value) in enumerate(writes):
            if not isinstance(value, torch.Tensor):
                continue
            if id(value) not in places:
                made = self.tracer.nodes.get(id(value))
                if made is None or made in outputs or made not in inside or not _is_computed(value, made):
                    return None
                places[id(value)] = len(outputs)
                outputs.append(made)
            writes[i] = part, key, Output(places[id(value)])
        if not self._are_separate(outputs, inside):
            return None
        kinds = self._kinds(own)
        looked_at = list(self.tracer.values.evaluator.value_reads.values())
        if kinds is None or any(_is_below(self.tracer.fakes.name_of(each) or "-", block.path) for each in looked_at):
            return None
        outside = [each for each in looked_at if self.tracer.nodes.get(id(each)) not in inside]
        places = {id(each): place for place, each in enumerate(call.tensors)}
        return Body(
            nodes=tuple(own),
            inputs=inputs,
            outputs=outputs,
            structure=structure,
            writes=writes,
            constants=len(constants),
            called=frozenset(called),
            kinds=kinds,
            looked_at=[(each, each._version) for each in outside],
            pinned=[(places[id(each)], each) for each in outside if id(each) in places],
            line=line if any(record_of(node).line == line for node in own) else None,
        )

    def _are_separate(self, outputs: list[Any], inside: set[fx.Node]) -> bool:
        """Whether of those that are views nobody outside has anything that shares their memory."""
        bases = [record_of(node).value._base for node in outputs if isinstance(node, fx.Node)]
        views = [base for base in bases if base is not None]
        makers = [self.tracer.nodes.get(id(base)) for base in views]
        return len({*map(id, views)}) == len(views) and all(
            maker in inside and maker not in outputs for maker in makers
        )

    def _kinds(self, nodes: list[fx.Node]) -> dict[str, tuple[int, int]] | None:
        """How the calls of each kind are numbered; None if they are not one after the other."""
        counts = name_counts(self.tracer.graph)
        numbers: dict[str, list[int]] = {}
        for node in nodes:
            if record_of(node).name is None:
                kind, number = numbered(node.name)
                numbers.setdefault(kind, []).append(number)
        for kind, each in numbers.items():
            if each != list(range(each[0], each[0] + len(each))) or counts[kind] != each[-1] or kind in self._named:
                return None
        return {kind: (each[0], len(each)) for kind, each in numbers.items()}

    def _line(self) -> str:
        return self.tracer.line or user_line()

    @contextmanager
    def running(self, pattern: Pattern) -> Iterator[None]:
        """A block runs as a pattern while this is open."""
        self._running = pattern
        for ordinal, module in enumerate(pattern.block.modules):
            copied = self.tracer.copier.copy_of(module)
            attributes, shadowing = object_dict(copied), pattern.block.shadowing[ordinal]
            pattern.reads += [(ordinal, name, attributes[name]) for name in shadowing]
            names = [name for name in attributes if name not in OF_TORCH and name not in shadowing]
            aside = {name: attributes.pop(name) for name in names}
            self._kept[id(copied)] = ordinal, aside
            self._modules[id(copied)] = copied
        try:
            yield
        finally:
            self.spoil()

    def spoil(self) -> None:
        """What runs is no pattern: its modules have back what was kept aside."""
        if self._running is not None:
            self._running = None
            for each, (_, aside) in self._kept.items():
                attributes = vars(self._modules[each])
                attributes.update({name: value for name, value in aside.items() if name not in attributes})
            self._kept.clear()
            self._modules.clear()


@dataclass(frozen=True)
class _Call:
    """How a block is called: what must be equal in a repeat, the inputs, and the tensors and objects among them."""

    key: list[Any]
    given: Any
    tensors: list[torch.Tensor]
    objects: list[Any]


_NAME = "folded_block"


def _repeated() -> Any:
    raise NotImplementedError("a block that repeats another one is not run")


def _part() -> Any:
    raise NotImplementedError("a block that repeats another one is not run")


def _held_by(module: nn.Module) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """The attributes of a module, and its containers with what they hold."""
    attributes = object_dict(module)
    held: list[tuple[Any, Any]] = []
    for each in attributes.values():
        if isinstance(each, dict):
            held.append((each, dict(dict.items(each))))
        elif isinstance(each, (list, set)):
            held.append((each, list(list.__iter__(each)) if isinstance(each, list) else set(set.__iter__(each))))
    return attributes.copy(), held


def _is_unchanged(module: nn.Module, before: tuple[dict[str, Any], list[tuple[Any, Any]]]) -> bool:
    """Whether a module holds what it held."""
    attributes, now = before[0], object_dict(module)
    if attributes.keys() != now.keys() or any(now[name] is not each for name, each in attributes.items()):
        return False
    return all(_holds(*each) for each in before[1])


def _holds(now: Any, then: Any) -> bool:
    """Whether a container holds the same objects, in the same order."""
    if isinstance(then, set) or len(now) != len(then):
        return bool(now == then)
    if isinstance(then, dict):
        if list(now) != list(then):
            return False
        now, then = now.values(), then.values()
    return all(one is other for one, other in zip(now, then, strict=True))


def _identities(given: Any) -> tuple[Any, list[int]]:
    """Which inputs there are, and where in the lists and dicts that hold them."""
    leaves, structure = tree_flatten(given)
    return structure, [*map(id, leaves)]


def _is_below(path: str, block: str) -> bool:
    return path == block or path.startswith(f"{block}.")


def _is_made_constant(node: fx.Node) -> bool:
    """Whether a node is what ``torch.tensor`` makes of numbers: nobody else has it."""
    users = list(node.users)
    is_lifted = len(users) == 1 and users[0].target is torch.ops.aten.lift_fresh.default
    return node.op == "get_attr" and record_of(node).name is None and is_lifted


def _read_by(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes that one reads, as arguments or by what its rule is offered."""
    yield from node.all_input_nodes
    yield from record_of(node).requires_grad or ()


def _is_fresh(tensor: torch.Tensor, node: fx.Node) -> bool:
    """Whether a result is nobody's view, and of numbers that nobody knows."""
    return tensor._base is None and _is_computed(tensor, node)


def _is_computed(tensor: torch.Tensor, node: fx.Node) -> bool:
    """Whether a result is of numbers that nobody knows."""
    return (
        tensor.is_floating_point()
        and node.op != "get_attr"
        and node.target is not torch.ops.aten.detach.default
        and tensor.requires_grad is not tensor.is_leaf
    )


def surroundings() -> tuple[Any, ...]:
    """What a call depends on beside its inputs: the modes that it is called in."""
    return (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        *((torch.is_autocast_enabled(each), torch.get_autocast_dtype(each)) for each in ("cpu", "cuda")),
        open_function_modes(),
        open_dispatch_modes(),
        top_saved_tensors_hooks(True) is None,
    )
