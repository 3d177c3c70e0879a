"""Decompositions and solvers, by the leading terms of Golub & Van Loan, Matrix Computations; thirds rounded down.

What a decomposition does inside are single operations, so it stands in elementwise; macs are the matrix products that
PyTorch runs as such, which are those of gradients. A complex operation counts as four. A gradient that depends on which
of several results is used (of QR, SVD, LU, eigenvalues and eigenvectors) has no price here, and is reported as unknown.
"""

from __future__ import annotations

from typing import Any

import torch

from graphflops.costs import NOTHING, Cost, Work
from graphflops.laws import least, multiply_adds
from graphflops.rulebook import rule
from graphflops.sizes import Size, Spec, prod

aten = torch.ops.aten


@rule(aten.linalg_lu_factor_ex, aten.linalg_lu)
def lu(A: Spec) -> Cost:
    """P·A = L·U by elimination: 2/3·n³; of m × n with k = min(m, n), 2·m·n·k − (m + n)·k² + 2/3·k³."""
    return Cost(_eliminated(A))


@rule(aten._linalg_det)
def det(A: Spec) -> Cost:
    """The product of LU's diagonal: 2/3·n³ + n. Backward det·A⁻ᵀ·g, solved by the factors: 2·n³."""
    return Cost(_eliminated(A) + _each(A, A.shape[-1]), {"A": _each(A, 2 * A.shape[-1] ** 3)})


@rule(aten._linalg_slogdet)
def slogdet(A: Spec) -> Cost:
    """As ``det``, with a logarithm for each element of the diagonal."""
    logs = Work(transcendental=prod(A.shape[:-1]))
    return Cost(_eliminated(A) + _each(A, A.shape[-1]) + logs, {"A": _each(A, 2 * A.shape[-1] ** 3)})


@rule(aten.linalg_inv_ex)
def inverse(A: Spec) -> Cost:
    """A⁻¹: 2·n³. Backward −A⁻ᵀ·g·A⁻ᵀ, two matrix products and a sign."""
    n = A.shape[-1]
    back = multiply_adds(2 * n * A.numel, A) + _signs(A)
    return Cost(_each(A, 2 * n**3), {"A": back})


@rule(aten._linalg_solve_ex)
def solve(A: Spec, B: Spec, out: tuple[Spec, ...]) -> Cost:
    """X = A⁻¹·B for r columns: LU, then two triangular systems, 2/3·n³ + 2·n²·r. Backward one more solve by the factors
    for B, and −gB·Xᵀ for A, a matrix product.
    """
    x = out[0]
    solved = _times(2 * A.shape[-1] * x.numel, A)
    product = multiply_adds(A.shape[-1] * x.numel, A) + _signs(A)
    return Cost(_eliminated(A) + solved, {"A|B": solved, "A": product, "B": NOTHING})


@rule(aten.linalg_lu_solve)
def lu_solve(LU: Spec, out: Spec) -> Cost:
    """Two triangular systems for each of r columns: 2·n²·r, and again for the gradient of B."""
    solved = _times(2 * LU.shape[-1] * out.numel, LU)
    return Cost(solved, {"B": solved})


@rule(aten.linalg_solve_triangular)
def solve_triangular(self: Spec, B: Spec, out: Spec, left: bool = True) -> Cost:
    """n²·r for r columns (or rows). Backward one more for B, and −gB·Xᵀ for the triangle: a product and a sign."""
    solved = _times(self.shape[-1] * out.numel, self)
    product = multiply_adds(self.shape[-1] * out.numel, self) + _signs(self)
    return Cost(solved, {"self|B": solved, "self": product, "B": NOTHING})


@rule(aten.linalg_cholesky_ex)
def cholesky(self: Spec) -> Cost:
    """A = L·Lᵀ: 1/3·n³. Backward L⁻ᵀ·Φ(Lᵀ·g)·L⁻¹: a matrix product and two triangular systems of n columns."""
    n = self.shape[-1]
    return Cost(_each(self, n**3 // 3), {"self": multiply_adds(n * self.numel, self) + _each(self, 2 * n**3)})


@rule(aten.cholesky_solve)
def cholesky_solve(input2: Spec, out: Spec) -> Cost:
    """Two triangular systems for each of r columns: 2·n²·r, and again for the gradient of the right-hand side."""
    solved = _times(2 * input2.shape[-1] * out.numel, out)
    return Cost(solved, {"self": solved})


@rule(aten.cholesky_inverse)
def cholesky_inverse(self: Spec) -> Cost:
    """A⁻¹ from its factor: L⁻¹ at 1/3·n³, and L⁻ᵀ·L⁻¹ at as much."""
    return Cost(_each(self, 2 * self.shape[-1] ** 3 // 3))


@rule(aten.linalg_qr)
def qr(A: Spec, mode: str, out: tuple[Any, ...]) -> Cost:
    """Householder reflections, 2·m·n² − 2/3·n³ for m ≥ n, else the same of Aᵀ; then Q is made of them.

    With c columns Q costs 4·m·c·k − 2·(m + c)·k² + 4/3·k³, which is once more the first term if Q has but k columns.
    """
    m, n = A.shape[-2:]
    k = least(m, n)
    reflections = _each(A, 2 * (m + n - k) * k**2 - 2 * k**3 // 3)
    if mode == "r":
        return Cost(reflections)
    c = m if mode == "complete" else k
    return Cost(reflections + _each(A, 4 * m * c * k - 2 * (m + c) * k**2 + 4 * k**3 // 3))


@rule(aten._linalg_svd)
def svd(A: Spec, compute_uv: bool) -> Cost:
    """Golub & Reinsch, m ≥ n: 14·m·n² + 8·n³ with the vectors, 4·m·n² − 4/3·n³ for the values alone."""
    m, n = A.shape[-2:]
    k = least(m, n)
    longer = m + n - k
    return Cost(_each(A, 14 * longer * k**2 + 8 * k**3 if compute_uv else 4 * longer * k**2 - 4 * k**3 // 3))


@rule(aten._linalg_eigh)
def eigh(A: Spec, compute_v: bool) -> Cost:
    """The symmetric QR algorithm: 9·n³ with the vectors, 4/3·n³ for the values alone."""
    n = A.shape[-1]
    return Cost(_each(A, 9 * n**3 if compute_v else 4 * n**3 // 3))


@rule(aten.linalg_eig)
def eig(self: Spec) -> Cost:
    """The QR algorithm with the vectors: 25·n³."""
    return Cost(_each(self, 25 * self.shape[-1] ** 3))


@rule(aten._linalg_eigvals)
def eigvals(self: Spec) -> Cost:
    """The QR algorithm for the values alone: 10·n³."""
    return Cost(_each(self, 10 * self.shape[-1] ** 3))


def _eliminated(matrix: Spec) -> Work:
    m, n = matrix.shape[-2:]
    k = least(m, n)
    return _each(matrix, 2 * m * n * k - (m + n) * k**2 + 2 * k**3 // 3)


def _each(matrix: Spec, operations: Size) -> Work:
    """Operations for each matrix of a batch."""
    return _times(prod(matrix.shape[:-2]) * operations, matrix)


def _times(operations: Size, of: Spec) -> Work:
    return Work(elementwise=operations * (4 if of.is_complex else 1))


def _signs(matrix: Spec) -> Work:
    return Work(elementwise=matrix.numel * (2 if matrix.is_complex else 1))
