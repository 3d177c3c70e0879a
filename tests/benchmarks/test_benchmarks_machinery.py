"""The harness of the benchmarks, on two blocks, once; the benchmarks themselves are run by `make bench`."""

import json
from pathlib import Path

import pytest
from bench_measure import memory, seconds, tools
from bench_page import bars, write
from bench_rows import Row, blocks, rows, stream
from bench_run import Found, commands

ONE = Row("one", "one block", lambda: lambda: blocks(1, 16), lambda: stream(16))
TINY = Row("depth_8", "two blocks", lambda: lambda: blocks(2, 16), lambda: stream(16), depth=8, alone=ONE)


@pytest.fixture(scope="module")
def run() -> dict:
    return seconds(TINY, ours_first=True)


def measured(step: float = 1, torch_step: float = 1, build: float = 1, memory: float = 1) -> dict:
    run = {"forward": step, "torch_forward": torch_step, "step": step, "torch_step": torch_step, "build": build}
    return {"code": "now", "runs": [{**run, "failed": {}}], "memory": {"memory": memory}}


JOBS = {"forward", "torch_forward", "step", "torch_step", "step_again", "step_unfolded", "step_by_mode"}


def test_every_job_is_timed(run: dict) -> None:
    assert run["failed"] == {}
    assert all(run[job] > 0 for job in ("build", "alone", *JOBS))


def test_both_do_the_same_job(run: dict) -> None:
    theirs, ours = run["counted"]
    assert theirs == ours > 0


def test_a_job_that_raises_takes_no_other_down() -> None:
    def unusable() -> tuple:
        return (), {}

    run = seconds(Row("wrong", "", TINY.load, unusable), ours_first=False)
    assert set(run["failed"]) == JOBS
    assert run["build"] > 0


def test_memory_is_that_beyond_the_imports() -> None:
    used = memory(TINY)
    assert 0 <= used["memory_build"] <= used["memory"] < 200


def test_a_counter_that_does_not_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: object, args: object) -> None:
        raise ValueError("no such layer\nand more")

    monkeypatch.setattr("bench_measure.TOOLS", {"broken": broken})
    found = tools(TINY, 1)
    assert found["failed"] == {"broken": "ValueError: no such layer and more"}
    assert len(found["tools"]["graphflops"]) == 1


def test_what_was_measured_outlasts_the_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "found.json"
    Found(path).keep("a", measured())
    Found(path).keep("b", measured())
    assert Found(path).rows == json.loads(path.read_text()) == {"a": measured(), "b": measured()}
    path.write_text("{cut")
    assert Found(path).rows == {}


class TestBars:
    def verdicts(self, **found: dict) -> list[bool | None]:
        return [bar.holds for bar in bars(rows(), found)]

    def test_of_nothing_are_not_measured(self) -> None:
        assert set(self.verdicts()) == {None}

    @pytest.mark.parametrize(
        ("row", "holds"),
        [
            (measured(step=1, torch_step=11, build=6), [True, True, True]),
            (measured(step=1, torch_step=9, build=4), [False, False, True]),
            (measured(step=2, torch_step=1, build=1), [False, False, False]),
        ],
    )
    def test_of_the_largest_and_of_every_row(self, row: dict, holds: list[bool]) -> None:
        assert self.verdicts(llama_405b=row)[:3] == holds

    def test_of_depth_compare_growth(self) -> None:
        grown = {"depth_8": measured(step=10, build=1), "depth_512": measured(step=20, build=3)}
        assert self.verdicts(**grown)[3] is True
        assert self.verdicts(**{**grown, "depth_512": measured(step=30, build=3)})[3] is False

    def test_of_memory_hold_for_every_row(self) -> None:
        assert self.verdicts(gpt2=measured(memory=199))[4] is True
        assert self.verdicts(gpt2=measured(memory=199), resnet50=measured(memory=201))[4] is False

    def test_of_start_up(self) -> None:
        started = dict.fromkeys(commands(Path("report.json")), 0.3)
        assert self.verdicts(start_up={"runs": [started]})[5:7] == [True, True]
        slow = {**started, "import torch, graphflops": 0.4, "graphflops rules list": 0.4}
        assert self.verdicts(start_up={"runs": [slow]})[5:7] == [False, False]


class TestThePage:
    def test_says_what_did_not_run_and_why(self) -> None:
        row = {**measured(), "memory": {"failed": {"memory": "died"}}}
        page = write(rows(), {"gpt2": row}, "now")
        assert "| gpt2 | memory | died |" in page

    def test_says_what_one_block_alone_takes(self) -> None:
        row = measured(build=8)
        row["runs"][0]["alone"] = 2
        assert "takes 0.250 × of the time to build" in " ".join(write(rows(), {"llama_405b": row}, "now").split())

    def test_says_what_another_state_of_the_code_was_measured_with(self) -> None:
        assert "earlier state of the code: gpt2" in write(rows(), {"gpt2": measured()}, "later")

    def test_shows_a_ratio_of_each_run_and_their_median(self) -> None:
        runs = [measured(step=step, torch_step=10)["runs"][0] for step in (1, 2, 9)]
        assert "| 0.200 × | 0.200 × |" in write(rows(), {"gpt2": {**measured(), "runs": runs}}, "now")
