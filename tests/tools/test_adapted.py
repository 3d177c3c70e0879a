"""The handles and hooks of fvcore and thop themselves, taken in by adapters: they count here what they count there."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.rules.adapters import fvcore_handle, module_hook

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    fvcore = pytest.importorskip("fvcore.nn")
    thop = pytest.importorskip("thop")
    hooks = pytest.importorskip("thop.vision.basic_hooks")

pytestmark = pytest.mark.filterwarnings("ignore")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.linear, self.layer_norm = nn.Linear(6, 5), nn.LayerNorm(5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.up(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        y = self.layer_norm(self.linear(tokens))
        return y @ y.transpose(1, 2) @ y


HANDLES = {
    "conv": fvcore_handle("aten::_convolution", fvcore.jit_handles.conv_flop_jit),
    "linear": fvcore_handle("aten::linear", fvcore.jit_handles.linear_flop_jit),
    "matmul": fvcore_handle("aten::matmul", fvcore.jit_handles.matmul_flop_jit),
    "batch_norm": fvcore_handle("aten::batch_norm", fvcore.jit_handles.batchnorm_flop_jit),
    "layer_norm": fvcore_handle("aten::layer_norm", fvcore.jit_handles.norm_flop_counter(2)),
}


@pytest.fixture
def network() -> tuple[nn.Module, Tensor]:
    return Network().eval(), torch.randn(2, 4, 8, 8)


def test_handles_of_fvcore(network: tuple[nn.Module, Tensor]) -> None:
    model, x = network
    expected = fvcore.FlopCountAnalysis(model, x).unsupported_ops_warnings(False).by_operator()
    report = analyze(model, (x,), rules=HANDLES.values(), training=False)
    assert not report.unknown
    assert report.macs == sum(expected[name] for name in HANDLES)
    assert set(expected) == set(HANDLES)


@pytest.mark.parametrize(
    ("cls", "hook", "layer"),
    [
        (nn.Conv2d, hooks.count_convNd, "conv"),
        (nn.ConvTranspose2d, hooks.count_convNd, "up"),
        (nn.BatchNorm2d, hooks.count_normalization, "norm"),
        (nn.Linear, hooks.count_linear, "linear"),
    ],
)
def test_hooks_of_thop(cls: type, hook, layer: str, network: tuple[nn.Module, Tensor]) -> None:
    model, x = network
    shapes = {"conv": (2, 4, 8, 8), "norm": (2, 8, 8, 8), "up": (2, 8, 8, 8), "linear": (2, 64, 6)}
    module, x = getattr(model, layer), torch.randn(shapes[layer])
    report = analyze(module, (x,), rules=[module_hook(cls, hook)], training=False)
    assert not report.unknown
    assert report.macs == thop.profile(module, (x,), verbose=False)[0]
