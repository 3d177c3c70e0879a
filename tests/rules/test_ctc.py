"""Connectionist temporal classification, against the recursion of Graves et al. (2006) on counting numbers."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import cost_of, ints, meta, reals
from counting_numbers import Real, exp, log, tallied, tally_of

from graphflops import Work, analyze

TIMES, CLASSES, LABELS = 6, 5, [1, 3, 2]
NEVER = -60.0
STATES = [0, *(state for label in LABELS for state in (label, 0))]

log_probs = torch.randn(TIMES, 1, CLASSES, generator=torch.Generator().manual_seed(0)).double().log_softmax(-1)


def started(states: list[int], row: list[float]) -> list[Any]:
    """Before anything is said, or at the end of it, one is in the first blank or at the first label."""
    return [Real(row[state] if s < 2 else NEVER) for s, state in enumerate(states)]


def stepped(before: list[Any], states: list[int], row: list[float]) -> list[Any]:
    """One step on: from the state itself, from the one before it, and to a label from the label before it."""
    padded = [Real(NEVER), Real(NEVER), *before]
    return [
        log(exp(padded[s + 2]) + exp(padded[s + 1]) + exp(padded[s] if state else Real(NEVER))) + row[state]
        for s, state in enumerate(states)
    ]


def walked(states: list[int], rows: list[list[float]]) -> list[list[Any]]:
    states_by_row = [started(states, rows[0])]
    for row in rows[1:]:
        states_by_row.append(stepped(states_by_row[-1], states, row))
    return states_by_row


def test_forward_is_the_recursion_over_states() -> None:
    states, tally = tallied(walked, STATES, log_probs[:, 0].tolist())
    loss = F.ctc_loss(log_probs, torch.tensor([LABELS]), [TIMES], [len(LABELS)], reduction="sum")
    result = -torch.tensor([float(state) for state in states[-1][-2:]], dtype=torch.float64).logsumexp(0)
    torch.testing.assert_close(result, loss)
    ops = partial(torch.ops.aten._ctc_loss, input_lengths=[TIMES], target_lengths=[len(LABELS)])
    cost = cost_of(lambda x, y: ops(x, y)[0], reals(TIMES, 1, CLASSES), ints(1, len(LABELS)))
    # The start of the first step counts as a step.
    assert tally_of(cost.forward) == {name: count // (TIMES - 1) * TIMES for name, count in tally.items()}


def test_backward_is_the_recursion_again_and_a_sum_in_each_class() -> None:
    """g·(eˣ − Σ αβ / (y·p)), the states of a class joined by log(eᵃ + eᵇ), checked against PyTorch's gradient."""
    rows = log_probs[:, 0].tolist()
    nll = float(F.ctc_loss(log_probs, torch.tensor([LABELS]), [TIMES], [len(LABELS)], reduction="sum"))
    alphas = walked(STATES, rows)
    betas, recursion = tallied(walked, STATES[::-1], rows[::-1])
    betas = [number[::-1] for number in reversed(betas)]

    def gradient() -> list[list[Any]]:
        gradients = []
        for row, alpha, beta in zip(rows, alphas, betas, strict=True):
            joined = [Real(NEVER) for _ in range(CLASSES)]
            for s, state in enumerate(STATES):
                log_product = alpha[s] + beta[s]
                joined[state] = log(exp(joined[state]) + exp(log_product))
            inputs = [Real(number) for number in row]
            gradients.append([(exp(x) - exp(ab + nll - x)) * 1.0 for x, ab in zip(inputs, joined, strict=True)])
        return gradients

    gradients, rest = tallied(gradient)
    x = log_probs.clone().requires_grad_()
    loss = F.ctc_loss(x, torch.tensor([LABELS]), [TIMES], [len(LABELS)], reduction="sum")
    (expected,) = torch.autograd.grad(loss, x)
    computed = torch.tensor([[float(number) for number in row] for row in gradients], dtype=torch.float64)
    torch.testing.assert_close(computed, expected[:, 0])
    ops = partial(torch.ops.aten._ctc_loss, input_lengths=[TIMES], target_lengths=[len(LABELS)])
    cost = cost_of(lambda x, y: ops(x, y)[0], reals(TIMES, 1, CLASSES), ints(1, len(LABELS)))
    assert tally_of(cost.grads["log_probs"]) == {
        name: recursion[name] // (TIMES - 1) * TIMES + count for name, count in rest.items()
    }


def test_lengths_that_are_known_are_counted_and_tensors_are_full() -> None:
    x, labels = meta(6, 2, 5, requires_grad=True), ints(2, 3)

    def work(inputs: Any, targets: Any) -> Work:
        return analyze(lambda x, y: F.ctc_loss(x, y, inputs, targets), (x, labels)).work("forward")

    assert work(torch.tensor([6, 6]), torch.tensor([3, 3])) == work([6, 6], [3, 3])
    assert work([6, 3], [3, 1]).transcendental == 4 * (6 * 7 + 3 * 3)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_outputs_and_what_reducing_adds(reduction: str) -> None:
    run = partial(F.ctc_loss, input_lengths=[6, 6], target_lengths=[3, 3], reduction=reduction)
    inputs = torch.randn(6, 2, 5).log_softmax(-1), torch.ones(2, 3, dtype=torch.long)
    unreduced = analyze(partial(run, reduction="none"), inputs).work("forward")
    report = analyze(run, inputs)
    assert report.coverage.unknown == 0
    added = {"none": Work(), "sum": Work(elementwise=2), "mean": Work(elementwise=2, division=2 + 1)}
    assert report.work("forward") == unreduced + added[reduction]
    doubled = analyze(lambda *given: run(*given) * 2, inputs).work("forward")
    assert doubled.elementwise - report.work("forward").elementwise == run(*inputs).numel()
