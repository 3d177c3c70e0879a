"""transformers' configurations, made shallow: the layers of a model repeat, and one of each kind shows what it does."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from transformers import AutoConfig

warnings.filterwarnings("ignore")
logging.getLogger("transformers").setLevel(logging.CRITICAL)

DEPTHS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
)
KINDS = ("layer_types", "layers_block_type", "mlp_layer_types", "attention_layers")


def shallow(model_type: str, **changes: Any) -> Any:
    """The default configuration of a model type, with two layers, or one of each kind if there are more kinds.

    The values of ``changes`` are kept; if that is a depth, no layers are taken out.
    """
    config = AutoConfig.for_model(model_type, **changes)
    _make_shallow(config, changed=set(changes))
    return config


def _make_shallow(config: Any, changed: set[str]) -> None:
    for name in dict(config.sub_configs or {}):
        inner = getattr(config, name, None)
        if hasattr(inner, "sub_configs"):
            _make_shallow(inner, set())
    depths = [name for name in DEPTHS if isinstance(_get(config, name), int)]
    if changed.intersection(depths):
        return
    per_layer = {
        name: list(value)
        for name, value in vars(config).items()
        if isinstance(value, (list, tuple)) and any(len(value) == _get(config, depth) > 2 for depth in depths)
    }
    chosen = _one_of_each_kind(config, per_layer)
    for name, value in per_layer.items():
        if len(value) > max(chosen):
            _set(config, name, [value[index] for index in chosen])
    for name in depths:
        if _get(config, name) > 2:
            _set(config, name, len(chosen))


def _one_of_each_kind(config: Any, per_layer: dict[str, list[Any]]) -> list[int]:
    """The first layer of each kind, in their order; the first two layers where all are alike."""
    lists = [
        per_layer[name] for name in KINDS if name in per_layer and all(isinstance(x, str) for x in per_layer[name])
    ]
    chosen: list[int] = []
    for layer_kinds in lists:
        for kind in dict.fromkeys(layer_kinds):
            if not any(layer_kinds[index] == kind for index in chosen):
                chosen.append(layer_kinds.index(kind))
    for index in (0, 1):
        if len(chosen) < 2 and index not in chosen:
            chosen.append(index)
    return sorted(chosen)


def _get(config: Any, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:
        return None


def _set(config: Any, name: str, value: Any) -> None:
    try:
        setattr(config, name, value)
    except Exception:  # a property that another field decides
        return
