"""Import torchvision, also where its compiled operators do not load.

The published wheels are linked against CUDA: beside a CPU build of torch the import stops at "operator torchvision::nms
does not exist", and takes timm and transformers with it. The Python code only needs these operators to have a name and
a signature. They are declared without a kernel, and torchvision's own functions for tensors without data are attached.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

_RECT = "int pooled_height, int pooled_width"
_SIZE = "int batch_size, int channels, int height, int width"
_ROIS = f"Tensor rois, float spatial_scale, {_RECT}"
_BOXES = "Tensor dets, Tensor scores, float iou_threshold"
_MAPPED = f"Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, {_RECT}"
_DEFORM = (
    "Tensor offset, Tensor mask, Tensor bias, int stride_h, int stride_w, int pad_h, int pad_w, "
    "int dilation_h, int dilation_w, int groups, int offset_groups, bool use_mask"
)
SCHEMAS = (
    f"nms({_BOXES}) -> Tensor",
    f"qnms({_BOXES}) -> Tensor",
    f"roi_align(Tensor input, {_ROIS}, int sampling_ratio, bool aligned) -> Tensor",
    f"qroi_align(Tensor input, {_ROIS}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward(Tensor grad, {_ROIS}, {_SIZE}, int sampling_ratio, bool aligned) -> Tensor",
    f"ps_roi_align(Tensor input, {_ROIS}, int sampling_ratio) -> (Tensor, Tensor)",
    f"_ps_roi_align_backward({_MAPPED}, int sampling_ratio, {_SIZE}) -> Tensor",
    f"roi_pool(Tensor input, {_ROIS}) -> (Tensor, Tensor)",
    f"_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, {_RECT}, {_SIZE}) -> Tensor",
    f"ps_roi_pool(Tensor input, {_ROIS}) -> (Tensor, Tensor)",
    f"_ps_roi_pool_backward({_MAPPED}, {_SIZE}) -> Tensor",
    f"deform_conv2d(Tensor input, Tensor weight, {_DEFORM}) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, "
    f"{_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
_declared: list[torch.library.Library] = []
"""Kept alive: the declarations of a library go with it."""


@cache
def import_torchvision() -> None:
    """Import torchvision if it is installed; its operators are declared only if its own library did not load.

    Raises:
        Exception: the import fails for another reason.
    """
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    importlib.import_module("torchvision")
    extension: Any = importlib.import_module("torchvision.extension")
    extension._has_ops = lambda: True  # or _meta_registrations leaves them without a result
    importlib.reload(importlib.import_module("torchvision._meta_registrations"))
