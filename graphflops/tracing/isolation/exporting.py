"""torch.export, the last resort for a model whose Python code runs otherwise when it is exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.torch_compat import FakeTensorMode, no_registration_hooks_left
from graphflops.tracing.copies.fake_tensors import FakeTensors
from graphflops.tracing.copies.module_state import Snapshot
from graphflops.tracing.isolation.logs import silence_export
from graphflops.tracing.session.session import session, tracing


def export_program(
    root: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, grad: bool
) -> fx.GraphModule | str:
    """The program that torch.export returns for a module, which it runs on fake tensors; or its error, as one line."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    fakes = FakeTensors(root, mode=FakeTensorMode(shape_env=ShapeEnv(tracked_fakes=[])))
    copy = fakes.copier.copy
    snapshot = Snapshot(root, fakes.survey.classes, copy)
    fakes.copier.on_shared = snapshot.add
    running = session()
    assert running is not None, "copies belong to an analysis"
    with (
        silence_export(),
        torch.set_grad_enabled(grad),
        running.restored_after(snapshot.restore),
    ):
        try:
            with no_registration_hooks_left(), tracing():
                program = torch.export.export(copy(root), copy(args), copy(dict(kwargs)), strict=False)
            return program.module()
        except Exception as error:
            first_line = next(iter(str(error).strip().splitlines()), "")
            return f"{type(error).__name__}: {first_line}"
