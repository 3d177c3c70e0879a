"""Folding: a block that is alike one that has run, and is called in the same way, does not run: it repeats it.

While a block runs as a *pattern*, its modules' own attributes are kept aside, so that whoever reads one is seen to read
it. A later block repeats the pattern if what the pattern read is the same in it and it is called with the same kinds of
inputs. Until then the blocks that may repeat one are *asleep*: they hold nothing, and whoever reads or writes
something of one wakes it, so that it runs as any other module does. In doubt, nothing repeats anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from graphflops.capture.aborts import FoldingAborted
from graphflops.capture.backward_hooks import has_hooks
from graphflops.capture.checkpoints import CheckpointedRegion
from graphflops.capture.failures import user_line
from graphflops.capture.identical_blocks import OF_TORCH, PLAIN, Block
from graphflops.capture.layouts import nnz_of
from graphflops.capture.object_state import object_dict
from graphflops.capture.record import NodeRecord, record_of
from graphflops.capture.repeats import Body, Repeat
from graphflops.capture.writer import GraphWriter
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
    region: CheckpointedRegion | None = None
    """the checkpointed region that it ran in"""
    calls: int = 0
    """how many calls there were in that region when it had run"""

    @property
    def is_alone(self) -> bool:
        """Whether there is nothing else in its checkpointed region, whose calls decide together what runs again."""
        return self.region is None or self.region.calls == self.calls

    def is_read_alike(self, attributes: list[dict[str, Any]]) -> bool:
        """Whether another block has the same in all that was read."""
        return all(name in attributes[i] and _same(value, attributes[i][name]) for i, name, value in self.reads)


class Folding:
    """The blocks of one trace. Their modules are the user's own, which are only read; what runs are copies of these."""

    def __init__(self, tracer: GraphWriter, blocks: list[Block]) -> None:
        self.tracer = tracer
        copier = tracer.copier
        self.writes = 0
        """how many attributes of modules were written so far"""
        self.kinds: set[str] = set()
        """the kinds of the calls in all patterns"""
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
            if block.kind not in first:
                first.add(block.kind)
            else:
                for module, names in zip(block.modules, block.shadowing, strict=True):
                    shell, attributes = copier.defer(module), vars(module)
                    object_dict(shell).update({name: attributes[name] for name in names})
                    self._asleep[id(shell)] = module, block
        for block in blocks:
            self._heads[id(copier.copy_of(block.head))] = block

    def attribute_of(self, get: Callable[..., Any], module: nn.Module, name: str) -> Any:
        """An attribute of a module that Python does not find by itself; ``get`` finds it as PyTorch does."""
        if self._kept and id(module) in self._kept:
            ordinal, attributes = self._kept[id(module)]
            if name in attributes:
                assert self._running is not None
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
        """A module is written to: what runs is no pattern, and a block that is asleep wakes."""
        self.writes += 1
        self.spoil()
        if id(module) in self._asleep:
            self.wake(module)

    def is_named(self, name: str) -> None:
        """A tensor that no module holds, or the model itself, gets a name in the graph.

        Raises:
            FoldingAborted: a call in a repeat may have the same.
        """
        if name and "." not in name and numbered(name)[0] in self.kinds:
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
                if call is not None and (pattern := self._pattern_of(block, call)) is not None:
                    return self._repeat(block, pattern, call)
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
        if len(regions := self.tracer.regions.open()) > 1 or any(each.keeps is not None for each in regions):
            return None
        leaves, structure = tree_flatten((args, kwargs))
        tensors: list[torch.Tensor] = []
        key: list[Any] = [structure, self.writes, region and region.stops_early, *surroundings()]
        places: dict[int, int] = {}
        memories: dict[int, int] = {}
        nodes: dict[Any, int] = {}
        for each in leaves:
            if isinstance(each, torch.Tensor):
                if not self.tracer.fakes.is_fake(each) or nnz_of(each) is not None:
                    return None
                if self.tracer.values.routing.is_routed(each):
                    return None
                place = places.setdefault(id(each), len(tensors))
                key.append(place)
                if place < len(tensors):
                    continue
                tensors.append(each)
                memory = memories.setdefault(each.untyped_storage()._cdata, place)
                key += [each.shape, each.stride(), each.dtype, each.requires_grad, each.is_leaf, type(each), memory]
                node = self.tracer.nodes.get(id(each))
                key.append(id(each) if node is None else nodes.setdefault(node, place))
            elif isinstance(each, PLAIN):
                key += [type(each), each]
            else:
                return None
        return _Call(key, leaves, tensors)

    def _pattern_of(self, block: Block, call: _Call) -> Pattern | None:
        """The pattern that a block repeats if it is called so."""
        attributes = [vars(each) for each in block.modules]
        for pattern in self._patterns.get(block.kind, ()):
            body = pattern.body
            if (
                body is not None
                and pattern.key == call.key
                and pattern.is_alone
                and pattern.is_read_alike(attributes)
                and all(call.tensors[place] is each for place, each in body.pinned)
                and all(each._version == version for each, version in body.looked_at)
                and (body.line is None or body.line == self._line())
            ):
                return pattern
        return None

    def _repeat(self, block: Block, pattern: Pattern, call: _Call) -> Any:
        """Write down that a block repeats a pattern, and make what it returns."""
        body, tracer = pattern.body, self.tracer
        assert body is not None
        self._repeating.add(id(block))
        if (region := tracer.current_region()) is not None:
            region.calls, region.repeats = 1, True
        counts = name_counts(tracer.graph)
        shifts = {}
        for kind, (first, many) in body.kinds.items():
            shifts[kind] = counts[kind] - (first - 1)
            counts[kind] += many
        renaming = Renaming(block.path, pattern.block.path, shifts)
        tracer.called.update(map(renaming.path, body.called))
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
        return tree_unflatten(results, body.structure)

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
        last = last_node(tracer.graph)
        before = self._state(call)
        inputs = [tracer.nodes.get(id(each)) for each in call.tensors]
        copies = [tracer.copier.copy_of(each) for each in block.modules]
        held = [_held_by(each) for each in copies]
        line = self._line()
        called, tracer.called = tracer.called, set()
        tracer.values.evaluator.value_reads.clear()
        try:
            with self.running(pattern):
                result = run()
                unspoilt = self._running is pattern
        finally:
            now, tracer.called = tracer.called, called | tracer.called
        nodes = [*nodes_after(tracer.graph, last)]
        if (
            unspoilt
            and self._state(call) == before
            and all(_is_unchanged(*each) for each in zip(copies, held, strict=True))
        ):
            pattern.calls = pattern.region.calls if pattern.region else 0
            pattern.body = self._body(block, call, nodes, inputs, now, line, result)
            if pattern.body is not None:
                self.kinds.update(pattern.body.kinds)
                self._patterns.setdefault(block.kind, []).append(pattern)
        return result

    def _state(self, call: _Call) -> Any:
        """What a pattern leaves as it was."""
        return (
            [(each._version, id(self.tracer.nodes.get(id(each)))) for each in call.tensors],
            self.tracer.values.state(),
            surroundings(),
            self.tracer.session.draws,
        )

    def _body(
        self,
        block: Block,
        call: _Call,
        nodes: list[fx.Node],
        inputs: list[fx.Node | None],
        called: set[str],
        line: str,
        result: Any,
    ) -> Body | None:
        """What a block put into the graph, if it can be repeated."""
        own = [node for node in nodes if node.op != "get_attr" or _is_below(str(node.target), block.path)]
        inside = set(own)
        for node in nodes:
            if node not in inside and record_of(node).name is None:
                return None  # it has a number in the way of others
        for node in own:
            record = record_of(node)
            if not _is_below(record.module_path or "", block.path) or record.repeat or has_hooks(record.value):
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
            called=frozenset(called),
            kinds=kinds,
            looked_at=[(each, each._version) for each in outside],
            pinned=[(places[id(each)], each) for each in outside if id(each) in places],
            line=line if any(record_of(node).line == line for node in own) else None,
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
            if each != list(range(each[0], each[0] + len(each))) or counts[kind] != each[-1]:
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
    """How a block is called: what must be equal in a repeat, all leaves of its inputs, and the tensors among them."""

    key: list[Any]
    leaves: list[Any]
    tensors: list[torch.Tensor]


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


def _is_below(path: str, block: str) -> bool:
    return path == block or path.startswith(f"{block}.")


def _read_by(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes that one reads, as arguments or by what its rule is offered."""
    yield from node.all_input_nodes
    yield from record_of(node).requires_grad or ()


def _is_fresh(tensor: torch.Tensor, node: fx.Node) -> bool:
    """Whether a result is nobody's view, and of numbers that nobody knows."""
    return (
        tensor._base is None
        and tensor.is_floating_point()
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


def _same(one: Any, other: Any) -> bool:
    """Whether two attributes are the same object, or plain and equal."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(value, other[key]) for key, value in one.items())
    return isinstance(one, (*PLAIN, torch.Size)) and bool(one == other)
