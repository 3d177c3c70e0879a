"""Rules for a ResNet-BK of one's own: its mixture of experts, and its autograd.Function."""

from graphflops import Cost, Spec, Work, rule


@rule("published.BKCoreFunction")
def bk_core(he_diag: Spec) -> Cost:
    """34·N a sequence forward: θ and φ recursion 14·N each, N divisions at 6. 26·N backward, as published."""
    n = he_diag.numel
    return Cost(Work(elementwise=28 * n, division=6 * n), {"he_diag": Work(elementwise=26 * n)})


@rule("published.SparseMoELayer", outputs=lambda x: x)
def moe(x: Spec, num_experts: int, top_k: int) -> Cost:
    """Gate 2·D·E and softmax 3·E a token; each token visits top_k of E experts of D → 2·D → D."""
    d, tokens = x.shape[-1], x.numel // x.shape[-1]
    gate = Work(macs=tokens * d * num_experts)
    softmax = Work(elementwise=1, transcendental=1, division=1) * (tokens * num_experts)
    layer, active = Work(macs=tokens * num_experts * 2 * d * d), Work(elementwise=tokens * num_experts * 2 * d)
    grads = {"x|experts.*.0.*": layer + active, "x": layer, "experts.*.0.weight": layer, "experts.*.3.weight": layer}
    every = Cost(2 * layer + active, {**grads, "experts.*.bias": Work()})
    return Cost.of(
        gate=Cost(gate, {"x": gate, "gating_network.weight": gate, "gating_network.bias": Work()}),
        softmax=Cost(softmax, {"x|gating_network.*": 2 * softmax}),
        experts=every.scaled_by(f"{top_k}/{num_experts}"),
    )
