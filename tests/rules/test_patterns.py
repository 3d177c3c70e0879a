"""A rule may name classes by a pattern of their dotted names."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import Cost, DuplicateRule, RuleLoadError, Spec, Work, analyze, rule
from graphflops.rules.loading import rulebook

X = torch.zeros(2, 8, requires_grad=True)


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 2


class Layer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Scan.apply(x)


class Overriding(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def named(target: Any, macs: int) -> Any:
    def formula(x: Spec) -> Cost:
        return Cost(Work(macs=macs), {"x": Work()})

    return rule(target)(formula)


@pytest.mark.parametrize("pattern", ["*.Scan", "test_patterns.Sc*", "*patterns.?can", "*.Layer"])
def test_it_speaks_for_every_class_that_is_like_it(pattern: str) -> None:
    assert analyze(Layer(), (X,), rules=[named(pattern, 7)]).macs == 7


def test_it_does_not_speak_for_a_class_that_overrides_forward() -> None:
    assert analyze(Overriding(), (X,), rules=[named("*.Layer", 7)]).macs == 0


def test_who_names_the_class_itself_speaks_over_it_and_who_is_longer_over_shorter() -> None:
    assert analyze(Layer(), (X,), rules=[named("*.Scan", 7), named(Scan, 5)]).macs == 5
    assert analyze(Layer(), (X,), rules=[named("*.Scan", 7), named("test_patterns.*n", 3)]).macs == 3


def test_one_that_matches_no_call_is_named() -> None:
    (warning,) = analyze(Layer(), (X,), rules=[named("*.Skan", 7)]).warnings
    assert "no call matched the rule formula" in warning
    assert "*.Skan" in warning


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*", "matches every class"),
        ("*.*", "matches every class"),
        ("torch.nn.*", "matches every class"),
        ("aten.conv*", "pattern matches classes"),
        ("torch.ops.mine.*_scan", "pattern matches classes"),
        ("*..Scan", "not a pattern"),
        ("*.Sc an", "not a pattern"),
        (".*", "not a pattern"),
    ],
)
def test_one_of_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(RuleLoadError, match=message):
        rule(pattern)


def test_two_rules_of_one_pattern_are_refused() -> None:
    with pytest.raises(DuplicateRule, match=r"two rules for \*\.Scan"):
        rulebook([named("*.Scan", 7), named("*.Scan", 5)])


class TestThatOfResNetBK:
    """Its own BKCoreFunction, wherever its repository is put."""

    @staticmethod
    def function(argument: str) -> Any:
        module = types.ModuleType("resnet_bk_elsewhere")
        code = (
            "import torch\n"
            "class BKCoreFunction(torch.autograd.Function):\n"
            "    @staticmethod\n"
            f"    def forward(ctx, {argument}, h0_super, h0_sub, z): return {argument} * 2, {argument} + 1j\n"
            "    @staticmethod\n"
            "    def backward(ctx, features, G): return features * 2, None, None, None\n"
        )
        exec(code, vars(module))
        sys.modules[module.__name__] = module
        return module.BKCoreFunction

    def test_has_the_published_count(self) -> None:
        bands = torch.ones(2, 7)
        report = analyze(lambda x: self.function("he_diag").apply(x, bands, bands, 1j), (X,))
        assert not report.unknown
        assert (report.forward, report.backward) == (34 * X.numel(), 26 * X.numel())

    def test_is_not_that_of_one_with_other_arguments(self) -> None:
        bands = torch.ones(2, 7)
        report = analyze(lambda x: self.function("values").apply(x, bands, bands, 1j)[0], (X,))
        assert not report.unknown
        assert "BKCoreFunction: no rule names it" in report.capture_notes[1]
