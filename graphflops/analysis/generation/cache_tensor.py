"""CacheTensor: a tensor that a cache holds. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheTensor:
    """A tensor in a cache."""

    path: str
    """``layers.0.keys``"""
    layer: int | None
    kind: str
    """keys, values, latent, convolution state, recurrent state, …"""
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    held_nbytes: int
    """bytes of its storage; 0 if another tensor of the cache, listed before, has the same storage"""
