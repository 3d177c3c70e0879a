"""Segments of a given graph: consecutive nodes that came from one module.

A flat graph calls no modules, but its nodes know the module that they came from. So a segment can be run as the call of
a module, and can repeat another segment with the same ``code``: the same operations on the same inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphflops.tracing.folding.identical_blocks import PLAIN

_COMPARABLE = (*PLAIN, type(...), torch.layout, torch.memory_format)
"""arguments that are equal if their representations are"""


@dataclass(frozen=True)
class Segment:
    """The nodes of one module, the nodes that they read, and those of its own that others read."""

    path: str
    code: str
    nodes: Sequence[fx.Node]
    inputs: Sequence[fx.Node]
    outputs: Sequence[fx.Node]


def module_path_of(node: fx.Node) -> str:
    """Return the path of the module that a node came from."""
    stack = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
    return str(stack[-1][0])


def segments_of(graph: fx.Graph, paths: Collection[str], lines: Mapping[fx.Node, str]) -> dict[fx.Node, Segment]:
    """Return first node → segment, for each module at one of the paths whose nodes stand together.

    ``lines`` are the user's source lines. Reading an attribute is in no segment: it is read where it is used.
    """
    blocks = {*paths}
    runs: list[tuple[str, list[fx.Node]]] = []
    for node in graph.nodes:
        if node.op == "get_attr":
            continue
        path = (
            _block_of(module_path_of(node), blocks)
            if node.op in ("call_function", "call_method", "call_module")
            else ""
        )
        if path and runs and runs[-1][0] == path:
            runs[-1][1].append(node)
        else:
            runs.append((path, [node]))
    times = Counter(path for path, _ in runs)
    segments = (_segment(path, nodes, lines) for path, nodes in runs if path and times[path] == 1 and len(nodes) > 1)
    return {segment.nodes[0]: segment for segment in segments if segment is not None}


def _block_of(path: str, blocks: Collection[str]) -> str:
    """Return the block that a module is in, or is; empty if there is none."""
    while path and path not in blocks:
        path = path.rpartition(".")[0]
    return path


def _segment(path: str, nodes: Sequence[fx.Node], lines: Mapping[fx.Node, str]) -> Segment | None:
    """Return the segment of some nodes; None if an argument cannot be compared."""
    inside = {node: f"%{number}" for number, node in enumerate(nodes)}
    inputs: dict[fx.Node, str] = {}

    def format_value(value: Any) -> str:
        if isinstance(value, fx.Node):
            if value.op == "get_attr":
                return _below(str(value.target), path)
            return inside[value] if value in inside else inputs.setdefault(value, f"input {len(inputs)}")
        if isinstance(value, (tuple, list)):
            return f"{type(value).__name__}({', '.join(map(format_value, value))})"
        if isinstance(value, dict):
            return f"dict({', '.join(f'{key!r}: {format_value(item)}' for key, item in value.items())})"
        if isinstance(value, slice):
            return f"slice({format_value(value.start)}, {format_value(value.stop)}, {format_value(value.step)})"
        if not isinstance(value, _COMPARABLE):
            raise _Incomparable
        return repr(value)

    def format_node(node: fx.Node) -> str:
        is_function = node.op == "call_function"  # two functions may have the same name
        target = f"{node.target} {id(node.target)}" if is_function else _below(str(node.target), path)
        operands = f"{format_value(node.args)}, {format_value(node.kwargs)}"
        return f"{node.op} {target} {operands} of {_below(module_path_of(node), path)} at {lines[node]}"

    try:
        code = "\n".join(map(format_node, nodes))
    except _Incomparable:
        return None
    outputs = [node for node in nodes if any(user not in inside for user in node.users)]
    return Segment(path, f"{code}\nreturn {', '.join(map(format_value, outputs))}", nodes, [*inputs], outputs)


class _Incomparable(Exception):
    """An argument that cannot be compared with another one."""


def _below(target: str, path: str) -> str:
    """Return a path relative to a block."""
    return f"self{target[len(path) :]}" if target == path or target.startswith(f"{path}.") else target
