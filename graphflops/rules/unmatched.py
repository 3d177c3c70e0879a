"""Rules of the user's that no call of a model matched: a misspelt target would otherwise change nothing, in silence.

A rule that is given by itself is meant for this model, and is named. A file may hold rules for many models: one of
its rules is named if what it is of does not exist, and the file if none of its rules matched. Optimizers are not
calls, and packages announce rules for whatever they have.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from graphflops.rules.book import Layer, RuleBook
from graphflops.rules.rule import Rule
from graphflops.rules.targets import canonical_name, is_pattern, qualified_name, resolve

MOST = 3
"""rules of one file that are named one by one"""


def unmatched(book: RuleBook) -> tuple[str, ...]:
    """One line for each rule, or file of rules, that was not asked about any call, with the target nearest to its own.

    The book knows what it was asked about: it is that of one analysis, and has priced it.
    """
    used = {id(rule) for rule in book.queried.values() if rule is not None}
    names = sorted({canonical_name(target) for target in book.queried})
    lines: list[str] = []
    for layer in book.layers:
        if layer.origin == "shipped" or layer.origin.startswith("package "):
            continue
        rules = {id(rule): rule for rule in layer.rules.values() if not _is_of_optimizers(rule)}
        idle = [rule for key, rule in rules.items() if key not in used]
        lines += _single(idle, names) if layer.origin == "given" else _of_file(layer, list(rules.values()), idle, names)
    return tuple(lines)


def _single(idle: Sequence[Rule], names: Sequence[str]) -> Iterator[str]:
    for rule in idle:
        yield f"no call matched the rule {rule.name} ({rule.source}) of {_targets(rule)}{_nearest(rule, names)}"


def _of_file(layer: Layer, rules: Sequence[Rule], idle: Sequence[Rule], names: Sequence[str]) -> Iterator[str]:
    lost = [rule for rule in idle if not any(map(_exists, rule.targets))]
    for rule in lost[:MOST]:
        yield (
            f"no call matched the rule {rule.name} ({rule.source}), and there is no {_targets(rule)}"
            f"{_nearest(rule, names)}"
        )
    if len(lost) > MOST:
        rest = ", ".join(_targets(rule) for rule in lost[MOST : 2 * MOST]) + (", …" if len(lost) > 2 * MOST else "")
        yield f"nor {len(lost) - MOST} more rules of {layer.origin}: there is no {rest}"
    if rules and len(idle) == len(rules) and not lost:
        rule, many = idle[0], len(rules)
        said = (
            f"the rule {rule.name} of {_targets(rule)}"
            if many == 1
            else f"any of the {many} rules, such as that of {_targets(rule)}"
        )
        yield f"{layer.origin}: no call matched {said}{_nearest(rule, names)}"


def _is_of_optimizers(rule: Rule) -> bool:
    return all(isinstance(target, str) and target.startswith("optimizer.") for target in rule.targets)


def _targets(rule: Rule) -> str:
    return ", ".join(map(_written, rule.targets))


def _written(target: object) -> str:
    return target if isinstance(target, str) else qualified_name(target)


def _nearest(rule: Rule, names: Sequence[str]) -> str:
    """The call of the model whose name is like that of a target, as a whole or in its last part."""
    by_end = {name.rpartition(".")[2]: name for name in names}
    for target in map(_written, rule.targets):
        if near := get_close_matches(target.replace("::", "."), names, n=1, cutoff=0.75):
            return f"; the model has {near[0]}"
        if near := get_close_matches(re.split(r"[.:]+", target)[-1], list(by_end), n=1):
            return f"; the model has {by_end[near[0]]}"
    return ""


def _exists(target: object) -> bool:
    """Whether there is what a target names; of what is installed and not imported nobody asks."""
    if not isinstance(target, str) or is_pattern(target):
        return True
    if not isinstance(resolve(target), str):
        return True
    from graphflops.core.torch_compat import schemas_of

    head, *rest = re.split(r"\.|::", target.removeprefix("torch.ops."))
    if rest and schemas_of(f"{head}::{rest[0]}"):
        return True
    if head in ("torch", "aten", "F", "nn"):
        return False
    return head not in _imported() and _is_installed(head)


def _imported() -> frozenset[str]:
    import sys

    return frozenset(sys.modules)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
