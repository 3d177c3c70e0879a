"""The nodes that a block put into the graph, if a repeat of them would be the same as a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import torch
from torch import fx

from graphflops.core.renaming import numbered
from graphflops.core.torch_compat import name_counts, tree_flatten
from graphflops.tracing.folding.identical_blocks import PLAIN
from graphflops.tracing.folding.own_parts import Parts
from graphflops.tracing.recording.backward_hooks import has_hooks
from graphflops.tracing.recording.record import record_of
from graphflops.tracing.recording.repeats import Output, TemplateGraph
from graphflops.tracing.recording.writer import GraphWriter


def template_graph(
    tracer: GraphWriter,
    path: str,
    parts: Parts | None,
    tensors: Sequence[torch.Tensor],
    nodes: Sequence[fx.Node],
    inputs: Sequence[fx.Node | None],
    called: Mapping[str, str],
    taken_names: Set[str],
    line: str,
    result: Any,
) -> TemplateGraph | None:
    """Return what the block at a path put into the graph; None if it cannot be repeated.

    Args:
        tracer: The writer of the graph.
        path: The block's path.
        parts: Its reads and writes of the objects among its inputs.
        tensors: The tensors that it was called with, and those that it read of these objects.
        nodes: The nodes that were added while it ran.
        inputs: The nodes of ``tensors``.
        called: Path of each module that ran → shapes of its result.
        taken_names: Kinds of names that tensors outside of all blocks have.
        line: The user's line that called it.
        result: Its result.
    """
    writes = parts.writes() if parts else []
    if writes is None or not all(_is_below(called_path, path) for called_path in called):
        return None
    constants = {node for node in nodes if _is_made_constant(node)}
    own = [node for node in nodes if node.op != "get_attr" or node in constants or _is_below(str(node.target), path)]
    inside = set(own)
    if any(node not in inside and record_of(node).name is None for node in nodes):
        return None  # a node of something else is numbered among the block's
    if not all(_can_be_repeated(node, path, inside, inputs, node in constants) for node in own):
        return None
    outputs = _outputs(tracer, result, writes, inside)
    if outputs is None or not _are_separate(tracer, outputs, inside):
        return None
    kinds = _kinds(tracer, own, taken_names)
    value_reads = list(tracer.values.evaluator.value_reads.values())
    if kinds is None or any(_is_below(tracer.fakes.name_of(tensor) or "-", path) for tensor in value_reads):
        return None
    outside = [tensor for tensor in value_reads if tracer.nodes.get(id(tensor)) not in inside]
    places = {id(tensor): place for place, tensor in enumerate(tensors)}
    return TemplateGraph(
        nodes=tuple(own),
        inputs=inputs,
        outputs=outputs,
        structure=tree_flatten(result)[1],
        writes=writes,
        constants=len(constants),
        called=called,
        kinds=kinds,
        value_reads=[(tensor, tensor._version) for tensor in outside],
        pinned=[(places[id(tensor)], tensor) for tensor in outside if id(tensor) in places],
        line=line if any(record_of(node).line == line for node in own) else None,
    )


def _can_be_repeated(
    node: fx.Node, path: str, inside: Set[fx.Node], inputs: Sequence[fx.Node | None], is_constant: bool
) -> bool:
    """Whether a node of the block at a path reads only inputs, its own nodes and tensors that nobody wrote to."""
    record = record_of(node)
    if record.repeat or has_hooks(record.value):
        return False
    if not (_is_below(record.module_path or "", path) or is_constant):
        return False
    for operand in _operands(node):
        if operand not in inside and operand not in inputs:
            is_outside = operand.op == "get_attr" and not _is_below(str(operand.target), path)
            if not (is_outside and record_of(operand).value._version == 0):
                return False
    return True


def _outputs(
    tracer: GraphWriter, result: Any, writes: list[tuple[int, Any, Any]], inside: Set[fx.Node]
) -> list[Any] | None:
    """Return the leaves of a result and then the tensors that were written to shared objects, tensors as nodes.

    Tensors in ``writes`` are replaced by an `Output`. None if one of them cannot be made without running the block.
    """
    leaves = tree_flatten(result)[0]
    outputs: list[Any] = []
    for leaf in leaves:
        node = tracer.nodes.get(id(leaf)) if isinstance(leaf, torch.Tensor) else None
        if node is None and not isinstance(leaf, PLAIN):
            return None
        if node is not None and not (node in inside and _is_fresh(leaf, node) and node not in outputs):
            return None
        outputs.append(leaf if node is None else node)
    places = {id(leaf): place for place, leaf in enumerate(leaves)}
    for i, (part, key, value) in enumerate(writes):
        if not isinstance(value, torch.Tensor):
            continue
        if id(value) not in places:
            node = tracer.nodes.get(id(value))
            if node is None or node in outputs or node not in inside or not _is_computed(value, node):
                return None
            places[id(value)] = len(outputs)
            outputs.append(node)
        writes[i] = part, key, Output(places[id(value)])
    return outputs


def _are_separate(tracer: GraphWriter, outputs: Sequence[Any], inside: Set[fx.Node]) -> bool:
    """Whether no tensor outside shares storage with those outputs that are views."""
    bases = [record_of(node).value._base for node in outputs if isinstance(node, fx.Node)]
    views = [base for base in bases if base is not None]
    makers = [tracer.nodes.get(id(base)) for base in views]
    return len({*map(id, views)}) == len(views) and all(maker in inside and maker not in outputs for maker in makers)


def _kinds(tracer: GraphWriter, nodes: Sequence[fx.Node], taken_names: Set[str]) -> dict[str, tuple[int, int]] | None:
    """Return kind of a call → its first number and how many there are; None if they are not consecutive."""
    counts = name_counts(tracer.graph)
    numbers_of: dict[str, list[int]] = {}
    for node in nodes:
        if record_of(node).name is None:
            kind, number = numbered(node.name)
            numbers_of.setdefault(kind, []).append(number)
    for kind, numbers in numbers_of.items():
        consecutive = list(range(numbers[0], numbers[0] + len(numbers)))
        if numbers != consecutive or counts[kind] != numbers[-1] or kind in taken_names:
            return None
    return {kind: (numbers[0], len(numbers)) for kind, numbers in numbers_of.items()}


def _is_below(path: str, block: str) -> bool:
    return path == block or path.startswith(f"{block}.")


def _is_made_constant(node: fx.Node) -> bool:
    """Whether a node is what ``torch.tensor`` makes of numbers, which nothing else holds."""
    users = list(node.users)
    is_lifted = len(users) == 1 and users[0].target is torch.ops.aten.lift_fresh.default
    return node.op == "get_attr" and record_of(node).name is None and is_lifted


def _operands(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the nodes that one reads, as arguments or by what its rule is offered."""
    yield from node.all_input_nodes
    yield from record_of(node).requires_grad or ()


def _is_fresh(tensor: torch.Tensor, node: fx.Node) -> bool:
    """Whether a result is no view, and its values are unknown."""
    return tensor._base is None and _is_computed(tensor, node)


def _is_computed(tensor: torch.Tensor, node: fx.Node) -> bool:
    """Whether the values of a result are unknown."""
    return (
        tensor.is_floating_point()
        and node.op != "get_attr"
        and node.target is not torch.ops.aten.detach.default
        and tensor.requires_grad is not tensor.is_leaf
    )
