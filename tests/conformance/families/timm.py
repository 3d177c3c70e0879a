"""timm: of each of its model files, the model with the shortest name."""

from __future__ import annotations

from collections.abc import Iterator

import timm
from zoo import Case, Entry, floats, on_meta


def entries() -> Iterator[Entry]:
    for module in timm.list_modules():
        if names := timm.list_models(module=module):
            name = min(names, key=lambda name: (len(name), name))
            yield Entry("timm", name, lambda name=name: _build(name))


def _build(name: str) -> Case:
    model = on_meta(lambda: timm.create_model(name, pretrained=False))
    size = (model.pretrained_cfg or {}).get("input_size") or (3, 224, 224)
    return Case(model, (floats(2, *size),))
