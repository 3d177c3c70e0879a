"""A graph that Dynamo captured as a module with parameters: Dynamo passes them as inputs, under names of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from torch import fx, nn

from graphflops.core.messages import first_of

_ATTRIBUTE = re.compile(r"[LG]_(?P<root>.+?)_(?:modules_(?P<modules>.+)_)?(?:parameters|buffers)_(?P<name>\w+)_")
"""an input that is a parameter or a buffer: L_self_modules_head_modules_0_parameters_weight_"""
_ROOT = re.compile(r"[LG]\['(\w+)'\]")
_MEMBER = re.compile(r"\._modules\['([^']+)'\]|\[['\"]?([\w.]+)['\"]?\]")
_FRAME = re.compile(r'File "(.+?)", line (\d+), in (.+)')

_RESUMED = re.compile(r"torch_dynamo_resume_in_(.+)_at_[0-9]+")


def with_parameters(module: fx.GraphModule, args: Sequence[Any], name: str) -> tuple[fx.GraphModule, list[Any]]:
    """A copy of a captured graph that holds its parameters and buffers, and the inputs that are left, in order.

    Tensors and submodules are shared. Paths of modules are those below the one whose forward was captured.
    """
    graph, members, inputs = fx.Graph(), _members(module), []
    copies: dict[fx.Node, fx.Node] = {}
    values = iter(args)
    root = _common_root(module.graph)
    for node in module.graph.nodes:
        if node.op != "placeholder":
            copied = graph.node_copy(node, copies.__getitem__)
        elif path := _path_of(node, value := next(values)):
            path = path if path not in members else node.name
            members[path] = value
            copied = graph.get_attr(path)
        else:
            inputs.append(value)
            copied = graph.placeholder(_input_name(node))
        copied.meta = {"nn_module_stack": dict(_module_stack(node, root))}
        if "stack_trace" in node.meta:
            copied.meta["stack_trace"] = node.meta["stack_trace"]
        copies[node] = copied
    return fx.GraphModule(members, graph, name), inputs


def name_of(module: fx.GraphModule) -> str:
    """The function whose calls a graph has, and the graph's first line: ``forward, net.py:12``.

    Without a line, as of PyTorch's own modules, their classes: ``Linear, ReLU``.
    """
    for node in module.graph.nodes:
        if frame := _FRAME.search(node.meta.get("stack_trace") or ""):
            file, line, function = frame.groups()
            resumed = _RESUMED.fullmatch(function)
            return f"{resumed[1] if resumed else function}, {shown_path(file)}:{line}"
    stacks = (list(node.meta.get("nn_module_stack", {}).values()) for node in module.graph.nodes)
    classes = dict.fromkeys(getattr(stack[-1][1], "__name__", "") for stack in stacks if stack)
    return first_of([*classes]) or "a graph"


def shown_path(file: str) -> str:
    """A path below the current folder relative to it; one of an installed package without its folder."""
    relative = os.path.relpath(file)
    return file.rsplit(f"site-packages{os.sep}", 1)[-1] if relative.startswith("..") or ".venv" in file else relative


def _members(module: fx.GraphModule) -> dict[str, Any]:
    """The attributes and submodules that a graph names."""
    targets = [str(node.target) for node in module.graph.nodes if node.op in ("get_attr", "call_module")]
    return {target: attrgetter(target)(module) for target in targets}


def _path_of(node: fx.Node, value: Any) -> str:
    """The path of a parameter or buffer that is an input; empty for others."""
    if match := _ATTRIBUTE.fullmatch(str(node.target)):
        modules = (match["modules"] or "").split("_modules_")
        return ".".join(filter(None, [*modules, match["name"]]))
    return str(node.target).strip("_") if isinstance(value, nn.Parameter) else ""


def _input_name(node: fx.Node) -> str:
    """The name of an input in the program: ``x`` for ``L_x_``."""
    match = re.fullmatch(r"[LG]_(\w+?)_+", str(node.target))
    return match[1] if match else str(node.target)


def _common_root(graph: fx.Graph) -> str:
    """The module that all paths begin with; empty if there are several."""
    roots = {match[0] for node in graph.nodes for path in _paths(node) if (match := _ROOT.match(path))}
    return roots.pop() if len(roots) == 1 else ""


def _paths(node: fx.Node) -> Iterator[str]:
    yield from (str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values())


def _module_stack(node: fx.Node, root: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """The modules that a node came from, by paths as a model has them."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    for key, (path, cls) in stack.items():
        path = path.removeprefix(root) if root else _ROOT.sub(r"\1", path, count=1)
        path = _MEMBER.sub(lambda match: f".{match[1] or match[2]}", path.partition("@")[0])
        yield key, (path.strip("."), cls)
