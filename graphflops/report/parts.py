"""The parts of a report: plain records, without queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from graphflops.core.entries import Entry, Unknown
from graphflops.core.rate import Rate
from graphflops.core.units import percent


@dataclass(frozen=True, slots=True)
class CoverageBy:
    """A quantity of the graph (output elements or bytes) by the coverage of its ops."""

    counted: int = 0
    zero: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """Sum of the three."""
        return self.counted + self.zero + self.unknown


@dataclass(frozen=True, slots=True)
class Coverage:
    """Number of ops with FLOPs (``counted``), free by their rule (``zero``), and unsupported (``unknown``)."""

    counted: int
    zero: int
    unknown: int
    elements: CoverageBy = CoverageBy()
    nbytes: CoverageBy = CoverageBy()

    @property
    def ops(self) -> int:
        """All ops: each is exactly one of the three."""
        return self.counted + self.zero + self.unknown

    def __str__(self) -> str:
        text = f"{self.ops} ops, {self.counted} counted, {self.zero} free (views, casts), {self.unknown} unsupported"
        if self.unknown:
            elements = percent(self.elements.unknown, self.elements.total)
            text += f" ({elements} of output elements, {percent(self.nbytes.unknown, self.nbytes.total)} of bytes)"
        return text


class Bounds(NamedTuple):
    """Lower and upper bound of FLOPs that depend on data."""

    lower: int
    upper: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The analysed model and its inputs."""

    name: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, int]
    """parameter name → number of elements; tied parameters once"""
    trainable: frozenset[str]
    modules: Mapping[str, str]
    """module path → class name"""
    called: frozenset[str]
    """paths of the modules that ran"""
    optimizer: str | None = None
    output_shapes: Mapping[str, str] = field(default_factory=dict)
    """module path → dtypes and shapes of its result, at its last call: ``float32[8, 64, 112, 112]``"""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of all that decides a number beside the model; empty in reports of older versions."""

    graphflops: str = ""
    torch: str = ""
    rules: Mapping[str, str] = field(default_factory=dict)
    """file of rules that were applied → hash of its content"""


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost entries of the ops, the unsupported ops, and the rates that the entries are counted at."""

    entries: Sequence[Entry]
    unknown: tuple[Unknown, ...] = ()
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """module path or operator → rate, as given"""
    routed_modules: Mapping[str, Fraction] = field(default_factory=dict)
    """path of each module whose input rows depend on data → share of the rows that is counted"""
    versions: Versions = field(default_factory=Versions, compare=False)


@dataclass(frozen=True, slots=True)
class Notes:
    """Messages about an analysis."""

    warnings: tuple[str, ...] = ()
    """rules that were left out and ops that were not expanded, with the reason"""
    capture: tuple[str, ...] = ()
    """how the graph was captured, and calls that were described by their rule instead of run"""
    assumptions: tuple[str, ...] = ()
    """assumptions where the graph depends on data, each with its source line"""
