"""Generic rules for ATen operators that no rule names, from their tags and schemas in PyTorch.

They count one operation for each element, six real ones of a complex number, so that cheap operators of the long tail
are not unknown. Their names begin with "generic", and a report shows them. A rule that names the operator always takes
precedence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.entries import OWN_CODE
from graphflops.core.sizes import Spec
from graphflops.core.torch_compat import OpOverload, OpOverloadPacket, has_kernel, is_reduction, is_registered
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule
from graphflops.rules.templates import ALL_OPERANDS, additions, sum_to_size

OF_ITS_OWN_CODE = Rule(
    OWN_CODE,
    ("graphflops.own_code",),
    lambda: Cost(grads={ALL_OPERANDS: ZERO}),
    __file__,
    1,
    "No rule names it: its work is that of the operators that its own forward and backward run, on lines of their own.",
)
"""of an autograd.Function, or an operator written in Python, that is counted by its own code"""
_VARIANTS = ("_copy", "_functional")
_COMPLEX = 6
"""real operations of a complex product"""


def fallback_rule(book: RuleBook, op: OpOverload | OpOverloadPacket) -> Rule | None:
    """The rule of an operator that no rule names: that of its base operator if it is a variant, else a generic one."""
    if isinstance(op, OpOverloadPacket):
        return None
    rules = (book.rules[name] for name in base_names(op) if name in book.rules)
    return next(rules, None) or generic_rule(op)


def base_names(op: OpOverload) -> Iterator[str]:
    """The names of the operators that an operator is a copying or functional variant of: ``aten::view``."""
    name = op._schema.name
    for suffix in _VARIANTS:
        if name.endswith(suffix) and name.removesuffix(suffix) != name:
            yield name.removesuffix(suffix)


def generic_rule(op: OpOverload) -> Rule | None:
    """The rule of an operator by its tags and schema; None if they do not tell its cost.

    A composite operator has none: the operators that it runs are counted instead.
    """
    return _generic_rule(op) if op.namespace == "aten" else None  # others are gone when their library is


@cache
def _generic_rule(op: OpOverload) -> Rule | None:
    if _is_composite(op):
        return None
    operands, tags = _tensor_arguments(op), op.tags
    if torch.Tag.pointwise in tags and operands:
        return _rule(op, "pointwise", "one elementwise operation an element, and one for each gradient", _pointwise)
    if is_reduction(op) and operands:
        return _rule(op, "reduction", "one elementwise operation an element of the input, each way", _reduction)
    if _is_view(op) or torch.Tag.view_copy in tags or torch.Tag.inplace_view in tags:
        return _rule(op, "view", "zero: a view of the same data, or a copy of one, by its schema", _free)
    if not operands and op._schema.returns:
        return _rule(op, "creation", "zero: made from no tensor, by its schema", _free)
    if not op._schema.returns and not op._schema.is_mutable:
        return _rule(op, "check", "zero: returns nothing and writes nothing, by its schema", _free)
    return None


def _pointwise(op: OpOverload, operands: Mapping[str, Any], out: Any) -> Cost:
    out = out[0] if isinstance(out, tuple) else out
    specs = {name: spec for name, spec in operands.items() if isinstance(spec, Spec)}
    is_complex = out.is_complex or any(spec.is_complex for spec in specs.values())
    gradient = Work(elementwise=_COMPLEX * out.numel if is_complex else out.numel)
    forward = additions(out.numel, next((spec for spec in specs.values() if spec.is_floating), out))
    if is_complex:
        forward = gradient
    if not out.is_floating:
        return Cost(forward, {ALL_OPERANDS: ZERO})
    return Cost(forward, {name: gradient + sum_to_size(out, spec) for name, spec in specs.items()})


def _reduction(op: OpOverload, operands: Mapping[str, Any], out: Any) -> Cost:
    name, spec = next((name, spec) for name, spec in operands.items() if isinstance(spec, Spec))
    gradient = Work(elementwise=spec.numel * (2 if spec.is_complex else 1))
    return Cost(additions(spec.numel, spec), {name: gradient})


def _free(op: OpOverload, operands: Mapping[str, Any], out: Any) -> Cost:
    return Cost(grads={ALL_OPERANDS: ZERO})


def _rule(op: OpOverload, kind: str, about: str, formula: Callable[[OpOverload, Mapping[str, Any], Any], Cost]) -> Rule:
    """A rule whose arguments are the tensors of a schema, and ``out``."""

    def cost(out: Any = None, **operands: Any) -> Cost:
        return formula(op, operands, out)

    names = [*_tensor_arguments(op), "out"]
    cost.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
    )
    name = f"generic {kind}"
    return Rule(name, (op,), cost, __file__, formula.__code__.co_firstlineno, f"generic, no rule names it: {about}")


def _tensor_arguments(op: OpOverload) -> list[str]:
    return [
        argument.name for argument in op._schema.arguments if "Tensor" in str(argument.type) and not argument.is_out
    ]


def _is_view(op: OpOverload) -> bool:
    """Whether every result shares the memory of an argument, without writing to it."""
    infos = [argument.alias_info for argument in op._schema.returns]
    return bool(infos) and all(info is not None and not info.is_write for info in infos)


def _is_composite(op: OpOverload) -> bool:
    overload = op._schema.overload_name
    name = f"{op._schema.name}.{overload}" if overload else op._schema.name
    return not is_registered(name) or has_kernel(name, "CompositeImplicitAutograd")
