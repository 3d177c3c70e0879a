"""Properties of all rules: work grows with the batch, and gradients are of operands that exist."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import (
    CALL_ARGUMENTS,
    CASES,
    Case,
    RuleCall,
    attend,
    cost_of,
    costs_of,
    distinct_calls,
    graph_of,
    ints,
    named,
    ops_of,
    reals,
    target_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._ops import OpOverload

from graphflops import Work
from graphflops.analysis.costing import apply_rules
from graphflops.core.costs import covers
from graphflops.models import BKCore, SparseMoE
from graphflops.rules.loading import shipped

few = settings(max_examples=3, deadline=None)
Inputs = Callable[[int], tuple[Tensor, ...]]


def rows(*shape: int, count: int = 1) -> Inputs:
    """Inputs of this shape for each of the batch."""
    return lambda batch: tuple(reals(batch, *shape) for _ in range(count))


BATCHED: dict[str, tuple[Callable[..., Any], Inputs]] = {
    **{
        name: (function, rows(3, 4))
        for name, function in {
            **named(F, "relu gelu silu elu mish softplus hardswish leaky_relu sigmoid tanh glu"),
            **named(torch, "exp log sin sqrt abs erf reciprocal"),
        }.items()
    },
    **{
        name: (function, rows(3, 4, count=2))
        for name, function in named(torch, "add sub mul div maximum pow eq").items()
    },
    **{
        name: (partial(function, dim=-1), rows(3, 4))
        for name, function in named(
            torch, "sum mean var std amax argmax logsumexp cumsum cumprod prod softmax log_softmax"
        ).items()
    },
    "linear": (nn.Linear(4, 5), rows(3, 4)),
    "bmm": (torch.bmm, rows(4, 4, count=2)),
    "baddbmm": (torch.baddbmm, rows(4, 4, count=3)),
    "mv": (lambda x: x @ x[0], rows(4)),
    "attention": (attend, rows(2, 5, 4, count=3)),
    "causal attention": (partial(attend, is_causal=True), rows(2, 5, 4, count=3)),
    "layer norm": (nn.LayerNorm(4), rows(3, 4)),
    "group norm": (nn.GroupNorm(2, 4), rows(4, 3)),
    "rms norm": (nn.RMSNorm(4), rows(3, 4)),
    "dropout": (nn.Dropout(0.5), rows(3, 4)),
    "embedding": (nn.Embedding(10, 3), lambda batch: (ints(batch, 5),)),
    "cross entropy": (partial(F.cross_entropy, reduction="sum"), lambda batch: (reals(batch, 9), ints(batch))),
    "mse": (partial(F.mse_loss, reduction="sum"), rows(4, count=2)),
    "bce": (partial(F.binary_cross_entropy, reduction="sum"), rows(4, count=2)),
    "top k": (lambda x: x.topk(2)[0], rows(4)),
    "bk core": (BKCore(5), rows(5)),
    "mixture of experts": (SparseMoE(4, 3, 2), rows(3, 4)),
}


def forward_of(run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Work:
    return sum((cost.forward for cost in costs_of(run, *inputs)), Work())


@pytest.mark.parametrize("name", BATCHED)
@few
@given(batch=st.integers(1, 20), times=st.integers(2, 9))
def test_forward_work_is_linear_in_the_batch(name: str, batch: int, times: int) -> None:
    run, inputs = BATCHED[name]
    one = forward_of(run, inputs(batch))
    assert forward_of(run, inputs(batch * times)) == times * one
    assert one or name == "embedding"


OF_OTHER_VERSIONS = () if hasattr(torch.ops.aten, "cholesky") else ("aten::cholesky",)


def is_of_an_operator(call: RuleCall) -> bool:
    return call.op is not None and isinstance(call.op.call, OpOverload)


class TestGradientKeys:
    @staticmethod
    def arguments(target: str) -> set[str]:
        """The argument names of every overload of an operator."""
        namespace, _, name = target.replace("::", ".").partition(".")
        packet = getattr(getattr(torch.ops, namespace), name.partition(".")[0])
        overloads = (getattr(packet, overload) for overload in packet.overloads())
        return {argument.name for overload in overloads for argument in overload._schema.arguments}

    @pytest.mark.slow
    def test_name_arguments_of_an_operator_that_the_rule_serves(self) -> None:
        for call in filter(is_of_an_operator, distinct_calls()):
            keys = [str(key) for key, rule in shipped() if rule is call.rule and str(key) not in OF_OTHER_VERSIONS]
            names = set().union(*map(self.arguments, keys))
            for key in call.rule.evaluate(call.arguments).grads:
                assert set(key.split("|")) <= names | {"*"}, (call, key)

    @pytest.mark.parametrize("case", CASES, ids=repr)
    def test_speak_of_every_operand_whose_gradient_autograd_computes(self, case: Case) -> None:
        assert not apply_rules(graph_of(case), shipped(), {"attention": "flash"}).unknown

    def test_of_a_layer_name_its_parameters(self) -> None:
        moe = SparseMoE(4, 3, 2)
        cost = cost_of(moe, reals(5, 4))
        operands = {"x", *dict(moe.named_parameters())}
        for key in cost.grads:
            for part in key.split("|"):
                assert any(covers(part, name) for name in operands), part
        assert all(any(covers(key, name) for key in cost.grads) for name in operands)


def test_call_arguments_are_for_targets_that_no_case_traces() -> None:
    traced = {target_of(op) for case in CASES for op in ops_of(case)}
    assert not traced & set(CALL_ARGUMENTS)


def test_the_mask_of_attention_may_be_all_that_is_trained() -> None:
    frozen, mask = torch.empty(2, 4, 5, 8, device="meta"), reals(5, 5)
    (op,) = ops_of(Case("mask", attend, (frozen, frozen, frozen, mask)))
    assert op.needs_grad == {"attn_mask"}
    cost = cost_of(attend, frozen, frozen, frozen, mask, attention="math")
    assert sum(work.macs for key, work in cost.grads.items() if covers(key, "attn_mask")) == 2 * 4 * 5 * 5 * 8
