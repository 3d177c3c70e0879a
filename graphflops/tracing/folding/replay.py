"""A graph that the user brings, a GraphModule or an ExportedProgram: replayed node by node, its own paths kept."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.messages import try_getattr
from graphflops.tracing.folding.segments import Segment, module_path_of, segments_of

_FRAME = re.compile(r'File "(.+?)", line (\d+)')

At = Callable[[str, str], AbstractContextManager[None]]
Call = Callable[[Callable[[], tuple[Any, ...]], Segment, list[Any]], tuple[Any, ...]]


def as_module(model: Callable[..., Any]) -> Callable[..., Any]:
    """The module of an exported program, and the one inside of a compiled one; everything else as it is."""
    if isinstance(model, torch.export.ExportedProgram):
        program = copy.copy(model)
        program._graph_module = _with_own_graphs(model.graph_module)
        return program.module()
    inner: Callable[..., Any] = try_getattr(model, "_orig_mod", model)
    return inner  # what torch.compile wraps


def _with_own_graphs(module: fx.GraphModule) -> fx.GraphModule:
    """A graph whose inner ones, those of branches and loops, are copies: compiling it compiles these as well."""
    root = nn.Module()
    vars(root).update(vars(module))
    root._modules = {
        name: _with_own_graphs(child) if isinstance(child, fx.GraphModule) else child
        for name, child in module.named_children()
    }
    copied = fx.GraphModule(root, copy.deepcopy(module.graph))
    copied.meta.update(module.meta)
    return copied


def captured_from(module: nn.Module) -> str:
    """Describe how a module becomes a graph."""
    if not isinstance(module, fx.GraphModule):
        return "run on fake tensors"
    classes = (cls for node in module.graph.nodes for _, cls in (node.meta.get("nn_module_stack") or {}).values())
    exported = any(isinstance(cls, str) for cls in classes)  # torch.fx keeps the class itself
    return f"{'an exported program' if exported else 'a GraphModule'}, replayed as it is"


def replayed(
    module: fx.GraphModule,
    copied: Callable[[Any], Any],
    at: At,
    blocks: Collection[str],
    call: Call,
    on_results: Callable[[str, Any], None],
) -> Callable[..., Any]:
    """Return a function that runs a graph's nodes one by one.

    Each node runs inside ``at(module path, source line)``, as the graph has them. Attributes are read of the copies of
    modules, which ``copied`` returns. The nodes that came from one of the ``blocks`` are run by
    ``call(run, segment, inputs)``, which may know their results without running them. ``on_results`` is called with the
    path and the results of each module that the graph remembers, after the nodes of its last call.
    """
    names = inspect.signature(module.forward).parameters
    replay = _Replay(module, at, blocks, call, on_results)
    replay.submodules = {path: copied(module) for path, module in replay.submodules.items()}
    replay.module = copied(module)

    def run(*args: Any, **kwargs: Any) -> Any:
        ordered = [*args, *(kwargs[name] for name in [*names][len(args) :] if name in kwargs)]
        result = module.graph.process_outputs(replay.run(*module.graph.process_inputs(*ordered)))
        on_results("", result)
        return result

    return run


def remembered_modules(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield path and class name of every module that a graph's nodes came from."""
    for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
        for path, cls in (node.meta.get("nn_module_stack") or {}).values():
            yield path, (cls if isinstance(cls, str) else cls.__name__).rpartition(".")[2]


class _Replay(fx.Interpreter):
    """Runs the nodes of a graph, segment by segment."""

    def __init__(
        self,
        module: fx.GraphModule,
        at: At,
        blocks: Collection[str],
        call: Call,
        on_results: Callable[[str, Any], None],
    ) -> None:
        super().__init__(module)
        self.at, self.call, self.on_results = at, call, on_results
        self.nodes = list(module.graph.nodes)
        self.lines = {node: _line(node) for node in self.nodes}
        self.segments = segments_of(module.graph, blocks, self.lines)
        self.results = results_of_modules(self.nodes)

    def run(self, *args: Any) -> Any:  # type: ignore[override]
        self.env: dict[fx.Node, Any] = {}
        self.args_iter = iter(args)
        inside = {node for segment in self.segments.values() for node in segment.nodes}
        for node in self.nodes:
            if node in self.segments:
                segment = self.segments[node]
                inputs = [self.value_of(node) for node in segment.inputs]
                results = self.call(partial(self.results_of, segment), segment, inputs)
                self.env.update(zip(segment.outputs, results, strict=True))
            elif node.op != "get_attr" and node not in inside:
                self.run_and_keep(node)
            if node.op == "output":
                return self.env[node]
        return None

    def results_of(self, segment: Segment) -> tuple[Any, ...]:
        for node in segment.nodes:
            self.run_and_keep(node)
        return tuple(self.env[node] for node in segment.outputs)

    def run_and_keep(self, node: fx.Node) -> None:
        """Run a node, and pass on the results of the modules that end with it."""
        self.env[node] = self.run_node(node)
        for path, results in self.results.get(node, ()):
            self.on_results(path, [self.env[result] for result in results])

    def value_of(self, node: fx.Node) -> Any:
        """Return the value of a node; an attribute of a module is looked up when it is read."""
        if node not in self.env and node.op == "get_attr":
            self.env[node] = super().run_node(node)
        return self.env[node]

    def run_node(self, n: fx.Node) -> Any:
        for node in n.all_input_nodes:
            self.value_of(node)
        with self.at(module_path_of(n), self.lines[n]):
            return super().run_node(n)


def results_of_modules(nodes: Sequence[fx.Node]) -> dict[fx.Node, list[tuple[str, list[fx.Node]]]]:
    """Return the last node of each module's last call → its path, and the nodes in it that others read."""
    calls: dict[str, list[fx.Node]] = {}
    before: set[str] = set()
    for node in nodes:
        if node.op in ("call_function", "call_method", "call_module"):
            paths = {path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path}
            calls |= {path: [] for path in paths - before}
            for path in paths:
                calls[path].append(node)
            before = paths
    ends: dict[fx.Node, list[tuple[str, list[fx.Node]]]] = {}
    for path, call in calls.items():
        inside = {*call}
        results = [node for node in call if any(user not in inside for user in node.users)]
        ends.setdefault(call[-1], []).append((path, results))
    return ends


def _line(node: fx.Node) -> str:
    """Return the user's source line of a node."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    return ":".join(frames[-1]) if frames else ""
