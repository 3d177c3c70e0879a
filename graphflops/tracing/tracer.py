"""The tracer: decides which calls of a model are leaves, and has them recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import fx, nn
from torch.nn.utils.rnn import PackedSequence

from graphflops.core.errors import CaptureError, GraphflopsError
from graphflops.core.torch_compat import (
    SAC_IGNORED_OPS,
    DisableTorchFunction,
    OpOverload,
    called_alone,
    in_backward,
    is_of_custom_operator,
    is_of_transformation,
    module_call,
    tree_leaves,
    tree_map,
)
from graphflops.rules.book import RuleBook
from graphflops.tracing.copies.distributed import distribution_note
from graphflops.tracing.copies.fake_tensors import tensors_of
from graphflops.tracing.copies.function_module import FunctionModule
from graphflops.tracing.copies.layouts import not_dense_error
from graphflops.tracing.copies.reachable_modules import positional_names
from graphflops.tracing.facts import constants_of, input_names, inputs_of, modules_of, parameters_of, shapes_in
from graphflops.tracing.folding.folding import Folding
from graphflops.tracing.folding.identical_blocks import identical_blocks
from graphflops.tracing.folding.replay import captured_from, replayed
from graphflops.tracing.folding.segments import Segment
from graphflops.tracing.interception.composites import aten_operator, has_composite_name, is_composite
from graphflops.tracing.interception.interception import intercept
from graphflops.tracing.interception.math_attention import ATTENTION, math_attention
from graphflops.tracing.interception.torchscript import original_graph_call
from graphflops.tracing.recording.backward_hooks import has_global_module_hooks, module_hooks
from graphflops.tracing.recording.checkpoints import DispatchedOp, RegionPosition
from graphflops.tracing.recording.cleanup import close_regions, drop_bookkeeping
from graphflops.tracing.recording.custom_functions import CustomFunctions, function_arguments
from graphflops.tracing.recording.hook_runs import run_backward_hooks, run_in_backward_pass
from graphflops.tracing.recording.inside import InsideWriter
from graphflops.tracing.recording.outputs import no_gradient_warning, not_counted_warning, refuse_model, tensors_in
from graphflops.tracing.recording.record import Hook, NodeRecord, record_of
from graphflops.tracing.recording.training_steps import TrainingSteps
from graphflops.tracing.recording.writer import OUTSIDE_REGIONS, GraphWriter
from graphflops.tracing.session.aborts import FoldingAborted
from graphflops.tracing.trace import Trace
from graphflops.tracing.values.call_arguments import arguments_by_name
from graphflops.tracing.values.constant_propagation import ConstantPropagation
from graphflops.tracing.values.failures import failure_message
from graphflops.tracing.values.signatures import signature_of


class Tracer(GraphWriter):
    """Runs a copy of a model, and decides which of its calls are leaves: those are recorded by the writer."""

    def __init__(
        self,
        root: nn.Module,
        book: RuleBook,
        values: ConstantPropagation,
        opaque: Sequence[str] = (),
        expanded: Collection[OpOverload] = frozenset(),
        insides: bool = False,
    ) -> None:
        super().__init__(root, book, values, opaque, expanded)
        self.insides = insides  # whether the operators that a leaf runs are recorded too
        self.inside: InsideWriter | None = None  # of the leaf that runs
        values.assumptions.line = self.current_line
        self.name = root.name if isinstance(root, FunctionModule) else type(root).__name__
        self.steps = TrainingSteps(self)
        self.custom_functions = CustomFunctions(self, self)
        self.folding = Folding(self, [])
        self.on_call_begins, self.on_call_written = self.steps.on_call, self.steps.on_recorded
        self.copier.on_optimizer_copied = self.steps.intercept_optimizer
        values.numbers.may_log = self._may_log_numbers
        self.modules = self.fakes.survey
        self.paths: dict[int, str] = {}  # id of a module's copy → its path
        self.failed_at: str | None = None  # path of the module in which an error was raised
        self.hooks: list[Hook] = []  # of modules, in the order in which they ran
        self.ran_backward = False  # whether the program itself runs a backward pass
        self.result: Any = None  # of the program
        on_module, of_pytorch = self.on_module, module_call

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            own: Any = type(module)._call_impl
            return on_module(called_alone if own is of_pytorch else own, module, args, kwargs)

        self._call = call

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, grad: bool, fold: bool = False) -> Trace:
        """Run the root on fake tensors in the place of its inputs, and record the calls."""
        blocks = (
            identical_blocks(self.modules, lambda module: self.is_leaf_module(module, ""))
            if fold and not has_global_module_hooks()
            else []
        )
        with self.fakes.fake_mode(), torch.set_grad_enabled(grad):
            with DisableTorchFunction():
                self.folding = Folding(self, blocks)
                self.on_name, self.on_unrepeatable = self.folding.on_name, self.folding.discard_template
                self.on_write = self.folding.on_tensor_written
                self.program = program = self.copier.copy(self.root)
                self.paths = {id(self.copier.copy_of(module)): path for path, module in self.modules.modules.items()}
                self.folding.on_copied(self.paths)
                placed_args, placed_kwargs = self._place(args, kwargs)
            call: Callable[..., Any] = program
            if isinstance(self.root, fx.GraphModule):
                paths = [block.path for block in blocks]
                call = replayed(self.root, self.copier.copy_of, self._at, paths, self._on_segment, self._on_results)
            try:
                with intercept(self, self.values):
                    self.result = result = call(*placed_args, **placed_kwargs)
                    outputs = self._outputs(result)
                    no_gradient = no_gradient_warning(result) if grad and self._is_without_gradient(outputs) else ""
                    if grad:
                        self.custom_functions.run_deferred(self.requires_grad_of(outputs))
                        run_in_backward_pass(self, lambda: run_backward_hooks(self, self.hooks))
            except (GraphflopsError, FoldingAborted):
                raise
            except Exception as error:
                raise CaptureError(self._failure(error, args, kwargs)) from error
            record_of(self.graph.output(self.as_nodes(outputs))).requires_grad = self._gradients_of_outputs(outputs)
        if not self.steps.is_step:
            for node in self.graph.nodes:
                record_of(node).phase = ""
        drop_bookkeeping(self.graph, self.read_by_repeats)
        close_regions(self.graph)
        return self._trace(no_gradient, grad=grad)

    def _trace(self, no_gradient: str, *, grad: bool) -> Trace:
        parameters = dict(parameters_of(self))
        given = input_names(self, self.values.evaluator.inputs_read)
        used = [f"the values of {', '.join(given)} are used as they were given"] if given else []
        return Trace(
            graph=self.graph,
            modules=dict(modules_of(self)),
            called=frozenset(self.called),
            output_shapes={path: shapes for path, shapes in self.called.items() if shapes},
            name=self.name,
            training=grad,
            inputs=inputs_of(self.graph),
            parameters={name: parameter.numel() for name, parameter in parameters.items()},
            parameter_tensors={name: self.fakes.original_of(parameter) for name, parameter in parameters.items()},
            constant_tensors=dict(constants_of(self)),
            trainable=frozenset(name for name, parameter in parameters.items() if parameter.requires_grad),
            capture_notes=(
                captured_from(self.root),
                *distribution_note(self.modules.modules, self.modules.parameters),
                *self.descriptions.values(),
            ),
            assumptions=(*self.values.assumptions.notes, *used),
            routed_modules=self.values.routing.shares,
            no_gradient=no_gradient,
            is_step=self.steps.is_step,
            optimizers=self._optimizers(),
            recomputed_regions=frozenset(self.steps.reached),
            warnings=(*self.unseen, *(map(not_counted_warning, self.regions.user_hooks) if grad else ())),
        )

    def _failure(self, error: Exception, args: Any, kwargs: Any) -> str:
        evaluator = self.values.evaluator
        without_values = [
            key for key, tensor in evaluator.inputs_without_values.items() if not tensor.is_floating_point()
        ]
        missing, names = list(evaluator.missing_buffer_values), input_names(self, without_values)
        return failure_message(error, self.root, self.name, self.failed_at or "", args, kwargs, missing, names)

    def _outputs(self, result: Any) -> Any:
        """Return the tensors that a model returned, in any container; not real ones that nobody trains."""
        if torch.is_tensor(result):
            return result
        if isinstance(self.root, FunctionModule) and not self.ran_backward:
            refuse_model(self.name, result)
        return tuple(tensor for tensor in tensors_in(result) if tensor.requires_grad or self.fakes.is_fake(tensor))

    def _is_without_gradient(self, outputs: Any) -> bool:
        """Whether there are parameters to train, and no gradient comes from the outputs or the program itself."""
        if self.ran_backward or any(output.requires_grad for output in tree_leaves(outputs)):
            return False
        return any(parameter.requires_grad for _, parameter in parameters_of(self))

    def _gradients_of_outputs(self, outputs: Any) -> dict[fx.Node, bool]:
        """Return the outputs whose gradients will be computed: none after a step, nor where backward already ran."""
        stepped = bool(self.steps.optimizers)
        return {
            self.node_of(output): output.requires_grad and not stepped and not self.steps.is_spent(output)
            for output in tensors_of(outputs)
        }

    def _optimizers(self) -> tuple[str, ...]:
        """Return the names of the optimizers of a step; of an update without one, that it is as written."""
        updates = any(record_of(node).phase == "optimizer" for node in self.graph.nodes)
        return tuple(self.steps.optimizers) or (("as written",) if updates else ())

    def _collect_hooks(self, module: nn.Module, path: str, args: Any, result: Any) -> None:
        """Collect the backward hooks of a module, to be run after the forward pass."""
        if self.hook is not None or self.folding.deferred.is_deferred(module):
            return  # a block that repeats another one has none
        if module._backward_hooks or module._backward_pre_hooks or has_global_module_hooks():
            self.hooks += module_hooks(module, path, args, result, self.node_of, self.gradient_like)

    def _place(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the inputs with a placeholder's fake tensor for each tensor, named as forward names them."""
        names = positional_names(self.root.forward)

        def fake_of(name: str, value: Any) -> Any:
            if torch.is_tensor(value):
                return self._placeholder(name, value)
            if type(value) is PackedSequence:
                return self.fakes.copy_packed_sequence(value, lambda tensor: self._placeholder(name, tensor))
            return self.copier.copy(value)

        def place(name: str, value: Any) -> Any:
            return tree_map(lambda leaf: fake_of(name, leaf), value, is_leaf=lambda node: type(node) is PackedSequence)

        placed = tuple(place(names[i] if i < len(names) else f"input_{i}", value) for i, value in enumerate(args))
        return placed, {name: place(name, value) for name, value in kwargs.items()}

    @contextmanager
    def _at(self, path: str, line: str) -> Iterator[None]:
        """Run a node of a given graph as a call inside of the module, and on the line, that it came from."""
        before, self.line = self.line, line
        self.module_paths.append(path)
        self.called.setdefault(path, "")
        try:
            yield
        finally:
            self.module_paths.pop()
            self.line = before

    def _placeholder(self, name: str, tensor: torch.Tensor) -> Any:
        return self.register(self.graph.placeholder(name), self.fakes.fake_for_input(tensor))

    # -- intercepted calls ---------------------------------------------------------------------------------------

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        """Whether a rule names the class of a module; not under a transformation, which runs other operators."""
        return not self.is_transformed() and self.book.find(type(module)) is not None

    def call_of(self, module: nn.Module) -> Callable[..., Any]:
        """Return the callable in the place of a module's copy."""
        return MethodType(self._call, module)

    def on_module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a module under its path; the forward of a leaf is one node, and its hooks are recorded around it."""
        if not self.recording:
            if self.inside is None:
                return call(module, *args, **kwargs)
            with self._at(self.paths.get(id(module), self.module_paths[-1]), self.line):
                return call(module, *args, **kwargs)
        path = self.paths.get(id(module), self.module_paths[-1])
        self.called.setdefault(path, "")
        self.values.routing.record_module_call(path, self.module_paths, (args, kwargs))
        self.module_paths.append(path)
        try:
            if self.is_leaf_module(module, path):
                result = self._call_leaf(call, module, args, kwargs)
            else:
                call = original_graph_call(module) or call
                result = self.folding.call(lambda: call(module, *args, **kwargs), module, args, kwargs)
            self.called[path] = shapes_in(result)
            self._collect_hooks(module, path, args, result)
            return result
        except Exception:
            self.failed_at = path if self.failed_at is None else self.failed_at
            raise
        finally:
            self.module_paths.pop()

    def _on_segment(self, run: Callable[[], Any], segment: Segment, inputs: list[Any]) -> Any:
        """Run the segment of a module in a given graph; it may repeat another segment with the same code."""
        module = self.copier.copy_of(self.modules.modules[segment.path])
        return self.folding.call(run, module, (segment.code, *inputs), {})

    def _on_results(self, path: str, results: Any) -> None:
        self.called[path] = shapes_in(results)

    def _call_leaf(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        attributes = vars(module)
        own, forward = attributes.get("forward"), module.forward
        attributes["forward"] = lambda *args, **kwargs: self._leaf(module, forward, args, kwargs)
        try:
            return call(module, *args, **kwargs)
        finally:
            del attributes["forward"]
            if own is not None:
                attributes["forward"] = own

    def _leaf(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        rule = self.book.find(type(module))
        assert rule is not None
        self._is_called(module)
        bound = inspect.signature(forward).bind(*args, **kwargs)
        bound.apply_defaults()
        parameters = dict(module.named_parameters())
        attributes = {name: getattr(module, name) for name in rule.requested_names() if hasattr(module, name)}
        named = {**attributes, **parameters, **bound.arguments}
        return self.record_call("call_module", self.module_paths[-1], args, kwargs, type(module), named, forward, rule)

    def _is_called(self, module: nn.Module) -> None:
        """Count a module, and all in it, among those that ran."""
        for inner in module.modules():
            if id(inner) in self.paths:
                self.called.setdefault(self.paths[id(inner)], "")

    def on_autograd_function(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """Record a custom function as a leaf if a rule names it, else by its own forward and backward."""
        args, kwargs = self.fakes.replace_real_tensors(args), self.fakes.replace_real_tensors(kwargs)
        if not self.recording:
            return apply(*args, **kwargs) if self.inside is None else self.inside.on_function(apply, cls, args, kwargs)
        if cls is torch.utils.checkpoint.CheckpointFunction:
            run, _, *inputs = args
            return self.regions.run_reentrant(run, inputs)
        if is_of_custom_operator(cls):
            return self.custom_functions.call_operator_function(apply, cls, args, kwargs)
        if cls.forward.__module__.split(".")[0] == "torch" and not is_of_transformation(cls):
            return apply(*args, **kwargs)
        rule = self.book.find(cls)
        if rule is None and not self.is_opaque(cls):
            return self.custom_functions.call(apply, cls, args, kwargs, lambda: cls)
        named = function_arguments(cls, args, kwargs)
        modules = {name: value for name, value in named.items() if isinstance(value, nn.Module)}
        for name, module in modules.items():
            self._is_called(module)
            named |= {f"{name}.{inner}": parameter for inner, parameter in module.named_parameters()}
        return self.record_call("call_function", apply, args, kwargs, cls, named, apply, rule)

    def on_engine(self, call: Callable[..., Any], roots: Any, args: Any, kwargs: Any) -> Any:
        """Run a backward pass of the program's own."""
        return self.steps.on_engine(call, roots, args, kwargs)

    def on_optimizer(self, call: Callable[..., Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Run a step of an optimizer of the program's."""
        return self.steps.on_optimizer(call, optimizer, args, kwargs)

    def on_function(self, function: Any, args: Any, kwargs: Any) -> tuple[bool, Any]:
        """Record a function as a leaf if a rule names it, or the composite operator that it calls."""
        self.session.raise_if_cancelled()
        if not self.recording:
            return True, function(*args, **kwargs)
        if self.is_transformed() or self.steps.is_recomputing():
            return False, None
        if ATTENTION in self.expanded and aten_operator(function) is ATTENTION:
            return True, math_attention(*args, **kwargs)
        op = self._composite(function, args, kwargs)
        if op is not None:
            return True, self.record_operator(op, args, kwargs, function)
        if inspect.isfunction(function) and (rule := self.book.find(function)) is not None:
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            arguments_ = dict(bound.arguments)
            return True, self.record_call("call_function", function, args, kwargs, function, arguments_, function, rule)
        return False, None

    def on_operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """Record an operator that is in no leaf; a device that it names becomes the one of all fake tensors."""
        self.session.raise_if_cancelled()
        if not self.ran_backward and self.hook is None and in_backward():
            self.ran_backward = True
        open_regions = self.regions.open()
        self.place = (
            RegionPosition([(region, region.saved) for region in open_regions]) if open_regions else OUTSIDE_REGIONS
        )
        selective = [region for region in open_regions if region.kept_results is not None]
        if self.recording:
            self.dispatched = []
        if selective and op not in SAC_IGNORED_OPS:
            self.folding.discard_template()
            calls = [(region, region.count_call(op)) for region in selective]
            self.dispatched.append(DispatchedOp(op, arguments_by_name(op, args, kwargs), calls))
        if op.overloadpacket is torch.ops.aten.sparse_compressed_tensor:  # which fails on fake tensors
            raise not_dense_error("a tensor is not dense", kwargs.get("layout"), args[2].dtype)
        if op is torch.ops.aten._efficientzerotensor.default:
            op = torch.ops.aten.zeros.default  # sums with the other kind are not dispatched
        args, kwargs = self.fakes.replace_real_tensors(args), self.fakes.replace_real_tensors(kwargs)
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        is_empty = op is torch.ops.aten.empty.memory_format and 0 in args[0]  # each batch norm makes one
        writer = self if self.recording else self.inside
        if is_empty or writer is None or not writer.recording or op.namespace in ("prim", "profiler"):
            return self.run_operator(op, args, kwargs)
        if writer is self.inside:
            return self.inside.on_operator(op, args, kwargs)
        if self.custom_functions.has_python_kernel(op):
            return self.custom_functions.call_operator(op, args, kwargs)
        if is_composite(op):
            run: Any = lambda *args, **kwargs: self.custom_functions.call_inside(op.decompose, args, kwargs)  # noqa: E731
            if self.book.find(op) is None:  # below autograd it arrives as one call
                return run(*args, **kwargs)
            return self.record_operator(op, args, kwargs, run if self.insides else op)
        return self.record_operator(op, args, kwargs, op)

    def run_leaf(self, record: NodeRecord, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a leaf, and record the operators that it runs if ``insides`` says so."""
        if not self.insides:
            return run(*args, **kwargs)
        self.inside = InsideWriter(self, self, record)
        try:
            return self.inside.run(run, args, kwargs)
        finally:
            self.inside = None

    def on_getattr(self, get: Callable[..., Any], module: nn.Module, name: str) -> Any:
        """Return an attribute of a module; one of a block that did not run is known to the folding."""
        return self.folding.attribute_of(get, module, name)

    def on_setattr(self, put: Callable[..., Any], module: nn.Module, name: str, value: Any) -> None:
        """Set an attribute of a module, which then is no template."""
        self.folding.on_module_written(module)
        put(module, name, value)

    def on_delattr(self, remove: Callable[..., Any], module: nn.Module, name: str) -> None:
        """Delete an attribute of a module, which then is no template."""
        self.folding.on_module_written(module)
        remove(module, name)

    def on_random_draw(self, name: str) -> None:
        """Note that a random number is drawn from the analysis's own generator, with a fixed seed."""
        self.values.assumptions.note(f"random number of {name}; drawn with a fixed seed")

    def on_save(self) -> None:
        """Note that torch.save writes nothing: a file of fake tensors would replace the user's own."""
        self.values.assumptions.note("torch.save writes no file during an analysis")

    def decide(self, truth: torch.Tensor) -> bool:
        """Return the value of a truth that the program branches on."""
        return self.values.decide(truth)

    def _composite(self, function: Any, args: Any, kwargs: Mapping[str, Any]) -> OpOverload | None:
        """Return the ATen operator that a function calls, if it is composite and a rule names it."""
        if function not in self.composites:
            op = aten_operator(function)
            is_leaf = op is not None and has_composite_name(op) and op not in self.expanded
            self.composites[function] = op if is_leaf and self.book.find(op) is not None else None
        op = self.composites[function]
        return op if op is not None and signature_of(op).accepts(args, kwargs) else None

    def _may_log_numbers(self) -> bool:
        """Whether a program may read numbers to log them: a step, or a function outside of modules."""
        outside = isinstance(self.root, FunctionModule) and not self.module_paths[-1] and any(self.called)
        return outside or self.steps.is_step or self.steps.has_optimizer
