"""``diffusers:UNet2DConditionModel?cross_attention_dim=768``: the networks of diffusers, without weights."""

from __future__ import annotations

import inspect
import json
import math
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_error
from graphflops.integrations.loaded import Loaded, Sizes, build, floats, ids, require
from graphflops.integrations.overrides import check_field
from graphflops.integrations.torchvision_operators import import_torchvision

LATENT = 64
"""height and width of a latent, where the configuration has no size: of an image of 512 × 512"""
FRAMES = 16
"""of a video"""
PROMPT = 77
"""tokens of a prompt, as CLIP encodes it"""
PROMPT_WIDTHS = ("joint_attention_dim", "caption_channels", "cross_attention_dim")
"""fields with the width of an encoded prompt"""


def load_diffusers(name: str, overrides: dict[str, Any], sizes: Sizes, target: str) -> Loaded:
    """A network of diffusers by its class or its config.json, on latents of the size that it is configured for.

    Raises:
        UsageError: diffusers is not installed, or has no such network, or the network refuses an override.
    """
    import_torchvision()
    diffusers = require("diffusers", "diffusers", target)
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    fields = _read(path, target) if path.is_file() else {}
    class_name = fields.pop("_class_name", name)
    model_class = getattr(diffusers, class_name, None) if class_name.isidentifier() else None
    if not inspect.isclass(model_class) or not issubclass(model_class, diffusers.ModelMixin):
        near = get_close_matches(class_name, [other for other in dir(diffusers) if other.endswith("Model")], n=3)
        hint = f"; did you mean {' or '.join(f'diffusers:{match}' for match in near)}" if near else ""
        raise UsageError(
            f"{target}: diffusers has no network {class_name!r}{hint}. Give the class of a network, not of "
            "a pipeline, or its config.json"
        )
    parameters = inspect.signature(model_class.__init__).parameters
    for field in overrides:
        check_field(field, set(parameters) - {"self"}, class_name, target)
    options = {field: value for field, value in {**fields, **overrides}.items() if field in parameters}
    model = build(lambda: model_class(**options), target)
    about = () if fields or overrides else (f"the default configuration of {class_name}",)
    return Loaded(model, about=about, made_up=diffusers_inputs(model, sizes))


def diffusers_inputs(model: Any, sizes: Sizes) -> dict[str, Any]:
    """The inputs of a network that its configuration has sizes for."""
    config, rows, dtype = model.config, sizes.rows, model.dtype
    prompt = sizes.seq or PROMPT
    inputs: dict[str, Any] = {}
    for name in inspect.signature(model.forward).parameters:
        if name == "sample" or (name == "hidden_states" and hasattr(config, "sample_size")):
            frames = (FRAMES,) if "3D" in type(model).__name__ else ()
            inputs[name] = floats(rows, _first(config, "in_channels") or 4, *frames, *_size(config, sizes), dtype=dtype)
        elif name == "hidden_states":
            inputs[name] = floats(rows, math.prod(_size(config, sizes)), config.in_channels, dtype=dtype)
        elif name == "timestep":
            inputs[name] = ids(rows)
        elif name == "encoder_hidden_states" and (width := _first(config, *PROMPT_WIDTHS)):
            inputs[name] = floats(rows, prompt, width if isinstance(width, int) else width[0], dtype=dtype)
        elif name == "pooled_projections" and (width := _first(config, "pooled_projection_dim")):
            inputs[name] = floats(rows, width, dtype=dtype)
        elif name == "class_labels" and _first(config, "num_class_embeds", "num_embeds_ada_norm"):
            inputs[name] = ids(rows)
        elif name == "img_ids":
            inputs[name] = floats(math.prod(_size(config, sizes)), 3, dtype=dtype)
        elif name == "txt_ids":
            inputs[name] = floats(prompt, 3, dtype=dtype)
    return inputs


def _size(config: Any, sizes: Sizes) -> tuple[int, int]:
    size = sizes.image or _first(config, "sample_size") or LATENT
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


def _first(config: Any, *names: str) -> Any:
    """The first of some fields that is set."""
    return next((value for name in names if (value := getattr(config, name, None))), None)


def _read(path: Path, target: str) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{target}: {path} cannot be read as JSON: {format_error(error)}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("_class_name"), str):
        raise UsageError(f"{target}: {path} has no _class_name, so it is not a configuration of diffusers")
    return fields
