"""Rules of the user that matched no call of a model, such as one with a misspelt target.

A rule given in Python is reported if it matched no call. A file may have rules for many models: one of its rules is
reported if its target does not exist, and the file if none of its rules matched. Rules of optimizers and of installed
packages are not reported.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from graphflops.rules.book import Layer, RuleBook
from graphflops.rules.rule import Rule
from graphflops.rules.targets import canonical_name, is_pattern, qualified_name, resolve

MAX_LISTED = 3
"""rules of one file that are named one by one"""


def unmatched(book: RuleBook) -> tuple[str, ...]:
    """A line for each rule, or file of rules, that matched no call, with the most similar target in the model.

    The book is that of one analysis: the calls of the model are those that were looked up in it.
    """
    used = {id(rule) for rule in book.queried.values() if rule is not None}
    names = sorted({canonical_name(target) for target in book.queried})
    lines: list[str] = []
    for layer in book.layers:
        if layer.origin == "shipped" or layer.origin.startswith("package "):
            continue
        rules = {id(rule): rule for rule in layer.rules.values() if not _is_of_optimizers(rule)}
        unused = [rule for key, rule in rules.items() if key not in used]
        lines += (
            _single(unused, names) if layer.origin == "given" else _of_file(layer, list(rules.values()), unused, names)
        )
    return tuple(lines)


def _single(unused: Sequence[Rule], names: Sequence[str]) -> Iterator[str]:
    for rule in unused:
        yield f"no call matched the rule {rule.name} ({rule.source}) of {_targets(rule)}{_nearest(rule, names)}"


def _of_file(layer: Layer, rules: Sequence[Rule], unused: Sequence[Rule], names: Sequence[str]) -> Iterator[str]:
    missing = [rule for rule in unused if not any(map(_exists, rule.targets))]
    for rule in missing[:MAX_LISTED]:
        yield (
            f"no call matched the rule {rule.name} ({rule.source}), and there is no {_targets(rule)}"
            f"{_nearest(rule, names)}"
        )
    if len(missing) > MAX_LISTED:
        remainder = ", ".join(_targets(rule) for rule in missing[MAX_LISTED : 2 * MAX_LISTED]) + (
            ", …" if len(missing) > 2 * MAX_LISTED else ""
        )
        yield f"nor {len(missing) - MAX_LISTED} more rules of {layer.origin}: there is no {remainder}"
    if rules and len(unused) == len(rules) and not missing:
        rule, many = unused[0], len(rules)
        rules_text = (
            f"the rule {rule.name} of {_targets(rule)}"
            if many == 1
            else f"any of the {many} rules, such as that of {_targets(rule)}"
        )
        yield f"{layer.origin}: no call matched {rules_text}{_nearest(rule, names)}"


def _is_of_optimizers(rule: Rule) -> bool:
    return all(isinstance(target, str) and target.startswith("optimizer.") for target in rule.targets)


def _targets(rule: Rule) -> str:
    return ", ".join(map(_target_name, rule.targets))


def _target_name(target: object) -> str:
    return target if isinstance(target, str) else qualified_name(target)


def _nearest(rule: Rule, names: Sequence[str]) -> str:
    """The call of the model whose name is most similar to that of a target, by the full name or its last part."""
    by_last_part = {name.rpartition(".")[2]: name for name in names}
    for target in map(_target_name, rule.targets):
        if near := get_close_matches(target.replace("::", "."), names, n=1, cutoff=0.75):
            return f"; the model has {near[0]}"
        if near := get_close_matches(re.split(r"[.:]+", target)[-1], list(by_last_part), n=1):
            return f"; the model has {by_last_part[near[0]]}"
    return ""


def _exists(target: object) -> bool:
    """Whether a target exists, or may exist in a package that is installed and not imported."""
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
