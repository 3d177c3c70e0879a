"""graphflops verify: rules against the reference counts, and published formulas against polynomials of what runs."""

from pathlib import Path

import pytest
import sympy
import torch
from torch import nn

from graphflops import Cost, Spec, Work, rule
from graphflops.analysis.op_counter import count_scalar_ops
from graphflops.cli import main
from graphflops.models.published import PUBLISHED, executed_formula, polynomial
from graphflops.verify.rule_check import verify

N, D, E = sympy.symbols("N D E", integer=True, positive=True)
LAWS = {published.name: published for published in PUBLISHED}
X = torch.zeros(4, 6, requires_grad=True)


def test_the_textbook_rule_of_softmax_leaves_out_the_maximum() -> None:
    (softmax,) = verify(lambda x: x.softmax(-1), (X,)).checks
    assert not softmax.agrees
    assert softmax.measured["forward"].elementwise - softmax.rule_work["forward"].elementwise == 2 * X.numel()
    assert softmax.measured["backward"] == softmax.rule_work["backward"]
    assert "maximum" in softmax.about


def test_a_model_of_matrix_products_agrees_in_everything() -> None:
    verification = verify(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (X,))
    assert all(check.agrees for check in verification.checks)
    assert verification.passed


def test_a_rule_that_leaves_out_a_product_is_contradicted() -> None:
    @rule(torch.ops.aten.linear)
    def half(input: Spec, out: Spec) -> Cost:
        """Forward alone."""
        return Cost(Work(macs=out.numel * input.shape[-1]), {"*": Work()})

    verification = verify(nn.Linear(6, 8), (X,), rules=[half])
    product = 4 * 6 * 8
    assert verification.macs == {"forward": (product, product), "backward": (0, 2 * product)}
    assert not verification.passed


def test_what_bk_core_executes_is_linear_in_its_length() -> None:
    """At lengths far from those that the law was found at."""
    published = LAWS["BK-Core"]
    for way in ("forward", "backward"):
        law = executed_formula(published, way)
        assert all(sympy.degree(formula, N) == 1 for formula in law.values())
        for length in (29, 40):
            call, args = published.run(length)
            counted = getattr(count_scalar_ops(call, args), way)
            assert {name: law[name].subs(N, length) for name in law} == dict(counted.items())


def test_layer_norm_and_softmax_by_hand() -> None:
    """mean 1, variance 3, scale 1, affine 2, and ε; three divisions a row. Maximum, subtract, exp, add, divide."""
    assert executed_formula(LAWS["LayerNorm"], "forward") == {"elementwise": 7 * D + 1, "division": 3}
    assert executed_formula(LAWS["softmax of the gate"], "forward") == {
        "elementwise": 3 * E,
        "division": E,
        "transcendental": E,
    }
    assert executed_formula(LAWS["softmax of the gate"], "backward") == {"elementwise": 4 * E}


def test_a_polynomial_is_checked_at_points_that_did_not_make_it() -> None:
    assert polynomial({n: 2 * n**2 - n for n in range(1, 6)}, N) == 2 * N**2 - N
    assert polynomial({1: 7, 2: 7, 3: 7}, N) == 7
    with pytest.raises(ValueError, match="no polynomial"):
        polynomial({n: 2**n for n in range(1, 6)}, N)


@pytest.mark.slow
def test_the_command_prints_differences_and_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 0
    printed = capsys.readouterr().out
    assert "graphflops.bk_core" in printed
    assert "34·N" in printed
    assert printed.count(": equal") == 2


def test_the_command_ends_with_4_if_products_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.py").write_text(
        "from graphflops import Cost, Work, rule\n"
        '@rule("aten::linear")\n'
        "def wrong(out):\n"
        '    "Half of it."\n'
        '    return Cost(Work(macs=out.numel), {"*": Work()})\n'
    )
    (tmp_path / "one_layer.py").write_text("from torch import nn\ndef layer():\n    return nn.Linear(6, 8)\n")
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "one_layer:layer", "--input", "4x6"]) == 0
    assert main(["verify", "one_layer:layer", "--input", "4x6", "--rules", "wrong.py"]) == 4
    captured = capsys.readouterr()
    assert "difference +160" in captured.out
    assert "dispatches" in captured.err
