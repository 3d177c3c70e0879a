"""Generations of public models: prefill, decode and cache against a run, and the closed form at sizes that are new.

python tests/conformance/generation.py                # run unfinished rows, then write docs/generation-models.md
python tests/conformance/generation.py --only 'g*'    # models by name; --fresh: rerun; --limit: seconds for one model

A run is the loop of a server: a prompt, then a token at a time with the cache that the model returned. It is on the
meta device, where shapes are real and there is no data; where a model reads values, on fake tensors by the reference
counter of multiply-adds. Neither uses rules or graphs.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path += [str(Path(__file__).parent), str(ROOT / "tests" / "analysis")]

import shim  # noqa: E402, F401
import torch  # noqa: E402
from families.causal_lm import ARCHITECTURES, CHANGES, FLOAT32, as_loaded  # noqa: E402
from families.configurations import shallow  # noqa: E402
from real_generation import bytes_in  # noqa: E402
from run import one_line  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from zoo import ids, on_meta  # noqa: E402

from graphflops import generation  # noqa: E402
from graphflops.analysis.generation.measuring import prefill  # noqa: E402
from graphflops.analysis.mac_counter import MacCounterMode, count_macs  # noqa: E402

LENGTHS = (1, 7, 32, 33)
"""of the prompt and of the cache"""
LONGEST = 33
CONVENTION = {"attention": "math", "convention": "torch"}
NEW = {"batch": 3, "prompt": 9, "new_tokens": 5}
"""sizes at which no polynomial was fitted"""
DECODERS = ("bert-generation", "electra", "ernie", "rembert", "roberta-prelayernorm", "roformer", "xlm-roberta", "xmod")
"""encoders, which are decoders by their configuration"""
ENCODER_DECODERS = ("bart", "t5", "pegasus", "marian", "m2m_100", "blenderbot", "mt5", "led")
OWN = {
    "mamba": {"num_hidden_layers": 2},
    "mamba2": {"num_hidden_layers": 2},
    "falcon_mamba": {"num_hidden_layers": 2},
    "opt": {},
    "llama": {},
    "mistral": {},
    "qwen3_moe": {},
    "gemma": {},
    "falcon": {},
    "gpt_neox": {},
    "gpt_bigcode": {},
    "mpt": {},
    "persimmon": {},
    "stablelm": {},
    "phi3": {},
    "olmo": {},
    "nemotron": {},
    "deepseek_v3": {},
}
"""further models of transformers that are decoders, and values of their fields"""


HEADING = """# Generations of public models

Written by `python tests/conformance/generation.py`. For each model, with a layer of each kind: prefill and decode at
caches of {lengths} tokens, against the multiply-adds that are dispatched, and the bytes of the cache against those of
the tensors in the cache of a run; and at sizes to which nothing was fitted ({new}), the closed
form against a run of the whole loop.

{decoders} decoders, {encoder_decoders} encoder-decoders and {no_cache} model without a cache
agree exactly in all numbers; of {forms} of them the closed form was derived and run.
"""


class TooLong(Exception):
    """A model took longer than the limit."""


def models() -> Iterator[tuple[str, str, Callable[[], tuple[Any, dict[str, Any]]]]]:
    """Kind, name, and a function that returns the model and the inputs of a prompt of 7 tokens."""
    for name in sorted({*ARCHITECTURES.split(), *OWN}):
        yield "decoder", name, lambda name=name: (_decoder(name), {"input_ids": ids(1, 7)})
    for name in ENCODER_DECODERS:
        yield "encoder-decoder", name, lambda name=name: (_encoder_decoder(name), {"input_ids": ids(1, 7)})
    yield "no cache", "resnet-bk", lambda: (_resnet_bk(), {"tokens": ids(1, 128)})


def measure(build: Callable[[], tuple[Any, dict[str, Any]]], *, with_law: bool = True) -> dict[str, Any]:
    """The row of a model: pairs of a number and that of a run."""
    model, inputs = build()
    start = time.perf_counter()
    answer = generation(model, (), inputs, longest=LONGEST, **CONVENTION)
    steps, has_cache = answer._steps, bool(answer.tensors)
    row: dict[str, Any] = {"notes": list(answer.notes), "unknown": dict(answer.prefill.unsupported_ops())}
    loop = _Loop(answer, model, inputs)
    for length in LENGTHS:
        read = answer._prefilled(length) if has_cache else prefill(steps, {**steps.sizes, "length": length}, CONVENTION)
        prompt = steps.sizes.get("prompt", length)
        (reading, step), _ = loop.run(1, prompt, length, 2)
        row[f"prefill {length}"] = [read.report.macs, reading]
        row[f"decode {length}"] = [answer.decode(length).macs, step]
        if has_cache:
            _, cache = loop.run(1, prompt, length, 1)
            row[f"bytes {length}"] = [sum(tensor.nbytes for tensor in read.tensors), bytes_in(cache)]
    row["how"] = loop.how
    row["kinds"] = sorted({tensor.kind for tensor in answer.tensors} - {"counters"})
    if with_law:
        law = answer.law
        counts, cache = loop.run(NEW["batch"], NEW["prompt"], law.start or NEW["prompt"], NEW["new_tokens"])
        row["total"] = [law.total(**NEW) // 2, sum(counts)]
        length = NEW["new_tokens"] - 1 + (law.start or NEW["prompt"])
        nbytes = law.cache_bytes(batch=NEW["batch"], length=length, prompt=NEW["prompt"])
        row["bytes"] = [nbytes, bytes_in(cache)]
        row["pieces"] = [piece.last for piece in law.decode_law.pieces[:-1] if piece.last > 3]
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


class _Loop:
    """The loop of a server, on the meta device; on fake tensors where a model reads values or has no cache."""

    def __init__(self, answer: Any, model: Any, inputs: dict[str, Any]) -> None:
        self.steps, self.options, self.model, self.inputs = answer._steps, answer._options, model, inputs
        self.how = "meta" if answer.tensors else "fake tensors"

    def run(self, batch: int, prompt: int, length: int, calls: int) -> tuple[list[int], Any]:
        """The multiply-adds of each call after a prompt, and the cache at the end."""
        if self.how == "meta":
            try:
                return self._on_meta(batch, prompt, length, calls)
            except (RuntimeError, NotImplementedError):
                self.how = "fake tensors"
        return self._on_fake_tensors(batch, prompt, length, calls)

    def _on_meta(self, batch: int, prompt: int, length: int, calls: int) -> tuple[list[int], Any]:
        of_encoder = self.model.config.is_encoder_decoder
        tokens = "decoder_input_ids" if of_encoder else "input_ids"
        kwargs: dict[str, Any] = {"input_ids": ids(batch, prompt)} if of_encoder else {}
        kwargs |= {tokens: ids(batch, length)}
        counts, cache = [], None
        for _ in range(calls):
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), MacCounterMode() as counter:
                result = self.model(**kwargs, use_cache=True)
            counts.append(counter.macs)
            name = next(name for name in ("past_key_values", "cache_params", "state") if result.get(name) is not None)
            cache = result[name]
            kwargs = {tokens: ids(batch, 1), name: cache}
            if of_encoder:
                from transformers.modeling_outputs import BaseModelOutput

                kwargs["encoder_outputs"] = BaseModelOutput(last_hidden_state=result.encoder_last_hidden_state)
        return counts, cache

    def _on_fake_tensors(self, batch: int, prompt: int, length: int, calls: int) -> tuple[list[int], Any]:
        """The same by the reference counter, which has the values that a model reads."""
        sizes = {name: {"batch": batch, "prompt": prompt, "length": length}[name] for name in self.steps.sizes}
        counts = [_dispatched(self.steps.prefill(sizes))]
        state = prefill(self.steps, sizes, self.options).state
        for i in range(calls - 1):
            at = {**sizes, "length": length + i}
            if state is not None:
                state = prefill(self.steps, at, self.options).state
            counts.append(_dispatched(self.steps.decode(state, at)))
        if state is None:
            return counts, None
        last = prefill(self.steps, {**sizes, "length": length + calls - 1}, self.options)
        return counts, last.state.cache


def _dispatched(call: Any) -> int:
    return count_macs(call.model, call.args, call.kwargs, training=False).forward


def _decoder(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    changes = {**CHANGES.get(name, {}), **OWN.get(name, {})}
    changes |= {"is_decoder": True} if name in DECODERS else {}
    changes.pop("use_cache", None) if name == "xlstm" else None
    config = shallow(name, **changes)
    dtype = torch.float32 if name in FLOAT32 else torch.bfloat16
    return on_meta(lambda: as_loaded(AutoModelForCausalLM.from_config(config, dtype=dtype))).eval()


def _encoder_decoder(name: str) -> Any:
    from transformers import AutoModelForSeq2SeqLM

    return on_meta(lambda: AutoModelForSeq2SeqLM.from_config(shallow(name))).eval()


def _resnet_bk() -> Any:
    from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

    with torch.device("meta"):
        return ConfigurableResNetBK(ResNetBKConfig()).eval()


def verdict(row: dict[str, Any]) -> str:
    """The verdict on a row: exact, refused with a reason, or the numbers that differ."""
    if "error" in row:
        return row["error"]
    wrong = [name for name in _PAIRS if name in row and row[name][0] != row[name][1]]
    if row["unknown"]:
        wrong.append(f"no rule for {', '.join(row['unknown'])}")
    return ", ".join(wrong) or "exact"


_PAIRS = (*(f"{name} {length}" for name in ("prefill", "decode", "bytes") for length in LENGTHS), "total", "bytes")


def page(rows: dict[str, dict[str, Any]]) -> str:
    """The page of the documentation."""
    exact = {kind: sum(row["kind"] == kind and verdict(row) == "exact" for row in rows.values()) for kind in _KINDS}
    lines = [
        HEADING.format(
            lengths=f"{', '.join(map(str, LENGTHS[:-1]))} and {LENGTHS[-1]}",
            new=", ".join(f"{name} {size}" for name, size in NEW.items()),
            decoders=exact["decoder"],
            encoder_decoders=exact["encoder-decoder"],
            no_cache=exact["no cache"],
            forms=sum("total" in row and verdict(row) == "exact" for row in rows.values()),
        ),
        "| model | kind | step at 32, multiply-adds | cache | run | closed form | result |",
        "|---|---|--:|---|---|---|---|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: (_KINDS.index(item[1]["kind"]), item[0])):
        step = f"{row['decode 32'][0]:,}" if "decode 32" in row else ""
        kinds = ", ".join(row.get("kinds", ())) or ("none" if "error" not in row else "")
        form = "" if "error" in row else "exact" if "total" in row and row["total"][0] == row["total"][1] else "not run"
        how = str(row.get("how", "")).partition(" (")[0]
        cell = verdict(row).replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| {name} | {row['kind']} | {step} | {kinds} | {how} | {form} | {cell} |")
    return "\n".join(lines) + "\n"


_KINDS = ("decoder", "encoder-decoder", "no cache")


def main() -> int:
    """Run the chosen models and write the page; the exit code is 1 if a number differs."""
    parser = argparse.ArgumentParser(prog="generation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", metavar="PATTERN", help="only models whose name matches; repeatable")
    parser.add_argument("--fresh", action="store_true", help="rerun finished rows")
    parser.add_argument("--retry", action="store_true", help="rerun rows that do not agree")
    parser.add_argument("--no-law", action="store_true", help="derive no closed forms; a later run without it does")
    parser.add_argument("--limit", type=int, default=180, help="seconds for one model (default: %(default)s)")
    parser.add_argument("--rows", type=Path, default=ROOT / "build" / "generation.jsonl", help="the finished rows")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "generation-models.md", help="the page to write")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if options.rows.exists():
        for line in options.rows.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                row = json.loads(line)
                rows[row["name"]] = row
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGALRM, _stop)
    entries = list(models())
    for kind, name, build in entries:
        if options.only and not any(fnmatch(name, pattern) for pattern in options.only):
            continue
        if name in rows and not options.fresh and not _is_pending(rows[name], options):
            continue
        signal.alarm(options.limit)
        try:
            row = measure(build, with_law=not options.no_law)
        except Exception as error:
            row = {"error": one_line(error)}
        finally:
            signal.alarm(0)
        rows[name] = row = {"name": name, "kind": kind, **row}
        with options.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name}: {verdict(row)} ({row.get('seconds', '')} s)", file=sys.stderr, flush=True)
    names = {name for _, name, _ in entries}
    options.page.write_text(page({name: row for name, row in rows.items() if name in names}), encoding="utf-8")
    return int(any(verdict(row) != "exact" and "error" not in row for row in rows.values()))


def _is_pending(row: dict[str, Any], options: argparse.Namespace) -> bool:
    if "error" in row or verdict(row) != "exact":
        return options.retry
    return not options.no_law and "total" not in row


def _stop(*_: Any) -> None:
    raise TooLong("took longer than the limit")


if __name__ == "__main__":
    sys.exit(main())
