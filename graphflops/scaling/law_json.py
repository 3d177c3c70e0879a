"""A Law as JSON and back: monomials and coefficients as data, never as code."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from graphflops.conventions import as_data, from_data
from graphflops.files import read_whole
from graphflops.scaling.notation import written
from graphflops.scaling.observation import Quantity
from graphflops.scaling.polynomials import Atom, Monomial, Polynomial
from graphflops.scaling.ranges import Multiples
from graphflops.scaling.record import Law

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
    return read_whole(path, "law", [SCHEMA], _law)


def _law(data: dict[str, Any]) -> Law:
    laws = [Polynomial(dict(_read(each) for each in terms)) for terms in data["laws"]]
    return Law(
        model=data["model"],
        sizes={name: Multiples(**each) for name, each in data["sizes"].items()},
        terms={Quantity(*names): laws[i] for *names, i in data["terms"]},
        convention=from_data(data["convention"]),
        traces=data["traces"],
        checked=tuple(data["checked"]),
        refused=tuple(data["refused"]),
        unknown=tuple(data["unknown"]),
    )


def _plain(monomial: Monomial, coefficient: Fraction) -> dict[str, Any]:
    return {
        "coefficient": coefficient.numerator if coefficient.denominator == 1 else str(coefficient),
        "powers": [
            [atom.size, power, *((atom.step, atom.shift) if atom != Atom(atom.size) else ())]
            for atom, power in monomial
        ],
    }


def _read(data: dict[str, Any]) -> tuple[Monomial, Fraction]:
    factors = ((Atom(size, *map(int, floor)), int(power)) for size, power, *floor in data["powers"])
    return tuple(sorted(factors)), Fraction(data["coefficient"])
