"""Facts of a captured model: its inputs, modules, parameters and constants, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import fx

from graphflops.core.sizes import Spec, as_size
from graphflops.core.torch_compat import DisableTorchFunction
from graphflops.tracing.copies.function_module import FunctionModule
from graphflops.tracing.copies.layouts import spec_of
from graphflops.tracing.folding.replay import remembered_modules
from graphflops.tracing.recording.record import record_of
from graphflops.tracing.recording.writer import GraphWriter

MAX_SHAPES = 4
"""tensors whose shapes are in the text of a result"""
MAX_NESTING = 8
"""containers in each other around such a tensor"""


def inputs_of(graph: fx.Graph) -> dict[str, Spec]:
    """Return every input tensor under its name in forward; several of one nested input under names of their own."""
    placeholders = graph.find_nodes(op="placeholder")
    uses = Counter(node.target for node in placeholders)
    return {
        str(node.target) if uses[node.target] == 1 else node.name: spec_of(record_of(node).value)
        for node in placeholders
    }


def input_names(writer: GraphWriter, inputs: Iterable[int]) -> list[str]:
    """Return the names of inputs in forward, by the ids of their fake tensors."""
    return list(dict.fromkeys(str(writer.nodes[key].target) for key in inputs if key in writer.nodes))


def modules_of(writer: GraphWriter) -> Iterator[tuple[str, str]]:
    """Yield path and class of every module; of a given graph, of the modules that its nodes remember."""
    yield from ((path, type(module).__name__) for path, module in writer.fakes.survey.modules.items())
    yield from remembered_modules(writer.root)


def parameters_of(writer: GraphWriter) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the model's parameters, used or not, and those that were used and that no module holds."""
    parameters: dict[str, torch.Tensor] = dict(writer.fakes.survey.parameters)
    used = {str(node.target): record_of(node) for node in writer.graph.find_nodes(op="get_attr")}
    if isinstance(writer.root, FunctionModule):  # it may reach modules that it does not use
        parameters = {
            name: parameter
            for name, parameter in parameters.items()
            if name in used or name.rpartition(".")[0] in writer.called
        }
    yield from parameters.items()
    yield from ((name, record.value) for name, record in used.items() if record.is_parameter and name not in parameters)


def shapes_in(result: Any) -> str:
    """Return the dtypes and shapes of the tensors in a module's result: ``float32[8, 64], float32[2, 64]``.

    Tensors in lists, tuples, dicts and dataclasses are found. No code of the user's runs.
    """
    with DisableTorchFunction():
        tensors = [*islice(_tensors_in(result, MAX_NESTING), MAX_SHAPES + 1)]
        shapes = [f"{str(tensor.dtype).removeprefix('torch.')}{[*map(as_size, tensor.shape)]}" for tensor in tensors]
    return ", ".join([*shapes[:MAX_SHAPES], *(["…"] if len(shapes) > MAX_SHAPES else [])])


def _tensors_in(value: Any, depth: int) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    items: Iterable[Any] = ()
    if isinstance(value, dict):
        items = dict.values(value)
    elif isinstance(value, tuple):
        items = tuple.__iter__(value)
    elif isinstance(value, list):
        items = list.__iter__(value)
    elif hasattr(type(value), "__dataclass_fields__"):
        items = getattr(value, "__dict__", {}).values()
    for item in items if depth else ():
        yield from _tensors_in(item, depth - 1)


def constants_of(writer: GraphWriter) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the user's own tensors that were read and are no parameters."""
    for node in writer.graph.find_nodes(op="get_attr"):
        fake: Any = record_of(node).value
        if not record_of(node).is_parameter and (original := writer.fakes.original_of(fake)) is not fake:
            yield str(node.target), original
