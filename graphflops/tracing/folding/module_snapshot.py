"""Snapshots of modules, taken before a block runs as a template: a template leaves its modules unmodified."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from torch import nn

from graphflops.tracing.copies.object_state import object_dict

Snapshot: TypeAlias = "Sequence[tuple[Any, Any]]"
"""pairs of an object and what it contained"""


def snapshot(modules: Iterable[nn.Module]) -> Snapshot:
    """Return the attributes of modules, and what the dicts, lists and sets among these contain."""
    pairs: list[tuple[Any, Any]] = []
    for module in modules:
        attributes = _contents(module)
        containers = [value for value in attributes.values() if isinstance(value, (dict, list, set))]
        pairs += [(module, attributes), *((container, _contents(container)) for container in containers)]
    return pairs


def is_unmodified(before: Snapshot) -> bool:
    """Whether everything in a snapshot still contains the same objects, containers in the same order."""
    return all(_contains(holder, contents) for holder, contents in before)


def _contents(holder: Any) -> Any:
    """Return a copy of what a container, or the attributes of an object, contain."""
    if isinstance(holder, dict):
        return dict(dict.items(holder))
    if isinstance(holder, list):
        return list(list.__iter__(holder))
    if isinstance(holder, set):
        return set(set.__iter__(holder))
    return object_dict(holder).copy()


def _contains(holder: Any, before: Any) -> bool:
    """Whether an object contains what it contained before."""
    now = _contents(holder)
    if isinstance(holder, set):
        return bool(now == before)
    if isinstance(holder, list):
        return len(now) == len(before) and all(map(operator.is_, now, before))
    has_same_keys = list(now) == list(before) if isinstance(holder, dict) else now.keys() == before.keys()
    return has_same_keys and all(now[key] is value for key, value in before.items())
