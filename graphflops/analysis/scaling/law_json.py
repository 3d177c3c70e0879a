"""A Law as JSON and back: monomials and coefficients as data, never as code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from graphflops.analysis.scaling.laws import Law
from graphflops.analysis.scaling.measurement import PARAMETERS, Quantity, weights
from graphflops.analysis.scaling.notation import written
from graphflops.analysis.scaling.polynomials import Atom, Monomial, Polynomial
from graphflops.analysis.scaling.ranges import Multiples, multiples
from graphflops.core.codec import (
    LARGEST,
    Misread,
    Reader,
    format_data,
    fraction,
    listed,
    mapped,
    nullable,
    one_of,
    read_json,
    record,
    row,
    text,
    whole,
)
from graphflops.core.entries import PHASES
from graphflops.report.conventions import as_data, read_data

SCHEMA = "graphflops.law/1"


def dumps(law: Law) -> str:
    """The law as JSON text."""
    names = tuple(law.sizes)
    laws = list(dict.fromkeys(law.terms.values()))
    position = {each: i for i, each in enumerate(laws)}
    data = {
        "schema": SCHEMA,
        "unit": law.convention.unit,
        "convention": as_data(law.convention),
        "model": law.model,
        "sizes": {name: {"of": each.of, "at": each.at, "most": each.most} for name, each in law.sizes.items()},
        "traces": law.traces,
        "checked": [dict(each) for each in law.checked],
        "refused": list(law.refused),
        "unknown": list(law.unknown),
        "total_flops": written(law.polynomial("total"), names),
        "laws": [[_plain(monomial, each) for monomial, each in polynomial] for polynomial in laws],
        "terms": [[*quantity[:-1], position[polynomial]] for quantity, polynomial in law.terms.items()],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def load(path: str | Path) -> Law:
    """The law in a file.

    Raises:
        UsageError: there is no such file, or it is not a law of a known version.
    """
    return read_json(path, "law", [SCHEMA], _law)


def _plain(monomial: Monomial, coefficient: Fraction) -> dict[str, Any]:
    return {
        "coefficient": coefficient.numerator if coefficient.denominator == 1 else str(coefficient),
        "powers": [
            [atom.size, power, *((atom.step, atom.shift) if atom != Atom(atom.size) else ())]
            for atom, power in monomial
        ],
    }


# -- and back ----------------------------------------------------------------------------------------------------------

_MOST = 2**63
_DEGREE = 16
"""of a power, and of what a monomial's powers add up to"""
_POWER = whole(1, _DEGREE)


def _name(value: Any) -> str:
    if not text(value).isidentifier():
        raise Misread(f"is {format_data(value)}, and no name of a size")
    return str(value)


def _range_of(of: int, at: int, most: int | None = None) -> Multiples:
    return multiples(of, at, most)


def _coefficient(value: Any) -> Fraction:
    if type(value) is int and abs(value) < LARGEST:
        return Fraction(value)
    negative = type(value) is str and value.startswith("-")
    return -fraction(value[1:]) if negative else fraction(value)


def _factor(value: Any) -> tuple[Atom, int]:
    """``[size, power]``, or ``[size, power, step, shift]``."""
    if type(value) is list and len(value) == 4:
        size, power, step, shift = row(_name, _POWER, whole(1, _MOST), whole(least=None, most=_MOST))(value)
        return Atom(size, step, shift), power
    size, power = row(_name, _POWER)(value)
    return Atom(size), power


def _monomial(value: Any) -> Monomial:
    factors = tuple(sorted(listed(_factor)(value)))
    if len(dict(factors)) < len(factors):
        raise Misread("has the same factor twice")
    if sum(power for _, power in factors) > _DEGREE:
        raise Misread(f"is of a degree above {_DEGREE}")
    return factors


def _polynomial(value: Any) -> Polynomial:
    addends = listed(record(lambda powers, coefficient: (powers, coefficient), _ADDEND))(value)
    if len({monomial for monomial, _ in addends}) < len(addends):
        raise Misread("has the same powers twice")
    return Polynomial(dict(addends))


_ADDEND: Mapping[str, Reader[Any]] = {"powers": _monomial, "coefficient": _coefficient}
_QUANTITY = row(text, text, text, one_of((*PHASES, PARAMETERS), "phase"), text, whole(most=_MOST))


def _law_of(schema: str, sizes: Any, laws: Any, terms: Any, checked: Any, **fields: Any) -> Law:
    for name in ("unit", "total_flops"):
        fields.pop(name, None)
    convention, base = fields["convention"], {name: each.at for name, each in sizes.items()}
    known = {*weights(convention), "elements"}
    for i, law in enumerate(laws):
        if others := law.sizes - sizes.keys():
            raise Misread(f"speaks of {format_data(min(others))}, which is none of the sizes", f".laws[{i}]")
        if not isinstance(at_base := law(base), int) or at_base < 0:
            raise Misread(f"is {format_data(str(at_base))} at the sizes' own values, no count", f".laws[{i}]")
    for i, point in enumerate(checked):
        if point.keys() != sizes.keys():
            raise Misread("has not the sizes of the law", f".checked[{i}]")
    named: dict[Quantity, Polynomial] = {}
    for i, (*names, position) in enumerate(terms):
        quantity = Quantity(*names)
        if position >= len(laws):
            raise Misread(f"is {position}, and there are {len(laws)} laws", f".terms[{i}][5]")
        if quantity.kind not in known or (quantity.kind == "elements") != (quantity.phase == PARAMETERS):
            raise Misread(f"is {format_data(quantity.kind)}, no kind of number in {quantity.phase}", f".terms[{i}][4]")
        if quantity in named:
            raise Misread("is there a second time", f".terms[{i}]")
        named[quantity] = laws[position]
    return Law(sizes=sizes, terms=named, checked=checked, **fields)


_law: Reader[Law] = record(
    _law_of,
    {
        "schema": text,
        "convention": read_data,
        "model": text,
        "sizes": mapped(
            _name,
            record(_range_of, {"of": whole(1, _MOST), "at": whole(1, _MOST)}, {"most": nullable(whole(1, _MOST))}),
        ),
        "laws": listed(_polynomial),
        "terms": listed(_QUANTITY),
        "traces": whole(),
        "checked": listed(mapped(_name, whole(1, _MOST))),
        "refused": listed(text),
        "unknown": listed(text),
    },
    {"unit": text, "total_flops": text},
)
