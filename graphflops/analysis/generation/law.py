"""The cost of a generation as a function of its sizes: by pieces, summed over the tokens in closed form. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from graphflops.analysis.generation.pieces import Piece
from graphflops.analysis.generation.summation import compose, sum_below
from graphflops.analysis.scaling.law_terms import to_int
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import Quantity, weighs_classes, weights
from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.core.checks import require_integer
from graphflops.core.errors import UsageError
from graphflops.report.conventions import Convention

if TYPE_CHECKING:
    import numpy

BYTES = {"bytes": 1, "held": 0}
HELD = {"bytes": 0, "held": 1}
"""the weights of the numbers of a cache"""
MIN_LENGTHS = 3
"""lengths that a piece has at least beyond its first, for its closed form to be listed"""


@dataclass(frozen=True)
class LengthLaw:
    """A number as polynomials in batch and length, each for a range of lengths; with ``prompt`` where one is read."""

    pieces: tuple[Piece[Quantity], ...]
    sizes: tuple[str, ...]
    weights: Mapping[str, int]
    _sums: dict[Any, Polynomial] = field(default_factory=dict, compare=False, repr=False)

    @property
    def components(self) -> tuple[str, ...]:
        """The components, as in ``report.by_component``; those of a cache are its layers and kinds."""
        return tuple(dict.fromkeys(quantity.component for piece in self.pieces for quantity in piece.terms))

    @property
    def first(self) -> int:
        """The least length."""
        return self.pieces[0].first

    @property
    def last(self) -> int:
        """The largest length."""
        return self.pieces[-1].last

    def polynomial(self, piece: Piece[Quantity], component: str | None = None) -> Polynomial:
        """The polynomial of a piece, of the model or of one component."""
        key = piece.first, component
        if key not in self._sums:
            self._sums[key] = Polynomial.sum(
                (self.weights.get(quantity.kind, 0), polynomial)
                for quantity, polynomial in piece.terms.items()
                if component in (None, quantity.component)
            )
        return self._sums[key]

    def piece_at(self, length: int) -> Piece[Quantity]:
        """The piece that holds at a length.

        Raises:
            UsageError: the law does not reach so far.
        """
        for piece in self.pieces:
            if piece.first <= length <= piece.last:
                return piece
        raise UsageError(self._out_of_range(length))

    def evaluate(self, component: str | None = None, **sizes: int) -> int:
        """The number at some sizes.

        Raises:
            UsageError: a size is no positive integer, or the law does not reach so far.
        """
        checked = {name: require_integer(name, sizes[name]) for name in self.sizes}
        return to_int(self.polynomial(self.piece_at(checked["length"]), component).evaluate(checked))

    def sum(self, start: int, stop: int, component: str | None = None, **sizes: int) -> int:
        """The sum over the lengths from ``start`` to ``stop`` − 1, in closed form."""
        total: Any = 0
        if stop > start:
            self.piece_at(start), self.piece_at(stop - 1)
        for piece in self.pieces:
            low, high = max(start, piece.first), min(stop, piece.last + 1)
            if low < high:
                summed = self._summed(piece, component)
                total += summed.evaluate({**sizes, "length": high}) - summed.evaluate({**sizes, "length": low})
        return to_int(total)

    def over(self, sizes: Mapping[str, Any]) -> numpy.ndarray:
        """The numbers at arrays of sizes of one shape."""
        import numpy

        lengths = sizes["length"]
        self._check_lengths(lengths)
        result = numpy.zeros(lengths.shape, dtype=numpy.int64)
        for piece in self.pieces:
            mask = (lengths >= piece.first) & (lengths <= piece.last)
            self._add(result, mask, self.polynomial(piece), sizes)
        return result

    def sum_over(self, start: numpy.ndarray, stop: numpy.ndarray, sizes: Mapping[str, Any]) -> numpy.ndarray:
        """The sums over lengths, at arrays of one shape."""
        import numpy

        some = stop > start
        self._check_lengths(start[some])
        self._check_lengths(stop[some] - 1)
        result = numpy.zeros(start.shape, dtype=numpy.int64)
        for piece in self.pieces:
            low, high = numpy.maximum(start, piece.first), numpy.minimum(stop, piece.last + 1)
            summed, mask = self._summed(piece, None), low < high
            self._add(result, mask, summed, {**sizes, "length": high})
            self._add(result, mask, Polynomial.sum([(-1, summed)]), {**sizes, "length": low})
        return result

    def closed_form(self, start: Polynomial, stop: Polynomial, piece: Piece[Quantity]) -> Polynomial:
        """The sum over lengths as a polynomial, where all of them lie in one piece."""
        summed = self._summed(piece, None)
        return compose(summed, "length", stop) - compose(summed, "length", start)

    def _summed(self, piece: Piece[Quantity], component: str | None) -> Polynomial:
        key = "sum", piece.first, component
        if key not in self._sums:
            self._sums[key] = sum_below(self.polynomial(piece, component), "length")
        return self._sums[key]

    @staticmethod
    def _add(result: Any, mask: Any, polynomial: Polynomial, sizes: Mapping[str, Any]) -> None:
        """Add the values of a polynomial where a mask is set."""
        from graphflops.analysis.scaling.arrays import evaluate_array

        if mask.any():
            part = {name: values[mask] for name, values in sizes.items()}
            result[mask] += evaluate_array(polynomial, dict.fromkeys(part, SizeRange(1, 1)), part)

    def _check_lengths(self, lengths: Any) -> None:
        for length in (int(lengths.min()), int(lengths.max())) if lengths.size else ():
            self.piece_at(length)

    def _out_of_range(self, length: int) -> str:
        return (
            f"length {length:,}: this law holds for caches of {self.first:,} to {self.last:,} tokens; for more pass "
            f"longest={length:,} to graphflops.generation"
        )


@dataclass(frozen=True)
class GenerationLaw:
    """The FLOPs of prefill, decode and whole generations, and the bytes of the cache, at any sizes.

    ``batch``, ``prompt`` and ``new_tokens`` may be integers or arrays that broadcast; integers give Python's exact
    integers, arrays an array of int64.
    """

    prefill_law: LengthLaw
    """in batch and length of the cache after it"""
    decode_law: LengthLaw
    """in batch and length of the cache before it"""
    cache_law: LengthLaw
    """the bytes of the cache in batch and length"""
    convention: Convention
    start: int | None = None
    """tokens that a decoder reads first, if an encoder reads the prompt; None if the prompt is the decoder's"""
    followed: int = 0
    """the largest length that was traced; for longer ones the last piece is taken to go on"""
    traces: int = 0
    validated: tuple[Mapping[str, int], ...] = ()
    """the sizes of the validation: no polynomial was fitted to them, and all of them hold there"""

    # -- numbers -------------------------------------------------------------------------------------------------

    def prefill(self, *, batch: Any, prompt: Any = None) -> Any:
        """The FLOPs of the prompt.

        Raises:
            UsageError: a size is no positive integer, or the law does not reach so far.
        """
        prompt = self._prompt(prompt)
        if not _are_integers(batch, prompt):
            arrays = _arrays(batch=batch, prompt=prompt)
            return self.prefill_law.over(self._at(arrays, arrays["prompt"] if self.start is None else self.start))
        length = require_integer("prompt", prompt) if self.start is None else self.start
        return self.prefill_law.evaluate(batch=batch, prompt=prompt, length=length)

    def decode(self, *, batch: Any, length: Any, prompt: Any = None) -> Any:
        """The FLOPs of a step that reads a cache of ``length`` tokens and adds one to each request.

        ``prompt`` is that of an encoder. A list of lengths is a batch of requests of different lengths, each of them
        ``batch`` times, and the result their sum.

        Raises:
            UsageError: as ``prefill``.
        """
        prompt = self._prompt(prompt, is_step=True)
        if isinstance(length, (list, tuple)):
            return sum(self.decode(batch=batch, length=item, prompt=prompt) for item in length)
        if not _are_integers(batch, length, prompt):
            arrays = _arrays(batch=batch, prompt=prompt, length=length)
            return self.decode_law.over(self._at(arrays, arrays["length"]))
        return self.decode_law.evaluate(batch=batch, prompt=prompt, length=length)

    def total(self, *, batch: Any, prompt: Any = None, new_tokens: Any, beams: int = 1) -> Any:
        """The FLOPs of a whole generation: the prefill, which gives the first new token, and a step for each other.

        With ``beams``, each request is as many, as in ``generate(num_beams=…)``.

        Raises:
            UsageError: as ``prefill``.
        """
        require_integer("beams", beams)
        prompt = self._prompt(prompt)
        if _are_integers(batch, prompt, new_tokens):
            batch, new_tokens = require_integer("batch", batch) * beams, require_integer("new_tokens", new_tokens)
            first = require_integer("prompt", prompt) if self.start is None else self.start
            steps = self.decode_law.sum(first, first + new_tokens - 1, batch=batch, prompt=prompt)
            return self.prefill(batch=batch, prompt=prompt) + steps
        arrays = _arrays(batch=batch, prompt=prompt, new_tokens=new_tokens)
        sizes = {"batch": arrays["batch"] * beams, "prompt": arrays["prompt"]}
        first = sizes["prompt"] if self.start is None else sizes["prompt"] * 0 + self.start
        stop = first + arrays["new_tokens"] - 1
        return self.prefill(**sizes) + self.decode_law.sum_over(first, stop, self._at(sizes, first))

    def flops_per_token(self, length: Any, *, batch: int = 1, prompt: int | None = None) -> Any:
        """The FLOPs of one new token of one request, at a length of the cache; an array at an array of lengths.

        Work that does not depend on the batch is shared by its requests, so that it is a float for a batch above 1.
        """
        flops = self.decode(batch=batch, length=length, prompt=prompt)
        return flops if batch == 1 else flops / batch

    def cache_bytes(self, *, batch: Any, length: Any, prompt: Any = None, page: int = 1, held: bool = False) -> Any:
        """The bytes of the tensors of a cache of ``length`` tokens.

        With ``page``, lengths are rounded up to its multiples, as paged caches allocate them; a list of lengths is a
        batch of requests, each of them ``batch`` times, summed. ``held`` are the bytes of the storages after a prompt
        of that length, which are more where a tensor is a view of a larger one.

        Raises:
            UsageError: as ``prefill``.
        """
        prompt = self._prompt(prompt, is_step=True)
        if isinstance(length, (list, tuple)):
            options = {"batch": batch, "prompt": prompt, "page": page, "held": held}
            return sum(self.cache_bytes(length=item, **options) for item in length)
        law = replace(self.cache_law, weights=HELD if held else BYTES, _sums={}) if held else self.cache_law
        length = -(-length // require_integer("page", page)) * page
        if not _are_integers(batch, length, prompt):
            arrays = _arrays(batch=batch, prompt=prompt, length=length)
            return law.over(self._at(arrays, arrays["length"]))
        return law.evaluate(batch=batch, prompt=prompt, length=length)

    # -- expressions ---------------------------------------------------------------------------------------------

    def closed_forms(self) -> list[tuple[str, Polynomial]]:
        """The whole generation in ``batch``, ``prompt`` and ``new_tokens``: condition and polynomial of each piece.

        Only pieces in which a prompt and an answer fit as a whole are listed.
        """
        prompt, new, one = Polynomial.symbol("prompt"), Polynomial.symbol("new_tokens"), Polynomial({(): Fraction(1)})
        first = prompt if self.start is None else one * self.start
        forms: list[tuple[str, Polynomial]] = []
        for piece in self.decode_law.pieces:
            steps = self.decode_law.closed_form(first, first + new - one, piece)
            for read in self.prefill_law.pieces:
                low, high = max(piece.first, read.first), min(piece.last, read.last)
                if self.start is None and high - low >= MIN_LENGTHS:
                    condition = _condition(low, piece.last + 2, self.decode_law.first, self.prefill_law.last)
                elif self.start is not None and low <= self.start <= high:
                    condition = f"new_tokens ≤ {piece.last + 2 - self.start:,}"
                else:
                    continue
                prefilled = compose(self.prefill_law.polynomial(read), "length", first)
                forms.append((condition, prefilled + steps))
        return forms

    def with_convention(self, convention: Convention) -> GenerationLaw:
        """The same law under another convention.

        Raises:
            UsageError: it, or this law's, does not weigh classes of work.
        """
        if convention != self.convention and not (weighs_classes(convention) and weighs_classes(self.convention)):
            raise UsageError(
                f"the convention {convention.name} needs a generation of its own: convention={convention.name!r}"
            )
        changed = {
            name: replace(law, weights=weights(convention), _sums={})
            for name, law in (("prefill_law", self.prefill_law), ("decode_law", self.decode_law))
        }
        return replace(self, convention=convention, **changed)  # type: ignore[arg-type]

    # -- sizes ---------------------------------------------------------------------------------------------------

    def _prompt(self, prompt: Any, *, is_step: bool = False) -> Any:
        """The prompt, where a number depends on it; else 1."""
        is_size = "prompt" in self.decode_law.sizes or (self.start is None and not is_step)
        if is_size and prompt is None:
            raise UsageError(f"pass the length of the prompt{' of the encoder' * (self.start is not None)}: prompt=…")
        return prompt if is_size else 1

    def _at(self, arrays: Mapping[str, Any], length: Any) -> dict[str, Any]:
        """The arrays of the sizes of the laws."""
        import numpy

        sizes = {name: arrays[name] for name in self.decode_law.sizes if name != "length"}
        return {**sizes, "length": numpy.broadcast_to(numpy.asarray(length), arrays["batch"].shape)}


def _condition(low: int, high: int, first: int, last: int) -> str:
    """The sizes in which a closed form holds."""
    lower = [f"prompt ≥ {low:,}"] if low > first else []
    return ", ".join([*lower, *([f"prompt + new_tokens ≤ {high:,}"] if high <= last else [])])


def _are_integers(*sizes: Any) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _arrays(**sizes: Any) -> dict[str, Any]:
    """Arrays of one shape.

    Raises:
        UsageError: numpy is not installed, or the shapes do not broadcast.
    """
    try:
        import numpy
    except ImportError as error:
        raise UsageError("arrays of sizes need numpy: pip install numpy") from error
    arrays = {name: numpy.asarray(size) for name, size in sizes.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "iu" or (array.size and int(array.min()) < 1):
            raise UsageError(f"{name} must be integers of at least 1: a law is exact")
    try:
        return dict(zip(arrays, numpy.broadcast_arrays(*arrays.values()), strict=True))
    except ValueError as error:
        raise UsageError(f"the sizes' shapes do not broadcast: {[array.shape for array in arrays.values()]}") from error
