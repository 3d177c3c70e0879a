"""Reductions: a sum of n numbers counts n additions, the first one into zero, as a multiply-add does."""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.errors import NotSupported
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Spec, size_min
from graphflops.rules.rule import rule
from graphflops.rules.templates import ALL_OPERANDS, additions, ceil_log2, free, gradient, multiplications


@rule(aten.sum)
def sum_(self: Spec) -> Cost:
    """Σ x: n additions. The gradient is copied to every element, which is no arithmetic."""
    return Cost(additions(self.numel, self), {"self": ZERO})


@rule(aten.trace)
def trace(self: Spec) -> Cost:
    """Σ of the diagonal: as many additions as it is long. Backward the gradient is put there."""
    return Cost(additions(size_min(*self.shape), self), {"self": ZERO})


@rule(aten.mean)
def mean(self: Spec, out: Spec) -> Cost:
    """Σ x / n: n additions, one division a result; backward every element of the gradient is divided by n."""
    parts = 2 if self.is_complex else 1
    return Cost(
        additions(self.numel, self) + Work(division=parts * out.numel), {"self": Work(division=parts * self.numel)}
    )


@rule(aten.var)
def var(self: Spec, out: Spec) -> Cost:
    """Σ (x − mean)² / (n − 1): mean, subtract, square, add: 4 an element; two divisions a result.

    Backward 2/(n − 1)·g·(x − mean): 3 an element, the mean being kept; PyTorch takes it again, and scales g first.
    Of complex numbers 8 an element, 2 and 2 for the mean and the difference, 4 for its square; backward 5.
    """
    if self.is_complex:
        n = self.numel
        return Cost(Work(elementwise=8 * n, division=3 * out.numel), {"self": Work(elementwise=5 * n)})
    return Cost(Work(elementwise=4 * self.numel, division=2 * out.numel), {"self": Work(elementwise=3 * self.numel)})


@rule(aten.std)
def std(self: Spec, out: Spec) -> Cost:
    """√var: a root a result. Backward g / (2·y) a result, then the gradient of the variance."""
    return var(self, out) + Cost(Work(division=out.numel), {"self": Work(elementwise=out.numel, division=out.numel)})


@rule(aten.max, aten.min, aten.amax, aten.amin, aten.median, aten.nanmedian, aten.mode, aten.kthvalue)
def extremum(self: Spec) -> Cost:
    """One comparison an element; backward one selection an element.

    PyTorch shares the gradient of ``amax`` among equals, which takes a comparison more, and puts that of ``max`` among
    zeros, which takes none.
    """
    chosen = additions(self.numel, self)
    return Cost(chosen, {"self": chosen, "other": chosen})


@rule(aten.aminmax)
def extrema(self: Spec, grad_outputs: frozenset[int]) -> Cost:
    """Two comparisons an element; backward one selection an element for each that is used."""
    return Cost(additions(2 * self.numel, self), {"self": Work(elementwise=len(grad_outputs) * self.numel)})


@rule(aten.histogram)
def histogram(self: Spec, weight: Spec | None = None) -> Cost:
    """One comparison an element, which finds its bin, and an addition into it. No gradient."""
    return Cost(additions(2 * self.numel, self), {ALL_OPERANDS: ZERO})


@rule(
    aten.argmax, aten.argmin, aten.any, aten.all, aten._is_any_true, aten._is_all_true,
    aten.count_nonzero, aten.nonzero, aten.nonzero_static, aten.histc,
)  # fmt: skip
def search(self: Spec) -> Cost:
    """One comparison an element, and no gradient; a histogram finds each element's bin with one."""
    return Cost(additions(self.numel, self), {ALL_OPERANDS: ZERO})


@rule(aten.topk, aten.sort, aten._unique2, aten.unique_dim, aten.unique_consecutive)
def ordering(self: Spec) -> Cost:
    """One comparison an element, the leading term of a selection; what a full sort needs beyond it is left out.
    Equal elements are found by sorting too.

    Backward puts each gradient back where its value came from: no arithmetic.
    """
    return Cost(additions(self.numel, self), {"self": ZERO})


@rule(aten.cumsum)
def cumsum(self: Spec) -> Cost:
    """One addition an element, and one backward, from the other end."""
    work = additions(self.numel, self)
    return Cost(work, {"self": work})


@rule(aten.logcumsumexp)
def logcumsumexp(self: Spec) -> Cost:
    """yᵢ = log Σⱼ≤ᵢ eˣʲ: exp, add and log an element; backward eˣʲ·Σᵢ≥ⱼ gᵢ·e⁻ʸⁱ. The maximum is not counted.

    PyTorch does that twice, with gradients above and below 0 apart.
    """
    n = self.numel
    return Cost(Work(elementwise=n, transcendental=2 * n), {"self": Work(elementwise=4 * n, transcendental=2 * n)})


@rule(aten.prod)
def prod_(self: Spec) -> Cost:
    """Π x: n multiplications; backward g·y/x: a product and a division an element, if no x is 0, as PyTorch does not
    take for given: it multiplies all the others.
    """
    return Cost(multiplications(self.numel, self), {"self": Work(elementwise=self.numel, division=self.numel)})


@rule(aten.cumprod)
def cumprod(self: Spec) -> Cost:
    """One multiplication an element; backward Σᵢ≥ⱼ gᵢ·yᵢ / xⱼ: a product, an addition and a division an element.

    PyTorch looks for the first 0 of each row, and does all that with masks; that is left out.
    """
    return Cost(multiplications(self.numel, self), {"self": Work(elementwise=2 * self.numel, division=self.numel)})


@rule(aten.linalg_vector_norm, aten.norm)
def vector_norm(self: Spec, out: Spec, ord: float | None = None, p: float | None = None) -> Cost:
    """√Σ x²: a product and an addition an element, a root a result; backward g·x/y: two an element.

    The norms of order 1 and ±∞: an absolute value and an addition or comparison; backward g times the sign. That of
    order 0: a comparison and an addition, and no gradient. Of any other order p: |x|ᵖ and an addition, a root as a
    power; backward g·x·|x|ᵖ⁻²/yᵖ⁻¹. Of complex numbers a square is three operations, and |x| three and a root.
    PyTorch looks for norms of 0 before it divides.
    """
    order = 2 if ord is None and p is None else ord if ord is not None else p
    n = self.numel
    parts = 2 if self.is_complex else 1
    length = Work(elementwise=3, division=1) if self.is_complex else Work(elementwise=1)
    if order == 2:
        forward = Work(elementwise=2 * parts * n, division=out.numel)
        return Cost(forward, {"self": Work(elementwise=parts * n, division=parts * n)})
    added = Work(elementwise=n)
    if order == 0:
        return Cost(n * Work(elementwise=parts) + added, {"self": ZERO})
    if order in (1, float("inf"), float("-inf")):
        sign = n * Work(elementwise=2) if not self.is_complex else n * (length + Work(elementwise=2, division=2))
        return Cost(n * length + added, {"self": sign})
    powers = n * (length + Work(transcendental=1)) + added + Work(transcendental=out.numel)
    slope = n * (length + Work(elementwise=1 + parts, transcendental=1, division=1)) + Work(transcendental=out.numel)
    return Cost(powers, {"self": slope})


@rule(aten._cdist_forward)
def cdist(x1: Spec, x2: Spec, out: Spec, p: float = 2.0) -> Cost:
    """√Σ (x − y)² for each pair: subtract, multiply, add at each of d coordinates, and a root.

    Norms of order 1 and ∞: an absolute value for the product, and no root. Backward g/|x − y|·(x − y), added up:
    three a coordinate and a division a pair, or with a sign four.
    """
    return _distances(out, x1.shape[-1], p, ("x1", "x2"))


@rule(aten._cdist_backward)
def cdist_backward(x1: Spec, x2: Spec, cdist: Spec, p: float = 2.0) -> Cost:
    """Backward of ``cdist`` for its first operand. No double backward."""
    return Cost(gradient(_distances(cdist, x1.shape[-1], p, ("x1", "x2")), "x1"))


@rule(aten._euclidean_dist)
def euclidean_dist(x1: Spec, x2: Spec, out: Spec) -> Cost:
    """Distances as PyTorch computes many of them, by one matrix product of d + 2: √(|x|² − 2·x·y + |y|²) for each pair.

    For it −2·x, and of both operands squares and their sums; then a comparison and a root a pair. PyTorch's own counter
    does not see the product, which is inside of a kernel.

    Backward is a product too, r = g/|x − y| and Σ r·x − r·y: a division a pair, a sum, the product r·y, then two
    for each element of x. Autograd computes both gradients even if one is needed.
    """
    n = out.numel
    forward = Work(macs=n * (x1.shape[-1] + 2), elementwise=3 * x1.numel + 2 * x2.numel + n, division=n)
    macs = Work(macs=n * x1.shape[-1], elementwise=n)
    shared = 2 * macs + Work(elementwise=2 * (x1.numel + x2.numel), division=n)
    return Cost(forward, {"x1|x2": shared})


@rule(aten._pdist_forward)
def pdist(self: Spec, out: Spec, p: float = 2.0) -> Cost:
    """As ``cdist``, once for each pair; backward a pair's gradient is added to one, subtracted from the other."""
    return _pair_backward(self, out, p)


def _pair_backward(self: Spec, out: Spec, p: float) -> Cost:
    d = self.shape[-1]
    return _distances(out, d, p, ("self",)) + Cost(ZERO, {"self": Work(elementwise=d * out.numel)})


@rule(aten._pdist_backward)
def pdist_backward(self: Spec, pdist: Spec, p: float = 2.0) -> Cost:
    """Backward of ``pdist``. No double backward."""
    return Cost(gradient(_pair_backward(self, pdist, p), "self"))


def _distances(out: Spec, d: Size, p: float, operands: tuple[str, ...]) -> Cost:
    if p not in (1, 2, float("inf")):
        raise NotSupported(f"no formula for distances of order {p}")
    n = out.numel
    forward, backward = Work(elementwise=3 * d * n), Work(elementwise=4 * d * n)
    if p == 2:
        forward, backward = forward + Work(division=n), Work(elementwise=3 * d * n, division=n)
    return Cost(forward, dict.fromkeys(operands, backward))


@rule(aten.logsumexp)
def logsumexp(self: Spec, out: Spec) -> Cost:
    """log Σ eˣ: exp and add an element, a log a result; backward g·exp(x − y). The maximum is not counted."""
    n = self.numel
    return Cost(Work(elementwise=n, transcendental=n + out.numel), {"self": Work(elementwise=2 * n, transcendental=n)})


@rule(aten.scatter_reduce)
def scatter_reduce(self: Spec, index: Spec, src: Spec, reduce: str = "mean") -> Cost:
    """Each number of the source is combined with an element by a sum, product or comparison; a mean divides.

    Only as many are read as there are indices. Backward of a sum nothing; of a mean g/count; of a product g·y/x; of an
    extremum g/count where x = y: two comparisons, for the elements and the source, the equal ones counted, and a
    product each. Their number is kept from forward, and integer.
    """
    return _combine(self, index.numel, src, "src", reduce)


@rule(aten.index_reduce)
def index_reduce(self: Spec, source: Spec, reduce: str = "mean") -> Cost:
    """As ``scatter_reduce``, with an index for each row of the source."""
    return _combine(self, source.numel, source, "source", reduce)


def _combine(self: Spec, n: Size, source: Spec, name: str, reduce: str) -> Cost:
    """n numbers of a source are combined with the elements of self; their gradient is keyed by the source."""
    count = self.numel
    if reduce == "sum":
        return Cost(additions(n, source), {"self": ZERO, name: ZERO})
    if reduce == "mean":
        parts = 2 if self.is_complex else 1
        forward = additions(n, source) + Work(integer=n, division=parts * count)
        return Cost(forward, {"self": Work(division=parts * count), name: Work(division=parts * n)})
    if reduce == "prod":
        grads = {"self": Work(elementwise=count, division=count), name: Work(elementwise=n, division=n)}
        return Cost(multiplications(n, source), grads)
    shared = Work(elementwise=count + n, division=count, integer=n)
    grads = {f"self|{name}": shared, "self": Work(elementwise=count), name: Work(elementwise=n)}
    return Cost(additions(n, source), grads)


@rule(aten.segment_reduce)
def segment_reduce(data: Spec, out: Spec, reduce: str = "mean") -> Cost:
    """Each element is added, multiplied or compared once, as in ``scatter_reduce``; a mean divides each result.

    Backward of a sum a copy, of a mean a division an element, of a product g·y/x, of an extremum a comparison, a
    product, and a division by how many there are.
    """
    n = data.numel
    if reduce == "sum":
        return Cost(additions(n, data), {"data": ZERO})
    if reduce == "mean":
        return Cost(additions(n, data) + Work(division=out.numel), {"data": Work(division=n)})
    if reduce == "prod":
        return Cost(multiplications(n, data), {"data": Work(elementwise=n, division=n)})
    return Cost(additions(n, data), {"data": Work(elementwise=2 * n, division=out.numel, integer=n)})


@rule(aten._segment_reduce_backward)
def segment_reduce_backward(data: Spec, output: Spec, reduce: str = "mean") -> Cost:
    """Backward of ``segment_reduce``. No double backward."""
    return Cost(gradient(segment_reduce(data, output, reduce), "data"))


@rule(aten.cummax, aten.cummin)
def cumulative_extremum(self: Spec) -> Cost:
    """One comparison an element; backward each gradient is added to where its value came from."""
    return Cost(additions(self.numel, self), {"self": Work(accumulate=self.numel)})


@rule(aten.var_mean)
def var_mean(self: Spec, out: tuple[Spec, Spec], grad_outputs: frozenset[int]) -> Cost:
    """The variance, as ``var``, and the mean it takes on its way, whose gradient is a division an element."""
    spread = var(self, out[0])
    return Cost(spread.forward, {"self": _both_outputs(spread.grads["self"], self, grad_outputs)})


@rule(aten.std_mean)
def std_mean(self: Spec, out: tuple[Spec, Spec], grad_outputs: frozenset[int]) -> Cost:
    """As ``std``, and the mean it takes on its way."""
    spread = std(self, out[0])
    return Cost(spread.forward, {"self": _both_outputs(spread.grads["self"], self, grad_outputs)})


def _both_outputs(spread: Work, self: Spec, grad_outputs: frozenset[int]) -> Work:
    """The gradient through the spread, the mean, or both, which are added."""
    has_both = {0, 1} <= grad_outputs
    through = (spread if 0 in grad_outputs else ZERO) + (Work(division=self.numel) if 1 in grad_outputs else ZERO)
    return through + (Work(elementwise=self.numel) if has_both else ZERO)


@rule(aten.renorm)
def renorm(self: Spec, dim: int = 0, p: float = 2) -> Cost:
    """Rows longer than a maximum are scaled by s = max/(‖x‖ + ε): the norm of each, a comparison, a choice, a sum and a
    quotient a row, a product an element. Backward g·s − x·(Σ g·x)·s/(‖x‖ + ε)/‖x‖. All rows are taken to be longer;
    PyTorch computes both cases, and chooses.
    """
    if p != 2:
        raise NotSupported(f"no formula for renorm of order {p}")
    n, rows = self.numel, self.shape[dim]
    forward = Work(elementwise=3 * n + 3 * rows, division=2 * rows)
    return Cost(forward, {"self": Work(elementwise=5 * n + rows, division=2 * rows)})


@rule(aten.dist)
def dist(self: Spec, other: Spec, out: Spec, p: float = 2) -> Cost:
    """‖x − y‖: subtract, and a norm; backward g·(x − y)/‖x − y‖, and its sign changed for y.

    PyTorch looks for distances of 0 before it divides.
    """
    n = self.numel
    norm = vector_norm(Spec((n,), self.dtype), out, p)
    gradient = norm.grads["self"]
    return Cost(norm.forward + Work(elementwise=n), {"self|other": gradient, "other": Work(elementwise=n)})


@rule(aten.searchsorted, aten.bucketize)
def searchsorted(
    self: Spec | float, out: Spec, sorted_sequence: Spec | None = None, boundaries: Spec | None = None
) -> Cost:
    """A binary search for each number: ⌈log₂(n + 1)⌉ comparisons among n, which have n + 1 gaps. No gradient."""
    among = sorted_sequence if sorted_sequence is not None else boundaries
    assert among is not None
    return Cost(additions(out.numel * ceil_log2(among.shape[-1] + 1), among), {ALL_OPERANDS: ZERO})


@rule(aten.isin)
def isin(
    out: Spec,
    elements: Spec | None = None,
    element: float = 0,
    test_elements: Spec | None = None,
    test_element: float = 0,
) -> Cost:
    """Whether each number is among m others: these are sorted, one comparison each, and it is looked for among them,
    ⌈log₂(m + 1)⌉ more. No gradient. Of few others PyTorch compares each with each.
    """
    among = test_elements.numel if test_elements is not None else 1
    numbers = elements if elements is not None else test_elements
    assert numbers is not None
    return Cost(additions(among + out.numel * ceil_log2(among + 1), numbers), {ALL_OPERANDS: ZERO})


@rule(aten.bincount)
def bincount(self: Spec, weights: Spec | None = None) -> Cost:
    """One addition for each number, into its bin: an integer, or its weight. No gradient."""
    return Cost(additions(self.numel, weights if weights is not None else self), {ALL_OPERANDS: ZERO})


counting = free(
    "sizes and flags that the host reads",
    aten.sym_size, aten._local_scalar_dense, aten.is_nonzero, aten.is_same_size, aten._has_same_storage_numel,
)  # fmt: skip
