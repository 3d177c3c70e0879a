"""All of torchvision's models: at batch 1 as in inference, at batch 2 as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torchvision import models
from torchvision.models import get_model, list_models
from zoo import Case, Entry, floats, on_meta

QUANTISED = (
    "int8 weights lie packed in objects of the CPU's quantised backend, which hides them from PyTorch's dispatcher; "
    "the model before conversion is counted"
)
MODES = {1: "eval", 2: "train"}
"""Batch → mode: some of them normalize a single value per channel, which needs a batch to train."""


def entries() -> Iterator[Entry]:
    for batch in MODES:
        for name in list_models(module=models):
            yield _entry(name, batch, (3, *_size(name)))
        for name in list_models(module=models.segmentation):
            yield _entry(name, batch, (3, 224, 224), weights_backbone=None)
        for name in list_models(module=models.video):
            yield _entry(name, batch, (3, 16, 224, 224))
        for name in list_models(module=models.optical_flow):
            yield Entry("torchvision", f"{name}, {_mode(batch)}", lambda name=name, batch=batch: _flow(name, batch))
        for name in list_models(module=models.quantization):
            yield _entry(name, batch, (3, *_size(name)), label=f"{name} before conversion", quantize=False)
        for name in list_models(module=models.detection):
            yield Entry(
                "torchvision",
                f"{name}, backbone and heads, {_mode(batch)}",
                lambda name=name, batch=batch: _case(lambda: Dense(name), floats(batch, 3, 320, 320)),
            )
    for name in list_models(module=models.detection):
        yield Entry("torchvision", f"{name}, whole", lambda name=name: _detector(name))
    for name in list_models(module=models.quantization):
        yield Entry("torchvision", name, lambda name=name: _quantised(name), refused=QUANTISED)


def _entry(name: str, batch: int, shape: tuple[int, ...], *, label: str = "", **options: object) -> Entry:
    def build() -> Case:
        return _case(lambda: get_model(name, weights=None, **options), floats(batch, *shape))

    return Entry("torchvision", f"{label or name}, {_mode(batch)}", build)


def _case(make: Callable[[], nn.Module], *inputs: torch.Tensor) -> Case:
    return Case(on_meta(make).train(MODES[len(inputs[0])] == "train"), inputs)


def _mode(batch: int) -> str:
    return f"batch {batch}, {MODES[batch]}"


def _size(name: str) -> tuple[int, int]:
    return (299, 299) if "inception" in name else (224, 224)


def _flow(name: str, batch: int) -> Case:
    frame = floats(batch, 3, 128, 160)
    return _case(lambda: get_model(name, weights=None), frame, frame)


class Dense(nn.Module):
    """The part of a detector that does not depend on the image: everything before the selection of boxes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        detector = get_model(name, weights=None, weights_backbone=None)
        self.backbone = detector.backbone
        self.head = detector.rpn.head if hasattr(detector, "rpn") else detector.head

    def forward(self, image: torch.Tensor) -> object:
        return self.head(list(self.backbone(image).values()))


def _detector(name: str) -> Case:
    model = on_meta(lambda: get_model(name, weights=None, weights_backbone=None)).eval()
    return Case(model, ([floats(3, 320, 320)],))


def _quantised(name: str) -> Case:
    raise NotImplementedError(f"{name}: {QUANTISED}")
