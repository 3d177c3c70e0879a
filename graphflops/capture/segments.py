"""Stretches of a given graph: the nodes, one after the other, that one of its modules came to be.

A flat graph has no modules that are called, but its nodes remember whose they were. So a segment can be run as the call
of a module, and repeat another one that has the same ``code``: the same operations on the same inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphflops.capture.identical_blocks import PLAIN

_COMPARABLE = (*PLAIN, type(...), torch.layout, torch.memory_format)
"""kinds of arguments that are what they are written as"""


@dataclass(frozen=True)
class Segment:
    """What one module came to be: its nodes, those that they read, and those of its own that others read."""

    path: str
    code: str
    nodes: Sequence[fx.Node]
    inputs: Sequence[fx.Node]
    outputs: Sequence[fx.Node]


def module_path_of(node: fx.Node) -> str:
    """The path of the module that a node remembers to have come from."""
    stack = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
    return str(stack[-1][0])


def segments_of(graph: fx.Graph, paths: Collection[str], lines: Mapping[fx.Node, str]) -> dict[fx.Node, Segment]:
    """First node → segment, of each module at one of the paths whose nodes stand together; ``lines`` are the user's.

    What a module holds is read where it is used, so that reading it is nobody's.
    """
    wanted = {*paths}
    runs: list[tuple[str, list[fx.Node]]] = []
    for node in graph.nodes:
        if node.op == "get_attr":
            continue
        path = (
            _block_of(module_path_of(node), wanted)
            if node.op in ("call_function", "call_method", "call_module")
            else ""
        )
        if path and runs and runs[-1][0] == path:
            runs[-1][1].append(node)
        else:
            runs.append((path, [node]))
    times = Counter(path for path, _ in runs)
    found = (_segment(path, nodes, lines) for path, nodes in runs if path and times[path] == 1 and len(nodes) > 1)
    return {each.nodes[0]: each for each in found if each is not None}


def _block_of(path: str, blocks: Collection[str]) -> str:
    """The block that a module is in, or is; empty if in none."""
    while path and path not in blocks:
        path = path.rpartition(".")[0]
    return path


def _segment(path: str, nodes: Sequence[fx.Node], lines: Mapping[fx.Node, str]) -> Segment | None:
    """The segment of some nodes; None if something in them cannot be compared."""
    inside = {node: f"%{number}" for number, node in enumerate(nodes)}
    inputs: dict[fx.Node, str] = {}

    def named(value: Any) -> str:
        if isinstance(value, fx.Node):
            if value.op == "get_attr":
                return _below(str(value.target), path)
            return inside[value] if value in inside else inputs.setdefault(value, f"input {len(inputs)}")
        if isinstance(value, (tuple, list)):
            return f"{type(value).__name__}({', '.join(map(named, value))})"
        if isinstance(value, dict):
            return f"dict({', '.join(f'{key!r}: {named(each)}' for key, each in value.items())})"
        if isinstance(value, slice):
            return f"slice({named(value.start)}, {named(value.stop)}, {named(value.step)})"
        if not isinstance(value, _COMPARABLE):
            raise _Incomparable
        return repr(value)

    def written(node: fx.Node) -> str:
        is_function = node.op == "call_function"  # two of them may be called the same
        target = f"{node.target} {id(node.target)}" if is_function else _below(str(node.target), path)
        operands = f"{named(node.args)}, {named(node.kwargs)}"
        return f"{node.op} {target} {operands} of {_below(module_path_of(node), path)} at {lines[node]}"

    try:
        code = "\n".join(map(written, nodes))
    except _Incomparable:
        return None
    outputs = [node for node in nodes if any(user not in inside for user in node.users)]
    return Segment(path, f"{code}\nreturn {', '.join(map(named, outputs))}", nodes, [*inputs], outputs)


class _Incomparable(Exception):
    """An argument of which nobody can say whether another one is the same."""


def _below(target: str, path: str) -> str:
    """A path as it is seen from a block."""
    return f"self{target[len(path) :]}" if target == path or target.startswith(f"{path}.") else target
