"""Generic rules: what PyTorch itself says of an ATen operator that no rule names, by its tags and its schema.

They price the long tail, one operation an element (six real ones of a complex number), so that what is cheap is not
unknown. Their names begin with "generic", and a report shows them; a rule that names the operator always speaks over
them.
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
    "No rule names it: its work is that of what its own forward and backward run, which stand for themselves.",
)
"""of an autograd.Function, or an operator written in Python, that is counted by its own code"""
_VARIANTS = ("_copy", "_functional")
_COMPLEX = 6
"""real operations of one on complex numbers: those of a product"""


def fallback_rule(book: RuleBook, op: OpOverload | OpOverloadPacket) -> Rule | None:
    """For an operator that no rule names: the rule of what it is a copying variant of, else a generic one."""
    if isinstance(op, OpOverloadPacket):
        return None
    named = (book.rules[name] for name in base_names(op) if name in book.rules)
    return next(named, None) or generic_rule(op)


def base_names(op: OpOverload) -> Iterator[str]:
    """What a variant that copies or mutates otherwise is a variant of: ``aten::view`` of ``aten::view_copy``."""
    name = op._schema.name
    for suffix in _VARIANTS:
        if name.endswith(suffix) and name.removesuffix(suffix) != name:
            yield name.removesuffix(suffix)


def generic_rule(op: OpOverload) -> Rule | None:
    """The rule for an operator by what PyTorch says of it, or None if it does not say enough.

    A composite operator has none: the operators that it runs are priced instead.
    """
    return _generic_rule(op) if op.namespace == "aten" else None  # others may be gone when their library is


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
        return _rule(op, "view", "zero: a view of the same data, or a copy of one, by its schema", _nothing)
    if not operands and op._schema.returns:
        return _rule(op, "creation", "zero: made from no tensor, by its schema", _nothing)
    if not op._schema.returns and not op._schema.is_mutable:
        return _rule(op, "check", "zero: returns nothing and writes nothing, by its schema", _nothing)
    return None


def _pointwise(op: OpOverload, operands: Mapping[str, Any], out: Any) -> Cost:
    out = out[0] if isinstance(out, tuple) else out
    given = {name: each for name, each in operands.items() if isinstance(each, Spec)}
    of_complex = out.is_complex or any(each.is_complex for each in given.values())
    gradient = Work(elementwise=_COMPLEX * out.numel if of_complex else out.numel)
    counted = additions(out.numel, next((each for each in given.values() if each.is_floating), out))
    if of_complex:
        counted = gradient
    if not out.is_floating:
        return Cost(counted, {ALL_OPERANDS: ZERO})
    return Cost(counted, {name: gradient + sum_to_size(out, each) for name, each in given.items()})


def _reduction(op: OpOverload, operands: Mapping[str, Any], out: Any) -> Cost:
    name, reduced = next((name, each) for name, each in operands.items() if isinstance(each, Spec))
    passed = Work(elementwise=reduced.numel * (2 if reduced.is_complex else 1))
    return Cost(additions(reduced.numel, reduced), {name: passed})


def _nothing(op: OpOverload, operands: Mapping[str, Any], out: Any) -> Cost:
    return Cost(grads={ALL_OPERANDS: ZERO})


def _rule(op: OpOverload, kind: str, about: str, formula: Callable[[OpOverload, Mapping[str, Any], Any], Cost]) -> Rule:
    """A rule that asks for the tensors of a schema, by their names, and for ``out``."""

    def cost(out: Any = None, **operands: Any) -> Cost:
        return formula(op, operands, out)

    asked = [*_tensor_arguments(op), "out"]
    cost.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in asked]
    )
    name = f"generic {kind}"
    return Rule(name, (op,), cost, __file__, formula.__code__.co_firstlineno, f"generic, no rule names it: {about}")


def _tensor_arguments(op: OpOverload) -> list[str]:
    return [each.name for each in op._schema.arguments if "Tensor" in str(each.type) and not each.is_out]


def _is_view(op: OpOverload) -> bool:
    """Whether all that it returns is an argument's memory, which it does not write to."""
    infos = [each.alias_info for each in op._schema.returns]
    return bool(infos) and all(info is not None and not info.is_write for info in infos)


def _is_composite(op: OpOverload) -> bool:
    overload = op._schema.overload_name
    name = f"{op._schema.name}.{overload}" if overload else op._schema.name
    return not is_registered(name) or has_kernel(name, "CompositeImplicitAutograd")
