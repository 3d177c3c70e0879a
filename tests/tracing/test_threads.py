"""Analyses in several threads, beside threads that train, have the same results as alone."""

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
import torch
from programs import programs
from state import differences, state_of
from torch import Tensor, nn

from graphflops import analyze

X = torch.ones(3, 4)


def train(seed: int, steps: int, pause: Callable[[], Any] = lambda: None) -> list[Tensor]:
    """The parameters and buffers after a training run, whose random numbers are from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    for _ in range(steps):
        x = torch.randn(32, 8, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pause()
    return [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]


@pytest.mark.parametrize(
    "seconds", [pytest.param(3.0, id="a moment"), pytest.param(60.0, id="a minute", marks=pytest.mark.soak)]
)
def test_four_that_analyse_and_two_that_train(seconds: float) -> None:
    names = ["in_object", "in_place", "in_containers", "batch norm", "checkpointed", "converted", "frozen"]
    models = {name: programs()[name] for name in names}
    expected = {name: analyze(model, (X,)) for name, model in models.items()}
    before = state_of(models, X)
    end = time.monotonic() + seconds
    wrong: list[str] = []

    def analyses(seed: int) -> int:
        order, count = random.Random(seed), 0
        while time.monotonic() < end:
            name = order.choice(names)
            if analyze(models[name], (X,)) != expected[name]:
                wrong.append(name)
            count += 1
        return count

    def trains(seed: int) -> tuple[int, list[Tensor]]:
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1
            if time.monotonic() > end:
                raise StopIteration

        parameters: list[Tensor] = []
        limit = 200
        while time.monotonic() < end:
            parameters = train(seed, limit)
        return limit, parameters

    with ThreadPoolExecutor(6) as pool:
        analysing = [pool.submit(analyses, seed) for seed in range(4)]
        training = [pool.submit(trains, seed) for seed in range(2)]
        counts = [future.result() for future in analysing]
        trained = [future.result() for future in training]
    assert wrong == []
    assert min(counts) >= 1
    for seed, (steps, parameters) in enumerate(trained):
        assert all(map(torch.equal, parameters, train(seed, steps)))
    drawn = "process: torch's random numbers"  # by which the threads that train initialize their layers
    assert [path for path in differences(before, state_of(models, X)) if not path.startswith(drawn)] == []


def test_random_numbers_of_other_threads_are_the_same_as_without_an_analysis() -> None:
    torch.manual_seed(0)
    expected = [torch.rand(()).item() for _ in range(2000)]
    random.seed(0)
    expected_of_python = [random.random() for _ in range(2000)]
    random.seed(0)
    finished = threading.Event()

    model = programs()["in_random"]
    torch.manual_seed(0)

    def analyses() -> None:
        while not finished.is_set():
            analyze(model, (X,))

    thread = threading.Thread(target=analyses)
    thread.start()
    drawn, drawn_by_python = [], []
    while len(drawn) < 2000:
        drawn.append(torch.rand(()).item())
        drawn_by_python.append(random.random())
        if len(drawn) % 100 == 0:
            time.sleep(0.01)
    finished.set()
    thread.join()
    assert drawn_by_python == expected_of_python
    assert drawn == expected


def test_modules_of_other_threads_are_not_in_the_report() -> None:
    module, finished = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), threading.Event()

    def runs() -> None:
        while not finished.is_set():
            module(X)

    thread = threading.Thread(target=runs)
    thread.start()
    try:
        assert {analyze(nn.Linear(4, 4), (X,)).coverage.ops for _ in range(10)} == {1}
    finally:
        finished.set()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_process_analyses_although_another_thread_was_analysing() -> None:
    finished = threading.Event()

    def analyses() -> None:
        while not finished.is_set():
            analyze(nn.Linear(4, 4), (X,))

    thread = threading.Thread(target=analyses)
    thread.start()
    try:
        for _ in range(3):
            child = os.fork()
            if not child:
                code = 1
                try:
                    code = analyze(nn.Linear(4, 4), (X,)).macs != 48
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        finished.set()
        thread.join()


class Counts(nn.Module):
    calls = 0
    written: ClassVar[list[str]] = []

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return x.sin() if self.calls > 1 else x + 1


def test_state_of_classes_is_restored_beside_a_thread_that_waits_in_a_library() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread stays
        counts = [analyze(Counts(), (X,)).by_operator() for _ in range(2)]
    assert Counts.calls == 0
    assert counts[0] == counts[1] == {"add": X.numel()}


def test_writes_of_a_thread_that_runs_user_code_stay() -> None:
    begun, ended = threading.Event(), threading.Event()

    steps = 0

    def writes() -> None:
        nonlocal steps
        while not ended.is_set():
            Counts.written.append("by another thread")
            steps += 1
            begun.set()
            time.sleep(0.001)

    thread = threading.Thread(target=writes)
    thread.start()
    begun.wait()
    analyze(Counts(), (X,))
    ended.set()
    thread.join()
    written = Counts.written.copy()
    Counts.written.clear()
    assert written == ["by another thread"] * steps
