"""The arguments of an operator call as a rule takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload, tree_map
from graphflops.tracing.copies.layouts import spec_of
from graphflops.tracing.values.signatures import signature_of


def spec_if_tensor(value: Any) -> Any:
    """Return the Spec of a tensor, and anything else as it is."""
    return spec_of(value) if torch.is_tensor(value) else value


def arguments_by_name(op: OpOverload, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, as a rule takes them."""
    signature = signature_of(op)
    named = {**signature.defaults, **dict(zip(signature.names, args, strict=False)), **kwargs}
    return {name: tree_map(spec_if_tensor, value) for name, value in named.items()}
