"""A law at millions of sizes at once, exact: in 63 bits where that is proved enough, else in Python's integers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any

from graphflops.analysis.scaling.polynomials import Atom, Polynomial
from graphflops.analysis.scaling.ranges import Multiples
from graphflops.core.errors import UsageError

if TYPE_CHECKING:
    import numpy

LIMIT = 2**63 - 1
AT_ONCE = 32_768
"""how many configurations are worked on at a time: they fit into a cache"""


def evaluated(law: Polynomial, ranges: Mapping[str, Multiples], sizes: Mapping[str, Any]) -> numpy.ndarray:
    """The values of a polynomial at arrays of sizes, in the shape that they broadcast to.

    Raises:
        UsageError: a size is no whole number or may not have a value, a result needs more than 63 bits, or there is no
            numpy.
    """
    try:
        import numpy
    except ImportError as error:
        raise UsageError("law.over needs numpy: pip install numpy, or ask law.at for one configuration") from error
    arrays = {name: _checked(name, value, ranges[name]) for name, value in sizes.items()}
    try:
        shape = numpy.broadcast_shapes(*(each.shape for each in arrays.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {each.shape}" for name, each in arrays.items())
        raise UsageError(f"the sizes' shapes do not go together: {shapes}") from error
    flat = {name: numpy.broadcast_to(arrays[name], shape).reshape(-1) for name in arrays if name in law.sizes}
    scale = lcm(*(each.denominator for _, each in law))
    whole = [(monomial, int(each * scale)) for monomial, each in law]
    made = numpy.empty(shape, dtype=numpy.int64)
    result = made.reshape(-1)
    for start in range(0, result.size, AT_ONCE):
        part = {name: each[start : start + AT_ONCE] for name, each in flat.items()}
        out = result[start : start + AT_ONCE]
        if _fits(whole, part):
            _sum_up(whole, scale, part, out)
        else:
            _with_care(law, whole, scale, part, out)
    return made


def _checked(name: str, value: Any, allowed: Multiples) -> numpy.ndarray:
    import numpy

    array = numpy.asarray(value)
    if array.dtype.kind not in "iu":
        raise UsageError(f"{name} must be whole numbers, not {array.dtype}: give integers, this law is exact")
    if array.size and int(array.max()) > LIMIT:
        raise UsageError(f"{name} = {int(array.max())} does not fit into 63 bits")
    array = array.astype(numpy.int64, copy=False)
    wrong = (array < allowed.of) | (array % allowed.of != 0)
    if allowed.most is not None:
        wrong |= array > allowed.most
    if wrong.any():
        raise UsageError(f"{name} = {int(array[wrong][0])}: this law holds for whole numbers, {allowed}")
    return array


def _fits(terms: list[tuple[Any, int]], part: Mapping[str, numpy.ndarray]) -> bool:
    """Whether no product and no sum on the way can exceed 63 bits.

    Sizes are positive, so that the absolute value of a monomial is largest where its factors are; the sum of these
    bounds every partial product and every partial sum, whatever their signs.
    """
    bound = 0
    for monomial, coefficient in terms:
        product = abs(coefficient)
        for atom, power in monomial:
            product *= max(1, *(abs(each) for each in _ends(atom, part[atom.size]))) ** power
        bound += product
    return bound <= LIMIT


def _ends(atom: Atom, values: numpy.ndarray) -> tuple[int, ...]:
    lowest, highest = int(values.min()), int(values.max())
    return highest + abs(atom.shift), atom.of(lowest), atom.of(highest)


def _with_care(
    law: Polynomial,
    terms: list[tuple[Any, int]],
    scale: int,
    part: Mapping[str, numpy.ndarray],
    out: numpy.ndarray,
) -> None:
    """Configuration by configuration: those that are far enough from the limit as before, the others one by one.

    A float of the sum of absolute values is right to one part in 10¹²: below 2⁶² the truth is below 2⁶³.
    """
    import numpy

    bound = numpy.zeros(out.shape)
    for monomial, coefficient in terms:
        product = numpy.full(out.shape, float(abs(coefficient)))
        for atom, power in monomial:
            values = (part[atom.size] + float(atom.shift)) // atom.step
            product *= numpy.maximum(1.0, numpy.abs(values)) ** power
        bound += product
    few = bound < 2.0**62
    if few.any():
        some = numpy.empty(int(few.sum()), dtype=numpy.int64)
        _sum_up(terms, scale, {name: each[few] for name, each in part.items()}, some)
        out[few] = some
    if not few.all():
        rest = numpy.empty(int((~few).sum()), dtype=numpy.int64)
        _one_by_one(law, {name: each[~few] for name, each in part.items()}, rest)
        out[~few] = rest


def _sum_up(terms: list[tuple[Any, int]], scale: int, part: Mapping[str, numpy.ndarray], out: numpy.ndarray) -> None:
    import numpy

    powers: dict[tuple[Atom, int], numpy.ndarray] = {}

    def power_of(atom: Atom, power: int) -> numpy.ndarray:
        if (atom, power) not in powers:
            if power > 1:
                made = power_of(atom, power - 1) * power_of(atom, 1)
            elif atom.step == 1:
                made = part[atom.size] + atom.shift if atom.shift else part[atom.size]
            else:
                made = (part[atom.size] + atom.shift) // atom.step
            powers[atom, power] = made
        return powers[atom, power]

    out[:] = 0
    buffer = numpy.empty_like(out)
    for monomial, coefficient in terms:
        buffer[:] = coefficient
        for atom, power in monomial:
            buffer *= power_of(atom, power)
        out += buffer
    if scale != 1:
        out //= scale


def _one_by_one(law: Polynomial, part: Mapping[str, numpy.ndarray], out: numpy.ndarray) -> None:
    """In Python's integers, which have any length; the first result that is too large for 63 bits is an error."""
    columns = [each.tolist() for each in part.values()]
    rows = zip(*columns, strict=True) if columns else iter([()] * len(out))
    for i, row in enumerate(rows):
        sizes = dict(zip(part, row, strict=True))
        value = law(sizes)
        if isinstance(value, Fraction) or abs(value) > LIMIT:
            at = ", ".join(f"{name} = {each:,}" for name, each in sizes.items())
            raise UsageError(
                f"the number at {at} is {value:,}, more than the 63 bits of an int64 hold: ask law.at, whose numbers "
                "have any length"
            )
        out[i] = value
