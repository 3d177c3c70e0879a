"""Training steps that a program runs itself: the phase of each operator, by what runs it.

While autograd's engine runs, an operator is backward, or recompute if a checkpoint runs it again. While an optimizer
steps, an operator is the optimizer's, except in the closure that the optimizer calls. Outside of both, work on nothing
but gradients and parameters, such as clipping, is the optimizer's too. Everything else is forward.

A program that runs ``backward()`` or an optimizer is a step. One that only computes gradients (``autograd.grad``) is a
model like any other, with gradients in its forward pass.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import fx, nn

from graphflops.core.errors import CaptureError
from graphflops.core.torch_compat import (
    OpOverload,
    current_autograd_node,
    in_backward,
    is_of_checkpoint,
    last_node,
    next_sequence_number,
    nodes_after,
    sequence_number,
    top_saved_tensors_hooks,
    tree_leaves,
    tree_map,
)
from graphflops.rules.targets import qualified_name
from graphflops.tracing.interception.interception import intercept_steps
from graphflops.tracing.recording.record import NodeRecord, record_of
from graphflops.tracing.recording.writer import GraphWriter
from graphflops.tracing.session.aborts import FoldingAborted
from graphflops.tracing.values.faults import needs_data
from graphflops.tracing.values.signatures import signature_of

StepPhase: TypeAlias = Literal["backward", "recompute", "optimizer"]

aten = torch.ops.aten

_MULTI_TENSOR_OPTIONS = ("foreach", "fused", "capturable")
_SUMS = (aten.sum, aten.add, aten.add_)
_MOVES: tuple[Any, ...] = (
    *(aten.t, aten.transpose, aten.permute, aten.view, aten.reshape, aten._unsafe_view, aten.expand, aten.squeeze),
    *(aten.unsqueeze, aten.slice, aten.select, aten.detach, aten.alias, aten.clone, aten._to_copy),
)


class TrainingSteps:
    """The runs of autograd's engine and of optimizers in one trace."""

    def __init__(self, tracer: GraphWriter) -> None:
        self.tracer = tracer
        self.ran_backward = False
        """whether gradients were accumulated, as ``backward()`` does"""
        self.has_optimizer = False
        """whether the program holds an optimizer"""
        self.optimizers: dict[str, None] = {}
        """class names of the optimizers that stepped"""
        self.reached: set[int] = set()
        """ids of the checkpointed regions that the engine reached"""
        self._spent: set[Any] = set()
        self._next_number = -1  # the next sequence number of autograd
        self._first_numbers: list[int] = []  # the first sequence number of the functions that each call made …
        self._makers: list[fx.Node] = []  # … and the node of that call
        self._finished: Any = None  # the autograd function that has just computed its gradients
        self._current: Any = None  # the one that runs
        self._before: fx.Node | None = None  # the last node before the current one
        self._with_rule: dict[fx.Node, bool] = {}  # calls with a rule → whether autograd has run their backward
        self._parameter_of_state: dict[int, torch.Tensor] = {}

    @property
    def is_step(self) -> bool:
        """Whether the program is a step, and not a model whose gradients are computed afterwards."""
        return self.ran_backward or bool(self.optimizers)

    def intercept_optimizer(self, optimizer: Any) -> None:
        """Intercept the steps of the copy of an optimizer."""
        self.has_optimizer = True
        intercept_steps(optimizer)

    # -- the engine ----------------------------------------------------------------------------------------------

    def on_engine(self, call: Callable[..., Any], roots: Any, args: Any, kwargs: Any) -> Any:
        """Run autograd's engine from some tensors."""
        tracer = self.tracer
        if not tracer.recording or tracer.is_transformed():
            return call(roots, *args, **kwargs)
        nodes = _functions_behind(roots)
        if any(node.name() == "_NonLeafBackward" for node in nodes):
            raise FoldingAborted
        keeps_graph, accumulates = bool(args[1]), bool(kwargs.get("accumulate_grad"))
        spent = set() if keeps_graph else self._spent
        outer = self._finished, self._current, self._before
        self._finished = self._current = self._before = None
        handles = [node.register_hook(self._on_finished(node, spent)) for node in nodes if not _is_leaf(node)]
        outer_with_rule, self._with_rule = self._with_rule, {}
        for node in nodes:
            maker = None if _is_leaf(node) else self._maker_of(node)
            if maker is not None and self._has_rule(maker, create_graph=bool(args[2])):
                self._with_rule[maker] = False
                handles.append(node.register_prehook(self._on_entered(maker, self._with_rule)))
        try:
            return call(roots, *args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
            self._finished, self._current, self._before = outer
            self._with_rule = outer_with_rule
            self.ran_backward |= accumulates and tracer.hook is None

    def _has_rule(self, maker: fx.Node, *, create_graph: bool) -> bool:
        """Whether a rule counts the gradients of a call, and not the operators that autograd runs for them.

        With ``create_graph`` the operators are counted, as they can be differentiated again.

        Raises:
            CaptureError: ``create_graph`` is given for a call that does not run.
        """
        record = record_of(maker)
        if create_graph and record.is_described:
            raise CaptureError(
                f"{qualified_name(record.call)} is not run, as its rule has outputs=: its gradients cannot be "
                "differentiated again, as create_graph=True requires"
            )
        return record.has_rule and not create_graph

    def _on_entered(self, maker: fx.Node, ran_backward: dict[fx.Node, bool]) -> Callable[[Any], None]:
        """A hook that records the backward of a call whose gradients its rule counts."""

        def enter(_: Any) -> None:
            if self.tracer.recording and not ran_backward[maker]:
                ran_backward[maker] = True
                self._record_backward(maker)

        return enter

    def _record_backward(self, maker: fx.Node) -> None:
        """Record that autograd runs the backward of a call, which costs what its rule says."""
        record = record_of(maker)
        node = self.tracer.create_node("call_function", record.call, maker.args, dict(maker.kwargs))
        node.meta["record"] = NodeRecord(
            value=(),
            call=record.call,
            operands=record.operands,
            module_path=record.module_path,
            line=record.line,
            requires_grad=record.requires_grad,
            run=record.run,
            goes_back=maker,
            phase="backward",
        )

    def _on_finished(self, function: Any, spent: set[Any]) -> Callable[[Any, Any], None]:
        """A hook that attributes the nodes of an autograd function to the gradients that it has computed."""

        def finish(gradients: Sequence[Any], _: Any) -> None:
            spent.add(function)
            if self.tracer.recording:
                self._attribute(function, gradients)

        return finish

    def _attribute(self, function: Any, gradients: Sequence[Any]) -> None:
        tracer = self.tracer
        before = self._before if self._current is function else None
        inside = set() if before is None else {*nodes_after(tracer.graph, before)}
        self._finished, self._current, self._before = function, None, None
        for gradient, (next_function, index) in zip(gradients, function.next_functions, strict=False):
            node = tracer.nodes.get(id(gradient)) if torch.is_tensor(gradient) else None
            if node is None or next_function is None:
                continue
            tensors = self._tensors_of(next_function, index)
            _mark_gradient(node, tensors)
            for inner in _backward_slice(node, inside):
                record_of(inner).gradients_of += tensors
            _mark_accumulating_sums(node, inside)

    def _tensors_of(self, function: Any, index: int) -> tuple[fx.Node, ...]:
        """The nodes of the tensors that a gradient edge is of; for an edge inside of a call, those of its operands."""
        tensors: dict[fx.Node, None] = {}
        pending, visited = [(function, index)], set()
        while pending:
            edge = pending.pop()
            if edge[0] is None or edge in visited:
                continue
            visited.add(edge)
            if _is_leaf(edge[0]):
                tensors[self.tracer.node_of(edge[0].variable)] = None
            elif (node := self.tracer.grad_functions.node_of_edge(*edge)) is not None:
                tensors[node] = None
            else:
                pending += edge[0].next_functions
        return tuple(tensors)

    def is_spent(self, tensor: torch.Tensor) -> bool:
        """Whether the program itself has run backward from a tensor, and freed its graph."""
        if not tensor.requires_grad:
            return False
        return bool(self._spent) and not self._spent.isdisjoint(_functions_behind([tensor]))

    # -- optimizers ----------------------------------------------------------------------------------------------

    def on_optimizer(self, call: Callable[..., Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Run the step of an optimizer."""
        tracer = self.tracer
        if not tracer.recording:
            return call(*args, **kwargs)
        if tracer.hook is None:
            self.optimizers[type(optimizer).__name__] = None
        disable_multi_tensor_updates(optimizer)
        for parameter, state in getattr(optimizer, "state", {}).items():
            if torch.is_tensor(parameter):
                tensors = (leaf for leaf in tree_leaves(state) if torch.is_tensor(leaf))
                self._parameter_of_state.update((id(tensor), parameter) for tensor in tensors)
        args, kwargs = tree_map(self._wrap_closure, (args, dict(kwargs)))
        try:
            with tracer.updating(optimizer):
                return call(*args, **kwargs)
        except Exception as error:
            if not (needs_data(error) and needs_closure(type(optimizer))):
                raise
            raise CaptureError(
                f"{type(optimizer).__name__} calls its closure as often as the values of gradients require. Analyze "
                "the closure, which is one evaluation, or a step with an optimizer that updates once"
            ) from error

    def _wrap_closure(self, value: Any) -> Any:
        """The closure that an optimizer calls, whose work is not the optimizer's; any other value itself."""
        if not callable(value) or isinstance(value, (torch.Tensor, nn.Module, type)):
            return value

        def closure(*args: Any, **kwargs: Any) -> Any:
            with self.tracer.updating(None):
                return value(*args, **kwargs)

        return closure

    # -- recorded calls ------------------------------------------------------------------------------------------

    def is_recomputing(self) -> bool:
        """Whether a checkpoint runs its region again."""
        return self.tracer.hook is None and _is_recomputing()

    def on_call(self) -> None:
        """Note that a call is about to be recorded."""
        if self._next_number < 0:
            self._next_number = _next_sequence_number()
        current = current_autograd_node() if in_backward() else None
        if current is not None and current not in (self._current, self._finished):
            self._current, self._before = current, last_node(self.tracer.graph)

    def on_recorded(self, node: fx.Node) -> None:
        """Note the phase and the module of a call that was recorded."""
        tracer, record = self.tracer, record_of(node)
        if (number := _next_sequence_number()) > self._next_number:
            self._first_numbers.append(self._next_number)
            self._makers.append(node)
            self._next_number = number
        if tracer.hook is not None:
            return
        if in_backward():
            self._note_backward(node)
        elif tracer.values.numbers.optimizer is not None:
            record.phase = "optimizer"
            self._find_parameter(node)
        elif self.is_step and not (torch.is_grad_enabled() and any((record.requires_grad or {}).values())):
            operand_kinds = {_kind(operand) for operand in node.all_input_nodes}
            if operand_kinds == {"parameter"} and getattr(record.call, "overloadpacket", None) in _MOVES:
                record.is_view_of_parameter = True
                record.module_path = record_of(next(iter(node.all_input_nodes))).module_path
            elif "gradient" in operand_kinds and ("" not in operand_kinds or _writes_to_gradients(node)):
                record.phase, record.is_gradient = "optimizer", True
                self._find_parameter(node)

    def _note_backward(self, node: fx.Node) -> None:
        """Note the module that a call of the engine is work of, and whether the engine only accumulates in it."""
        record = record_of(node)
        current: Any = current_autograd_node()
        record.phase = "recompute" if _is_recomputing() else "backward"
        if current is None or record.phase == "recompute":
            return
        if _is_leaf(current) or current is self._finished:
            record.only_accumulates = isinstance(record.call, OpOverload) and record.call.overloadpacket in _SUMS
            operands = node.all_input_nodes
            tensors = {tensor: None for operand in operands for tensor in record_of(operand).gradients_of}
            if _is_leaf(current):
                tensors = {self.tracer.node_of(current.variable): None}
            _mark_gradient(node, tuple(tensors))
            if tensors:
                record.module_path = record_of(next(iter(tensors))).module_path
        elif (maker := self._maker_of(current)) is not None:
            forward = record_of(maker)
            record.module_path, record.line = forward.module_path, forward.line or record.line
            record.is_covered = maker in self._with_rule
            self.reached.update(region for region in _reentrant_regions(maker))

    def _maker_of(self, function: Any) -> fx.Node | None:
        """The call that made an autograd function."""
        index = bisect_right(self._first_numbers, sequence_number(function)) - 1
        return self._makers[index] if index >= 0 else None

    def _find_parameter(self, node: fx.Node) -> None:
        """Attribute the update of a parameter to the module of the parameter."""
        paths: dict[str, None] = {}
        for operand in map(_call_of_part, node.all_input_nodes):
            record = record_of(operand)
            state = self._parameter_of_state.get(id(record.value))
            if record.is_view_of_parameter or record.is_parameter:
                paths[record.module_path or ""] = None
            elif record.parameter_module is not None:
                paths[record.parameter_module] = None
            elif state is not None:
                paths[record_of(self.tracer.node_of(state)).module_path or ""] = None
        if len(paths) == 1:
            (path,) = paths
            record = record_of(node)
            record.module_path = record.parameter_module = path


def disable_multi_tensor_updates(optimizer: Any) -> None:
    """Make a copy of an optimizer update one parameter after the other."""
    for group in optimizer.param_groups:
        group.update({name: False for name in _MULTI_TENSOR_OPTIONS if name in group})


def needs_closure(optimizer: Any) -> bool:
    """Whether the step of an optimizer class requires a closure."""
    parameter = inspect.signature(inspect.unwrap(optimizer.step)).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


def _writes_to_gradients(node: fx.Node) -> bool:
    """Whether a call changes gradients in place, whatever its other operands are, such as the scale of a loss."""
    call, operands = record_of(node).call, record_of(node).operands
    names = signature_of(call).written if isinstance(call, OpOverload) else ()
    written = [leaf for name in names for leaf in tree_leaves(operands[name]) if isinstance(leaf, fx.Node)]
    return any(_kind(operand) == "gradient" for operand in written)


def _kind(node: fx.Node) -> str:
    """``gradient`` for a gradient or a value computed from gradients alone, ``parameter``, or empty."""
    node = _call_of_part(node)
    record = record_of(node)
    if record.is_gradient:
        return "gradient"
    is_constant = node.op == "get_attr" and (record.is_parameter or _is_small(record.value))
    return "parameter" if is_constant or record.is_view_of_parameter else ""


def _is_small(value: Any) -> bool:
    return torch.is_tensor(value) and value.numel() == 1


def _call_of_part(node: fx.Node) -> fx.Node:
    """The call that a node is one result of; the node itself, if it is no part or a part of a backward call."""
    if record_of(node).call is not None or node.op != "call_function" or not isinstance(maker := node.args[0], fx.Node):
        return node
    return node if record_of(maker).phase == "backward" else _call_of_part(maker)


def _mark_gradient(gradient: fx.Node, tensors: Sequence[fx.Node]) -> None:
    """Mark a node as the gradient of some tensors; optimizers work on those of parameters."""
    record = record_of(gradient)
    record.gradients_of = (*dict.fromkeys((*record.gradients_of, *tensors)),)
    parameters = [tensor for tensor in tensors if record_of(tensor).is_parameter]
    if parameters:
        record.is_gradient, record.parameter_module = True, record_of(parameters[0]).module_path


def _mark_accumulating_sums(gradient: fx.Node, inside: set[fx.Node]) -> None:
    """Mark the sums whose result is the gradient itself: autograd only accumulates in them."""
    pending = [gradient]
    while pending:
        node = pending.pop()
        call = record_of(node).call
        if node not in inside or not isinstance(call, OpOverload):
            continue
        if call.overloadpacket is aten.sum:
            record_of(node).only_accumulates = True
        elif call.overloadpacket in _MOVES:
            pending += node.all_input_nodes


def _backward_slice(node: fx.Node, inside: set[fx.Node]) -> Iterator[fx.Node]:
    """The backward calls among some nodes that a node depends on."""
    pending, visited = [node], set()
    while pending:
        source = pending.pop()
        if source in visited or source not in inside:
            continue
        visited.add(source)
        if record_of(source).phase == "backward":
            yield source
        pending += source.all_input_nodes


def _functions_behind(roots: Iterable[Any]) -> set[Any]:
    """The functions of autograd's graph that some tensors, or gradient edges, depend on."""
    functions: set[Any] = set()
    pending: list[Any] = []
    for root in roots:
        if not torch.is_tensor(root):
            pending.append(root.node)
        elif root.requires_grad:
            pending.append(torch.autograd.graph.get_gradient_edge(root).node)
    while pending:
        function = pending.pop()
        if function is not None and function not in functions:
            functions.add(function)
            pending += [next_function for next_function, _ in function.next_functions]
    return functions


def _is_leaf(function: Any) -> bool:
    return hasattr(function, "variable")


def _next_sequence_number() -> int:
    return int(next_sequence_number())


def _is_recomputing() -> bool:
    """Whether a checkpointed region is run again, by the innermost hooks on saved tensors."""
    if not in_backward():
        return False
    top = top_saved_tensors_hooks(True)
    return top is not None and is_of_checkpoint(top[0])


def _reentrant_regions(node: fx.Node) -> Iterator[int]:
    position = record_of(node).place
    for region, _ in position.regions if position is not None else ():
        if region.frame is None:
            yield id(region)
