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
    """The rules of one source, at most one for a target."""

    origin: str
    """``"shipped"``, ``"package NAME VERSION"``, a path, or ``"given"`` in the call"""
    rules: Mapping[object, Rule]

    @cached_property
    def patterns(self) -> tuple[tuple[str, Rule], ...]:
        """The rules whose targets are patterns of classes, the longest pattern first."""
        patterns = [(key, rule) for key, rule in self.rules.items() if isinstance(key, str) and is_pattern(key)]
        return tuple(sorted(patterns, key=lambda pair: (-len(pair[0]), pair[0])))


def _has_arguments(rule: Rule, cls: type) -> bool:
    """Whether calls of a class have every argument that a rule requires, as far as can be known without a call."""
    from graphflops.rules.available_names import available_names

    names = available_names(cls)
    parameters = rule.signature.parameters.values()
    return names is None or all(
        parameter.name in names for parameter in parameters if parameter.default is parameter.empty
    )


@dataclass(frozen=True)
class RuleBook:
    """Rules in layers; a later layer takes precedence. ``a | b`` has the layers of a, then those of b."""

    layers: tuple[Layer, ...] = ()
    fallback: Callable[[RuleBook, OpOverload | OpOverloadPacket], Rule | None] | None = None
    """returns the rule of an operator that no rule names"""
    warnings: tuple[str, ...] = ()
    """rules that were left out, and why"""

    @classmethod
    def of(cls, rules: Iterable[Rule], origin: str = "") -> RuleBook:
        """A book of one layer.

        Raises:
            DuplicateRule: two rules name the same target.
        """
        layer: dict[object, Rule] = {}
        keys: dict[str, object] = {}
        for rule in rules:
            for target in rule.targets:
                key = registry_key(target)
                earlier_key = keys.get(canonical_name(key), key)
                if earlier_key in layer and (
                    key == earlier_key or isinstance(key, str) or isinstance(earlier_key, str)
                ):
                    earlier = layer[earlier_key]
                    raise DuplicateRule(
                        f"two rules for {qualified_name(target)}: {earlier.name} at {earlier.file}:{earlier.line} "
                        f"and {rule.name} at {rule.file}:{rule.line}; keep one of them"
                    )
                layer[key] = rule
                keys[canonical_name(key)] = key
        return cls((Layer(origin, MappingProxyType(layer)),))

    def __or__(self, other: RuleBook) -> RuleBook:
        return RuleBook(self.layers + other.layers, other.fallback or self.fallback, self.warnings + other.warnings)

    @cached_property
    def rules(self) -> Mapping[object, Rule]:
        """The rule that applies to each target that a rule names."""
        return MappingProxyType({key: rule for layer in self.layers for key, rule in layer.rules.items()})

    def __iter__(self) -> Iterator[tuple[object, Rule]]:
        return iter(self.rules.items())

    def plugin_of(self, rule: Rule) -> str:
        """The installed package that provides a rule; empty for a rule that is shipped or given."""
        if self.is_shipped(rule):
            return ""
        origins = (
            layer.origin for layer in self.layers if any(candidate is rule for candidate in layer.rules.values())
        )
        return next((origin for origin in origins if origin.startswith("package ")), "")

    def is_shipped(self, rule: Rule) -> bool:
        """Whether a rule is part of graphflops. The tests of graphflops evaluate each such rule on symbols."""
        return id(rule) not in self._not_shipped

    @cached_property
    def _not_shipped(self) -> frozenset[int]:
        layers = (layer for layer in self.layers if layer.origin != "shipped")
        return frozenset(id(rule) for layer in layers for rule in layer.rules.values())

    def by_target(self) -> dict[str, list[tuple[Layer, Rule]]]:
        """Target → its rules: the one that applies, then those that it overrides."""
        rules: dict[str, list[tuple[Layer, Rule]]] = {}
        for layer in reversed(self.layers):
            for key, rule in layer.rules.items():
                rules.setdefault(canonical_name(key), []).append((layer, rule))
        return rules

    def find(self, target: Target) -> Rule | None:
        """The rule that applies to a call of ``target``, or None."""
        if target not in self._results:
            self._results[target] = self._find(target)
        return self._results[target]

    @property
    def queried(self) -> Mapping[Target, Rule | None]:
        """The results of ``find`` so far: target → rule."""
        return self._results

    @cached_property
    def _results(self) -> dict[Target, Rule | None]:
        return {}

    def _find(self, target: Target) -> Rule | None:
        if isinstance(target, type):
            return self._for_class(target)
        from graphflops.core.torch_compat import OpOverload, OpOverloadPacket

        if isinstance(target, (OpOverload, OpOverloadPacket)):
            return self._for_operator(target) or (self.fallback(self, target) if self.fallback else None)
        return self._first(registry_key(target), qualified_name(target))

    def _first(self, *keys: object) -> Rule | None:
        """The rule of the latest layer that has one of the keys, the first key first."""
        for layer in reversed(self.layers):
            for key in keys:
                if key in layer.rules:
                    return layer.rules[key]
        return None

    def _for_class(self, cls: type) -> Rule | None:
        """The rule of the class or its qualified name, else of a base whose ``forward`` it inherits unchanged.

        A LoRA layer that extends Linear and overrides forward does not get Linear's cost by accident.
        """
        from torch import nn

        for base in cls.__mro__:
            if base is not cls and try_getattr(base, "forward") is not try_getattr(cls, "forward"):
                continue
            if base not in (nn.Module, object) and (rule := self._of_class(base)):
                return rule
        return None

    def _of_class(self, cls: type) -> Rule | None:
        """The rule of the latest layer that names the class; in one layer a name before a pattern."""
        name = qualified_name(cls)
        for layer in reversed(self.layers):
            for key in (cls, name):
                if key in layer.rules:
                    return layer.rules[key]
            for pattern, rule in layer.patterns:
                if fnmatchcase(name, pattern) and (layer.origin != "shipped" or _has_arguments(rule, cls)):
                    return rule
        return None

    def _for_operator(self, op: OpOverload | OpOverloadPacket) -> Rule | None:
        """The rule of the overload, else of the operator, else of the operator that it is the in-place variant of."""
        from graphflops.core.torch_compat import OpOverload

        name = op._schema.name if isinstance(op, OpOverload) else op._qualified_op_name
        return self._first(registry_key(op), qualified_name(op), name, name.replace("::", "."), name.removesuffix("_"))
