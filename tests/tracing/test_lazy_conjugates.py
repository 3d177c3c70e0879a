"""Conjugates and negatives that PyTorch puts off, and makes below autograd for the operator that asks for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

Complex = Callable[[Tensor, Tensor], Tensor]
PROGRAMS: dict[str, Complex] = {
    "a product with a conjugate": lambda q, k: q * torch.conj(k),
    "a conjugate transformed": lambda q, k: torch.fft.irfft(torch.conj(k)),
    "a negative view": lambda q, k: torch.conj(k).imag * 3,
    "written in place": lambda q, k: torch.conj(k).mul_(2) * q,
    "concatenated": lambda q, k: torch.cat([torch.conj(k), q]),
    "made by the program": lambda q, k: torch.conj(k).resolve_conj() * torch.conj(q).clone(),
    "detached": lambda q, k: q * torch.conj(k).detach(),
}


class Transformed(nn.Module):
    def __init__(self, program: Complex) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        return self.program(torch.fft.rfft(self.query(x)), torch.fft.rfft(self.key(x)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_gradient_flows_through_a_conjugate_that_is_made_when_it_is_asked_for(name: str) -> None:
    model, x = Transformed(PROGRAMS[name]), torch.randn(2, 6, 4)
    report, dispatched = analyze(model, (x,)), count_macs(model, (x,))
    assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
    assert not report.unsupported_ops()


def test_none_flows_where_gradients_are_off() -> None:
    def without(q: Tensor, k: Tensor) -> Tensor:
        with torch.no_grad():
            fixed = torch.conj(k) * 2
        return q * fixed

    model, x = Transformed(without), torch.randn(2, 6, 4)
    assert analyze(model, (x,)).work("backward").macs == count_macs(model, (x,)).backward
