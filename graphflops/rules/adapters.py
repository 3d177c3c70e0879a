"""Formulas written for other counters, taken in as rules and marked as such: torch's, fvcore's, and hooks of modules.

Each adapter makes a Rule whose name and ``about`` say where it comes from, to be given as any other:

    analyze(model, args, rules=[*adapters.from_torch(), adapters.fvcore_handle("mylib::scan", handle)])

What another counter's formula says is taken as it is. Three things it cannot say, and nothing is made up for them:

- Gradients. Without ``backward=`` they are reported as unknown; none is taken as twice the forward pass.
- Classes of work. ``counts=`` says what its numbers are: multiply-adds unless told, torch's two for each.
- Symbols. Many formulas work on numbers alone. What they give is then explained as a number, and not as a formula.

A formula that raises on a call, or asks of a tensor for what a shape and a dtype do not tell, leaves the call unknown.
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

Foreign: TypeAlias = Callable[..., Any]
"""a formula of another counter"""
Backward: TypeAlias = "Foreign | Mapping[str, Foreign] | None"
"""One formula for all gradients together, or one for each operand. It takes what the forward one takes."""


# -- torch: register_flop_formula ---------------------------------------------------------------------------------


def from_torch() -> list[Rule]:
    """The rules of all formulas that were given to ``torch.utils.flop_counter.register_flop_formula`` so far.

    Torch's own of ATen operators are left out: graphflops has rules for them. So are those of Triton kernels and
    higher-order operators, which are no single calls of a graph here.
    """
    found = [each for each in flop_counter.flop_registry.items() if isinstance(each[0], OpOverloadPacket)]
    return [
        _of_torch(target, formula, None, "macs", None)
        for target, formula in found
        if not (_home(formula) == "torch" and target._qualified_op_name.startswith("aten::"))
    ]


def torch_formula(target: Target, formula: Foreign, *, backward: Backward = None, counts: str = "macs") -> Rule:
    """The rule of a formula as ``register_flop_formula`` takes it: ``f(*shapes, out_shape=shape, **options) -> FLOPs``.

    What the decorator gives back is taken too. A formula with ``out_val``, as ``get_raw=True`` has them, is given meta
    tensors. Two FLOPs are one multiply-add; with another class of work in ``counts``, one is one.

    Raises:
        UsageError: the target is no operator, or ``counts`` no class of work.
    """
    return _of_torch(target, formula, backward, counts, sys._getframe(1))


def _of_torch(target: Target, formula: Foreign, backward: Backward, counts: str, frame: Any) -> Rule:
    each = 2 if counts == "macs" else 1

    def called(one: Foreign, offered: Mapping[str, Any]) -> Size:
        wrapped = getattr(one, "__code__", None) is _WRAPPER
        raw = not wrapped and (frame is None or "out_val" in inspect.signature(one).parameters)
        given = _tensors if raw else _shapes
        args, kwargs = _as_dispatched(op, offered)
        name = "out_val" if raw or wrapped else "out_shape"
        result = one(*given(args), **given(kwargs), **{name: given(offered["out"])})
        return _shared(_exact(result), each)

    op = _operator(target)
    return _rule(target, "torch", formula, backward, counts, called, _arguments_of(op), frame)


_WRAPPER = flop_counter.shape_wrapper(len).__code__  # type: ignore[no-untyped-call]
"""the code of what torch puts around a formula of shapes"""


def _as_dispatched(op: OpOverload | OpOverloadPacket, offered: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as a dispatch mode sees them: by position as far as the schema does, without defaults at the end."""
    schema = _overload(op, offered)._schema.arguments
    args = [each for each in schema if not each.kwarg_only]
    while args and args[-1].has_default_value() and offered.get(args[-1].name) == args[-1].default_value:
        args.pop()
    options = [each for each in schema if each.kwarg_only and offered.get(each.name) != each.default_value]
    return [offered.get(each.name) for each in args], {each.name: offered.get(each.name) for each in options}


# -- fvcore: handle(inputs, outputs) ------------------------------------------------------------------------------

_TRACED = {"aten::_convolution": (torch.ops.aten.convolution, (False, False, True, True))}
"""what torch.jit.trace records otherwise than autograd differentiates, and the arguments that it has beyond"""


def fvcore_handle(target: Target, handle: Foreign, *, backward: Backward = None, counts: str = "macs") -> Rule:
    """The rule of a handle as fvcore's ``set_op_handle`` takes it: ``handle(inputs, outputs) -> number or Counter``.

    The target may be written as there, ``"aten::matmul"``. Inputs and outputs are stand-ins for ``torch._C.Value`` that
    know what is asked for shapes and constants: ``isCompleteTensor()``, ``type().sizes()``, ``type().dim()``,
    ``toIValue()``, and ``node().inputs()`` of a list. A Counter's counts are added up.

    Raises:
        UsageError: the target is no operator, or ``counts`` no class of work.
    """
    target, beyond = _TRACED.get(target, (target, ())) if isinstance(target, str) else (target, ())

    def called(one: Foreign, offered: Mapping[str, Any]) -> Size:
        out = offered["out"]
        inputs = [*(offered.get(each.name) for each in _overload(op, offered)._schema.arguments), *beyond]
        result = one(list(map(_value, inputs)), list(map(_value, out if isinstance(out, tuple) else (out,))))
        return _exact(sum(result.values()) if isinstance(result, Mapping) else result)

    op = _operator(target)
    return _rule(target, "fvcore", handle, backward, counts, called, _arguments_of(op), sys._getframe(1))


def _value(given: Any) -> Any:
    """A stand-in for a value of a TorchScript graph: a tensor, a list of values, or a constant."""
    several = list(map(_value, given)) if isinstance(given, (tuple, list)) else []
    made = SimpleNamespace(isCompleteTensor=lambda: isinstance(given, Spec))
    made.node = lambda: SimpleNamespace(inputs=lambda: iter(several), inputsSize=lambda: len(several))
    made.toIValue = lambda: None if isinstance(given, Spec) else given
    if isinstance(given, Spec):
        made.type = lambda: SimpleNamespace(sizes=lambda: list(given.shape), dim=lambda: len(given.shape))
    return made


# -- thop, ptflops: hook(module, inputs, output) ------------------------------------------------------------------

_COUNTERS = ("total_ops", "__flops__")


def module_hook(
    target: Target, hook: Foreign, *, attributes: Sequence[str] = (), backward: Backward = None, counts: str = "macs"
) -> Rule:
    """The rule of a hook ``hook(module, inputs, output)`` that adds to ``module.total_ops`` or ``module.__flops__``.

    The first is how thop's ``custom_ops`` are written, the second how ptflops' ``custom_modules_hooks`` are; torchinfo
    has none. The module is a stand-in that has what the hook's code reads of it, as ``module.weight``; what only a
    function called by the hook reads is named in ``attributes``.

    Raises:
        UsageError: the target is no module class, or ``counts`` no class of work.
    """
    cls = resolve(target)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise UsageError(
            f"{target!r} is no module class that is imported: a hook is of one, torch.nn.Linear for example"
        )
    inputs = list(inspect.signature(cls.forward).parameters)[1:]
    known = available_names(cls)
    read = dict.fromkeys([*_attributes_read(hook), *attributes])
    own = [name for name in read if name not in _COUNTERS and (known is None or name in known)]

    def called(one: Foreign, offered: Mapping[str, Any]) -> Size:
        module = _Module({name: _tensors(offered[name]) for name in own if name in offered}, set(own), known)
        one(module, tuple(_tensors(offered[name]) for name in inputs if name in offered), _tensors(offered["out"]))
        counted = [_exact(getattr(module, name)) for name in _COUNTERS]
        return counted[0] + counted[1]

    asked = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in dict.fromkeys([*inputs, *own])]
    return _rule(target, "a hook of modules", hook, backward, counts, called, asked, sys._getframe(1))


class _Module:
    """A stand-in that has what was offered. What the module may have and this does not is no default of ``getattr``."""

    def __init__(self, given: Mapping[str, Any], asked: Set[str], known: Set[str] | None) -> None:
        vars(self).update(dict.fromkeys(_COUNTERS, 0), _asked=asked, _known=known)
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        if name in self._asked or (self._known is not None and name not in self._known):
            raise AttributeError(f"the module has no {name}")
        raise NotSupported(f"the hook reads {name} of the module in code that is not its own: name it in attributes=")


def _attributes_read(hook: Foreign) -> Iterator[str]:
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


# -- what they share ----------------------------------------------------------------------------------------------


def _rule(
    target: Target,
    origin: str,
    formula: Foreign,
    backward: Backward,
    counts: str,
    called: Callable[[Foreign, Mapping[str, Any]], Size],
    asked: Iterable[Parameter],
    frame: Any,
) -> Rule:
    """A rule that asks for all that a call may offer, and hands it to the formula in the form that it knows."""
    if counts not in WORK_CLASSES:
        raise UsageError(f"counts is a class of work, not {counts!r}; there are: {', '.join(WORK_CLASSES)}")
    name = _name_of(formula)

    def work(one: Foreign, offered: Mapping[str, Any]) -> Work:
        try:
            return Work(**{counts: called(one, offered)})
        except NotSupported:
            raise
        except Exception as error:
            raise NotSupported(
                f"{_name_of(one)}, adapted from {origin}, raised {type(error).__name__}: {error}"
            ) from error

    def cost(out: Any, **operands: Any) -> Cost:
        offered = {**operands, "out": out}
        given = {"|".join(_tensors_in(operands)) or "*": backward} if callable(backward) else backward or {}
        return Cost(work(formula, offered), {key: work(one, offered) for key, one in given.items()})

    out = Parameter("out", Parameter.KEYWORD_ONLY)
    cost.__signature__ = inspect.Signature([*asked, out])  # type: ignore[attr-defined]
    file, line = _place(formula)
    said = inspect.cleandoc(inspect.getdoc(_unwrapped(formula)) or "").partition("\n\n")[0]
    where = ""
    if frame is not None:  # the rule stands where it was adapted, as one of its own does
        where = f" ({source_of(file, line)})"
        file, line = frame.f_code.co_filename, frame.f_lineno
    about = f"Adapted from {origin}: {name}{where}. {said}".strip()
    return Rule(f"{name} (adapted from {origin})", (target,), cost, file, line, about, adapted_from=origin)


def _operator(target: Target) -> OpOverload | OpOverloadPacket:
    found = resolve(target)
    if isinstance(found, CustomOpDef):
        return found._opoverload
    if not isinstance(found, (OpOverload, OpOverloadPacket)):
        raise UsageError(f"{target!r} is no operator that is there: give torch.ops.mylib.scan, or 'mylib::scan'")
    return found


def _arguments_of(op: OpOverload | OpOverloadPacket) -> list[Parameter]:
    """All that calls of an operator may offer, whichever overload they are of."""
    arguments = {each.name: each for one in overloads(op) for each in one._schema.arguments if each.name != "out"}
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=each.default_value, annotation=_annotation(str(each.type)))
        for name, each in arguments.items()
    ]


def _annotation(kind: str) -> Any:
    """As a rule would write it, so that ``rules show`` can make up a call."""
    plain = {"int": int, "SymInt": int, "float": float, "bool": bool, "int[]": list[int], "SymInt[]": list[int]}
    if kind.startswith("List[Tensor"):
        return tuple[Spec, ...]
    return Spec if "Tensor" in kind else plain.get(kind, object)


def _overload(op: OpOverload | OpOverloadPacket, offered: Mapping[str, Any]) -> OpOverload:
    """The overload whose names a call offers; where two have the same, they stand in the same order."""
    given = set(offered) - {"out"}
    fitting = (each for each in overloads(op) if {one.name for one in each._schema.arguments} - {"out"} == given)
    return next(fitting, overloads(op)[0])


def _tensors_in(operands: Mapping[str, Any]) -> Iterator[str]:
    """The names of the tensors, as gradients are keyed by them."""
    for name, each in operands.items():
        if isinstance(each, Spec):
            yield name
        elif isinstance(each, (tuple, list)) and any(isinstance(one, Spec) for one in each):
            yield f"{name}.*"


class Shape(tuple[Size, ...]):
    """A shape as ``torch.Size`` is one, also of symbols."""

    def numel(self) -> Size:
        """The number of elements."""
        return prod(self)


def _shapes(given: Any) -> Any:
    return _put(given, lambda spec: Shape(spec.shape))


def _tensors(given: Any) -> Any:
    return _put(given, _tensor)


def _put(given: Any, made: Callable[[Spec], Any]) -> Any:
    """The same with something else in place of each Spec, in lists and dicts too."""
    if isinstance(given, Spec):
        return None if given.dtype == "none" else made(given)
    if isinstance(given, dict):
        return {name: _put(each, made) for name, each in given.items()}
    return type(given)(_put(each, made) for each in given) if type(given) in (tuple, list) else given


def _tensor(spec: Spec) -> Any:
    """A tensor without data; of symbols something that knows its shape."""
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


def _exact(count: Any) -> Size:
    """A count as an exact number or a formula, however the other counter holds its numbers.

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
        raise NotSupported(f"it gave {count!r}, which is no whole number") from None


def _shared(count: Size, by: int) -> Size:
    """FLOPs of which so many are one of the class.

    Raises:
        NotSupported: they are not.
    """
    if not isinstance(count, int):
        return count / by
    if count % by:
        raise NotSupported(
            f"it gave {count}, which is odd: these are no multiply-adds at 2. Say what they are with counts="
        )
    return count // by


def _unwrapped(formula: Foreign) -> Any:
    inner: Any = inspect.unwrap(formula)
    return _unwrapped(inner.func) if isinstance(inner, partial) else inner


def _name_of(formula: Foreign) -> str:
    inner = _unwrapped(formula)
    return getattr(inner, "__name__", type(inner).__name__)


def _home(formula: Foreign) -> str:
    """The package that a formula was written in."""
    return str(getattr(_unwrapped(formula), "__module__", "")).split(".")[0]


def _place(formula: Foreign) -> tuple[str, int]:
    inner = _unwrapped(formula)
    code = getattr(inner if inspect.isfunction(inner) else type(inner).__call__, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("unknown", 0)
