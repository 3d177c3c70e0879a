"""Custom functions: an ``autograd.Function`` without a rule is counted by the operators of its forward and backward.

Its backward is run once on fake tensors, as soon as its forward has run. The operators that it runs are recorded as
work of the backward pass, which is done if a gradient reaches one of the results. The call is a node as well, which is
free: gradients flow through it to the operands that its backward returns a gradient of.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import fx

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
from graphflops.tracing.copies.fake_tensors import tensors_of
from graphflops.tracing.interception.function_apply import materializes_grads
from graphflops.tracing.interception.interception import (
    intercept,
    intercept_functions,
    intercept_operators,
    is_interceptor,
)
from graphflops.tracing.recording.checkpoints import RetainSavedTensors
from graphflops.tracing.recording.hook_runs import run_in_backward_pass
from graphflops.tracing.recording.record import Hook, NodeRecord, record_of
from graphflops.tracing.recording.writer import GraphWriter
from graphflops.tracing.session.aborts import FoldingAborted
from graphflops.tracing.session.handlers import CallHandler

RESULT = "its forward's"
"""name of the operand that lists the results of the forward"""
PARAMETERS = "its parameters"
"""name of the operand that lists the leaves whose gradients the backward accumulates itself"""
_NOT_COUNTED = Hook(print, lambda: None, (), "dgrad", "")
"""the hook of operators that are not counted: no gradient triggers it"""


def function_arguments(cls: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a Function by the names in its forward; those of ``*rest`` are a tuple under that name."""
    parameters = list(inspect.signature(cls.forward).parameters.values())
    if cls.setup_context is torch.autograd.Function.setup_context:
        parameters = parameters[1:]  # the first is ctx
    arguments: dict[str, Any] = {}
    for i, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            arguments[parameter.name] = tuple(args[i:])
            break
        if i < len(args):
            arguments[parameter.name] = args[i]
    return {**arguments, **kwargs}


def _operand_names(arguments: Mapping[str, Any], count: int) -> list[str]:
    """The names of the first ``count`` operands."""
    names: list[str] = []
    for name, value in arguments.items():
        remaining = count - len(names)
        is_variadic = isinstance(value, tuple) and len(value) == remaining and name == list(arguments)[-1]
        names += [f"{name}.{i}" for i in range(remaining)] if is_variadic else [name]
    return names[:count]


class CustomFunctions:
    """The calls of one trace that are counted by the operators that they run."""

    def __init__(self, tracer: GraphWriter, handler: CallHandler) -> None:
        self.tracer = tracer
        self.handler = handler
        self._operators: dict[OpOverload, list[Callable[..., Any]]] = {}
        self._counted: list[OpOverload] = []  # operators that were counted by their Python function
        self._retained: list[RetainSavedTensors] = []
        self._deferred: list[tuple[fx.Node, Callable[[Set[fx.Node]], None]]] = []

    def call(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any, target: Callable[[], Any]) -> Any:
        """The result of a Function, of which the operators of forward and backward are recorded.

        ``target()`` returns afterwards what the call is a call of; None if a rule has counted it.
        """
        tracer = self.tracer
        if tracer.hook is not None or in_backward() or tracer.is_transformed():
            return apply(*args, **kwargs)  # autograd runs its backward itself, if it is needed
        arguments = function_arguments(cls, args, kwargs)
        operands = {name: tracer.as_nodes(value) for name, value in arguments.items()}
        requires_grad = tracer.requires_grad_of(arguments)
        nodes = tracer.as_nodes(tuple(args)), tracer.as_nodes(dict(kwargs))
        retained = RetainSavedTensors() if any(region.frame is not None for region in tracer.regions.open()) else None
        self.tracer.own_code_depth += 1
        try:
            with retained.installed() if retained is not None else nullcontext():
                result = apply(*args, **kwargs)
        finally:
            self.tracer.own_code_depth -= 1
        run = None
        if (called := target()) is not None:
            tracer.descriptions.setdefault(called, f"{qualified_name(called)}: {BY_ITS_OWN_CODE}")
            names = _operand_names(arguments, len(args))
            run = self._record_backward(result, apply, cls, called, nodes, names, operands, requires_grad)
        if retained is not None and run is not None:
            self._retained.append(retained)
        elif retained is not None:
            retained.clear()
        return result

    def _record_backward(
        self,
        result: Any,
        apply: Any,
        cls: Any,
        called: Any,
        nodes: tuple[Any, Any],
        names: Sequence[str],
        operands: Mapping[str, Any],
        requires_grad: dict[fx.Node, bool],
    ) -> Callable[[Set[fx.Node]], None] | None:
        """Record the call, if a result requires grad, and its backward; returns a function that runs a deferred one."""
        tracer = self.tracer
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        with tracer.paused(), DisableTorchFunction():
            differentiable = [torch.is_tensor(part) and part.requires_grad for part in results]
        if not any(differentiable):
            return None
        node = tracer.create_node("call_function", apply, *nodes)
        self._record_call(node, called, operands, requires_grad, result)
        pairs = list(zip(results, differentiable, strict=True))
        parts = [tracer.nodes[id(part)] if has_grad else None for part, has_grad in pairs]
        tracer.read_by_repeats.update(part for part in parts if part is not None)
        with DisableTorchFunction():
            contexts = [part.grad_fn for part, has_grad in pairs if has_grad]
            ctx = next((context for context in contexts if applied_by(context) is cls), None)
        if ctx is None:
            record_of(node).own_code = "is not found: its results are views that were written to"
            return None
        zeros = materializes_grads(ctx)
        if zeros or sum(differentiable) == 1:
            self._run_backward(node, cls, ctx, nodes[0], names, results, parts, zeros)
            return None
        tracer.on_unrepeatable()  # it depends on which of its results have a gradient

        def run(live: Set[fx.Node]) -> None:
            reached = [part if part in live else None for part in parts]
            if any(reached):
                self._run_backward(node, cls, ctx, nodes[0], names, results, reached, zeros)

        self._deferred.append((node, run))
        return run

    def call_forward(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """The result of a Function that runs inside of a leaf: the operators of its backward are not recorded."""
        tracer = self.tracer
        arguments = function_arguments(cls, args, kwargs)
        operands = {name: tracer.as_nodes(value) for name, value in arguments.items()}
        requires_grad = tracer.requires_grad_of(arguments)
        nodes = tracer.as_nodes(tuple(args)), tracer.as_nodes(dict(kwargs))
        result = apply(*args, **kwargs)
        if any(part.requires_grad for part in tensors_of(result)):
            node = tracer.create_node("call_function", apply, *nodes)
            self._record_call(node, cls, operands, requires_grad, result)
            record_of(node).own_code = "is not recorded: it is inside of a call that a rule names"
        return result

    def has_python_kernel(self, op: OpOverload) -> bool:
        """Whether an operator without a rule is counted by the Python function that it was registered with."""
        if op not in self._operators:
            tracer = self.tracer
            is_unknown = op.namespace != "aten" and tracer.book.find(op) is None and not tracer.is_opaque(op)
            self._operators[op] = python_kernels(op) if is_unknown else []
        return bool(self._operators[op])

    def call_operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """The result of an operator by its Python function, whose operators are recorded; if it fails, the operator is.

        No gradient flows through these: an operator with a backward has a Function of its own.
        """
        tracer = self.tracer
        nodes = tracer.as_nodes(tuple(args)), tracer.as_nodes(dict(kwargs))
        requires_grad = dict.fromkeys(tracer.requires_grad_of((args, kwargs)), False)
        for kernel in self._operators[op]:
            last = last_node(tracer.graph)
            try:
                result = self.call_inside(kernel, args, kwargs)
            except FoldingAborted:
                raise
            except Exception:  # it needs data, or a device: the operator is unknown, and what did run is not counted
                for node in nodes_after(tracer.graph, last):
                    record_of(node).hook = _NOT_COUNTED
                continue
            self._counted.append(op)
            tracer.descriptions.setdefault(op, f"{qualified_name(op)}: {BY_ITS_OWN_CODE}")
            if any(map(torch.is_tensor, tree_leaves(result))):
                node = tracer.create_node("call_function", op, *nodes)
                self._record_call(node, op, {"arguments": list(requires_grad)}, requires_grad, result)
            return result
        return tracer.record_operator(op, args, kwargs, op)

    def call_inside(self, kernel: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The result of a kernel below autograd, whose operators are recorded."""
        tracer = self.tracer
        self.tracer.own_code_depth += 1
        try:
            is_function = inspect.isfunction(kernel)
            interception = intercept(self.handler, tracer.values) if is_function else intercept_operators(self.handler)
            with interception, torch.no_grad():
                return kernel(*args, **kwargs)
        finally:
            self.tracer.own_code_depth -= 1

    def call_operator_function(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """The result of the Function of an operator, which is recorded if the operator is counted by its function."""
        counted = len(self._counted)
        return self.call(apply, cls, args, kwargs, lambda: self._counted[-1] if len(self._counted) > counted else None)

    def _record_call(
        self, node: fx.Node, call: Any, operands: Mapping[str, Any], requires_grad: dict[fx.Node, bool], result: Any
    ) -> None:
        """Record a call whose work is that of the operators that it ran."""
        tracer = self.tracer
        results = result if isinstance(result, (tuple, list)) else [result]
        result_nodes = [tracer.as_nodes(part) for part in results if torch.is_tensor(part)]
        for result_node in result_nodes:
            requires_grad.setdefault(result_node, False)
        node.meta["record"] = NodeRecord(
            call=call,
            operands={**operands, RESULT: result_nodes},
            module_path=tracer.module_paths[-1],
            line=tracer.current_line(),
            requires_grad=requires_grad,
            own_code="",
            place=tracer.place_without_calls(),
        )
        tracer.register(node, result)
        tracer.read_by_repeats.update(result_nodes)

    def run_deferred(self, outputs: Mapping[fx.Node, bool]) -> None:
        """Run the backward of each call that depends on which of its results have a gradient."""
        for node, run in reversed(self._deferred):
            self.tracer.module_paths.append(record_of(node).module_path or "")
            try:
                run(_live(self.tracer.graph, outputs))
            finally:
                self.tracer.module_paths.pop()
        self._deferred.clear()
        for retained in self._retained:
            retained.clear()

    def _run_backward(
        self,
        node: fx.Node,
        cls: Any,
        ctx: Any,
        args: Sequence[Any],
        names: Sequence[str],
        results: Sequence[Any],
        parts: Sequence[fx.Node | None],
        zeros: bool,
    ) -> None:
        """Run a backward on fake gradients of the results, and record its operators."""
        tracer = self.tracer
        triggers = tuple(part for part in parts if part is not None)
        hook = Hook(cls.backward, lambda: None, triggers, "dgrad", tracer.module_paths[-1])
        gradients = self._gradients(node, results, parts, zeros)
        last = last_node(tracer.graph)
        returned: list[Any] = []

        def run() -> None:
            with intercept_functions(self.handler, tracer.values):
                grad_inputs = ctx.apply(*gradients)
            returned.extend(grad_inputs if isinstance(grad_inputs, (tuple, list)) else [grad_inputs])

        with self._restored_gradients() as accumulated, _outermost_context():
            tracer.hook = hook
            try:
                run_in_backward_pass(tracer, run)
            except FoldingAborted:
                raise
            except Exception as error:  # the operators that did run are counted
                message = shortened(format_error(error).splitlines()[0], 300)
                record_of(node).own_code = f"does not run on fake tensors: {message}"
            finally:
                tracer.hook = None
                leaf_gradients = accumulated()
        self._attribute(node, hook, list(nodes_after(tracer.graph, last)), args, names, returned, leaf_gradients)

    def _gradients(self, node: fx.Node, results: Sequence[Any], parts: Sequence[Any], zeros: bool) -> list[Any]:
        """A fake gradient of each result; zeros or None where there is none, as in PyTorch."""
        tracer = self.tracer
        gradients: list[Any] = []
        for i, (result, part) in enumerate(zip(results, parts, strict=True)):
            if not (torch.is_tensor(result) and (zeros or part is not None)):
                gradients.append(None)
                continue
            with tracer.paused():
                gradient = tracer.gradient_like(result)
            module_path = tracer.module_paths[-1]
            name = ".".join(filter(None, (module_path, node.name, f"gradient_{i}")))
            source = tracer.create_named_node("get_attr", name, (), {})
            record_of(source).module_path = module_path
            tracer.register(source, gradient)
            gradients.append(gradient)
        return gradients

    @contextmanager
    def _restored_gradients(self) -> Iterator[Callable[[], dict[fx.Node, Any]]]:
        """Restore the ``.grad`` of all leaves; yields a function that returns those accumulated meanwhile, by node."""
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

    def _attribute(
        self,
        node: fx.Node,
        hook: Hook,
        nodes: Sequence[fx.Node],
        args: Sequence[Any],
        names: Sequence[str],
        returned: Sequence[Any],
        accumulated: Mapping[fx.Node, Any],
    ) -> None:
        """Note of each operator of a backward which gradients it is for, and which operands have gradients."""
        tracer, record = self.tracer, record_of(node)
        gradients_by_node: dict[fx.Node, set[str]] = {}
        requires_grad = record.requires_grad
        assert requires_grad is not None
        for name, gradient in zip(names, returned, strict=False):
            if torch.is_tensor(gradient) and (source := tracer.nodes.get(id(gradient))) is not None:
                gradients_by_node.setdefault(source, set()).add(name)
        if accumulated:
            record.operands[PARAMETERS] = list(accumulated)
        for i, (leaf, gradient) in enumerate(accumulated.items()):
            name = f"{PARAMETERS}.{i}"
            requires_grad[leaf] = True
            if (source := tracer.nodes.get(id(gradient))) is not None:
                gradients_by_node.setdefault(source, set()).add(name)
            if leaf in nodes:
                node.prepend(leaf)  # its first use is in the backward
        for inner in reversed(nodes):
            gradients = gradients_by_node.get(inner, set())
            for operand in (*inner.all_input_nodes, *(record_of(inner).requires_grad or ())):
                gradients_by_node.setdefault(operand, set()).update(gradients)
            if record_of(inner).hook is hook:
                record_of(inner).hook = replace(hook, gradients=frozenset(gradients))
        if not record.own_code:
            with_gradient = {node for node, gradient in zip(args, returned, strict=False) if gradient is not None}
            for operand in requires_grad:
                if operand not in with_gradient and operand not in accumulated:
                    requires_grad[operand] = False


def _live(graph: fx.Graph, outputs: Mapping[fx.Node, bool]) -> set[fx.Node]:
    """The nodes that a gradient of one of the outputs reaches."""
    live = {node for node, requires_grad in outputs.items() if requires_grad}
    reaches_repeat = False  # whether a result of the repeated block before is live
    for node in reversed(graph.nodes):
        record = record_of(node)
        if reaches_repeat and record.repeat is not None:
            reaches_repeat = False
            live.update(operand for operand in record.repeat.inputs if operand is not None)
        if node not in live:
            continue
        reaches_repeat = reaches_repeat or record.part_of is not None
        flows = dict.fromkeys(node.all_input_nodes, True) if record.requires_grad is None else record.requires_grad
        live.update(operand for operand, requires_grad in flows.items() if requires_grad)
    return live


@contextmanager
def _outermost_context() -> Iterator[None]:
    """Run a backward without the modes, hooks and autocast that are active where its Function is called."""
    with no_saved_tensors_hooks(), no_modes_above(is_interceptor), ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
