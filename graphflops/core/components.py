"""Components: the few names that people give to the pieces of a model, one for each module path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

ROOT_COMPONENT = "other"
"""what no child of the model owns"""


def components(modules: Mapping[str, str]) -> dict[str, str]:
    """Module path → component, for every path; ``modules`` maps paths to class names.

    A component is a child of the model (``lm_head``). A list of blocks is as many components as it has blocks
    (``layer_0``, ``layer_1``, … if the model has one such list, else by path), and a child that only wraps such a list
    (``transformer``) is opened.

    >>> components({"": "LM", "head": "Linear", "blocks": "ModuleList", "blocks.0": "Block", "blocks.0.mlp": "Linear"})
    {'': 'other', 'head': 'head', 'blocks': 'blocks', 'blocks.0': 'layer_0', 'blocks.0.mlp': 'layer_0'}
    """
    lists = _block_lists(modules)
    wraps = {each for path in lists for each in (path, *_around(path))}
    named: dict[str, str] = {}
    for path in modules:
        parent, _, last = path.rpartition(".")
        if path == "":
            named[path] = ROOT_COMPONENT
        elif parent in lists:
            named[path] = f"layer_{last}" if len(lists) == 1 else path
        elif parent == "" or parent in wraps:
            named[path] = path
        else:
            named[path] = named.get(parent, path)
    return named


def _block_lists(modules: Mapping[str, str]) -> set[str]:
    """The outermost module lists: lists inside of a block are the block's own affair."""
    lists = {path for path, cls in modules.items() if cls == "ModuleList"}
    return {path for path in lists if lists.isdisjoint(_around(path))}


def _around(path: str) -> Iterator[str]:
    """The paths of the modules that a module is in, without the model's own."""
    while path := path.rpartition(".")[0]:
        yield path
