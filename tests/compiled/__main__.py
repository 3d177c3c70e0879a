"""Public models as torch.compile cuts them: the graphs add up to the model; writes docs/compiled-models.md.

Each model is run on random data, in training mode, with the backend of graphflops and without any. A row holds if

* the sum over the graphs is what ``analyze`` counts for the model, in every phase, and
* the outputs and the gradients of all parameters are those of the eager run, bit by bit.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))

import shim  # noqa: E402, F401
import torch  # noqa: E402
from torch import nn  # noqa: E402

import graphflops  # noqa: E402

PHASES = ("forward", "backward", "recompute")
TORCHVISION = {
    **dict.fromkeys(("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_y_400mf", "efficientnet_b0"), 64),
    "vit_b_16": 224,
    **dict.fromkeys(("swin_t", "densenet121", "squeezenet1_1"), 64),
}
TIMM = {
    **dict.fromkeys(("convnext_atto", "edgenext_xx_small", "ghostnetv2_100", "resnest14d"), 64),
    **dict.fromkeys(("deit_tiny_patch16_224", "mixer_s32_224", "xcit_nano_12_p16_224", "levit_128s"), 224),
}
SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 512}
HEADS = {"num_attention_heads": 4}
HF: Mapping[str, dict[str, Any]] = {
    "llama": {**SMALL, **HEADS, "num_key_value_heads": 2},
    "qwen3": {**SMALL, **HEADS, "num_key_value_heads": 2, "head_dim": 16},
    "gemma2": {**SMALL, **HEADS, "num_key_value_heads": 2, "head_dim": 16},
    "mixtral": {**SMALL, **HEADS, "num_key_value_heads": 2, "num_local_experts": 4},
    "bert": {**SMALL, **HEADS},
    "gpt2": {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 512},
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 512},
    "olmo2": {**SMALL, **HEADS, "num_key_value_heads": 2},
}


def models() -> dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]]:
    """Name → a function that makes the model and its inputs."""

    def image(make: Callable[[], nn.Module], size: int) -> tuple[nn.Module, dict[str, Any]]:
        return make(), {"x": torch.randn(2, 3, size, size)}

    def of_torchvision(name: str, size: int) -> tuple[nn.Module, dict[str, Any]]:
        from torchvision.models import get_model

        return image(lambda: get_model(name, weights=None), size)

    def of_timm(name: str, size: int) -> tuple[nn.Module, dict[str, Any]]:
        import timm

        return image(lambda: timm.create_model(name), size)

    def of_transformers(name: str, options: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

        config = AutoConfig.for_model(name, **options)
        auto = {"bert": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM}.get(name, AutoModelForCausalLM)
        ids = torch.randint(0, 512, (2, 16))
        inputs = {"input_ids": ids, **({"decoder_input_ids": ids[:, :8]} if name == "t5" else {"use_cache": False})}
        if name == "bert":
            del inputs["use_cache"]
        return auto.from_config(config), inputs

    makers: dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]] = {}
    for library, table, make in (
        ("torchvision", TORCHVISION, of_torchvision),
        ("timm", TIMM, of_timm),
        ("hf", HF, of_transformers),
    ):
        for name, options in table.items():
            makers[f"{library}:{name}"] = lambda make=make, name=name, options=options: make(name, options)
    return makers


def output_of(result: Any) -> torch.Tensor:
    """The first tensor that a model returns."""
    if isinstance(result, Mapping):
        result = next(iter(result.values()))
    return result[0] if isinstance(result, (tuple, list)) else result


def trained(model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> list[torch.Tensor | None]:
    """The output of a call and the gradients of the model's parameters."""
    torch.manual_seed(0)
    args = [inputs["x"]] if "x" in inputs else []
    output = output_of(call(*args, **({} if args else inputs)))
    output.float().square().mean().backward()
    return [output.detach(), *(parameter.grad for parameter in model.parameters())]


def row_of(name: str, make: Callable[[], tuple[nn.Module, dict[str, Any]]]) -> tuple[str, ...]:
    """The row of a model."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model, inputs = make()
    model.train()
    args = (inputs["x"],) if "x" in inputs else ()
    report = graphflops.analyze(model, args, {} if args else inputs, optimizer=None)
    backend, twin = graphflops.CompileBackend(), copy.deepcopy(model)
    eager = trained(twin, twin, inputs)
    compiled = trained(model, torch.compile(model, backend=backend), inputs)
    faults = [*backend.errors]
    faults += [f"{phase} {backend.flops(phase) - report.flops(phase):+,}" for phase in PHASES
               if backend.flops(phase) != report.flops(phase)]  # fmt: skip
    equal = all(a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))
    faults += [] if equal else ["outputs or gradients differ"]
    calls = sum(graph.calls for graph in backend.graphs)
    numbers = (len(backend.graphs), calls, len(backend.graph_breaks), backend.total, report.total)
    return (f"`{name}`", *(f"{number:,}" for number in numbers), "; ".join(faults) or "yes")


def page(rows: list[tuple[str, ...]]) -> str:
    """The page: a line for each model."""
    failed = sum(row[-1] != "yes" for row in rows)
    head = ("model", "graphs", "calls", "graph breaks", "FLOPs of the graphs", "of the model", "holds")
    lines = [
        "# Compiled models",
        "",
        "`python tests/compiled` runs a forward and a backward pass of public models in",
        "[torch.compile](torch-compile.md), on random data, and writes this page.",
        f"Of {len(rows)} models, {failed} fail. A model holds if",
        "",
        "- the graphs that Dynamo captured sum to what `analyze` counts for the model, in forward, backward and",
        "  recompute, and",
        "- its output and the gradients of its parameters are those of a run without torch.compile, bit by bit.",
        "",
        f"| {' | '.join(head)} |",
        f"|---|{'--:|' * (len(head) - 2)}---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"PyTorch {torch.__version__.partition('+')[0]}, {datetime.now(UTC):%Y-%m-%d}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the models that are named, or all; exit with 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models, such as hf:llama; default: all, and the page is written")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/compiled-models.md", help="the page to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name, make in models().items():
        if arguments.names and name not in arguments.names:
            continue
        start = time.monotonic()
        try:
            rows.append(row_of(name, make))
        except Exception as error:
            rows.append((f"`{name}`", *[""] * 5, f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"))
        print(*rows[-1], f"{time.monotonic() - start:.1f} s", flush=True)
    if not arguments.names:
        arguments.page.write_text(page(rows), encoding="utf-8")
    return int(any(row[-1] != "yes" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
