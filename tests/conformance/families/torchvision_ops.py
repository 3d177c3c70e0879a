"""The published numbers of torchvision's weights, ``weights.meta["_ops"]``: multiply-adds / 10⁹, with three decimals.

Its test suite makes them (test/common_extended_utils.py): noise of 512 × 512, or 16 frames of it, goes through the
weights' own transforms into the model in evaluation mode, and the products and convolutions that run are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision import models
from torchvision.models import get_model, get_model_builder, get_model_weights, list_models
from zoo import Case, Entry, floats, on_meta

MODULES = {
    "classification": models,
    "segmentation": models.segmentation,
    "video": models.video,
    "optical flow": models.optical_flow,
    "quantized": models.quantization,
    "detection": models.detection,
}

OPTIONS: dict[str, dict[str, Any]] = {
    "segmentation": {"weights_backbone": None},
    "quantized": {"quantize": False},  # what is printed for them is what their float models were given
    "detection": {"weights_backbone": None},
}


def entries() -> Iterator[Entry]:
    for kind, module in MODULES.items():
        for name in list_models(module=module):
            alike: dict[tuple[str, float], list[Any]] = {}
            for weights in get_model_weights(name):
                size = getattr(weights.transforms, "keywords", {}).get("crop_size")
                alike.setdefault((str(size), weights.meta["_ops"]), []).append(weights)
            for (_, printed), group in alike.items():
                label, build = ", ".join(op.name for op in group), _builder(kind, name, group[0])
                if kind == "detection":
                    detections = DETECTIONS.get(f"{name}, {label}")
                    label, build = f"{label}, {detections}" if detections else label, _detector(name, detections)
                yield Entry("torchvision_ops", f"{name}: {label}", build, published=printed)


def _builder(kind: str, name: str, weights: Any) -> Callable[[], Case]:
    def build() -> Case:
        prepare = weights.transforms()
        noise = torch.zeros((1, 16, 3, 512, 512) if kind == "video" else (1, 3, 512, 512))
        inputs = prepare(noise, noise) if kind == "optical flow" else (prepare(noise),)
        options = dict(OPTIONS.get(kind, {}))
        if "aux_loss" in signature(get_model_builder(name)).parameters:
            options["aux_loss"] = True  # as the weights come with it
        if name.startswith("vit_"):  # the only models whose parameters depend on the size
            options["image_size"] = inputs[0].shape[-1]
        model = on_meta(lambda: get_model(name, weights=None, **options)).eval()
        return Case(model, tuple(floats(*operand.shape) for operand in inputs))

    return build


# -- detection: the backbone and the heads, for a given number of detections ------------------------------------------


class Detections(NamedTuple):
    """The numbers of detections of the trained weights in the noise, which depend on data; None is the maximum.

    ``boxes`` are the proposals of the first stage, ``instances`` get a mask or keypoints.
    """

    boxes: int | None = None
    instances: int | None = 0

    def __str__(self) -> str:
        counts = ("all" if count is None else count for count in self)
        return "boxes: {}, masks or keypoints: {}".format(*counts)


DETECTIONS = {
    # their first stage drops proposals of low score, here all of them
    "fasterrcnn_mobilenet_v3_large_320_fpn, COCO_V1": Detections(boxes=0),
    "fasterrcnn_mobilenet_v3_large_fpn, COCO_V1": Detections(boxes=0),
    "fasterrcnn_resnet50_fpn, COCO_V1": Detections(),
    "fasterrcnn_resnet50_fpn_v2, COCO_V1": Detections(),
    "keypointrcnn_resnet50_fpn, COCO_LEGACY": Detections(),
    "keypointrcnn_resnet50_fpn, COCO_V1": Detections(instances=1),
    "maskrcnn_resnet50_fpn, COCO_V1": Detections(),
    "maskrcnn_resnet50_fpn_v2, COCO_V1": Detections(instances=None),
}
"""detections of the two-stage detectors"""

SIDES = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320, "fasterrcnn_mobilenet_v3_large_320_fpn": 320}
"""side of the image after the transform of the detector; 800 elsewhere"""


class DetectorOps(nn.Module):
    """A detector with a given number of boxes and instances in its image."""

    def __init__(self, name: str, detections: Detections | None) -> None:
        super().__init__()
        detector = get_model(name, weights=None, weights_backbone=None).eval()
        self.backbone, self.rois = detector.backbone, detector.roi_heads if detections else None
        self.head = detector.rpn.head if detections else detector.head
        if detections:
            self.boxes = detector.rpn.post_nms_top_n() if detections.boxes is None else detections.boxes
            self.instances = self.rois.detections_per_img if detections.instances is None else detections.instances

    def forward(self, image: torch.Tensor) -> list[Any]:
        maps = list(self.backbone(image).values())
        results = [self.head(maps)]
        if self.rois:
            results.append(self.rois.box_predictor(self.rois.box_head(self._pooled(maps, self.boxes, 7))))
            for kind in ("mask", "keypoint"):
                if getattr(self.rois, f"has_{kind}")():
                    head, predict = getattr(self.rois, f"{kind}_head"), getattr(self.rois, f"{kind}_predictor")
                    results.append(predict(head(self._pooled(maps, self.instances, 14))))
        return results

    @staticmethod
    def _pooled(maps: list[torch.Tensor], count: int, side: int) -> torch.Tensor:
        """A replacement of RoIAlign, which has no multiply-adds: a small square for each box."""
        image = torch.zeros(count, dtype=torch.long, device=maps[0].device)
        return maps[0].mean((2, 3))[image, :, None, None].expand(-1, -1, side, side)


def _detector(name: str, detections: Detections | None) -> Callable[[], Case]:
    def build() -> Case:
        side = SIDES.get(name, 800)
        return Case(on_meta(lambda: DetectorOps(name, detections)).eval(), (floats(1, 3, side, side),))

    return build
