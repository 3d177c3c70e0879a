"""Build the OpGraph of a capture: nodes with records become Ops and repeats, without tensors."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from graphflops.core.sizes import Spec
from graphflops.core.torch_compat import tree_leaves
from graphflops.graph.op import BackwardHook, Invocation, Kind, Op, Operand, Region, Source, Storage, TensorArgument
from graphflops.graph.op_graph import OpGraph
from graphflops.tracing.copies.layouts import spec_of
from graphflops.tracing.recording.record import Hook, NodeRecord, record_of
from graphflops.tracing.trace import Trace


def build(trace: Trace, *, invocations: bool = False) -> OpGraph:
    """Return the graph of a capture, before any pass.

    With ``invocations`` each Op has the callable and its arguments, so that the call can be run again.
    """
    graph = OpGraph(trace=replace(trace, graph=fx.Graph()))
    blocks: dict[int, tuple[str, ...]] = {}
    holders: dict[int, Source] = {}
    for node in trace.graph.nodes:
        if _is_part(node):
            continue  # an Operand has the index of the result instead
        record = record_of(node)
        if record.repeat is None:
            graph.add_op(_op(node, record, holders, invocations=invocations))
            continue
        template = record.repeat.template
        if id(template) not in blocks:
            blocks[id(template)] = tuple(name for name in map(_name, template.nodes) if name in graph)
        graph.add_repeat(_repeat(node, record, blocks[id(template)]))
    return graph


def _op(node: fx.Node, record: NodeRecord, holders: dict[int, Source], *, invocations: bool) -> Op:
    requires_grad = record.requires_grad or {}
    if node.op == "output":
        operands = tuple(_operands("output", node.args[0], requires_grad))
        return Op(_name(node), "output", None, "", "", operands, {}, (), requires_grad=False)
    source = record if record.goes_back is None else record_of(record.goes_back)
    kind = _kind(node, record)
    operands = tuple(
        operand
        for name, value in record.operands.items()
        if isinstance(value, _CONTAINERS)
        for operand in _operands(name, value, requires_grad)
    )
    results = _as_tuple(source.value)
    is_rule_backward = record.goes_back is not None
    return Op(
        name=_name(node),
        kind=kind,
        call=str(node.target) if kind == "parameter" else record.call,
        module_path=record.module_path or "",
        line=record.line or "",
        operands=operands,
        arguments={name: _with_specs(value) for name, value in record.operands.items()} | dict(_masks(record)),
        out=_spec(source) if torch.is_tensor(source.value) else tuple(map(_spec_or_none, results)),
        requires_grad=record.resolves_view
        or any(_has_gradient(result, kind) for result in results if torch.is_tensor(result)),
        storages=tuple(_storages(_name(node), record, holders)),
        recomputes=record.recomputes,
        recomputed_in=record.recomputed_in,
        hook=None if record.hook is None else _hook(record.hook),
        own_code=record.own_code,
        phase=record.phase,
        gradients_of=dict(_gradients_of(node, record)),
        is_rule_backward=is_rule_backward,
        only_accumulates=record.only_accumulates,
        invocation=_invocation(node, record) if invocations and record.run is not None else None,
        inside=tuple(_inside(record.inside)) if record.inside is not None else (),
        needs_grad=frozenset(operand.name for operand in operands if operand.requires_grad and is_rule_backward),
        fan_in=_one_gradient_each(source.value) if is_rule_backward else {},
    )


def _storages(name: str, record: NodeRecord, holders: dict[int, Source]) -> Iterator[Storage | None]:
    """Yield the storage of each result; ``holders``: number of a storage → the first tensor that has it.

    Of the tensors that have the same one, an operand comes first: in a repeat of a block it is another tensor.
    """
    operands: dict[int, Source] = {}
    for node in record.requires_grad or () if record.storages else ():
        for storage in record_of(node).storages[:1]:
            if storage is not None:
                operands.setdefault(storage.number, _origin(node))
    is_single = torch.is_tensor(record.value)
    for index, storage in enumerate(record.storages):
        if storage is None:
            yield None
            continue
        shared_with = operands.get(storage.number) or holders.get(storage.number)
        if record.call in _UNDECLARED_VIEWS:  # equal calls are run once, and the others got new tensors
            shared_with = next(iter(operands.values()), None)
        holders.setdefault(storage.number, (name, None if is_single else index))
        yield Storage(storage.nbytes, shared_with)


_UNDECLARED_VIEWS = (
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.unsafe_split.Tensor,
    torch.ops.aten.unsafe_split_with_sizes.default,
)
"""operators that return views of their operand, and whose schemas do not say so"""


def _inside(graph: fx.Graph) -> Iterator[Op]:
    holders: dict[int, Source] = {}
    return (_op(node, record_of(node), holders, invocations=False) for node in graph.nodes if not _is_part(node))


def _hook(hook: Hook) -> BackwardHook:
    return BackwardHook(hook.phase, tuple(map(_origin, hook.triggers)), hook.gradients)


def _kind(node: fx.Node, record: NodeRecord) -> Kind:
    if node.op == "placeholder":
        return "input"
    if node.op == "get_attr":
        return "parameter" if record.is_parameter else "constant"
    return "idle" if record.is_covered else "call"


def _one_gradient_each(value: Any) -> dict[int | None, int]:
    """Return a fan-in of one for each result that may have a gradient."""
    if torch.is_tensor(value):
        return {None: 1}
    results = enumerate(_as_tuple(value))
    return {index: 1 for index, result in results if torch.is_tensor(result) and result.is_floating_point()}


def _gradients_of(node: fx.Node, record: NodeRecord) -> Iterator[tuple[int | None, tuple[Source, ...]]]:
    """Yield index of a result, or None for a single one, and the tensors whose gradient it is."""
    if record.phase != "backward":
        return
    parts = {user: user.args[1] for user in node.users if _is_part(user) and isinstance(user.args[1], int)}
    for gradient, index in {node: None, **parts}.items():
        tensors = tuple(_origin(tensor) for tensor in record_of(gradient).gradients_of if tensor.meta)
        if tensors:
            yield index, tensors


def _has_gradient(tensor: torch.Tensor, kind: Kind) -> bool:
    """Return whether a gradient of a result is propagated further; a leaf is where it ends."""
    try:
        return tensor.requires_grad and (kind != "call" or not tensor.is_leaf)
    except RuntimeError:  # a view whose base was written to, which autograd refuses
        return True


def _operands(name: str, value: Any, requires_grad: Mapping[fx.Node, bool]) -> Iterator[Operand]:
    """Yield the tensors of one argument; those of a list are named ``name.0``, ``name.1``, …"""
    is_tensor = isinstance(value, fx.Node)
    for i, leaf in enumerate([value] if is_tensor else tree_leaves(value)):
        if isinstance(leaf, fx.Node):
            source, index = _origin(leaf)
            yield Operand(
                name=name if is_tensor else f"{name}.{i}",
                source=source,
                index=index,
                spec=_spec(record_of(leaf)),
                requires_grad=requires_grad[leaf],
            )


_CONTAINERS = (fx.Node, tuple, list, dict)


def _repeat(node: fx.Node, record: NodeRecord, names: tuple[str, ...]) -> Region:
    repeat = record.repeat
    assert repeat is not None
    sources = {
        _origin(block_input): _origin(repeat_input)
        for block_input, repeat_input in zip(repeat.template.inputs, repeat.inputs, strict=True)
        if block_input is not None and repeat_input is not None
    }
    read = {_origin(output)[0] for output in repeat.template.outputs if isinstance(output, fx.Node)}
    results = {name: repeat.renaming.op(name) for name in sorted(read, key=names.index)}
    return Region("repeat", node.name, record.module_path or "", "", names, repeat.renaming, sources, results)


def _invocation(node: fx.Node, record: NodeRecord) -> Invocation:
    def value_of(value: Any) -> Any:
        """Replace tensors by TensorArguments, and the immutable containers of fx by ordinary ones."""
        if isinstance(value, fx.Node):
            tensor = record_of(value).value
            return TensorArgument(_origin(value), spec_of(tensor), tuple(tensor.stride()))
        if isinstance(value, dict):
            return {key: value_of(item) for key, item in value.items()}
        if isinstance(value, list):
            return [value_of(item) for item in value]
        if type(value) is tuple:
            return tuple(map(value_of, value))
        return map_arg(value, value_of)

    assert record.run is not None
    return Invocation(record.run, value_of(node.args), value_of(dict(node.kwargs)))


def _name(node: fx.Node) -> str:
    """Return the name of a node's Op: of a parameter or buffer, its path."""
    return record_of(node).name or node.name


def _is_part(node: fx.Node) -> bool:
    """Return whether a node is one result of a call with several."""
    record = record_of(node)
    return record.part_of is not None or (node.target is operator.getitem and record.call is None)


def _origin(node: fx.Node) -> Source:
    """Return the name of the Op that made a value, and the index of the result."""
    record = record_of(node)
    if record.part_of is not None:
        renaming, original = record.part_of
        name, index = _origin(original)
        return renaming.op(name), index
    if not _is_part(node):
        return _name(node), None
    maker, result = node.args
    assert isinstance(maker, fx.Node)
    assert isinstance(result, int)
    return _name(maker), result


def _masks(record: NodeRecord) -> Iterator[tuple[str, Spec]]:
    """Yield the operands that are attention masks, with the number of elements that are not masked."""
    for name, nnz in record.mask_nnz.items():
        yield name, replace(_spec(record_of(record.operands[name])), nnz=nnz)


def _with_specs(value: Any) -> Any:
    """Return an argument with the Spec of each node in its place."""
    to_spec: Any = lambda node: _spec(record_of(node))  # noqa: E731
    return map_arg(value, to_spec)


def _spec(record: NodeRecord) -> Spec:
    """Return the Spec of a node with one result."""
    if record.spec is None:
        record.spec = spec_of(record.value)
    return record.spec


def _spec_or_none(value: Any) -> Spec:
    return spec_of(value) if torch.is_tensor(value) else Spec((0,), "none")


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
