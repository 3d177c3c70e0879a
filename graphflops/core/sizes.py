"""Size and Spec: how big things are, as exact integers or as symbols. The only place that knows SymInt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import sympy

Size: TypeAlias = "int | sympy.Expr"
Sizes: TypeAlias = "tuple[Size, ...]"


def prod(sizes: Iterable[Size]) -> Size:
    """The product of sizes; 1 for none.

    >>> prod((32, 128, 64))
    262144
    """
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def size_min(a: Size, b: Size) -> Size:
    """The smaller of two sizes, as a formula if one is a symbol."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    import sympy

    smaller: Size = sympy.Min(a, b)
    return smaller


def size_max(a: Size, b: Size) -> Size:
    """The larger of two sizes, as a formula if one is a symbol."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    import sympy

    larger: Size = sympy.Max(a, b)
    return larger


def as_size(value: Any) -> Size:
    """A dimension as PyTorch gives it (``int`` or ``SymInt``) as a Size."""
    if isinstance(value, int):
        return value
    expression: Size = value.node.expr
    return expression


@dataclass(frozen=True, slots=True)
class Spec:
    """What a rule sees of a tensor: its shape and the name of its dtype, never its values."""

    shape: Sizes
    dtype: str = "float32"
    stored: Size | None = None
    """how many numbers a sparse matrix holds, or a mask of attention lets through; None of what is dense or unknown"""

    @property
    def numel(self) -> Size:
        """The number of elements."""
        return prod(self.shape)

    @property
    def held(self) -> Size:
        """The number of elements that are there: those that a sparse matrix holds or a mask lets through, else all."""
        return self.numel if self.stored is None else self.stored

    @property
    def is_complex(self) -> bool:
        """Whether an element is a complex number."""
        return self.dtype.startswith("complex")

    @property
    def is_floating(self) -> bool:
        """Whether an element is a real or complex floating-point number, so that a gradient can exist."""
        return self.is_complex or "float" in self.dtype

    @property
    def nbytes(self) -> Size:
        """How many bytes the elements take, by the width that the dtype's name says; a bool takes one."""
        bits = re.search(r"\d+", self.dtype)
        return self.numel * (int(bits.group()) // 8 if bits else int(self.dtype == "bool"))

    def __str__(self) -> str:
        sparse = "" if self.stored is None else f" of which {self.stored} are stored"
        return f"{self.dtype}({', '.join(map(str, self.shape))}){sparse}"


def spec(*shape: Size, dtype: str = "float32") -> Spec:
    """A Spec in few letters, for tests and notebooks.

    >>> spec(32, 512).numel
    16384
    """
    return Spec(tuple(shape), dtype)
