"""Ctrl-C at any moment of an analysis: the caller is interrupted, and nothing is modified."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch
from programs import programs
from state import differences, state_of
from torch import Tensor, nn

from graphflops import analyze

X = torch.ones(3, 4)
NAMES = ["in_object", "in_table", "in_containers", "in_random", "batch norm", "converted"]
MOMENTS = 100

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread"
)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Send Ctrl-C after some seconds."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Python itself drops an interrupt that comes in the callback of a weak reference, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_at_random_moments() -> None:
    models = {name: programs()[name] for name in NAMES}
    longest = {}
    for name, model in models.items():
        analyze(model, (X,))
        start = time.perf_counter()
        analyze(model, (X,))
        longest[name] = time.perf_counter() - start
    before = state_of(models, X)
    reports = {name: analyze(model, (X,)) for name, model in models.items()}
    moments, interrupted = random.Random(0), 0
    for i in range(MOMENTS):
        name = NAMES[i % len(NAMES)]
        try:
            with interrupted_after(moments.uniform(1e-5, longest[name])):
                analyze(models[name], (X,))
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        if i % 25 == 24:
            assert differences(before, state_of(models, X)) == []
    assert interrupted > MOMENTS / 10
    assert {name: analyze(model, (X,)) for name, model in models.items()} == reports


def test_code_that_calls_no_operator_is_stopped_too() -> None:
    def model(x: Tensor) -> Tensor:
        while True:
            pass

    before = state_of(X)
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
        analyze(model, (X,))
    assert differences(before, state_of(X)) == []


def test_an_interrupt_that_the_model_catches_reaches_the_caller_too() -> None:
    def model(x: Tensor) -> Tensor:
        for _ in range(10_000):
            with suppress(BaseException):
                x = x + 1
        return x

    with pytest.raises(KeyboardInterrupt), interrupted_after(0.2):
        analyze(model, (X,))


class Stops(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Any:
        self.kept = x * 2
        raise self.error


def test_a_model_that_interrupts_itself() -> None:
    model = Stops(KeyboardInterrupt())
    before = state_of(model, X)
    with pytest.raises(KeyboardInterrupt):
        analyze(model, (X,))
    assert differences(before, state_of(model, X)) == []
