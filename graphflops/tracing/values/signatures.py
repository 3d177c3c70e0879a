"""Signatures of operators: the names, defaults and mutated arguments of a schema, read once per operator.

PyTorch makes the arguments of a schema anew whenever they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphflops.core.torch_compat import OpOverload
from graphflops.core.weak import weakly_cached


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of an operator by name, in order."""

    names: tuple[str, ...]
    defaults: Mapping[str, Any]
    required: frozenset[str]
    """arguments without a default"""
    written: tuple[str, ...]
    """arguments that the operator writes to"""

    def accepts(self, args: Any, kwargs: Mapping[str, Any]) -> bool:
        """Whether a call fits this overload: ``aten.where.default``, for one, takes the condition alone."""
        names = {*self.names[: len(args)], *kwargs}
        return len(args) <= len(self.names) and self.required <= names <= {*self.names}


@weakly_cached
def signature_of(op: OpOverload) -> Signature:
    """The signature of an operator."""
    arguments = op._schema.arguments
    return Signature(
        names=tuple(argument.name for argument in arguments),
        defaults={argument.name: argument.default_value for argument in arguments if argument.has_default_value()},
        required=frozenset(argument.name for argument in arguments if not argument.has_default_value()),
        written=tuple(argument.name for argument in arguments if argument.alias_info and argument.alias_info.is_write),
    )
