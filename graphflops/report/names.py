"""The cost entries of a module, component, op or operator, by its name or a pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from graphflops.core.components import components, match_modules, nearest, parents
from graphflops.core.entries import Entry
from graphflops.core.errors import UsageError
from graphflops.core.messages import did_you_mean, format_value


def entries_of(name: str, entries: Sequence[Entry], modules: Mapping[str, str]) -> tuple[Entry, ...]:
    """The cost entries of a module with its children, of a component, of an op, or of all ops of an operator.

    The name may be a pattern, as of rates: ``blocks.3.*`` is the module ``blocks.3`` with everything in it. A pattern
    is matched against module paths, then components, then ops and operators.

    Raises:
        UsageError: there is nothing of this name, or nothing that the pattern matches.
    """
    if not isinstance(name, str):
        raise UsageError(f"a module path, component or op is given by its name, not as {format_value(name)}")
    component = components(modules)
    if name in modules:
        named = _inside([name], entries)
    else:
        named = tuple(
            entry
            for entry in entries
            if name in (entry.op, entry.path, entry.part, entry.operator, component[nearest(entry.path, component)])
        )
    if named or name in modules:
        return named
    if matched := match_modules(name, modules):
        return _inside(matched, entries)
    named = tuple(
        entry
        for entry in entries
        if any(fnmatchcase(text, name) for text in (entry.op, entry.operator, entry.target, entry.part) if text)
    )
    if not named:
        names = [*filter(None, modules), *component.values(), *(entry.operator for entry in entries)]
        hint = did_you_mean(name, names) or 'give a path as in by_module(), "" for all'
        raise UsageError(f"no module, component or op {format_value(name)}; {hint}")
    return named


def _inside(paths: Sequence[str], entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries of modules with their children."""
    outer = set(paths)
    return tuple(entry for entry in entries if entry.path in outer or not outer.isdisjoint(parents(entry.path)))
