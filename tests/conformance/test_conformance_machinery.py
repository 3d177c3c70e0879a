"""The machinery of the conformance models, on one or two layers; `make conformance` runs the models."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from page import verdict, write
from run import Rows, Runner, measure
from torch import nn
from zoo import Case, Entry, entries, floats


def entry(name: str, model: object, *args: object) -> Entry:
    return Entry("layers", name, lambda: Case(model, args))


torch.library.define("conformance::doubled", "(Tensor x) -> Tensor")  # of somebody's, of which no rule knows
torch.library.register_fake("conformance::doubled", torch.empty_like)


def doubled(x: torch.Tensor) -> Any:
    return torch.ops.conformance.doubled(x)


@pytest.fixture
def row() -> dict[str, object]:
    return measure(entry("a layer", nn.Linear(3, 4), floats(2, 3)))


def test_a_layer_is_exact(row):
    assert row["forward"] == [24, 24]
    assert row["backward"] == [24, 24]
    assert verdict(row) == "exact"


def test_a_row_with_an_unsupported_op_is_not_exact():
    assert verdict(measure(entry("nobody's", doubled, floats(3, 3)))) == "unsupported ops"
    assert verdict({"forward": [1, 1], "backward": [2, 2], "unknown": {"aten.new": 1}}) == "unsupported ops"
    assert verdict({"forward": [1, 1], "backward": [2, 3], "unknown": {}}) == "differs"


def test_a_row_that_differs_from_the_published_number_is_not_exact():
    model = nn.Linear(1000, 1000, bias=False), floats(50, 1000)
    printed = {
        published: measure(Entry("layers", "a", lambda: Case(model[0], model[1:]), published=published))
        for published in (0.05, 0.051)
    }
    assert verdict(printed[0.05]) == "exact"
    assert verdict(printed[0.051]) == "differs"
    assert "| a | published | 0.05 | 0.051 |" in write([printed[0.051]])


def test_an_error_is_one_line_with_its_stage():
    def broken() -> Case:
        raise RuntimeError("one\n   two")

    row = measure(Entry("layers", "broken", broken))
    assert (row["failed"], row["error"]) == ("zoo", "RuntimeError: one two")
    assert verdict(row) == "zoo failed"


def test_data_dependence_is_no_failure():
    row = measure(entry("branch", lambda x: x if x.sum() > 0 else -x, floats(3)))
    assert verdict(row) == "data-dependent"


def test_unfold_compares_with_the_report_without_folding():
    model = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU()) for _ in range(4)))
    assert measure(entry("stack", model, floats(2, 3)), unfold=True)["unfolded"] == "the same"


def test_a_row_that_differs_is_not_exact(row):
    assert verdict({**row, "unfolded": "another report"}) == "folded wrong"


def test_refused_entries_are_not_built():
    row = measure(Entry("layers", "refused", lambda: pytest.fail("built"), refused="because"))
    assert row["refused"] == "because"
    assert verdict(row) == "refused"


def test_rows_are_kept_on_disk_and_later_ones_win(tmp_path: Path, row):
    path = tmp_path / "deep" / "rows.jsonl"
    Rows(path).add({**row, "forward": [1, 2]})
    Rows(path).add(row)
    assert Rows(path).by_key == {"layers/a layer": row}
    assert len(path.read_text().splitlines()) == 2


def test_a_row_cut_off_by_an_interruption_is_run_again(tmp_path: Path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row)[:20])
    rows = Rows(path)
    rows.add({**row, "name": "another"})
    assert list(Rows(path).by_key) == ["layers/a layer", "layers/another"]


def test_the_page_never_rounds_to_one(row):
    page = write([{**row, "forward": [10**9 + 1, 10**9]}])
    assert "just above 1" in page
    assert "1,000,000,001" in page


def test_a_family_that_did_not_run_stays_on_the_page(row):
    page = write([row, {**row, "family": "timm", "name": "another", "forward": [1, 2]}])
    assert write([], page) == page
    later = write([{**row, "name": "renamed"}], page)
    assert "| renamed |" in later
    assert "| a layer |" not in later
    assert "| another | forward | 1 | 2 |" in later
    assert "| **all** | 2 | 1 | 1 | 2 |" in later


def test_the_page_of_the_repository_is_unchanged():
    page = (Path(__file__).parents[2] / "docs/conformance.md").read_text(encoding="utf-8")
    assert write([], page) == page


def test_a_missing_package_is_reported():
    row = measure(Entry("wild", "nobodys-package: a model", lambda: pytest.fail("built"), package="nobodys-package"))
    assert (verdict(row), row["error"]) == ("zoo failed", "nobodys-package is not installed")
    assert "nobodys-package is not installed" in write([row])


def test_a_row_names_its_package_with_its_version():
    row = measure(Entry("wild", "torch: a layer", lambda: Case(nn.Linear(3, 4), (floats(2, 3),)), package="torch"))
    assert f"| torch {torch.__version__.partition('+')[0]}" in write([row])


def test_a_worker_that_takes_too_long_is_replaced():
    rows = []
    runner = Runner(jobs=1, limit=0.001, starting=0)
    runner.run([entry for entry in entries(["layers"]) if entry.name == "Linear"], rows.append)
    assert verdict(rows[0]) == "worker failed"


def test_names_are_unique():
    keys = [entry.key for entry in entries(["layers", "training"])]
    assert len(keys) == len(set(keys))
    assert torch.get_default_device() == torch.device("cpu")
