"""Stage 1, trace: model and inputs to a torch.fx graph of operators, on fake tensors. No arithmetic is done.

The model's Python runs once on fake tensors, which have shape and dtype and no data. Three layers watch it, and what a
rule names is a leaf on each of them:

    nn.Module.__call__          module classes             (and whose work it is: the module path)
    autograd.Function.apply     custom backward            always a leaf: its body is not what autograd differentiates
    functions, custom and ATen operators                   composite ones with a rule (linear, attention), else the ATen
                                                           operators they run

So Python that depends on shapes works, and Python that depends on data is refused with the user's own line.
"""

from __future__ import annotations

import inspect
import operator
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from graphflops.errors import CaptureError, GraphflopsError
from graphflops.rulebook import Rule, RuleBook, dotted_name
from graphflops.sizes import Spec, as_size

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = __file__
_MODES_FUNCTIONS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@dataclass(frozen=True)
class Trace:
    """What tracing hands on: the graph, and what the model is made of.

    Each node's ``meta`` has ``val`` (fake tensor, or a tuple of them), ``owner`` (module path), ``line`` (the user's
    source line) and, for calls, ``call`` (what a rule may name) and ``offered`` (its operands by name, as nodes).
    """

    graph: fx.Graph
    modules: Mapping[str, str]
    """module path → class name, of every module"""
    called: frozenset[str]
    """paths of the modules that ran"""
    name: str
    inputs: Mapping[str, Spec] = field(default_factory=dict)
    parameters: Mapping[str, Spec] = field(default_factory=dict)
    """name → Spec, of every parameter of the model, whether it is used or not"""
    trainable: frozenset[str] = frozenset()
    """names of the parameters that require grad"""


def trace(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], book: RuleBook, *, grad: bool = True
) -> Trace:
    """Trace a model on its inputs; tensors may be real, meta or fake, on any device.

    The model is as it was afterwards, also when this raises: parameters and buffers are lent fake stand-ins for the
    time of the trace, and every attribute of every module is put back.

    Raises:
        CaptureError: the model's own code refused the inputs, or needs a value that only data can tell.
    """
    root = model if isinstance(model, nn.Module) else _Function(model)
    return Tracer(root, book).run(args, kwargs, grad=grad)


class _Function(nn.Module):
    """A bare function as a module, so that the rest needs no second case."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.forward = function


class Tracer(fx.Tracer):
    """An fx tracer whose values are fake tensors and not proxies, so that a model cannot tell it from a run."""

    def __init__(self, root: nn.Module, book: RuleBook) -> None:
        super().__init__()
        self.root: nn.Module = root
        self.book = book
        self.graph = fx.Graph(tracer_cls=type(self))
        self.fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.paths = {id(module): path for path, module in root.named_modules()}
        self.names = {id(each): name for name, each in (*root.named_parameters(), *root.named_buffers())}
        self.device = next((each.device for each in (*root.parameters(), *root.buffers())), None)
        self.stand_ins: dict[int, torch.Tensor] = {}  # id of a real tensor → its fake
        self.originals: dict[int, torch.Tensor] = {}  # id of a fake → the real tensor, for its name
        self.nodes: dict[int, fx.Node] = {}  # id of a fake tensor → the node that made it
        self.owners = [""]
        self.called: set[str] = set()
        self.failed_at: str | None = None
        self.recording = True

    # -- the run -------------------------------------------------------------------------------------------------

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, grad: bool) -> Trace:
        """Run the root on fake stand-ins of its inputs, and write down what it calls."""
        modules = {path: type(module).__name__ for path, module in self.root.named_modules()}
        with _unchanged(self.root), torch.inference_mode(False), torch.set_grad_enabled(grad), self.fake_mode:
            fake_args, fake_kwargs = self._place(args, kwargs)
            self._lend_stand_ins()
            try:
                with self._watching():
                    result = self.root(*fake_args, **fake_kwargs)
            except GraphflopsError:
                raise
            except Exception as error:
                raise CaptureError(self._explain(error, args, kwargs)) from error
            self.graph.output(self._as_nodes(_open(result)))
        _drop_bookkeeping(self.graph)
        inputs = {node.name: spec_of(node.meta["val"]) for node in self.graph.find_nodes(op="placeholder")}
        parameters = dict(self.root.named_parameters())
        return Trace(
            self.graph,
            modules,
            frozenset(self.called),
            self._class_name(self.root),
            inputs,
            {name: spec_of(each) for name, each in parameters.items()},
            frozenset(name for name, each in parameters.items() if each.requires_grad),
        )

    def _place(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Placeholders for every tensor of the inputs, named as forward names them."""
        names = list(inspect.signature(self.root.forward).parameters)
        if self.device is None:
            self.device = next((each.device for each in tree_leaves((args, kwargs)) if torch.is_tensor(each)), None)

        def placeholder(name: str) -> Callable[[Any], Any]:
            def place(value: Any) -> Any:
                if not torch.is_tensor(value):
                    return value
                node = self.graph.placeholder(name)
                return self._register(node, self._fake(value))

            return place

        named = [names[i] if i < len(names) else f"input_{i}" for i in range(len(args))]
        placed = tuple(tree_map(placeholder(name), each) for name, each in zip(named, args, strict=True))
        return placed, {name: tree_map(placeholder(name), each) for name, each in kwargs.items()}

    def _fake(self, value: torch.Tensor) -> torch.Tensor:
        """The fake stand-in of a tensor: same shape, strides, dtype and requires_grad, no data, one device for all."""
        if id(value) not in self.stand_ins:
            device = self.device if self.device is not None else value.device
            fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
            if isinstance(value, nn.Parameter):
                fake = nn.Parameter(fake, requires_grad=value.requires_grad)
            else:
                fake.requires_grad_(value.requires_grad)
            self.stand_ins[id(value)] = fake
            self.originals[id(fake)] = value
        return self.stand_ins[id(value)]

    def _lend_stand_ins(self) -> None:
        for module in self.root.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        tensors[name] = self._fake(tensor)  # type: ignore[assignment]

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Watch modules, autograd Functions, functions and operators; leave nothing behind."""
        call_module, function = nn.Module.__call__, torch.autograd.function._SingleLevelFunction
        fast_path = torch.backends.mha.get_fastpath_enabled()

        def watched_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self._call_module(call_module, module, args, kwargs)

        def watched_apply(cls: type, *args: Any, **kwargs: Any) -> Any:
            return self._apply(cls, args, kwargs)

        nn.Module.__call__ = watched_call  # type: ignore[method-assign]
        function.apply = classmethod(watched_apply)
        torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel of eval mode, whose work is the same
        try:
            with _Operators(self), _Functions(self):
                yield
        finally:
            nn.Module.__call__ = call_module  # type: ignore[method-assign]
            del function.apply
            torch.backends.mha.set_fastpath_enabled(fast_path)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        recording, self.recording = self.recording, False
        try:
            yield
        finally:
            self.recording = recording

    # -- what the layers see -------------------------------------------------------------------------------------

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        """A module is a leaf if a rule speaks for its class."""
        return self.book.find(type(module)) is not None

    def _call_module(
        self, call: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not self.recording:
            return call(module, *args, **kwargs)
        path = self.paths.get(id(module), self.owners[-1])
        self.called.add(path)
        self.owners.append(path)
        try:
            if not self.is_leaf_module(module, path):
                return call(module, *args, **kwargs)
            # Only forward is replaced, so that hooks and parametrizations of a leaf are traced as what they are.
            own, forward = vars(module).get("forward"), module.forward
            module.forward = lambda *args, **kwargs: self._leaf(module, forward, args, kwargs)  # type: ignore[method-assign]
            try:
                return call(module, *args, **kwargs)
            finally:
                if own is None:
                    del module.forward
                else:
                    module.forward = own  # type: ignore[method-assign]
        except Exception:
            self.failed_at = path if self.failed_at is None else self.failed_at
            raise
        finally:
            self.owners.pop()

    def _leaf(
        self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        rule = self.book.find(type(module))
        assert rule is not None
        self.called.update(self.paths[id(each)] for each in module.modules() if id(each) in self.paths)
        operands = _bind(forward, args, kwargs)
        parameters = {
            name: each for name, each in module.named_parameters() if name not in operands and torch.is_tensor(each)
        }
        attributes = {
            name: getattr(module, name)
            for name in rule.asks_for()
            if name not in operands and name not in parameters and hasattr(module, name)
        }
        offered = {**operands, **parameters, **attributes}
        return self._record("call_module", self.owners[-1], args, kwargs, type(module), offered, rule, forward)

    def _apply(self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        apply = super(torch.autograd.function._SingleLevelFunction, cls).apply  # type: ignore[misc]
        forward = cls.forward  # type: ignore[attr-defined]
        if not self.recording or forward.__module__.split(".")[0] == "torch":
            return apply(*args, **kwargs)
        names = list(inspect.signature(forward).parameters)
        if cls.setup_context is torch.autograd.function._SingleLevelFunction.setup_context:  # type: ignore[attr-defined]
            names = names[1:]  # the first is ctx
        offered = {**dict(zip(names, args, strict=False)), **kwargs}
        return self._record("call_function", apply, args, kwargs, cls, offered, self.book.find(cls), apply)

    def composite(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpOverload | None:
        """The ATen operator that a function is a face of, if it is composite and a rule prices it as one piece."""
        name = getattr(function, "__name__", "")
        packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.isidentifier() else None
        if not isinstance(packet, OpOverloadPacket) or "default" not in packet.overloads():
            return None
        op = packet.default
        composite = torch._C._dispatch_has_kernel(op.name()) and torch._C._dispatch_has_kernel_for_dispatch_key(
            op.name(), "CompositeImplicitAutograd"
        )
        if not composite:
            return None
        if self.book.find(op) is None or any(name not in _argument_names(op) for name in kwargs):
            return None
        return op

    # -- writing down --------------------------------------------------------------------------------------------

    def record_operator(self, op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], run: Any) -> Any:
        """One operator call, its operands named as the operator's schema names them."""
        offered = dict(zip(_argument_names(op), args, strict=False)) | kwargs
        for argument in op._schema.arguments:
            if argument.name not in offered and argument.has_default_value():
                offered[argument.name] = argument.default_value
        return self._record("call_function", op, args, kwargs, op, offered, None, run)

    def _record(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        call: Any,
        offered: dict[str, Any],
        rule: Rule | None,
        run: Callable[..., Any],
    ) -> Any:
        operands = {name: self._as_nodes(value) for name, value in offered.items()}
        node = self.create_node(kind, target, self._as_nodes(tuple(args)), self._as_nodes(dict(kwargs)))
        node.meta.update(call=call, offered=operands, owner=self.owners[-1], line=_user_line())
        with self._paused():
            if rule is not None and rule.outputs is not None:
                result = self._described(rule, offered)
            else:
                result = run(*args, **kwargs)
        return self._register(node, result)

    def _register(self, node: fx.Node, result: Any) -> Any:
        """Remember which node a result came from; the parts of a tuple or list become getitem nodes."""
        node.meta["val"] = result
        node.meta.setdefault("owner", self.owners[-1])
        node.meta.setdefault("line", "")
        if torch.is_tensor(result):
            self.nodes[id(result)] = node
        elif isinstance(result, (tuple, list)):
            for i, part in enumerate(result):
                if torch.is_tensor(part):
                    item = self.create_node("call_function", operator.getitem, (node, i), {})
                    self._register(item, part)
        return result

    def _described(self, rule: Rule, offered: Mapping[str, Any]) -> Any:
        """The outputs of a leaf that is not run, as its rule describes them."""
        specs = rule.describe({name: _spec_if_tensor(value) for name, value in offered.items()})
        tensors = [each for each in tree_leaves(dict(offered)) if torch.is_tensor(each)]
        gradient = torch.is_grad_enabled() and any(each.requires_grad for each in tensors)

        def empty(spec: Spec) -> torch.Tensor:
            shape: Any = spec.shape
            fake = torch.empty(shape, dtype=getattr(torch, spec.dtype), device=self.device)
            return fake.requires_grad_().clone() if gradient and spec.is_floating else fake

        made = tuple(empty(spec) for spec in specs)
        return made[0] if len(made) == 1 else made

    def _as_nodes(self, value: Any) -> Any:
        return fx.node.map_aggregate(value, lambda each: self._node_of(each) if torch.is_tensor(each) else each)

    def _node_of(self, tensor: torch.Tensor) -> fx.Node:
        """The node a tensor came from; a parameter, a buffer or a constant gets its own at first sight."""
        if not isinstance(tensor, FakeTensor):
            tensor = self._fake(tensor)
        if id(tensor) not in self.nodes:
            original = self.originals.get(id(tensor), tensor)
            name = self.names.get(id(original), "constant")
            node = self.create_node("get_attr", name, (), {})
            node.meta.update(owner=name.rpartition(".")[0], parameter=isinstance(original, nn.Parameter), line="")
            self._register(node, tensor)
        return self.nodes[id(tensor)]

    # -- when it does not work -----------------------------------------------------------------------------------

    def _class_name(self, module: nn.Module) -> str:
        return module.function.__name__ if isinstance(module, _Function) else type(module).__name__  # type: ignore[union-attr]

    def _explain(self, error: Exception, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        path = self.failed_at or ""
        module = self.root.get_submodule(path)
        given = [str(spec_of(each)) for each in tree_leaves((args, dict(kwargs))) if torch.is_tensor(each)]
        needs_data = type(error).__name__ in ("DataDependentOutputException", "DynamicOutputShapeException")
        needs_data = needs_data or "GuardOnDataDependent" in type(error).__name__
        reason = "this line needs a value that only data can tell" if needs_data else f"{type(error).__name__}: {error}"
        lines = [
            f"could not trace {self._class_name(self.root)}",
            f"    where   {path or 'the model itself'} ({self._class_name(module)}), {_line_of(error)}",
            f"    why     {reason}",
            f"    inputs  {', '.join(given) or 'none'}",
        ]
        if needs_data:
            lines += [
                "",
                f"Give {self._class_name(module)} a rule that describes its outputs, so that it need not run:",
                "",
                *(f"    {line}" for line in stub(module).splitlines()),
            ]
        else:
            lines += [
                "",
                "The model's own code stopped here. Check the shapes and dtypes of the inputs against its forward.",
            ]
        return "\n".join(lines)


class _Functions(TorchFunctionMode):
    """Sees calls of torch functions and tensor methods."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer
        self.inside: set[Any] = set()

    def __torch_function__(self, function: Any, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.tracer.recording:
            return function(*args, **kwargs)
        if isinstance(function, types.FunctionType) and function not in self.inside:
            # A torch function written in Python hands itself over as a whole. Run its body under this mode instead,
            # so that the attention inside of F.multi_head_attention_forward is seen as attention.
            self.inside.add(function)
            try:
                with self:
                    return _body(function)(*args, **kwargs)
            finally:
                self.inside.discard(function)
        op = self.tracer.composite(function, args, kwargs)
        if op is not None:
            return self.tracer.record_operator(op, args, kwargs, function)
        return function(*args, **kwargs)


class _Operators(TorchDispatchMode):
    """Sees the operators that autograd differentiates, below everything composite."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(self, op: OpOverload, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.tracer.recording or op.namespace == "prim":
            return op(*args, **kwargs)
        return self.tracer.record_operator(op, args, kwargs, op)


@contextmanager
def _unchanged(root: nn.Module) -> Iterator[None]:
    """Put back every attribute of every module afterwards, and what its dicts, lists and sets held."""
    saved = []
    for module in root.modules():
        held = [(each, type(each)(each)) for each in vars(module).values() if type(each) in (list, set)]
        held += [(each, dict(each)) for each in vars(module).values() if isinstance(each, dict)]
        saved.append((module, dict(vars(module)), held))
    random_state = torch.get_rng_state()
    try:
        yield
    finally:
        for module, attributes, held in saved:
            for container, content in held:
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
            vars(module).clear()
            vars(module).update(attributes)
        torch.set_rng_state(random_state)


def spec_of(tensor: torch.Tensor) -> Spec:
    """The Spec of a tensor."""
    return Spec(tuple(as_size(size) for size in tensor.shape), str(tensor.dtype).removeprefix("torch."))


def stub(module: nn.Module) -> str:
    """A rule for a module's class, ready to paste: it runs as it is, and says what to fill in."""
    cls = type(module)
    first = next(iter(inspect.signature(module.forward).parameters), "input")
    return "\n".join(
        [
            "from graphflops import Cost, Work, rule",
            "",
            f'@rule("{dotted_name(cls)}", outputs=lambda {first}: {first})  # outputs: same shape as {first}; mend if not',
            f"def {cls.__name__.lower()}({first}, out):",
            '    """Say the formula here, and what it leaves out."""',
            "    work = Work(elementwise=0 * out.numel)  # fill in",
            f'    return Cost(forward=work, grads={{"{first}": work, "*": work}})',
        ]
    )


def _spec_if_tensor(value: Any) -> Any:
    return tree_map(lambda each: spec_of(each) if torch.is_tensor(each) else each, value)


def _open(result: Any) -> Any:
    """Outputs as plain containers: dataclasses and the like by their fields."""
    if isinstance(result, Mapping):
        return {key: _open(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        return tuple(_open(value) for value in result)
    if hasattr(result, "__dataclass_fields__"):
        return {name: _open(getattr(result, name)) for name in result.__dataclass_fields__}
    return result if torch.is_tensor(result) or isinstance(result, (int, float, bool, str)) else None


def _drop_bookkeeping(graph: fx.Graph) -> None:
    """Drop the detached copies that autograd saves for itself: nobody uses them."""
    for node in reversed(graph.nodes):
        if not node.users and (node.target is operator.getitem or node.target is torch.ops.aten.detach.default):
            graph.erase_node(node)


def _argument_names(op: OpOverload) -> list[str]:
    return [argument.name for argument in op._schema.arguments]


def _bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _body(function: types.FunctionType) -> types.FunctionType:
    """The same function, blind to modes at its own entrance: its body, with the question answered no."""
    blind = dict.fromkeys(_MODES_FUNCTIONS, lambda *_: False)
    copy = types.FunctionType(
        function.__code__,
        function.__globals__ | blind,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _is_users(file: str) -> bool:
    return not file.startswith(_TORCH) and file != _HERE and not file.startswith("<")


def _user_line() -> str:
    """``file:line`` of the innermost frame that is neither torch's nor the tracer's."""
    frame = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def _line_of(error: Exception) -> str:
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_users(each.filename)]
    if not frames:
        return "outside of any source file"
    last = frames[-1]
    return f"{last.filename}:{last.lineno}: {last.line}" if last.line else f"{last.filename}:{last.lineno}"
