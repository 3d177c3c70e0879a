"""Adapters: rules made of formulas that were written for other counters: torch's, fvcore's, and hooks of modules.

Each adapter returns a Rule whose name and ``about`` name the counter. It is given like any other:

    analyze(model, args, rules=[*adapters.from_torch(), adapters.fvcore_handle("mylib::scan", handle)])

The formula is used as it is. Formulas of other counters lack three things:

- Gradients. Without ``backward=`` they are reported as unknown; they are not assumed to be twice the forward pass.
- Classes of work. ``counts=`` names the class; the default is multiply-adds, two FLOPs each in torch's formulas.
- Symbols. Many formulas work on numbers alone. Their result is then shown as a number, not as a formula.

The call is unknown if a formula raises, or needs more of a tensor than its shape and dtype.
"""

from __future__ import annotations

import ast
import inspect
import operator
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils import flop_counter

from graphflops.core.costs import WORK_CLASSES, Cost, Work
from graphflops.core.errors import NotSupported, UsageError
from graphflops.core.sizes import Size, Spec, prod
from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket
from graphflops.rules.available_names import available_names, overloads
from graphflops.rules.rule import Rule, source_of
from graphflops.rules.targets import Target, resolve

ForeignFormula: TypeAlias = Callable[..., Any]
"""a formula of another counter"""
Backward: TypeAlias = "ForeignFormula | Mapping[str, ForeignFormula] | None"
"""One formula for all gradients together, or one for each operand, with the arguments of the forward formula."""


# -- torch: register_flop_formula ---------------------------------------------------------------------------------


def from_torch() -> list[Rule]:
    """The rules of all formulas registered with ``torch.utils.flop_counter.register_flop_formula`` so far.

    Torch's own formulas of ATen operators are left out, since graphflops has rules for these. So are formulas of Triton
    kernels and higher-order operators, which are not single calls in a graph.
    """
    registered = [item for item in flop_counter.flop_registry.items() if isinstance(item[0], OpOverloadPacket)]
    return [
        _torch_rule(target, formula, None, "macs", None)
        for target, formula in registered
        if not (_package_of(formula) == "torch" and target._qualified_op_name.startswith("aten::"))
    ]


def torch_formula(target: Target, formula: ForeignFormula, *, backward: Backward = None, counts: str = "macs") -> Rule:
    """The rule of a formula as ``register_flop_formula`` takes it: ``f(*shapes, out_shape=shape, **options) -> FLOPs``.

    The function that the decorator returns works too. A formula with ``out_val`` (``get_raw=True``) gets meta tensors.
    Two FLOPs are one multiply-add; with another class of work in ``counts``, one FLOP is one operation.

    Raises:
        UsageError: the target is not an operator, or ``counts`` not a class of work.
    """
    return _torch_rule(target, formula, backward, counts, sys._getframe(1))


def _torch_rule(target: Target, formula: ForeignFormula, backward: Backward, counts: str, frame: Any) -> Rule:
    flops_per_count = 2 if counts == "macs" else 1

    def call(formula: ForeignFormula, arguments: Mapping[str, Any]) -> Size:
        wrapped = getattr(formula, "__code__", None) is _WRAPPER
        raw = not wrapped and (frame is None or "out_val" in inspect.signature(formula).parameters)
        convert = _to_tensors if raw else _to_shapes
        args, kwargs = _as_dispatched(op, arguments)
        name = "out_val" if raw or wrapped else "out_shape"
        result = formula(*convert(args), **convert(kwargs), **{name: convert(arguments["out"])})
        return _divide(_to_count(result), flops_per_count)

    op = _operator(target)
    return _rule(target, "torch", formula, backward, counts, call, _parameters_of(op), frame)


_WRAPPER = flop_counter.shape_wrapper(len).__code__  # type: ignore[no-untyped-call]
"""the code of the wrapper that torch puts around a formula of shapes"""


def _as_dispatched(op: OpOverload | OpOverloadPacket, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as a dispatch mode gets them: positional unless keyword-only, without defaults at the end."""
    schema = _overload(op, values)._schema.arguments
    args = [argument for argument in schema if not argument.kwarg_only]
    while args and args[-1].has_default_value() and values.get(args[-1].name) == args[-1].default_value:
        args.pop()
    options = [
        argument for argument in schema if argument.kwarg_only and values.get(argument.name) != argument.default_value
    ]
    return [values.get(argument.name) for argument in args], {
        argument.name: values.get(argument.name) for argument in options
    }


# -- fvcore: handle(inputs, outputs) ------------------------------------------------------------------------------

_TRACED = {"aten::_convolution": (torch.ops.aten.convolution, (False, False, True, True))}
"""operators that torch.jit.trace records → the operator that autograd differentiates, and the further arguments"""


def fvcore_handle(target: Target, handle: ForeignFormula, *, backward: Backward = None, counts: str = "macs") -> Rule:
    """The rule of a handle as fvcore's ``set_op_handle`` takes it: ``handle(inputs, outputs) -> number or Counter``.

    The target may be written as in fvcore, ``"aten::matmul"``. Inputs and outputs imitate ``torch._C.Value`` as far as
    shapes and constants go: ``isCompleteTensor()``, ``type().sizes()``, ``type().dim()``, ``toIValue()``, and
    ``node().inputs()`` of a list. The counts of a Counter are summed.

    Raises:
        UsageError: the target is not an operator, or ``counts`` not a class of work.
    """
    target, further = _TRACED.get(target, (target, ())) if isinstance(target, str) else (target, ())

    def call(formula: ForeignFormula, arguments: Mapping[str, Any]) -> Size:
        out = arguments["out"]
        inputs = [*(arguments.get(argument.name) for argument in _overload(op, arguments)._schema.arguments), *further]
        outputs = out if isinstance(out, tuple) else (out,)
        result = formula(list(map(_jit_value, inputs)), list(map(_jit_value, outputs)))
        return _to_count(sum(result.values()) if isinstance(result, Mapping) else result)

    op = _operator(target)
    return _rule(target, "fvcore", handle, backward, counts, call, _parameters_of(op), sys._getframe(1))


def _jit_value(argument: Any) -> Any:
    """An imitation of a value of a TorchScript graph: a tensor, a list of values, or a constant."""
    items = list(map(_jit_value, argument)) if isinstance(argument, (tuple, list)) else []
    value = SimpleNamespace(isCompleteTensor=lambda: isinstance(argument, Spec))
    value.node = lambda: SimpleNamespace(inputs=lambda: iter(items), inputsSize=lambda: len(items))
    value.toIValue = lambda: None if isinstance(argument, Spec) else argument
    if isinstance(argument, Spec):
        value.type = lambda: SimpleNamespace(sizes=lambda: list(argument.shape), dim=lambda: len(argument.shape))
    return value


# -- thop, ptflops: hook(module, inputs, output) ------------------------------------------------------------------

_COUNTERS = ("total_ops", "__flops__")


def module_hook(
    target: Target,
    hook: ForeignFormula,
    *,
    attributes: Sequence[str] = (),
    backward: Backward = None,
    counts: str = "macs",
) -> Rule:
    """The rule of a hook ``hook(module, inputs, output)`` that adds to ``module.total_ops`` or ``module.__flops__``.

    Those of thop's ``custom_ops`` add to the first, those of ptflops' ``custom_modules_hooks`` to the second; torchinfo
    has none. The hook gets an imitation of the module with the attributes that its code reads, such as
    ``module.weight``. Name further ones in ``attributes``, if a function that the hook calls reads them.

    Raises:
        UsageError: the target is not a module class, or ``counts`` not a class of work.
    """
    cls = resolve(target)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise UsageError(f"{target!r} is not an imported module class; a hook needs one, such as torch.nn.Linear")
    inputs = list(inspect.signature(cls.forward).parameters)[1:]
    available = available_names(cls)
    names = dict.fromkeys([*_attributes_read(hook), *attributes])
    requested = [name for name in names if name not in _COUNTERS and (available is None or name in available)]

    def call(formula: ForeignFormula, arguments: Mapping[str, Any]) -> Size:
        values = {name: _to_tensors(arguments[name]) for name in requested if name in arguments}
        module = _ModuleImitation(values, set(requested), available)
        tensors = tuple(_to_tensors(arguments[name]) for name in inputs if name in arguments)
        formula(module, tensors, _to_tensors(arguments["out"]))
        counts = [_to_count(getattr(module, name)) for name in _COUNTERS]
        return counts[0] + counts[1]

    all_names = dict.fromkeys([*inputs, *requested])
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in all_names]
    return _rule(target, "a module hook", hook, backward, counts, call, parameters, sys._getframe(1))


class _ModuleImitation:
    """An object with the requested attributes of a module. Any other that the module may have raises NotSupported."""

    def __init__(self, values: Mapping[str, Any], requested: Set[str], available: Set[str] | None) -> None:
        vars(self).update(dict.fromkeys(_COUNTERS, 0), _requested=requested, _available=available)
        vars(self).update(values)

    def __getattr__(self, name: str) -> Any:
        if name in self._requested or (self._available is not None and name not in self._available):
            raise AttributeError(f"the module has no {name}")
        raise NotSupported(f"a function called by the hook reads {name} of the module: name it in attributes=")


def _attributes_read(hook: ForeignFormula) -> Iterator[str]:
    """The attributes that a hook's code reads of its first argument."""
    try:
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(hook)))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return
    if isinstance(function, ast.FunctionDef):
        module = [*function.args.posonlyargs, *function.args.args][0].arg
        for node in ast.walk(function):
            match node:
                case ast.Attribute(value=ast.Name(id=read), attr=name) if read == module:
                    yield name
                case ast.Call(
                    func=ast.Name(id="getattr" | "hasattr"),
                    args=[ast.Name(id=read), ast.Constant(value=str(name)), *_],
                ) if read == module:
                    yield name


# -- shared helpers ----------------------------------------------------------------------------------------------


def _rule(
    target: Target,
    origin: str,
    formula: ForeignFormula,
    backward: Backward,
    counts: str,
    call: Callable[[ForeignFormula, Mapping[str, Any]], Size],
    parameters: Iterable[Parameter],
    frame: Any,
) -> Rule:
    """A rule that requests every argument of a call, and converts them to the form that the formula takes."""
    if counts not in WORK_CLASSES:
        raise UsageError(f"counts={counts!r} is not a class of work; use one of: {', '.join(WORK_CLASSES)}")
    name = _name_of(formula)

    def work(formula: ForeignFormula, arguments: Mapping[str, Any]) -> Work:
        try:
            return Work(**{counts: call(formula, arguments)})
        except NotSupported:
            raise
        except Exception as error:
            raise NotSupported(
                f"{_name_of(formula)}, adapted from {origin}, raised {type(error).__name__}: {error}"
            ) from error

    def cost(out: Any, **operands: Any) -> Cost:
        arguments = {**operands, "out": out}
        gradients = {"|".join(_tensors_in(operands)) or "*": backward} if callable(backward) else backward or {}
        return Cost(work(formula, arguments), {key: work(gradient, arguments) for key, gradient in gradients.items()})

    out = Parameter("out", Parameter.KEYWORD_ONLY)
    cost.__signature__ = inspect.Signature([*parameters, out])  # type: ignore[attr-defined]
    file, line = _location_of(formula)
    summary = inspect.cleandoc(inspect.getdoc(_unwrapped(formula)) or "").partition("\n\n")[0]
    location = ""
    if frame is not None:  # the source of the rule is the line that adapts it
        location = f" ({source_of(file, line)})"
        file, line = frame.f_code.co_filename, frame.f_lineno
    about = f"Adapted from {origin}: {name}{location}. {summary}".strip()
    return Rule(f"{name} (adapted from {origin})", (target,), cost, file, line, about, adapted_from=origin)


def _operator(target: Target) -> OpOverload | OpOverloadPacket:
    op = resolve(target)
    if isinstance(op, CustomOpDef):
        return op._opoverload
    if not isinstance(op, (OpOverload, OpOverloadPacket)):
        raise UsageError(f"{target!r} is not a registered operator: give torch.ops.mylib.scan, or 'mylib::scan'")
    return op


def _parameters_of(op: OpOverload | OpOverloadPacket) -> list[Parameter]:
    """The arguments of all overloads of an operator."""
    schemas = [overload._schema for overload in overloads(op)]
    arguments = {
        argument.name: argument for schema in schemas for argument in schema.arguments if argument.name != "out"
    }
    return [
        Parameter(
            name, Parameter.KEYWORD_ONLY, default=argument.default_value, annotation=_annotation(str(argument.type))
        )
        for name, argument in arguments.items()
    ]


def _annotation(kind: str) -> Any:
    """The annotation that a rule would have, so that ``rules show`` finds example arguments."""
    plain = {"int": int, "SymInt": int, "float": float, "bool": bool, "int[]": list[int], "SymInt[]": list[int]}
    if kind.startswith("List[Tensor"):
        return tuple[Spec, ...]
    return Spec if "Tensor" in kind else plain.get(kind, object)


def _overload(op: OpOverload | OpOverloadPacket, arguments: Mapping[str, Any]) -> OpOverload:
    """The overload with these argument names. If two have the same names, they have them in the same order."""
    names = set(arguments) - {"out"}
    matches = (
        overload
        for overload in overloads(op)
        if {argument.name for argument in overload._schema.arguments} - {"out"} == names
    )
    return next(matches, overloads(op)[0])


def _tensors_in(operands: Mapping[str, Any]) -> Iterator[str]:
    """The keys of the gradients of all tensors among some operands."""
    for name, operand in operands.items():
        if isinstance(operand, Spec):
            yield name
        elif isinstance(operand, (tuple, list)) and any(isinstance(item, Spec) for item in operand):
            yield f"{name}.*"


class Shape(tuple[Size, ...]):
    """A shape like ``torch.Size`` that may have symbols."""

    def numel(self) -> Size:
        """The number of elements."""
        return prod(self)


def _to_shapes(value: Any) -> Any:
    return _map_specs(value, lambda spec: Shape(spec.shape))


def _to_tensors(value: Any) -> Any:
    return _map_specs(value, _tensor)


def _map_specs(value: Any, function: Callable[[Spec], Any]) -> Any:
    """The same value with a function applied to each Spec, also in tuples, lists and dicts."""
    if isinstance(value, Spec):
        return None if value.dtype == "none" else function(value)
    if isinstance(value, dict):
        return {name: _map_specs(item, function) for name, item in value.items()}
    return type(value)(_map_specs(item, function) for item in value) if type(value) in (tuple, list) else value


def _tensor(spec: Spec) -> Any:
    """A meta tensor; if its sizes are symbols, an object with the methods of a tensor that return sizes."""
    dtype = getattr(torch, spec.dtype)
    if all(isinstance(size, int) for size in spec.shape):
        return torch.empty(tuple(map(int, spec.shape)), dtype=dtype, device="meta")
    shape = Shape(spec.shape)
    return SimpleNamespace(
        shape=shape,
        dtype=dtype,
        ndim=len(shape),
        dim=lambda: len(shape),
        size=lambda axis=None: shape if axis is None else shape[axis],
        numel=shape.numel,
        nelement=shape.numel,
    )


def _to_count(count: Any) -> Size:
    """An int or a formula of a count of another type, such as a float or a tensor.

    Raises:
        NotSupported: it is a fraction, or not a number.
    """
    if hasattr(count, "free_symbols"):
        symbolic: Size = count
        return symbolic
    if torch.is_tensor(count):
        count = count.item()
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    try:
        return operator.index(count)
    except TypeError:
        raise NotSupported(f"it returned {count!r}, which is not a whole number") from None


def _divide(count: Size, by: int) -> Size:
    """A count divided by the FLOPs of one operation.

    Raises:
        NotSupported: it is not a multiple of them.
    """
    if not isinstance(count, int):
        return count / by
    if count % by:
        raise NotSupported(f"it returned {count}, which is odd, so these are not multiply-adds of 2 FLOPs; set counts=")
    return count // by


def _unwrapped(formula: ForeignFormula) -> Any:
    inner: Any = inspect.unwrap(formula)
    return _unwrapped(inner.func) if isinstance(inner, partial) else inner


def _name_of(formula: ForeignFormula) -> str:
    inner = _unwrapped(formula)
    return getattr(inner, "__name__", type(inner).__name__)


def _package_of(formula: ForeignFormula) -> str:
    """The package that defines a formula."""
    return str(getattr(_unwrapped(formula), "__module__", "")).split(".")[0]


def _location_of(formula: ForeignFormula) -> tuple[str, int]:
    inner = _unwrapped(formula)
    code = getattr(inner if inspect.isfunction(inner) else type(inner).__call__, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("unknown", 0)
