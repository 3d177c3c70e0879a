"""Size and Spec: shapes of tensors, in exact integers or symbols."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from graphflops.core.retired import renamed

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
    """A dimension (``int`` or ``SymInt``) as a Size."""
    if isinstance(value, int):
        return value
    expression: Size = value.node.expr
    return expression


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape and dtype of a tensor, without values: the type of a rule's arguments."""

    shape: Sizes
    dtype: str = "float32"
    nnz: Size | None = None
    """number of stored elements of a sparse matrix, or of ones in an attention mask; None if dense or unknown"""

    stored, held = renamed("nnz"), renamed("effective_numel")

    @property
    def numel(self) -> Size:
        """Number of elements."""
        return prod(self.shape)

    @property
    def effective_numel(self) -> Size:
        """``nnz`` if it is known, else ``numel``."""
        return self.numel if self.nnz is None else self.nnz

    @property
    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return self.dtype.startswith("complex")

    @property
    def is_floating(self) -> bool:
        """Whether the dtype is floating-point or complex, so that a gradient can exist."""
        return self.is_complex or "float" in self.dtype

    @property
    def nbytes(self) -> Size:
        """Bytes of the elements, by the width in the name of the dtype; a bool takes one."""
        bits = re.search(r"\d+", self.dtype)
        return self.numel * (int(bits.group()) // 8 if bits else int(self.dtype == "bool"))

    def __str__(self) -> str:
        sparse = "" if self.nnz is None else f" of which {self.nnz} are stored"
        return f"{self.dtype}({', '.join(map(str, self.shape))}){sparse}"


def spec(*shape: Size, dtype: str = "float32") -> Spec:
    """A Spec from sizes, for tests and notebooks.

    >>> spec(32, 512).numel
    16384
    """
    return Spec(tuple(shape), dtype)
