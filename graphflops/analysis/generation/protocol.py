"""How a model is called for a prompt, and for one more token that reads a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

Step: TypeAlias = Callable[[Any, Any, Any], Any]
"""``step(model, cache, tokens)`` → ``(output, cache)``: tokens of shape (batch, any number); the first cache is None"""

Sizes: TypeAlias = Mapping[str, int]
"""``batch``, ``length`` of the cache, and, where an encoder reads it, ``prompt``"""


@dataclass(frozen=True)
class Call:
    """A call of a model, or of a function of it."""

    model: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """The state between two steps: the cache, and for a decoder the states of its encoder."""

    cache: Any
    beside: Any = None
    """states of an encoder, which are no part of the cache"""


class Steps(Protocol):
    """The two calls of a generation, at any sizes."""

    name: str
    """of the model"""
    sizes: Sizes
    """those of the prompt that was given; ``length`` is that of the cache after it"""
    first: int
    """the least length of a cache: 1, or one more than the cache that was given has"""
    notes: tuple[str, ...]

    def prefill(self, sizes: Sizes) -> Call:
        """The call that reads a prompt, after which the cache has ``length`` tokens."""

    def state_of(self, result: Any) -> State | None:
        """The cache in the result of a call; None if there is none."""

    def decode(self, state: State | None, sizes: Sizes, tokens: int = 1) -> Call:
        """The call that reads a cache of ``length`` tokens, and adds some."""
