"""A failed torch.export, which an analysis tries last, leaves nothing in the process."""

import pytest
import torch

from graphflops import CaptureError, analyze


class Raises(torch.nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        raise ValueError("always")


def test_no_hooks_are_left_on_all_modules() -> None:
    hooks = torch.nn.modules.module._global_buffer_registration_hooks
    before = {*hooks}
    with pytest.raises(CaptureError, match="always"):
        analyze(Raises(2, 2), (torch.zeros(1, 2),))
    assert {*hooks} == before
    torch.nn.Module().register_buffer("buffer", torch.zeros(1))
