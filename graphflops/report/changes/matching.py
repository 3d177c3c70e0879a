"""Which operator of one report is which of another: by module path and target, then by Weisfeiler–Lehman hashes.

0. Two reports with the same operators in the same order, under other names, are matched in this order.
1. Children of a container that have numbers for names (``ModuleList``, ``Sequential``) are aligned as sequences if
   there are more of them in one report, so that a block that is inserted in front does not change those behind it.
2. Operators with the same module path and target are the same operator.
3. The rest is matched by Weisfeiler–Lehman hashes on the tree of modules and operators, the largest neighbourhood
   first: first those that have equal sizes and costs, which were only renamed, then those of the same kind.
4. Operators that are left over in the same module are matched in their order, those with FLOPs and those without apart.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, TypeAlias

import networkx as nx

from graphflops.core.components import parents
from graphflops.report.changes.operators import Operators

Pair: TypeAlias = tuple[Operators | None, Operators | None]

WL_ITERATIONS = 4
"""the largest neighbourhood that is hashed: operator, module, block, container, model"""
MIN_NEIGHBOURHOOD = 3
"""a smaller neighbourhood says little: then only sizes and costs of which both reports have equally many match"""


def match(left: Sequence[Operators], right: Sequence[Operators]) -> list[Pair]:
    """Pairs of operators; every operator is in exactly one pair, with None beside those without a counterpart."""
    if {*map(_key, left)} != {*map(_key, right)} and [*map(_exact_label, left)] == [*map(_exact_label, right)]:
        return list(zip(left, right, strict=True))
    numbers = renumbered(left, right)
    pairs: list[Pair] = []
    left_rest, right_rest = list(left), list(right)

    def take(left_keys: Iterable[Hashable], right_keys: Iterable[Hashable], *, equally_many: bool = False) -> None:
        """Pair operators with equal keys, in their order."""
        waiting: dict[Hashable, tuple[list[Operators], list[Operators]]] = {}
        for side, (keys, rest) in enumerate(((left_keys, left_rest), (right_keys, right_rest))):
            for key, operators in zip(keys, rest, strict=True):
                waiting.setdefault(key, ([], []))[side].append(operators)
        new_pairs = [
            pair
            for both in waiting.values()
            if len(both[0]) == len(both[1]) or not equally_many
            for pair in zip(*both, strict=False)
        ]
        pairs.extend(new_pairs)
        taken = {id(operators) for pair in new_pairs for operators in pair}
        for rest in (left_rest, right_rest):
            rest[:] = [operators for operators in rest if id(operators) not in taken]

    take(
        map(_key, left),
        ((numbers.get(operators.path, operators.path), operators.target) for operators in right),
    )
    for label in (_exact_label, _kind_label):
        if left_rest and right_rest:
            left_hashes, right_hashes = _hashes(left, label), _hashes(right, label)
            for depth in reversed(range(MIN_NEIGHBOURHOOD if label is _kind_label else 0, WL_ITERATIONS + 1)):
                take(
                    [left_hashes[_key(operators)][depth] for operators in left_rest],
                    [right_hashes[_key(operators)][depth] for operators in right_rest],
                    equally_many=depth < MIN_NEIGHBOURHOOD,
                )
    paths = _matched_paths(pairs)
    take(
        [(operators.path, operators.entries[0].kind, any(operators.flops.values())) for operators in left_rest],
        [
            (
                numbers.get(operators.path, paths.get(operators.path, operators.path)),
                operators.entries[0].kind,
                any(operators.flops.values()),
            )
            for operators in right_rest
        ],
    )
    return [*pairs, *((operators, None) for operators in left_rest), *((None, operators) for operators in right_rest)]


def _key(operators: Operators) -> tuple[str, str]:
    return operators.path, operators.target


def _matched_paths(pairs: Iterable[Pair]) -> dict[str, str]:
    """Module path on the right → that on the left, for modules whose operators were matched."""
    return {right.path: left.path for left, right in pairs if left and right and left.path != right.path}


# -- Weisfeiler–Lehman hashes ------------------------------------------------------------------------------------------


def _exact_label(operators: Operators) -> str:
    """A label that is equal for operators of equal sizes and costs; a module class may have another name."""
    return repr((operators.name if operators.target.startswith("aten.") else "", operators.signature))


def _kind_label(operators: Operators) -> str:
    return operators.target


def _hashes(all_operators: Iterable[Operators], label: Any) -> Mapping[Any, Sequence[str]]:
    """Path and target → hashes of the operator's neighbourhood in the tree of modules, from its label outwards."""
    tree = nx.Graph()
    tree.add_node("", label="")
    for operators in all_operators:
        node = _key(operators)
        tree.add_node(node, label=label(operators))
        tree.add_edge(node, operators.path)
        for inner, outer in zip((operators.path, *parents(operators.path)), parents(operators.path), strict=False):
            tree.add_edge(inner, outer)
    nx.set_node_attributes(tree, {node: "" for node in tree if isinstance(node, str)}, "label")
    hashes = nx.weisfeiler_lehman_subgraph_hashes(tree, node_attr="label", iterations=WL_ITERATIONS)
    return {node: [tree.nodes[node]["label"], *hashes[node][-WL_ITERATIONS:]] for node in tree}


# -- numbered children -------------------------------------------------------------------------------------------------


class _Tree:
    """The modules that have operators, with fingerprints of the calls inside of each, with sizes and without."""

    def __init__(self, all_operators: Iterable[Operators]) -> None:
        self.children: dict[str, list[str]] = {"": []}
        own: dict[str, list[Operators]] = {}
        for operators in all_operators:
            own.setdefault(operators.path, []).append(operators)
            for inner, outer in zip((operators.path, *parents(operators.path)), parents(operators.path), strict=False):
                names = self.children.setdefault(outer, [])
                if inner in self.children:
                    if inner in names:
                        break
                    names.append(inner)
                else:
                    self.children[inner] = []
                    names.append(inner)
        self.exact: dict[str, int] = {}
        self.kind: dict[str, int] = {}
        for path in sorted(self.children, key=lambda path: path.count(".") + bool(path), reverse=True):
            inside = self.children[path]
            names = [child.rpartition(".")[2] for child in inside]
            calls = [operators for operators in own.get(path, []) if operators.entries[0].kind == "call"]
            self.exact[path] = hash(
                (
                    tuple((operators.target, operators.sizes) for operators in calls),
                    tuple(zip(names, map(self.exact.get, inside), strict=True)),
                )
            )
            self.kind[path] = hash(
                (
                    tuple(operators.target for operators in calls),
                    tuple(zip(names, map(self.kind.get, inside), strict=True)),
                )
            )

    def numbered(self, path: str) -> list[str]:
        """The children of a module, in the order of their numbers; empty unless all have numbers for names."""
        children = self.children.get(path, [])
        names = [child.rpartition(".")[2] for child in children]
        if not all(name.isascii() and name.isdigit() for name in names):
            return []
        return [child for _, child in sorted(zip(map(int, names), children, strict=True))]


def renumbered(left: Iterable[Operators], right: Iterable[Operators]) -> dict[str, str]:
    """Module path on the right → path on the left that it corresponds to, where numbered children have moved.

    A child without a counterpart maps to a path that no module has.
    """
    left_tree, right_tree = _Tree(left), _Tree(right)
    moved: dict[str, str] = {}

    def walk(before: str, after: str) -> None:
        if before != after:
            moved[after] = before
        old, new = left_tree.numbered(before), right_tree.numbered(after)
        if old and new and len(old) != len(new):
            matched = dict(_aligned(old, new, left_tree, right_tree))
            for child in new:
                walk(matched.get(child, f"{before}.+{child}"), child)
            return
        for child in right_tree.children[after]:
            name = child.rpartition(".")[2]
            walk(f"{before}.{name}" if before else name, child)

    walk("", "")
    return moved


def _aligned(old: list[str], new: list[str], left: _Tree, right: _Tree) -> Iterator[tuple[str, str]]:
    """Pairs of a new and an old child: equal ones first, then, between these, those of the same structure."""
    for old_part, new_part in _gaps(old, new, left.exact, right.exact):
        if isinstance(old_part, str):
            yield str(new_part), old_part
            continue
        for inner_old, inner_new in _gaps(list(old_part), list(new_part), left.kind, right.kind):
            if isinstance(inner_old, str):
                yield str(inner_new), inner_old


def _gaps(
    old: Sequence[str], new: Sequence[str], left: Mapping[str, int], right: Mapping[str, int]
) -> Iterator[tuple[str | Sequence[str], str | Sequence[str]]]:
    """Children with equal fingerprints, as pairs of paths, and the sequences between them, as pairs of lists."""
    start = 0
    while start < min(len(old), len(new)) and left[old[start]] == right[new[start]]:
        yield old[start], new[start]
        start += 1
    old, new = old[start:], new[start:]
    matcher = SequenceMatcher(None, [left[path] for path in old], [right[path] for path in new], autojunk=False)
    for operation, i, i_end, j, j_end in matcher.get_opcodes():
        if operation == "equal":
            yield from zip(old[i:i_end], new[j:j_end], strict=True)
        else:
            yield old[i:i_end], new[j:j_end]
