"""``timm:vit_base_patch16_224``: the models of timm, without weights."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.integrations.loaded import Loaded, Sizes, build, floats, require
from graphflops.integrations.torchvision_operators import import_torchvision


def has_model(name: str) -> bool:
    """Whether timm has a model of this name, with or without the tag of its weights."""
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def load_timm(name: str, overrides: dict[str, Any], sizes: Sizes, target: str) -> Loaded:
    """A model of timm on an image of the size that its configuration names.

    Raises:
        UsageError: timm is not installed or has no such model, or the model refuses an override.
    """
    import_torchvision()
    timm = require("timm", "timm", target)
    if not timm.is_model(name.partition(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(f'timm:{match}' for match in near)}?" if near else ""
        raise UsageError(f"{target}: timm has no model {name!r}{hint}")
    model = _build(timm, name, overrides, sizes, target)
    config = model.pretrained_cfg
    channels, *default = config["input_size"]
    size = overrides.get("img_size") or default
    height, width = sizes.image or ((size, size) if isinstance(size, int) else size)
    channels = overrides.get("in_chans", channels)
    name, *_ = inspect.signature(model.forward).parameters
    return Loaded(model, made_up={name: floats(sizes.rows, channels, height, width)})


def _build(timm: Any, name: str, overrides: dict[str, Any], sizes: Sizes, target: str) -> Any:
    if sizes.image is not None and "img_size" not in overrides:
        try:  # models of a fixed image size have the argument, the others refuse it
            return build(lambda: timm.create_model(name, pretrained=False, img_size=sizes.image, **overrides), target)
        except UsageError as error:
            if "img_size" not in str(error):
                raise
    return build(lambda: timm.create_model(name, pretrained=False, **overrides), target)
