"""The tracer: what the watchers see, written down as a torch.fx graph."""

from __future__ import annotations

import inspect
import math
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from types import MethodType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import fx, nn
from torch.nn.utils.rnn import PackedSequence

from graphflops.capture.aborts import CompositeExpanded, FoldingAborted
from graphflops.capture.backward_hooks import are_on_all_modules, of_module, of_tensor, together
from graphflops.capture.checkpoints import Dispatched, Place, Region, Regions
from graphflops.capture.constant_propagation import ConstantPropagation, retry_with_branches_flipped
from graphflops.capture.custom_functions import OwnCode, arguments
from graphflops.capture.distributed import distribution_note
from graphflops.capture.exporting import export_program
from graphflops.capture.failures import add_attempt, failure_message, user_line
from graphflops.capture.fake_tensors import (
    FakeTensors,
    FunctionModule,
    copy_if_stateful,
    differentiable_results,
    tensors_of,
)
from graphflops.capture.faults import needs_data
from graphflops.capture.folding import Folding
from graphflops.capture.grad_functions import Histories, held_under, history_of
from graphflops.capture.identical_blocks import alike_blocks
from graphflops.capture.interception import intercept
from graphflops.capture.isolation import run_isolated
from graphflops.capture.layouts import layout_error, nnz_of, not_dense_error, spec_of
from graphflops.capture.math_attention import ATTENTION, FUSED_BACKWARD, math_attention
from graphflops.capture.module_attributes import module_attributes
from graphflops.capture.outputs import no_gradient_warning, tensors_in
from graphflops.capture.reachable_modules import find_modules, positional_names, register_modules
from graphflops.capture.record import Hook, NodeRecord, record_of
from graphflops.capture.recursion import recursion_limit_for, retry_with_deeper_recursion
from graphflops.capture.replay import as_module, captured_from, remembered_modules, replayed
from graphflops.capture.segments import Stretch
from graphflops.capture.session import Session, session
from graphflops.capture.signatures import signature_of
from graphflops.capture.torchscript import original_graph_call
from graphflops.capture.training_steps import Steps
from graphflops.core.errors import CaptureError, GraphflopsError
from graphflops.core.sizes import Spec
from graphflops.core.torch_compat import (
    SAC_IGNORED_OPS,
    DisableTorchFunction,
    OpOverload,
    OpOverloadPacket,
    called_alone,
    has_kernel,
    in_backward,
    is_of_custom_operator,
    is_of_transformation,
    is_registered,
    module_call,
    peek_interpreter_stack,
    sequence_number,
    tree_leaves,
    tree_map,
)
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule
from graphflops.rules.targets import qualified_name


@dataclass(frozen=True)
class Trace:
    """The result of a capture: the calls as an fx graph, each node with its ``NodeRecord``, and facts of the model."""

    graph: fx.Graph
    modules: Mapping[str, str]
    """module path → class name, of every module"""
    called: frozenset[str]
    """paths of the modules that ran"""
    name: str
    inputs: Mapping[str, Spec] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    """name → number of elements, of every parameter of the model, whether it is used or not"""
    held: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """name → the user's own parameter, which is only looked at"""
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """name → the user's own tensor, of the buffers and other tensors that were read"""
    trainable: frozenset[str] = frozenset()
    """names of the parameters that require grad"""
    capture: tuple[str, ...] = ()
    """how the graph came about: of a given one, or of a run on fake tensors; and what of it was described, not run"""
    assumed: tuple[str, ...] = ()
    """what was taken as given where data decides, each with the user's source line"""
    routed: Mapping[str, Fraction] = field(default_factory=dict)
    """path of each module whose rows data chooses → the share of them that was taken to reach it"""
    untrained: str = ""
    """that nothing which is returned requires grad, although there are parameters that do"""
    warnings: tuple[str, ...] = ()
    """what may run beside what is in the graph"""
    is_step: bool = False
    """whether the program goes back, or has an optimizer step, by itself: each node's ``meta["phase"]`` says which"""
    stepped: tuple[str, ...] = ()
    """the names of the optimizers that it has step"""
    reached: frozenset[int] = frozenset()
    """the checkpointed regions, run with reentrance, that its own backward passes come to"""
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """module path → the module's attributes that are numbers"""


def trace(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    book: RuleBook,
    *,
    grad: bool = True,
    fold: bool = False,
    whole: Sequence[str] = (),
) -> Trace:
    """Trace a model on its inputs; tensors may be real, meta or fake, on any device.

    With ``fold``, a block that is alike one that has run, and is called in the same way, is one node that says so.

    An ``autograd.Function`` that no rule names is written down as all that it runs, or as one node if a pattern of
    ``whole`` names it.

    The model is never written to: a structural copy of it runs, with fake tensors in the place of its own.

    Raises:
        CaptureError: the model's own code refused the inputs, or needs a value that only data can tell.
    """
    return run_isolated(lambda: _traced(model, args, kwargs, book, grad=grad, fold=fold, whole=whole), keep=True)


def _traced(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    book: RuleBook,
    *,
    grad: bool,
    fold: bool,
    whole: Sequence[str],
) -> Trace:
    given = as_module(model)
    root = given if isinstance(given, nn.Module) else _Function(given, args, kwargs)

    opened: set[OpOverload] = set()

    def attempt(values: ConstantPropagation, *, fold: bool = False) -> Trace:
        with recursion_limit_for(values.fakes.survey.depth):
            return Tracer(root, book, values, whole, opened).run(args, kwargs, grad=grad, fold=fold)

    def unfolded() -> Trace:
        while True:
            try:
                return retry_with_branches_flipped(
                    lambda flipped: ConstantPropagation(FakeTensors(root), flipped), attempt, CaptureError
                )
            except CompositeExpanded as inside:
                opened.add(inside.operator)

    if fold:
        with suppress(FoldingAborted, CaptureError):  # what is wrong is said of the model itself
            return attempt(ConstantPropagation(FakeTensors(root)), fold=True)
    try:
        return retry_with_deeper_recursion(unfolded)
    except CaptureError as error:
        if isinstance(root, (_Function, fx.GraphModule)) or not needs_data(error.__cause__):
            raise
        program = export_program(root, args, kwargs, grad=grad)
        if isinstance(program, str):
            raise add_attempt(error, f"torch.export: {program}") from error.__cause__
        try:
            found = _traced(program, args, kwargs, book, grad=grad, fold=fold, whole=whole)
        except CaptureError:
            raise add_attempt(error, "torch.export: its program asks for values as well") from error.__cause__
        why = "run on fake tensors: stopped where data decides; exported by torch.export"
        attributes = module_attributes(dict(root.named_modules()))
        return replace(found, name=type(root).__name__, capture=(why, *found.capture), attributes=attributes)


class _Function(FunctionModule):
    """A bare function as a module, so that the rest needs no second case."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.forward = function
        self.name = getattr(function, "__name__", type(function).__name__)
        register_modules(self, find_modules(function, args, kwargs))


class Tracer(fx.Tracer):
    """An fx tracer whose values are fake tensors and not proxies, so that a model cannot tell it from a run."""

    def __init__(
        self,
        root: nn.Module,
        book: RuleBook,
        values: ConstantPropagation,
        whole: Sequence[str] = (),
        opened: Collection[OpOverload] = frozenset(),
    ) -> None:
        super().__init__()
        self.whole = whole
        self.opened = opened  # composite operators that are no leaves
        self.root: nn.Module = root  # the user's own, which is only read; a copy of it runs
        self.name = root.name if isinstance(root, _Function) else type(root).__name__
        self.book = book
        self.values = values
        self.fakes = fakes = values.fakes
        self.copier = fakes.copier
        on_module, of_pytorch = self.on_module, module_call

        def watched_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            own: Any = type(module)._call_impl
            return on_module(called_alone if own is of_pytorch else own, module, args, kwargs)

        self._watched_call = watched_call
        self.session = session() or Session()
        self.session.own(self)
        self.graph = fx.Graph(tracer_cls=type(self))
        self.histories = Histories(self.graph)
        self.steps = Steps(self)
        self.copier.on_optimizer_copied = self.steps.watch
        values.numbers.may_log = self._reads_numbers
        self.survey = fakes.survey
        self.paths: dict[int, str] = {}  # id of a module's copy → its path
        self.nodes: dict[int, fx.Node] = {}  # id of a fake tensor → the node that made it
        self.described: dict[object, str] = {}  # what is not run → why
        self.kept: list[torch.Tensor] = []  # so that an id stays its tensor's own
        self.owners = [""]
        self.called: set[str] = set()
        self.line = ""  # where a given graph says that its node comes from
        values.assumptions.line = lambda: self.line or user_line()
        self.regions = Regions()
        self.place = Place()  # of the last operator
        self.recorded = self.graph._root  # the node of the last call
        self.ran: list[Dispatched] = []  # in selective regions, since the last call was written down
        self.failed_at: str | None = None
        self.recording = True
        self.hooks: list[Hook] = []  # of modules, in the order in which they ran
        self.hook: Hook | None = None  # the one that runs
        self.went_back = False  # whether a backward pass was run inside of the program
        self.calls: Counter[str] = Counter()  # of leaf modules, by path
        self.read: set[fx.Node] = set()  # by blocks that repeat others
        self.own_code = OwnCode(self)
        self.unseen: dict[str, None] = {}  # tensors that something made where nobody looked
        self.unheld: Counter[bool] = Counter()  # parameters and constants that no module holds
        self._made_of_others: dict[OpOverload, bool] = {}
        self._composites: dict[Any, OpOverload | None] = {}

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, grad: bool, fold: bool = False) -> Trace:
        """Run the root on stand-ins of its inputs, and write down what it calls."""
        blocks = (
            alike_blocks(self.survey, lambda each: self.is_leaf_module(each, ""))
            if fold and not are_on_all_modules()
            else []
        )
        with self.fakes.fake_mode(), torch.set_grad_enabled(grad):
            with DisableTorchFunction():
                self.folding = Folding(self, blocks)
                program = self.copier.copy(self.root)
                self.paths = {id(self.copier.copy_of(module)): path for path, module in self.survey.modules.items()}
                placed_args, placed_kwargs = self._place(args, kwargs)
            self.program: nn.Module = program
            call: Callable[..., Any] = program
            if isinstance(self.root, fx.GraphModule):
                copied, paths = self.copier.copy_of, [each.path for each in blocks]
                call = replayed(self.root, copied, self._at, paths, self._on_stretch)
            try:
                with intercept(self, self.values):
                    result = call(*placed_args, **placed_kwargs)
                    outputs = self._outputs(result)
                    untrained = no_gradient_warning(result) if grad and self._is_without_gradient(outputs) else ""
                    if grad:
                        self.own_code.run_those_that_wait(self._flows(outputs))
                        self._in_a_backward_pass(self._run_backward_hooks)
            except (GraphflopsError, FoldingAborted):
                raise
            except Exception as error:
                inputs = [spec_of(each) for each in tree_leaves((args, dict(kwargs))) if torch.is_tensor(each)]
                path, missing_buffers = self.failed_at or "", list(self.values.evaluator.missing_buffer_values)
                missing_inputs = self._names_of(
                    key
                    for key, each in self.values.evaluator.inputs_without_values.items()
                    if not each.is_floating_point()
                )
                message = failure_message(error, self.root, self.name, path, inputs, missing_buffers, missing_inputs)
                raise CaptureError(message) from error
            record_of(self.graph.output(self._as_nodes(outputs))).requires_grad = self._flows_out(outputs)
        if not self.steps.is_step:
            for node in self.graph.nodes:
                record_of(node).phase = ""
        _drop_bookkeeping(self.graph, self.read)
        _close_regions(self.graph)
        return Trace(
            graph=self.graph,
            modules=dict(self._modules()),
            called=frozenset(self.called),
            name=self.name,
            inputs=self._inputs(),
            parameters={name: each.numel() for name, each in self._parameters()},
            held={name: self.fakes.original_of(each) for name, each in self._parameters()},
            constants=dict(self._constants()),
            trainable=frozenset(name for name, each in self._parameters() if each.requires_grad),
            capture=(
                captured_from(self.root),
                *distribution_note(self.survey.modules, self.survey.parameters),
                *self.described.values(),
            ),
            assumed=(*self.values.assumptions.notes, *self._used()),
            routed=self.values.routing.shares,
            untrained=untrained,
            is_step=self.steps.is_step,
            stepped=self._stepped(),
            reached=frozenset(self.steps.reached),
            warnings=(*self.unseen, *(map(_not_counted, self.regions.others) if grad else ())),
            attributes=module_attributes(self.survey.modules),
        )

    def _names_of(self, inputs: Iterable[int]) -> list[str]:
        """The names of inputs in forward, by the ids of their stand-ins."""
        return list(dict.fromkeys(str(self.nodes[each].target) for each in inputs if each in self.nodes))

    def _used(self) -> Iterator[str]:
        """What is said of inputs whose values decide."""
        if names := self._names_of(self.values.evaluator.inputs_read):
            yield f"the values of {', '.join(names)} are used as they were given"

    def release(self) -> None:
        """Let go of all tensors, those in the graph included."""
        for node in self.graph.nodes:
            node.meta.clear()
        self.values.release()
        vars(self).clear()

    def _note_hooks(self, module: nn.Module, path: str, args: Any, result: Any) -> None:
        """Remember what the backward hooks of a module will be called with."""
        if self.hook is not None or self.folding.is_asleep(module):
            return  # a block that repeats another one has none
        if module._backward_hooks or module._backward_pre_hooks or are_on_all_modules():
            self.hooks += of_module(module, path, args, result, self._node_of, self._gradient_of)

    def _gradient_of(self, tensor: torch.Tensor) -> torch.Tensor:
        with DisableTorchFunction():
            return self.fakes.make(tensor.shape, None, tensor.dtype)

    def _in_a_backward_pass(self, run: Callable[[], None]) -> None:
        """Run something as autograd runs hooks: without grad, in a backward pass, whose number some hooks ask for."""

        def on_gradient(gradient: torch.Tensor) -> None:
            self.recording = True
            try:
                run()
            finally:
                self.recording = False

        with self.paused(), DisableTorchFunction():
            start = self.fakes.make((), None, torch.float32).requires_grad_()
            end = start.clone()
            start.register_hook(on_gradient)  # type: ignore[no-untyped-call]
        with self.paused():
            torch.autograd.backward((end,), (self._gradient_of(end),))

    def _run_backward_hooks(self) -> None:
        """Run the hooks of tensors and modules, so that their work is written down."""
        values = ((record_of(node).value, node) for node in self.graph.nodes)
        held = {id(value): (value, node) for value, node in values if torch.is_tensor(value)}
        hooks = list(self.hooks)
        for tensor, node in held.values():
            hooks += of_tensor(tensor, node, self._gradient_of)
        for hook in together(hooks, self._gradient_of):
            self.hook = hook
            self.owners.append(hook.owner)
            try:
                with torch.no_grad():
                    hook.run()
            except Exception:  # it works on what only a backward pass has; so it is unknown
                self._record_unknown(hook)
            finally:
                self.owners.pop()
        self.hook = None

    def _record_unknown(self, hook: Hook) -> None:
        """Write down a hook that did not run, as a call that no rule names."""
        trigger = hook.triggers[0]
        node = self.create_node("call_function", hook.function, (trigger,), {}, "backward_hook")
        node.meta["record"] = NodeRecord(
            value=record_of(trigger).value,
            call=hook.function,
            operands={"gradient": trigger},
            module_path=hook.owner,
            line=hook.line,
            requires_grad={trigger: False},
            hook=hook,
        )

    def _outputs(self, result: Any) -> Any:
        """The tensors that a model returned, whatever holds them; real ones that nobody trains are left out."""
        if torch.is_tensor(result):
            return result
        return tuple(each for each in tensors_in(result) if each.requires_grad or self.fakes.is_fake(each))

    def _is_without_gradient(self, outputs: Any) -> bool:
        """Whether something is to be trained, and neither the outputs nor the program itself go back to it."""
        if self.went_back or any(each.requires_grad for each in tree_leaves(outputs)):
            return False
        return any(each.requires_grad for _, each in self._parameters())

    def _place(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Placeholders for every tensor of the inputs, named as forward names them."""
        names = positional_names(self.root.forward)

        def placed_in(name: str, value: Any) -> Any:
            if torch.is_tensor(value):
                return self._placeholder(name, value)
            if _is_packed(value):
                return self.fakes.copy_packed_sequence(value, lambda each: self._placeholder(name, each))
            return self.copier.copy(value)

        def place(name: str, value: Any) -> Any:
            return tree_map(
                lambda each: placed_in(name, each), value, is_leaf=lambda each: type(each) is PackedSequence
            )

        placed = tuple(place(names[i] if i < len(names) else f"input_{i}", each) for i, each in enumerate(args))
        return placed, {name: place(name, each) for name, each in kwargs.items()}

    def _inputs(self) -> dict[str, Spec]:
        """Every input tensor under its name in forward; those of a nested input under names of their own."""
        placeholders = self.graph.find_nodes(op="placeholder")
        uses = Counter(node.target for node in placeholders)
        return {
            str(node.target) if uses[node.target] == 1 else node.name: spec_of(record_of(node).value)
            for node in placeholders
        }

    def _modules(self) -> Iterator[tuple[str, str]]:
        """Module path and class name: those of the root, and for a given graph those that it remembers."""
        yield from ((path, type(module).__name__) for path, module in self.survey.modules.items())
        yield from remembered_modules(self.root)

    @contextmanager
    def _at(self, path: str, line: str) -> Iterator[None]:
        """In a given graph, where a node says that it comes from."""
        before = self.line
        self.owners.append(path)
        self.called.add(path)
        self.line = line
        try:
            yield
        finally:
            self.owners.pop()
            self.line = before

    def _parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The root's parameters, used or not, and those that it used without holding them, as a function may."""
        own: dict[str, torch.Tensor] = dict(self.survey.parameters)
        used = {str(node.target): record_of(node) for node in self.graph.find_nodes(op="get_attr")}
        if isinstance(self.root, _Function):  # which may reach what it does not use
            own = {name: each for name, each in own.items() if name in used or name.rpartition(".")[0] in self.called}
        yield from own.items()
        yield from ((name, record.value) for name, record in used.items() if record.is_parameter and name not in own)

    def _constants(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The user's own tensors that were read and are no parameters."""
        for node in self.graph.find_nodes(op="get_attr"):
            fake: Any = record_of(node).value
            if not record_of(node).is_parameter and (original := self.fakes.original_of(fake)) is not fake:
                yield str(node.target), original

    def _placeholder(self, name: str, tensor: torch.Tensor) -> Any:
        return self._register(self.graph.placeholder(name), self.fakes.fake_for_input(tensor))

    # -- what the watchers see -----------------------------------------------------------------------------------

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        """A module is a leaf if a rule speaks for its class, unless what it is called with is not what will run."""
        return not _is_transformed() and self.book.find(type(module)) is not None

    def call_of(self, module: nn.Module) -> Callable[..., Any]:
        """What is called in the place of a module's copy."""
        return MethodType(self._watched_call, module)

    def on_module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Enter the module's path; if it is a leaf, its forward is one node, and its hooks are traced around it."""
        if not self.recording:
            return call(module, *args, **kwargs)
        path = self.paths.get(id(module), self.owners[-1])
        self.called.add(path)
        self.values.routing.record_module_call(path, self.owners, (args, kwargs))
        self.owners.append(path)
        try:
            if self.is_leaf_module(module, path):
                result = self._call_leaf(call, module, args, kwargs)
                self._note_hooks(module, path, args, result)
                return result
            call = original_graph_call(module) or call
            result = self.folding.call(lambda: call(module, *args, **kwargs), module, args, kwargs)
            self._note_hooks(module, path, args, result)
            return result
        except Exception:
            self.failed_at = path if self.failed_at is None else self.failed_at
            raise
        finally:
            self.owners.pop()

    def _on_stretch(self, run: Callable[[], Any], stretch: Stretch, inputs: list[Any]) -> Any:
        """What a module came to be in a given graph, which may repeat another one if its code is the same."""
        module = self.copier.copy_of(self.survey.modules[stretch.path])
        return self.folding.call(run, module, (stretch.code, *inputs), {})

    def _call_leaf(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        attributes = vars(module)
        own, forward = attributes.get("forward"), module.forward
        attributes["forward"] = lambda *args, **kwargs: self._leaf(module, forward, args, kwargs)
        try:
            return call(module, *args, **kwargs)
        finally:
            if own is None:
                del attributes["forward"]
            else:
                attributes["forward"] = own

    def _leaf(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        rule = self.book.find(type(module))
        assert rule is not None
        self.called.update(self.paths[id(each)] for each in module.modules() if id(each) in self.paths)
        bound = inspect.signature(forward).bind(*args, **kwargs)
        bound.apply_defaults()
        parameters = dict(module.named_parameters())
        attributes = {name: getattr(module, name) for name in rule.requested_names() if hasattr(module, name)}
        offered = {**attributes, **parameters, **bound.arguments}
        return self._record("call_module", self.owners[-1], args, kwargs, type(module), offered, forward, rule)

    def on_autograd_function(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """A leaf if a rule names it; else its own forward and backward are what it costs."""
        args, kwargs = self.fakes.replace_real_tensors(args), self.fakes.replace_real_tensors(kwargs)
        if not self.recording:
            return apply(*args, **kwargs)
        if cls is torch.utils.checkpoint.CheckpointFunction:
            run, _, *inputs = args
            return self.regions.reentrant(run, inputs)
        if is_of_custom_operator(cls):
            return self.own_code.of_operator(apply, cls, args, kwargs)
        if cls.forward.__module__.split(".")[0] == "torch" and not is_of_transformation(cls):
            return apply(*args, **kwargs)
        rule = self.book.find(cls)
        if rule is None and not self.is_whole(cls):
            return self.own_code.call(apply, cls, args, kwargs, lambda: cls)
        offered = arguments(cls, args, kwargs)
        for name, module in [each for each in offered.items() if isinstance(each[1], nn.Module)]:
            self.called.update(self.paths[id(each)] for each in module.modules() if id(each) in self.paths)
            offered |= {f"{name}.{inner}": parameter for inner, parameter in module.named_parameters()}
        return self._record("call_function", apply, args, kwargs, cls, offered, apply, rule)

    def on_engine(self, call: Callable[..., Any], roots: Any, args: Any, kwargs: Any) -> Any:
        """A program runs backward by itself."""
        return self.steps.on_engine(call, roots, args, kwargs)

    def on_optimizer(self, call: Callable[..., Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """A program has an optimizer step."""
        return self.steps.on_optimizer(call, optimizer, args, kwargs)

    def node_of(self, tensor: torch.Tensor) -> fx.Node:
        """The node that a tensor came from."""
        return self._node_of(tensor)

    def on_function(self, function: Any, args: Any, kwargs: Any) -> tuple[bool, Any]:
        """A leaf if a rule names it, or the composite operator whose face it is."""
        self.session.raise_if_cancelled()
        if not self.recording:
            return True, function(*args, **kwargs)
        if _is_transformed() or self.steps.is_recomputing():
            return False, None
        if ATTENTION in self.opened and _behind(function) is ATTENTION:
            return True, math_attention(*args, **kwargs)
        op = self._composite(function, args, kwargs)
        if op is not None:
            return True, self._record_operator(op, args, kwargs, function)
        if inspect.isfunction(function) and (rule := self.book.find(function)) is not None:
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            recorded = self._record(
                "call_function", function, args, kwargs, function, dict(bound.arguments), function, rule
            )
            return True, recorded
        return False, None

    def on_operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """Whatever no rule named higher up arrives here; what asks for a device gets the one of all stand-ins."""
        self.session.raise_if_cancelled()
        if not self.went_back and self.hook is None and in_backward():
            self.went_back = True
        open_regions = self.regions.open()
        self.place = Place([(each, each.saved) for each in open_regions]) if open_regions else _NOWHERE
        selective = [each for each in open_regions if each.keeps is not None]
        if self.recording:
            self.ran = []
        if selective and op not in SAC_IGNORED_OPS:
            self.folding.spoil()
            self.ran.append(Dispatched(op, _specs(op, args, kwargs), [(each, each.number(op)) for each in selective]))
        if op.overloadpacket is torch.ops.aten.sparse_compressed_tensor:  # which fails on fake tensors
            raise not_dense_error("a tensor is not dense", kwargs.get("layout"), args[2].dtype)
        if op is torch.ops.aten._efficientzerotensor.default:
            op = torch.ops.aten.zeros.default  # the other kind hides from whoever watches the sums that it is in
        args, kwargs = self.fakes.replace_real_tensors(args), self.fakes.replace_real_tensors(kwargs)
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        of_nothing = op is torch.ops.aten.empty.memory_format and 0 in args[0]  # each batch norm makes one
        if of_nothing or not self.recording or op.namespace in ("prim", "profiler"):
            return self._run(op, args, kwargs)
        if self.own_code.is_of_python(op):
            return self.own_code.operator(op, args, kwargs)
        if self._is_made_of_others(op):
            return self.own_code.inside(op.decompose, args, kwargs)
        return self._record_operator(op, args, kwargs, op)

    def _is_made_of_others(self, op: OpOverload) -> bool:
        """Whether an operator that no rule names runs others: below autograd it arrives as a whole."""
        if op not in self._made_of_others:
            self._made_of_others[op] = _is_composite(op._schema.name) and self.book.find(op) is None
        return self._made_of_others[op]

    def _run(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """An operator's result on stand-ins, also where data decides its shape or its value."""
        result = self.values.run(op, args, kwargs)
        if self.ran and self.ran[-1].op is op:
            self.ran[-1].offered["out"] = tree_map(_spec_if_tensor, result)
        return result

    def on_getattr(self, get: Callable[..., Any], module: nn.Module, name: str) -> Any:
        """An attribute that is kept aside, or that is in a block that did not run, is known by the folding."""
        return self.folding.attribute_of(get, module, name)

    def on_setattr(self, put: Callable[..., Any], module: nn.Module, name: str, value: Any) -> None:
        """A module that is written to is no pattern."""
        self.folding.written(module)
        put(module, name, value)

    def on_delattr(self, remove: Callable[..., Any], module: nn.Module, name: str) -> None:
        """A module that is written to is no pattern."""
        self.folding.written(module)
        remove(module, name)

    def on_random_draw(self, name: str) -> None:
        """A random number that a program draws by itself is one of the analysis's own, always the same ones."""
        self.values.assumptions.note(f"random number of {name}; drawn with a fixed seed")

    def on_save(self) -> None:
        """A checkpoint of tensors without data would take the place of the user's own."""
        self.values.assumptions.note("torch.save writes no file during an analysis")

    def decide(self, truth: torch.Tensor) -> bool:
        """A program branches on a truth value."""
        return self.values.decide(truth)

    def _composite(self, function: Any, args: Any, kwargs: Mapping[str, Any]) -> OpOverload | None:
        """The ATen operator that a function is a face of, if it is composite and a rule prices it as one piece."""
        if function not in self._composites:
            op = _behind(function)
            whole = op is not None and _is_composite(op._schema.name) and op not in self.opened
            priced = whole and self.book.find(op) is not None
            self._composites[function] = op if priced else None
        op = self._composites[function]
        return op if op is not None and signature_of(op).accepts(args, kwargs) else None

    def _reads_numbers(self) -> bool:
        """Whether a program may read numbers, to log them: a step, or a function, outside of modules that it calls."""
        outside = isinstance(self.root, _Function) and not self.owners[-1] and any(self.called)
        return outside or self.steps.is_step or self.steps.has_optimizer

    def is_transformed(self) -> bool:
        """Whether a transformation of torch.func is at work: the operators that it makes of a function run."""
        return _is_transformed()

    # -- writing down --------------------------------------------------------------------------------------------

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, of: Any = None) -> fx.Node:
        """A node; its arguments come after it, for where it is made PyTorch looks at each for symbolic numbers."""
        node = super().create_node(kind, target, (), {}, name, of)
        node.args = args
        if kwargs:
            node.kwargs = kwargs
        return node

    def _record_operator(self, op: OpOverload, args: Any, kwargs: Any, run: Callable[..., Any]) -> Any:
        """One operator call, its operands named as the operator's schema names them."""
        signature = signature_of(op)
        assert signature.accepts(args, kwargs), f"{op} does not take {len(args)} arguments and {', '.join(kwargs)}"
        offered = dict(zip(signature.names, args, strict=False)) | kwargs
        for name, value in signature.defaults.items():
            offered.setdefault(name, value)
        if op.overloadpacket is FUSED_BACKWARD and ATTENTION not in self.opened and torch.is_grad_enabled():
            self._open_if_trained(ATTENTION, args)
        resolved = self._is_resolved(op, args) or any(
            record_of(self._node_of(offered[name])).resolves_view
            for name in signature.written
            if torch.is_tensor(offered[name])
        )
        result = self._record("call_function", op, args, kwargs, op, offered, run, self.book.find(op))
        node, record = self.recorded, record_of(self.recorded)
        record.resolves_view = resolved and torch.is_tensor(result)
        if op._opname in _OVERWRITING:
            written: Any = node.args[0]
            record.requires_grad = {**(record.requires_grad or {}), written: False}
        if torch.is_tensor(mask := offered.get("attn_mask")):
            with self.paused():
                record.mask_nnz = {"attn_mask": self.values.evaluator.mask_nnz(mask)}
        for name in signature.written:
            self.histories.are_old()
            self._written_through(offered[name])
        return result

    def _open_if_trained(self, composite: OpOverload, args: Any) -> None:
        """A gradient may be taken of what a kernel gives no gradient of: what it stands for is written down instead."""
        if any(torch.is_tensor(each) and each.requires_grad for each in args):
            raise CompositeExpanded(composite)

    def _is_resolved(self, op: OpOverload, args: Any) -> bool:
        """Whether an operator makes a conjugate or a negative that was put off, for the one that asks for it.

        PyTorch does so below autograd, by a clone: it requires no grad, but a gradient flows through it.
        """
        return (
            op is torch.ops.aten.clone.default
            and torch.is_grad_enabled()
            and args[0].requires_grad
            and (args[0].is_conj() or args[0].is_neg())
        )

    def _written_through(self, tensor: Any) -> None:
        """What was written to a view was written to its base: from now on the base is read from both."""
        if not torch.is_tensor(tensor) or tensor._base is None:
            return
        base, op = tensor._base, torch.ops.aten.alias.default
        operands = {"self": self._node_of(base, may_open=False), "written": self._node_of(tensor)}
        node = self.create_node("call_function", op, (operands["self"],), {})
        written = record_of(operands["written"])
        node.meta["record"] = NodeRecord(
            call=op,
            operands=operands,
            module_path=self.owners[-1],
            line=self.line or user_line(),
            requires_grad=dict.fromkeys(operands.values(), True),
            is_gradient=written.is_gradient,
            parameter_module=written.parameter_module,
        )
        self._register(node, base)

    def _record(
        self,
        kind: str,
        target: Any,
        args: Any,
        kwargs: Any,
        call: Any,
        offered: Mapping[str, Any],
        run: Callable[..., Any],
        rule: Rule | None = None,
    ) -> Any:
        if self.fakes.has_sparse and isinstance(call, OpOverload) and call.overloadpacket not in _OF_SPARSE:
            for each in tensors_of(offered):
                if nnz_of(each) is not None:
                    raise layout_error(self.fakes.original_of(each), self.fakes.name_of(each))
        self.steps.begin()
        operands = {name: self._as_nodes(value) for name, value in offered.items()}
        name = call._opname if isinstance(call, OpOverload) else None
        with self.paused():
            now, named = (
                tuple(map(copy_if_stateful, args)),
                {key: copy_if_stateful(each) for key, each in kwargs.items()},
            )
        if kind == "call_module":
            self.calls[target] += 1
            node = self._named_after(kind, target, self._as_nodes(now), self._as_nodes(named), self.calls[target])
        else:
            node = self.create_node(kind, target, self._as_nodes(now), self._as_nodes(named), name)
        record = node.meta["record"] = NodeRecord(
            call=call,
            operands=operands,
            module_path=self.owners[-1],
            line=self.line or user_line(),
            requires_grad=self._flows(offered),
            run=run,
            has_rule=rule is not None and not (isinstance(call, OpOverload) and call.namespace == "aten"),
            name=record_of(node).name,
        )
        below = run is call and isinstance(
            call, OpOverload
        )  # an operator seen below autograd, and not what it is a face of
        self.ran = self.ran[-1:] if below else []
        with self.paused():
            try:
                if rule is not None and rule.outputs is not None:
                    self.described[call] = (
                        f"{qualified_name(call)} is not run: its outputs are as its rule describes them"
                    )
                    result = self._described(node, rule, offered, history=not below)
                else:
                    result = self._run(call, args, kwargs) if below else run(*args, **kwargs)
            except BaseException:  # which the program may catch, as a checkpoint does that runs as far as it needs to
                self.graph.erase_node(node)
                node.meta.clear()
                raise
        record.place, record.hook = self._place_of_one_more(), self.hook
        self._register(node, result)
        self.steps.wrote(node)
        self.recorded = node
        return result

    @contextmanager
    def updating(self, optimizer: Any) -> Iterator[None]:
        """An optimizer steps while this is open; none does in the closure that it calls."""
        before, self.values.numbers.optimizer = self.values.numbers.optimizer, optimizer
        try:
            yield
        finally:
            self.values.numbers.optimizer = before

    def _place_of_one_more(self) -> Place:
        """Where a call ran, as to checkpointed regions.

        Raises:
            FoldingAborted: a block that was not run is in one of them, and what of it runs again depends on all of it.
        """
        for region in (regions := self.regions.open()):
            region.calls += 1
            if region.repeats:
                raise FoldingAborted
        if not regions:
            return _NOWHERE
        began = dict(self.place.regions)
        return Place([(each, began.get(each, each.saved)) for each in regions], self.ran)

    def place_of_what_runs_nothing(self) -> Place:
        """Where a call is, as to checkpointed regions, that runs nothing which is not written down for itself."""
        return Place([(each, each.saved) for each in self.regions.open()])

    def line_now(self) -> str:
        """The user's line that runs."""
        return self.line or user_line()

    def name_of_call(self, call: Any) -> str:
        """How people write what is called."""
        return qualified_name(call)

    def is_whole(self, call: Any) -> bool:
        """Whether a Function is one node although no rule names it, because it is to be expanded."""
        return any(fnmatchcase(qualified_name(call), each) for each in self.whole)

    def region(self) -> Region | None:
        """The innermost checkpointed region that is open now."""
        return regions[-1] if (regions := self.regions.open()) else None

    def _stepped(self) -> tuple[str, ...]:
        """The optimizers of a step; of what is written without one, that it is."""
        updates = any(record_of(node).phase == "optimizer" for node in self.graph.nodes)
        return tuple(self.steps.optimizers) or (("as written",) if updates else ())

    def _flows_out(self, outputs: Any) -> dict[fx.Node, bool]:
        """From which outputs gradients will be asked: not after an optimizer has stepped, nor from where they were."""
        stepped = bool(self.steps.optimizers)
        return {
            self._node_of(each): each.requires_grad and not stepped and not self.steps.is_spent(each)
            for each in tensors_of(outputs)
        }

    def _flows(self, operands: Any) -> dict[fx.Node, bool]:
        """Which operands require grad at this moment: an in-place operation may change that later."""
        nodes = [(self._node_of(each), each) for each in tensors_of(operands)]
        return {node: each.requires_grad or record_of(node).resolves_view for node, each in nodes}

    def paused(self) -> AbstractContextManager[None]:
        """Nothing is written down while this is open."""
        return _Paused(self)

    def _register(self, node: fx.Node, result: Any) -> Any:
        """Remember which node a result came from; the parts of a tuple or list become getitem nodes."""
        record = record_of(node)
        record.value = result
        if record.module_path is None:
            record.module_path = self.owners[-1]
        if torch.is_tensor(result):
            self.nodes[id(result)] = node
        elif isinstance(result, (tuple, list)):
            for i, part in enumerate(result):
                if torch.is_tensor(part):
                    self._register(self.create_node("call_function", operator.getitem, (node, i), {}), part)
        return result

    def _described(self, node: fx.Node, rule: Rule | None, offered: Mapping[str, Any], *, history: bool) -> Any:
        """The outputs of a leaf that is not run, as its rule describes them."""
        assert rule is not None
        specs = rule.output_specs(
            tree_map(lambda each: spec_of(each) if torch.is_tensor(each) else each, dict(offered))
        )
        tensors = tensors_of(offered)
        gradient = history and torch.is_grad_enabled() and any(each.requires_grad for each in tensors)

        def made() -> tuple[torch.Tensor, ...]:
            return tuple(self.fakes.make(spec.shape, None, getattr(torch, spec.dtype)) for spec in specs)

        results = differentiable_results(made, self._gradient_of, tensors) if gradient else made()
        record_of(node).is_described = True
        if hasattr(specs, "_fields"):
            return type(specs)(*results)  # a named tuple stays one
        return results[0] if len(results) == 1 else results

    def _as_nodes(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._node_of(value)
        if isinstance(value, torch.SymFloat):
            return math.nan  # a number that data decides: not 1, nor any other that a rule may look for
        return fx.node.map_aggregate(value, self._as_nodes) if isinstance(value, _AGGREGATES) else value

    def _node_of(self, tensor: torch.Tensor, *, may_open: bool = True) -> fx.Node:
        """The node a tensor came from; a parameter, a buffer or a constant gets its own at first sight."""
        if self.fakes.is_fake(tensor):
            fake = tensor
        else:
            with self.paused():
                fake = self.fakes.fake_for(tensor)
        node = self.nodes.get(id(fake))
        if node is not None and node.op == "get_attr":
            return node
        is_parameter = isinstance(fake, nn.Parameter)
        # what autograd saved, detached, and hands out again when it runs inside of a model
        unseen = node is None or node.target is torch.ops.aten.detach.default
        if node is not None and not unseen and not is_parameter:
            return node
        if unseen and fake.grad_fn is not None:
            if (saved := self.histories.node_of(fake)) is not None:
                self.nodes[id(fake)] = saved
                self.kept.append(fake)
            elif node is None and may_open and torch.is_grad_enabled():
                self._open_what_made(fake.grad_fn)
        own = self._converted_name(fake) if is_parameter and node is not None else None
        if own is not None or id(fake) not in self.nodes:
            name = own or self.fakes.name_of(fake)
            if name is None:
                if fake.grad_fn is not None and not in_backward():  # autograd hands out what it saved
                    self.unseen.setdefault(_UNSEEN.format(where=self.line or user_line()))
                name = f"{'parameter' if is_parameter else 'constant'}_{self.unheld[is_parameter]}"
                self.unheld[is_parameter] += 1
            node = self._named_after("get_attr", name, (), {})
            record = record_of(node)
            record.module_path, record.is_parameter = name.rpartition(".")[0], is_parameter
            self._register(node, fake)
        return self.nodes[id(fake)]

    def _open_what_made(self, history: Any) -> None:
        """The composite operator that ran when autograd made a function, by the order of these, is no leaf any more."""
        with DisableTorchFunction():
            made = sequence_number(history)
            after = [
                (sequence_number(function), node)
                for node in self.graph.nodes
                if torch.is_tensor(value := record_of(node).value)
                and (function := history_of(value)[0]) is not None
                and sequence_number(function) >= made
            ]
        call = record_of(min(after, key=lambda each: each[0])[1]).call if after else None
        if call is not None and call in self._composites.values():
            raise CompositeExpanded(call)

    def _named_after(self, kind: str, path: str, args: Any, kwargs: Any, call: int = 1) -> fx.Node:
        """A node that bears the path of what a module holds, with a number if it is called again.

        So names in one block become those in another one by what stands before them.
        """
        if "." not in path:
            self.folding.is_named(path)
            return self.create_node(kind, path, args, kwargs)
        node = self.create_node(kind, path, args, kwargs, "held")
        record_of(node).name = path if call == 1 else f"{path}:{call}"
        return node

    def _converted_name(self, fake: torch.Tensor) -> str | None:
        """The name of a parameter that was converted on the way: it is trained as the one that it was."""
        return held_under(self.program, self.owners[-1], fake)


class _Paused:
    """What ``Tracer.paused`` gives. An operator pauses several times, so it is no generator."""

    __slots__ = ("before", "tracer")

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def __enter__(self) -> None:
        self.before, self.tracer.recording = self.tracer.recording, False

    def __exit__(self, *raised: object) -> None:
        self.tracer.recording = self.before


def _is_transformed() -> bool:
    """Whether a transformation of torch.func is at work: the operators that it makes of a function are what runs."""
    return peek_interpreter_stack() is not None


def _not_counted(pack: Any) -> str:
    code = getattr(pack, "__code__", None)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(pack)
    return f"hooks on saved tensors ({where}): work that they do when tensors are saved and unpacked may not be counted"


def _close_regions(graph: fx.Graph) -> None:
    """Say of each node which checkpointed regions it reaches, and with which it runs again."""
    for node in graph.nodes:
        record = record_of(node)
        place, record.place = record.place or _NOWHERE, None
        record.reaches, record.runs_again = place.reaches(), place.runs_again()


def _specs(op: OpOverload, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The operands of a call by name, as a rule is offered them."""
    signature = signature_of(op)
    named = {**signature.defaults, **dict(zip(signature.names, args, strict=False)), **kwargs}
    return {name: tree_map(_spec_if_tensor, value) for name, value in named.items()}


def _spec_if_tensor(value: Any) -> Any:
    return spec_of(value) if torch.is_tensor(value) else value


def _is_packed(value: Any) -> bool:
    return type(value) is PackedSequence


_NOWHERE = Place()
"""where a call ran that is in no checkpointed region"""

_AGGREGATES = (tuple, list, dict, slice)
"""what ``torch.fx`` looks into for nodes"""

_OF_SPARSE = {
    getattr(torch.ops.aten, name)
    for name in ("mm", "addmm", "mv", "_sparse_addmm", "t", "transpose", "detach", "alias")
}
"""what may be done with a sparse matrix: products by a dense one, and views"""

_UNSEEN = (
    "{where}: a tensor was made where no trace is, such as in a thread of the model's: what made it is not counted"
)

_OVERWRITING = ("copy_", "fill_", "zero_")
"""in-place operations through which no gradient flows to what was there before"""


def _behind(function: Any) -> OpOverload | None:
    """The ATen operator that goes by the name of a function; an operator itself."""
    name = getattr(function, "__name__", "")
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.isidentifier() else None
    op = getattr(packet, "default", None) if isinstance(packet, OpOverloadPacket) else None
    return function if isinstance(function, OpOverload) else op


def _is_composite(name: str) -> bool:
    return is_registered(name) and has_kernel(name, "CompositeImplicitAutograd")


def _drop_bookkeeping(graph: fx.Graph, read: Set[fx.Node]) -> None:
    """Drop the detached copies that autograd saves for itself: nobody uses them."""
    for node in reversed(graph.nodes):
        if not node.users and node not in read and node.target in (operator.getitem, torch.ops.aten.detach.default):
            graph.erase_node(node)
            node.meta.clear()
