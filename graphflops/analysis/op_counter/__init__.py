"""The reference count of scalar operations: every dispatched operator is decomposed until scalar operations are left.

A call runs forward, and backward from all its outputs, on fake tensors. Operators are decomposed by PyTorch's own
decompositions, and custom operators by their own Python code. No rules are used.

    >>> import torch
    >>> from graphflops.analysis.op_counter import count_scalar_ops
    >>> count_scalar_ops(torch.nn.Linear(4, 8), (torch.zeros(2, 4),)).forward
    Work(macs=64)

Only what the results depend on is counted: if a decomposition computes all gradients where one is needed, or one mean
twice, one is counted. In the backward pass a sum whose result is a gradient (of a bias, of a broadcast or indexed
operand) is ``accumulate``, and so are the engine's own additions where gradients meet; any other sum is not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from graphflops.analysis.mac_counter import FakeImpls, math_attention_mode
from graphflops.analysis.op_counter.operations import functional, is_reduction, scalar_work
from graphflops.core.costs import ZERO, Work
from graphflops.core.torch_compat import (
    OPDEFS,
    DisableTorchFunction,
    OpOverload,
    TorchDispatchMode,
    decompositions,
    engine,
    tree_flatten,
    tree_leaves,
    tree_map,
)
from graphflops.tracing.copies.fake_tensors import FakeTensors
from graphflops.tracing.folding.replay import as_module
from graphflops.tracing.isolation.isolation import run_isolated
from graphflops.tracing.recording.outputs import tensors_in
from graphflops.tracing.values.constant_propagation import ConstantPropagation, retry_with_branches_flipped

aten = torch.ops.aten
prims = torch.ops.prims

FAN_IN = "gradient fan-in"

CostFallback = Callable[[OpOverload, tuple[Any, ...], Mapping[str, Any], Any], "Work | None"]
"""The work of an operator that has no decomposition, by its arguments and result; None if it is unknown."""


@dataclass(frozen=True)
class ScalarOpCount:
    """Scalar operations of a call, in total and for each dispatched operator.

    ``undecomposed`` are operators without decomposition, which are not counted.
    """

    forward: Work
    backward: Work
    forward_by_operator: Mapping[str, Work] = field(default_factory=dict)
    backward_by_operator: Mapping[str, Work] = field(default_factory=dict)
    undecomposed: frozenset[str] = frozenset()


def count_scalar_ops(
    call: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = True,
    frozen: bool = False,
    grad_outputs: Collection[int] | None = None,
    fallback: CostFallback | None = None,
) -> ScalarOpCount:
    """Count the scalar operations of a call forward, and backward from all its outputs, on fake tensors.

    A sum of n numbers is n additions, the first of them into zero. Complex work is counted in real operations.
    ``frozen``: no parameter of a module requires grad. ``grad_outputs`` are the indices of the outputs that have
    gradients, all by default. ``fallback`` returns the work of operators without decomposition.

    Raises what the call raises on fake tensors. Neither the call nor modules among its arguments are modified.
    """
    inputs = tuple(args), dict(kwargs or {})
    return run_isolated(lambda: _count(call, inputs, training, frozen, grad_outputs, fallback))


def _count(
    call: Callable[..., Any],
    inputs: tuple[tuple[Any, ...], dict[str, Any]],
    training: bool,
    frozen: bool,
    grad_outputs: Collection[int] | None,
    fallback: CostFallback | None,
) -> ScalarOpCount:
    call = as_module(call)
    owner = getattr(call, "__self__", None)
    modules = [leaf for leaf in (call, owner, *tree_leaves(inputs)) if isinstance(leaf, nn.Module)]
    root = call if isinstance(call, nn.Module) and len(modules) == 1 else nn.ModuleList(modules)

    def attempt(values: ConstantPropagation) -> ScalarOpCount:
        fakes = values.fakes
        copy = fakes.copier.copy
        with fakes.fake_mode(), torch.set_grad_enabled(training), FakeImpls(values):
            with DisableTorchFunction():
                program, copied_root = copy(call), copy(root)
            for parameter in copied_root.parameters():
                parameter.requires_grad_(parameter.requires_grad and not frozen)

            def fake(value: Any) -> Any:
                if not torch.is_tensor(value):
                    return copy(value)
                tensor = fakes.fake_for_input(value)
                return tensor.clone() if value.requires_grad and not isinstance(value, nn.Parameter) else tensor

            fake_of: dict[int, Any] = {}
            fake_args, fake_kwargs = tree_map(lambda value: fake_of.setdefault(id(value), fake(value)), inputs)
            forward, backward = _ScalarOpMode(fallback), _ScalarOpMode(fallback, backward=True)
            with math_attention_mode(values), forward:
                result = program(*fake_args, **fake_kwargs)
            results = result if isinstance(result, (tuple, list)) else (result,)
            used = result if grad_outputs is None else [tensor for i, tensor in enumerate(results) if i in grad_outputs]
            outputs = [tensor for tensor in tensors_in(used) if tensor.requires_grad]
            with math_attention_mode(values), backward, _autograd_nodes(backward):
                if outputs:
                    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        return ScalarOpCount(
            forward=sum(forward.table.values(), ZERO),
            backward=sum(backward.table.values(), ZERO),
            forward_by_operator=forward.table,
            backward_by_operator=backward.table,
            undecomposed=frozenset(forward.undecomposed | backward.undecomposed),
        )

    return retry_with_branches_flipped(
        lambda flipped: ConstantPropagation(FakeTensors(root), flipped), attempt, Exception
    )


# -- counting ------------------------------------------------------------------------------------------------------


@dataclass
class _Step:
    """An operation: the memory that it writes and reads, and its work. ``is_sum``: it only adds numbers up."""

    operator: str
    writes: frozenset[int]
    reads: frozenset[int]
    work: Work
    is_sum: bool = False


class _ScalarOpMode(TorchDispatchMode):
    """Counts the scalar operations of the operators that are dispatched in its context."""

    def __init__(self, fallback: CostFallback | None = None, *, backward: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fallback = fallback
        self.backward = backward
        self.table: dict[str, Work] = {}
        self.undecomposed: set[str] = set()
        self.operator = ""  # the dispatched operator, while it is decomposed
        self.steps: list[_Step] = []  # of that operator
        self.nodes: list[list[_Step]] = []  # steps of the autograd nodes that run now, from the outermost
        self.alive: list[Any] = []  # tensors that are kept, so that their memory is not used again
        self.computed: dict[Any, Any] = {}  # operator and arguments → result, within one decomposition

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.operator:
            return self._inside(op, args, kwargs)
        result = op(*args, **kwargs)
        self.operator = str(op)
        try:
            self._count(op, args, kwargs, result)
            outputs = _memory((result, _mutated(op, args)))
            self._finish(_needed(self.steps, outputs) if outputs else self.steps)
        finally:
            self.operator, self.steps, self.computed = "", [], {}
            if not self.nodes:
                self.alive = []
        return result

    def _inside(self, op: Any, args: Any, kwargs: Any) -> Any:
        """Count an operator inside a decomposition, once for the same arguments."""
        leaves, structure = tree_flatten((args, kwargs))
        key = (op, structure, *(id(leaf) if torch.is_tensor(leaf) else repr(leaf) for leaf in leaves))
        pure = not op._schema.is_mutable and torch.Tag.nondeterministic_seeded not in op.tags
        if pure and key in self.computed:
            return self.computed[key]
        result = op(*args, **kwargs)
        parts = self._count(op, args, kwargs, result)
        if pure:
            result = self.computed[key] = _as_decomposed(result, parts)
        else:
            self.computed = {}
        return result

    def _count(self, op: Any, args: Any, kwargs: Any, result: Any) -> Any:
        """Count an operator. Returns the result of its decomposition, None without one."""
        self.alive.append((args, kwargs, result))
        work = scalar_work(op, args, kwargs, result)
        if work is not None:
            self._step(_memory((result, _mutated(op, args))), _memory((args, kwargs)), work, is_sum=is_reduction(op))
            return None
        try:
            parts = self._parts(op, args, kwargs)
        except Exception:  # the decomposition does not run on fake tensors
            parts = NotImplemented
        if parts is not NotImplemented:
            self._identify(result, parts, op, args)
            return parts
        work = self.fallback(op, args, kwargs, result) if self.fallback else None
        if work is None:
            self.undecomposed.add(str(op) if str(op) == self.operator else f"{op} in {self.operator}")
        self._step(_memory((result, _mutated(op, args))), _memory((args, kwargs)), work or ZERO)
        return None

    def _parts(self, op: Any, args: Any, kwargs: Any) -> Any:
        """Run and count the decomposition of an operator. Returns its result, or NotImplemented without one."""
        start = len(self.steps)
        try:
            with self:
                if op.name().partition(".")[0] in OPDEFS and op.namespace not in ("prims", "aten"):
                    return OPDEFS[op._schema.name]._init_fn(*args, **kwargs)
                if op is prims.var.default:
                    return _variance(*args, **kwargs)
                expansion = decompositions().get(functional(op))
                return expansion(*args, **kwargs) if expansion is not None else op.decompose(*args, **kwargs)
        except Exception:
            del self.steps[start:]
            raise

    def _identify(self, result: Any, parts: Any, op: Any, args: Any) -> None:
        """Identify the results of a decomposition with those of the operator, in order."""
        many = isinstance(result, (tuple, list)) and isinstance(parts, (tuple, list)) and len(result) == len(parts)
        for value, part in zip(result, parts, strict=True) if many else [(result, parts)]:
            self._step(_memory(value), _memory(part), ZERO)
        for argument in _mutated(op, args):
            self._step(_memory(argument), _memory((argument, parts)), ZERO)
        self.alive.append(parts)

    def _step(self, writes: frozenset[int], reads: frozenset[int], work: Work, *, is_sum: bool = False) -> None:
        if writes != reads or work:
            self.steps.append(_Step(self.operator, writes, reads, work, is_sum))

    def _finish(self, steps: list[_Step]) -> None:
        """Assign the steps of an operator to the autograd node that runs; outside of any, the engine adds gradients."""
        if self.nodes:
            self.nodes[-1] += steps
            return
        for step in steps:
            if self.backward:
                step = _Step(FAN_IN, step.writes, step.reads, _as_accumulate(step.work))
            self._add(step.operator, step.work)

    def _add(self, operator: str, work: Work) -> None:
        if work:
            self.table[operator] = self.table.get(operator, ZERO) + work

    def begin_node(self) -> None:
        """Called before an autograd node runs."""
        self.nodes.append([])

    def end_node(self, gradients: Any) -> None:
        """Called after an autograd node, with its gradients: a sum that is one of them is ``accumulate``."""
        steps = self.nodes.pop()
        unchanged = set(_memory(gradients))
        for step in reversed(steps):
            if step.writes & unchanged:
                if step.is_sum:
                    step.work = _as_accumulate(step.work)
                elif not step.work:
                    unchanged |= step.reads
        for step in steps:
            self._add(step.operator, step.work)
        if not self.nodes:
            self.alive = []


@contextmanager
def _autograd_nodes(mode: _ScalarOpMode) -> Iterator[None]:
    """Tell a mode when each autograd node begins and ends. Operators between two nodes are the engine's."""
    owner, name = engine()
    run = getattr(owner, name)

    def run_with_hooks(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        handles = []
        for node in _nodes(tensors):
            handles.append(node.register_prehook(lambda _: mode.begin_node()))
            handles.append(node.register_hook(lambda gradients, _: mode.end_node(gradients)))
        outer, mode.nodes = mode.nodes, []  # a node may run an engine of its own
        alive, mode.alive = mode.alive, []
        try:
            return run(tensors, *args, **kwargs)
        finally:
            mode.nodes, mode.alive = outer, alive
            for handle in handles:
                handle.remove()

    setattr(owner, name, run_with_hooks)
    try:
        yield
    finally:
        setattr(owner, name, run)


def _nodes(tensors: Any) -> set[Any]:
    """The nodes of the autograd graph that compute some tensors."""
    nodes: set[Any] = set()
    stack: list[Any] = [
        torch.autograd.graph.get_gradient_edge(tensor).node for tensor in tensors if tensor.requires_grad
    ]
    while stack:
        node = stack.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            stack += [next_node for next_node, _ in node.next_functions]
    return nodes


# -- dependencies ------------------------------------------------------------------------------------------------


def _needed(steps: list[_Step], outputs: frozenset[int]) -> list[_Step]:
    """The steps that some outputs depend on, in order."""
    needed_memory, needed = set(outputs), []
    for step in reversed(steps):
        if step.writes & needed_memory:
            needed_memory |= step.reads
            needed.append(step)
    return needed[::-1]


def _memory(value: Any) -> frozenset[int]:
    """The storages of the tensors in a container; a view has that of its base."""
    tensors = (leaf for leaf in tree_leaves(value) if torch.is_tensor(leaf))
    return frozenset(tensor.untyped_storage()._cdata for tensor in tensors if not tensor.is_sparse)


def _mutated(op: Any, args: Any) -> list[Any]:
    """The arguments that an operator writes to."""
    mutable = [argument.alias_info is not None and argument.alias_info.is_write for argument in op._schema.arguments]
    return [value for value, is_mutable in zip(args, mutable, strict=False) if is_mutable and value is not None]


def _as_decomposed(result: Any, parts: Any) -> Any:
    """The result of a decomposition in place of the operator's, so that equal values are the same object."""
    if isinstance(result, tuple) and isinstance(parts, (tuple, list)) and len(result) == len(parts):
        return tuple(map(_as_decomposed, result, parts))
    are_tensors = torch.is_tensor(result) and torch.is_tensor(parts)
    return parts if are_tensors and (result.shape, result.dtype) == (parts.shape, parts.dtype) else result


def _as_accumulate(work: Work) -> Work:
    return Work(accumulate=work.elementwise + work.accumulate)


def _variance(x: Any, dims: Any, correction: float = 1, **_: Any) -> Any:
    """Σ (x − mean)² / (n − correction), with the mean that ``var_mean`` computes too."""
    n = 1
    for dim in dims:
        n *= x.shape[dim]
    centred = x - aten.mean.dim(x, dims, True)
    return aten.sum.dim_IntList(centred * centred, dims) / (n - correction)
