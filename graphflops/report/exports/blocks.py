"""The modules of a report as a tree in which equal blocks are one, with the sums that a reader sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from graphflops.core.characters import in_line
from graphflops.core.entries import PHASES, Phase
from graphflops.report.data import ReportData
from graphflops.report.exports.module_tree import ModuleTree, module_tree

MIN_SHARE = 0.001
"""blocks with a smaller share of the FLOPs are summed in one, if there are several in a module"""


@dataclass(frozen=True)
class Block:
    """A module, equal blocks that follow each other, or the work that a module with children does itself."""

    name: str
    flops: tuple[int, ...]
    """by phase, of all equal blocks together"""
    count: int = 1
    parameters: int = 0
    output: str = ""
    children: tuple[Block, ...] = ()
    """they sum to the block"""

    @property
    def total(self) -> int:
        """FLOPs of all phases."""
        return sum(self.flops)

    def of(self, *phases: Phase) -> int:
        """FLOPs of some phases."""
        return sum(self.flops[PHASES.index(phase)] for phase in phases)

    def times(self, count: int) -> Block:
        """Several of the block."""
        if count == 1:
            return self
        return replace(
            self,
            flops=tuple(count * flops for flops in self.flops),
            parameters=count * self.parameters,
            children=tuple(child.times(count) for child in self.children),
        )

    def walk(self, max_depth: int, depth: int = 0) -> Iterator[tuple[int, Block]]:
        """Depth and block, each after the one around it."""
        yield depth, self
        for child in self.children if depth < max_depth else ():
            yield from child.walk(max_depth, depth + 1)


def blocks(report: ReportData) -> Block:
    """The tree of a report's modules, the most expensive first; its root is the model."""
    tree = module_tree(report)
    known: list[Block] = []
    for node in tree.nodes:  # children first
        known.append(_block(tree, node, known))
    root = replace(known[-1], name=in_line(report.model))
    return _without_small_ones(root, root.total)


def _block(tree: ModuleTree, node: dict[str, Any], known: list[Block]) -> Block:
    """The block of a node; its name is the class of the module."""
    children = []
    for first, last, count, index in node["kids"]:
        child = known[index]
        name = first if count == 1 else f"{first}–{last}"
        children.append(replace(child.times(count), name=f"{name} {child.name}".rstrip(), count=count))
    own = [0] * len(PHASES)
    for index, count in node["ops"]:
        for phase, flops in enumerate(tree.ops[index].get("flops", ())):
            own[phase] += count * int(flops)
    if children and any(own):
        children.append(Block("own operators", tuple(own)))
    return Block(
        name=tree.texts[node["cls"]],
        flops=_sum(child.flops for child in children) if children else tuple(own),
        parameters=int(node["params"]) + sum(child.parameters for child in children),
        output=tree.texts[node["out"]],
        children=tuple(children),
    )


def _without_small_ones(block: Block, total: int) -> Block:
    """The block with its children sorted by cost, and those of a small share in one."""
    children = sorted(block.children, key=lambda child: -child.total)
    small = [child for child in children if child.total < MIN_SHARE * total]
    if len(small) > 1:
        name = f"… {sum(child.count for child in small):,} more"
        rest = Block(name, _sum(child.flops for child in small), parameters=sum(child.parameters for child in small))
        children = [*children[: len(children) - len(small)], rest]
    return replace(block, children=tuple(_without_small_ones(child, total) for child in children))


def _sum(flops: Iterator[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*flops, strict=True)))
