"""Fake tensors that outlive an analysis, and an error message that names their holders.

Every fake tensor holds the mode that made it. If the mode still exists when an analysis has released everything of its
own, something else holds a fake tensor.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Sequence
from typing import Any

import torch

from graphflops.core.torch_compat import is_frame


def fake_tensors_of(modes: list[Any]) -> list[Any]:
    """The fake tensors of some modes, found by the garbage collector's references."""
    referrers = gc.get_referrers(*modes)
    attributes = [referrer for referrer in referrers if type(referrer) is dict]
    referrers += gc.get_referrers(*attributes) if attributes else ()
    tensors = {id(referrer): referrer for referrer in referrers if issubclass(type(referrer), torch.Tensor)}
    referrers.clear()  # these lists are in each other, and would count as holders
    return [*tensors.values()]


def leak_message(leaked: list[Any]) -> str | None:
    """The error message for fake tensors that outlive an analysis; None if nothing holds them.

    Tensors without a holder are in a reference cycle of autograd, which no code can reach: the backward pass of a
    reentrant checkpoint leaves one.
    """
    holders = _holders(leaked)
    if not holders:
        return None
    return (
        f"{len(leaked)} fake tensors outlive the analysis, held by {', '.join(holders[:5])}: the model's code stores "
        "tensors where the analysis cannot restore the previous value.\n"
        "Store tensors in attributes of modules, or delete those that are stored there before the model runs again."
    )


def _holders(leaked: list[Any]) -> list[str]:
    """Descriptions of the objects that hold fake tensors."""
    if not leaked:
        return []
    tensors = tuple(leaked)  # as arguments are, so that there is no second list of them
    own = {id(leaked), id(tensors)}
    referrers = [
        referrer for referrer in gc.get_referrers(*tensors) if id(referrer) not in own and not _is_internal(referrer)
    ]
    return [*dict.fromkeys(_describe_holder(referrer, {*map(id, leaked)}) for referrer in referrers)]


def describe_holders(values: Sequence[Any]) -> list[str]:
    """The globals and attributes that hold one of some values; those of analyses are left out."""
    ids = {id(value) for value in values}
    holders = [referrer for referrer in gc.get_referrers(*values) if type(referrer) is dict]
    descriptions = [_describe_holder(holder, ids) for holder in holders]
    return [*dict.fromkeys(description for description in descriptions if not description.startswith("a dict"))]


def _is_internal(referrer: Any) -> bool:
    """Whether a referrer is a frame, an iterator or a cell of the analysis's own running code."""
    is_pythons = isinstance(referrer, types.FrameType) or type(referrer).__name__ in ("list_iterator", "cell")
    return is_pythons or is_frame(referrer)


def _describe_holder(holder: Any, leaked_ids: set[int]) -> str:
    """A global by its module, an attribute by its class, anything else by its type."""
    if isinstance(holder, dict):
        key = next((repr(key) for key, value in holder.items() if id(value) in leaked_ids), "?")
        for outer in gc.get_referrers(holder):
            if isinstance(outer, types.ModuleType) and vars(outer) is holder:
                return f"{outer.__name__}.{key.strip(chr(39))}"
            if isinstance(outer, type) and vars(outer).get(key.strip(chr(39)), outer) is holder.get(key.strip(chr(39))):
                return f"the attribute {key.strip(chr(39))} of {outer.__qualname__}"
            if getattr(outer, "_graphflops_shares_it", False) is True:
                continue
            if getattr(outer, "__dict__", None) is holder:
                return f"the attribute {key.strip(chr(39))} of a {type(outer).__name__}"
        return f"a dict, under {key}"
    return f"a {type(holder).__module__}.{type(holder).__name__}"
