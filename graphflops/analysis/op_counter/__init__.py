"""The primitives witness: every dispatched operator expanded to single arithmetic operations, and those counted.

A call runs forward, and backward from all its outputs, on fake tensors. Each operator that is dispatched is taken apart
by PyTorch's own decompositions, or by a custom operator's own Python, again and again, until single operations are
left. It knows nothing of rules.

    >>> import torch
    >>> from graphflops.analysis.op_counter import count_scalar_ops
    >>> count_scalar_ops(torch.nn.Linear(4, 8), (torch.zeros(2, 4),)).forward
    Work(macs=64)

What is counted is what the results need: a decomposition that makes all gradients where one is asked for, or one mean
twice, counts one. In the backward pass a sum whose result is a gradient as it stands (of a bias, of what was broadcast
or picked by index) is ``accumulate``, and so is what the engine adds where gradients meet; a sum that is computed with
is not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from graphflops.analysis.mac_counter import FakeImpls, math_attention_mode
from graphflops.analysis.op_counter.operations import functional, is_reduction, single_operations
from graphflops.capture.constant_propagation import ConstantPropagation, retry_with_branches_flipped
from graphflops.capture.fake_tensors import FakeTensors
from graphflops.capture.isolation import run_isolated
from graphflops.capture.outputs import tensors_in
from graphflops.capture.replay import as_module
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

aten = torch.ops.aten
prims = torch.ops.prims

FAN_IN = "gradient fan-in"

Known = Callable[[OpOverload, tuple[Any, ...], Mapping[str, Any], Any], "Work | None"]
"""What an operator costs, by its arguments and its result, or None if that is not known."""


@dataclass(frozen=True)
class ScalarOpCount:
    """Single operations of a call, as a whole and for each operator that was dispatched.

    ``undecomposed`` names the operators that could be neither taken apart nor counted: they are in no number.
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
    through: Collection[int] | None = None,
    known: Known | None = None,
) -> ScalarOpCount:
    """Run a call forward, and backward from all its outputs to whatever requires grad, on fake tensors.

    A sum of n numbers counts n additions, the first of them into zero. Complex work is given in real operations.
    ``frozen``: no parameter of a module requires grad. ``through`` are the indices of the results that gradients come
    back through, all of them unless told. ``known`` is asked about the operators that can be neither
    taken apart nor counted.

    Whatever the call raises on fake tensors is raised here too; it is never written to, nor are modules among its
    arguments.
    """
    return run_isolated(lambda: _executed(call, (tuple(args), dict(kwargs or {})), training, frozen, through, known))


def _executed(
    call: Callable[..., Any],
    given: tuple[tuple[Any, ...], dict[str, Any]],
    training: bool,
    frozen: bool,
    through: Collection[int] | None,
    known: Known | None,
) -> ScalarOpCount:
    call = as_module(call)
    owner = getattr(call, "__self__", None)
    modules = [each for each in (call, owner, *tree_leaves(given)) if isinstance(each, nn.Module)]
    root = call if isinstance(call, nn.Module) and len(modules) == 1 else nn.ModuleList(modules)

    def attempt(values: ConstantPropagation) -> ScalarOpCount:
        fakes = values.fakes
        copied = fakes.copier.copy
        with fakes.fake_mode(), torch.set_grad_enabled(training), FakeImpls(values):
            with DisableTorchFunction():
                program, inner = copied(call), copied(root)
            for parameter in inner.parameters():
                parameter.requires_grad_(parameter.requires_grad and not frozen)

            def fake(each: Any) -> Any:
                if not torch.is_tensor(each):
                    return copied(each)
                made = fakes.fake_for_input(each)
                return made.clone() if each.requires_grad and not isinstance(each, nn.Parameter) else made

            made: dict[int, Any] = {}
            fake_args, fake_kwargs = tree_map(lambda each: made.setdefault(id(each), fake(each)), given)
            forward, backward = _Primitives(known), _Primitives(known, backward=True)
            with math_attention_mode(values), forward:
                result = program(*fake_args, **fake_kwargs)
            results = result if isinstance(result, (tuple, list)) else (result,)
            used = result if through is None else [each for i, each in enumerate(results) if i in through]
            ends = [each for each in tensors_in(used) if each.requires_grad]
            with math_attention_mode(values), backward, _formulas(backward):
                if ends:
                    torch.autograd.backward(ends, [torch.ones_like(each) for each in ends])
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


# -- watching ------------------------------------------------------------------------------------------------------


@dataclass
class _Step:
    """One operation: memory written, memory read, and its work. ``sums`` says that it only adds numbers up."""

    operator: str
    made: frozenset[int]
    read: frozenset[int]
    work: Work
    sums: bool = False


class _Primitives(TorchDispatchMode):
    """Counts the single operations of whatever is dispatched while it is on."""

    def __init__(self, known: Known | None = None, *, backward: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.backward = backward
        self.table: dict[str, Work] = {}
        self.undecomposed: set[str] = set()
        self.operator = ""  # the one that was dispatched, while it is taken apart
        self.steps: list[_Step] = []  # of that one
        self.formulas: list[list[_Step]] = []  # of the gradient formulas that run now, one inside of the other
        self.kept: list[Any] = []  # so that memory stays its tensor's own
        self.same: dict[Any, Any] = {}  # what was computed from what → its result

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.operator:
            return self._inside(op, args, kwargs)
        result = op(*args, **kwargs)
        self.operator = str(op)
        try:
            self._count(op, args, kwargs, result)
            wanted = _memories((result, _written(op, args)))
            self._close(_needed(self.steps, wanted) if wanted else self.steps)
        finally:
            self.operator, self.steps, self.same = "", [], {}
            if not self.formulas:
                self.kept = []
        return result

    def _inside(self, op: Any, args: Any, kwargs: Any) -> Any:
        """An operator of a decomposition; what was computed before, of the same, is not computed again."""
        leaves, structure = tree_flatten((args, kwargs))
        key = (op, structure, *(id(each) if torch.is_tensor(each) else repr(each) for each in leaves))
        pure = not op._schema.is_mutable and torch.Tag.nondeterministic_seeded not in op.tags
        if pure and key in self.same:
            return self.same[key]
        result = op(*args, **kwargs)
        parts = self._count(op, args, kwargs, result)
        if pure:
            result = self.same[key] = _as_made(result, parts)
        else:
            self.same = {}
        return result

    def _count(self, op: Any, args: Any, kwargs: Any, result: Any) -> Any:
        """Count an operator; the result of its decomposition, if it has one."""
        self.kept.append((args, kwargs, result))
        work = single_operations(op, args, kwargs, result)
        if work is not None:
            self._step(_memories((result, _written(op, args))), _memories((args, kwargs)), work, sums=is_reduction(op))
            return None
        try:
            parts = self._parts(op, args, kwargs)
        except Exception:  # a decomposition that fake tensors cannot follow is no count
            parts = NotImplemented
        if parts is not NotImplemented:
            self._same(result, parts, op, args)
            return parts
        work = self.known(op, args, kwargs, result) if self.known else None
        if work is None:
            self.undecomposed.add(str(op) if str(op) == self.operator else f"{op} in {self.operator}")
        self._step(_memories((result, _written(op, args))), _memories((args, kwargs)), work or ZERO)
        return None

    def _parts(self, op: Any, args: Any, kwargs: Any) -> Any:
        """The result of an operator as its decomposition makes it, which is counted; or NotImplemented."""
        before = len(self.steps)
        try:
            with self:
                if op.name().partition(".")[0] in OPDEFS and op.namespace not in ("prims", "aten"):
                    return OPDEFS[op._schema.name]._init_fn(*args, **kwargs)
                if op is prims.var.default:
                    return _variance(*args, **kwargs)
                expansion = decompositions().get(functional(op))
                return expansion(*args, **kwargs) if expansion is not None else op.decompose(*args, **kwargs)
        except Exception:
            del self.steps[before:]
            raise

    def _same(self, result: Any, parts: Any, op: Any, args: Any) -> None:
        """What a decomposition made is what the operator made: the first of one the first of the other."""
        many = isinstance(result, (tuple, list)) and isinstance(parts, (tuple, list)) and len(result) == len(parts)
        for mine, its in zip(result, parts, strict=True) if many else [(result, parts)]:
            self._step(_memories(mine), _memories(its), ZERO)
        for each in _written(op, args):
            self._step(_memories(each), _memories((each, parts)), ZERO)
        self.kept.append(parts)

    def _step(self, made: frozenset[int], read: frozenset[int], work: Work, *, sums: bool = False) -> None:
        if made != read or work:
            self.steps.append(_Step(self.operator, made, read, work, sums))

    def _close(self, steps: list[_Step]) -> None:
        """What an operator did goes to the gradient formula that it is in; in none, the engine adds."""
        if self.formulas:
            self.formulas[-1] += steps
            return
        for step in steps:
            if self.backward:
                step = _Step(FAN_IN, step.made, step.read, _as_sums(step.work))
            self._add(step.operator, step.work)

    def _add(self, operator: str, work: Work) -> None:
        if work:
            self.table[operator] = self.table.get(operator, ZERO) + work

    def begin(self) -> None:
        """A gradient formula begins."""
        self.formulas.append([])

    def end(self, gradients: Any) -> None:
        """A gradient formula has made these gradients: a sum that is one of them, as it stands, is accumulate."""
        steps = self.formulas.pop()
        as_they_stand = set(_memories(gradients))
        for step in reversed(steps):
            if step.made & as_they_stand:
                if step.sums:
                    step.work = _as_sums(step.work)
                elif not step.work:
                    as_they_stand |= step.read
        for step in steps:
            self._add(step.operator, step.work)
        if not self.formulas:
            self.kept = []


@contextmanager
def _formulas(watcher: _Primitives) -> Iterator[None]:
    """Tell the watcher when a gradient formula begins and ends; what runs between two of them is the engine's."""
    owner, name = engine()
    run = getattr(owner, name)

    def watched(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        handles = []
        for node in _nodes(tensors):
            handles.append(node.register_prehook(lambda _: watcher.begin()))
            handles.append(node.register_hook(lambda gradients, _: watcher.end(gradients)))
        outer, watcher.formulas = watcher.formulas, []  # a formula may run an engine of its own
        kept = watcher.kept
        watcher.kept = []
        try:
            return run(tensors, *args, **kwargs)
        finally:
            watcher.formulas, watcher.kept = outer, kept
            for handle in handles:
                handle.remove()

    setattr(owner, name, watched)
    try:
        yield
    finally:
        setattr(owner, name, run)


def _nodes(tensors: Any) -> set[Any]:
    """The nodes of autograd's graph behind tensors."""
    found: set[Any] = set()
    waiting: list[Any] = [torch.autograd.graph.get_gradient_edge(each).node for each in tensors if each.requires_grad]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [each for each, _ in node.next_functions]
    return found


# -- what is needed ------------------------------------------------------------------------------------------------


def _needed(steps: list[_Step], wanted: frozenset[int]) -> list[_Step]:
    """The steps that lead to what is wanted, in their order."""
    alive, found = set(wanted), []
    for step in reversed(steps):
        if step.made & alive:
            alive |= step.read
            found.append(step)
    return found[::-1]


def _memories(value: Any) -> frozenset[int]:
    """The memory of the tensors in a container; a view has that of its base."""
    tensors = (each for each in tree_leaves(value) if torch.is_tensor(each))
    return frozenset(each.untyped_storage()._cdata for each in tensors if not each.is_sparse)


def _written(op: Any, args: Any) -> list[Any]:
    """The arguments that an operator writes to."""
    writes = [each.alias_info is not None and each.alias_info.is_write for each in op._schema.arguments]
    return [each for each, is_written in zip(args, writes, strict=False) if is_written and each is not None]


def _as_made(result: Any, parts: Any) -> Any:
    """What a decomposition made, for what it stands for, so that two ways to one value are seen to be one."""
    if isinstance(result, tuple) and isinstance(parts, (tuple, list)) and len(result) == len(parts):
        return tuple(map(_as_made, result, parts))
    both = torch.is_tensor(result) and torch.is_tensor(parts)
    return parts if both and (result.shape, result.dtype) == (parts.shape, parts.dtype) else result


def _as_sums(work: Work) -> Work:
    return Work(accumulate=work.elementwise + work.accumulate)


def _variance(x: Any, dims: Any, correction: float = 1, **_: Any) -> Any:
    """Σ (x − mean)² / (n − correction), of the same mean that comes with it."""
    n = 1
    for dim in dims:
        n *= x.shape[dim]
    centred = x - aten.mean.dim(x, dims, True)
    return aten.sum.dim_IntList(centred * centred, dims) / (n - correction)
