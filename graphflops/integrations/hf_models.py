"""``hf:llama?num_hidden_layers=2``: the models of transformers from a configuration, without weights."""

from __future__ import annotations

from typing import Any

from graphflops.core.errors import UsageError
from graphflops.integrations.hf_config import load_config
from graphflops.integrations.hf_inputs import hf_inputs
from graphflops.integrations.loaded import Loaded, Sizes, build, require
from graphflops.integrations.torchvision_operators import import_torchvision

TASKS = (
    "SPEECH_SEQ_2_SEQ",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "MASKED_LM",
    "CAUSAL_LM",
    "IMAGE_TEXT_TO_TEXT",
    "MULTIMODAL_LM",
    "IMAGE_CLASSIFICATION",
    "VIDEO_CLASSIFICATION",
    "CTC",
    "AUDIO_CLASSIFICATION",
    "SEMANTIC_SEGMENTATION",
    "UNIVERSAL_SEGMENTATION",
    "OBJECT_DETECTION",
    "DEPTH_ESTIMATION",
)
"""tasks of transformers' Auto classes; a model is loaded for the first that it has"""

OF_SEVERAL_SENSES = ("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM")
"""tasks of models with an inner configuration for text"""
BY_CHANCE = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "apply_spec_augment")
"""fields of models that leave out layers or parts of the input at random in training"""


def has_model(name: str) -> bool:
    """Whether transformers has a model type of this name."""
    from transformers import CONFIG_MAPPING

    return name in CONFIG_MAPPING


def load_hf(name: str, overrides: dict[str, Any], sizes: Sizes, target: str) -> Loaded:
    """A model of transformers, from the configuration that a name stands for.

    Raises:
        UsageError: transformers is not installed, or the configuration cannot be found or used.
    """
    import_torchvision()
    transformers = require("transformers", "hf", target)
    config, notes = load_config(name, overrides, target)
    if sizes.image is not None:
        _set_image_size(config, sizes.image)
    model_class = _model_class(transformers, config, target)
    model = build(lambda: model_class._from_config(config), target)
    by_chance = [name for name in BY_CHANCE if getattr(config, name, None)]
    model.train(not by_chance)
    if by_chance:
        notes = (*notes, f"in evaluation mode, as {by_chance[0]} leaves out layers or inputs at random in training")
    made_up, left_out = hf_inputs(model, sizes)
    return Loaded(model, about=(model_class.__name__, *notes, *left_out), made_up=made_up)


def _model_class(transformers: Any, config: Any, target: str) -> Any:
    """The class that the configuration names, or the one of the first task that the model type has."""
    from transformers.models.auto import modeling_auto

    for name in config.architectures or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    tasks = [f"MODEL_FOR_{task}_MAPPING_NAMES" for task in TASKS]
    if "text_config" in config.sub_configs:  # Llama 4 is more than its text, and CLIP no classifier of images alone
        tasks = [f"MODEL_FOR_{task}_MAPPING_NAMES" for task in (*OF_SEVERAL_SENSES, *TASKS[:4])]
    tasks.append("MODEL_MAPPING_NAMES")
    for task in tasks:
        names = getattr(modeling_auto, task, {}).get(config.model_type)
        if names:
            return getattr(transformers, names if isinstance(names, str) else names[0])
    raise UsageError(
        f"{target}: no model of transformers is built from {config.model_type!r} alone; if it is a part of a model, "
        "name that model"
    )


def _set_image_size(config: Any, image: tuple[int, int]) -> None:
    parts: list[Any] = [config, getattr(config, "vision_config", None)]
    for part in parts:
        if isinstance(size := getattr(part, "image_size", None), (int, list, tuple)):
            part.image_size = image[0] if isinstance(size, int) else type(size)(image)
