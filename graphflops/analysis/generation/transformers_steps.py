"""Steps of the models of transformers, and of others with their interface: decoders, encoder-decoders, recurrences.

The next step gets the cache that the model returned, one token, and a mask that is one longer, if there was one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

from graphflops.analysis.generation.own_steps import like, resized
from graphflops.analysis.generation.protocol import Call, Sizes, State
from graphflops.core.errors import UsageError

CACHES = ("past_key_values", "cache_params", "state")
"""the argument and the field of the result that hold the cache, the first that forward takes"""
_OF_THE_PROMPT = ("position_ids", "token_type_ids", "cache_position", "inputs_embeds", "labels")
_MASKS = ("attention_mask",)


def has_interface(model: Any) -> bool:
    """Whether a model generates as those of transformers do."""
    return isinstance(model, torch.nn.Module) and hasattr(model, "prepare_inputs_for_generation")


class TransformersSteps:
    """The steps of a model with the interface of transformers."""

    def __init__(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.model, self.name = model, type(model).__name__
        parameters = inspect.signature(model.forward).parameters
        self.inputs = _by_name(model, args, kwargs)
        self.is_encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
        self.tokens_name = "decoder_input_ids" if self.is_encoder_decoder else "input_ids"
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self.cache_name = next((name for name in CACHES if name in parameters), CACHES[0])
        caches = getattr(model.config, "use_cache", None) is not False and ("use_cache" in parameters or takes_any)
        self.flags = {"use_cache": True} if caches else {}
        self.flags |= {name: value for name, value in self.inputs.items() if name == "use_cache"}
        given_cache = self.inputs.get(self.cache_name)
        self.offset = _length_of(given_cache)
        self.first = self.offset + 1
        self.notes: tuple[str, ...] = ()
        tokens = self._tokens()
        sizes: Sizes = {"batch": tokens.shape[0], "length": self.offset + tokens.shape[1]}
        self.encoder_name = ""
        if self.is_encoder_decoder:
            self.encoder_name = "input_ids" if "input_ids" in self.inputs else model.main_input_name
            prompt = self.inputs.get(self.encoder_name)
            if not isinstance(prompt, torch.Tensor):
                raise UsageError(f"{self.name} needs the prompt of its encoder: {self.encoder_name}")
            self.inputs.setdefault("decoder_input_ids", tokens)
            if self.encoder_name == "input_ids":
                sizes = {**sizes, "prompt": prompt.shape[1]}
        self.sizes = sizes

    def prefill(self, sizes: Sizes) -> Call:
        """The call that reads the prompt."""
        kwargs = {name: self._resized(name, value, sizes) for name, value in self.inputs.items()}
        return Call(self.model, (), {**kwargs, **self.flags})

    def state_of(self, result: Any) -> State | None:
        """The cache in the result, and what the encoder returned, if there is one."""
        cache = _field(result, self.cache_name)
        if cache is None:
            cache = next((field for name in CACHES if (field := _field(result, name)) is not None), None)
        if cache is None:
            return None
        return State(cache, _field(result, "encoder_last_hidden_state") if self.is_encoder_decoder else None)

    def decode(self, state: State | None, sizes: Sizes, tokens: int = 1) -> Call:
        """The call that reads a cache and adds tokens."""
        assert state is not None
        kwargs = {name: value for name, value in self.inputs.items() if not isinstance(value, torch.Tensor)}
        longer: Sizes = {**sizes, "length": sizes["length"] + tokens}
        if self.is_encoder_decoder:
            outputs = import_module("transformers.modeling_outputs").BaseModelOutput
            kwargs["encoder_outputs"] = outputs(last_hidden_state=state.beside)
            longer = sizes  # a mask is of the encoder
        for name in _MASKS:
            if name in self.inputs:
                kwargs[name] = self._resized(name, self.inputs[name], longer)
        new = like(torch.empty(0, dtype=torch.int64), sizes["batch"], tokens)
        return Call(self.model, (), {**kwargs, **self.flags, self.tokens_name: new, self.cache_name: state.cache})

    def _tokens(self) -> torch.Tensor:
        """The tokens that the decoder reads first."""
        for name in (self.tokens_name, "inputs_embeds"):
            value = self.inputs.get(name)
            if isinstance(value, torch.Tensor) and value.dim() > 1:
                return value
        if self.is_encoder_decoder:
            first = next((value for value in self.inputs.values() if isinstance(value, torch.Tensor)), None)
            if first is not None:
                return torch.zeros((first.shape[0], 1), dtype=torch.int64, device="meta")
        raise UsageError(f"{self.name} needs a prompt: {self.tokens_name} of shape (batch, prompt)")

    def _resized(self, name: str, value: Any, sizes: Sizes) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        of_encoder = self.is_encoder_decoder and not name.startswith("decoder")
        if of_encoder and "prompt" not in self.sizes:
            return resized(value, {**self.sizes, "length": -1}, sizes)
        given, target = (
            (self.sizes["prompt"], sizes["prompt"]) if of_encoder else (self.sizes["length"], sizes["length"])
        )
        if not of_encoder and name not in _MASKS:  # of the new tokens alone
            given, target = given - self.offset, target - self.offset
        changed = resized(value, {**self.sizes, "length": given}, {**sizes, "length": target})
        return _mask_like(value, changed) if name in _MASKS else changed


def _by_name(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bound = inspect.signature(model.forward).bind_partial(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"the inputs do not match {type(model).__name__}.forward: {error}") from error
    inputs = dict(bound.arguments)
    parameters = inspect.signature(model.forward).parameters.values()
    rest = next((parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), None)
    return {**inputs, **inputs.pop(rest, {})} if rest in inputs else inputs


def _field(result: Any, name: str) -> Any:
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def _length_of(cache: Any) -> int:
    length = getattr(cache, "get_seq_length", None)
    return int(length()) if callable(length) else 0


def _mask_like(given: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A mask of another size: of ones, with padding on the left if the given one has some."""
    if mask is given or mask.dim() != 2:
        return mask
    ones = torch.ones(mask.shape, dtype=given.dtype)
    if not given.is_meta and not bool(given.all()):
        ones[:, 0] = 0
    return ones
