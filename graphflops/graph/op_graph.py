"""OpGraph: a networkx.DiGraph with Ops, and repeats of blocks, as nodes, and tensors on its edges."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import networkx as nx
from torch import fx

from graphflops.core.errors import UsageError
from graphflops.core.renaming import Renaming
from graphflops.graph.op import Op, Operand, Read, Region, RegionKind, Source, Span, StorageGroup
from graphflops.report.files import write_atomic
from graphflops.tracing.trace import Trace

if TYPE_CHECKING:
    DiGraph: TypeAlias = nx.DiGraph[str]
else:
    DiGraph = nx.DiGraph


class OpGraph(DiGraph):  # type: ignore[misc]
    """The graph of a captured model; nodes are in the order in which their calls ran.

    A node has the name of its Op, and the Op as its attribute ``op``. A node that is a repeat of a block has a Region
    as its attribute ``region`` instead; the Ops of the repeat are not nodes.

    An edge goes from the maker of tensors to their reader. Its attribute ``reads`` is a tuple of ``Read``: the reader's
    operand, the index of the maker's result, and the Spec.
    """

    def add_op(self, op: Op) -> None:
        """Add an Op, and edges from the makers of the tensors that it reads."""
        self.add_node(op.name, op=op)
        edges: dict[str, tuple[Read, ...]] = {}
        for operand in op.operands:
            maker = self._makers.get(operand.source, operand.source)
            edges[maker] = (*edges.get(maker, ()), Read(operand.name, operand.index, operand.spec))
        self.add_edges_from((maker, op.name, {"reads": reads}) for maker, reads in edges.items())

    def add_repeat(self, region: Region) -> None:
        """Add a block that repeats another one, and edges from the makers of the tensors that it reads."""
        self.add_node(region.name, region=region)
        edges: dict[str, tuple[Read, ...]] = {}
        for source, read in self._reads_of_block(region.ops):
            name, index = region.sources.get(source, source)
            maker = self._makers.get(name, name)
            edges[maker] = (*edges.get(maker, ()), read._replace(result=index))
        self.add_edges_from((maker, region.name, {"reads": reads}) for maker, reads in edges.items())
        self._makers.update(dict.fromkeys(region.results.values(), region.name))

    def _reads_of_block(self, names: tuple[str, ...]) -> list[tuple[Source, Read]]:
        """The tensors that some Ops read from outside of them; found once for a block that is repeated."""
        known: dict[tuple[str, ...], list[tuple[Source, Read]]] = self.graph.setdefault("reads of blocks", {})
        if names not in known:
            inside = {*names}
            known[names] = [
                ((operand.source, operand.index), Read(operand.name, operand.index, operand.spec))
                for op in map(self.op, names)
                for operand in op.operands
                if operand.source not in inside
            ]
        return known[names]

    @property
    def graph_module(self) -> fx.GraphModule:
        """The forward calls as a module that takes the input tensors in order; it shares the model's parameters.

        Raises:
            UsageError: the calls cannot be run, for the reason in the message, or the graph is not from ``capture``.
        """
        module = self.graph.get("graph_module", "an analysis keeps no tensors: use graphflops.capture")
        if isinstance(module, str):
            raise UsageError(f"the graph cannot be run: {module}")
        return module  # type: ignore[no-any-return]

    @property
    def storages(self) -> tuple[StorageGroup, ...]:
        """The tensors that share storage: views, and results of in-place calls. See ``mark_storages``."""
        return self._annotation("storages")  # type: ignore[no-any-return]

    @property
    def cut_points(self) -> tuple[Source, ...]:
        """The single tensors where a checkpoint can cut the model into stages. See ``mark_cut_points``."""
        return self._annotation("cut_points")  # type: ignore[no-any-return]

    @property
    def span(self) -> Span:
        """Bounds of the longest chain of dependent operations of the forward pass. See ``span_of``."""
        return self._annotation("span")  # type: ignore[no-any-return]

    @property
    def critical_path(self) -> tuple[str, ...]:
        """The names of the Ops in the chain of dependent calls that has the most forward FLOPs."""
        return self._annotation("critical_path")  # type: ignore[no-any-return]

    def _annotation(self, name: str) -> Any:
        if name not in self.graph:
            raise UsageError(f"the graph has no {name}: graphflops.capture sets it")
        return self.graph[name]

    @property
    def trace(self) -> Trace:
        """The facts of the model: its modules, inputs and parameters, and the assumptions of the capture."""
        trace: Trace = self.graph["trace"]
        return trace

    @property
    def _makers(self) -> dict[str, str]:
        """Name of a result of a repeat → name of the repeat's node."""
        makers: dict[str, str] = self.graph.setdefault("makers", {})
        return makers

    def inside(self, name: str) -> OpGraph:
        """Return the ATen operators that a composite call runs: its operands are inputs, and its results the output.

        Raises:
            UsageError: nothing was recorded inside.
        """
        op = self.op(name)
        if not op.inside:
            raise UsageError(
                f"{name} ({op.target}) has no operators inside: composite calls have, in a graph of capture"
            )
        inside = OpGraph(trace=self.trace)
        for inner in _inside(op):
            inside.add_op(inner)
        frozen: OpGraph = nx.freeze(inside)
        return frozen

    def flattened(self) -> OpGraph:
        """Return the level below, after the same passes: each composite call is replaced by the operators that it runs.

        Calls that a step makes in its backward pass stay as they are.
        """
        graph_module = self.graph.get("graph_module")
        flat = OpGraph(trace=self.trace, composites=tuple(self._composites()), graph_module=graph_module)
        sources: dict[Source, Source] = {}
        below: Callable[[Source], Source] = lambda source: sources.get(source, source)  # noqa: E731
        for op in self.every_op():
            if not _opens(op):
                flat.add_op(_with_sources(op, below))
                continue
            reads = {f"{op.name}/{operand.name}": (operand.source, operand.index) for operand in op.operands}
            for inner in _inside(op):
                if inner.kind == "input":
                    sources[inner.name, None] = below(reads[inner.name])
                elif inner.kind == "output":
                    for operand in inner.operands:
                        _, _, index = operand.name.partition(".")
                        result = op.name, int(index) if index else None
                        sources[result] = below((operand.source, operand.index))
                elif inner.kind in ("call", "idle") or inner.name not in flat:
                    flat.add_op(_with_sources(inner, below))
        return self.graph["run_passes"](flat)  # type: ignore[no-any-return]

    @overload
    def to_dot(self, path: None = None) -> str: ...
    @overload
    def to_dot(self, path: str | Path) -> Path: ...
    def to_dot(self, path: str | Path | None = None) -> str | Path:
        """Return the graph in the DOT language of Graphviz, coloured by shares of the FLOPs, or write it to a file.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.graph.drawing import as_dot

        text = as_dot(self, self.trace.name, self.trace.modules)
        return text if path is None else write_atomic(path, text)

    def op(self, name: str) -> Op:
        """Return the Op of a node."""
        op: Op = self.nodes[name]["op"]
        return op

    def steps(self) -> Iterator[Op | Region]:
        """Yield the Op or the repeat of each node, in the order of the calls."""
        return (attributes.get("op") or attributes["region"] for _, attributes in self.nodes(data=True))

    def ops(self) -> Iterator[Op]:
        """Yield the Ops that are nodes, in the order of the calls: those of repeats are not among them."""
        return (attributes["op"] for _, attributes in self.nodes(data=True) if "op" in attributes)

    def calls(self) -> Iterator[Op]:
        """Yield the Ops of kind call."""
        return (op for op in self.ops() if op.kind == "call")

    def every_op(self) -> Iterator[Op]:
        """Yield all Ops in the order of the calls, those of repeats included."""
        for step in self.steps():
            if isinstance(step, Region):
                yield from self.ops_of(step)
            else:
                yield step

    def repeats(self) -> list[Region]:
        """Return the blocks that repeat another one."""
        return [step for step in self.steps() if isinstance(step, Region)]

    def ops_of(self, repeat: Region) -> Iterator[Op]:
        """Yield the Ops of a repeat, under their own names."""
        renaming, names = repeat.renaming, {*repeat.ops}
        assert renaming is not None

        def renamed(source: Source) -> Source:
            if source[0] in names:
                return renaming.op(source[0]), source[1]
            return repeat.sources.get(source, source)

        for op in map(self.op, repeat.ops):
            yield replace(
                _with_sources(op, renamed),
                name=renaming.op(op.name),
                call=renaming.path(op.call) if op.kind == "parameter" else op.call,
                module_path=renaming.path(op.module_path),
                recomputes=tuple((repeat.name, region) for region in op.recomputes),
                recomputed_in={(repeat.name, region): calls for region, calls in op.recomputed_in.items()},
                inside=tuple(_renamed(inner, repeat) for inner in op.inside),
            )

    def placements(self) -> Iterator[tuple[Renaming | None, tuple[str, ...]]]:
        """Yield groups of names of Ops in the order of the calls, each with the renaming of the names in a repeat.

        A repeat yields the names of the block that it repeats. So a stage computes something once for each Op, and
        uses it for each of its repeats.
        """
        blocks = {name: repeat.ops for repeat in self.repeats() for name in repeat.ops}
        for step in self.steps():
            if isinstance(step, Region):
                yield step.renaming, step.ops
            elif step.name not in blocks:
                yield None, (step.name,)
            elif step.name == blocks[step.name][0]:
                yield None, blocks[step.name]

    def regions(self, kind: RegionKind | None = None) -> Iterator[Region]:
        """Yield the regions of one kind, or of all kinds.

        The Ops of a module are those of its calls, those of its submodules included. Those of a composite call are on
        the level below, which ``flattened`` returns.
        """
        if kind in (None, "module"):
            yield from self._modules()
        if kind in (None, "composite"):
            yield from self._composites()
        if kind in (None, "checkpoint"):
            yield from self._checkpoints()
        if kind in (None, "repeat"):
            yield from self.repeats()

    def _modules(self) -> Iterator[Region]:
        names: dict[str, list[str]] = {}
        for op in self.every_op():
            if op.kind in ("call", "parameter"):
                for path in ("", *accumulate(filter(None, op.module_path.split(".")), "{}.{}".format)):
                    names.setdefault(path, []).append(op.name)
        classes = self.trace.modules
        for path, ops in names.items():
            yield Region("module", path, path, classes.get(path, ""), tuple(ops))

    def _composites(self) -> Iterator[Region]:
        yield from self.graph.get("composites", ())
        for op in self.every_op():
            if _opens(op):
                names = tuple(inner.name for inner in _inside(op) if inner.kind in ("call", "idle"))
                yield Region("composite", op.name, op.module_path, op.target, names)

    def _checkpoints(self) -> Iterator[Region]:
        checkpoints: dict[Hashable, list[Op]] = {}
        for op in self.every_op():
            for region in op.recomputed_in:
                checkpoints.setdefault(region, []).append(op)
        for number, ops in enumerate(checkpoints.values()):
            yield Region("checkpoint", f"checkpoint_{number}", ops[0].module_path, "", tuple(op.name for op in ops))


def _opens(op: Op) -> bool:
    """Return whether an Op is replaced by those inside of it on the level below."""
    return bool(op.inside) and op.phase in ("", "recompute", "optimizer")


def _inside(op: Op) -> Iterator[Op]:
    """Yield the Ops inside of a composite call, under their own names, and in its place."""

    def named(name: str) -> str:
        return f"{op.name}{name}" if name.startswith("/") else name

    for inner in op.inside:
        yield replace(
            _with_sources(inner, lambda source: (named(source[0]), source[1])),
            name=named(inner.name),
            kind="idle" if op.kind == "idle" and inner.kind == "call" else inner.kind,
            hook=op.hook,
            phase=op.phase,
        )


def _renamed(inner: Op, repeat: Region) -> Op:
    """Return an Op inside of a composite call as it is in a repeat of the call."""
    assert repeat.renaming is not None
    path = repeat.renaming.path
    return replace(
        _with_sources(inner, lambda source: (path(source[0]), source[1])),
        name=path(inner.name),
        call=path(inner.call) if inner.kind == "parameter" else inner.call,
        module_path=path(inner.module_path),
        recomputes=tuple((repeat.name, region) for region in inner.recomputes),
        recomputed_in={(repeat.name, region): calls for region, calls in inner.recomputed_in.items()},
    )


def _with_sources(op: Op, renamed: Callable[[Source], Source]) -> Op:
    """Return an Op with other names for the tensors that it refers to."""

    def renamed_operand(operand: Operand) -> Operand:
        source, index = renamed((operand.source, operand.index))
        return replace(operand, source=source, index=index)

    return replace(
        op,
        operands=tuple(map(renamed_operand, op.operands)),
        storages=tuple(
            storage and storage._replace(shared_with=storage.shared_with and renamed(storage.shared_with))
            for storage in op.storages
        ),
        hook=op.hook and replace(op.hook, triggers=tuple(map(renamed, op.hook.triggers))),
        gradients_of={index: tuple(map(renamed, tensors)) for index, tensors in op.gradients_of.items()},
    )
