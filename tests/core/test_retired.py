"""Names of the version before work, and say what they are called now."""

import importlib
import subprocess
import sys
import warnings

import pytest

import graphflops
from graphflops import Work, multiples, spec
from graphflops.core.names import aten
from graphflops.core.retired import LASTING, RETIRED, resolve
from graphflops.rules.templates import additions, derivative, multiplications, multiply_adds, unary


@pytest.mark.parametrize("old", sorted(RETIRED.keys() - LASTING))
def test_an_old_name_is_the_new_one(old: str) -> None:
    sys.modules.pop(old, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old_object = resolve(old)
    assert f"{old} is now {RETIRED[old]}".replace(":", ".") in {str(warning.message) for warning in caught}
    new = resolve(RETIRED[old])
    if ":" in old:
        assert old_object is new
    else:
        assert all(getattr(old_object, name) is value for name, value in vars(new).items() if not name.startswith("_"))


def test_a_name_that_never_was_is_none() -> None:
    with warnings.catch_warnings(action="ignore"):
        costs = importlib.import_module("graphflops.costs")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = costs.no_such_name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = graphflops.no_such_name


def test_the_warning_is_about_the_line_that_imports() -> None:
    code = "import graphflops\nfrom graphflops.sizes import Spec\nfrom graphflops.report import Report"
    process = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert process.stderr.splitlines() == [
        "<string>:2: DeprecationWarning: graphflops.sizes is now graphflops.core.sizes",
        "<string>:3: DeprecationWarning: graphflops.report.Report is now graphflops.report.report.Report",
    ]


def test_old_attributes_are_the_new_ones() -> None:
    cost = graphflops.Cost(graphflops.Work(macs=3))
    with pytest.warns(DeprecationWarning, match=r"^Cost\.abreast is now parallel$"):
        assert cost.abreast(2) == cost.parallel(2)
    with pytest.warns(DeprecationWarning, match=r"^Spec\.held is now effective_numel$"):
        assert graphflops.spec(2, 3).held == 6


@pytest.mark.parametrize("function", [additions, multiplications, multiply_adds])
def test_old_argument_names_of_work_are_the_new_ones(function) -> None:
    with pytest.warns(DeprecationWarning, match=rf"^{function.__name__}\(of=…\) is now .*\(operand=…\)$"):
        assert function(3, of=spec(2)) == function(3, spec(2))


def test_old_argument_names_of_templates_are_the_new_ones() -> None:
    work = Work(transcendental=1)
    with pytest.warns(DeprecationWarning, match=r"^unary\(each=…\) is now unary\(forward=…\)$"):
        rule = unary(aten.exp, each=work, grad=work)
    assert rule.cost(spec(5)).forward == Work(transcendental=5)
    with pytest.warns(DeprecationWarning, match=r"^derivative\(of=…\) is now derivative\(function=…\)$"):
        assert derivative(aten.exp_backward, of=rule).cost(spec(5)).forward == Work(transcendental=5)
    with pytest.warns(DeprecationWarning, match=r"^multiples\(") as warnings_given:
        assert multiples(of=4, at=8, most=16) == multiples(multiple_of=4, base=8, max=16)
    assert {warning.filename for warning in warnings_given} == {__file__}


def test_an_argument_under_both_names_is_an_error() -> None:
    with pytest.warns(DeprecationWarning, match="max"), pytest.raises(TypeError, match=r"multiple values for .*'max'"):
        multiples(4, max=8, most=8)
