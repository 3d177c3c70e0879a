"""Calls of blocks, and everything about them that has to be equal in a repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from graphflops.core.torch_compat import (
    open_dispatch_modes,
    open_function_modes,
    top_saved_tensors_hooks,
    tree_flatten,
)
from graphflops.tracing.copies.layouts import nnz_of
from graphflops.tracing.folding.identical_blocks import PLAIN
from graphflops.tracing.folding.shared_objects import can_be_watched
from graphflops.tracing.recording.writer import GraphWriter


@dataclass(frozen=True)
class BlockCall:
    """A call of a block: what has to be equal in a repeat, the arguments, and the tensors and objects among them."""

    key: list[Any]
    arguments: Any
    tensors: list[torch.Tensor]
    objects: list[Any]


def block_call(tracer: GraphWriter, writes: int, args: Any, kwargs: Any) -> BlockCall | None:
    """Return the call of a block; None if it can be neither a template nor a repeat.

    ``writes`` is the number of attributes of modules that were written so far.
    """
    region = tracer.current_region()
    if tracer.is_transformed() or (region is not None and region.calls):
        return None
    regions = tracer.regions.open()
    if len(regions) > 1 or any(region.kept_results is not None for region in regions):
        return None
    leaves, structure = tree_flatten((args, kwargs))
    key: list[Any] = [structure, writes, region and region.stops_early, *ambient_modes()]
    tensors: list[torch.Tensor] = []
    objects: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            key.append(torch.Tensor)
            tensors.append(leaf)
        elif isinstance(leaf, PLAIN):
            key += [type(leaf), leaf]
        elif can_be_watched(leaf):
            key.append(id(leaf))
            objects.append(leaf)
        else:
            return None
    tensor_keys = keys_of_tensors(tracer, tensors)
    if tensor_keys is None or len({*map(id, objects)}) < len(objects):
        return None
    return BlockCall([*key, tensor_keys], (args, kwargs), tensors, objects)


def keys_of_tensors(tracer: GraphWriter, tensors: Sequence[torch.Tensor]) -> list[Any] | None:
    """Return what has to be equal of the tensors that a repeat reads; None if one cannot be read by a repeat."""
    key: list[Any] = []
    places: dict[int, int] = {}
    storages: dict[int, int] = {}
    nodes: dict[Any, int] = {}
    for i, tensor in enumerate(tensors):
        if not tracer.fakes.is_fake(tensor) or nnz_of(tensor) is not None:
            return None
        if tracer.values.routing.is_routed(tensor):
            return None
        place = places.setdefault(id(tensor), i)
        key.append(place)
        if place < i:
            continue
        storage = storages.setdefault(tensor.untyped_storage()._cdata, place)
        key += [tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad, tensor.is_leaf]
        key += [type(tensor), storage]
        node = tracer.nodes.get(id(tensor))
        key.append(id(tensor) if node is None else nodes.setdefault(node, place))
    return key


def state_around(tracer: GraphWriter, call: BlockCall) -> Any:
    """Return the state outside of a block that a template leaves unmodified."""
    leaves, structure = tree_flatten(call.arguments)  # also where in lists and dicts they are
    return (
        (structure, [*map(id, leaves)]),
        [(tensor._version, id(tracer.nodes.get(id(tensor)))) for tensor in call.tensors],
        tracer.values.state(),
        ambient_modes(),
        tracer.session.draws,
    )


def ambient_modes() -> tuple[Any, ...]:
    """Return the modes that a call depends on beside its inputs, such as autocast."""
    return (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        *((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")),
        open_function_modes(),
        open_dispatch_modes(),
        top_saved_tensors_hooks(True) is None,
    )
