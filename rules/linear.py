"""Matrix products: linear layers, matmul in all its forms. A multiply-add is one mac."""

from __future__ import annotations

from typing import Any

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.errors import NotSupported
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Spec, prod
from graphflops.rules.rule import rule
from graphflops.rules.templates import additions, gradient, multiplications, multiply_adds, sum_to_size


@rule(aten.linear)
def linear(input: Spec, weight: Spec, out: Spec, bias: Spec | None = None) -> Cost:
    """y = x·Wᵀ + b. The bias is the first addend of each sum, so forward it costs nothing.

    >>> from graphflops import spec
    >>> linear(spec(32, 512), spec(1024, 512), spec(32, 1024)).forward
    Work(macs=16777216)
    """
    macs = multiply_adds(out.numel * weight.shape[-1], out)
    grads = {"input": macs, "weight": macs, "bias": Work(accumulate=out.numel)}
    if len(weight.shape) == 1:  # a vector: y is a number for each row, as in mv and dot
        grads["input"] = multiplications(input.numel, input)
        if len(input.shape) == 1:
            grads["weight"] = grads["input"]
    return Cost(macs, grads)


@rule(aten.mm, aten.bmm)
def mm(self: Spec, mat2: Spec, out: Spec) -> Cost:
    """C = A·B, batched or not. dA = dC·Bᵀ and dB = Aᵀ·dC cost as much as C does.

    A stored number of a sparse matrix meets a row or a column of the other matrix; the other numbers cost nothing.
    """
    macs = multiply_adds(_met(self, mat2), out)
    return Cost(macs, {"self": macs, "mat2": macs})


@rule(aten.mv)
def mv(self: Spec, vec: Spec) -> Cost:
    """y = A·v. dv = Aᵀ·dy costs as much; dA = dy·vᵀ has no sum to add up: one multiplication an element."""
    macs = multiply_adds(self.effective_numel, self)
    return Cost(macs, {"self": multiplications(self.numel, self), "vec": macs})


@rule(aten.dot, aten.vdot)
def dot(self: Spec) -> Cost:
    """Σᵢ aᵢ·bᵢ. Each gradient is the other vector times a number: multiplications, not multiply-adds."""
    scaled = multiplications(self.numel, self)
    return Cost(multiply_adds(self.numel, self), {"self": scaled, "tensor": scaled, "other": scaled})


@rule(aten.addmm)
def addmm(self: Spec, mat1: Spec, mat2: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """β·C + α·A·B: C is the first addend of each sum. The gradient of a row for all is a bias's.

    A factor α or β that is not 1 is one multiplication an element of what it multiplies, forward and backward.
    """
    macs = multiply_adds(_met(mat1, mat2), out)
    return _added(self, out, alpha, beta, macs, mat1=(mat1, macs), mat2=(mat2, macs))


@rule(aten._sparse_addmm)
def sparse_addmm(mat1: Spec, mat2: Spec, out: Spec) -> Cost:
    """A·B of a sparse and a dense matrix, as ``mm``: torch.sparse.mm adds it to zeros."""
    macs = multiply_adds(_met(mat1, mat2), out)
    return Cost(macs, {"mat1": macs, "mat2": macs})


@rule(aten.baddbmm)
def baddbmm(self: Spec, batch1: Spec, batch2: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """As addmm, for each of the batch."""
    macs = multiply_adds(_met(batch1, batch2), out)
    return _added(self, out, alpha, beta, macs, batch1=(batch1, macs), batch2=(batch2, macs))


@rule(aten.addmv)
def addmv(self: Spec, mat: Spec, vec: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """β·c + α·A·v, as addmm; dA is one multiplication an element, as in mv."""
    macs = multiply_adds(mat.numel, mat)
    return _added(self, out, alpha, beta, macs, mat=(mat, multiplications(mat.numel, mat)), vec=(vec, macs))


@rule(aten.outer, aten.ger)
def outer(self: Spec, vec2: Spec, out: Spec) -> Cost:
    """a·bᵀ: one multiplication an element forward, and for each gradient, which is then summed over the other index."""
    product = multiplications(out.numel, out)
    return Cost(product, {"self": product + sum_to_size(out, self), "vec2": product + sum_to_size(out, vec2)})


@rule(aten.addbmm)
def addbmm(self: Spec, batch1: Spec, batch2: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """β·C + α·Σ A·B over the batch, as addmm: the batch is one more index to sum over."""
    macs = multiply_adds(batch1.numel * batch2.shape[-1], out)
    return _added(self, out, alpha, beta, macs, batch1=(batch1, macs), batch2=(batch2, macs))


@rule(aten.addr)
def addr(self: Spec, vec1: Spec, vec2: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """β·C + α·a·bᵀ: a product and a sum an element. Backward dC·b and dCᵀ·a, each a matrix by a vector.

    PyTorch may multiply by α and β also where they are 1.
    """
    macs = multiply_adds(out.numel, out)
    product = multiplications(out.numel, out) + additions(out.numel, out)
    return _added(self, out, alpha, beta, product, vec1=(vec1, macs), vec2=(vec2, macs))


@rule(aten._int_mm)
def int_mm(self: Spec, out: Spec) -> Cost:
    """C = A·B of integers: multiply-adds like any other's; no gradient."""
    return Cost(multiply_adds(out.numel * self.shape[-1], out))


@rule(aten._scaled_mm)
def scaled_mm(self: Spec, out: Spec) -> Cost:
    """C = sₐ·s_b·A·B of narrow floats: two products an element for the scales; no gradient."""
    return Cost(multiply_adds(out.numel * self.shape[-1], out) + Work(elementwise=2 * out.numel))


def _grouped_output(self: Spec, mat2: Spec, offs: Spec | None = None, out_dtype: Any = None) -> Spec:
    rows, columns = self.shape[-2], mat2.shape[-1]
    dtype = self.dtype if out_dtype is None else str(out_dtype).removeprefix("torch.")
    if len(self.shape) == len(mat2.shape):
        groups = self.shape[:-2] if offs is None else offs.shape
        return Spec((*groups, rows, columns), dtype)
    return Spec((rows, columns), dtype)


@rule(aten._grouped_mm, outputs=_grouped_output)
def grouped_mm(self: Spec, mat2: Spec) -> Cost:
    """A product for each group. Rows, columns or the index that is summed are split among groups, or there is a batch.

    The split does not matter: n·k·m in all, as if it were one product. Each gradient costs the same.
    """
    batch = self.shape[:-2] if len(mat2.shape) == 3 else ()
    macs = multiply_adds(prod(batch) * self.shape[-2] * self.shape[-1] * mat2.shape[-1], self)
    return Cost(macs, {"self": macs, "mat2": macs})


@rule(aten._trilinear)
def trilinear(
    i1: Spec, i2: Spec, i3: Spec, out: Spec, expand1: list[int], expand2: list[int], expand3: list[int]
) -> Cost:
    """Σ a·b·c over what they share, the middle of nn.Bilinear, y = x₁ᵀ·W·x₂: a product and a multiply-add at each
    combination of indices, and so for each gradient.
    """
    shapes = [(list(operand.shape), expand) for operand, expand in ((i1, expand1), (i2, expand2), (i3, expand3))]
    points: Size = 1
    for axis in range(len(i1.shape) + len(expand1)):
        sizes = [shape.pop(0) for shape, expand in shapes if axis not in expand]
        points = points * sizes[0]
    work = multiply_adds(points, out) + multiplications(points, out)
    return Cost(work, {"i1": work, "i2": work, "i3": work})


@rule(aten.embedding)
def embedding(out: Spec) -> Cost:
    """Rows of a table: looking up is free; the gradient adds every row looked up into the table's.

    The additions stand in elementwise, not in accumulate, so that token and position embedding cost B·N·D backward as
    the published table of ResNet-BK says.
    """
    return Cost(ZERO, {"weight": Work(elementwise=out.numel)})


@rule(aten.embedding_dense_backward)
def embedding_backward(grad_output: Spec) -> Cost:
    """Backward of ``embedding``. The double backward looks rows up."""
    return Cost(gradient(embedding(grad_output), "weight"), {"grad_output": ZERO})


@rule(aten.embedding_renorm)
def embedding_renorm(self: Spec, indices: Spec) -> Cost:
    """Rows that are looked up are brought to a largest norm: the norm of each, a comparison and a quotient, and a
    product an element. All are taken to be different, and longer.
    """
    rows, width = indices.numel, self.shape[-1]
    return Cost(Work(elementwise=3 * rows * width + rows, division=2 * rows))


@rule(aten._embedding_bag, aten._embedding_bag_forward_only)
def embedding_bag(weight: Spec, indices: Spec, per_sample_weights: Spec | None = None) -> Cost:
    """Rows of a table, added up in bags: one addition an element looked up, and so the gradient of the table.

    Weights of the rows are one product each way, and their gradient a product and a sum. The divisor of a mean, once
    for each bag, is left out; of a maximum the additions are comparisons.
    """
    looked_up = Work(elementwise=indices.numel * weight.shape[-1])
    weighted = looked_up if per_sample_weights is not None else ZERO
    return Cost(looked_up + weighted, {"weight": looked_up + weighted, "per_sample_weights": 2 * looked_up})


def _met(left: Spec, right: Spec) -> Size:
    """How many pairs of numbers a product of matrices multiplies."""
    if left.nnz is not None and right.nnz is not None:
        raise NotSupported("a product of two sparse matrices depends on where their numbers are")
    if right.nnz is not None:
        return left.shape[-2] * right.nnz
    return left.effective_numel * right.shape[-1]


def _added(self: Spec, out: Spec, alpha: float, beta: float, product: Work, **factors: tuple[Spec, Work]) -> Cost:
    """β·self + α·product, whose factors are given with the work of their gradients at α = 1."""
    grads = {name: work + _scale(factor, alpha) for name, (factor, work) in factors.items()}
    grads["self"] = _scale(out, beta) + _bias(self, out)
    return Cost(product + _scale(out, alpha) + _scale(out, beta), grads)


def _bias(addend: Spec, out: Spec) -> Work:
    """The gradient of an addend: of one with fewer axes as a bias's, else what broadcasting copied is summed."""
    if len(addend.shape) < len(out.shape):
        return Work(accumulate=out.numel)
    return Work(accumulate=out.numel - addend.numel)


def _scale(by: Spec, factor: float) -> Work:
    return ZERO if factor == 1 else multiplications(by.numel, by)
