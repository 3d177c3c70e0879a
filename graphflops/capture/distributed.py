"""Models that torch.distributed has wrapped or sharded, counted as the modules that they were made of.

``DistributedDataParallel`` and ``fully_shard`` change where numbers are, and not which: a copy runs without their
hooks, which would talk to other processes, and a distributed tensor has a stand-in of its whole shape.
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from graphflops.core.errors import CaptureError
from graphflops.core.torch_compat import local_part

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_WRAPPING = (
    "torch.nn.parallel.distributed",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed._composable.fsdp",
    "torch.distributed._composable.replicate",
)
"""where the hooks are written that gather, scatter and reduce"""


def is_distributed(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a DTensor: its shape is of the whole, and each process holds a part."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def replicated_values(tensor: Any) -> torch.Tensor | None:
    """The values of a distributed tensor, if this process holds all of them."""
    return local_part(tensor) if all(each.is_replicate() for each in tensor.placements) else None


def without_distributed_hooks(name: str, hooks: Any) -> Any:
    """The hooks of a module without those that torch.distributed put there; any other attribute as it is."""
    if name not in _HOOKS or not hooks or not any(map(_is_of_wrapping, hooks.values())):
        return hooks
    return OrderedDict((key, hook) for key, hook in hooks.items() if not _is_of_wrapping(hook))


def bypass_wrapper(copied: nn.Module, attributes: dict[str, Any]) -> None:
    """Have the copy of a wrapper call what it wraps, and nothing else."""
    if isinstance(copied, nn.parallel.DistributedDataParallel):
        attributes["_pre_forward"] = lambda *inputs, **kwargs: (inputs, kwargs)
        attributes["_run_ddp_forward"] = lambda *inputs, **kwargs: copied.module(*inputs, **kwargs)
        attributes["_post_forward"] = lambda output: output
    elif isinstance(copied, nn.DataParallel):
        attributes["device_ids"] = []


def check_no_flat_parameters(modules: Mapping[str, nn.Module]) -> None:
    """Parameters that were made one flat tensor have no shapes to count.

    Raises:
        CaptureError: a module is wrapped so.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    for path, module in modules.items() if fsdp is not None else ():
        if isinstance(module, fsdp.FullyShardedDataParallel):  # type: ignore[union-attr]
            raise CaptureError(
                f"{path or 'the model'} is wrapped by FullyShardedDataParallel (FSDP), which keeps its parameters in "
                "shards of flat tensors, without their shapes: analyze the model before it is wrapped, which costs the "
                "same, or shard it by fully_shard"
            )


def distribution_note(modules: Mapping[str, nn.Module], parameters: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """What a report says of a model that is wrapped or sharded; nothing of others."""
    wrapped = {type(each).__name__ for each in modules.values() if isinstance(each, _WRAPPERS)}
    sharded = {"DTensor"} if any(map(is_distributed, parameters.values())) else set[str]()
    names = ", ".join(sorted(wrapped | sharded))
    return (f"{names}: counted as one process would run it, whole; communication is not counted",) if names else ()


_WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def _is_of_wrapping(hook: Callable[..., Any]) -> bool:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return (getattr(hook, "__module__", None) or "").startswith(_WRAPPING)
