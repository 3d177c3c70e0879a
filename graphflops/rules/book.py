"""RuleBook: the rules of every source in layers, and which of them applies to a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphflops.core.errors import DuplicateRule
from graphflops.core.messages import try_getattr
from graphflops.rules.rule import Rule
from graphflops.rules.targets import Target, canonical_name, is_pattern, qualified_name, registry_key

if TYPE_CHECKING:
    from graphflops.core.torch_compat import OpOverload, OpOverloadPacket


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
    from graphflops.rules.available_names import available_names

    names = available_names(cls)
    queried = rule.signature.parameters.values()
    return names is None or all(each.name in names for each in queried if each.default is each.empty)


@dataclass(frozen=True)
class RuleBook:
    """Which rule speaks for which target: layers, of which the later speaks. ``a | b``: those of a, then those of b."""

    layers: tuple[Layer, ...] = ()
    fallback: Callable[[RuleBook, OpOverload | OpOverloadPacket], Rule | None] | None = None
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
                key = registry_key(target)
                before = spellings.get(canonical_name(key), key)
                if before in layer and (key == before or isinstance(key, str) or isinstance(before, str)):
                    other = layer[before]
                    raise DuplicateRule(
                        f"two rules for {qualified_name(target)}: {other.name} at {other.file}:{other.line} "
                        f"and {each.name} at {each.file}:{each.line}; keep one of them"
                    )
                layer[key] = each
                spellings[canonical_name(key)] = key
        return cls((Layer(origin, MappingProxyType(layer)),))

    def __or__(self, other: RuleBook) -> RuleBook:
        return RuleBook(self.layers + other.layers, other.fallback or self.fallback, self.warnings + other.warnings)

    @cached_property
    def rules(self) -> Mapping[object, Rule]:
        """The rule that speaks for each target that one names."""
        return MappingProxyType({key: rule for layer in self.layers for key, rule in layer.rules.items()})

    def __iter__(self) -> Iterator[tuple[object, Rule]]:
        return iter(self.rules.items())

    def plugin_of(self, rule: Rule) -> str:
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
                found.setdefault(canonical_name(key), []).append((layer, rule))
        return found

    def find(self, target: Target) -> Rule | None:
        """The rule that speaks for a call of ``target``, or None."""
        if target not in self._found:
            self._found[target] = self._looked_up(target)
        return self._found[target]

    @property
    def queried(self) -> Mapping[Target, Rule | None]:
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
            return self._for_operator(target) or (self.fallback(self, target) if self.fallback else None)
        return self._first(registry_key(target), qualified_name(target))

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
            if base is not cls and try_getattr(base, "forward") is not try_getattr(cls, "forward"):
                continue
            if base not in (nn.Module, object) and (found := self._of_class(base)):
                return found
        return None

    def _of_class(self, cls: type) -> Rule | None:
        """The later layer before the earlier, and in one layer what names a class before a pattern of it."""
        name = qualified_name(cls)
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
        return self._first(registry_key(op), qualified_name(op), name, name.replace("::", "."), name.removesuffix("_"))
