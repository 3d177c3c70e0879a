"""Rule, @rule and RuleBook: what one kind of call costs, and which rule speaks for which call."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from graphflops.core.costs import Cost
from graphflops.core.errors import DuplicateRule, RuleError, RuleLoadError, Unpriced
from graphflops.core.messages import RAISED, attribute, said
from graphflops.core.sizes import Spec
from graphflops.rules.exactness import Inexact, count, exact, symbols_in

if TYPE_CHECKING:
    from graphflops.core.torch_compat import OpOverload, OpOverloadPacket

Target: TypeAlias = Any
"""A module class, an autograd.Function, a function, an operator (packet or overload), or a dotted name of one."""

Outputs: TypeAlias = Callable[..., "Spec | tuple[Spec, ...]"]

Example: TypeAlias = Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]


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
    adapted: str = ""
    """which counter's formula it is, if one was taken in by an adapter"""
    example: Example | None = None
    """makes the arguments of a call that ``rules check`` can hold the rule to"""

    def __post_init__(self) -> None:
        if (made := _MADE.get()) is not None:
            made.append(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Cost:
        """The formula itself, called with Specs and sizes."""
        return self.cost(*args, **kwargs)

    @cached_property
    def source(self) -> str:
        """``file:line`` of the formula, as ``source_of`` writes it."""
        return source_of(self.file, self.line)

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
                anything but whole numbers that are not negative, or formulas in the symbols of the call's sizes.
        """
        cost: Cost = self._apply(self.cost, self.signature, offered, Cost)
        try:
            return exact(cost, symbols_in(offered))
        except Inexact as error:
            raise RuleError(f"{self.source}: rule {self.name} gave {error}") from None

    def describe(self, offered: Mapping[str, Any]) -> tuple[Spec, ...]:
        """The outputs of such a call, for what is not to be traced.

        Raises:
            RuleError: as in ``price``.
        """
        assert self.outputs is not None
        described = self._apply(self.outputs, inspect.signature(self.outputs), offered, (Spec, tuple))
        outputs = described if isinstance(described, tuple) else (described,)
        for each in outputs:
            if wrong := _wrong_output(each, symbols_in(offered)):
                raise RuleError(f"{self.source}: the outputs of rule {self.name} {wrong}")
        return outputs

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
        except Inexact as error:
            raise RuleError(f"{self.source}: rule {self.name} gave {error}") from None
        except RAISED as error:
            raise RuleError(f"{self.source}: rule {self.name} raised {said(error)}") from error
        if not isinstance(answer, kind):
            wanted = "a Cost" if kind is Cost else "a Spec or a tuple of them"
            raise RuleError(f"{self.source}: rule {self.name} returned {type(answer).__name__}, not {wanted}")
        return answer


def _wrong_output(described: Any, known: Collection[Any]) -> str:
    """What is wrong with a Spec that describes an output, as the end of a sentence; empty if nothing is."""
    if not isinstance(described, Spec):
        return f"have a {type(described).__name__} among them, not a Spec"
    try:
        for axis, size in enumerate(described.shape):
            count(size, f"size {axis}", known)
    except Inexact as error:
        return f"have {error}"
    except TypeError:
        return f"have the shape {described.shape!r}, which is no tuple of sizes"
    torch = sys.modules.get("torch")
    if torch and not isinstance(getattr(torch, str(described.dtype), None), torch.dtype):
        return f"have the dtype {described.dtype!r}, which PyTorch does not have"
    return ""


def source_of(file: str, line: int) -> str:
    """``file:line``, the file as people name it: the last two parts of its path."""
    folder, name = Path(file).parts[-2:]
    is_in_wheel = Path(file).parent == Path(__file__).with_name("shipped")
    return f"{'rules' if is_in_wheel else folder}/{name}:{line}"


def rule(*targets: Target, outputs: Outputs | None = None, example: Example | None = None) -> Mark:
    """Mark a formula as the rule of its targets. It only marks: a RuleBook collects.

    A target is what is called, or its dotted name; of a class the name may be a pattern, ``"*.BKCoreFunction"``, which
    is that of every class whose dotted name is like it. A rule that names the class itself speaks over a pattern.

    The formula asks, by the names of its arguments, for what it needs: operands, parameters and attributes of the
    module, and ``out``, the Spec of the output. ``outputs`` describes the outputs from the same names, so that a
    call that cannot be traced never has to run.

    ``example`` makes ``(args, kwargs)`` of a call, small, at other sizes each time if it likes, that ``graphflops rules
    check`` runs under its witnesses; for a module class the first argument is the module itself.

    Raises:
        RuleLoadError: a target is none, such as a number or an empty name.
    """
    for target in targets:
        if wrong := _no_target(target):
            raise RuleLoadError(wrong)
    for name, given in (("outputs", outputs), ("example", example)):
        if given is not None and not callable(given):
            raise RuleLoadError(f"{name}= is a function, not {given!r}")
    return Mark(targets, outputs, example)


class Mark:
    """``@rule(…)`` before it has a formula. One that never gets any is ``@rule`` without brackets."""

    def __init__(self, targets: tuple[Target, ...], outputs: Outputs | None, example: Example | None) -> None:
        self.targets, self.outputs, self.example = targets, outputs, example
        self.is_used = False

    def __call__(self, formula: Callable[..., Cost]) -> Rule:
        """The rule that the formula is.

        Raises:
            RuleLoadError: it is no function, or there is no target.
        """
        if not isinstance(formula, FunctionType):
            raise RuleLoadError(f"@rule marks a function, not {_shown(formula)}")
        if not self.targets:
            raise RuleLoadError(
                f"rule {formula.__name__} has no target: write @rule(torch.nn.Linear), or whatever it is of"
            )
        self.is_used = True
        code = formula.__code__
        place = code.co_filename, code.co_firstlineno
        about = _about(formula)
        return Rule(formula.__name__, self.targets, formula, *place, about, self.outputs, example=self.example)

    @property
    def fault(self) -> str:
        """What is wrong with one that has no formula, with file and line where it is known; empty if it has one."""
        if self.is_used:
            return ""
        functions = [each for each in self.targets if isinstance(each, FunctionType)]
        if len(functions) != 1 or len(self.targets) != 1:
            return f"@rule({', '.join(map(_shown, self.targets))}) marks no function: put it above one"
        code = functions[0].__code__
        return (
            f"{code.co_filename}:{code.co_firstlineno}: @rule without brackets makes no rule of "
            f"{functions[0].__name__}: write @rule(TARGET, …) above it"
        )


def refuse_unused_marks(values: Iterable[Any]) -> None:
    """``@rule`` without brackets makes no rule, and says nothing by itself.

    Raises:
        RuleLoadError: there is one; the message names file and line.
    """
    for each in values:
        if issubclass(type(each), Mark) and each.fault:
            raise RuleLoadError(each.fault)


def _no_target(target: Any) -> str:
    """Why something cannot be what a rule speaks for, as a sentence; empty if it can."""
    if isinstance(target, str):
        if is_pattern(target):
            return _no_pattern(target)
        if not _NAME.fullmatch(target):
            return f"{target!r} is no target: write the dotted name of a class, a function or an operator"
        return ""
    torch = sys.modules.get("torch")
    if torch and isinstance(target, torch.nn.Module):
        return f"a {type(target).__name__} is no target, its class is: write @rule({type(target).__name__})"
    try:
        hash(target)
    except TypeError:
        return f"{_shown(target)} is no target: give each by itself, as in @rule(aten.mm, aten.bmm)"
    if not callable(target):
        return f"{_shown(target)} is no target: give a module class, a function, an operator, or its dotted name"
    return ""


def is_pattern(target: Target) -> bool:
    """Whether a target names every class whose dotted name is like it, as ``"*.BKCoreFunction"`` does."""
    return isinstance(target, str) and ("*" in target or "?" in target)


def _no_pattern(target: str) -> str:
    """Why a pattern cannot be what a rule speaks for, as a sentence; empty if it can."""
    if not _PATTERN.fullmatch(target):
        return f"{target!r} is no pattern: write the dotted name of a class, with * for any part of it"
    if target.startswith(("aten.", "torch.ops.", "optimizer.")):
        return f"{target!r} is no target: a pattern is of classes, so name each operator"
    if not re.search(r"\w", target.rpartition(".")[2]):
        return f"{target!r} names every class there is: end it in a class's own name, as in '*.BKCoreFunction'"
    return ""


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float, tuple, list, dict, set, type(None))) else ""
    return text if 0 < len(text) <= 80 else getattr(value, "__qualname__", f"a {type(value).__name__}")


def law(name: str, about: str, targets: tuple[Target, ...], formula: Callable[..., Cost]) -> Rule:
    """A rule that is one line of a table: many operators obey the same law. Its source is that line."""
    frame = sys._getframe(2)
    return Rule(name, targets, formula, frame.f_code.co_filename, frame.f_lineno, about)


def _about(formula: Callable[..., Cost]) -> str:
    """What a formula's docstring says, without its examples."""
    return inspect.cleandoc(formula.__doc__ or "").partition(">>>")[0].strip()


def key_of(target: Target) -> object:
    """What a target is filed under: operators by their qualified name, everything else as it is."""
    if isinstance(target, str):
        return _key_of_name(target)
    import torch

    from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket

    if isinstance(target, OpOverload):
        return f"{target.namespace}::{target._schema.name.split('::')[1]}.{target._overloadname}"
    if isinstance(target, OpOverloadPacket):
        return target._qualified_op_name
    if isinstance(target, CustomOpDef):
        return target._qualname
    if isinstance(target, BuiltinFunctionType) and hasattr(torch.ops.aten, target.__name__):
        return f"aten::{target.__name__}"  # F.linear is the face of aten.linear
    return target


def _key_of_name(name: str) -> object:
    """The same, whatever is imported by now: an ATen operator is known by its prefix, without torch."""
    if aten := _ATEN.fullmatch(name):
        return f"aten::{aten[1]}"
    found = resolved(name)
    key = spelled(found) if found is name or isinstance(found, (type, FunctionType)) else key_of(found)
    return key if str(key).startswith("aten::") else spelled(key)


def dotted_name(target: Target) -> str:
    """How people write a target: ``torch.nn.modules.linear.Linear``, ``aten.linear``."""
    key = key_of(target)
    if isinstance(key, str):
        return key.replace("::", ".").removesuffix(".default")
    module = attribute(target, "__module__")
    name = attribute(target, "__qualname__") or attribute(target, "__name__") or repr(target)
    return f"{module}.{name}" if module else name


def spelled(key: object) -> str:
    """A key as people write it; two spellings of one target are equal so."""
    return key.replace("::", ".") if isinstance(key, str) else dotted_name(key)


_NAME = re.compile(r"[^\W\d][\w<>]*(?:(?:\.|::)[\w<>]+)*")
_PATTERN = re.compile(r"[\w<>*?]+(?:\.[\w<>*?]+)*")
_ATEN = re.compile(r"(?:torch\.ops\.)?aten(?:\.|::)(\w+(?:\.\w+)?)")
_SHORT = {"F": "torch.nn.functional", "nn": "torch.nn", "aten": "torch.ops.aten"}


def resolved(target: Target) -> Target:
    """What a name names, as far as it is imported: ``torch.nn.Linear``, ``F.gelu``, ``aten.gelu``, ``mylib.scan``.

    What is no name, or names nothing yet, is given back as it is.
    """
    if not isinstance(target, str) or target.startswith("optimizer."):
        return target
    head, *rest = target.replace("::", ".").split(".")
    for start in (head, _SHORT.get(head, "")):
        parts = [*start.split("."), *rest]
        for cut in range(len(parts) - 1, 0, -1):
            found: Any = sys.modules.get(".".join(parts[:cut]))
            for part in parts[cut:]:
                found = attribute(found, part)
            if callable(found):
                return found
    torch = sys.modules.get("torch")  # without it there is no operator
    if torch and rest:
        from graphflops.core.torch_compat import schemas_of

        if schemas_of(f"{head}::{rest[0]}"):
            found = getattr(getattr(torch.ops, head), rest[0])
            return getattr(found, rest[1], target) if rest[1:] else found
    return target


@dataclass(frozen=True)
class Layer:
    """Rules of one source, and no two of them for one target."""

    origin: str
    """``"shipped"``, ``"package NAME VERSION"``, a path, or ``"given"`` in the call"""
    rules: Mapping[object, Rule]

    @cached_property
    def patterns(self) -> tuple[tuple[str, Rule], ...]:
        """The rules whose targets are patterns of classes, the longest pattern first."""
        found = [(key, rule) for key, rule in self.rules.items() if isinstance(key, str) and is_pattern(key)]
        return tuple(sorted(found, key=lambda each: (-len(each[0]), each[0])))


def _fits(rule: Rule, cls: type) -> bool:
    """Whether calls of a class offer all that a rule cannot do without, as far as that is known."""
    from graphflops.rules.available_names import offerable

    names = offerable(cls)
    asked = rule.signature.parameters.values()
    return names is None or all(each.name in names for each in asked if each.default is each.empty)


@dataclass(frozen=True)
class RuleBook:
    """Which rule speaks for which target: layers, of which the later speaks. ``a | b``: those of a, then those of b."""

    layers: tuple[Layer, ...] = ()
    beyond: Callable[[RuleBook, OpOverload | OpOverloadPacket], Rule | None] | None = None
    """who is asked about an operator that no rule names"""
    warnings: tuple[str, ...] = ()
    """what was left out, and why"""

    @classmethod
    def of(cls, rules: Iterable[Rule], origin: str = "") -> RuleBook:
        """One layer of rules.

        Raises:
            DuplicateRule: two of them name the same target.
        """
        layer: dict[object, Rule] = {}
        spellings: dict[str, object] = {}
        for each in rules:
            for target in each.targets:
                key = key_of(target)
                before = spellings.get(spelled(key), key)
                if before in layer and (key == before or isinstance(key, str) or isinstance(before, str)):
                    other = layer[before]
                    raise DuplicateRule(
                        f"two rules for {dotted_name(target)}: {other.name} at {other.file}:{other.line} "
                        f"and {each.name} at {each.file}:{each.line}; keep one of them"
                    )
                layer[key] = each
                spellings[spelled(key)] = key
        return cls((Layer(origin, MappingProxyType(layer)),))

    def __or__(self, other: RuleBook) -> RuleBook:
        return RuleBook(self.layers + other.layers, other.beyond or self.beyond, self.warnings + other.warnings)

    @cached_property
    def rules(self) -> Mapping[object, Rule]:
        """The rule that speaks for each target that one names."""
        return MappingProxyType({key: rule for layer in self.layers for key, rule in layer.rules.items()})

    def __iter__(self) -> Iterator[tuple[object, Rule]]:
        return iter(self.rules.items())

    def announced_by(self, rule: Rule) -> str:
        """The installed package that a rule comes from; empty for rules shipped or given."""
        if self.is_shipped(rule):
            return ""
        origins = (layer.origin for layer in self.layers if any(each is rule for each in layer.rules.values()))
        return next((origin for origin in origins if origin.startswith("package ")), "")

    def is_shipped(self, rule: Rule) -> bool:
        """Whether a rule is one of graphflops, whose tests call each with symbols, and not somebody else's."""
        return id(rule) not in self._of_others

    @cached_property
    def _of_others(self) -> frozenset[int]:
        others = (layer for layer in self.layers if layer.origin != "shipped")
        return frozenset(id(rule) for layer in others for rule in layer.rules.values())

    def by_target(self) -> dict[str, list[tuple[Layer, Rule]]]:
        """Every target that one names, with its rules: the one that speaks, then those that it shadows."""
        found: dict[str, list[tuple[Layer, Rule]]] = {}
        for layer in reversed(self.layers):
            for key, rule in layer.rules.items():
                found.setdefault(spelled(key), []).append((layer, rule))
        return found

    def find(self, target: Target) -> Rule | None:
        """The rule that speaks for a call of ``target``, or None."""
        if target not in self._found:
            self._found[target] = self._looked_up(target)
        return self._found[target]

    @property
    def asked(self) -> Mapping[Target, Rule | None]:
        """Every target that was asked about so far, and the rule that speaks for it."""
        return self._found

    @cached_property
    def _found(self) -> dict[Target, Rule | None]:
        """What was found: a model calls few things, and each often."""
        return {}

    def _looked_up(self, target: Target) -> Rule | None:
        if isinstance(target, type):
            return self._for_class(target)
        from graphflops.core.torch_compat import OpOverload, OpOverloadPacket

        if isinstance(target, (OpOverload, OpOverloadPacket)):
            return self._for_operator(target) or (self.beyond(self, target) if self.beyond else None)
        return self._first(key_of(target), dotted_name(target))

    def _first(self, *keys: object) -> Rule | None:
        """The later layer before the earlier, and in one layer the first of the keys."""
        for layer in reversed(self.layers):
            for key in keys:
                if key in layer.rules:
                    return layer.rules[key]
        return None

    def _for_class(self, cls: type) -> Rule | None:
        """The class itself, its dotted name, else a base whose ``forward`` it inherits unchanged.

        A LoRA layer that extends Linear and overrides forward does not get Linear's price by accident.
        """
        from torch import nn

        for base in cls.__mro__:
            if base is not cls and attribute(base, "forward") is not attribute(cls, "forward"):
                continue
            if base not in (nn.Module, object) and (found := self._of_class(base)):
                return found
        return None

    def _of_class(self, cls: type) -> Rule | None:
        """The later layer before the earlier, and in one layer what names a class before a pattern of it."""
        name = dotted_name(cls)
        for layer in reversed(self.layers):
            for key in (cls, name):
                if key in layer.rules:
                    return layer.rules[key]
            for pattern, rule in layer.patterns:
                if fnmatchcase(name, pattern) and (layer.origin != "shipped" or _fits(rule, cls)):
                    return rule
        return None

    def _for_operator(self, op: OpOverload | OpOverloadPacket) -> Rule | None:
        """The overload, then the operator, then what an in-place variant is a variant of; by dotted names too."""
        from graphflops.core.torch_compat import OpOverload

        name = op._schema.name if isinstance(op, OpOverload) else op._qualified_op_name
        return self._first(key_of(op), dotted_name(op), name, name.replace("::", "."), name.removesuffix("_"))


def rules_of(module: ModuleType) -> Iterator[Rule]:
    """The rules defined in a module, in the order of its lines; what it imports from another is not its own."""
    held = (value for value in vars(module).values() if issubclass(type(value), Rule))  # isinstance asks placeholders
    own = {id(each): each for each in held if each.file == module.__file__}
    return iter(sorted(own.values(), key=lambda each: each.line))
