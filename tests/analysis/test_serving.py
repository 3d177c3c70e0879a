"""Speculative decoding, chunked prefill and experts: what runs, and published formulas."""

import random
from fractions import Fraction

import pytest
import torch
from real_generation import TinyGPT, counted, macs, tiny_step

import graphflops
from graphflops import GenerationRecord, UsageError
from graphflops.analysis.generation.serving import chunked_prefill, distinct_experts, speculative


@pytest.fixture(scope="module")
def answer() -> graphflops.Generation:
    """A generation whose law reaches 24 tokens."""
    prompt = torch.zeros(2, 5, dtype=torch.long)
    return graphflops.generation(TinyGPT(), prompt, step=tiny_step, longest=24, attention="math", convention="torch")


def run(chunks: list[int], batch: int = 1) -> list[int]:
    """The multiply-adds of a model that reads tokens in chunks."""
    counts, cache, model = [], None, TinyGPT()
    for chunk in chunks:
        with counted() as counter:
            _, cache = tiny_step(model, cache, torch.zeros(batch, chunk, dtype=torch.long))
        counts.append(macs(counter))
    return counts


def test_tokens_that_are_verified_together_are_a_chunk_on_the_cache(answer) -> None:
    assert answer.verify(6, batch=3, length=9) == 2 * run([9, 6], batch=3)[-1]
    assert answer.decode(9, tokens=6).forward == 2 * run([9, 6], batch=2)[-1]


def test_a_prompt_in_chunks_is_what_runs(answer) -> None:
    assert chunked_prefill(answer, prompt=17, chunk=6) == 2 * sum(run([6, 6, 5]))


def test_a_round_of_speculative_decoding(answer) -> None:
    round_ = speculative(answer, answer, length=8, draft_tokens=3, acceptance=0.5)
    assert round_.draft_flops == 2 * sum(run([8, 1, 1, 1])[1:])
    assert round_.verify_flops == 2 * run([8, 4])[-1]
    assert round_.tokens_per_round == (1 - 0.5**4) / (1 - 0.5)  # Leviathan et al. 2023, equation 1
    assert round_.flops_per_token == (round_.draft_flops + round_.verify_flops) / 1.875


def test_the_expected_tokens_are_those_of_many_rounds(answer) -> None:
    draw = random.Random(0)
    rounds = [next((i for i in range(3) if draw.random() >= 0.7), 3) + 1 for _ in range(40_000)]
    expected = speculative(answer, answer, length=8, draft_tokens=3, acceptance=0.7).tokens_per_round
    assert sum(rounds) / len(rounds) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("acceptance", "tokens"), [(0, 1), (1, 4)])
def test_nothing_or_everything_is_accepted(answer, acceptance: int, tokens: int) -> None:
    assert speculative(answer, answer, length=8, draft_tokens=3, acceptance=acceptance).tokens_per_round == tokens


def test_the_experts_that_a_batch_touches_are_those_of_many_batches() -> None:
    draw = random.Random(0)
    touched = [len({expert for _ in range(5) for expert in draw.sample(range(8), 2)}) for _ in range(20_000)]
    assert sum(touched) / len(touched) == pytest.approx(distinct_experts(experts=8, top_k=2, tokens=5), rel=0.01)
    assert distinct_experts(experts=8, top_k=2, tokens=2) == 8 * (1 - Fraction(3, 4) ** 2)


def test_calls_of_several_tokens_are_saved_if_they_were_derived(answer, tmp_path) -> None:
    verified = answer.verify(6, batch=3, length=9)
    read = GenerationRecord.from_json(answer.to_json(tmp_path / "generation.json"))
    assert read.verify(6, batch=3, length=9) == verified


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda answer: speculative(answer, answer, length=8, draft_tokens=3, acceptance=1.5), "from 0 to 1, not 1.5"),
        (lambda answer: speculative(answer, answer, length=8, draft_tokens=0, acceptance=1), "draft_tokens must be"),
        (lambda answer: chunked_prefill(answer, prompt=8, chunk=0), "chunk must be an integer"),
        (lambda answer: distinct_experts(experts=2, top_k=3, tokens=1), "more than the 2 experts"),
    ],
)
def test_a_number_out_of_range_is_named(answer, call, message) -> None:
    with pytest.raises(UsageError, match=message):
        call(answer)
