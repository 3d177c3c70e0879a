"""The tools themselves, run and compared with their imitations: equal to the last digit, or listed with the cause."""

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))
import shim  # noqa: F401  first: beside a CPU build of torch, torchvision needs the names of its operators

TOOLS_AND_MODELS = (
    *("fvcore", "ptflops", "calflops", "thop", "torchinfo", "torchprofile", "torch_flops", "deepspeed"),
    *("lightning_fabric", "torchvision", "timm", "transformers"),
)
for module in TOOLS_AND_MODELS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(module)

import torchvision.models as tv  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attention(x, x, x, need_weights=False)[0])


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x, x[:, :5])


class GPT2(nn.Module):
    def __init__(self) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        config = GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=100, bos_token_id=0, eos_token_id=0)
        config.use_cache = False
        self.model = GPT2LMHeadModel(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(inputs_embeds=x).logits


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 30), nn.GELU(), nn.LayerNorm(30), nn.Linear(30, 10, bias=False), nn.Softmax(-1))


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, groups=4, stride=2, padding=1, bias=False), nn.GroupNorm(4, 16), nn.MaxPool2d(2)),
        *(nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(8, 5)),
    )


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


IMAGE = (3, 224, 224)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (20,)),
    "cnn": (cnn, (3, 32, 32)),
    "attention": (Attention, (6, 16)),
    "encoder": (encoder, (7, 32)),
    "encoder_decoder": (EncoderDecoder, (7, 32)),
    "lstm": (lambda: nn.LSTM(8, 12, 2, batch_first=True), (5, 8)),
    "gpt2": (GPT2, (10, 64)),
    "resnet18": (tv.resnet18, IMAGE),
    "resnet50": (tv.resnet50, IMAGE),
    "mobilenet_v3_small": (tv.mobilenet_v3_small, IMAGE),
    "vit_b_16": (tv.vit_b_16, IMAGE),
    "swin_t": (tv.swin_t, IMAGE),
    "convnext_tiny": (tv.convnext_tiny, IMAGE),
}


def fvcore(model: nn.Module, x: Tensor) -> Any:
    from fvcore.nn import FlopCountAnalysis

    return FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def ptflops(model: nn.Module, x: Tensor, backend: str = "pytorch") -> Any:
    from ptflops import get_model_complexity_info

    return get_model_complexity_info(
        model, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, verbose=False, backend=backend
    )[0]


def ptflops_aten(model: nn.Module, x: Tensor) -> Any:
    return ptflops(model, x, "aten")


def thop(model: nn.Module, x: Tensor) -> Any:
    from thop import profile

    return profile(model, (x,), verbose=False)[0]


def torchinfo(model: nn.Module, x: Tensor) -> Any:
    from torchinfo import summary

    return summary(model, input_data=x, verbose=0).total_mult_adds


def calflops(model: nn.Module, x: Tensor) -> Any:
    from calflops import calculate_flops

    return calculate_flops(model, args=[x], print_results=False, output_as_string=False)[0]


def deepspeed(model: nn.Module, x: Tensor) -> Any:
    from deepspeed.profiling.flops_profiler import get_model_profile

    return get_model_profile(model, args=[x], print_profile=False, as_string=False, warm_up=0)[0]


def torchprofile(model: nn.Module, x: Tensor) -> Any:
    from torchprofile import profile_macs

    return profile_macs(model, x)


def torch_flops(model: nn.Module, x: Tensor) -> Any:
    from torch_flops import TorchFLOPsByFX

    with pytest.MonkeyPatch.context() as patch:  # it asks for a GPU's memory at each node, GPU or not
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
        counter = TorchFLOPsByFX(model)
        counter.propagate(x)
    return counter.print_total_flops(show=False)


TOOLS = {
    tool.__name__: tool for tool in (fvcore, ptflops, ptflops_aten, calflops, thop, torchinfo, torchprofile, deepspeed)
}

RECURRENT = "a hook's formula on the sizes of the whole layer; our graph has its single steps, which count 0 here"
SIZES = "products of sizes, heads times batch and the like, are in the trace too, and count 1 each"
DIFFERENCES = {
    ("cnn", "calflops"): (128, "bias of the transposed convolution, at the 16 positions that a convolution would have"),
    ("attention", "torchprofile"): (4, SIZES),
    ("encoder", "torchprofile"): (8, SIZES),
    ("encoder_decoder", "torchprofile"): (28, SIZES),
    ("vit_b_16", "torchprofile"): (49, SIZES),
    ("swin_t", "torchprofile"): (24, SIZES),
    ("lstm", "ptflops"): (1_584, "the hook adds gates and both biases to the products, which are all that is imitated"),
    ("lstm", "deepspeed"): (1_200, "the hook counts a product of n less its last sum, gates and both biases"),
    ("lstm", "calflops"): (1_200, "the hook counts a product of n less its last sum, gates and both biases"),
    ("lstm", "thop"): (12_480, RECURRENT),
    ("lstm", "torchinfo"): (11_520, RECURRENT),
    ("gpt2", "torchinfo"): (
        15_949_824,
        "Conv1D, a linear layer by its shapes, is taken for a convolution by its name, and the width for positions",
    ),
}
"""model, tool → what the tool counts beyond its imitation, and the cause"""


@pytest.fixture(autouse=True)
def slow_path() -> Iterator[None]:
    """The fast path of nn.MultiheadAttention, in evaluation without gradients, hides whole layers from every tool."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", MODELS)
def test_an_imitation_equals_its_tool(name: str, tool: str) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(1, *shape)
    imitated = analyze(model, (x,), training=False).under(tool).forward
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        message = TOOLS[tool](model, x)
    difference, _ = DIFFERENCES.get((name, tool), (0, ""))
    assert message - imitated == difference


def plain_vit() -> nn.Module:
    """timm's ViT-B/16 as its published count has it: attention written out, nn.LayerNorm instead of timm's own."""
    import timm

    model = timm.create_model("vit_base_patch16_224")
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm):
            model.set_submodule(path, nn.LayerNorm(module.normalized_shape, module.eps))
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


TRACEABLE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int | None, int]] = {
    "mlp": (mlp, (20,), None, 0),
    "resnet18": (tv.resnet18, IMAGE, None, 0),
    "resnet50": (tv.resnet50, IMAGE, 8_227_340_288, 0),
    "mobilenet_v3_small": (tv.mobilenet_v3_small, IMAGE, None, 0),
    "vit_b_16": (plain_vit, IMAGE, 35_164_979_282, 2),
}
"""name → model, input, what torch_flops publishes, and what it counts beyond: 2 comparisons of image sizes"""


@pytest.mark.parametrize("name", TRACEABLE)
def test_torch_flops_where_it_can_trace(name: str) -> None:
    build, shape, published, sizes = TRACEABLE[name]
    model, x = build().eval(), torch.randn(1, *shape)
    imitated = analyze(model, (x,), training=False).under("torch_flops").forward
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        message = torch_flops(model, x)
    assert message - imitated == sizes
    assert published in (None, message)


def test_deepspeed_on_layers_that_the_models_do_not_have() -> None:
    model = nn.Sequential(
        *(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, output_padding=1), nn.InstanceNorm2d(6, affine=True)),
        *(
            nn.Upsample(scale_factor=2),
            nn.LeakyReLU(),
            nn.InstanceNorm2d(6),
            nn.Upsample(scale_factor=2, mode="bilinear"),
        ),
        *(nn.ELU(), nn.PReLU(), nn.SiLU(), nn.AdaptiveMaxPool2d(3), nn.Sigmoid()),
    ).eval()
    x = torch.randn(2, 4, 5, 5)
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        assert deepspeed(model, x) == analyze(model, (x,), training=False).under("deepspeed").forward


GROUPS = (
    "the counter's gradient of a grouped convolution has a channel of the input for each of the output, of all groups"
)
LIGHTNING_DIFFERENCES = {
    "cnn": (884_736, GROUPS),
    "mobilenet_v3_small": (7_148_988_672, GROUPS),
    "convnext_tiny": (101_543_629_824, GROUPS),
}
"""model → what measure_flops counts beyond its imitation in the backward pass, and the cause"""


# the masks of GPT-2 in transformers depend on values, which meta tensors do not have
@pytest.mark.parametrize("name", [name for name in MODELS if name != "gpt2"])
def test_lightning_on_the_meta_device_as_its_documentation_recommends(name: str) -> None:
    from lightning_fabric.utilities.throughput import measure_flops

    build, shape = MODELS[name]
    with torch.device("meta"):
        model, x = build(), torch.randn(2, *shape)
    report = analyze(model, (x,), optimizer=None, attention="math").under("lightning")
    assert measure_flops(model, lambda: model(x)) == report.forward
    step = measure_flops(model, lambda: model(x), lambda y: (y[0] if isinstance(y, tuple) else y).sum())
    difference, _ = LIGHTNING_DIFFERENCES.get(name, (0, ""))
    assert step - report.total == difference


def torch_counter(model: nn.Module, x: Tensor) -> Any:
    """Multiply-adds of a forward and, with gradients, a backward pass."""
    with FlopCounterMode(display=False) as counter:
        output = model(x)
        output = output[0] if isinstance(output, tuple) else output
        if output.requires_grad:
            output.sum().backward()
    return counter.get_total_flops() / 2


def calflops_step(model: nn.Module, x: Tensor) -> Any:
    from calflops import calculate_flops

    options = {"print_results": False, "output_as_string": False, "include_backPropagation": True}
    return calculate_flops(model, args=[x], **options)[1]


def frozen_resnet18() -> nn.Module:
    model = tv.resnet18().requires_grad_(False)
    model.fc.requires_grad_(True)
    return model


README_MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "`nn.LSTM(512, 512, 2)`, 128 steps": (lambda: nn.LSTM(512, 512, 2), (128, 1, 512)),
    "MobileNetV3 small, forward and backward": (tv.mobilenet_v3_small, (1, *IMAGE)),
    "ViT-B/16": (tv.vit_b_16, (1, *IMAGE)),
    "ResNet-18, all but `fc` frozen, forward and backward": (frozen_resnet18, (1, *IMAGE)),
}
README_TOOLS = {
    "`FlopCounterMode` of torch": torch_counter,
    "fvcore": fvcore,
    "thop": thop,
    "torchinfo": torchinfo,
    "calflops": calflops_step,
}
README_ROW = re.compile(r"^\| (.+?) \| (.+?) \| ([\d,]+) \| ([\d,]+) \| .+ \|$", re.MULTILINE)


def test_the_table_of_the_readme() -> None:
    """Each counter as its users call it, PyTorch's fast path included; executed is what the dispatch counter sees."""
    torch.backends.mha.set_fastpath_enabled(True)
    rows = README_ROW.findall((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8"))
    assert len(rows) == 6
    for name, tool, reported, executed in rows:
        build, shape = README_MODELS[name]
        training = "backward" in name
        model, x = build().eval(), torch.randn(shape)
        report = analyze(model, (x,), training=training)
        dispatched = count_macs(model, (x,), training=training)
        assert report.work("total").macs == dispatched.forward + dispatched.backward == int(executed.replace(",", ""))
        with contextlib.redirect_stdout(io.StringIO()), torch.set_grad_enabled(training):
            assert README_TOOLS[tool](model, x) == int(reported.replace(",", "")), (name, tool)
