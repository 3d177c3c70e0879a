"""Rule, @rule and RuleBook: what one kind of call costs, and which rule speaks for which call."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import BuiltinFunctionType, MappingProxyType, ModuleType
from typing import Any, TypeAlias

import torch
from torch import nn
from torch._ops import OpOverload, OpOverloadPacket

from graphflops.costs import Cost
from graphflops.errors import DuplicateRule, RuleError, Unpriced
from graphflops.sizes import Spec

Target: TypeAlias = Any
"""A module class, an autograd.Function, a function, an operator (packet or overload), or a dotted name of one."""

Outputs: TypeAlias = Callable[..., "Spec | tuple[Spec, ...]"]


_MADE: ContextVar[list[Rule] | None] = ContextVar("rules made while a file loads", default=None)


@contextmanager
def rules_made() -> Iterator[list[Rule]]:
    """Collect the rules made while this is open: two under one name in a file would leave only the second."""
    made: list[Rule] = []
    token = _MADE.set(made)
    try:
        yield made
    finally:
        _MADE.reset(token)


@dataclass(frozen=True)
class Rule:
    """One formula and the targets it speaks for. Made by ``@rule``; call it like the function it wraps."""

    name: str
    targets: tuple[Target, ...]
    cost: Callable[..., Cost]
    file: str
    line: int
    about: str
    outputs: Outputs | None = None

    def __post_init__(self) -> None:
        if (made := _MADE.get()) is not None:
            made.append(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Cost:
        """The formula itself, called with Specs and sizes."""
        return self.cost(*args, **kwargs)

    @property
    def source(self) -> str:
        """``file:line`` of the formula, the file as people name it: the last two parts of its path."""
        return f"{'/'.join(Path(self.file).parts[-2:])}:{self.line}"

    @cached_property
    def signature(self) -> inspect.Signature:
        """What the rule asks for, annotations evaluated where they can be."""
        try:
            return inspect.signature(self.cost, eval_str=True)
        except NameError:
            return inspect.signature(self.cost)

    def asks_for(self) -> tuple[str, ...]:
        """The names a call must or may offer for this rule to speak."""
        return tuple(self.signature.parameters)

    def price(self, offered: Mapping[str, Any]) -> Cost:
        """The cost of a call that offers these operands, parameters and attributes.

        Raises:
            RuleError: the rule asks for a name that is not offered, raises, does not return a Cost, or counts in
                floats or negative numbers.
        """
        cost: Cost = self._apply(self.cost, self.signature, offered, Cost)
        for work in (cost.forward, cost.recompute, *cost.grads.values()):
            wrong = [count for _, count in work.items() if isinstance(count, float) or (count < 0) is True]
            if wrong:
                raise RuleError(
                    f"{self.source}: rule {self.name} gave {wrong[0]}: counts are exact, whole, not negative"
                )
        return cost

    def describe(self, offered: Mapping[str, Any]) -> tuple[Spec, ...]:
        """The outputs of such a call, for what is not to be traced.

        Raises:
            RuleError: as in ``price``.
        """
        assert self.outputs is not None
        described = self._apply(self.outputs, inspect.signature(self.outputs), offered, (Spec, tuple))
        return described if isinstance(described, tuple) else (described,)

    def _apply(
        self, function: Callable[..., Any], signature: inspect.Signature, offered: Mapping[str, Any], kind: Any
    ) -> Any:
        asked = signature.parameters
        missing = [name for name, each in asked.items() if name not in offered and each.default is each.empty]
        if missing:
            raise RuleError(
                f"{self.source}: rule {self.name} asks for {', '.join(missing)}, "
                f"but the call offers {', '.join(sorted(offered)) or 'nothing'}"
            )
        try:
            answer = function(**{name: offered[name] for name in asked if name in offered})
        except Unpriced:
            raise
        except Exception as error:
            raise RuleError(f"{self.source}: rule {self.name} raised {type(error).__name__}: {error}") from error
        if not isinstance(answer, kind):
            raise RuleError(f"{self.source}: rule {self.name} returned {type(answer).__name__}, not a Cost")
        return answer


def rule(*targets: Target, outputs: Outputs | None = None) -> Callable[[Callable[..., Cost]], Rule]:
    """Mark a formula as the rule of its targets. It only marks: a RuleBook collects.

    The formula asks, by the names of its arguments, for what it needs: operands, parameters and attributes of the
    module, and ``out``, the Spec of the output. ``outputs`` describes the outputs from the same names, so that a
    call that cannot be traced never has to run.
    """

    def mark(formula: Callable[..., Cost]) -> Rule:
        code = formula.__code__
        return Rule(formula.__name__, targets, formula, code.co_filename, code.co_firstlineno, _about(formula), outputs)

    return mark


def law(name: str, about: str, targets: tuple[Target, ...], formula: Callable[..., Cost]) -> Rule:
    """A rule that is one line of a table: many operators obey the same law. Its source is that line."""
    frame = sys._getframe(2)
    return Rule(name, targets, formula, frame.f_code.co_filename, frame.f_lineno, about)


def _about(formula: Callable[..., Cost]) -> str:
    """What a formula's docstring says, without its examples."""
    return inspect.cleandoc(formula.__doc__ or "").partition(">>>")[0].strip()


def key_of(target: Target) -> object:
    """What a target is filed under: operators by their qualified name, everything else as it is."""
    if isinstance(target, OpOverload):
        return f"{target.namespace}::{target._schema.name.split('::')[1]}.{target._overloadname}"
    if isinstance(target, OpOverloadPacket):
        return target._qualified_op_name
    if isinstance(target, BuiltinFunctionType) and hasattr(torch.ops.aten, target.__name__):
        return f"aten::{target.__name__}"  # F.linear is the face of aten.linear
    return target


def dotted_name(target: Target) -> str:
    """How people write a target: ``torch.nn.modules.linear.Linear``, ``aten.linear``."""
    key = key_of(target)
    if isinstance(key, str):
        return key.replace("::", ".").removesuffix(".default")
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", getattr(target, "__name__", repr(target)))
    return f"{module}.{name}" if module else name


@dataclass(frozen=True)
class RuleBook:
    """Which rule speaks for which target. Immutable; ``a | b`` is a book in which b speaks over a."""

    rules: Mapping[object, Rule] = field(default_factory=dict)
    shadowed: tuple[tuple[Rule, Rule], ...] = ()
    """pairs (the rule that speaks, the rule it shadows)"""
    beyond: Callable[[RuleBook, OpOverload | OpOverloadPacket], Rule | None] | None = None
    """who is asked about an operator that no rule names"""

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> RuleBook:
        """One layer of rules.

        Raises:
            DuplicateRule: two of them name the same target.
        """
        book: dict[object, Rule] = {}
        for each in rules:
            for target in each.targets:
                key = key_of(target)
                if key in book:
                    raise DuplicateRule(
                        f"two rules for {dotted_name(target)}: {book[key].name} at {book[key].file}:{book[key].line} "
                        f"and {each.name} at {each.file}:{each.line}; keep one of them"
                    )
                book[key] = each
        return cls(MappingProxyType(book))

    @classmethod
    def from_module(cls, module: ModuleType) -> RuleBook:
        """The rules in a module's namespace."""
        return cls.of(rules_of(module))

    def __or__(self, other: RuleBook) -> RuleBook:
        shadowed = tuple((rule, self.rules[key]) for key, rule in other.rules.items() if key in self.rules)
        return RuleBook(
            MappingProxyType({**self.rules, **other.rules}),
            self.shadowed + other.shadowed + shadowed,
            other.beyond or self.beyond,
        )

    def __iter__(self) -> Iterator[tuple[object, Rule]]:
        return iter(self.rules.items())

    def find(self, target: Target) -> Rule | None:
        """The rule that speaks for a call of ``target``, or None."""
        if isinstance(target, type):
            return self._for_class(target)
        if isinstance(target, (OpOverload, OpOverloadPacket)):
            return self._for_operator(target) or (self.beyond(self, target) if self.beyond else None)
        return self.rules.get(key_of(target)) or self.rules.get(dotted_name(target))

    def _for_class(self, cls: type) -> Rule | None:
        """The class itself, its dotted name, else a base whose ``forward`` it inherits unchanged.

        A LoRA layer that extends Linear and overrides forward does not get Linear's price by accident.
        """
        for base in cls.__mro__:
            if base is not cls and getattr(base, "forward", None) is not getattr(cls, "forward", None):
                continue
            found = self.rules.get(base) or self.rules.get(dotted_name(base))
            if found and base not in (nn.Module, object):
                return found
        return None

    def _for_operator(self, op: OpOverload | OpOverloadPacket) -> Rule | None:
        """The overload, then the operator, then what an in-place variant is a variant of; by dotted names too."""
        name = op._schema.name if isinstance(op, OpOverload) else op._qualified_op_name
        for key in (key_of(op), dotted_name(op), name, name.replace("::", "."), name.removesuffix("_")):
            if key in self.rules:
                return self.rules[key]
        return None


def rules_of(module: ModuleType) -> Iterator[Rule]:
    """The rules defined in a module, in the order of its lines; what it imports from another is not its own."""
    own = {id(each): each for each in vars(module).values() if isinstance(each, Rule) and each.file == module.__file__}
    return iter(sorted(own.values(), key=lambda each: each.line))
