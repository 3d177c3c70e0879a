"""The models that are measured, each built on a device of choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn


class Case(NamedTuple):
    """A model and its inputs."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


Build: TypeAlias = Callable[[], nn.Module]


@dataclass(frozen=True)
class Row:
    """One row of the table. ``tools``: whether the other counters, which run the model, are measured on it too."""

    name: str
    about: str
    load: Callable[[], Build] = field(compare=False)
    """imports what the model is made of, and gives what builds it"""
    inputs: Callable[[], tuple[tuple[Any, ...], Mapping[str, Any]]] = field(compare=False)
    tools: bool = False
    depth: int = 0
    """of a row that is so many blocks"""
    alone: Row | None = None
    """the same model with one block"""

    def case(self, device: str = "meta") -> Case:
        """The model in training mode, and its inputs."""
        build = self.load()
        with torch.device(device):
            return Case(build(), *self.inputs())


def rows() -> dict[str, Row]:
    """All rows by name."""
    all_rows = [*_images(), *_language(), *_depths()]
    return {row.name: row for row in all_rows}


def _images() -> list[Row]:
    def row(name: str) -> Row:
        def load() -> Build:
            import torchvision

            return getattr(torchvision.models, name)

        # two, because batch norm of one image and one pixel has nothing to normalise
        return Row(name, "torchvision, 2 images of 224 × 224", load, lambda: ((torch.zeros(2, 3, 224, 224),), {}), True)

    return [row(name) for name in ("resnet50", "mobilenet_v3_large", "vit_b_16")]


def _language() -> list[Row]:
    def gpt2() -> Build:
        from transformers import GPT2Config, GPT2LMHeadModel

        return lambda: GPT2LMHeadModel(GPT2Config(use_cache=False))

    def resnet_bk() -> Build:
        from graphflops.models import BASELINE_CONFIG, ConfigurableResNetBK

        return lambda: ConfigurableResNetBK(BASELINE_CONFIG)

    def mixtral() -> Build:
        from transformers import MixtralConfig, MixtralForCausalLM

        return lambda: MixtralForCausalLM(MixtralConfig(use_cache=False)).to(torch.bfloat16)

    return [
        Row("gpt2", "transformers, sequence 256", gpt2, lambda: masked(256), True),
        Row("resnet_bk", "ResNet-BK, baseline, batch 32", resnet_bk, lambda: ((tokens(32, 128),), {}), True),
        llama("llama_8b", layers=32, width=4096, heads=32, inner=14336),
        llama("llama_70b", layers=80, width=8192, heads=64, inner=28672),
        llama("llama_405b", layers=126, width=16384, heads=128, inner=53248),
        llama("llama_8b_tokens", layers=32, width=4096, heads=32, inner=14336, only_tokens=True),
        llama("llama_405b_tokens", layers=126, width=16384, heads=128, inner=53248, only_tokens=True),
        Row("mixtral", "transformers, 8 × 7 billion, sequence 4096", mixtral, lambda: masked(4096)),
    ]


def llama(name: str, *, layers: int, width: int, heads: int, inner: int, only_tokens: bool = False) -> Row:
    """Of the third generation: 8 heads for keys and values, a vocabulary of 128256.

    With ``only_tokens`` it is called as people call it: transformers makes a cache that each block writes.
    """

    def load() -> Build:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=8,
            intermediate_size=inner,
            vocab_size=128256,
            max_position_embeddings=8192,
            use_cache=only_tokens,
        )
        return lambda: LlamaForCausalLM(config).to(torch.bfloat16)

    block_name = f"{name}, one block"
    alone = (
        llama(block_name, layers=1, width=width, heads=heads, inner=inner, only_tokens=only_tokens)
        if layers > 1
        else None
    )
    about = f"transformers, {layers} blocks, sequence 8192" + (", called with tokens alone" if only_tokens else "")
    return Row(name, about, load, lambda: ((tokens(1, 8192),), {}) if only_tokens else masked(8192), alone=alone)


def _depths() -> list[Row]:
    def row(depth: int) -> Row:
        about = f"{depth} × nn.TransformerEncoderLayer"
        return Row(f"depth_{depth}", about, lambda: lambda: blocks(depth), stream, depth=depth)

    return [row(depth) for depth in (8, 32, 128, 512)]


def blocks(depth: int, width: int = 512) -> nn.Module:
    """So many of one block, one after the other."""
    return nn.Sequential(*(nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True) for _ in range(depth)))


def stream(width: int = 512) -> tuple[tuple[Tensor], dict[str, Any]]:
    """The input of such blocks: 8 sequences of 256."""
    return (torch.zeros(8, 256, width),), {}


def tokens(*shape: int) -> Tensor:
    """Numbers of tokens."""
    return torch.zeros(shape, dtype=torch.long)


def masked(length: int) -> tuple[tuple[Tensor], dict[str, Any]]:
    """Tokens, and which may look at which: without a mask transformers asks the data, and meta tensors have none."""
    return (tokens(1, length),), {"attention_mask": torch.ones(1, 1, length, length, dtype=torch.bool)}
