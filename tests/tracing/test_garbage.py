"""Python collects garbage less often while an analysis runs alone, and as often as before beside other threads."""

import gc
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch

from graphflops import CaptureError, analyze
from graphflops.analysis import pipeline
from graphflops.tracing.attempts import trace

X = torch.ones(3, 4)


@pytest.fixture(autouse=True)
def same_settings_afterwards() -> Iterator[None]:
    before, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*before)
    gc.enable() if enabled else gc.disable()


def threshold_in_analysis() -> tuple[int, int, int]:
    """The threshold of garbage collection while a model is traced."""
    thresholds: list[tuple[int, int, int]] = []

    def noting_trace(*args: Any, **kwargs: Any) -> Any:
        thresholds.append(gc.get_threshold())
        return trace(*args, **kwargs)

    with patch.object(pipeline, "trace", noting_trace):
        analyze(torch.nn.Linear(4, 4), (X,))
    return thresholds[-1]


def test_less_often_during_an_analysis_and_as_before_after_it() -> None:
    gc.set_threshold(500, 8, 9)
    with patch.object(threading, "active_count", return_value=2):  # other tests may have left threads
        assert threshold_in_analysis()[0] > 500
    assert gc.get_threshold() == (500, 8, 9)


def test_also_after_one_that_fails() -> None:
    gc.set_threshold(500, 8, 9)
    with pytest.raises(CaptureError):
        analyze(lambda x: x.no_such_attribute, (X,))
    assert gc.get_threshold() == (500, 8, 9)


def test_not_less_often_than_the_user_has_it() -> None:
    gc.set_threshold(10**6, 8, 9)
    assert threshold_in_analysis() == (10**6, 8, 9)


def test_not_where_the_user_has_disabled_it() -> None:
    gc.set_threshold(500, 8, 9)
    gc.disable()
    assert threshold_in_analysis() == (500, 8, 9)
    assert not gc.isenabled()


def test_not_where_another_thread_is_at_work() -> None:
    gc.set_threshold(500, 8, 9)
    finished = threading.Event()
    thread = threading.Thread(target=finished.wait)
    thread.start()
    try:
        assert threshold_in_analysis() == (500, 8, 9)
    finally:
        finished.set()
        thread.join()


def test_settings_of_the_program_stay() -> None:
    gc.set_threshold(500, 8, 9)
    analyze(lambda x: gc.set_threshold(600, 7, 7) or x * 2, (X,))
    assert gc.get_threshold() == (600, 7, 7)
