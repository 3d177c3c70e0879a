"""JSON of generations: reports, laws as monomials and coefficients, and the tensors of the cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from graphflops.analysis.generation.cache_tensor import CacheTensor
from graphflops.analysis.generation.data import GenerationData
from graphflops.analysis.generation.law import BYTES, GenerationLaw, LengthLaw
from graphflops.analysis.generation.pieces import Piece
from graphflops.analysis.scaling.law_json import polynomial_data, read_polynomial, read_quantity
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import Quantity, weights
from graphflops.core.codec import (
    InvalidData,
    Reader,
    integer,
    list_of,
    nullable,
    one_of,
    read_json,
    record,
    table_of,
    text,
)
from graphflops.report.conventions import as_data, read_data
from graphflops.report.json_format import as_dict, parts_of
from graphflops.report.report import Report

G = TypeVar("G", bound=GenerationData)

SCHEMA = "graphflops.generation/1"
_LAWS = ("prefill", "decode", "cache")
_SIZES = ("batch", "prompt", "length")
_CHUNKS = ("batch", "tokens", "length")


def dumps(generation: GenerationData) -> str:
    """A generation as JSON text; its totals come first, for people who read the file."""
    law, chunks = generation.law, generation.saved_chunks
    data = {
        "schema": SCHEMA,
        "model": generation.model,
        "sizes": generation.sizes,
        "unit": law.convention.unit,
        "total": generation.total,
        "cache_bytes": generation.cache_bytes(),
        "notes": list(generation.notes),
        "cache": [asdict(tensor) for tensor in generation.tensors],
        "convention": as_data(law.convention),
        "law": {
            "start": law.start,
            "followed": law.followed,
            "traces": law.traces,
            "checked": [dict(sizes) for sizes in law.validated],
            "sizes": list(law.decode_law.sizes),
            **{name: _pieces_data(getattr(law, f"{name}_law")) for name in _LAWS},
            "chunks": None if chunks is None else _pieces_data(chunks),
        },
        "prefill": as_dict(generation.prefill),
        "decode": [{"length": length, "report": as_dict(report)} for length, report in generation.decodes.items()],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def load(path: str | Path, make: Callable[..., G]) -> G:
    """The generation in a file; ``make`` is called with its parts.

    Raises:
        UsageError: there is no such file, or it is not a complete generation of a known version.
    """
    return read_json(path, "generation", [SCHEMA], lambda data: make(*_parts(data)))


def _pieces_data(law: LengthLaw) -> list[dict[str, Any]]:
    return [
        {
            "first": piece.first,
            "last": piece.last,
            "terms": [[*quantity[:-1], polynomial_data(polynomial)] for quantity, polynomial in piece.terms.items()],
        }
        for piece in law.pieces
    ]


# -- readers -----------------------------------------------------------------------------------------------------------

_COUNT = integer(0, 2**63)


def _term(value: Any) -> tuple[Quantity, Polynomial]:
    if type(value) is not list or len(value) != 6:
        raise InvalidData("is not a list of five names and a polynomial")
    return Quantity(*read_quantity([*value[:5], 0])[:5]), read_polynomial(value[5])


def _piece(first: int, last: int, terms: tuple[tuple[Quantity, Polynomial], ...]) -> Piece[Quantity]:
    if last < first:
        raise InvalidData(f"ends at {last}, before it begins at {first}")
    return Piece(first, last, dict(terms))


def _read_pieces(value: Any) -> tuple[Piece[Quantity], ...]:
    pieces: tuple[Piece[Quantity], ...] = list_of(
        record(_piece, {"first": _COUNT, "last": _COUNT, "terms": list_of(_term)})
    )(value)
    if not pieces or any(piece.last + 1 != following.first for piece, following in pairwise(pieces)):
        raise InvalidData("has gaps between its pieces, or none")
    return pieces


def _checked_law(sizes: tuple[str, ...], checked: Any, chunks: Any = None, **fields: Any) -> Any:
    for name, pieces, allowed in (*((name, fields[name], sizes) for name in _LAWS), ("chunks", chunks or (), _CHUNKS)):
        for piece in pieces:
            if unknown := {size for polynomial in piece.terms.values() for size in polynomial.sizes} - {*allowed}:
                raise InvalidData(f"contains {min(unknown)}, which is not one of the sizes", f".{name}")

    def build(convention: Any) -> tuple[GenerationLaw, LengthLaw | None]:
        in_flops = weights(convention)
        prefill, decode = (LengthLaw(fields.pop(name), sizes, in_flops) for name in ("prefill", "decode"))
        cache = LengthLaw(fields.pop("cache"), sizes, BYTES)
        law = GenerationLaw(prefill, decode, cache, convention, validated=checked, **fields)
        return law, None if chunks is None else LengthLaw(chunks, _CHUNKS, in_flops)

    return build


_tensor: Reader[CacheTensor] = record(
    CacheTensor,
    {
        "path": text,
        "layer": nullable(_COUNT),
        "kind": text,
        "shape": list_of(_COUNT),
        "dtype": text,
        "nbytes": _COUNT,
        "held_nbytes": _COUNT,
    },
)


def _report(value: Any) -> Report:
    return Report(*parts_of(value))


def _build(
    schema: str,
    model: str,
    sizes: Mapping[str, int],
    notes: tuple[str, ...],
    cache: tuple[CacheTensor, ...],
    convention: Any,
    law: Any,
    prefill: Report,
    decode: Any,
    **totals: Any,
) -> tuple[Any, ...]:
    if missing := {"batch", "length", "new_tokens"} - sizes.keys():
        raise InvalidData(f"lacks {min(missing)}", ".sizes")
    return model, sizes, prefill, {(length, 1): report for length, report in decode}, cache, notes, *law(convention)


_parts: Reader[tuple[Any, ...]] = record(
    _build,
    {
        "schema": text,
        "model": text,
        "sizes": table_of(one_of((*_SIZES, "new_tokens"), "size"), integer(1, 2**63)),
        "notes": list_of(text),
        "cache": list_of(_tensor),
        "convention": read_data,
        "law": record(
            _checked_law,
            {
                "start": nullable(_COUNT),
                "followed": _COUNT,
                "traces": _COUNT,
                "checked": list_of(table_of(text, _COUNT)),
                "sizes": list_of(one_of(_SIZES, "size")),
                **dict.fromkeys(_LAWS, _read_pieces),
            },
            {"chunks": nullable(_read_pieces)},
        ),
        "prefill": _report,
        "decode": list_of(record(lambda length, report: (length, report), {"length": _COUNT, "report": _report})),
    },
    {"unit": text, "total": integer(), "cache_bytes": integer()},
)
