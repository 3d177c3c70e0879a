"""Polynomials in the batch and the length of a cache, by pieces: windows and chunks end at a length.

In the batch a number is linear; in the length of a cache and a third size together it is quadratic at most. That is
fitted to a few points of the least lengths, followed upwards until it ends, where the next piece begins, and compared
with points that had no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement, pairwise, product
from typing import Generic, TypeVar

from graphflops.analysis.scaling.atoms import Atom
from graphflops.analysis.scaling.interpolation import Inconsistent, interpolate
from graphflops.analysis.scaling.polynomials import Monomial, Polynomial
from graphflops.core.errors import CaptureError, LawError

Key = TypeVar("Key", bound=Hashable)
Sizes = Mapping[str, int]

BATCHES = (2, 3)
"""batches of the points that pieces are fitted to"""
OTHERS = (5, 6, 7)
"""values of the third size at these points: an encoder's prompt, or tokens that are read together"""
DEGREE = 2
"""in all lengths together"""
GROWTH = 8
"""factor between the lengths at which a piece is followed upwards"""
MAX_PIECES = 24
MAX_LOOP = 64
"""the largest length that is observed of a model that calls operators for each token"""


@dataclass(frozen=True)
class Piece(Generic[Key]):
    """Polynomials that hold for the lengths of a range."""

    first: int
    last: int
    terms: Mapping[Key, Polynomial]


Observe = Callable[[Sizes], tuple[Mapping[Key, int], int]]
"""the numbers at some sizes, and how many operators were called"""


class Pieces(Generic[Key]):
    """The pieces of the numbers that ``observe`` returns, in the order of their lengths.

    Raises:
        LawError: a number is no such polynomial; the message names it and the sizes.
    """

    def __init__(self, observe: Observe[Key], sizes: Sizes, first: int, last: int) -> None:
        self._observe, self._names, self._last = observe, tuple(sizes), last
        self._other = next((name for name in self._names if name not in ("batch", "length")), "")
        self._operations: dict[int, int] = {}
        self.observations: dict[tuple[int, ...], Mapping[Key, int]] = {}
        self.pieces: list[Piece[Key]] = []
        while first <= last:
            if len(self.pieces) == MAX_PIECES:
                raise LawError(f"there are more than {MAX_PIECES} pieces up to a length of {first:,}")
            try:
                piece = self._piece_from(first)
            except CaptureError:
                if not self.pieces:
                    raise
                return  # the model takes no more, having so many positions
            self.pieces.append(piece)
            first = piece.last + 1

    def at(self, **sizes: int) -> Mapping[Key, int]:
        """The numbers at some sizes, observed once."""
        point = tuple(sizes[name] for name in self._names)
        if point not in self.observations:
            self.observations[point], operations = self._observe(sizes)
            if sizes["batch"] == BATCHES[0]:
                self._operations[sizes["length"]] = operations
        return self.observations[point]

    @property
    def reach(self) -> int:
        """The largest length that is observed: less, if each token is a call of its own, whose traces take long."""
        by_length = [self._operations[length] for length in sorted(self._operations)]
        is_loop = len(by_length) > DEGREE + 1 and all(a < b for a, b in pairwise(by_length))
        return min(self._last, MAX_LOOP) if is_loop else self._last

    def validate(self, points: Iterable[Sizes]) -> tuple[Sizes, ...]:
        """Compare the pieces with points to which they were not fitted, and return these."""
        validated = []
        for sizes in points:
            if tuple(sizes[name] for name in self._names) in self.observations:
                continue
            piece = next(piece for piece in self.pieces if piece.first <= sizes["length"] <= piece.last)
            if (wrong := self._first_wrong(piece.terms, sizes)) is not None:
                raise _no_law(*wrong, sizes)
            validated.append(sizes)
        return tuple(validated)

    def _piece_from(self, first: int) -> Piece[Key]:
        """The piece that begins at a length: of one length, if no polynomial holds for the next ones as well."""
        count = DEGREE + 1
        if first + count <= self._last:
            try:
                terms = self._fit([first + i for i in range(count)])
            except Inconsistent:
                terms = {}
            if terms and self._holds(terms, first + count):
                return Piece(first, self._end(terms, first + count), terms)
        return Piece(first, first, self._fit([first]))

    def _fit(self, lengths: Sequence[int]) -> dict[Key, Polynomial]:
        degree = DEGREE if len(lengths) > 1 else 0
        rows = [(sizes, self.at(**sizes)) for sizes in self._points(lengths)]
        keys = dict.fromkeys(key for _, observation in rows for key in observation)
        columns: dict[tuple[int, ...], list[Key]] = {}
        for key in keys:
            columns.setdefault(tuple(observation.get(key, 0) for _, observation in rows), []).append(key)
        monomials = list(self._monomials(degree))
        terms: dict[Key, Polynomial] = {}
        for column, members in columns.items():
            values = [(sizes, value) for (sizes, _), value in zip(rows, column, strict=True)]
            terms.update(dict.fromkeys(members, interpolate(monomials, values)))
        return {key: terms[key] for key in keys}

    def _points(self, lengths: Sequence[int]) -> Iterator[dict[str, int]]:
        """Points that determine all coefficients: a triangle in the lengths, for each batch."""
        for batch in BATCHES:
            if not self._other:
                yield from ({"batch": batch, "length": length} for length in lengths)
                continue
            for (i, other), (j, length) in product(enumerate(OTHERS), enumerate(lengths)):
                if i + j <= DEGREE:
                    yield {"batch": batch, self._other: other, "length": length}

    def _monomials(self, degree: int) -> Iterator[Monomial]:
        lengths = [name for name in self._names if name == self._other or (name == "length" and degree)]
        powers: list[Monomial] = []
        for total in range(DEGREE + 1):
            powers += [
                tuple(sorted((Atom(name), names.count(name)) for name in set(names)))
                for names in combinations_with_replacement(lengths, total)
            ]
        for monomial in powers:
            yield monomial
            yield tuple(sorted((*monomial, (Atom("batch"), 1))))

    def _holds(self, terms: Mapping[Key, Polynomial], length: int) -> bool:
        sizes = {**dict.fromkeys(self._names, OTHERS[0]), "batch": BATCHES[0], "length": length}
        try:
            return self._first_wrong(terms, sizes) is None
        except CaptureError:  # the model does not take so many tokens
            return False

    def _first_wrong(self, terms: Mapping[Key, Polynomial], sizes: Sizes) -> tuple[Key, int, int | Fraction] | None:
        observation = self.at(**sizes)
        predictions: dict[Polynomial, int | Fraction] = {}
        for key in dict.fromkeys((*terms, *observation)):
            polynomial = terms.get(key, _ZERO)
            if polynomial not in predictions:
                predictions[polynomial] = polynomial.evaluate(sizes)
            if predictions[polynomial] != observation.get(key, 0):
                return key, observation.get(key, 0), predictions[polynomial]
        return None

    def _end(self, terms: Mapping[Key, Polynomial], known: int) -> int:
        """The last length at which polynomials hold: found by growing steps, then by bisection."""
        low, high, reach = known, known, self.reach
        while low < reach:
            high = min(low * GROWTH, reach)
            if not self._holds(terms, high):
                break
            low = high
        else:
            return self._last
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._holds(terms, middle) else (low, middle)
        return low


_ZERO = Polynomial()


def _no_law(key: object, value: int, predicted: int | Fraction, sizes: Sizes) -> LawError:
    at = ", ".join(f"{name} = {value:,}" for name, value in sizes.items())
    return LawError(
        f"{key}: no exact polynomial in the sizes of a generation: {value:,} at {at}, fit predicts {predicted}"
    )


def merged(pieces: Sequence[Piece[Key]]) -> tuple[Piece[Key], ...]:
    """The pieces, with neighbours as one where the polynomials of one of them hold for both."""
    result: list[Piece[Key]] = []
    for piece in pieces:
        terms = _common(result[-1], piece) if result else None
        if terms is None:
            result.append(piece)
        else:
            result[-1] = Piece(result[-1].first, piece.last, terms)
    return tuple(result)


def _common(piece: Piece[Key], following: Piece[Key]) -> Mapping[Key, Polynomial] | None:
    """The polynomials that hold for both of two pieces; a piece may be of one length."""
    if dict(piece.terms) == dict(following.terms):
        return piece.terms
    for short, long in ((following, piece), (piece, following)):
        at, keys = {"length": short.first}, {*short.terms, *long.terms}
        if short.first == short.last and all(
            long.terms.get(key, _ZERO).substitute(at) == short.terms.get(key, _ZERO) for key in keys
        ):
            return long.terms
    return None
