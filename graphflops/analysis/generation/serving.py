"""Speculative decoding, chunked prefill, and the experts that a batch touches. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from graphflops.analysis.generation.data import GenerationData
from graphflops.core.checks import require_integer
from graphflops.core.errors import UsageError


@dataclass(frozen=True)
class SpeculativeRound:
    """A round of speculative decoding: a draft model proposes tokens, and the target verifies them in one call."""

    draft_flops: int
    """of the steps of the draft model, one for each proposed token"""
    verify_flops: int
    """of the call of the target on the proposed tokens and the last accepted one"""
    tokens_per_round: float
    """expected number of new tokens of a request, (1 − α^(γ+1)) / (1 − α)"""
    batch: int = 1

    @property
    def flops_per_token(self) -> float:
        """Expected FLOPs of a new token of a request."""
        return (self.draft_flops + self.verify_flops) / (self.batch * self.tokens_per_round)


def speculative(
    target: GenerationData,
    draft: GenerationData,
    *,
    length: int,
    draft_tokens: int,
    acceptance: float,
    batch: int = 1,
) -> SpeculativeRound:
    """A round of speculative decoding on caches of ``length`` tokens.

    The expectation is equation 1 of Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative
    Decoding", ICML 2023. It assumes that each proposed token is accepted with probability ``acceptance``, independently
    of the others. FLOPs are those of the two models: the draft reads caches of ``length``, ``length`` + 1, …, and the
    target reads ``draft_tokens`` + 1 tokens on a cache of ``length``.

    Raises:
        UsageError: a number is out of range, or a law does not reach so far.
    """
    if not 0 <= acceptance <= 1:
        raise UsageError(f"acceptance must be a probability from 0 to 1, not {acceptance!r}")
    require_integer("draft_tokens", draft_tokens)
    return SpeculativeRound(
        draft_flops=draft.law.decode_law.sum(length, length + draft_tokens, batch=batch),
        verify_flops=target.verify(draft_tokens + 1, batch=batch, length=length),
        tokens_per_round=float(sum(acceptance**i for i in range(draft_tokens + 1))),
        batch=batch,
    )


def chunked_prefill(generation: GenerationData, *, prompt: int, chunk: int, batch: int = 1) -> int:
    """The FLOPs of a prompt that is read in chunks: the first without a cache, each other on the cache of those before.

    Masked scores are counted, as for any attention, so that chunks cost less than the whole prompt at once.

    Raises:
        UsageError: a number is no positive integer, or a law does not reach so far.
    """
    for name, size in (("prompt", prompt), ("chunk", chunk)):
        require_integer(name, size)
    flops = int(generation.law.prefill(batch=batch, prompt=min(chunk, prompt)))
    for start in range(chunk, prompt, chunk):
        flops += generation.verify(min(chunk, prompt - start), batch=batch, length=start)
    return flops


def distinct_experts(*, experts: int, top_k: int, tokens: int) -> float:
    """The expected number of experts that a batch of tokens touches, E·(1 − (1 − k/E)^B).

    It assumes that each token chooses ``top_k`` of the experts evenly, and independently of the other tokens. A step
    reads the weights of so many experts; divided by ``experts`` it is the share of their weights.

    >>> distinct_experts(experts=8, top_k=2, tokens=1)
    2.0

    Raises:
        UsageError: a number is no positive integer, or ``top_k`` is more than ``experts``.
    """
    for name, size in (("experts", experts), ("top_k", top_k), ("tokens", tokens)):
        require_integer(name, size)
    if top_k > experts:
        raise UsageError(f"top_k = {top_k:,} is more than the {experts:,} experts")
    return float(experts * (1 - (1 - Fraction(top_k, experts)) ** tokens))
