"""An ``autograd.Function`` that no rule names is counted by its own code, forward and backward.

Its backward is run once on stand-ins, as soon as its forward has run. All that it calls is written down as work of the
backward pass, done if a gradient comes to one of the results. The call itself is a node as well, which costs nothing:
gradients flow through it to whatever its backward gives a gradient of.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphflops.capture.aborts import FoldingAborted
from graphflops.capture.checkpoints import RetainSavedTensors
from graphflops.capture.function_apply import materializes_grads
from graphflops.capture.handlers import CallHandler
from graphflops.capture.hook_runs import run_in_backward_pass
from graphflops.capture.interception import intercept, intercept_functions, intercept_operators, is_interceptor
from graphflops.capture.record import Hook, NodeRecord, record_of
from graphflops.capture.writer import GraphWriter
from graphflops.core.entries import BY_ITS_OWN_CODE
from graphflops.core.messages import format_error, shortened
from graphflops.core.torch_compat import (
    DisableTorchFunction,
    OpOverload,
    applied_by,
    in_backward,
    last_node,
    no_modes_above,
    no_saved_tensors_hooks,
    nodes_after,
    python_kernels,
    tree_leaves,
)
from graphflops.rules.targets import qualified_name

RESULT = "its forward's"
"""the name under which such a call reads what its forward made"""
PARAMETERS = "its parameters"
"""the name under which such a call has what its backward adds up gradients of by itself"""
_NEVER = Hook(print, lambda: None, (), "dgrad", "")
"""of what is not counted: the hook of no gradient"""


def arguments(cls: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a Function is applied to, by the names of its forward; what ``*rest`` takes is a tuple under that name."""
    names = list(inspect.signature(cls.forward).parameters.values())
    if cls.setup_context is torch.autograd.Function.setup_context:
        names = names[1:]  # the first is ctx
    found: dict[str, Any] = {}
    for i, name in enumerate(names):
        if name.kind is name.VAR_POSITIONAL:
            found[name.name] = tuple(args[i:])
            break
        if i < len(args):
            found[name.name] = args[i]
    return {**found, **kwargs}


def _operand_names(offered: Mapping[str, Any], many: int) -> list[str]:
    """The name of the operand at each position."""
    names: list[str] = []
    for name, value in offered.items():
        left = many - len(names)
        several = isinstance(value, tuple) and len(value) == left and name == list(offered)[-1]
        names += [f"{name}.{i}" for i in range(left)] if several else [name]
    return names[:many]


class OwnCode:
    """The calls of one trace that are counted so."""

    def __init__(self, tracer: GraphWriter, handler: CallHandler) -> None:
        self.tracer = tracer
        self.handler = handler
        self._operators: dict[OpOverload, list[Callable[..., Any]]] = {}
        self._ran: list[OpOverload] = []  # operators that were counted so
        self._retained: list[RetainSavedTensors] = []
        self._waiting: list[tuple[fx.Node, Callable[[Set[fx.Node]], None]]] = []

    def call(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any, call: Callable[[], Any]) -> Any:
        """The result of a Function: what its forward runs is written down, and what its backward does.

        ``call`` says afterwards under which name it is known; None if a rule spoke for what is in it.
        """
        tracer = self.tracer
        if tracer.hook is not None or in_backward() or tracer.is_transformed():
            return apply(*args, **kwargs)  # autograd itself runs its backward, if it comes to that
        offered = arguments(cls, args, kwargs)
        operands = {name: tracer.as_nodes(value) for name, value in offered.items()}
        flows = tracer.requires_grad_of(offered)
        given = tracer.as_nodes(tuple(args)), tracer.as_nodes(dict(kwargs))
        retained = RetainSavedTensors() if any(each.frame is not None for each in tracer.regions.open()) else None
        self.tracer.own_code_depth += 1
        try:
            with retained.installed() if retained is not None else nullcontext():
                result = apply(*args, **kwargs)
        finally:
            self.tracer.own_code_depth -= 1
        run = None
        if (named := call()) is not None:
            tracer.descriptions.setdefault(named, f"{qualified_name(named)}: {BY_ITS_OWN_CODE}")
            names = _operand_names(offered, len(args))
            run = self._backward_of(result, apply, cls, named, given, names, operands, flows)
        if retained is not None and run is not None:
            self._retained.append(retained)
        elif retained is not None:
            retained.clear()
        return result

    def _backward_of(
        self,
        result: Any,
        apply: Any,
        cls: Any,
        named: Any,
        given: tuple[Any, Any],
        names: Sequence[str],
        operands: Mapping[str, Any],
        flows: dict[fx.Node, bool],
    ) -> Callable[[Set[fx.Node]], None] | None:
        """Write down the call, if gradients go through it, and its backward; what is to run it if it has to wait."""
        tracer = self.tracer
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        with tracer.paused(), DisableTorchFunction():
            through = [torch.is_tensor(each) and each.requires_grad for each in results]
        if not any(through):
            return None
        node = tracer.create_node("call_function", apply, *given)
        self._call(node, named, operands, flows, result)
        parts = [tracer.nodes[id(each)] if does else None for each, does in zip(results, through, strict=True)]
        tracer.read_by_repeats.update(each for each in parts if each is not None)
        with DisableTorchFunction():
            contexts = [each.grad_fn for each, does in zip(results, through, strict=True) if does]
            ctx = next((each for each in contexts if applied_by(each) is cls), None)
        if ctx is None:
            record_of(node).own_code = "its results are views that were written to, which have another history"
            return None
        zeros = materializes_grads(ctx)
        if zeros or sum(through) == 1:
            self._run_backward(node, cls, ctx, given[0], names, results, parts, zeros)
            return None
        tracer.on_unrepeatable()  # it asks which of its results have a gradient

        def run(live: Set[fx.Node]) -> None:
            some = [each if each in live else None for each in parts]
            if any(some):
                self._run_backward(node, cls, ctx, given[0], names, results, some, zeros)

        self._waiting.append((node, run))
        return run

    def is_of_python(self, op: OpOverload) -> bool:
        """Whether an operator that no rule names is counted by the Python function that it was made of."""
        if op not in self._operators:
            tracer = self.tracer
            unknown = op.namespace != "aten" and tracer.book.find(op) is None and not tracer.is_opaque(op)
            self._operators[op] = python_kernels(op) if unknown else []
        return bool(self._operators[op])

    def operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """The result of an operator by its Python function, whose operators are written down; the operator if it fails.

        No gradient goes through these: it has a Function of its own if it has one.
        """
        tracer = self.tracer
        given = tracer.as_nodes(tuple(args)), tracer.as_nodes(dict(kwargs))
        flows = dict.fromkeys(tracer.requires_grad_of((args, kwargs)), False)
        for kernel in self._operators[op]:
            last = last_node(tracer.graph)
            try:
                result = self.inside(kernel, args, kwargs)
            except FoldingAborted:
                raise
            except Exception:  # it needs data, or a device: it is unknown, and what did run of it is not counted
                for node in nodes_after(tracer.graph, last):
                    record_of(node).hook = _NEVER
                continue
            self._ran.append(op)
            tracer.descriptions.setdefault(op, f"{qualified_name(op)}: {BY_ITS_OWN_CODE}")
            if any(map(torch.is_tensor, tree_leaves(result))):
                node = tracer.create_node("call_function", op, *given)
                self._call(node, op, {"arguments": list(flows)}, flows, result)
            return result
        return tracer.record_operator(op, args, kwargs, op)

    def inside(self, kernel: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The result of what an operator runs, which is written down, where autograd does not look on."""
        tracer = self.tracer
        self.tracer.own_code_depth += 1
        try:
            is_function = inspect.isfunction(kernel)
            seen = intercept(self.handler, tracer.values) if is_function else intercept_operators(self.handler)
            with seen, torch.no_grad():
                return kernel(*args, **kwargs)
        finally:
            self.tracer.own_code_depth -= 1

    def of_operator(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """The result of the Function of an operator, which is as any other if the operator is counted by its code."""
        before = len(self._ran)
        return self.call(apply, cls, args, kwargs, lambda: self._ran[-1] if len(self._ran) > before else None)

    def _call(
        self, node: fx.Node, call: Any, operands: Mapping[str, Any], flows: dict[fx.Node, bool], result: Any
    ) -> None:
        """Write down a call whose work is that of what it ran."""
        tracer = self.tracer
        results = result if isinstance(result, (tuple, list)) else [result]
        made = [tracer.as_nodes(each) for each in results if torch.is_tensor(each)]
        for each in made:
            flows.setdefault(each, False)
        node.meta["record"] = NodeRecord(
            call=call,
            operands={**operands, RESULT: made},
            module_path=tracer.module_paths[-1],
            line=tracer.current_line(),
            requires_grad=flows,
            own_code="",
            place=tracer.place_without_calls(),
        )
        tracer.register(node, result)
        tracer.read_by_repeats.update(made)

    def run_those_that_wait(self, outputs: Mapping[fx.Node, bool]) -> None:
        """Run the backward of each that does otherwise if no gradient comes to one of its results."""
        for node, run in reversed(self._waiting):
            self.tracer.module_paths.append(record_of(node).module_path or "")
            try:
                run(_live(self.tracer.graph, outputs))
            finally:
                self.tracer.module_paths.pop()
        self._waiting.clear()
        for each in self._retained:
            each.clear()

    def _run_backward(
        self,
        node: fx.Node,
        cls: Any,
        ctx: Any,
        given: Sequence[Any],
        names: Sequence[str],
        results: Sequence[Any],
        through: Sequence[fx.Node | None],
        zeros: bool,
    ) -> None:
        """Run a backward on what comes to each result, and write down what it runs."""
        tracer = self.tracer
        triggers = tuple(each for each in through if each is not None)
        hook = Hook(cls.backward, lambda: None, triggers, "dgrad", tracer.module_paths[-1])
        gradients = self._gradients(node, results, through, zeros)
        last = last_node(tracer.graph)
        returned: list[Any] = []

        def run() -> None:
            with intercept_functions(self.handler, tracer.values):
                found = ctx.apply(*gradients)
            returned.extend(found if isinstance(found, (tuple, list)) else [found])

        with self._leaves_as_they_were() as accumulated, _aside():
            tracer.hook = hook
            try:
                run_in_backward_pass(tracer, run)
            except FoldingAborted:
                raise
            except Exception as error:  # what of it did run is counted
                record_of(node).own_code = shortened(format_error(error).splitlines()[0], 300)
            finally:
                tracer.hook = None
                into = accumulated()
        self._lead(node, hook, list(nodes_after(tracer.graph, last)), given, names, returned, into)

    def _gradients(self, node: fx.Node, results: Sequence[Any], through: Sequence[Any], zeros: bool) -> list[Any]:
        """What comes to each result: a gradient; where none can come, zeros or None, as PyTorch does."""
        tracer = self.tracer
        gradients: list[Any] = []
        for i, (each, flows) in enumerate(zip(results, through, strict=True)):
            if not (torch.is_tensor(each) and (zeros or flows is not None)):
                gradients.append(None)
                continue
            with tracer.paused():
                gradient = tracer.gradient_like(each)
            owner = tracer.module_paths[-1]
            name = ".".join(filter(None, (owner, node.name, f"gradient_{i}")))
            source = tracer.create_named_node("get_attr", name, (), {})
            record_of(source).module_path = owner
            tracer.register(source, gradient)
            gradients.append(gradient)
        return gradients

    @contextmanager
    def _leaves_as_they_were(self) -> Iterator[Callable[[], dict[fx.Node, Any]]]:
        """What autograd adds up in ``.grad`` while this is open is told, and taken out again."""
        tracer = self.tracer
        before: dict[int, tuple[torch.Tensor, Any]] = {}

        def leaves() -> Iterator[tuple[fx.Node, torch.Tensor]]:
            for op in ("get_attr", "placeholder"):
                for node in tracer.graph.find_nodes(op=op, sort=False):
                    value = record_of(node).value
                    if torch.is_tensor(value) and value.is_leaf and value.requires_grad:
                        yield node, value

        with DisableTorchFunction():
            for _, leaf in leaves():
                if leaf.grad is not None:
                    before[id(leaf)] = leaf, leaf.grad
                    leaf.grad = None

        def accumulated() -> dict[fx.Node, Any]:
            with DisableTorchFunction():
                return {node: leaf.grad for node, leaf in leaves() if leaf.grad is not None}

        try:
            yield accumulated
        finally:
            with DisableTorchFunction():
                for _, leaf in leaves():
                    if leaf.grad is not None:
                        leaf.grad = None
                for leaf, gradient in before.values():
                    leaf.grad = gradient

    def _lead(
        self,
        node: fx.Node,
        hook: Hook,
        nodes: Sequence[fx.Node],
        given: Sequence[Any],
        names: Sequence[str],
        returned: Sequence[Any],
        accumulated: Mapping[fx.Node, Any],
    ) -> None:
        """Say of what ran in the backward which gradients it is for, and of which operands there are any."""
        tracer, record = self.tracer, record_of(node)
        leads: dict[fx.Node, set[str]] = {}
        flows = record.requires_grad
        assert flows is not None
        for name, gradient in zip(names, returned, strict=False):
            if torch.is_tensor(gradient) and (made := tracer.nodes.get(id(gradient))) is not None:
                leads.setdefault(made, set()).add(name)
        if accumulated:
            record.operands[PARAMETERS] = list(accumulated)
        for i, (leaf, gradient) in enumerate(accumulated.items()):
            name = f"{PARAMETERS}.{i}"
            flows[leaf] = True
            if (made := tracer.nodes.get(id(gradient))) is not None:
                leads.setdefault(made, set()).add(name)
            if leaf in nodes:
                node.prepend(leaf)  # it was first met in the backward
        for each in reversed(nodes):
            found = leads.get(each, set())
            for read in (*each.all_input_nodes, *(record_of(each).requires_grad or ())):
                leads.setdefault(read, set()).update(found)
            if record_of(each).hook is hook:
                record_of(each).hook = replace(hook, gradients=frozenset(found))
        if not record.own_code:
            flowing = {each for each, gradient in zip(given, returned, strict=False) if gradient is not None}
            for operand in flows:
                if operand not in flowing and operand not in accumulated:
                    flows[operand] = False


def _live(graph: fx.Graph, outputs: Mapping[fx.Node, bool]) -> set[fx.Node]:
    """The nodes that a gradient of one of the outputs comes to."""
    live = {node for node, flows in outputs.items() if flows}
    of_repeat = False  # whether a result is live of the block that comes next, which repeats another one
    for node in reversed(graph.nodes):
        record = record_of(node)
        if of_repeat and record.repeat is not None:
            of_repeat = False
            live.update(each for each in record.repeat.inputs if each is not None)
        if node not in live:
            continue
        of_repeat = of_repeat or record.part_of is not None
        flows = dict.fromkeys(node.all_input_nodes, True) if record.requires_grad is None else record.requires_grad
        live.update(each for each, does in flows.items() if does)
    return live


@contextmanager
def _aside() -> Iterator[None]:
    """Without what a program has open where a Function is called: its backward runs outside of all that."""
    with no_saved_tensors_hooks(), no_modes_above(is_interceptor), ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
