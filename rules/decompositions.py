"""Decompositions and solvers, by the leading terms of Golub & Van Loan, Matrix Computations; thirds rounded down.

The scalar operations of a decomposition are elementwise; macs are the matrix products that PyTorch dispatches, all of
them in gradients. A complex operation counts as four.

The gradient of a decomposition depends on ``grad_outputs``, the indices of the outputs that have a gradient. Its matrix
products are exact; of the rest, triangular systems are counted, and work done once for each element is left out. The
formulas are autograd's: Giles, An extended collection of matrix
derivative results (2008); Walter & Lehmann, Algorithmic differentiation of the QR decomposition (2010).
"""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Spec, prod, size_min
from graphflops.rules.rule import rule
from graphflops.rules.templates import multiply_adds

_Q, _R = 0, 1
_U_OF_SVD, _VH = 0, 2
_VECTORS = 1
_L, _U = 1, 2


@rule(aten.linalg_lu)
def lu(A: Spec, grad_outputs: frozenset[int], pivot: bool = True) -> Cost:
    """P·A = L·U by elimination: 2/3·n³; of m × n with k = min(m, n), 2·m·n·k − (m + n)·k² + 2/3·k³.

    Backward P·L⁻ᴴ·(tril(Lᴴ·gL) + triu(gU·Uᴴ))·U⁻ᴴ: a product for each of L and U that is used, one with P if rows were
    exchanged, and two triangular systems.
    """
    m, n = A.shape[-2:]
    k = size_min(m, n)
    products: Size = m * m * n if pivot else 0
    if _L in grad_outputs:
        products = products + m * k**2
    if _U in grad_outputs:
        products = products + n * k**2
    return Cost(_elimination(A), {"A": _products(A, products) + _each(A, (m + n) * k**2)})


@rule(aten.linalg_lu_factor_ex)
def lu_factor(A: Spec, pivot: bool = True) -> Cost:
    """As ``lu``, both factors in one matrix, so that backward both are used."""
    return lu(A, frozenset((_L, _U)), pivot)


@rule(aten._linalg_det)
def det(A: Spec) -> Cost:
    """The product of LU's diagonal: 2/3·n³ + n. Backward det·A⁻ᵀ·g, solved by the factors: 2·n³."""
    return Cost(_elimination(A) + _each(A, A.shape[-1]), {"A": _each(A, 2 * A.shape[-1] ** 3)})


@rule(aten._linalg_slogdet)
def slogdet(A: Spec) -> Cost:
    """As ``det``, with a logarithm for each element of the diagonal."""
    logs = Work(transcendental=prod(A.shape[:-1]))
    return Cost(_elimination(A) + _each(A, A.shape[-1]) + logs, {"A": _each(A, 2 * A.shape[-1] ** 3)})


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
    return Cost(_elimination(A) + solved, {"A|B": solved, "A": product, "B": ZERO})


@rule(aten.linalg_lu_solve)
def lu_solve(LU: Spec, out: Spec, left: bool = True, adjoint: bool = False) -> Cost:
    """Two triangular systems for each of r columns: 2·n²·r, and again for the gradient of B.

    That of the factors is −gB·Xᴴ brought to L and to U: a product of n²·r, one of n³ with a factor, both once more
    where rows are exchanged on the way, and two triangular systems of n columns.
    """
    n = LU.shape[-1]
    solved = _times(2 * n * out.numel, LU)
    products = n * out.numel + prod(LU.shape[:-2]) * n**3
    if left == adjoint:
        products = 2 * products
    return Cost(solved, {"B": solved, "LU": multiply_adds(products, LU) + _each(LU, 2 * n**3)})


@rule(aten.linalg_solve_triangular)
def solve_triangular(self: Spec, B: Spec, out: Spec, left: bool = True) -> Cost:
    """n²·r for r columns (or rows). Backward one more for B, and −gB·Xᵀ for the triangle: a product and a sign."""
    solved = _times(self.shape[-1] * out.numel, self)
    product = multiply_adds(self.shape[-1] * out.numel, self) + _signs(self)
    return Cost(solved, {"self|B": solved, "self": product, "B": ZERO})


@rule(aten.linalg_cholesky_ex, aten.cholesky)
def cholesky(self: Spec) -> Cost:
    """A = L·Lᵀ: 1/3·n³. Backward L⁻ᵀ·Φ(Lᵀ·g)·L⁻¹: a matrix product and two triangular systems of n columns."""
    n = self.shape[-1]
    return Cost(_each(self, n**3 // 3), {"self": multiply_adds(n * self.numel, self) + _each(self, 2 * n**3)})


@rule(aten.cholesky_solve)
def cholesky_solve(input2: Spec, out: Spec) -> Cost:
    """Two triangular systems for each of r columns: 2·n²·r, and again for the gradient gB of the right-hand side.

    That of the factor is −(gB·Xᴴ + X·gBᴴ)·L, two matrix products.
    """
    n = input2.shape[-1]
    solved = _times(2 * n * out.numel, out)
    products = multiply_adds(n * out.numel + n * input2.numel, out)
    return Cost(solved, {"self|input2": solved, "self": ZERO, "input2": products})


@rule(aten.cholesky_inverse)
def cholesky_inverse(self: Spec) -> Cost:
    """A⁻¹ from its factor: L⁻¹ at 1/3·n³, and L⁻ᵀ·L⁻¹ at as much. Backward −A⁻¹·(g + gᴴ)·A⁻¹·L, three products."""
    n = self.shape[-1]
    return Cost(_each(self, 2 * n**3 // 3), {"self": _products(self, 3 * n**3)})


@rule(aten.linalg_qr)
def qr(A: Spec, mode: str, grad_outputs: frozenset[int]) -> Cost:
    """Householder reflections, 2·m·n² − 2/3·n³ for m ≥ n, else the same of Aᵀ; then Q is made of them.

    With c columns Q costs 4·m·c·k − 2·(m + c)·k² + 4/3·k³, which is once more the first term if Q has but k columns.

    Backward (gQ + Q·(…))·R⁻ᴴ: Qᴴ·gQ if Q is used, gR·Rᴴ if R is, the product with Q, and a triangular system. Where A
    is wider than high, Q·gR is one more.
    """
    m, n = A.shape[-2:]
    k = size_min(m, n)
    reflections = _each(A, 2 * (m + n - k) * k**2 - 2 * k**3 // 3)
    if mode == "r":
        return Cost(reflections)
    products: Size = m * k**2
    if _Q in grad_outputs:
        products = products + m * k**2
    if _R in grad_outputs:
        products = products + n * k**2 + _is_positive(n - k) * m * k * n
    c = m if mode == "complete" else k
    operations = _each(A, 4 * m * c * k - 2 * (m + c) * k**2 + 4 * k**3 // 3)
    return Cost(reflections + operations, {"A": _products(A, products) + _each(A, m * k**2)})


@rule(aten._linalg_svd)
def svd(A: Spec, compute_uv: bool, grad_outputs: frozenset[int]) -> Cost:
    """Golub & Reinsch, m ≥ n: 14·m·n² + 8·n³ with the vectors, 4·m·n² − 4/3·n³ for the values alone.

    Backward U·(…)·Vᴴ: one product of m·n·k if only the values are used. Else Uᴴ·gU and Vᴴ·gV, as far as they are used,
    and U or Vᴴ times a small matrix; and two more for what of gU is orthogonal to a U higher than wide, or so of V.
    """
    m, n = A.shape[-2:]
    k = size_min(m, n)
    longer = m + n - k
    forward = _each(A, 14 * longer * k**2 + 8 * k**3 if compute_uv else 4 * longer * k**2 - 4 * k**3 // 3)
    products: Size = m * n * k
    if grad_outputs & {_U_OF_SVD, _VH}:
        products = products + k**3
    if _U_OF_SVD in grad_outputs:
        products = products + m * k**2 + _is_positive(m - k) * (3 * m - k) * k**2
    if _VH in grad_outputs:
        products = products + n * k**2 + _is_positive(n - k) * (3 * n - k) * k**2
    return Cost(forward, {"A": _products(A, products)})


@rule(aten._linalg_eigh)
def eigh(A: Spec, compute_v: bool, grad_outputs: frozenset[int]) -> Cost:
    """The symmetric QR algorithm: 9·n³ with the vectors, 4/3·n³ for the values alone.

    Backward V·diag(g)·Vᴴ, one product, if only the values are used; with the vectors V·(Vᴴ·gV …)·Vᴴ, three.
    """
    n = A.shape[-1]
    products = 3 * n**3 if _VECTORS in grad_outputs else n**3
    return Cost(_each(A, 9 * n**3 if compute_v else 4 * n**3 // 3), {"A": _products(A, products)})


@rule(aten.linalg_eig)
def eig(self: Spec, out: tuple[Spec, ...], grad_outputs: frozenset[int]) -> Cost:
    """The QR algorithm with the vectors: 25·n³.

    Backward V⁻ᴴ·(…)·Vᴴ in complex numbers: a system of n columns, and three products if the vectors are used.
    """
    n, vectors = self.shape[-1], out[_VECTORS]
    products = _products(vectors, 3 * n**3) if _VECTORS in grad_outputs else ZERO
    solved = _elimination(vectors) + _each(vectors, 2 * n**3)
    return Cost(_each(self, 25 * n**3), {"self": products + solved})


@rule(aten._linalg_eigvals)
def eigvals(self: Spec) -> Cost:
    """The QR algorithm for the values alone: 10·n³."""
    return Cost(_each(self, 10 * self.shape[-1] ** 3))


@rule(aten.linalg_pinv)
def pinv(self: Spec, hermitian: bool = False) -> Cost:
    """V·S⁻¹·Uᴴ: a singular value decomposition (of a Hermitian matrix its eigenvectors), and a product of 2·m·n·k.

    Backward eight products, by Golub & Pereyra: 4·m·n·(m + k) multiply-adds.
    """
    m, n = self.shape[-2:]
    k = size_min(m, n)
    operations = 9 * n**3 if hermitian else 14 * (m + n - k) * k**2 + 8 * k**3
    return Cost(_each(self, operations + 2 * m * n * k), {"self": _products(self, 4 * m * n * (m + k))})


def _least_squares(self: Spec, b: Spec) -> tuple[Spec, ...]:
    n, batch = self.shape[-1], self.shape[:-2]
    solution = (*batch, n, *b.shape[len(batch) + 1 :])
    return Spec(solution, self.dtype), Spec((0,), self.dtype), Spec(batch, "int64"), Spec((0,), self.dtype)


@rule(aten.linalg_lstsq, outputs=_least_squares)
def lstsq(self: Spec, b: Spec, out: tuple[Spec, ...]) -> Cost:
    """min |A·X − B| by Householder reflections, 2·m·n² − 2/3·n³ for m ≥ n, then Qᴴ·B and a triangular system for r
    columns, 4·m·n·r − n²·r.

    Backward by the pseudoinverse A⁺: for B the product (A⁺)ᴴ·gX; for A the product gX·Bᴴ, and the gradient of ``pinv``.
    The decomposition that makes A⁺ is counted for either. Residuals and singular values, which data decides if they are
    there, are described as empty.
    """
    m, n = self.shape[-2:]
    k = size_min(m, n)
    r = prod(b.shape[len(self.shape) - 1 :])
    forward = _each(self, 2 * (m + n - k) * k**2 - 2 * k**3 // 3 + (4 * m + 4 * n - 5 * k) * k * r)
    inverse = pinv(self)
    product = _products(self, m * n * r)
    return Cost(forward, {"self|b": inverse.forward, "self": product + inverse.grads["self"], "b": product})


@rule(aten.linalg_matrix_exp)
def matrix_exp(self: Spec) -> Cost:
    """Taylor's polynomial of degree 18 in five products of 2·n³ (Bader, Blanes & Casas 2019).

    Data decides what is left out: a product less or two for a small norm, one more for each halving of a large one.
    Backward the exponential of a matrix of twice the size: eight times as much.
    """
    powers = _each(self, 5 * 2 * self.shape[-1] ** 3)
    return Cost(powers, {"self": 8 * powers})


@rule(aten.geqrf)
def geqrf(self: Spec) -> Cost:
    """Householder reflections: 2·m·n² − 2/3·n³ for m ≥ n; PyTorch has no gradient of them."""
    m, n = self.shape[-2:]
    k = size_min(m, n)
    return Cost(_each(self, 2 * (m + n - k) * k**2 - 2 * k**3 // 3))


@rule(aten.linalg_householder_product)
def householder_product(input: Spec, tau: Spec) -> Cost:
    """k reflections of m rows into n columns: 4·m·n·k − 2·(m + n)·k² + 4/3·k³.

    Backward, for both at once, Q·gᴴ, and then each reflection is taken from it on either side.
    """
    (m, n), k = input.shape[-2:], tau.shape[-1]
    back = m * m * n + _reflected_back(m, k, last_first=False)
    operations = 4 * m * n * k - 2 * (m + n) * k**2 + 4 * k**3 // 3
    return Cost(_each(input, operations), {"input|tau": _products(input, back)})


@rule(aten.ormqr)
def ormqr(self: Spec, input2: Spec, input3: Spec, left: bool = True, transpose: bool = False) -> Cost:
    """k reflections on c columns of m rows: 4·m·c·k − 2·c·k². Backward as much for the columns; for the reflections a
    product of m·c·m, and then each is taken from it on either side.
    """
    m, k = self.shape[-2], input2.shape[-1]
    columns = input3.shape[-1] if left else input3.shape[-2]
    applied = _each(self, 4 * m * columns * k - 2 * columns * k**2)
    back = m * m * columns + _reflected_back(m, k, last_first=left == transpose)
    return Cost(applied, {"input3": applied, "self|input2": _products(self, back)})


@rule(aten.linalg_ldl_factor_ex)
def ldl_factor(self: Spec) -> Cost:
    """A = L·D·Lᵀ of a symmetric matrix: 1/3·n³; PyTorch has no gradient of it."""
    return Cost(_each(self, self.shape[-1] ** 3 // 3))


@rule(aten.linalg_ldl_solve)
def ldl_solve(LD: Spec, out: Spec) -> Cost:
    """Two triangular systems for each of r columns: 2·n²·r; PyTorch has no gradient of it."""
    return Cost(_times(2 * LD.shape[-1] * out.numel, LD))


def _reflected_back(m: Size, k: Size, *, last_first: bool) -> Size:
    """Multiply-adds of taking k reflections from a matrix of m × m, the i-th of which is m − i long.

    Three products with the matrix each, one of two vectors, and one more product on the way to the next.
    """
    lengths = k * m - k * (k - 1) // 2
    return (3 * m + 1) * lengths + m * (lengths - m if last_first else lengths - (m - k + 1))


def _is_positive(size: Size) -> Size:
    """1 of a size above 0, else 0; of a symbol as a formula."""
    return size_min(1, size)


def _products(matrix: Spec, count: Size) -> Work:
    """Multiply-adds for each matrix of a batch."""
    return multiply_adds(prod(matrix.shape[:-2]) * count, matrix)


def _elimination(matrix: Spec) -> Work:
    m, n = matrix.shape[-2:]
    k = size_min(m, n)
    return _each(matrix, 2 * m * n * k - (m + n) * k**2 + 2 * k**3 // 3)


def _each(matrix: Spec, operations: Size) -> Work:
    """Operations for each matrix of a batch."""
    return _times(prod(matrix.shape[:-2]) * operations, matrix)


def _times(operations: Size, of: Spec) -> Work:
    return Work(elementwise=operations * (4 if of.is_complex else 1))


def _signs(matrix: Spec) -> Work:
    return Work(elementwise=matrix.numel * (2 if matrix.is_complex else 1))
