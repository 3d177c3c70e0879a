"""The numbers of a generation: reports, laws, and the tensors of the cache. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphflops.analysis.generation.cache_tensor import CacheTensor
from graphflops.analysis.generation.law import GenerationLaw, LengthLaw
from graphflops.core.errors import UsageError
from graphflops.report.report import Report


class GenerationData:
    """The cost of a generation: its reports, its law, and the cache. Numbers are in the unit of the convention."""

    def __init__(
        self,
        model: str,
        sizes: Mapping[str, int],
        prefill: Report,
        decodes: Mapping[tuple[int, int], Report],
        tensors: tuple[CacheTensor, ...],
        notes: tuple[str, ...],
        law: GenerationLaw | None,
        chunks: LengthLaw | None = None,
    ) -> None:
        self.model = model
        """name of the model's class"""
        self.sizes = dict(sizes)
        """``batch``, ``length`` of the cache after the prompt, ``new_tokens``; ``prompt`` of an encoder"""
        self.prefill = prefill
        """the report of the call that reads the prompt"""
        self.tensors = tensors
        """the tensors of the cache after the prompt"""
        self.notes = notes
        self._decodes = dict(decodes)
        self._law, self._chunks = law, chunks

    @property
    def law(self) -> GenerationLaw:
        """The FLOPs and bytes at any batch, prompt and number of new tokens."""
        assert self._law is not None
        return self._law

    @property
    def saved_chunks(self) -> LengthLaw | None:
        """``chunks``, if they were derived."""
        return self._chunks

    @property
    def chunks(self) -> LengthLaw | None:
        """The FLOPs of a call that reads several ``tokens`` on a cache, in batch, tokens and length."""
        return self._chunks

    def verify(self, tokens: int, *, batch: int = 1, length: int) -> int:
        """The FLOPs of a call that reads ``tokens`` together on a cache of ``length``.

        So a target verifies the tokens of a draft, and so a prompt is read in chunks.

        Raises:
            UsageError: the law of such calls was not saved, or does not reach so far.
        """
        if tokens == 1:
            return int(self.law.decode(batch=batch, length=length))
        if self.chunks is None:
            raise UsageError("calls of several tokens were not saved: use the generation of the model itself")
        return self.chunks.evaluate(batch=batch, tokens=tokens, length=length)

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return self.sizes.get("prompt", self.sizes["length"])

    def decode(self, length: int | None = None, *, tokens: int = 1) -> Report:
        """The report of the step that reads a cache of ``length`` tokens and adds one.

        Raises:
            UsageError: it was not saved.
        """
        length = self.sizes["length"] if length is None else length
        if (length, tokens) not in self._decodes:
            saved = ", ".join(f"{length:,}" for length, _ in self._decodes)
            raise UsageError(f"no step at a length of {length!r} was saved, but at {saved}; .law has the others")
        return self._decodes[length, tokens]

    @property
    def decodes(self) -> Mapping[int, Report]:
        """The reports of steps of one token so far, by the length of the cache."""
        return {length: report for (length, tokens), report in sorted(self._decodes.items()) if tokens == 1}

    @property
    def total(self) -> int:
        """The FLOPs of the whole generation: prompt and all new tokens."""
        return int(self.law.total(batch=self.sizes["batch"], prompt=self.prompt, new_tokens=self.sizes["new_tokens"]))

    def flops_per_token(self, length: Any = None) -> Any:
        """The FLOPs of a new token of one request, at a length of the cache or an array of lengths."""
        length = self.sizes["length"] if length is None else length
        return self.law.flops_per_token(length, prompt=self.prompt)

    def cache_bytes(self, *, batch: Any = None, length: Any = None, page: int = 1, held: bool = False) -> Any:
        """The bytes of the cache, by default of this batch after the last step; see ``GenerationLaw.cache_bytes``."""
        batch = self.sizes["batch"] if batch is None else batch
        length = self.sizes["length"] + self.sizes["new_tokens"] - 1 if length is None else length
        return self.law.cache_bytes(batch=batch, length=length, prompt=self.prompt, page=page, held=held)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} = {value:,}" for name, value in self.sizes.items())
        return f"<Generation of {self.model}: {sizes}>"
