"""The tensors that a cache holds: where, of which kind and layer, and in which storage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from graphflops.analysis.generation.cache_tensor import CacheTensor
from graphflops.core.torch_compat import FakeTensor
from graphflops.tracing.copies.copying import Copier
from graphflops.tracing.values.constant_propagation import ConstantPropagation

MAX_KNOWN_ELEMENTS = 4096
"""of a tensor of integers in a cache, such as a counter, whose values the next step may read"""

_KINDS = (
    (r"index", "index keys"),
    (r"latent|compressed|kv_c\b", "latent"),
    (r"conv", "convolution state"),
    (r"recurrent|ssm|state|rnn", "recurrent state"),
    (r"scale", "scales"),
    (r"key", "keys"),
    (r"value", "values"),
)


def cache_tensors(cache: Any) -> tuple[CacheTensor, ...]:
    """The tensors that can be reached from a cache, each once, in order."""
    storages: set[int] = set()
    tensors = []
    for path, holder, tensor in _walk(cache):
        storage = tensor.untyped_storage()
        held = 0 if storage._cdata in storages else storage.nbytes()
        storages.add(storage._cdata)
        tensors.append(
            CacheTensor(
                path=path,
                layer=next((int(part) for part in path.split(".") if part.isdigit()), None),
                kind=_kind(path, holder, tensor),
                shape=tuple(tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
                nbytes=tensor.numel() * tensor.element_size(),
                held_nbytes=held,
            )
        )
    return tuple(tensors)


def detached(cache: Any, values: ConstantPropagation) -> Any:
    """A copy of a cache that outlives its trace: with meta tensors, and real ones where the values are known."""
    return Copier(lambda tensor: _detached_tensor(tensor, values)).copy(cache)


def _detached_tensor(tensor: torch.Tensor, values: ConstantPropagation) -> torch.Tensor:
    if not isinstance(tensor, FakeTensor):
        return tensor
    if not tensor.is_floating_point() and tensor.numel() <= MAX_KNOWN_ELEMENTS:
        value = values.evaluator.value_of(tensor)
        if value is not None and not value.assumptions:
            return value.tensor.clone()
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _walk(cache: Any) -> Iterator[tuple[str, Any, torch.Tensor]]:
    """Path, holder and tensor, of each tensor once."""
    visited: dict[int, Any] = {}
    pending: list[tuple[str, Any, Any]] = [("", None, cache)]
    while pending:
        path, holder, value = pending.pop()
        if isinstance(value, (str, bytes, type, torch.nn.Module)) or id(value) in visited:
            continue
        if isinstance(value, torch.Tensor):
            visited[id(value)] = value
            yield path, holder, value
            continue
        parts = _parts(value)
        if parts:
            visited[id(value)] = value
            prefix = f"{path}." if path else ""
            inside = holder if isinstance(value, (Mapping, Sequence)) else value
            pending += [(f"{prefix}{name}", inside, part) for name, part in reversed(parts)]


def _parts(value: Any) -> list[tuple[str, Any]]:
    """The members of a container, and the attributes of an object, by name."""
    if isinstance(value, Mapping):
        return [(str(name), part) for name, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(str(index), part) for index, part in enumerate(value)]
    return list(vars(value).items()) if hasattr(value, "__dict__") and not callable(value) else []


def _kind(path: str, holder: Any, tensor: torch.Tensor) -> str:
    *_, last = [part for part in path.split(".") if not part.isdigit()] or [""]
    if not tensor.dim() or last.startswith("cumulative"):
        return "counters"
    kind = next((kind for pattern, kind in _KINDS if re.search(pattern, last.lower())), "")
    if not kind and re.search(r"\d+\.[01]$", path) and tensor.dim() == 4:  # a pair for each layer
        kind = "keys" if path.endswith("0") else "values"
    kind = kind or last or "tensors"
    if "cross" in path:
        return f"cross {kind}"
    is_window = kind in ("keys", "values") and getattr(holder, "sliding_window", None)
    return f"{kind} of a window" if is_window else kind
