"""Generation: the cost of a prompt, of each new token, and of a whole answer, and the bytes of the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from graphflops.analysis.arguments import model_and_inputs, report_model_errors
from graphflops.analysis.generation.cache_tensor import CacheTensor
from graphflops.analysis.generation.derivation import derive, derive_chunks
from graphflops.analysis.generation.law import GenerationLaw, LengthLaw
from graphflops.analysis.generation.measuring import Prefilled, measure_call, prefill
from graphflops.analysis.generation.own_steps import OwnSteps, WholePrefix
from graphflops.analysis.generation.protocol import Step, Steps
from graphflops.analysis.generation.record import GenerationRecord
from graphflops.analysis.generation.transformers_steps import TransformersSteps, has_interface
from graphflops.analysis.inputs import InputsLike
from graphflops.core.checks import require_integer
from graphflops.core.errors import CaptureError, UsageError
from graphflops.report.report import Report

LONGEST = 4096
"""length of the cache up to which a law is followed, unless the generation is longer"""


class Generation(GenerationRecord):
    """The cost of a generation of a model, which is traced at further lengths when they are asked for."""

    def __init__(
        self, steps: Steps, prefilled: Prefilled, new_tokens: int, longest: int, options: dict[str, Any]
    ) -> None:
        sizes = {**steps.sizes, "new_tokens": new_tokens}
        super().__init__(steps.name, sizes, prefilled.report, {}, prefilled.tensors, steps.notes, None)
        self._steps, self._options, self._longest = steps, options, longest
        self._states = {steps.sizes["length"]: prefilled}

    @property
    def law(self) -> GenerationLaw:
        """The FLOPs and bytes at any batch, prompt and number of new tokens; derived once, from a few traces.

        Raises:
            LawError: a number has no exact polynomial by pieces; the message names it.
        """
        if self._law is None:
            self._law = derive(self._steps, self._longest, self._options)
        return self._law

    @property
    def chunks(self) -> LengthLaw:
        """The FLOPs of a call that reads several ``tokens`` on a cache, in batch, tokens and length; derived once.

        Raises:
            LawError: a number has no exact polynomial by pieces.
            UsageError: the model has an encoder whose prompt is a size as well.
        """
        if self._chunks is None:
            self._chunks = derive_chunks(self._steps, self._longest, self._options)
        return self._chunks

    def decode(self, length: int | None = None, *, tokens: int = 1) -> Report:
        """The report of the step that reads a cache of ``length`` tokens, by default the prompt's, and adds one.

        ``tokens`` of more than one are read together: a chunk of a prompt, or the tokens that a draft proposes.

        Raises:
            CaptureError: the model cannot be traced there.
            UsageError: the length is less than the cache that was given has.
        """
        length = self._steps.sizes["length"] if length is None else length
        require_integer("length", length, self._steps.first)
        require_integer("tokens", tokens)
        if (length, tokens) not in self._decodes:
            sizes = {**self._steps.sizes, "length": length}
            call = self._steps.decode(self._prefilled(length).state, sizes, tokens)
            self._decodes[length, tokens] = measure_call(call, self._options)
        return self._decodes[length, tokens]

    def cache_tensors(self, length: int | None = None) -> tuple[CacheTensor, ...]:
        """The tensors of the cache of ``length`` tokens, by default the prompt's."""
        return self._prefilled(self._steps.sizes["length"] if length is None else length).tensors

    def _prefilled(self, length: int) -> Prefilled:
        if length not in self._states:
            self._states[length] = prefill(self._steps, {**self._steps.sizes, "length": length}, self._options)
        return self._states[length]


@report_model_errors
def generation(
    model: Callable[..., Any],
    args: InputsLike = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    new_tokens: int = 1,
    step: Step | None = None,
    longest: int | None = None,
    attention: Literal["flash", "math"] = "flash",
    **options: Any,
) -> Generation:
    """Count the FLOPs of a generation: the prompt, each new token, the whole answer; and the bytes of the cache.

    The model is not executed, and a cache that is given is not written to.

    Args:
        model: a model of transformers, or one with its interface; any model with ``step``; or a model without a cache,
            which reads the whole prefix for each new token.
        args: the prompt, as the inputs of ``analyze``: tokens of shape (batch, prompt), and what else forward needs. Of
            an encoder-decoder the encoder's; the decoder begins with one token, or with ``decoder_input_ids``.
        kwargs: keyword inputs, such as ``attention_mask``, ``logits_to_keep`` or ``past_key_values``.
        new_tokens: tokens of the answer. The prefill gives the first one, and a step each of the others.
        step: ``step(model, cache, tokens)``, which returns ``(output, cache)``: how a model takes and returns a cache
            of its own. The cache of the first step is None.
        longest: the length of the cache up to which the law is derived; by default 4,096 or the generation's.
        attention: as for ``analyze``.
        options: further options of ``analyze``: ``rules``, ``convention``, ``rates``, ``strict``.

    Raises:
        CaptureError: the model cannot be traced on these inputs.
        UsageError: an argument has a value that is not accepted.
    """
    require_integer("new_tokens", new_tokens)
    accepted = ("rules", "convention", "rates", "strict")
    if unknown := [name for name in options if name not in accepted]:
        raise UsageError(f"generation has no option {unknown[0]!r}; it has: {', '.join(accepted)}")
    model, inputs = model_and_inputs(model, args, kwargs)
    chosen = {"attention": attention, **options}
    steps, prefilled = _first_prefill(model, inputs.args, inputs.kwargs, step, chosen)
    length = steps.sizes["length"] + new_tokens
    return Generation(steps, prefilled, new_tokens, longest or max(LONGEST, length), chosen)


def _first_prefill(
    model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], step: Step | None, options: dict[str, Any]
) -> tuple[Steps, Prefilled]:
    """How a model generates, and its prompt as it was read."""
    steps: Steps
    if step is not None:
        if kwargs or len(args) != 1 or not isinstance(args[0], torch.Tensor) or args[0].dim() != 2:
            raise UsageError("with step, the prompt is one tensor of tokens of shape (batch, prompt)")
        steps = OwnSteps(model, args[0], step)
    elif has_interface(model):
        steps = TransformersSteps(model, args, kwargs)
    else:
        steps = WholePrefix(model, args, kwargs)
    prefilled = prefill(steps, steps.sizes, options)
    if prefilled.state is not None:
        return steps, prefilled
    steps = WholePrefix(model, args, kwargs)
    try:
        measure_call(steps.decode(None, steps.sizes), options)
    except CaptureError:
        steps = WholePrefix(model, args, kwargs, is_fixed=True)
    return steps, prefilled
