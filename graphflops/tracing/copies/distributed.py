"""Models that torch.distributed has wrapped or sharded, counted as one process would run them.

``DistributedDataParallel`` and ``fully_shard`` change where tensors are stored, not what is computed: a copy runs
without their hooks, which communicate with other processes, and the fake tensor of a DTensor has its global shape.
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
_DEFINES_HOOKS = (
    "torch.nn.parallel.distributed",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed._composable.fsdp",
    "torch.distributed._composable.replicate",
)
"""modules that define the hooks which gather, scatter and reduce"""


def is_distributed(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a DTensor."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def replicated_values(tensor: Any) -> torch.Tensor | None:
    """The values of a DTensor, if this process has all of them."""
    return local_part(tensor) if all(placement.is_replicate() for placement in tensor.placements) else None


def without_distributed_hooks(name: str, hooks: Any) -> Any:
    """The hooks of a module without those of torch.distributed; any other attribute unchanged."""
    if name not in _HOOKS or not hooks or not any(map(_is_distributed_hook, hooks.values())):
        return hooks
    return OrderedDict((key, hook) for key, hook in hooks.items() if not _is_distributed_hook(hook))


def bypass_wrapper(copied: nn.Module, attributes: dict[str, Any]) -> None:
    """Have the copy of a wrapper call the wrapped module, and nothing else."""
    if isinstance(copied, nn.parallel.DistributedDataParallel):
        attributes["_pre_forward"] = lambda *inputs, **kwargs: (inputs, kwargs)
        attributes["_run_ddp_forward"] = lambda *inputs, **kwargs: copied.module(*inputs, **kwargs)
        attributes["_post_forward"] = lambda output: output
    elif isinstance(copied, nn.DataParallel):
        attributes["device_ids"] = []


def check_no_flat_parameters(modules: Mapping[str, nn.Module]) -> None:
    """Refuse modules whose parameters are parts of flat tensors, without their shapes.

    Raises:
        CaptureError: FullyShardedDataParallel wraps a module.
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
    """The note of a report on a model that is wrapped or sharded; empty for others."""
    wrapped = {type(module).__name__ for module in modules.values() if isinstance(module, _WRAPPERS)}
    sharded = {"DTensor"} if any(map(is_distributed, parameters.values())) else set[str]()
    names = ", ".join(sorted(wrapped | sharded))
    return (f"{names}: counted as the unsharded model on one process; communication is not counted",) if names else ()


_WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def _is_distributed_hook(hook: Callable[..., Any]) -> bool:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return (getattr(hook, "__module__", None) or "").startswith(_DEFINES_HOOKS)
