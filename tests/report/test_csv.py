"""CSV: exact numbers that sum to the report's, and no name that a spreadsheet runs."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from made_reports import FEW, reports
from torch import Tensor, nn

from graphflops import Report, UsageError, Work, analyze
from graphflops.cli import main
from graphflops.core.entries import PHASES, Entry, Formula, Unknown
from graphflops.report.conventions import STANDARD
from graphflops.report.parts import Costs, ModelInfo


@torch.library.custom_op("exports::odd", mutates_args=())
def odd(x: Tensor) -> Tensor:
    return x.clone()


@odd.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return odd(x)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@FEW
@given(reports())
def test_the_row_of_the_model_is_the_total_and_own_sums_to_it(report: Report) -> None:
    rows = read(report.to_csv())
    assert {phase: int(rows[0][phase]) for phase in PHASES} == {phase: report.flops(phase) for phase in PHASES}
    assert int(rows[0]["total"]) == sum(int(row["own"]) for row in rows) == report.total
    assert [int(row["forward"]) for row in rows] == list(report.by_module("forward").values())


@FEW
@given(reports())
def test_the_rows_of_ops_sum_to_the_total_in_each_column(report: Report) -> None:
    rows = read(report.to_csv(by="op"))
    for phase in (*PHASES, "total"):
        assert sum(int(row[phase] or 0) for row in rows) == report.flops(phase)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["module", "op"])
@FEW
@given(report=reports())
def test_no_name_is_a_formula_and_a_row_is_a_line(report: Report, by: str) -> None:
    text = report.to_csv(by=by)  # type: ignore[arg-type]
    rows = read(text)
    assert len(text.split("\n")) == len(rows) + 2
    cells = [cell for row in rows for cell in row.values()]
    pieces = [piece.strip() for cell in cells for piece in cell.replace(";", ",").split(",")]
    assert [piece for piece in pieces if piece.startswith(("=", "+", "-", "@", "\uff1d"))] == []


def test_a_number_that_is_not_known_is_empty() -> None:
    report = analyze(nn.Sequential(nn.Linear(4, 4), Odd()), (torch.ones(2, 4),))
    (row,) = [row for row in read(report.to_csv(by="op")) if row["coverage"] == "unsupported"]
    assert row["path"] == "1"
    assert row["forward"] == row["total"] == ""
    assert [row["unsupported"] for row in read(report.to_csv())] == ["1", "0", "1"]


def test_a_gradient_that_is_not_known_is_empty_beside_the_forward_pass_that_is() -> None:
    info = ModelInfo("Model", {}, {}, frozenset(), {"": "Model"}, frozenset({""}))
    known = Entry("call", "", "mul", "aten.mul", "", "", {"forward": Work(elementwise=6)}, "", "", Formula("", {}, {}))
    unknown = Unknown("mul", "aten.mul", "", "", (), (), "the gradient of x has no rule")
    (row,) = read(Report(info, Costs((known,), (unknown,)), STANDARD).to_csv(by="op"))
    assert (row["coverage"], row["forward"], row["dgrad"], row["total"]) == ("unsupported", "6", "", "6")


def test_rows_by_anything_else_are_an_error() -> None:
    with pytest.raises(UsageError, match="by module or by op, not by 'layer'"):
        analyze(nn.Linear(2, 2), (torch.ones(1, 2),)).to_csv(by="layer")  # type: ignore[arg-type]


def test_a_saved_report_is_exported_without_torch(tmp_path: Path) -> None:
    report = analyze(nn.Linear(2, 2), (torch.ones(1, 2),))
    saved, written = report.to_json(tmp_path / "report.json"), tmp_path / "report.csv"
    arguments = ["show", str(saved), "--csv", str(written)]
    code = f"import sys; from graphflops.cli import main; sys.exit(main({arguments!r}) or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
    assert written.read_text(encoding="utf-8") == report.to_csv()


def test_the_command_writes_the_file_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.csv"
    assert main(["analyze", "torch.nn:Identity", "--input", "input=2", "--csv", str(path)]) == 0
    assert f"report     {path}" in capsys.readouterr().out
    assert [row["module"] for row in read(path.read_text(encoding="utf-8"))] == ["Identity"]
