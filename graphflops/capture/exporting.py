"""torch.export, the last way to a graph: for a model whose Python goes another way when it is exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from graphflops.capture.fake_tensors import FakeTensors
from graphflops.capture.logs import silence_export
from graphflops.capture.module_state import snapshot_state
from graphflops.capture.session import session, tracing
from graphflops.core.torch_compat import FakeTensorMode, no_registration_hooks_left


def export_program(
    root: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, grad: bool
) -> fx.GraphModule | str:
    """What torch.export makes of a module, which runs on tensors without data there too; or in a line why nothing."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    fakes = FakeTensors(root, mode=FakeTensorMode(shape_env=ShapeEnv(tracked_fakes=[])))
    copied = fakes.copier.copy
    here = session()
    assert here is not None, "what is exported is copied by an analysis"
    with (
        silence_export(),
        torch.set_grad_enabled(grad),
        here.restored_after(snapshot_state(root, fakes.survey.classes)),
    ):
        try:
            with no_registration_hooks_left(), tracing():
                program = torch.export.export(copied(root), copied(args), copied(dict(kwargs)), strict=False)
            return program.module()
        except Exception as error:
            said = next(iter(str(error).strip().splitlines()), "")
            return f"{type(error).__name__}: {said}"
