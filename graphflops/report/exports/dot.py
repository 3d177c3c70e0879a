"""A report as a graph of its modules in the DOT language of Graphviz, coloured by their shares."""

from __future__ import annotations

from graphflops.core.characters import in_line
from graphflops.core.units import format_si, percent
from graphflops.report.data import ReportData
from graphflops.report.exports.blocks import Block, blocks

_DARK = (8, 81, 156)
"""colour of a block with all FLOPs, in red, green and blue; that of one with none is white"""
_MAX_DEPTH = 1_000


def as_dot(report: ReportData) -> str:
    """A report as DOT: a node for each module, or for equal blocks, with its FLOPs and its share as its colour.

    A node's ``flops`` is the exact number; those of the nodes below one sum to it.
    """
    root = blocks(report)
    attributes = 'shape=box, style="filled,rounded", fontname="sans-serif"'
    lines = [f"digraph {quoted(report.model)} {{", "  rankdir=LR;", f"  node [{attributes}];"]
    around: list[int] = []
    for number, (depth, block) in enumerate(root.walk(_MAX_DEPTH)):
        lines.append(f"  n{number} [{_attributes(block, root.total)}];")
        del around[depth:]
        if around:
            lines.append(f"  n{around[-1]} -> n{number};")
        around.append(number)
    return "\n".join([*lines, "}"]) + "\n"


def quoted(*lines: str) -> str:
    r"""Lines of text as a string of DOT, in which no character has a meaning.

    >>> print(quoted('a"b'), quoted("\\N", "&lt;"))
    "a\"b" "\\N\n&amp;lt;"
    """
    texts = (in_line(line).replace("\\", "\\\\").replace("&", "&amp;").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(texts) + '"'


def filled(flops: int | None, total: int) -> str:
    """The attributes of a node with some of the FLOPs: its colours, and the exact number, if it has one."""
    share = (flops or 0) / total if total else 0
    color = "#" + "".join(f"{round(255 + (dark - 255) * share):02x}" for dark in _DARK)
    number = "" if flops is None else f', flops="{flops}"'
    return f'fillcolor="{color}", fontcolor={"white" if share > 0.5 else "black"}{number}'


def _attributes(block: Block, total: int) -> str:
    count = f" ×{block.count:,}" if block.count > 1 else ""
    lines = [f"{block.name}{count}", block.output, f"{format_si(block.total)} ({percent(block.total, total)})"]
    return f"label={quoted(*filter(None, lines))}, {filled(block.total, total)}"
