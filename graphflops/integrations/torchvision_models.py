"""``torchvision:resnet50``: the models of torchvision, without weights."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.integrations.loaded import Loaded, Sizes, build, floats, require
from graphflops.integrations.overrides import check_field
from graphflops.integrations.torchvision_operators import import_torchvision

CLIP = (16, 112, 112)
"""frames, height and width of a video, as in torchvision's training"""
FLOW_IMAGE = (520, 960)
"""of an image pair, as in torchvision's evaluation of RAFT"""
DETECTION_IMAGE = (800, 800)


def has_model(name: str) -> bool:
    """Whether torchvision has a model of this name."""
    from torchvision import models

    return name in models.list_models()


def load_torchvision(name: str, overrides: dict[str, Any], sizes: Sizes, target: str) -> Loaded:
    """A model of torchvision on an image of the size that its weights were trained on.

    Raises:
        UsageError: torchvision is not installed or has no such model, or the model refuses an override.
    """
    import_torchvision()
    models = require("torchvision.models", "torchvision", target)
    names = models.list_models()
    if name not in names:
        near = get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(f'torchvision:{match}' for match in near)}?" if near else ""
        raise UsageError(f"{target}: torchvision has no model {name!r}{hint}")
    builder = models.get_model_builder(name)
    options = _options(builder, overrides, sizes, target)
    model = build(lambda: builder(**options), target)
    about: tuple[str, ...] = ()
    if _family(model) == "detection":  # in training it reads the values of the boxes to find
        model, about = model.eval(), ("in evaluation mode, as training needs the boxes to find",)
    args = _inputs(models, name, model, sizes)
    made_up = dict(zip(inspect.signature(model.forward).parameters, args, strict=False))
    return Loaded(model, about=about, made_up=made_up)


def _options(builder: Any, overrides: dict[str, Any], sizes: Sizes, target: str) -> dict[str, Any]:
    parameters = inspect.signature(builder).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for field in () if takes_any else overrides:
        check_field(field, parameters, builder.__name__, target)
    no_weights = {parameter: None for parameter in ("weights", "weights_backbone") if parameter in parameters}
    image = {}
    if sizes.image is not None and builder.__name__.startswith("vit_"):
        image["image_size"] = sizes.image[0]
    return {**no_weights, **image, **overrides}


def _inputs(models: Any, name: str, model: Any, sizes: Sizes) -> tuple[Any, ...]:
    family = _family(model)
    if family == "detection":
        height, width = sizes.image or DETECTION_IMAGE
        return ([floats(3, height, width) for _ in range(sizes.rows)],)
    if family == "optical_flow":
        frame = floats(sizes.rows, 3, *(sizes.image or FLOW_IMAGE))
        return frame, frame
    frames, *default = CLIP if family == "video" else (0, *_image_size(models, name))
    height, width = sizes.image or default
    return (floats(sizes.rows, 3, *((frames,) if frames else ()), height, width),)


def _family(model: Any) -> str:
    """The folder of a model: detection, video, optical_flow, …"""
    return type(model).__module__.removeprefix("torchvision.models.").partition(".")[0]


def _image_size(models: Any, name: str) -> tuple[int, int]:
    """The crop that the weights of a model were trained on."""
    transforms = getattr(next(iter(models.get_model_weights(name)), None), "transforms", None)
    size = getattr(transforms, "keywords", {}).get("crop_size") or 224
    return (size, size) if isinstance(size, int) else (size[0], size[-1])
