"""Every shipped rule is reached by a case of the table, through nearly every target it names."""

import fnmatch

import pytest
import torch
from cases import CASES, rule_calls

from graphflops.rules.loading import shipped
from graphflops.rules.rule import Rule
from graphflops.rules.targets import is_pattern

NOT_TRACED = {"aten::norm", "aten::movedim", "aten::_reshape_alias", "aten::lift_fresh"}
"""what the PyTorch of today runs as something else"""


def rules() -> dict[int, Rule]:
    return {id(rule): rule for _, rule in shipped()}


@pytest.mark.slow
def test_every_rule_is_reached() -> None:
    reached = {id(call.rule) for call in rule_calls()}
    assert not [f"{rule.name} ({rule.source})" for key, rule in rules().items() if key not in reached]


def test_every_target_is_reached() -> None:
    reached = {call.target for call in rule_calls()} | NOT_TRACED
    if not hasattr(torch.ops.aten, "cholesky"):  # gone since PyTorch 2.15
        reached.add("aten::cholesky")
    named = {str(key).replace(".self", "").replace(".Tensor", "").replace("::", ".") for key, _ in shipped()}
    missing = named - {target.replace("::", ".") for target in reached}
    assert not [target for target in missing if not (is_pattern(target) and fnmatch.filter(reached, target))]


def test_the_names_of_cases_tell_them_apart() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def test_every_rule_has_a_description() -> None:
    assert not [rule.name for rule in rules().values() if not rule.about]
