"""The selective scan of a state-space model: a state that decays and takes in its input, step by step."""

from __future__ import annotations

from graphflops.core.costs import Cost, Work
from graphflops.core.sizes import Spec
from graphflops.rules.rule import rule


@rule(
    "graphflops.models.mamba.SelectiveScan",
    outputs=lambda x: x,
    example="graphflops.models.rule_examples:selective_scan",
)
def selective_scan(x: Spec, delta: Spec, A: Spec, B: Spec, C: Spec, D: Spec) -> Cost:
    """h_t = exp(Δ_t·A)·h_{t−1} + Δ_t·x_t·B_t and y_t = C_t·h_t + D·x_t, step by step.

    Forward, for each number of the state and step: Δ·A and its exp, a product with B, a product and a sum of the
    recursion, a product and a sum of C·h; for each number of the input: Δ·x, D·x and a sum. A sum of n numbers is n
    additions. The span is that of the recursion, two operations a step, and of one sum over the state.
    """
    batch, length, _ = x.shape
    inputs = x.numel
    states = inputs * A.shape[-1]
    earlier = batch * (length - 1) * A.numel  # states that are not the last
    return Cost(
        Work(elementwise=6 * states + 3 * inputs, transcendental=states),
        {
            "x|delta|A|B": Work(elementwise=states + 2 * earlier),  # of h: g·C, and what comes from later steps
            "x|delta": Work(elementwise=2 * states),  # of Δ·x: a product and a sum over the state
            "delta|A": Work(elementwise=2 * states),  # of Δ·A: two products
            "x": Work(elementwise=3 * inputs),
            "delta": Work(elementwise=2 * states + 2 * inputs),
            "A": Work(elementwise=states, accumulate=states),
            "B": Work(elementwise=states + inputs, accumulate=states),
            "C": Work(elementwise=states, accumulate=states),
            "D": Work(elementwise=inputs, accumulate=inputs),
        },
        span=2 * length + A.shape[-1] + 4,
    )
