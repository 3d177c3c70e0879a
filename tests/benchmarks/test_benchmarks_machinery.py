"""The harness of the benchmarks, on two blocks, once; the benchmarks themselves are run by `make bench`."""

import json
from pathlib import Path

import pytest
from bench_measure import memory, seconds, tools
from bench_page import bars, write
from bench_rows import Row, blocks, rows, stream
from bench_run import TORCH, Measurements, commands, commands_by_name, timed

ONE = Row("one", "one block", lambda: lambda: blocks(1, 16), lambda: stream(16))
TINY = Row("depth_8", "two blocks", lambda: lambda: blocks(2, 16), lambda: stream(16), depth=8, alone=ONE)


@pytest.fixture(scope="module")
def run() -> dict:
    return seconds(TINY, graphflops_first=True)


def measured(step: float = 1, torch_step: float = 1, build: float = 1, memory: float = 1) -> dict:
    run = {"forward": step, "torch_forward": torch_step, "step": step, "torch_step": torch_step, "build": build}
    return {"code": "now", "runs": [{**run, "failed": {}}], "memory": {"memory": memory}}


JOBS = {"forward", "torch_forward", "step", "torch_step", "step_again", "step_unfolded", "step_by_mode"}


@pytest.mark.slow
def test_every_job_is_timed(run: dict) -> None:
    assert run["failed"] == {}
    assert all(run[job] > 0 for job in ("build", "alone", *JOBS))


@pytest.mark.slow
def test_both_counts_of_a_step_are_equal(run: dict) -> None:
    torch_count, count = run["counted"]
    assert torch_count == count > 0


@pytest.mark.slow
def test_an_error_in_one_job_leaves_the_others() -> None:
    def unusable() -> tuple:
        return (), {}

    run = seconds(Row("wrong", "", TINY.load, unusable), graphflops_first=False)
    assert set(run["failed"]) == JOBS
    assert run["build"] > 0


def test_memory_excludes_imports() -> None:
    used = memory(TINY)
    assert 0 <= used["memory_build"] <= used["memory"] < 200


@pytest.mark.slow
def test_a_counter_that_fails_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: object, args: object) -> None:
        raise ValueError("no such layer\nand more")

    monkeypatch.setattr("bench_measure.TOOLS", {"broken": broken})
    result = tools(TINY, 1)
    assert result["failed"] == {"broken": "ValueError: no such layer and more"}
    assert len(result["tools"]["graphflops"]) == 1


def test_measurements_are_kept_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.json"
    Measurements(path).keep("a", measured())
    Measurements(path).keep("b", measured())
    assert Measurements(path).rows == json.loads(path.read_text()) == {"a": measured(), "b": measured()}
    path.write_text("{cut")
    assert Measurements(path).rows == {}


def test_a_command_that_fails_has_a_reason() -> None:
    quick = {"fine": ["-c", "pass"], "broken": ["-c", "raise SystemExit('no such model')"]}
    result = timed(quick, rounds=2, step=lambda _: None)
    assert [set(run) for run in result["runs"]] == [{"fine", "broken"}] * 2
    assert result["failed"] == {"broken": "no such model"}


def test_commands_by_name_are_of_installed_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench_run.find_spec", lambda name: None)
    assert TORCH in commands_by_name()
    assert len(commands_by_name()) == 1


class TestBars:
    def verdicts(self, **measurements: dict) -> list[bool | None]:
        return [bar.passed for bar in bars(rows(), measurements)]

    def test_without_measurements(self) -> None:
        assert set(self.verdicts()) == {None}

    @pytest.mark.parametrize(
        ("row", "passed"),
        [
            (measured(step=1, torch_step=11, build=6), [True, True, True]),
            (measured(step=1, torch_step=9, build=4), [False, False, True]),
            (measured(step=2, torch_step=1, build=1), [False, False, False]),
        ],
    )
    def test_the_largest_model_and_all_rows(self, row: dict, passed: list[bool]) -> None:
        assert self.verdicts(llama_405b=row)[:3] == passed

    def test_growth_with_depth(self) -> None:
        grown = {"depth_8": measured(step=10, build=1), "depth_512": measured(step=20, build=3)}
        assert self.verdicts(**grown)[3] is True
        assert self.verdicts(**{**grown, "depth_512": measured(step=30, build=3)})[3] is False

    def test_memory_of_all_rows(self) -> None:
        assert self.verdicts(gpt2=measured(memory=199))[4] is True
        assert self.verdicts(gpt2=measured(memory=199), resnet50=measured(memory=201))[4] is False

    def test_start_up(self) -> None:
        started = dict.fromkeys(commands(Path("report.json")), 0.3)
        assert self.verdicts(start_up={"runs": [started]})[5:7] == [True, True]
        slow = {**started, "import torch, graphflops": 0.4, "graphflops rules list": 0.4}
        assert self.verdicts(start_up={"runs": [slow]})[5:7] == [False, False]

    @pytest.mark.parametrize(("mixtral", "passed"), [(9.9, True), (10.1, False)])
    def test_models_by_name(self, mixtral: float, passed: bool) -> None:
        by_name = {"code": "now", "runs": [{TORCH: 2.0, "ResNet-50": 5.0, "Mixtral": mixtral}], "failed": {}}
        assert self.verdicts(by_name=by_name)[-1] is passed
        assert "| ResNet-50 | `graphflops torchvision:resnet50` | 2.50 × | 5.0 |" in write(
            rows(), {"by_name": by_name}, "now"
        )
        assert self.verdicts(by_name={**by_name, "failed": {"Whisper": "no such model"}})[-1] is False


class TestThePage:
    def test_lists_failed_jobs_with_reasons(self) -> None:
        row = {**measured(), "memory": {"failed": {"memory": "died"}}}
        page = write(rows(), {"gpt2": row}, "now")
        assert "| gpt2 | memory | died |" in page

    def test_has_the_time_of_a_single_block(self) -> None:
        row = measured(build=8)
        row["runs"][0]["alone"] = 2
        assert "takes 0.250 × of the time to build" in " ".join(write(rows(), {"llama_405b": row}, "now").split())

    def test_marks_measurements_of_earlier_code(self) -> None:
        assert "earlier state of the code: gpt2" in write(rows(), {"gpt2": measured()}, "later")

    def test_has_the_ratio_of_each_run_and_the_median(self) -> None:
        runs = [measured(step=step, torch_step=10)["runs"][0] for step in (1, 2, 9)]
        assert "| 0.200 × | 0.200 × |" in write(rows(), {"gpt2": {**measured(), "runs": runs}}, "now")
