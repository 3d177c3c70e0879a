"""Steps of models that take and return their cache by a function of the user's, and of models without a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from graphflops.analysis.generation.protocol import Call, Sizes, State, Step
from graphflops.core.errors import UsageError

NO_CACHE = "no cache: each new token is a pass over the whole prefix again"


class OwnSteps:
    """The steps of a function ``step(model, cache, tokens)`` that returns ``(output, cache)``."""

    def __init__(self, model: Any, tokens: torch.Tensor, step: Step) -> None:
        self.model, self.tokens, self.step = model, tokens, step
        self.name = type(model).__name__
        self.sizes: Sizes = {"batch": tokens.shape[0], "length": tokens.shape[1]}
        self.first = 1
        self.notes: tuple[str, ...] = ()

    def prefill(self, sizes: Sizes) -> Call:
        """The step of a prompt, without a cache."""
        return Call(self.step, (self.model, None, resized(self.tokens, self.sizes, sizes)))

    def state_of(self, result: Any) -> State:
        """The second part of what the function returned."""
        if isinstance(result, tuple) and len(result) == 2:
            return State(result[1])
        raise UsageError(f"step must return (output, cache), not {type(result).__name__}")

    def decode(self, state: State | None, sizes: Sizes, tokens: int = 1) -> Call:
        """The step of further tokens."""
        cache = None if state is None else state.cache
        return Call(self.step, (self.model, cache, like(self.tokens, sizes["batch"], tokens)))


class WholePrefix:
    """The steps of a model without a cache: all tokens so far are read again for each new one.

    A model that takes one length alone reads as many tokens each time, the last ones, or a padded prefix.
    """

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], is_fixed: bool = False) -> None:
        self.model, self.args, self.kwargs, self.is_fixed = model, args, kwargs, is_fixed
        tokens = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
        if tokens is None or tokens.dim() < 2:
            raise UsageError("the inputs are the prompt: a tensor of tokens of shape (batch, prompt)")
        self.name = type(model).__name__
        self.sizes: Sizes = {"batch": tokens.shape[0], "length": tokens.shape[1]}
        self.first = 1
        fixed = f"; the model takes {tokens.shape[1]:,} tokens, whatever the prefix has" if is_fixed else ""
        self.notes: tuple[str, ...] = (NO_CACHE + fixed,)

    def prefill(self, sizes: Sizes) -> Call:
        """The pass over a prefix."""
        if self.is_fixed:
            sizes = {**sizes, "length": self.sizes["length"]}
        args = tuple(resized(value, self.sizes, sizes) for value in self.args)
        return Call(self.model, args, {name: resized(value, self.sizes, sizes) for name, value in self.kwargs.items()})

    def state_of(self, result: Any) -> None:
        """There is none."""

    def decode(self, state: State | None, sizes: Sizes, tokens: int = 1) -> Call:
        """The pass over the prefix with further tokens."""
        return self.prefill({**sizes, "length": sizes["length"] + tokens})


def resized(value: Any, given: Sizes, sizes: Sizes) -> Any:
    """An input at other sizes: a tensor whose first sizes are batch and length has the new ones, without values."""
    if not isinstance(value, torch.Tensor) or not value.dim() or value.shape[0] != given["batch"]:
        return value
    has_length = value.dim() > 1 and value.shape[1] == given["length"]
    shape = (sizes["batch"], *((sizes["length"],) if has_length else value.shape[1:2]), *value.shape[2:])
    return value if shape == tuple(value.shape) else torch.empty(shape, dtype=value.dtype, device="meta")


def like(tokens: torch.Tensor, *shape: int) -> torch.Tensor:
    """Tokens of another shape, without values."""
    return torch.empty(shape, dtype=tokens.dtype, device="meta")
