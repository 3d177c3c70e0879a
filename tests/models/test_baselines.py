"""Mamba and the Transformer: that they are what they are called, and exact against what autograd dispatches."""

import pytest
import torch
from torch import Tensor, nn

from graphflops import Work, analyze
from graphflops.analysis.mac_counter import count_macs
from graphflops.analysis.op_counter import count_scalar_ops
from graphflops.models import MambaLM, TransformerLM
from graphflops.models.mamba import SelectiveScan, selective_scan

V, N = 30, 12
SIZES = {"vocab_size": V, "d_model": 16, "n_layers": 2, "n_seq": N}
BASELINES = [MambaLM, TransformerLM]


def tokens(length: int = N, seed: int = 0) -> Tensor:
    return torch.randint(0, V, (2, length), generator=torch.Generator().manual_seed(seed))


def scanned(width: int = 3, state: int = 4, length: int = 5) -> list[Tensor]:
    sequence, selected = (2, length, width), (2, length, state)
    shapes = (sequence, sequence, (width, state), selected, selected, (width,))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("baseline", BASELINES)
class TestABaseline:
    def test_trains_every_parameter(self, baseline: type[nn.Module]) -> None:
        model = baseline(**SIZES)
        model(tokens()).square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())

    def test_is_causal(self, baseline: type[nn.Module]) -> None:
        model, one, other = baseline(**SIZES).eval(), tokens(), tokens()
        other[:, 7:] = tokens(seed=1)[:, 7:]
        torch.testing.assert_close(model(one)[:, :7], model(other)[:, :7])

    def test_takes_shorter_sequences(self, baseline: type[nn.Module]) -> None:
        assert baseline(**SIZES)(tokens(5)).shape == (2, 5, V)

    @pytest.mark.parametrize("field", SIZES)
    def test_refuses_sizes_that_are_none(self, baseline: type[nn.Module], field: str) -> None:
        with pytest.raises(ValueError, match=field):
            baseline(**{**SIZES, field: 0})

    def test_is_exact_against_what_autograd_dispatches(self, baseline: type[nn.Module]) -> None:
        model = baseline(**SIZES)
        report, dispatched = analyze(model, (tokens(),), attention="math"), count_macs(model, (tokens(),))
        assert report.coverage.unknown == 0
        assert (report.macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)


def test_the_multiply_adds_of_the_transformer_by_hand() -> None:
    d, tokens_ = 16, 2 * N
    layer = 12 * d * d * tokens_ + 2 * N * d * tokens_
    assert analyze(TransformerLM(**SIZES), (tokens(),)).macs == 2 * layer + d * V * tokens_


def test_the_multiply_adds_of_mamba_by_hand() -> None:
    d, inner, rank, state, taps = 16, 32, 1, 16, 4
    token = d * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * d
    convolution = inner * taps * (N + taps - 1)
    assert analyze(MambaLM(**SIZES), (tokens(),)).macs == 2 * 2 * (token * N + convolution) + d * V * 2 * N


class TestTheScan:
    def test_has_the_right_gradients(self) -> None:
        assert torch.autograd.gradcheck(selective_scan, scanned())

    def test_is_its_recursion(self) -> None:
        x, delta, A, B, C, D = (tensor.detach() for tensor in scanned())
        h, y = torch.zeros(2, 3, 4, dtype=torch.float64), []
        for t in range(5):
            h = (delta[:, t, :, None] * A).exp() * h + (delta * x)[:, t, :, None] * B[:, t, None]
            y.append((h * C[:, t, None]).sum(-1) + D * x[:, t])
        torch.testing.assert_close(selective_scan(x, delta, A, B, C, D), torch.stack(y, 1))

    def test_costs_what_its_code_does(self) -> None:
        report, counted = (
            analyze(selective_scan, tuple(scanned())),
            count_scalar_ops(SelectiveScan.apply, tuple(scanned())),
        )
        assert report.work("forward") == counted.forward
        assert report.work("backward") == counted.backward

    def test_grows_with_the_length(self) -> None:
        short, long = (analyze(selective_scan, tuple(scanned(length=n))).work("forward") for n in (5, 10))
        assert long == 2 * short != Work()


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="n_heads must divide d_model = 16, got 5"):
        TransformerLM(**SIZES, n_heads=5)
