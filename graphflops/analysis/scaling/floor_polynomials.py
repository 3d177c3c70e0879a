"""A size beside a floor of it: in which products of both a quantity can be written, as D·⌈D/16⌉."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from graphflops.analysis.scaling.interpolation import Contradiction, Undetermined, solve
from graphflops.analysis.scaling.polynomials import Atom, Monomial, Polynomial, value_of
from graphflops.analysis.scaling.univariate import SPARE, Floors, Shape, Values

if TYPE_CHECKING:
    import numpy

DEGREES = (2, 3)
"""the highest power of both together that is looked for, the lower first"""
NEARLY = 1e-12
"""how far what fits may be off where it is calculated in floating-point numbers, as a part of the largest value"""
PRIME = 2**61 - 1
"""what fits, fits in remainders too"""


class Mixtures(Floors):
    """The floors of which, together with the size itself, a quantity may be a polynomial."""

    def narrow(self, values: Values) -> None:
        """Leave those out that these values contradict."""
        if len(self.left) > 1:  # to solve for each exactly would take minutes
            self.left = [atom for atom in _nearly(self.left, values) if _fits_in_remainders(atom, values)]
        super().narrow(values)

    def fit(self, atom: Atom, values: Values) -> Polynomial | None:
        """The polynomial of the least degree in both; None if there is none with values to spare."""
        return _fit(atom, values)


@lru_cache(maxsize=100_000)
def mixed_shape(size: str, values: Values) -> Shape | None:
    """The products of a size and a floor of it in a quantity; None if these values fit none."""
    mixtures = Mixtures()
    mixtures.narrow(values)
    return mixtures.shape(size, values)


def _monomials(atom: Atom, degree: int) -> list[Monomial]:
    size = Atom(atom.size)
    return [tuple(sorted((each, power) for each, power in ((size, i), (atom, j)) if power)) for i, j in _powers(degree)]


def _powers(degree: int) -> list[tuple[int, int]]:
    """Of a size and of its floor, those of the size alone first."""
    return [(i, j) for j in range(degree + 1) for i in range(degree + 1 - j)]


@lru_cache(maxsize=10_000)
def _fit(atom: Atom, values: Values) -> Polynomial | None:
    rows = [({atom.size: x}, y) for x, y in values]
    for degree in DEGREES:
        monomials = _monomials(atom, degree)
        if len(values) < len(monomials) + SPARE:
            return None
        with suppress(Contradiction):
            try:
                return solve(monomials, rows)
            except Undetermined:
                return solve(_independent(monomials, [sizes for sizes, _ in rows]), rows)
    return None


def _independent(monomials: list[Monomial], points: list[dict[str, int]]) -> list[Monomial]:
    """Those that are no sum of the ones before: with f = ⌊D/2⌋, 4·f·(D − f) is D² − D + 2·f."""
    import sympy

    _, pivots = sympy.Matrix([[value_of(each, sizes) for each in monomials] for sizes in points]).rref()
    return [monomials[i] for i in pivots]


def _nearly(atoms: list[Atom], values: Values) -> list[Atom]:
    """Those floors that are not far off, all at once."""
    import numpy as np

    x, y = np.array(values, dtype=float).T
    steps, shifts = np.array([(each.step, each.shift) for each in atoms], dtype=float).T[:, :, None]
    floors = np.floor((x + shifts) / steps)
    scale = max(float(np.abs(y).max()), 1.0)
    kept = np.zeros(len(atoms), dtype=bool)
    for degree in DEGREES:
        powers = _powers(degree)
        if len(values) >= len(powers) + SPARE:
            kept |= _off(x / x.max(), floors / max(floors.max(), 1.0), powers, y / scale) < NEARLY
    return [atom for atom, is_kept in zip(atoms, kept, strict=True) if is_kept]


def _fits_in_remainders(atom: Atom, values: Values) -> bool:
    """Whether some sum of powers has all these values, but for multiples of a large prime."""
    powers = _powers(DEGREES[-1] if len(values) >= len(_powers(DEGREES[-1])) + SPARE else DEGREES[0])
    reduced: list[tuple[int, list[int]]] = []
    for x, y in values:
        floor = atom.of(x)
        row = [*(x**i * floor**j % PRIME for i, j in powers), y % PRIME]
        for pivot, other in reduced:
            if factor := row[pivot]:
                row = [(mine - factor * theirs) % PRIME for mine, theirs in zip(row, other, strict=True)]
        pivot = next((i for i, each in enumerate(row) if each), -1)
        if pivot == len(powers):
            return False
        if pivot >= 0:
            inverse = pow(row[pivot], -1, PRIME)
            reduced.append((pivot, [each * inverse % PRIME for each in row]))
    return True


def _off(x: numpy.ndarray, floors: numpy.ndarray, powers: list[tuple[int, int]], y: numpy.ndarray) -> numpy.ndarray:
    """How far from y the best sum of these powers is, for each row of floors."""
    import numpy as np

    basis = np.stack([x**i * floors**j for i, j in powers], axis=-1)
    orthogonal, _ = np.linalg.qr(basis)
    best = orthogonal @ (orthogonal.transpose(0, 2, 1) @ y[:, None])
    off: numpy.ndarray = np.abs(best[..., 0] - y).max(axis=-1)
    return off
