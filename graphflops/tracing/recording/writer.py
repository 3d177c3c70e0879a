"""GraphWriter: writes calls on fake tensors into a torch.fx graph."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.torch_compat import (
    DisableTorchFunction,
    OpOverload,
    in_backward,
    peek_interpreter_stack,
    sequence_number,
    tree_map,
)
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule
from graphflops.rules.targets import qualified_name
from graphflops.tracing.copies.fake_tensors import copy_if_stateful, differentiable_results, tensors_of
from graphflops.tracing.copies.layouts import layout_error, nnz_of
from graphflops.tracing.interception.math_attention import ATTENTION, FUSED_BACKWARD
from graphflops.tracing.recording.checkpoints import (
    CheckpointedRegion,
    CheckpointedRegions,
    DispatchedOp,
    RegionPosition,
)
from graphflops.tracing.recording.grad_functions import (
    GradFunctionIndex,
    gradient_edge,
    may_have_gradient,
    parameter_name,
    resolves_view,
)
from graphflops.tracing.recording.record import Hook, NodeRecord, record_of
from graphflops.tracing.session.aborts import CompositeExpanded, FoldingAborted
from graphflops.tracing.session.session import Session, session
from graphflops.tracing.values.call_arguments import spec_if_tensor
from graphflops.tracing.values.constant_propagation import ConstantPropagation
from graphflops.tracing.values.failures import user_line
from graphflops.tracing.values.signatures import signature_of


class GraphWriter(fx.Tracer):
    """A torch.fx tracer whose values are fake tensors instead of proxies, so that a model runs as it always does.

    Others that watch what is written replace ``on_call_begins``, ``on_call_written``, ``on_name``, ``on_write`` and
    ``on_unrepeatable``.
    """

    def __init__(
        self,
        root: nn.Module,
        book: RuleBook,
        values: ConstantPropagation,
        opaque: Sequence[str] = (),
        expanded: Collection[OpOverload] = frozenset(),
    ) -> None:
        super().__init__()
        self.root: nn.Module = root  # the user's own, which is only read; a copy of it runs
        self.program: nn.Module = root  # the copy
        self.book = book
        self.values = values
        self.fakes = values.fakes
        self.copier = values.fakes.copier
        self.opaque = opaque  # patterns of autograd.Functions that are one node without a rule
        self.expanded = expanded  # composite operators that are no leaves
        self.session = session() or Session()
        self.session.own(self)
        self.graph = fx.Graph(tracer_cls=type(self))
        self.grad_functions = GradFunctionIndex(self.graph)
        self.nodes: dict[int, fx.Node] = {}  # id of a fake tensor → the node that made it
        self.kept_alive: list[torch.Tensor] = []  # so that an id stays its tensor's own
        self.read_by_repeats: set[fx.Node] = set()
        self.recorded = self.graph._root  # the node of the last call
        self.recording = True
        self.module_paths = [""]  # of the modules that run, from the outermost
        self.called: dict[str, str] = {}  # path of each module that ran → shapes of its result
        self.line = ""  # of the node of a given graph that runs
        self.regions = CheckpointedRegions()
        self.place = RegionPosition()  # of the last operator
        self.dispatched: list[DispatchedOp] = []  # in selective regions, since the last call was recorded
        self.hook: Hook | None = None  # the backward hook that runs
        self.own_code_depth = 0  # of autograd.Functions, and operators in Python, whose own code runs
        self.descriptions: dict[object, str] = {}  # callable that was not run, or only by its own code → a note
        self.composites: dict[Any, OpOverload | None] = {}  # function → the composite operator that it is a face of
        self.unseen: dict[str, None] = {}  # notes on tensors that were made in another thread
        self._leaf_calls: Counter[str] = Counter()  # of leaf modules, by path
        self.unnamed: Counter[bool] = Counter()  # parameters, and constants, that no module holds
        self.on_call_begins: Callable[[], None] = _nothing
        self.on_call_written: Callable[[fx.Node], None] = _nothing
        self.on_name: Callable[[str], None] = _nothing
        self.on_write: Callable[[torch.Tensor], None] = _nothing  # a tensor is written to in place
        self.on_unrepeatable: Callable[[], None] = _nothing

    def release(self) -> None:
        """Drop all tensors, those in the graph included."""
        for node in self.graph.nodes:
            node.meta.clear()
        self.values.release()
        vars(self).clear()

    def paused(self) -> AbstractContextManager[None]:
        """Record nothing while this is open."""
        return _Paused(self)

    @contextmanager
    def updating(self, optimizer: Any) -> Iterator[None]:
        """Take what runs for a step of an optimizer; with None, as in the closure that it calls, for no step."""
        before, self.values.numbers.optimizer = self.values.numbers.optimizer, optimizer
        try:
            yield
        finally:
            self.values.numbers.optimizer = before

    def current_line(self) -> str:
        """Return the user's source line that runs."""
        return self.line or user_line()

    def current_region(self) -> CheckpointedRegion | None:
        """Return the innermost checkpointed region that is open."""
        return regions[-1] if (regions := self.regions.open()) else None

    def is_opaque(self, call: Any) -> bool:
        """Whether a Function without a rule is one node all the same, to be expanded later."""
        return any(fnmatchcase(qualified_name(call), pattern) for pattern in self.opaque)

    def is_transformed(self) -> bool:
        """Whether a transformation of torch.func is at work: the operators that it makes of a function run."""
        return peek_interpreter_stack() is not None

    # -- calls ---------------------------------------------------------------------------------------------------

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, of: Any = None) -> fx.Node:
        """Create a node and set its arguments later: PyTorch would look at each for symbolic numbers."""
        node = super().create_node(kind, target, (), {}, name, of)
        node.args = args
        if kwargs:
            node.kwargs = kwargs
        return node

    def record_operator(self, op: OpOverload, args: Any, kwargs: Any, run: Callable[..., Any]) -> Any:
        """Record one operator call, its operands named as in the operator's schema, and return its result."""
        signature = signature_of(op)
        assert signature.accepts(args, kwargs), f"{op} does not take {len(args)} arguments and {', '.join(kwargs)}"
        arguments = dict(zip(signature.names, args, strict=False)) | kwargs
        for name, value in signature.defaults.items():
            arguments.setdefault(name, value)
        if op.overloadpacket is FUSED_BACKWARD and ATTENTION not in self.expanded and may_have_gradient(args):
            raise CompositeExpanded(ATTENTION)  # the kernel has no gradient
        is_resolved_view = resolves_view(op, args) or any(
            record_of(self.node_of(arguments[name])).resolves_view
            for name in signature.written
            if torch.is_tensor(arguments[name])
        )
        result = self.record_call("call_function", op, args, kwargs, op, arguments, run, self.book.find(op))
        node, record = self.recorded, record_of(self.recorded)
        record.resolves_view = is_resolved_view and torch.is_tensor(result)
        if op._opname in _OVERWRITING:
            written: Any = node.args[0]
            record.requires_grad = {**(record.requires_grad or {}), written: False}
        if torch.is_tensor(mask := arguments.get("attn_mask")):
            with self.paused():
                record.mask_nnz = {"attn_mask": self.values.evaluator.mask_nnz(mask)}
        for name in signature.written:
            self.grad_functions.mark_stale()
            if torch.is_tensor(arguments[name]):
                self.on_write(arguments[name])
            self._record_write_to_base(arguments[name])
        return result

    def record_call(
        self,
        kind: str,
        target: Any,
        args: Any,
        kwargs: Any,
        call: Any,
        arguments: Mapping[str, Any],
        run: Callable[..., Any],
        rule: Rule | None = None,
    ) -> Any:
        """Record a call of a leaf, run it, and return its result."""
        if self.fakes.has_sparse and isinstance(call, OpOverload) and call.overloadpacket not in _OF_SPARSE:
            for tensor in tensors_of(arguments):
                if nnz_of(tensor) is not None:
                    raise layout_error(self.fakes.original_of(tensor), self.fakes.name_of(tensor))
        self.on_call_begins()
        operands = {name: self.as_nodes(value) for name, value in arguments.items()}
        with self.paused():
            positional = tuple(map(copy_if_stateful, args))
            named = {key: copy_if_stateful(value) for key, value in kwargs.items()}
        if kind == "call_module":
            self._leaf_calls[target] += 1
            times = self._leaf_calls[target]
            node = self.create_named_node(kind, target, self.as_nodes(positional), self.as_nodes(named), times)
        else:
            name = call._opname if isinstance(call, OpOverload) else None
            node = self.create_node(kind, target, self.as_nodes(positional), self.as_nodes(named), name)
        record = node.meta["record"] = NodeRecord(
            call=call,
            operands=operands,
            module_path=self.module_paths[-1],
            line=self.current_line(),
            requires_grad=self.requires_grad_of(arguments),
            run=run,
            has_rule=rule is not None and not (isinstance(call, OpOverload) and call.namespace == "aten"),
            name=record_of(node).name,
        )
        is_below_autograd = run is call and isinstance(call, OpOverload)
        self.dispatched = self.dispatched[-1:] if is_below_autograd else []
        with self.paused():
            try:
                if rule is not None and rule.outputs is not None:
                    self.values.check(call, args, kwargs)
                    note = f"{qualified_name(call)} is not run: its outputs are as its rule describes them"
                    self.descriptions[call] = note
                    result = self._described_results(node, rule, arguments, history=not is_below_autograd)
                elif is_below_autograd:
                    result = self.run_operator(call, args, kwargs)
                else:
                    result = self.run_leaf(record, run, args, kwargs)
            except BaseException:  # the program may catch it, as a checkpoint does that runs as far as it needs to
                self.graph.erase_node(node)
                node.meta.clear()
                raise
        record.place, record.hook = self._place_of_call(), self.hook
        self.register(node, result)
        self.on_call_written(node)
        self.recorded = node
        return result

    def run_leaf(self, record: NodeRecord, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a leaf; what it runs is not recorded."""
        return run(*args, **kwargs)

    def run_operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """Return an operator's result on fake tensors, also where its shape or value is data-dependent."""
        result = self.values.run(op, args, kwargs)
        if self.dispatched and self.dispatched[-1].op is op:
            self.dispatched[-1].arguments["out"] = tree_map(spec_if_tensor, result)
        return result

    def _described_results(self, node: fx.Node, rule: Rule, arguments: Mapping[str, Any], *, history: bool) -> Any:
        """Return results of a leaf that is not run, as its rule describes them."""
        specs = rule.output_specs(tree_map(spec_if_tensor, dict(arguments)))
        tensors = tensors_of(arguments)

        def make() -> tuple[torch.Tensor, ...]:
            return tuple(self.fakes.make(spec.shape, None, getattr(torch, spec.dtype)) for spec in specs)

        has_history = history and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        results = differentiable_results(make, self.gradient_like, tensors) if has_history else make()
        record_of(node).is_described = True
        if hasattr(specs, "_fields"):
            return type(specs)(*results)  # a named tuple stays one
        return results[0] if len(results) == 1 else results

    def _record_write_to_base(self, view: Any) -> None:
        """Record that a write to a view is one to its base: from now on the base is read from both."""
        if not torch.is_tensor(view) or view._base is None:
            return
        base, op = view._base, torch.ops.aten.alias.default
        operands = {"self": self.node_of(base, may_expand=False), "written": self.node_of(view)}
        node = self.create_node("call_function", op, (operands["self"],), {})
        written = record_of(operands["written"])
        node.meta["record"] = NodeRecord(
            call=op,
            operands=operands,
            module_path=self.module_paths[-1],
            line=self.current_line(),
            requires_grad=dict.fromkeys(operands.values(), True),
            is_gradient=written.is_gradient,
            parameter_module=written.parameter_module,
        )
        self.register(node, base)

    def _place_of_call(self) -> RegionPosition:
        """Return the checkpointed regions that the last call ran in.

        Raises:
            FoldingAborted: a repeat is in one of them, and which of its calls run again depends on the whole region.
        """
        for region in (regions := self.regions.open()):
            region.calls += 1
            if region.is_repeat:
                raise FoldingAborted
        if not regions:
            return OUTSIDE_REGIONS
        began = dict(self.place.regions)
        return RegionPosition([(region, began.get(region, region.saved)) for region in regions], self.dispatched)

    def place_without_calls(self) -> RegionPosition:
        """Return the open checkpointed regions, for a call that runs nothing which is not recorded by itself."""
        return RegionPosition([(region, region.saved) for region in self.regions.open()])

    # -- tensors and their nodes ---------------------------------------------------------------------------------

    def register(self, node: fx.Node, result: Any) -> Any:
        """Make a node the one that a result came from; the parts of a tuple or list become getitem nodes."""
        record = record_of(node)
        record.value, record.storages = result, self.fakes.storages_of(result)
        if record.module_path is None:
            record.module_path = self.module_paths[-1]
        if torch.is_tensor(result):
            self.nodes[id(result)] = node
        elif isinstance(result, (tuple, list)):
            for i, part in enumerate(result):
                if torch.is_tensor(part):
                    self.register(self.create_node("call_function", operator.getitem, (node, i), {}), part)
        return result

    def requires_grad_of(self, operands: Any) -> dict[fx.Node, bool]:
        """Return which operands require grad now: an in-place operation may change that later."""
        nodes = [(self.node_of(tensor), tensor) for tensor in tensors_of(operands)]
        return {node: tensor.requires_grad or record_of(node).resolves_view for node, tensor in nodes}

    def as_nodes(self, value: Any) -> Any:
        """Return a value with the node of each tensor in its place."""
        if isinstance(value, torch.Tensor):
            return self.node_of(value)
        if isinstance(value, torch.SymFloat):
            return math.nan  # a data-dependent number: not 1, nor any other that a rule may look for
        return fx.node.map_aggregate(value, self.as_nodes) if isinstance(value, _AGGREGATES) else value

    def node_of(self, tensor: torch.Tensor, *, may_expand: bool = True) -> fx.Node:
        """Return the node that a tensor came from; a parameter, buffer or constant gets one when it is first read."""
        if self.fakes.is_fake(tensor):
            fake = tensor
        else:
            with self.paused():
                fake = self.fakes.fake_for(tensor)
        node = self.nodes.get(id(fake))
        if node is not None and node.op == "get_attr":
            return node
        is_parameter = isinstance(fake, nn.Parameter)
        # a tensor that autograd saved, detached, and hands out again when it runs inside of a model
        is_unseen = node is None or node.target is torch.ops.aten.detach.default
        if node is not None and not is_unseen and not is_parameter:
            return node
        if is_unseen and fake.grad_fn is not None:
            if (saved := self.grad_functions.node_of(fake)) is not None:
                self.nodes[id(fake)] = saved
                self.kept_alive.append(fake)
            elif node is None and may_expand and torch.is_grad_enabled():
                self._expand_composite_of(fake.grad_fn)
        converted = self._converted_name(fake) if is_parameter and node is not None else None
        if converted is not None or id(fake) not in self.nodes:
            name = converted or self.fakes.name_of(fake)
            if name is None:
                if fake.grad_fn is not None and not in_backward():  # autograd hands out what it saved
                    self.unseen.setdefault(_UNSEEN.format(where=self.current_line()))
                name = f"{'parameter' if is_parameter else 'constant'}_{self.unnamed[is_parameter]}"
                self.unnamed[is_parameter] += 1
                node = self.create_node("get_attr", name, (), {})
            else:
                node = self.create_named_node("get_attr", name, (), {})
            record = record_of(node)
            record.module_path, record.is_parameter = name.rpartition(".")[0], is_parameter
            self.register(node, fake)
        return self.nodes[id(fake)]

    def _expand_composite_of(self, grad_fn: Any) -> None:
        """Expand the composite operator inside of which autograd made a function, found by their sequence numbers."""
        with DisableTorchFunction():
            number = sequence_number(grad_fn)
            after = [
                (sequence_number(function), node)
                for node in self.graph.nodes
                if torch.is_tensor(value := record_of(node).value)
                and (function := gradient_edge(value)[0]) is not None
                and sequence_number(function) >= number
            ]
        call = record_of(min(after, key=lambda pair: pair[0])[1]).call if after else None
        if call is not None and call in self.composites.values():
            raise CompositeExpanded(call)

    def create_named_node(self, kind: str, path: str, args: Any, kwargs: Any, times: int = 1) -> fx.Node:
        """Create a node that has the path of a parameter, buffer or module as its name; ``times`` it was called.

        So the names in one block become those in another one by their prefix.
        """
        if "." not in path:
            self.on_name(path)
            return self.create_node(kind, path, args, kwargs)
        node = self.create_node(kind, path, args, kwargs, "held")
        record_of(node).name = path if times == 1 else f"{path}:{times}"
        return node

    def _converted_name(self, fake: torch.Tensor) -> str | None:
        """Return the name of a parameter that was converted while the model ran: it is trained under it."""
        return parameter_name(self.program, self.module_paths[-1], fake)

    # -- backward ------------------------------------------------------------------------------------------------

    def gradient_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a fake gradient of a tensor."""
        with DisableTorchFunction():
            return self.fakes.make(tensor.shape, None, tensor.dtype)


class _Paused:
    """The context of ``GraphWriter.paused``; an operator opens several, so it is no generator."""

    __slots__ = ("before", "writer")

    def __init__(self, writer: GraphWriter) -> None:
        self.writer = writer

    def __enter__(self) -> None:
        self.before, self.writer.recording = self.writer.recording, False

    def __exit__(self, *_: object) -> None:
        self.writer.recording = self.before


def _nothing(*_: Any) -> None:
    """Do nothing."""


OUTSIDE_REGIONS = RegionPosition()
"""the place of a call outside of checkpointed regions"""

_AGGREGATES = (tuple, list, dict, slice)
"""the containers that ``torch.fx`` searches for nodes"""

_SPARSE_NAMES = ("mm", "addmm", "mv", "_sparse_addmm", "t", "transpose", "detach", "alias")
_OF_SPARSE = {getattr(torch.ops.aten, name) for name in _SPARSE_NAMES}
"""the operators that take a sparse matrix: products by a dense one, and views"""

_UNSEEN = "{where}: a tensor was made where nothing is recorded, such as in another thread: its calls are not counted"

_OVERWRITING = ("copy_", "fill_", "zero_")
"""in-place operators through which no gradient flows to the old values"""
