"""Derive the law of a generation: from traces of prefill and decode to polynomials by pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphflops.analysis.generation.cache_tensor import CacheTensor
from graphflops.analysis.generation.law import BYTES, GenerationLaw, LengthLaw
from graphflops.analysis.generation.measuring import measure_call, prefill
from graphflops.analysis.generation.pieces import Piece, Pieces, merged
from graphflops.analysis.generation.protocol import Sizes, Steps
from graphflops.analysis.scaling.quantities import Quantity, quantities_of, weights
from graphflops.core.errors import UsageError
from graphflops.report.conventions import Convention
from graphflops.report.report import Report

PREFILL, DECODE, CACHE = "prefill", "decode", "cache"
_Key = tuple[str, Quantity]


def derive(steps: Steps, longest: int, options: Mapping[str, Any]) -> GenerationLaw:
    """The law of the steps of a model, for caches of at most ``longest`` tokens.

    Raises:
        LawError: a number has no exact polynomial by pieces.
        CaptureError: the model cannot be traced at some sizes.
    """
    conventions: list[Convention] = []

    def observe(sizes: Sizes) -> tuple[dict[_Key, int], int]:
        read = prefill(steps, sizes, options)
        report = measure_call(steps.decode(read.state, sizes), options)
        conventions.append(report.convention)
        numbers = {
            **{(PREFILL, quantity): value for quantity, value in _numbers(read.report).items()},
            **{(DECODE, quantity): value for quantity, value in _numbers(report).items()},
            **{(CACHE, quantity): value for quantity, value in _bytes(read.tensors).items()},
        }
        return numbers, len(read.report.entries) + len(report.entries)

    pieces = Pieces(observe, steps.sizes, steps.first, longest)
    validated = pieces.validate(_validation(steps.sizes, pieces.pieces, pieces.reach))
    convention, names = conventions[0], tuple(steps.sizes)
    in_flops = weights(convention)
    laws = {
        part: LengthLaw(merged([_part(piece, part) for piece in pieces.pieces]), names, weight)
        for part, weight in ((PREFILL, in_flops), (DECODE, in_flops), (CACHE, BYTES))
    }
    is_decoder = "prompt" not in steps.sizes and not getattr(steps, "is_encoder_decoder", False)
    return GenerationLaw(
        laws[PREFILL],
        laws[DECODE],
        laws[CACHE],
        convention,
        start=None if is_decoder else steps.sizes["length"],
        followed=pieces.reach,
        traces=2 * len(pieces.observations),
        validated=validated,
    )


def derive_chunks(steps: Steps, longest: int, options: Mapping[str, Any]) -> LengthLaw:
    """The FLOPs of calls that read several tokens on a cache, in ``batch``, ``tokens`` and ``length``.

    Raises:
        LawError, CaptureError: as ``derive``.
        UsageError: the model has an encoder whose prompt is a size as well.
    """
    if "prompt" in steps.sizes:
        raise UsageError(f"{steps.name} has an encoder: pass decode(length, tokens=…) the sizes one by one")
    weight: dict[str, int] = {}

    def observe(sizes: Sizes) -> tuple[dict[Quantity, int], int]:
        own = {name: size for name, size in sizes.items() if name != "tokens"}
        call = steps.decode(prefill(steps, own, options).state, own, sizes["tokens"])
        report = measure_call(call, options)
        weight.update(weights(report.convention))
        return _numbers(report), len(report.entries)

    sizes = {"batch": steps.sizes["batch"], "tokens": 4, "length": steps.sizes["length"]}
    pieces = Pieces(observe, sizes, steps.first, longest)
    pieces.validate([{"batch": 1, "tokens": 3, "length": min(pieces.reach, steps.first + 11)}, sizes])
    return LengthLaw(merged(pieces.pieces), tuple(sizes), weight)


def _part(piece: Piece[_Key], part: str) -> Piece[Quantity]:
    terms = {quantity: polynomial for (of, quantity), polynomial in piece.terms.items() if of == part and polynomial}
    return Piece(piece.first, piece.last, terms)


def _numbers(report: Report) -> dict[Quantity, int]:
    """The numbers of a report, the calls of one operator in a module as one, without parameters."""
    numbers: dict[Quantity, int] = {}
    for quantity, value in quantities_of(report).items():
        if quantity.phase == "forward":
            key = quantity._replace(nth=0)
            numbers[key] = numbers.get(key, 0) + value
    return numbers


def _bytes(tensors: Sequence[CacheTensor]) -> dict[Quantity, int]:
    """The bytes of a cache by layer and kind: those of its tensors, and those of their storages."""
    numbers: dict[Quantity, int] = {}
    for tensor in tensors:
        layer = "" if tensor.layer is None else f"layer_{tensor.layer}"
        for kind, count in (("bytes", tensor.nbytes), ("held", tensor.held_nbytes)):
            key = Quantity(tensor.kind, layer, tensor.path, "forward", kind)
            numbers[key] = numbers.get(key, 0) + count
    return {key: count for key, count in numbers.items() if count}


def _validation(sizes: Sizes, pieces: Sequence[Piece[Any]], reach: int) -> Iterator[dict[str, int]]:
    """Points with other batches, prompts and lengths, in the longest pieces; also the sizes that were given."""
    longest = sorted(pieces, key=lambda piece: piece.first - piece.last)[:2]
    for batch, prompt, piece in zip((1, 7), (23, 64), longest * 2, strict=False):
        span = max(0, min(piece.last, reach) - piece.first)
        length = piece.first + min(span, 5 + span * (3 if batch == 1 else 1) // 7)
        yield {name: {"batch": batch, "prompt": prompt, "length": length}[name] for name in sizes}
    if sizes["length"] <= reach:
        yield dict(sizes)
