"""Sparse mixture of experts, top-k: every token visits k of the E experts."""

from __future__ import annotations

from dataclasses import replace

from graphflops.core.costs import Cost, Work
from graphflops.core.sizes import Size, Spec, prod
from graphflops.rules.rule import rule
from graphflops.rules.templates import dequantize_work, quantize_work

SOFTMAX = Work(elementwise=1, transcendental=1, division=1)
SELECT = Work(elementwise=1)


@rule("graphflops.models.moe.SparseMoE", outputs=lambda x: x, example="graphflops.models.rule_examples:sparse_moe")
def sparse_moe(
    x: Spec,
    num_experts: Size,
    top_k: Size,
    dropout: float,
    training: bool,
    quantization_bits: int | None = None,
) -> Cost:
    """Per token: gate 2·D·E, softmax 3·E, k experts of 8·D² + 2·D; backward 2 × forward (ResNet-BK's table).

    Work follows the tokens, so balance does not matter, and E enters through the gate alone. Beyond the table: top-k (E
    comparisons), dropout of the hidden layer, the k outputs weighted and added, gradients of the biases. Experts that
    multiply integers quantize what visits them, and the weights of all E.
    """
    d, tokens = x.shape[-1], prod(x.shape[:-1])
    visits = tokens * top_k
    gate = Work(macs=tokens * d * num_experts)
    softmax = tokens * num_experts * SOFTMAX
    weighted = Work(elementwise=visits * d)
    return Cost.of(
        gate=Cost(gate, {"x": gate, "gate.weight": gate, "gate.bias": Work(accumulate=tokens * num_experts)}),
        softmax=Cost(softmax, {"x|gate.*": 2 * softmax}),
        **_with_full(
            _expert("x", "experts.", d, visits, num_experts, quantization_bits),
            _expert("x", "experts.", d, tokens * num_experts, num_experts, quantization_bits),
        ),
        top_k=Cost(Work(elementwise=tokens * num_experts), {"x|gate.*": Work()}),
        **_dropout("x", "experts.", d, visits, dropout if training else 0),
        combine=Cost(
            2 * weighted,
            {"x|experts.*": weighted, "x|gate.*": weighted + Work(accumulate=visits * d)},
        ),
        fan_in=Cost(Work(), {"x": Work(accumulate=visits * d)}),  # k experts' gradients join the gate's
    )


@rule("graphflops.models.moe.Experts", outputs=lambda tokens: tokens, example="graphflops.models.rule_examples:experts")
def experts(
    tokens: Spec,
    chosen: Spec,
    num_experts: Size,
    dropout: float,
    training: bool,
    quantization_bits: int | None = None,
) -> Cost:
    """Per visit of a token to one of its k experts: 8·D² + 2·D; backward 2 × forward. As in ``sparse_moe``, whatever
    chooses them: dropout of the hidden layer, the k outputs weighted and added, gradients of the biases.
    """
    d, visits = tokens.shape[-1], chosen.numel
    weighted = Work(elementwise=visits * d)
    return Cost.of(
        **_expert("tokens", "", d, visits, num_experts, quantization_bits),
        **_dropout("tokens", "", d, visits, dropout if training else 0),
        combine=Cost(
            2 * weighted,
            {"tokens|*.weight|*.bias": weighted, "weights": weighted + Work(accumulate=visits * d)},
        ),
        fan_in=Cost(Work(), {"tokens": Work(accumulate=visits * d - tokens.numel)}),
    )


def _with_full(active: dict[str, Cost], full: dict[str, Cost]) -> dict[str, Cost]:
    """The cost of the k experts of a token, and of all experts as ``full``."""
    return {name: replace(cost, full=full[name]) for name, cost in active.items()}


def _expert(x: str, path: str, d: Size, visits: Size, num_experts: Size, bits: int | None) -> dict[str, Cost]:
    """The two products of each visit, D → 2D → D, and the ReLU between them."""
    first, second = f"{path}*.0", f"{path}*.3"
    macs, active = Work(macs=visits * 2 * d * d), visits * 2 * d * SELECT
    grads = {
        x: macs,
        f"{first}.weight": macs,
        f"{first}.bias": Work(accumulate=visits * 2 * d),
        _prefixed(x, path): macs + 2 * active,
        f"{second}.weight": macs,
        f"{second}.bias": Work(accumulate=visits * d),
    }
    if bits is None:
        return {"experts": Cost(2 * macs + active, grads)}
    inputs, hidden = dequantize_work(visits * d, visits), dequantize_work(visits * 2 * d, visits)
    up, down = (num_experts * dequantize_work(2 * d * d, rows) for rows in (2 * d, d))
    factors = {x: up, f"{first}.weight": inputs, _prefixed(x, path): down, f"{second}.weight": hidden}
    integers = quantize_work(visits * d, visits) + quantize_work(visits * 2 * d, visits)
    integers += num_experts * (quantize_work(2 * d * d, 2 * d) + quantize_work(2 * d * d, d))
    # As by the operator quantized_linear, and a bias that is added after it.
    return {
        "experts": Cost(Work(integer=2 * visits * 4 * d * d), dtype=f"int{bits}"),
        "quantize": Cost(integers + Work(elementwise=visits * 3 * d * 3), factors),
        "straight_through": Cost(active, grads),
    }


def _dropout(x: str, path: str, d: Size, visits: Size, dropout: float) -> dict[str, Cost]:
    """Dropout of the 2·D hidden units of a visit."""
    dropped = visits * 2 * d * SELECT if dropout else Work()
    return {"dropout": Cost(dropped, {_prefixed(x, path): dropped})}


def _prefixed(x: str, path: str) -> str:
    """The operands below the hidden layer of an expert."""
    return f"{x}|{path}*.0.weight|{path}*.0.bias"
