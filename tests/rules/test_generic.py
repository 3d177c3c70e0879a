"""Operators that no rule names, priced by what PyTorch says of them."""

from collections.abc import Callable
from typing import Any

import pytest
import sympy
import torch
from cases import Case, complexes, ints, ops_of, reals

from graphflops import Cost, Spec, Work, analyze, rule, spec
from graphflops.rules.book import RuleBook
from graphflops.rules.fallback import generic_rule
from graphflops.rules.loading import shipped
from graphflops.rules.rule import Rule

aten = torch.ops.aten


def generic(op: Any) -> Rule:
    rule = generic_rule(op)
    assert rule is not None
    return rule


def price(op: Any, **arguments: Any) -> Cost:
    return generic(op).evaluate(arguments)


@pytest.mark.parametrize(
    "run",
    [
        torch.special.bessel_j0,
        torch.special.bessel_y1,
        torch.special.airy_ai,
        torch.special.scaled_modified_bessel_k0,
        torch.special.spherical_bessel_j0,
        lambda x: torch.special.chebyshev_polynomial_t(x, 3),
    ],
)
def test_the_long_tail_of_functions_is_one_operation_an_element(run: Callable[..., Any]) -> None:
    report = analyze(run, (torch.empty(4, 6),))
    assert report.coverage.unknown == 0
    assert report.forward == 4 * 6
    (entry,) = (entry for entry in report.entries if entry.kind == "call")
    assert "generic" in str(entry.rule)


def test_a_gradient_is_one_operation_an_element_and_the_sums_of_what_was_broadcast() -> None:
    cost = price(aten.logaddexp.default, self=spec(4, 6), other=spec(6), out=spec(4, 6))
    assert cost.forward == Work(elementwise=24)
    assert dict(cost.grads) == {"self": Work(elementwise=24), "other": Work(elementwise=24, accumulate=24 - 6)}


def test_a_reduction_is_one_operation_an_element_of_the_input() -> None:
    cost = price(aten.nansum.default, self=spec(4, 6), out=spec())
    assert (cost.forward, dict(cost.grads)) == (Work(elementwise=24), {"self": Work(elementwise=24)})


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (aten.view_as_real.default, "view"),
        (aten.squeeze_.default, "view"),
        (aten.unfold_copy.default, "view"),
        (aten.logspace.default, "creation"),
        (aten._linalg_check_errors.default, "check"),
    ],
)
def test_views_by_the_schema_are_free(op: Any, kind: str) -> None:
    rule = generic(op)
    assert rule.name == f"generic {kind}"
    assert rule.about.startswith("generic")
    cost = rule.evaluate({"out": spec(2)})
    assert not cost.forward
    assert not any(cost.grads.values())


def test_a_rule_that_names_the_operator_speaks_over_the_generic_one() -> None:
    @rule(aten.special_bessel_j0)
    def own_rule(self: Spec) -> Any:
        """Mine."""

    assert RuleBook.of([own_rule]).find(aten.special_bessel_j0.default) is own_rule


@pytest.mark.parametrize(("variant", "base"), [("view_copy", "view"), ("expand_copy", "expand"), ("relu_", "relu")])
def test_a_variant_has_the_rule_of_its_base(variant: str, base: str) -> None:
    book = shipped()
    assert book.find(getattr(aten, variant).default) is book.rules[f"aten::{base}"]


@pytest.mark.parametrize(
    "op",
    [
        aten.matmul.default,  # composite: what it runs is priced instead
        aten.linalg_matrix_exp.default,
        aten._foreach_add_.List,  # returns nothing, but writes
        aten.renorm.default,
    ],
)
def test_operators_without_tags_stay_unknown(op: Any) -> None:
    assert generic_rule(op) is None


def test_an_operator_of_somebody_else_is_never_generic() -> None:
    assert generic_rule(torch.ops.prims.sin.default) is None


def test_an_operation_on_complex_numbers_is_six_real_ones_and_an_addition_two() -> None:
    two = spec(2, dtype="complex64")
    assert price(aten.sinc.default, self=two, out=two) == Cost(Work(elementwise=12), {"self": Work(elementwise=12)})
    assert price(aten.nansum.default, self=two, out=spec(dtype="complex64")).forward == Work(elementwise=4)


@pytest.mark.parametrize(
    "op", [aten.copysign.Tensor, aten.ldexp.Tensor, aten.bitwise_left_shift.Tensor_Scalar], ids=str
)
def test_operators_that_have_only_named_overloads_are_of_the_long_tail_too(op: Any) -> None:
    if torch.Tag.pointwise not in op.tags:
        pytest.skip("this PyTorch does not say that it works element by element")
    rule = generic_rule(op)
    assert rule is not None
    assert rule.name == "generic pointwise"


def test_integers_stay_integers_and_have_no_gradient() -> None:
    cost = price(
        aten.gcd.default, self=spec(3, dtype="int64"), other=spec(3, dtype="int64"), out=spec(3, dtype="int64")
    )
    assert cost.forward == Work(integer=3)
    assert not any(cost.grads.values())


def test_generic_rules_are_pure_in_their_sizes() -> None:
    n, m = sympy.symbols("n m", positive=True)
    assert price(aten.hypot.default, self=spec(n, m), other=spec(n, m), out=spec(n, m)).forward.elementwise == n * m


def test_what_is_traced_finds_them() -> None:
    (op,) = ops_of(Case("", lambda x: torch.gcd(x, x), (ints(4),)))
    rule = shipped().find(op.call)
    assert rule is not None
    assert rule.name == "generic pointwise"
    (op,) = ops_of(Case("", torch.special.i1e, (reals(4),)))
    assert op.needs_grad == {"self"}
    assert analyze(torch.special.i1e, (reals(4),)).coverage.unknown == 0


def test_a_complex_call_is_known() -> None:
    report = analyze(torch.sinc, (complexes(4),))
    assert (report.coverage.unknown, report.forward) == (0, 24)
