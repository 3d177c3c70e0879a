"""A generation: prefill, decode and the whole are what runs, with a cache of the model's own."""

import sys

import pytest
import torch
from real_generation import TinyGPT, bytes_in, counted, macs, tiny_step
from torch import Tensor, nn

import graphflops
from graphflops import GenerationRecord, UsageError, analyze, generation

PROMPT = torch.zeros(2, 5, dtype=torch.long)


@pytest.fixture(scope="module")
def answer() -> graphflops.Generation:
    """Five tokens of a prompt, and four new ones."""
    return generation(TinyGPT(), PROMPT, step=tiny_step, new_tokens=4, longest=24, attention="math", convention="torch")


def run(model: nn.Module, batch: int, prompt: int, new_tokens: int) -> tuple[list[int], object]:
    """The multiply-adds of each call of a generation that runs, and its cache."""
    counts, cache, tokens = [], None, torch.zeros(batch, prompt, dtype=torch.long)
    for _ in range(new_tokens):
        with counted() as counter:
            logits, cache = tiny_step(model, cache, tokens)
        counts.append(macs(counter))
        tokens = logits[:, -1].argmax(-1, keepdim=True)
    return counts, cache


def test_prefill_and_each_step_are_what_runs(answer) -> None:
    counts, _ = run(TinyGPT(), 2, 5, 4)
    assert [answer.prefill.forward, *(answer.decode(length).forward for length in (5, 6, 7))] == [2 * n for n in counts]


def test_the_whole_is_what_runs_at_sizes_that_were_not_traced(answer) -> None:
    counts, _ = run(TinyGPT(), 3, 9, 6)
    assert answer.law.total(batch=3, prompt=9, new_tokens=6) == 2 * sum(counts)


def test_one_new_token_is_the_prefill_alone(answer) -> None:
    assert answer.law.total(batch=2, prompt=5, new_tokens=1) == answer.prefill.forward


def test_the_bytes_of_the_cache_are_those_of_the_real_one(answer) -> None:
    _, cache = run(TinyGPT(), 3, 9, 6)
    assert answer.cache_bytes(batch=3, length=14) == bytes_in(cache)


def test_arrays_of_sizes_have_the_numbers_of_each(answer) -> None:
    numpy = pytest.importorskip("numpy")
    prompts = numpy.arange(1, 11)
    totals = answer.law.total(batch=numpy.array([[1], [4]]), prompt=prompts, new_tokens=7)
    assert totals.tolist() == [
        [answer.law.total(batch=batch, prompt=prompt, new_tokens=7) for prompt in range(1, 11)] for batch in (1, 4)
    ]


def test_arrays_are_evaluated_as_a_whole_and_not_point_by_point(answer) -> None:
    numpy = pytest.importorskip("numpy")
    calls = []

    def total(points: int) -> int:
        """The last of some equal totals; calls of functions are counted."""
        sizes, counted_calls = numpy.ones(points, dtype=int), 0

        def count(frame: object, event: str, arg: object) -> None:
            nonlocal counted_calls
            counted_calls += event == "call"

        sys.setprofile(count)
        try:
            totals = answer.law.total(batch=sizes, prompt=5 * sizes, new_tokens=4 * sizes)
        finally:
            sys.setprofile(None)
        calls.append(counted_calls)
        return int(totals[-1])

    one = answer.law.total(batch=1, prompt=5, new_tokens=4)
    assert total(10) == total(10) == total(100_000) == one
    assert calls[2] < 5 * calls[1], "10,000 times as many points, in blocks"


def test_the_closed_form_is_the_sum_over_the_steps(answer) -> None:
    _, form = answer.law.closed_forms()[0]
    sizes = {"batch": 2, "prompt": 6, "new_tokens": 8}
    steps = sum(answer.law.decode(batch=2, length=6 + i) for i in range(7))
    assert form.evaluate(sizes) == answer.law.prefill(batch=2, prompt=6) + steps


def test_requests_of_several_lengths_are_summed(answer) -> None:
    separate = sum(answer.decode(length).forward for length in (5, 9)) // 2
    assert answer.law.decode(batch=1, length=[5, 9]) == separate


def test_a_window_is_a_piece_of_its_own() -> None:
    model = TinyGPT(window=6)
    law = generation(model, PROMPT, step=tiny_step, longest=24, attention="math", convention="torch").law
    counts, cache = run(model, 1, 3, 12)
    assert law.total(batch=1, prompt=3, new_tokens=12) == 2 * sum(counts)
    assert [piece.last for piece in law.decode_law.pieces] == [5, 24]
    assert law.cache_bytes(batch=1, length=14) == bytes_in(cache) == law.cache_bytes(batch=1, length=24)


def test_a_view_holds_the_bytes_of_what_it_is_a_view_of() -> None:
    answer = generation(TinyGPT(window=6), torch.zeros(1, 12, dtype=torch.long), step=tiny_step, longest=24)
    _, cache = run(TinyGPT(window=6), 1, 12, 1)
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for pair in cache for part in pair}
    assert answer.cache_bytes(length=12, held=True) == sum(storages.values()) > answer.cache_bytes(length=12)


class NoCache(nn.Module):
    """A model that reads all tokens each time."""

    def __init__(self, only: int | None = None) -> None:
        super().__init__()
        self.embed, self.head, self.only = nn.Embedding(11, 8), nn.Linear(8, 11), only

    def forward(self, tokens: Tensor) -> Tensor:
        if self.only not in (None, tokens.shape[1]):
            raise ValueError(f"{self.only} tokens, please")
        return self.head(self.embed(tokens))


def test_without_a_cache_the_whole_prefix_runs_again_and_the_answer_says_so() -> None:
    answer = generation(NoCache(), PROMPT, new_tokens=3, longest=24)
    whole = [analyze(NoCache(), torch.zeros(2, n, dtype=torch.long), training=False).forward for n in (5, 6, 7)]
    assert answer.total == sum(whole)
    assert answer.cache_bytes() == 0
    assert "no cache: each new token is a pass over the whole prefix again" in str(answer)


def test_a_model_of_one_length_reads_as_much_for_each_token() -> None:
    answer = generation(NoCache(only=5), PROMPT, new_tokens=3, longest=24)
    assert answer.total == 3 * analyze(NoCache(only=5), PROMPT, training=False).forward
    assert "the model takes 5 tokens, whatever the prefix has" in str(answer)


def test_a_law_ends_where_the_positions_of_a_model_do() -> None:
    class Limited(NoCache):
        def forward(self, tokens: Tensor) -> Tensor:
            if tokens.shape[1] > 12:
                raise ValueError("12 positions")
            return super().forward(tokens)

    law = generation(Limited(), PROMPT, longest=24).law
    assert law.decode_law.last == 11
    with pytest.raises(UsageError, match="this law holds for caches of 1 to 11 tokens"):
        law.total(batch=1, prompt=10, new_tokens=4)


def test_it_is_read_again_from_its_file_without_the_model(answer, tmp_path) -> None:
    answer.decode(5)
    read = GenerationRecord.from_json(answer.to_json(tmp_path / "generation.json"))
    assert (read.total, read.prefill, read.decode(5), read.tensors) == (
        answer.total,
        answer.prefill,
        answer.decode(5),
        answer.tensors,
    )
    assert read.law == answer.law
    assert str(read) == str(answer)
    with pytest.raises(UsageError, match="no step at a length of 23 was saved"):
        read.decode(23)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"new_tokens": 0}, "new_tokens must be an integer of at least 1"),
        ({"optimizer": "adamw"}, "generation has no option 'optimizer'"),
        ({"step": lambda model, cache, tokens: model(tokens)[0]}, r"step must return \(output, cache\)"),
        ({"step": tiny_step, "kwargs": {"x": 1}}, "the prompt is one tensor of tokens"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message) -> None:
    with pytest.raises(UsageError, match=message):
        generation(TinyGPT(), PROMPT, **arguments)


def test_a_length_beyond_the_law_is_refused(answer) -> None:
    with pytest.raises(UsageError, match="this law holds for caches of 1 to 24 tokens"):
        answer.law.decode(batch=1, length=25)
