"""The functions of sizes of which laws are polynomials: sizes, floors, logarithms, and steps that begin a piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy


class Factor:
    """A function of sizes, a factor of monomials; factors have an order, so that equal polynomials are equal data."""

    __slots__ = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """By which factors are sorted: sizes, kind, numbers."""
        raise NotImplementedError

    @property
    def sizes(self) -> frozenset[str]:
        """The names of the sizes."""
        raise NotImplementedError

    @property
    def parts(self) -> frozenset[Factor]:
        """The factor itself, or those inside of a maximum or minimum."""
        return frozenset((self,))

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value at some sizes."""
        raise NotImplementedError

    def map(self, function: Callable[[Any], Any]) -> Any:
        """A maximum or minimum with a function of each member."""
        raise NotImplementedError

    def as_sympy(self) -> sympy.Expr:
        """The factor in sympy, in symbols that are positive integers."""
        raise NotImplementedError

    def __lt__(self, other: Factor) -> bool:
        return self.key < other.key


@dataclass(frozen=True, slots=True)
class FactorOfSize(Factor):
    """A function of one size."""

    size: str

    @property
    def sizes(self) -> frozenset[str]:
        """The size."""
        return frozenset((self.size,))

    @property
    def symbol(self) -> sympy.Symbol:
        """The size in sympy."""
        import sympy

        return sympy.Symbol(self.size, integer=True, positive=True)

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value at some sizes."""
        return self.at(sizes[self.size])

    def at(self, value: int) -> int:
        """The value where the size has this value."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Atom(FactorOfSize):
    """⌊(size + shift) / step⌋; the size itself, if step is 1 and shift 0.

    >>> Atom("N", 32, 31).evaluate({"N": 33})
    2
    """

    step: int = 1
    shift: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        """By which factors are sorted."""
        return (self.size,), 0, self.step, self.shift

    def at(self, value: int) -> int:
        """The value where the size has this value."""
        return (value + self.shift) // self.step

    def as_sympy(self) -> sympy.Expr:
        """The floor in sympy."""
        import sympy

        return self.symbol if self == Atom(self.size) else sympy.floor((self.symbol + self.shift) / self.step)


@dataclass(frozen=True, slots=True)
class Log2(FactorOfSize):
    """⌈log₂(size + shift)⌉, the number of stages of a fast Fourier transform or of a search.

    >>> [Log2("N").at(n) for n in (1, 2, 3, 1024, 1025)]
    [0, 1, 2, 10, 11]
    """

    shift: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        """By which factors are sorted."""
        return (self.size,), 1, self.shift

    def at(self, value: int) -> int:
        """The value where the size has this value."""
        return (value + self.shift - 1).bit_length()

    def as_sympy(self) -> sympy.Expr:
        """The logarithm in sympy."""
        import sympy

        return sympy.ceiling(sympy.log(self.symbol + self.shift, 2))


@dataclass(frozen=True, slots=True)
class AtLeast(FactorOfSize):
    """1 where the size is at least a value, else 0: a piece of a law begins there.

    >>> [AtLeast("N", 700).at(n) for n in (699, 700)]
    [0, 1]
    """

    value: int

    @property
    def key(self) -> tuple[Any, ...]:
        """By which factors are sorted."""
        return (self.size,), 2, self.value

    def at(self, value: int) -> int:
        """The value where the size has this value."""
        return int(value >= self.value)

    def as_sympy(self) -> sympy.Expr:
        """The step in sympy."""
        import sympy

        return sympy.Piecewise((1, self.symbol >= self.value), (0, True))
