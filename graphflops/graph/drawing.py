"""The graph of Ops in the DOT language of Graphviz, coloured by the shares of their FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphflops.core.units import format_si, percent
from graphflops.graph.op import Op, Region
from graphflops.report.exports.dot import filled, quoted

if TYPE_CHECKING:
    import networkx as nx


def as_dot(graph: nx.DiGraph[str], name: str, modules: Mapping[str, str]) -> str:
    """A graph of ``capture`` as DOT: a node for each Op, with its FLOPs of all phases, and an edge to each reader.

    ``name`` is the model's, and ``modules`` maps paths to class names.
    A block that repeats another one is one node. An Op without a rule, or with a gradient without one, is dashed.
    """
    flops = {node: sum(phases.values()) for node, phases in graph.nodes(data="flops") if phases is not None}
    steps: dict[str, Op | Region] = {
        node: attributes.get("op") or attributes["region"] for node, attributes in graph.nodes(data=True)
    }
    for node, step in steps.items():
        if isinstance(step, Region):
            flops[node] = sum(flops.get(op, 0) for op in step.ops)
    total = sum(flops.values())
    attributes = 'shape=box, style=filled, fontname="sans-serif"'
    lines = [f"digraph {quoted(name)} {{", f"  node [{attributes}];"]
    numbers = {node: number for number, node in enumerate(graph)}
    for node, step in steps.items():
        number = flops.get(node)
        texts = [*_texts(step, modules), *([f"{format_si(number)} ({percent(number, total)})"] if number else [])]
        shape = ", shape=ellipse" if isinstance(step, Op) and step.kind != "call" else ""
        if isinstance(step, Op) and step.kind == "call" and number is None:
            texts.append("unsupported")
            shape = ', style="filled,dashed", color=red'
        label = f"label={quoted(*texts)}, {filled(number, total)}"
        lines.append(f"  n{numbers[node]} [{label}{shape}];")
    for maker, reader, reads in graph.edges(data="reads"):
        specs = dict.fromkeys(str(read.spec) for read in reads)
        lines.append(f"  n{numbers[maker]} -> n{numbers[reader]} [label={quoted(*specs)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _texts(step: Op | Region, modules: Mapping[str, str]) -> list[str]:
    """The lines of a node's label: its name, and its operator and module."""
    if isinstance(step, Region):
        return [step.name, "a block that repeats another one"]
    module = f"{step.module_path} {modules.get(step.module_path, '')}".strip()
    return [step.name, *([step.target, module] if step.kind == "call" else [])]
