"""Polynomials at arrays of sizes, exact: in int64 where a bound shows that it suffices, else in Python's integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, TypeAlias

from graphflops.analysis.scaling.atoms import AtLeast, Atom, Factor, FactorOfSize, Log2
from graphflops.analysis.scaling.extrema import Extremum
from graphflops.analysis.scaling.polynomials import Monomial, Polynomial
from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.core.errors import UsageError

if TYPE_CHECKING:
    import numpy

MAX_INT64 = 2**63 - 1
POWERS_OF_TWO = [2**power for power in range(63)]
CHUNK_CONFIGURATIONS = 32_768
"""configurations that are evaluated together: they fit into a cache"""

Terms: TypeAlias = list[tuple[Monomial, int]]
"""monomials and whole coefficients"""


def evaluate_array(polynomial: Polynomial, ranges: Mapping[str, SizeRange], sizes: Mapping[str, Any]) -> numpy.ndarray:
    """The values of a polynomial at arrays of sizes, in the shape to which they broadcast.

    Raises:
        UsageError: a size is not an integer or may not have a value, a result needs more than 63 bits, or numpy is not
            installed.
    """
    try:
        import numpy
    except ImportError as error:
        raise UsageError(
            "law.evaluate_array needs numpy: pip install numpy; law.evaluate returns the number at one configuration"
        ) from error
    arrays = {name: _checked_array(name, value, ranges[name]) for name, value in sizes.items()}
    try:
        shape = numpy.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"the sizes' shapes do not broadcast: {shapes}") from error
    flat = {name: numpy.broadcast_to(arrays[name], shape).reshape(-1) for name in arrays if name in polynomial.sizes}
    denominator = lcm(*(coefficient.denominator for _, coefficient in polynomial))
    terms = [(monomial, int(coefficient * denominator)) for monomial, coefficient in polynomial]
    result = numpy.empty(shape, dtype=numpy.int64)
    flat_result = result.reshape(-1)
    for start in range(0, flat_result.size, CHUNK_CONFIGURATIONS):
        chunk = {name: array[start : start + CHUNK_CONFIGURATIONS] for name, array in flat.items()}
        out = flat_result[start : start + CHUNK_CONFIGURATIONS]
        if _fits_int64(terms, chunk):
            _evaluate_int64(terms, denominator, chunk, out)
        else:
            _evaluate_mixed(polynomial, terms, denominator, chunk, out)
    return result


def _checked_array(name: str, value: Any, allowed: SizeRange) -> numpy.ndarray:
    import numpy

    array = numpy.asarray(value)
    if array.dtype.kind not in "iu":
        raise UsageError(f"{name} must be integers, not {array.dtype}: a law is exact")
    if array.size and int(array.max()) > MAX_INT64:
        raise UsageError(f"{name} = {int(array.max())} does not fit into 63 bits")
    array = array.astype(numpy.int64, copy=False)
    invalid = (array < allowed.multiple_of) | (array % allowed.multiple_of != 0)
    if allowed.max is not None:
        invalid |= array > allowed.max
    if allowed.min is not None:
        invalid |= array < allowed.min
    if invalid.any():
        raise UsageError(f"{name} = {int(array[invalid][0])}: {allowed.requirement(name)}")
    return array


def _fits_int64(terms: Terms, chunk: Mapping[str, numpy.ndarray]) -> bool:
    """Whether all products and sums on the way fit into 63 bits.

    Sizes are positive, so the absolute value of a monomial is largest where its factors are; the sum of these bounds
    every partial product and partial sum, whatever the signs.
    """
    return _bound(terms, chunk) <= MAX_INT64


def _bound(terms: Iterable[tuple[Monomial, int | Fraction]], chunk: Mapping[str, numpy.ndarray]) -> int:
    """The sum of the largest absolute values of all terms."""
    bound = 0
    for monomial, coefficient in terms:
        product = abs(int(coefficient))
        for factor, power in monomial:
            product *= max(1, _factor_bound(factor, chunk)) ** power
        bound += product
    return bound


def _factor_bound(factor: Factor, chunk: Mapping[str, numpy.ndarray]) -> int:
    """The largest absolute value of a factor, and of what is computed on the way to it."""
    if isinstance(factor, Extremum):
        return max(_bound(member, chunk) for member in factor.members)
    assert isinstance(factor, FactorOfSize)
    lowest, highest = int(chunk[factor.size].min()), int(chunk[factor.size].max())
    shift = factor.shift if isinstance(factor, (Atom, Log2)) else 0
    return max(highest + abs(shift), abs(factor.at(lowest)), abs(factor.at(highest)))


def _evaluate_mixed(
    polynomial: Polynomial, terms: Terms, denominator: int, chunk: Mapping[str, numpy.ndarray], out: numpy.ndarray
) -> None:
    """Evaluate in int64 the configurations that are safe, the others one by one.

    The sum of absolute values in floats is exact to one part in 10¹²: if it is below 2⁶², the result is below 2⁶³.
    """
    import numpy

    bound = _float_bound(terms, chunk, out.shape)
    for mask, is_safe in ((bound < 2.0**62, True), (bound >= 2.0**62, False)):
        if mask.any():
            values = numpy.empty(int(mask.sum()), dtype=numpy.int64)
            part = {name: array[mask] for name, array in chunk.items()}
            if is_safe:
                _evaluate_int64(terms, denominator, part, values)
            else:
                _evaluate_python(polynomial, part, values)
            out[mask] = values


def _float_bound(
    terms: Iterable[tuple[Monomial, int | Fraction]], chunk: Mapping[str, numpy.ndarray], shape: tuple[int, ...]
) -> numpy.ndarray:
    """The sum of the absolute values of all terms, at each configuration."""
    import numpy

    bound = numpy.zeros(shape)
    for monomial, coefficient in terms:
        product = numpy.full(shape, abs(float(coefficient)))
        for factor, power in monomial:
            if isinstance(factor, Extremum):
                values = sum((_float_bound(member, chunk, shape) for member in factor.members), numpy.zeros(shape))
            else:
                assert isinstance(factor, FactorOfSize)
                shift = factor.shift if isinstance(factor, (Atom, Log2)) else 0
                values = chunk[factor.size] + float(shift)
                values = values // factor.step if isinstance(factor, Atom) else values
            product *= numpy.maximum(1.0, numpy.abs(values)) ** power
        bound += product
    return bound


def _evaluate_int64(terms: Terms, denominator: int, chunk: Mapping[str, numpy.ndarray], out: numpy.ndarray) -> None:
    import numpy

    powers: dict[tuple[Factor, int], numpy.ndarray] = {}

    def power_of(factor: Factor, power: int) -> numpy.ndarray:
        if (factor, power) not in powers:
            if power > 1:
                values = power_of(factor, power - 1) * power_of(factor, 1)
            else:
                values = _factor_values(factor, chunk, out)
            powers[factor, power] = values
        return powers[factor, power]

    out[:] = 0
    product = numpy.empty_like(out)
    for monomial, coefficient in terms:
        product[:] = coefficient
        for factor, power in monomial:
            product *= power_of(factor, power)
        out += product
    if denominator != 1:
        out //= denominator


def _factor_values(factor: Factor, chunk: Mapping[str, numpy.ndarray], out: numpy.ndarray) -> numpy.ndarray:
    """The values of a factor at all configurations."""
    import numpy

    match factor:
        case Extremum(members, is_maximum):
            values = []
            for member in members:
                values.append(numpy.empty_like(out))
                _evaluate_int64([(monomial, int(number)) for monomial, number in member], 1, chunk, values[-1])
            largest: numpy.ndarray = (numpy.maximum if is_maximum else numpy.minimum).reduce(values)
            return largest
        case Atom(size, step, shift):
            shifted = chunk[size] + shift if shift else chunk[size]
            return shifted if step == 1 else shifted // step
        case Log2(size, shift):
            return numpy.searchsorted(POWERS_OF_TWO, chunk[size] + shift)
        case AtLeast(size, value):
            return (chunk[size] >= value).astype(numpy.int64)
    raise AssertionError(f"{factor!r} is no factor of laws")


def _evaluate_python(polynomial: Polynomial, chunk: Mapping[str, numpy.ndarray], out: numpy.ndarray) -> None:
    """Evaluate in Python's integers; a result of more than 63 bits is an error."""
    columns = [array.tolist() for array in chunk.values()]
    rows = zip(*columns, strict=True) if columns else iter([()] * len(out))
    for i, row in enumerate(rows):
        sizes = dict(zip(chunk, row, strict=True))
        value = polynomial.evaluate(sizes)
        if isinstance(value, Fraction) or abs(value) > MAX_INT64:
            at = ", ".join(f"{name} = {size:,}" for name, size in sizes.items())
            raise UsageError(
                f"the number at {at} is {value:,}, more than the 63 bits of an int64; law.evaluate has no such limit"
            )
        out[i] = value
