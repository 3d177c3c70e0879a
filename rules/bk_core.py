"""BK-Core of ResNet-BK, diag((H − zI)⁻¹) of a tridiagonal H by two recursions, in O(N); and Birman-Schwinger's way."""

from __future__ import annotations

from graphflops.core.costs import Cost, Work
from graphflops.core.sizes import Spec, prod
from graphflops.rules.rule import rule

STEP = Work(elementwise=14)  # a·θ − bc·θ′: two complex products and a subtraction, as published
QUOTIENT = Work(division=6)  # a complex division, as published
SQUARE = Work(elementwise=6)
GRADIENT = Work(elementwise=10)
STEP_SPAN = 3  # a product and a sum of the complex product, and the subtraction
SWEEP_SPAN = 9  # v·g, + 1; a quotient: two products, two sums, a division; times q², two; plus a constant


@rule("graphflops.bk_core", "graphflops.bk_core_single", example="graphflops.models.rule_examples:bk_core")
def bk_core(diagonal: Spec) -> Cost:
    """34·N a sequence forward: θ recursion 14·N, φ recursion 14·N, N divisions at 6. 26·N backward: G² 6·N, the
    theoretical and the inverse-square gradient 10·N each (the published count of ResNet-BK).

    The count is of the textbook recursion, without the scaling by a power of two at each step that keeps it in range
    for long N. The gradient is analytic, of the diagonal alone: no recursion runs again. The single-precision kernel
    does the same operations.

    The span of a recursion is a chain of N steps; both run in parallel, and so do sequences. The rest does not
    depend on N: at most all operations of one element, one after the other.
    """
    n, length = diagonal.numel, diagonal.shape[-1]
    return Cost(
        n * (2 * STEP + QUOTIENT),
        {"diagonal": n * (SQUARE + 2 * GRADIENT)},
        span=STEP_SPAN * length + sum(QUOTIENT.counts()),
        backward_span=sum((SQUARE + 2 * GRADIENT).counts()),
    )


@rule("*.BKCoreFunction", example="graphflops.models.rule_examples:bk_core_function")
def bk_core_function(he_diag: Spec) -> Cost:
    """The published count of ResNet-BK for its own BKCoreFunction, wherever it is defined: 34·N forward, 26·N backward.

    The count is of the recursions. It is used for the parallel scan too (``USE_PARALLEL_SCAN``, on by default in that
    repository), without the scan's N·log N products of 2×2 matrices. Only the diagonal has a
    gradient; those of the bands are None.
    """
    cost = bk_core(he_diag)
    grads = {"he_diag": cost.grads["diagonal"], "*": Work()}
    return Cost(cost.forward, grads, span=cost.span, backward_span=cost.backward_span)


@rule("graphflops.birman_schwinger", example="graphflops.models.rule_examples:birman_schwinger")
def birman_schwinger(v: Spec) -> Cost:
    """Two sweeps of N − 1 steps, and where they meet N quotients; backward as BK-Core's, 26·N.

    In real operations, a complex product 6, a sum 2, a product by a real number 2, a quotient 9 and 2 divisions. A
    step: its pivot d = 1 + v·g, then q²·g/d and a constant. Where they meet: g·h/(g + h − g·h·(1/c − v)), two products,
    three sums and a quotient.
    """
    n, length = v.numel, v.shape[-1]
    steps = n - prod(v.shape[:-1])  # those that another step follows
    sweeps = 2 * steps * Work(elementwise=21, division=2)
    meeting = n * Work(elementwise=6 + 2 + 6 + 2 + 2 + 9, division=2)
    return Cost(
        sweeps + meeting,
        {"v": n * (SQUARE + 2 * GRADIENT)},
        span=SWEEP_SPAN * length + sum((Work(elementwise=27, division=2)).counts()),
        backward_span=sum((SQUARE + 2 * GRADIENT).counts()),
    )
