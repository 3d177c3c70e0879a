"""Checkpoints in checkpoints, and those that keep some results: what runs again, as often as autograd dispatches it."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    set_checkpoint_early_stop,
)

from graphflops import analyze

aten = torch.ops.aten
D = 8

pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")


class Products(TorchDispatchMode):
    """Counts the multiply-adds of matrix products that really run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        if op.overloadpacket in (aten.mm, aten.bmm, aten.addmm):
            left = args[1] if op.overloadpacket is aten.addmm else args[0]
            self.macs += out.numel() * left.shape[-1]
        return out


def held_to_what_runs(model: nn.Module, x: Tensor) -> int:
    """The recomputed multiply-adds, after a check of the whole step against autograd on real tensors."""
    with Products() as forward:
        loss = model(x).sum()
    with Products() as backward:
        loss.backward()
    report = analyze(model, (x,))
    assert report.work("forward").macs == forward.macs
    assert report.work("backward").macs + report.work("recompute").macs == backward.macs
    return int(report.work("recompute").macs)


class Layers(nn.Module):
    """Layers, and after the first ``before`` of them the region inside, and then the rest."""

    def __init__(
        self, reentrant: bool | None, before: int, after: int, inside: nn.Module | None, **policy: Any
    ) -> None:
        super().__init__()
        self.before = nn.ModuleList(nn.Linear(D, D) for _ in range(before))
        self.after = nn.ModuleList(nn.Linear(D, D) for _ in range(after))
        self.inside, self.reentrant, self.policy = inside, reentrant, policy

    def layers(self, x: Tensor) -> Tensor:
        for layer in self.before:
            x = layer(x).tanh()
        if self.inside is not None:
            x = self.inside(x)
        for layer in self.after:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return self.layers(x)
        return checkpoint(self.layers, x, use_reentrant=self.reentrant, **self.policy)


def nest(*levels: bool, before: int = 1, after: int = 1, innermost: int = 1) -> nn.Module:
    """Regions in each other, the outermost first, each with so many layers before and after the one that is inside."""
    model: nn.Module = Layers(levels[-1], innermost, 0, None)
    for reentrant in reversed(levels[:-1]):
        model = Layers(reentrant, before, after, model)
    return Layers(None, 1, 0, model)


@pytest.mark.sampled(12)
@pytest.mark.parametrize(
    "levels", [*itertools.product([True, False], repeat=2), *itertools.product([True, False], repeat=3)]
)
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("early_stop", [True, False])
def test_each_region_that_it_is_in_runs_an_operator_again(
    levels: tuple[bool, ...], after: int, early_stop: bool
) -> None:
    with set_checkpoint_early_stop(early_stop):
        assert held_to_what_runs(nest(*levels, after=after), torch.randn(3, D)) > 0


def test_two_regions_in_one_are_run_again_each_by_itself() -> None:
    pair = nn.Sequential(Layers(False, 1, 1, None), nn.Tanh(), Layers(False, 2, 0, None), nn.Linear(D, D))
    assert held_to_what_runs(Layers(None, 1, 0, Layers(False, 0, 0, pair)), torch.randn(3, D)) > 0


def test_equal_layers_in_segments_that_are_checkpointed_as_well() -> None:
    segments = [Layers(False, 0, 0, nn.Sequential(*(Layers(False, 1, 1, None) for _ in range(2)))) for _ in range(2)]
    held_to_what_runs(nn.Sequential(nn.Linear(D, D), *segments), torch.randn(3, D))


def test_a_region_that_takes_no_tensor_has_the_one_around_it_not_run_for_it() -> None:
    class Closing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(D, D), nn.Linear(D, D)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x)

            def outer() -> Tensor:
                return checkpoint(lambda: self.two(x.tanh()).tanh(), use_reentrant=False)

            return checkpoint(outer, use_reentrant=False)

    held_to_what_runs(Closing(), torch.randn(3, D))


def keep_products(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = op in (aten.mm.default, aten.addmm.default)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def keep_wide(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> bool:
    return ctx.op_output.shape[-1] > D if torch.is_tensor(ctx.op_output) else False


def keep_every_other() -> Any:
    """A policy with a state of its own, new for each region."""
    calls = itertools.count()

    def policy(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        kept = op is aten.addmm.default and next(calls) % 2 == 0
        return CheckpointPolicy.PREFER_SAVE if kept else CheckpointPolicy.MUST_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


NUMBERED = hasattr(torch.utils.checkpoint, "_RECOMPUTE")
"""whether PyTorch asks a policy once, with the result, and numbers what it kept; before 2.13 it asks again on the way
back, so that a policy with a state has other answers there, and none is told the result"""


def skip_unless_numbered(*policies: Any) -> None:
    if not NUMBERED and {POLICIES["keep wide results"], keep_every_other} & {*policies}:
        pytest.skip("before PyTorch 2.13 a policy is asked again on the way back, and is not told the result")


POLICIES: dict[str, Callable[[], Any]] = {
    "keep products": functools.partial(create_selective_checkpoint_contexts, keep_products),
    "keep a list": functools.partial(create_selective_checkpoint_contexts, [aten.addmm.default, aten.tanh.default]),
    "keep wide results": functools.partial(create_selective_checkpoint_contexts, keep_wide),
    "keep every other product": keep_every_other,
    "keep attention": functools.partial(create_selective_checkpoint_contexts, [aten.bmm.default]),
    "keep nothing": functools.partial(create_selective_checkpoint_contexts, []),
}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out((q @ k.transpose(-1, -2)).softmax(-1) @ v)


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: nn.Sequential(nn.Linear(D, 4 * D), nn.Tanh(), nn.Linear(4 * D, D), nn.Tanh()),
    "attention": Attention,
    "a layer of layers": lambda: nn.Sequential(*(nn.Sequential(nn.Linear(D, D), nn.ReLU()) for _ in range(3))),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("early_stop", [True, False])
def test_results_kept_by_a_policy_are_not_recomputed(policy: Any, block: Any, early_stop: bool) -> None:
    skip_unless_numbered(policy)
    regions = [Layers(False, 0, 0, block(), context_fn=policy) for _ in range(2)]
    with set_checkpoint_early_stop(early_stop):
        held_to_what_runs(nn.Sequential(nn.Linear(D, D), *regions), torch.randn(2, 3, D))


def test_products_that_are_kept_do_not_run_again_and_the_rest_does() -> None:
    region = Layers(False, 0, 0, BLOCKS["perceptron"](), context_fn=POLICIES["keep products"])
    report = analyze(nn.Sequential(nn.Linear(D, D), region), (torch.randn(3, D),))
    assert report.work("recompute").macs == 0
    assert report.work("recompute").transcendental > 0


@pytest.mark.sampled(4)
@pytest.mark.parametrize("outer", ["keep products", "keep every other product", "keep nothing"])
@pytest.mark.parametrize("inner", ["keep products", "keep wide results", "keep nothing"])
def test_policies_of_regions_in_each_other(outer: str, inner: str) -> None:
    skip_unless_numbered(POLICIES[outer], POLICIES[inner])
    inside = Layers(False, 0, 1, BLOCKS["perceptron"](), context_fn=POLICIES[inner])
    region = Layers(False, 1, 1, inside, context_fn=POLICIES[outer])
    held_to_what_runs(nn.Sequential(nn.Linear(D, D), region), torch.randn(2, 3, D))
