"""JSON of laws: monomials and coefficients as data, never as code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from graphflops.analysis.scaling.atoms import AtLeast, Atom, Factor, Log2
from graphflops.analysis.scaling.extrema import Extremum
from graphflops.analysis.scaling.law_terms import LawTerms
from graphflops.analysis.scaling.notation import format_polynomial
from graphflops.analysis.scaling.polynomials import Monomial, Polynomial
from graphflops.analysis.scaling.quantities import PARAMETERS, Quantity, weights
from graphflops.analysis.scaling.ranges import SizeRange, multiples
from graphflops.core.codec import (
    MAX_INTEGER,
    InvalidData,
    Reader,
    format_data,
    fraction,
    integer,
    list_of,
    nullable,
    one_of,
    read_json,
    record,
    table_of,
    text,
    tuple_of,
)
from graphflops.core.entries import PHASES
from graphflops.report.conventions import as_data, read_data

SCHEMA = "graphflops.law/1"


L = TypeVar("L", bound=LawTerms)


def dumps(law: LawTerms) -> str:
    """The law as JSON text."""
    polynomials = list(dict.fromkeys(law.terms.values()))
    index = {polynomial: i for i, polynomial in enumerate(polynomials)}
    data = {
        "schema": SCHEMA,
        "unit": law.convention.unit,
        "convention": as_data(law.convention),
        "model": law.model,
        "sizes": {
            name: {"of": size.multiple_of, "at": size.base, "most": size.max}
            | ({} if size.min is None else {"least": size.min})
            for name, size in law.sizes.items()
        },
        "traces": law.traces,
        "checked": [dict(point) for point in law.validated],
        "refused": list(law.rejected),
        "unknown": list(law.unknown),
        "total_flops": format_polynomial(law.polynomial("total"), tuple(law.sizes)),
        "laws": [polynomial_data(polynomial) for polynomial in polynomials],
        "terms": [[*quantity[:-1], index[polynomial]] for quantity, polynomial in law.terms.items()],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def load(path: str | Path, law_type: type[L]) -> L:
    """The law in a file.

    Raises:
        UsageError: there is no such file, or it is not a law of a known version.
    """
    return read_json(path, "law", [SCHEMA], lambda data: law_type(**_law_fields(data)))


def polynomial_data(polynomial: Polynomial) -> list[dict[str, Any]]:
    """A polynomial as plain data."""
    return [
        {
            "coefficient": coefficient.numerator if coefficient.denominator == 1 else str(coefficient),
            "powers": [_factor_data(factor, power) for factor, power in monomial],
        }
        for monomial, coefficient in polynomial
    ]


def _factor_data(factor: Factor, power: int) -> list[Any]:
    match factor:
        case Atom(size, 1, 0):
            return [size, power]
        case Atom(size, step, shift):
            return [size, power, step, shift]
        case Log2(size, shift):
            return [size, power, "log2", shift]
        case AtLeast(size, value):
            return [size, power, "from", value]
        case Extremum(members, is_maximum):
            return ["max" if is_maximum else "min", power, [polynomial_data(member) for member in members]]
    raise AssertionError(f"{factor!r} is no factor of laws")


# -- readers -----------------------------------------------------------------------------------------------------------

MAX_VALUE = 2**63
"""of a size, a step, or an index"""
MAX_DEGREE = 16
"""of a monomial"""
_POWER = integer(1, MAX_DEGREE)


def _name(value: Any) -> str:
    if not text(value).isidentifier():
        raise InvalidData(f"is {format_data(value)}, not the name of a size")
    return str(value)


def _size_range(of: int, at: int, most: int | None = None, least: int | None = None) -> SizeRange:
    return multiples(of, at, most, least)


def _coefficient(value: Any) -> Fraction:
    if type(value) is int and abs(value) < MAX_INTEGER:
        return Fraction(value)
    is_negative = type(value) is str and value.startswith("-")
    return -fraction(value[1:]) if is_negative else fraction(value)


def _factor(value: Any) -> tuple[Factor, int]:
    """``[size, power]``, with step and shift of a floor, "log2" and shift, or "from" and a value; or an extremum."""
    if type(value) is list and len(value) == 3 and value[0] in ("max", "min"):
        kind, power, members = tuple_of(one_of(("max", "min"), "kind of extremum"), _POWER, list_of(_polynomial))(value)
        if len(members) < 2:
            raise InvalidData(f"is the {kind} of fewer than two")
        if any(coefficient.denominator != 1 for member in members for _, coefficient in member):
            raise InvalidData(f"is the {kind} of polynomials with fractions")
        return Extremum(tuple(members), kind == "max"), power
    if type(value) is list and len(value) == 4:
        shift = integer(minimum=None, maximum=MAX_VALUE)
        if value[2] == "log2":
            size, power, _, number = tuple_of(_name, _POWER, text, shift)(value)
            return Log2(size, number), power
        if value[2] == "from":
            size, power, _, number = tuple_of(_name, integer(1, 1), text, integer(1, MAX_VALUE))(value)
            return AtLeast(size, number), power
        size, power, step, number = tuple_of(_name, _POWER, integer(1, MAX_VALUE), shift)(value)
        return Atom(size, step, number), power
    size, power = tuple_of(_name, _POWER)(value)
    return Atom(size), power


def _monomial(value: Any) -> Monomial:
    factors = tuple(sorted(list_of(_factor)(value)))
    if len(dict(factors)) < len(factors):
        raise InvalidData("has the same factor twice")
    if sum(power for _, power in factors) > MAX_DEGREE:
        raise InvalidData(f"has a degree above {MAX_DEGREE}")
    return factors


def _polynomial(value: Any) -> Polynomial:
    terms = list_of(record(lambda powers, coefficient: (powers, coefficient), _TERM))(value)
    if len({monomial for monomial, _ in terms}) < len(terms):
        raise InvalidData("has the same powers twice")
    return Polynomial(dict(terms))


_TERM: Mapping[str, Reader[Any]] = {"powers": _monomial, "coefficient": _coefficient}
_QUANTITY = tuple_of(text, text, text, one_of((*PHASES, PARAMETERS), "phase"), text, integer(maximum=MAX_VALUE))


def _checked_fields(
    schema: str, sizes: Any, laws: Any, terms: Any, checked: Any, refused: Any, **fields: Any
) -> dict[str, Any]:
    """The fields of the law, after the checks that involve several of them."""
    for name in ("unit", "total_flops"):
        fields.pop(name, None)
    base = {name: size.base for name, size in sizes.items()}
    kinds = {*weights(fields["convention"]), "elements"}
    for i, polynomial in enumerate(laws):
        if unknown := polynomial.sizes - sizes.keys():
            raise InvalidData(f"contains {format_data(min(unknown))}, which is not one of the sizes", f".laws[{i}]")
        if not isinstance(value := polynomial.evaluate(base), int) or value < 0:
            raise InvalidData(f"is {format_data(str(value))} at the base sizes, not a count", f".laws[{i}]")
    for i, point in enumerate(checked):
        if point.keys() != sizes.keys():
            raise InvalidData("has not the sizes of the law", f".checked[{i}]")
    polynomials: dict[Quantity, Polynomial] = {}
    for i, (*names, index) in enumerate(terms):
        quantity = Quantity(*names)
        if index >= len(laws):
            raise InvalidData(f"is {index}, and there are {len(laws)} laws", f".terms[{i}][5]")
        if quantity.kind not in kinds or (quantity.kind == "elements") != (quantity.phase == PARAMETERS):
            raise InvalidData(
                f"is {format_data(quantity.kind)}, no kind of number in {quantity.phase}", f".terms[{i}][4]"
            )
        if quantity in polynomials:
            raise InvalidData("occurs twice", f".terms[{i}]")
        polynomials[quantity] = laws[index]
    return {"sizes": sizes, "terms": polynomials, "validated": checked, "rejected": refused, **fields}


_law_fields: Reader[dict[str, Any]] = record(
    _checked_fields,
    {
        "schema": text,
        "convention": read_data,
        "model": text,
        "sizes": table_of(
            _name,
            record(
                _size_range,
                {"of": integer(1, MAX_VALUE), "at": integer(1, MAX_VALUE)},
                {"most": nullable(integer(1, MAX_VALUE)), "least": nullable(integer(1, MAX_VALUE))},
            ),
        ),
        "laws": list_of(_polynomial),
        "terms": list_of(_QUANTITY),
        "traces": integer(),
        "checked": list_of(table_of(_name, integer(1, MAX_VALUE))),
        "refused": list_of(text),
        "unknown": list_of(text),
    },
    {"unit": text, "total_flops": text},
)


read_polynomial: Reader[Polynomial] = _polynomial
read_quantity: Reader[tuple[Any, ...]] = _QUANTITY
