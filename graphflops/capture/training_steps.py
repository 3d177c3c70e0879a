"""A step that a program runs by itself: what of it is forward, backward and optimizer, by what really runs.

While autograd's engine runs, an operator is backward; in it, what a checkpoint runs again is recompute. While an
optimizer steps, an operator is the optimizer's, but for the closure that it calls. Outside of both, work on nothing but
gradients and parameters, as clipping is, belongs to the optimizer too. Everything else is forward.

A program that runs ``backward()`` or an optimizer is a step. One that only asks for gradients (``autograd.grad``) is a
model like any other, whose own forward pass has gradients in it.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import fx, nn

from graphflops.capture.aborts import FoldingAborted
from graphflops.capture.faults import needs_data
from graphflops.capture.interception import intercept_steps
from graphflops.capture.record import NodeRecord, record_of
from graphflops.capture.signatures import signature_of
from graphflops.capture.writer import GraphWriter
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

StepPhase: TypeAlias = Literal["backward", "recompute", "optimizer"]

aten = torch.ops.aten

_ALL_AT_ONCE = ("foreach", "fused", "capturable")
_SUMS = (aten.sum, aten.add, aten.add_)
_MOVES: tuple[Any, ...] = (
    *(aten.t, aten.transpose, aten.permute, aten.view, aten.reshape, aten._unsafe_view, aten.expand, aten.squeeze),
    *(aten.unsqueeze, aten.slice, aten.select, aten.detach, aten.alias, aten.clone, aten._to_copy),
)


class Steps:
    """What is known of the engine and the optimizers of one trace."""

    def __init__(self, tracer: GraphWriter) -> None:
        self.tracer = tracer
        self.went_back = False
        """whether gradients were accumulated, as ``backward()`` does"""
        self.has_optimizer = False
        """whether the program holds an optimizer"""
        self.optimizers: dict[str, None] = {}
        """names of the optimizers that stepped"""
        self.reached: set[int] = set()
        """ids of the checkpointed regions that the engine came to"""
        self._spent: set[Any] = set()
        self._number = -1  # the next one that autograd will give to a function
        self._starts: list[int] = []  # of the sequence numbers that autograd gave while a node was made …
        self._makers: list[fx.Node] = []  # … and which node that was
        self._closed: Any = None  # the formula that has just made its gradients
        self._current: Any = None
        self._before: fx.Node | None = None  # the last node before the formula that runs
        self._ruled: dict[fx.Node, bool] = {}  # calls that a rule speaks of → whether autograd went back through them
        self._of_state: dict[int, torch.Tensor] = {}

    @property
    def is_step(self) -> bool:
        """Whether the program is a step, and not a model whose gradients somebody else takes."""
        return self.went_back or bool(self.optimizers)

    def watch(self, optimizer: Any) -> None:
        """Have the copy of an optimizer tell of its steps."""
        self.has_optimizer = True
        intercept_steps(optimizer)

    # -- the engine ----------------------------------------------------------------------------------------------

    def on_engine(self, call: Callable[..., Any], roots: Any, args: Any, kwargs: Any) -> Any:
        """Autograd's engine runs back from some tensors."""
        tracer = self.tracer
        if not tracer.recording or tracer.is_transformed():
            return call(roots, *args, **kwargs)
        nodes = _behind(roots)
        if any(node.name() == "_NonLeafBackward" for node in nodes):
            raise FoldingAborted
        keeps, accumulates = bool(args[1]), bool(kwargs.get("accumulate_grad"))
        spent = set() if keeps else self._spent
        outer = self._closed, self._current, self._before
        self._closed = self._current = self._before = None
        handles = [node.register_hook(self._closing(node, spent)) for node in nodes if not _is_leaf(node)]
        before, self._ruled = self._ruled, {}
        for node in nodes:
            maker = None if _is_leaf(node) else self._maker_of(node)
            if maker is not None and self._is_ruled(maker, creates=bool(args[2])):
                self._ruled[maker] = False
                handles.append(node.register_prehook(self._entering(maker, self._ruled)))
        try:
            return call(roots, *args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
            self._closed, self._current, self._before = outer
            self._ruled = before
            self.went_back |= accumulates and tracer.hook is None

    def _is_ruled(self, maker: fx.Node, *, creates: bool) -> bool:
        """Whether a rule speaks of the gradients of a call, and not the operators that autograd runs for them.

        Gradients that have gradients of their own are those of operators.

        Raises:
            CaptureError: such are asked for, of a call that does not run.
        """
        record = record_of(maker)
        if creates and record.is_described:
            raise CaptureError(
                f"{qualified_name(record.call)} is not run, as its rule describes its outputs: it has no "
                "gradients that have gradients of their own, which are asked for here"
            )
        return record.has_rule and not creates

    def _entering(self, maker: fx.Node, went_back: dict[fx.Node, bool]) -> Callable[[Any], None]:
        """A hook that is told that autograd goes back through a call whose gradients its rule speaks of."""

        def enter(_: Any) -> None:
            if self.tracer.recording and not went_back[maker]:
                went_back[maker] = True
                self._goes_back(maker)

        return enter

    def _goes_back(self, maker: fx.Node) -> None:
        """Write down that autograd goes back through a call: what its rule says of gradients is done."""
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

    def _closing(self, node: Any, spent: set[Any]) -> Callable[[Any, Any], None]:
        """A hook that is told which gradients a formula has made."""

        def close(gradients: Sequence[Any], _: Any) -> None:
            spent.add(node)
            if self.tracer.recording:
                self._close(node, gradients)

        return close

    def _close(self, node: Any, gradients: Sequence[Any]) -> None:
        tracer = self.tracer
        made = [*nodes_after(tracer.graph, self._before)] if self._current is node and self._before is not None else []
        self._closed, self._current, self._before = node, None, None
        inside = set(made)
        for gradient, (function, index) in zip(gradients, node.next_functions, strict=False):
            known = tracer.nodes.get(id(gradient)) if torch.is_tensor(gradient) else None
            if known is None or function is None:
                continue
            tensors = self._tensors_of(function, index)
            _mark(known, tensors)
            for each in _slice(known, inside):
                record_of(each).gradients_of += tensors
            _mark_sums(known, inside)

    def _tensors_of(self, function: Any, index: int) -> tuple[fx.Node, ...]:
        """The nodes of what an edge of autograd's graph is the gradient of; of a leaf's inner ones, its operands."""
        found: dict[fx.Node, None] = {}
        waiting, seen = [(function, index)], set()
        while waiting:
            edge = waiting.pop()
            if edge[0] is None or edge in seen:
                continue
            seen.add(edge)
            if _is_leaf(edge[0]):
                found[self.tracer.node_of(edge[0].variable)] = None
            elif (node := self.tracer.grad_functions.node_of_edge(*edge)) is not None:
                found[node] = None
            else:
                waiting += edge[0].next_functions
        return tuple(found)

    def is_spent(self, tensor: torch.Tensor) -> bool:
        """Whether the program has gone back from a tensor by itself, so that nobody else can."""
        if not tensor.requires_grad:
            return False
        return bool(self._spent) and not self._spent.isdisjoint(_behind([tensor]))

    # -- optimizers ----------------------------------------------------------------------------------------------

    def on_optimizer(self, call: Callable[..., Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """An optimizer steps."""
        tracer = self.tracer
        if not tracer.recording:
            return call(*args, **kwargs)
        if tracer.hook is None:
            self.optimizers[type(optimizer).__name__] = None
        update_one_by_one(optimizer)
        for parameter, state in getattr(optimizer, "state", {}).items():
            if torch.is_tensor(parameter):
                self._of_state.update((id(each), parameter) for each in tree_leaves(state) if torch.is_tensor(each))
        args, kwargs = tree_map(self._outside, (args, dict(kwargs)))
        try:
            with tracer.updating(optimizer):
                return call(*args, **kwargs)
        except Exception as error:
            if not (needs_data(error) and needs_closure(type(optimizer))):
                raise
            raise CaptureError(
                f"{type(optimizer).__name__} decides by values of gradients how often it calls its closure. Analyse "
                "the closure, which is one evaluation, or a step with an optimizer that makes one update"
            ) from error

    def _outside(self, value: Any) -> Any:
        """A closure that an optimizer calls is no work of the optimizer's."""
        if not callable(value) or isinstance(value, (torch.Tensor, nn.Module, type)):
            return value

        def closure(*args: Any, **kwargs: Any) -> Any:
            with self.tracer.updating(None):
                return value(*args, **kwargs)

        return closure

    # -- what is written down ------------------------------------------------------------------------------------

    def is_recomputing(self) -> bool:
        """Whether a checkpoint runs its region again, operator by operator and only as far as is needed."""
        return self.tracer.hook is None and _is_recomputing()

    def begin(self) -> None:
        """A call is about to be written down."""
        if self._number < 0:
            self._number = _next_number()
        current = current_autograd_node() if in_backward() else None
        if current is not None and current not in (self._current, self._closed):
            self._current, self._before = current, last_node(self.tracer.graph)

    def wrote(self, node: fx.Node) -> None:
        """A call was written down."""
        tracer, record = self.tracer, record_of(node)
        if (number := _next_number()) > self._number:
            self._starts.append(self._number)
            self._makers.append(node)
            self._number = number
        if tracer.hook is not None:
            return
        if in_backward():
            self._wrote_back(node)
        elif tracer.values.numbers.optimizer is not None:
            record.phase = "optimizer"
            self._find_parameter(node)
        elif self.is_step and not (torch.is_grad_enabled() and any((record.requires_grad or {}).values())):
            kinds = {_kind(each) for each in node.all_input_nodes}
            if kinds == {"parameter"} and getattr(record.call, "overloadpacket", None) in _MOVES:
                record.is_view_of_parameter = True
                record.module_path = record_of(next(iter(node.all_input_nodes))).module_path
            elif "gradient" in kinds and ("" not in kinds or _writes_to_gradients(node)):
                record.phase, record.is_gradient = "optimizer", True
                self._find_parameter(node)

    def _wrote_back(self, node: fx.Node) -> None:
        """A call of the engine's: whose work it is, and whether the engine only adds up in it."""
        record = record_of(node)
        current: Any = current_autograd_node()
        record.phase = "recompute" if _is_recomputing() else "backward"
        if current is None or record.phase == "recompute":
            return
        if _is_leaf(current) or current is self._closed:
            record.only_accumulates = isinstance(record.call, OpOverload) and record.call.overloadpacket in _SUMS
            operands = node.all_input_nodes
            tensors = {each: None for operand in operands for each in record_of(operand).gradients_of}
            if _is_leaf(current):
                tensors = {self.tracer.node_of(current.variable): None}
            _mark(node, tuple(tensors))
            if tensors:
                record.module_path = record_of(next(iter(tensors))).module_path
        elif (maker := self._maker_of(current)) is not None:
            made_by = record_of(maker)
            record.module_path, record.line = made_by.module_path, made_by.line or record.line
            record.is_covered = maker in self._ruled
            self.reached.update(region for region in _reentrant_regions(maker))

    def _maker_of(self, function: Any) -> fx.Node | None:
        """The call that autograd's function was made in."""
        place = bisect_right(self._starts, sequence_number(function)) - 1
        return self._makers[place] if place >= 0 else None

    def _find_parameter(self, node: fx.Node) -> None:
        """Under which module the update of a parameter stands: that of the parameter."""
        owners: dict[str, None] = {}
        for operand in map(_whole, node.all_input_nodes):
            record = record_of(operand)
            state = self._of_state.get(id(record.value))
            if record.is_view_of_parameter or record.is_parameter:
                owners[record.module_path or ""] = None
            elif record.parameter_module is not None:
                owners[record.parameter_module] = None
            elif state is not None:
                owners[record_of(self.tracer.node_of(state)).module_path or ""] = None
        if len(owners) == 1:
            (owner,) = owners
            record = record_of(node)
            record.module_path = record.parameter_module = owner


def update_one_by_one(optimizer: Any) -> None:
    """Have an optimizer, which is no one's but an analysis's, update one parameter after the other."""
    for group in optimizer.param_groups:
        group.update({name: False for name in _ALL_AT_ONCE if name in group})


def needs_closure(optimizer: Any) -> bool:
    """Whether the step of an optimizer's class cannot do without a closure."""
    parameter = inspect.signature(inspect.unwrap(optimizer.step)).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


def _writes_to_gradients(node: fx.Node) -> bool:
    """Whether a call changes gradients in place, also by what is none, such as the scale of a loss."""
    call, offered = record_of(node).call, record_of(node).operands
    names = signature_of(call).written if isinstance(call, OpOverload) else ()
    written = [each for name in names for each in tree_leaves(offered[name]) if isinstance(each, fx.Node)]
    return any(_kind(each) == "gradient" for each in written)


def _kind(node: fx.Node) -> str:
    """Whether it is a gradient, or was computed of these alone, or a parameter, or something else."""
    node = _whole(node)
    record = record_of(node)
    if record.is_gradient:
        return "gradient"
    held = node.op == "get_attr" and (record.is_parameter or _is_small(record.value))
    return "parameter" if held or record.is_view_of_parameter else ""


def _is_small(value: Any) -> bool:
    return torch.is_tensor(value) and value.numel() == 1


def _whole(node: fx.Node) -> fx.Node:
    """The call that a part of its results is of; of the engine's, the part is what it is."""
    if record_of(node).call is not None or node.op != "call_function" or not isinstance(maker := node.args[0], fx.Node):
        return node
    return node if record_of(maker).phase == "backward" else _whole(maker)


def _mark(gradient: fx.Node, tensors: Sequence[fx.Node]) -> None:
    """Say of a node that it is the gradient of some tensors; those of parameters are what optimizers work on."""
    record = record_of(gradient)
    record.gradients_of = (*dict.fromkeys((*record.gradients_of, *tensors)),)
    parameters = [each for each in tensors if record_of(each).is_parameter]
    if parameters:
        record.is_gradient, record.parameter_module = True, record_of(parameters[0]).module_path


def _mark_sums(gradient: fx.Node, inside: set[fx.Node]) -> None:
    """A sum whose result is a gradient as it stands is what autograd adds up, and not computed with."""
    waiting = [gradient]
    while waiting:
        node = waiting.pop()
        call = record_of(node).call
        if node not in inside or not isinstance(call, OpOverload):
            continue
        if call.overloadpacket is aten.sum:
            record_of(node).only_accumulates = True
        elif call.overloadpacket in _MOVES:
            waiting += node.all_input_nodes


def _slice(node: fx.Node, inside: set[fx.Node]) -> Iterator[fx.Node]:
    """Of the calls inside of a formula those that lead to a node."""
    waiting, seen = [node], set()
    while waiting:
        each = waiting.pop()
        if each in seen or each not in inside:
            continue
        seen.add(each)
        if record_of(each).phase == "backward":
            yield each
        waiting += each.all_input_nodes


def _behind(roots: Iterable[Any]) -> set[Any]:
    """The functions of autograd's graph behind some tensors, or edges."""
    found: set[Any] = set()
    waiting: list[Any] = []
    for each in roots:
        if not torch.is_tensor(each):
            waiting.append(each.node)
        elif each.requires_grad:
            waiting.append(torch.autograd.graph.get_gradient_edge(each).node)
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [function for function, _ in node.next_functions]
    return found


def _is_leaf(function: Any) -> bool:
    return hasattr(function, "variable")


def _next_number() -> int:
    return int(next_sequence_number())


def _is_recomputing() -> bool:
    """Whether a checkpointed region is run again, as its hooks on saved tensors tell."""
    if not in_backward():
        return False
    top = top_saved_tensors_hooks(True)
    return top is not None and is_of_checkpoint(top[0])


def _reentrant_regions(node: fx.Node) -> Iterator[int]:
    place = record_of(node).place
    for region, _ in place.regions if place is not None else ():
        if region.frame is None:
            yield id(region)
