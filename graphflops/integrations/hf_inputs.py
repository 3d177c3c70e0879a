"""Example inputs of a transformers model, from its configuration and the signature of its forward."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from graphflops.integrations.loaded import Sizes, floats, ids

SECOND = 16_000
"""samples of a waveform"""
FRAMES = 100
"""of a spectrogram of any length"""


def hf_inputs(model: Any, sizes: Sizes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Keyword inputs of a model, and notes on what they leave out."""
    config, parameters = model.config, inspect.signature(model.forward).parameters
    main = model.main_input_name
    names: list[str] = [main]
    notes: tuple[str, ...] = ()
    others = [name for name in ("pixel_values", "input_features", "input_values") if name in parameters]
    if "input_ids" in parameters and others:
        if model.can_generate():
            names = ["input_ids"]
            notes = (f"counted on text alone: for other inputs give {others[0]} and the tokens that stand for it",)
        else:
            names = ["input_ids", others[0]]
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in parameters:
        names.append("decoder_input_ids")
    values = {name: _value(name, model, sizes) for name in names}
    return values, notes


def _value(name: str, model: Any, sizes: Sizes) -> torch.Tensor:
    config, rows = model.config, sizes.rows
    text = config.get_text_config()
    if name == "decoder_input_ids":
        limit = _first(config, "max_target_positions", "max_decoder_position_embeddings", "max_position_embeddings")
        return ids(rows, sizes.tokens(limit))
    if name == "pixel_values":
        return floats(rows, *_image(config, sizes), dtype=model.dtype)
    if name == "input_features":
        return floats(rows, *_spectrogram(config), dtype=model.dtype)
    if name == "input_values":
        return floats(rows, *_sound(config), dtype=model.dtype)
    return ids(rows, sizes.tokens(_first(text, "max_position_embeddings", "n_positions")))


def _image(config: Any, sizes: Sizes) -> tuple[int, ...]:
    vision = getattr(config, "vision_config", None) or config
    size = sizes.image or _first(vision, "image_size") or 224
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    channels = _first(vision, "num_channels", "in_channels") or 3
    frames = _first(vision, "num_frames")
    return (frames, channels, height, width) if frames else (channels, height, width)


def _spectrogram(config: Any) -> tuple[int, int]:
    if (positions := _first(config, "max_source_positions")) and (bins := _first(config, "num_mel_bins")):
        return bins, 2 * positions  # the encoder halves the frames
    return FRAMES, _first(config, "input_feat_per_channel", "feature_projection_input_dim", "num_mel_bins") or 80


def _sound(config: Any) -> tuple[int, ...]:
    if (bins := _first(config, "num_mel_bins")) and (length := _first(config, "max_length")):
        return length, bins
    channels = _first(config, "audio_channels")
    return (channels, SECOND) if channels else (SECOND,)


def _first(config: Any, *names: str) -> Any:
    """The first of some fields that is set."""
    return next((value for name in names if (value := getattr(config, name, None))), None)
