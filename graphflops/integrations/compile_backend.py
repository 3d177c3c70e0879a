"""A backend of torch.compile: a report of each graph that Dynamo captures, and where it breaks them; the model runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphflops.analysis.pipeline import analyze
from graphflops.core.messages import format_error, one_line
from graphflops.core.torch_compat import graph_break_reasons
from graphflops.core.units import format_scaled, si_exponent, si_unit
from graphflops.integrations.dynamo_graphs import name_of, shown_path, with_parameters
from graphflops.report.data import Query
from graphflops.report.grid import Column, print_grid, print_line
from graphflops.report.report import Report
from graphflops.report.terminal import Terminal, text_of, wrapped

MAX_REASON = 400
"""characters of a graph break's reason"""


@dataclass(frozen=True)
class GraphBreak:
    """A line at which Dynamo ended a graph and left the code to Python."""

    reason: str
    """PyTorch's reason, in one line"""
    location: str
    """file and line of the user's code"""
    source: str
    """the text of the line"""
    explanation: str = ""
    """PyTorch's explanation, with its hints"""

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}\n    {self.source}"


@dataclass(eq=False)
class CompiledGraph:
    """A graph that Dynamo captured, with inputs of some sizes."""

    name: str
    """the function, and the first line of the graph: ``forward, net.py:12``"""
    report: Report | None = None
    """forward, and the backward of it if gradients were enabled; None if the analysis failed"""
    error: str = ""
    """the error of the analysis"""
    ends_at: GraphBreak | None = None
    """the graph break that ends it; None if its function ends"""
    calls: int = 0
    """how many times it was called"""


class CompileBackend:
    """A backend that counts what it runs: ``torch.compile(model, backend=CompileBackend())``.

    Each graph that Dynamo captures is analyzed when it is first called, and again when the sizes of its inputs change;
    PyTorch runs it as it is. If an analysis fails, its error is stored and the model still runs.

    A graph has no optimizer. Backward is counted if gradients are enabled when the graph is called.

    Args:
        options: arguments of ``analyze``, such as ``convention=`` and ``rules=``.
    """

    def __init__(self, **options: Any) -> None:
        self.__name__ = "graphflops"  # PyTorch would print the backend instead
        self._options = {"optimizer": None, **options}
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all graphs, calls and breaks; a compiled graph that is called later is there again."""
        with self._lock:
            self._graphs: dict[CompiledGraph, None] = {}
            self._earlier = graph_break_reasons()
            self._reasons: list[Any] = []

    def __call__(self, module: fx.GraphModule, example_inputs: Sequence[Any], **given: Any) -> Callable[..., Any]:
        """Return a function that runs a captured graph, and analyzes it for new sizes. PyTorch calls this."""
        options = {**self._options, **(given.get("options") or {})}
        analyzed: dict[Any, CompiledGraph] = {}

        def forward(*args: Any) -> Any:
            sizes = tuple(getattr(value, "shape", value) for value in args)
            graph = analyzed.get(sizes) or analyzed.setdefault(sizes, _analyzed(module, args, options))
            with self._lock:
                if graph not in self._graphs:
                    self._graphs[graph], graph.calls = None, 0
                graph.calls += 1
            return module.forward(*args)

        self._note_breaks()
        return forward

    @property
    def graphs(self) -> tuple[CompiledGraph, ...]:
        """The graphs in the order of their first calls, one for each set of input sizes."""
        with self._lock:
            return tuple(self._graphs)

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports of the graphs."""
        return tuple(graph.report for graph in self.graphs if graph.report is not None)

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors of analyses that failed: the totals lack these graphs."""
        return tuple(f"{graph.name}: {graph.error}" for graph in self.graphs if graph.error)

    @property
    def graph_breaks(self) -> tuple[GraphBreak, ...]:
        """The lines at which Dynamo ended a graph, or had none yet, and the reason of each.

        PyTorch keeps one list for a process: with several backends at a time it has the breaks of all.
        """
        return tuple(dict.fromkeys(map(_graph_break, self._note_breaks())))

    def flops(self, phase: Query = "total") -> int:
        """FLOPs of a phase in all calls since the backend was made or cleared: a lower bound if there are ``errors``.

        Raises:
            UsageError: there is no such phase.
        """
        return sum(graph.calls * graph.report.flops(phase) for graph in self.graphs if graph.report is not None)

    @property
    def total(self) -> int:
        """FLOPs of all calls since the backend was made or cleared."""
        return self.flops()

    def __str__(self) -> str:
        return text_of(self._print)

    def _note_breaks(self) -> list[Any]:
        """PyTorch's records of breaks since this was made or cleared; ``torch.compiler.reset`` empties its list."""
        known = {id(reason) for reason in (*self._earlier, *self._reasons)}
        self._reasons += [reason for reason in graph_break_reasons() if id(reason) not in known]
        return self._reasons

    def _print(self, console: Terminal) -> None:
        graphs, breaks = self.graphs, self.graph_breaks
        print_line(f"{_number(len(graphs), 'graph')} of torch.compile, {_number(len(breaks), 'graph break')}", console)
        if self.reports:
            console.print()
            self._print_table(graphs, console)
        notes = [*map(str, breaks)]
        notes += [f"graph {number}: {graph.error}" for number, graph in enumerate(graphs) if graph.error]
        if self.errors or any(report.unknown for report in self.reports):
            notes.append("Totals are lower bounds: see the errors, and the unsupported ops in the reports.")
        if notes:
            console.print()
        for text in "\n".join(notes).splitlines():
            for line in [text] if text.startswith(" ") else wrapped(text, console):
                print_line(line, console)

    def _print_table(self, graphs: Sequence[CompiledGraph], console: Terminal) -> None:
        exponent = si_exponent(self.total)
        names = [f"{number} {graph.name}" for number, graph in enumerate(graphs)]
        columns = [Column("graph", [*names, "all calls"], is_left=True)]
        phases = [phase for phase in PHASES if phase == "forward" or self.flops(phase)]
        for phase in phases if len(phases) > 2 else phases[:1]:
            numbers = [graph.report.flops(phase) if graph.report else None for graph in graphs]
            cells = ["error" if number is None else format_scaled(number, exponent) for number in numbers]
            columns.append(Column(phase, [*cells, format_scaled(self.flops(phase), exponent)]))
        columns.append(Column("calls", [*(f"×{graph.calls}" for graph in graphs), ""]))
        if any(graph.ends_at for graph in graphs):
            places = [graph.ends_at.location if graph.ends_at else "" for graph in graphs]
            columns.append(Column("breaks at", [*places, ""], is_left=True))
        print_line(f"{si_unit(exponent, f'{self.reports[0].convention.unit}s')} of a call", console)
        print_grid(columns, console, console.line_width)


PHASES: tuple[Query, ...] = ("forward", "backward", "recompute", "optimizer", "total")
"""columns of the table"""


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _analyzed(module: fx.GraphModule, args: Sequence[Any], options: dict[str, Any]) -> CompiledGraph:
    """The graph with its report, or with the error of its analysis."""
    graph = CompiledGraph("a graph")
    try:
        reason = getattr(module, "compile_subgraph_reason", None)
        graph.name = name_of(module)
        graph.ends_at = _graph_break(reason) if getattr(reason, "graph_break", False) else None
        copied, inputs = with_parameters(module, args, graph.name)
        graph.report = analyze(copied, tuple(inputs), **{"training": torch.is_grad_enabled(), **options})
    except Exception as error:  # whatever it is, the model runs
        graph.error = format_error(error)
    return graph


def _graph_break(record: Any) -> GraphBreak:
    """PyTorch's record of a graph break as text."""
    first, _, rest = str(record.reason).partition("\n")
    explained = re.search(r"Explanation: (.+)", rest)
    reason = one_line(explained[1] if explained else first, MAX_REASON)
    frames = [frame for frame in record.user_stack if "/torch/" not in frame.filename] or [*record.user_stack]
    if not frames:
        return GraphBreak(reason, "", "", rest)
    line = frames[-1]
    return GraphBreak(reason, f"{shown_path(line.filename)}:{line.lineno}", line.line or "", rest)


SHARED_BACKEND = CompileBackend()
"""the backend that PyTorch finds by the name graphflops"""


def compiled_graphs() -> CompileBackend:
    """The backend of ``torch.compile(model, backend="graphflops")``: its reports, graph breaks and totals."""
    return SHARED_BACKEND
