"""Generations that really run, on data: their multiply-adds, and the tensors of their caches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class Attention(nn.Module):
    """Causal attention with a cache of keys and values, as nanoGPT's with a cache added."""

    def __init__(self, width: int = 8, heads: int = 2, window: int | None = None) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        kept = slice(None) if self.window is None else slice(1 - self.window, None)
        return self.out(y.transpose(1, 2).flatten(2)), (k[:, :, kept], v[:, :, kept])


class TinyGPT(nn.Module):
    """A model that takes and returns its cache, a list of keys and values."""

    def __init__(self, window: int | None = None, layers: int = 1) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.blocks = nn.ModuleList(Attention(window=window) for _ in range(layers))

    def forward(self, tokens: Tensor, cache: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        x, kept = self.embed(tokens), []
        for i, block in enumerate(self.blocks):
            y, past = block(x, None if cache is None else cache[i])
            x = x + y
            kept.append(past)
        return self.head(x[:, -1:]), kept


def tiny_step(model: TinyGPT, cache: Any, tokens: Tensor) -> tuple[Tensor, Any]:
    """The step of the protocol."""
    return model(tokens, cache)


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Counts what PyTorch dispatches, with attention as its products."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def macs(counter: FlopCounterMode) -> int:
    """The multiply-adds of a counter."""
    return counter.get_total_flops() // 2


def real_steps(model: Any, prompt: Tensor, steps: int, **kwargs: Any) -> tuple[list[int], Any]:
    """The multiply-adds of the prefill and of each step of a model of transformers, and the cache at the end."""
    counts, tokens, mask = [], prompt, kwargs.pop("attention_mask", None)
    cache = kwargs.pop("past_key_values", None)
    for _ in range(steps + 1):
        name = "cache_params" if "cache_params" in signature(model.forward).parameters else "past_key_values"
        masks = {} if mask is None else {"attention_mask": mask}
        with counted() as counter:
            result = model(tokens, **{name: cache}, use_cache=True, **masks, **kwargs)
        counts.append(macs(counter))
        cache, tokens = result[name], result.logits[:, -1].argmax(-1, keepdim=True)
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return counts, cache


def bytes_in(value: Any, visited: set[int] | None = None) -> int:
    """The bytes of all tensors in an object, each once."""
    visited = set() if visited is None else visited
    if id(value) in visited or isinstance(value, (str, type, nn.Module)):
        return 0
    visited.add(id(value))
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(bytes_in(part, visited) for part in (*parts, *getattr(value, "__dict__", {}).values()))
