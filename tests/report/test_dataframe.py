"""DataFrames: pandas sums what the report sums, also beyond 64 bits."""

import sys

import pytest
import torch
from hypothesis import given
from made_reports import FEW, reports
from torch import nn

from graphflops import Report, UsageError, analyze
from graphflops.core.entries import PHASES

pandas = pytest.importorskip("pandas", reason="pandas is not installed: it comes with the extra dev")


@FEW
@given(reports())
def test_the_columns_sum_to_the_report(report: Report) -> None:
    ops, modules = report.to_dataframe(by="op"), report.to_dataframe()
    for phase in (*PHASES, "total"):
        assert int(ops[phase].sum()) == report.flops(phase)  # type: ignore[arg-type]
        assert modules[phase].iloc[0] == report.flops(phase)  # type: ignore[arg-type]
    assert int(modules["own"].sum()) == report.total


@FEW
@given(reports())
def test_names_are_kept_as_they_are(report: Report) -> None:
    assert list(report.to_dataframe()["path"]) == list(report.by_module())


@FEW
@given(reports())
def test_a_number_that_is_not_known_is_missing(report: Report) -> None:
    ops = report.to_dataframe(by="op")
    assert list(ops["op"][ops["total"].isna()]) == ["odd"]


def test_numbers_are_integers_with_their_unit_and_convention() -> None:
    frame = analyze(nn.Linear(4, 4), (torch.ones(2, 4),), convention="thop").to_dataframe()
    assert frame.dtypes["total"] == "int64"
    assert frame.attrs == {"model": "Linear", "unit": "MAC", "convention": "thop"}


def test_without_pandas_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"pip install 'graphflops\[dataframe\]'"):
        analyze(nn.Linear(2, 2), (torch.ones(1, 2),)).to_dataframe()
