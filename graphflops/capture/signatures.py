"""What an operator's schema says of its arguments, read once: PyTorch makes it anew whenever it is asked."""

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
    needed: frozenset[str]
    """those without a default"""
    written: tuple[str, ...]
    """those that the operator writes to"""

    def fits(self, args: Any, kwargs: Mapping[str, Any]) -> bool:
        """Whether a call is of this overload: of torch.where, ``aten.where.default`` takes the condition alone."""
        given = {*self.names[: len(args)], *kwargs}
        return len(args) <= len(self.names) and self.needed <= given <= {*self.names}


@weakly_cached
def signature_of(op: OpOverload) -> Signature:
    """The signature of an operator."""
    arguments = op._schema.arguments
    return Signature(
        names=tuple(each.name for each in arguments),
        defaults={each.name: each.default_value for each in arguments if each.has_default_value()},
        needed=frozenset(each.name for each in arguments if not each.has_default_value()),
        written=tuple(each.name for each in arguments if each.alias_info is not None and each.alias_info.is_write),
    )
