"""Public repositories that are no packages: models of research code, unmodified, from clones at a commit.

`make repositories` clones them into a folder beside the environment, and runs this family. A repository is imported
from its folder alone; what another one has left under the same names, such as ``model``, is forgotten first.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from zoo import Case, Entry

CLONES = Path(os.environ.get("GRAPHFLOPS_REPOSITORIES", Path(__file__).parents[3] / ".venv" / "repositories"))
"""the folder that has a clone of each, under its name"""

COMMITS = {
    "NVIDIA/waveglow": "8afb643df59265016af6bd255c7516309d675168",
    "deepseek-ai/DeepSeek-V3": "9b4e9788e4a3a731f7567338ed15d3ec549ce03b",
    "facebookresearch/ConvNeXt": "048efcea897d999aed302f2639b6270aedf8d4c8",
    "facebookresearch/DiT": "ed81ce2229091fd4ecc9a223645f95cf379d582b",
    "facebookresearch/dino": "7c446df5b9f45747937fb0d72314eb9f7b66930a",
    "facebookresearch/jepa": "51c59d518fc63c08464af6de585f78ac0c7ed4d5",
    "jadore801120/attention-is-all-you-need-pytorch": "132907dd272e2cc92e3c10e6c4e783a87ff8893d",
    "johnma2006/mamba-minimal": "03de542a36d873f6e6c4057ad687278cc6ae944d",
    "karpathy/llama2.c": "350e04fe35433e6d2941dce5a1f53308f87058eb",
    "karpathy/minGPT": "37baab71b9abea1b76ab957409a1cc2fbfba8a26",
    "karpathy/nanoGPT": "3adf61e154c3fe3fca428ad6bc3818b27a3b8291",
    "kuangliu/pytorch-cifar": "49b7aa97b0c12fe0d4054e670403a16b6b834ddd",
    "meta-pytorch/gpt-fast": "6ecad9b5b6b987d17ac4303965545873d0192086",
    "microsoft/Swin-Transformer": "f82860bfb5225915aca09c3227159ee9e1df874d",
    "milesial/Pytorch-UNet": "21d7850f2af30a9695bbeea75f3136aa538cfc4a",
    "neko-jpg/Project-ResNet-BK-An-O-N-Language-Model-Architecture": "600c44a076444a2259affcfb591919fccf05c155",
    "openai/CLIP": "d05afc436d78f1c48dc0dbf8e5980a9d471f35f6",
    "openai/guided-diffusion": "22e0df8183507e13a7813f8d38d51b072ca1e67c",
    "pytorch/examples": "77f55b912142e11fcfdf5b530231fb9c52f181e8",
    "tkipf/pygcn": "1600b5b748b3976413d1e307540ccc62605b4d6d",
    "yanx27/Pointnet_Pointnet2_pytorch": "eb64fe0b4c24055559cea26299cb485dcb43d8dd",
    "yenchenlin/nerf-pytorch": "63a5a630c9abd62b0f21c08703d0ac2ea7d4b9dd",
}
"""Repository on GitHub → the commit that is held to the witness."""

Maker = Callable[[Callable[..., Any]], Case]
_ENTRIES: list[Entry] = []


def entries() -> list[Entry]:
    """The entries of the repositories, if any is cloned; the row of one that is not cloned says so."""
    return _ENTRIES if CLONES.is_dir() else []


def repository_case(repository: str, about: str, folder: str = "") -> Callable[[Maker], Maker]:
    """Add a maker's model. It is given a function that imports a module, by name, from ``folder`` of the clone."""

    def add(make: Maker) -> Maker:
        def build() -> Case:
            torch.manual_seed(0)
            random.seed(0)
            return make(_source(clone_of(repository) / folder))

        _ENTRIES.append(Entry("repositories", f"{repository}@{COMMITS[repository][:7]}: {about}", build))
        return make

    return add


def clone_of(repository: str) -> Path:
    """The folder of a clone."""
    path = CLONES / repository.partition("/")[2]
    if not path.is_dir():
        raise FileNotFoundError(f"{repository} is not cloned; make repositories does it")
    return path


def _source(folder: Path) -> Callable[[str], Any]:
    """A function that imports modules from a folder, and from no other clone."""

    def load(name: str) -> ModuleType:
        for clone in _on_path():
            sys.path.remove(str(clone))
            names = {file.stem for file in clone.iterdir()}
            for module_name in [name for name in sys.modules if name.partition(".")[0] in names]:
                del sys.modules[module_name]
        sys.path.insert(0, str(folder))
        return import_module(name)

    return load


def _on_path() -> list[Path]:
    """The folders of clones from which something was imported."""
    return [Path(folder) for folder in sys.path if folder.startswith(f"{CLONES}{os.sep}")]


def _ids(*shape: int, below: int = 100) -> torch.Tensor:
    return torch.randint(0, below, shape)


# -- language ------------------------------------------------------------------------------------------------------


@repository_case("karpathy/nanoGPT", "GPT, with its loss")
def _(load: Any) -> Case:
    model = load("model")
    config = model.GPTConfig(block_size=64, vocab_size=128, n_layer=3, n_head=4, n_embd=64, dropout=0.1)
    return Case(model.GPT(config), (_ids(2, 64), _ids(2, 64)))


@repository_case("karpathy/minGPT", "GPT, with its loss")
def _(load: Any) -> Case:
    gpt = load("mingpt.model").GPT
    config = gpt.get_default_config()
    config.model_type, config.n_layer, config.n_head, config.n_embd = None, 3, 4, 64
    config.vocab_size, config.block_size = 128, 64
    return Case(gpt(config), (_ids(2, 64), _ids(2, 64)))


@repository_case("karpathy/llama2.c", "Transformer, with its loss")
def _(load: Any) -> Case:
    model = load("model")
    config = model.ModelArgs(dim=64, n_layers=3, n_heads=4, n_kv_heads=2, vocab_size=128, max_seq_len=64)
    return Case(model.Transformer(config), (_ids(2, 64), _ids(2, 64)))


@repository_case("deepseek-ai/DeepSeek-V3", "Transformer, with latent attention and experts", "inference")
def _(load: Any) -> Case:
    _without_triton()
    model = load("model")
    config = model.ModelArgs(
        max_batch_size=2, max_seq_len=64, vocab_size=128, dim=64, inter_dim=128, moe_inter_dim=64, n_layers=3,
        n_dense_layers=1, n_heads=4, n_routed_experts=8, n_shared_experts=1, n_activated_experts=2, q_lora_rank=32,
        kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=16, original_seq_len=64,
    )  # fmt: skip
    torch.set_default_dtype(torch.bfloat16)
    try:
        transformer = model.Transformer(config)
    finally:
        torch.set_default_dtype(torch.float32)
    for parameter in transformer.parameters():
        nn.init.normal_(parameter.data, std=0.02)  # they come uninitialized, for a checkpoint to fill
    return Case(transformer, (_ids(2, 48),))


@repository_case("meta-pytorch/gpt-fast", "Mixtral, decoding on its cache", "mixtral-moe")
def _(load: Any) -> Case:
    model = load("model")
    config = model.ModelArgs(
        block_size=64, vocab_size=128, n_layer=2, n_head=4, n_local_heads=2, dim=64, intermediate_size=128
    )
    transformer = model.Transformer(config)
    transformer.setup_caches(max_batch_size=1, max_seq_length=64)
    transformer = transformer.to(torch.bfloat16)
    return Case(transformer, (_ids(1, 16), torch.arange(16)))  # its mixture takes one sequence


@repository_case("meta-pytorch/gpt-fast", "Transformer, its blocks' feed-forward and normalization")
def _(load: Any) -> Case:
    model = load("model")
    config = model.ModelArgs(block_size=64, vocab_size=128, n_layer=2, n_head=4, dim=64, intermediate_size=128)
    block = nn.Sequential(model.RMSNorm(64), model.FeedForward(config))
    return Case(block, (torch.randn(2, 16, 64),))


@repository_case("johnma2006/mamba-minimal", "Mamba")
def _(load: Any) -> Case:
    model = load("model")
    return Case(model.Mamba(model.ModelArgs(d_model=64, n_layer=2, vocab_size=128)), (_ids(2, 32),))


@repository_case("jadore801120/attention-is-all-you-need-pytorch", "Transformer")
def _(load: Any) -> Case:
    model = load("transformer.Models").Transformer(
        100, 120, 0, 0, d_word_vec=64, d_model=64, d_inner=128, n_layers=2, n_head=4, d_k=16, d_v=16
    )
    return Case(model, (_ids(2, 20), _ids(2, 18)))


@repository_case("pytorch/examples", "word_language_model, LSTM", "word_language_model")
def _(load: Any) -> Case:
    model = load("model").RNNModel("LSTM", 100, 32, 32, 2)
    return Case(model, (_ids(12, 3), model.init_hidden(3)))


@repository_case("pytorch/examples", "word_language_model, Transformer", "word_language_model")
def _(load: Any) -> Case:
    return Case(load("model").TransformerModel(100, 32, 4, 64, 2), (_ids(12, 3),))


@repository_case("neko-jpg/Project-ResNet-BK-An-O-N-Language-Model-Architecture", "BASELINE_CONFIG")
def _(load: Any) -> Case:
    module = load("src.models.configurable_resnet_bk")
    config = module.BASELINE_CONFIG
    config.d_model, config.n_layers, config.n_seq, config.vocab_size, config.num_experts = 32, 2, 64, 128, 4
    return Case(module.ConfigurableResNetBK(config), (_ids(2, 64),))


@repository_case("neko-jpg/Project-ResNet-BK-An-O-N-Language-Model-Architecture", "FULL_CONFIG")
def _(load: Any) -> Case:
    module = load("src.models.configurable_resnet_bk")
    config = module.FULL_CONFIG
    config.d_model, config.n_layers, config.n_seq, config.vocab_size, config.num_experts = 32, 2, 64, 128, 4
    return Case(module.ConfigurableResNetBK(config), (_ids(2, 64),))


def _without_triton() -> None:
    """A module of that name where torch comes without it: kernels are defined on import, and none is called."""
    try:
        import triton
    except ImportError:
        triton, language = ModuleType("triton"), ModuleType("triton.language")
        triton.jit, triton.Config, triton.language = (lambda function: function), (lambda *_, **__: None), language
        triton.autotune = lambda **_: lambda function: function
        language.constexpr = object
        sys.modules |= {"triton": triton, "triton.language": language}


# -- images and sound ----------------------------------------------------------------------------------------------


@repository_case("facebookresearch/DiT", "DiT, with labels dropped")
def _(load: Any) -> Case:
    model = load("models").DiT(input_size=16, patch_size=4, hidden_size=64, depth=2, num_heads=4, num_classes=10)
    return Case(model, (torch.randn(2, 4, 16, 16), _ids(2), _ids(2, below=10)))


@repository_case("facebookresearch/dino", "VisionTransformer and DINOHead")
def _(load: Any) -> Case:
    module = load("vision_transformer")
    model = module.VisionTransformer(img_size=[32], patch_size=8, embed_dim=64, depth=2, num_heads=4)
    head = module.DINOHead(64, 128, hidden_dim=64, bottleneck_dim=32)
    return Case(nn.Sequential(model, head), (torch.randn(2, 3, 48, 48),))


@repository_case("facebookresearch/jepa", "VisionTransformer of videos")
def _(load: Any) -> Case:
    model = load("src.models.vision_transformer").VisionTransformer(
        img_size=32, patch_size=8, num_frames=4, embed_dim=48, depth=2, num_heads=4
    )
    return Case(model, (torch.randn(2, 3, 4, 32, 32),))


@repository_case("facebookresearch/ConvNeXt", "ConvNeXt")
def _(load: Any) -> Case:
    model = load("models.convnext").ConvNeXt(depths=[1, 1, 2, 1], dims=[16, 24, 32, 48], drop_path_rate=0.1)
    return Case(model, (torch.randn(2, 3, 64, 64),))


@repository_case("microsoft/Swin-Transformer", "SwinTransformerV2")
def _(load: Any) -> Case:
    model = load("models.swin_transformer_v2").SwinTransformerV2(
        img_size=64, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4, num_classes=10
    )
    return Case(model, (torch.randn(2, 3, 64, 64),))


@repository_case("openai/CLIP", "CLIP", "clip")
def _(load: Any) -> Case:
    model = load("model").CLIP(32, 32, 2, 64, 8, 16, 100, 64, 4, 2)
    return Case(model, (torch.randn(2, 3, 32, 32), _ids(2, 16)))


@repository_case("openai/CLIP", "CLIP, with a ResNet", "clip")
def _(load: Any) -> Case:
    model = load("model").CLIP(64, 64, (1, 1, 1, 1), 16, None, 16, 100, 64, 4, 2)
    return Case(model, (torch.randn(2, 3, 64, 64), _ids(2, 16)))


@repository_case("openai/guided-diffusion", "UNetModel, checkpointed")
def _(load: Any) -> Case:
    model = load("guided_diffusion.unet").UNetModel(
        16, 3, 32, 3, 1, (2,), channel_mult=(1, 2), num_classes=10, use_checkpoint=True, num_heads=4,
        use_scale_shift_norm=True, resblock_updown=True,
    )  # fmt: skip
    return Case(model, (torch.randn(2, 3, 16, 16), _ids(2), _ids(2, below=10)))


@repository_case("milesial/Pytorch-UNet", "UNet")
def _(load: Any) -> Case:
    return Case(load("unet.unet_model").UNet(3, 2, bilinear=True), (torch.randn(1, 3, 48, 50),))


@repository_case("kuangliu/pytorch-cifar", "DLA")
def _(load: Any) -> Case:
    return Case(load("models.dla").DLA(), (torch.randn(2, 3, 32, 32),))


@repository_case("kuangliu/pytorch-cifar", "ShuffleNetV2")
def _(load: Any) -> Case:
    return Case(load("models.shufflenetv2").ShuffleNetV2(0.5), (torch.randn(2, 3, 32, 32),))


@repository_case("pytorch/examples", "super_resolution", "super_resolution")
def _(load: Any) -> Case:
    return Case(load("model").Net(3), (torch.randn(2, 1, 16, 16),))


@repository_case("NVIDIA/waveglow", "WaveGlow")
def _(load: Any) -> Case:
    config = {"n_layers": 2, "n_channels": 16, "kernel_size": 3}
    model = load("glow").WaveGlow(8, 4, 8, 2, 2, config)
    return Case(model, ((torch.randn(2, 8, 4), torch.randn(2, 512)),))


# -- graphs and points ---------------------------------------------------------------------------------------------


@repository_case("tkipf/pygcn", "GCN, on a sparse adjacency")
def _(load: Any) -> Case:
    adjacency = torch.eye(20).to_sparse()
    return Case(load("pygcn.models").GCN(12, 16, 4, 0.5), (torch.randn(20, 12), adjacency))


@repository_case("yanx27/Pointnet_Pointnet2_pytorch", "PointNet, segmentation", "models")
def _(load: Any) -> Case:
    return Case(load("pointnet_sem_seg").get_model(5), (torch.randn(2, 9, 64),))


@repository_case("yanx27/Pointnet_Pointnet2_pytorch", "PointNet++, classification", "models")
def _(load: Any) -> Case:
    return Case(load("pointnet2_cls_ssg").get_model(5, normal_channel=False), (torch.randn(2, 3, 600),))


@repository_case("yenchenlin/nerf-pytorch", "NeRF, with its embedding")
def _(load: Any) -> Case:
    nerf = load("run_nerf_helpers").NeRF(D=4, W=64, input_ch=63, input_ch_views=27, skips=[2], use_viewdirs=True)
    return Case(nerf, (torch.randn(32, 90),))
