"""Components: the top-level parts of a model, one for each module path."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from fnmatch import fnmatchcase

ROOT_COMPONENT = "other"
"""the component of work outside of the model's children"""


def components(modules: Mapping[str, str]) -> dict[str, str]:
    """Module path → component, for every path; ``modules`` maps paths to class names.

    A component is a child of the model (``lm_head``). Each block of a ``ModuleList`` is a component (``layer_0``,
    ``layer_1``, … if the model has one such list, else its path), and so is each other child of a module that contains
    such a list (``transformer``).

    >>> components({"": "LM", "head": "Linear", "blocks": "ModuleList", "blocks.0": "Block", "blocks.0.mlp": "Linear"})
    {'': 'other', 'head': 'head', 'blocks': 'blocks', 'blocks.0': 'layer_0', 'blocks.0.mlp': 'layer_0'}
    """
    lists = _block_lists(modules)
    containers = {container for path in lists for container in (path, *parents(path))}
    named: dict[str, str] = {}
    for path in modules:
        parent, _, last = path.rpartition(".")
        if path == "":
            named[path] = ROOT_COMPONENT
        elif parent in lists:
            named[path] = f"layer_{last}" if len(lists) == 1 else path
        elif parent == "" or parent in containers:
            named[path] = path
        else:
            named[path] = named.get(parent, path)
    return named


def _block_lists(modules: Mapping[str, str]) -> set[str]:
    """Paths of the outermost module lists; a list inside of a block belongs to the block."""
    lists = {path for path, cls in modules.items() if cls == "ModuleList"}
    return {path for path in lists if lists.isdisjoint(filter(None, parents(path)))}


def match_modules(pattern: str, modules: Mapping[str, str]) -> list[str]:
    """Paths of the outermost modules that a pattern matches by path, or else by component; ``*.`` may match nothing.

    ``blocks.3.*`` matches the module ``blocks.3``, with everything in it.
    """
    name = pattern.removesuffix(".*") or pattern
    matched = {path for path in modules if fnmatchcase(path, name) or (path and fnmatchcase(f".{path}", name))}
    if not matched:
        component = components(modules)
        matched = {path for path in modules if path and fnmatchcase(component[path], name)}
    return [path for path in modules if path in matched and not any(parent in matched for parent in parents(path))]


def parents(path: str) -> Iterator[str]:
    """Paths of the modules around a module, the nearest first, and the model's own last."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def nearest(path: str, known: Container[str]) -> str:
    """The nearest of a module and those around it that is among the known ones; the model is."""
    while path not in known:
        path = path.rpartition(".")[0]
    return path
