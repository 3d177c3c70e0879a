"""All examples of the quick reference. Run them with ``make demo``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from graphflops import FLOPsCounter, compare_models
from graphflops.models import BASELINE_CONFIG, ConfigurableResNetBK, ResNetBKConfig

BATCH, LENGTH = 32, 128


def counter_of(config: ResNetBKConfig) -> FLOPsCounter:
    """A counter for the model of a configuration, at its sequence length."""
    return FLOPsCounter(ConfigurableResNetBK(config), batch_size=BATCH, seq_len=config.n_seq)


def chapter(title: str) -> None:
    """Print a heading."""
    print(f"\n\n{title}\n{'─' * len(title)}")


def total(counter: FLOPsCounter) -> None:
    """Print the FLOPs of a training step."""
    counter.print_summary()
    flops = counter.count_total_flops()
    print("\nThe same as plain integers:")
    for phase, count in flops.to_dict().items():
        print(f"  {phase:<10}{count:>16,} FLOPs")


def components(counter: FLOPsCounter) -> None:
    """Print the FLOPs of each component, and check that they add up."""
    breakdown = counter.get_breakdown()
    print(f"  {'component':<16}{'forward':>16}{'backward':>16}{'optimizer':>13}")
    for name, flops in breakdown.items():
        print(f"  {name:<16}{flops['forward']:>16,}{flops['backward']:>16,}{flops['optimizer']:>13,}")
    added = sum(flops["total"] for flops in breakdown.values())
    print(f"\nThe components add up to {added:,} FLOPs: the total, exactly.")
    assert added == counter.count_total_flops().total


def comparison(config: ResNetBKConfig) -> None:
    """Compare two models on the same tokens."""
    result = compare_models(
        ConfigurableResNetBK(config),
        ConfigurableResNetBK(replace(config, vocab_size=8_000)),
        batch_size=BATCH,
        seq_len=LENGTH,
        model1_name="whole vocabulary",
        model2_name="8,000 tokens",
    )
    print(f"A step of the first model needs {result['speedup']['total']:.2f} times the FLOPs of the second.")


def saved(counter: FLOPsCounter) -> None:
    """Save the numbers to JSON and read them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flops_count.json"
        counter.save_to_json(path)
        content = json.loads(path.read_text(encoding="utf-8"))
    print(f"{path.name} contains")
    for key in ("model_config", "total_flops", "unit", "convention", "optimizer"):
        print(f"  {key:<14}{content[key]}")
    print(f"and component_breakdown, with {len(content['component_breakdown'])} components.")


def training(counter: FLOPsCounter) -> None:
    """Print the FLOPs of a training run."""
    steps = 10_000
    run = counter.count_total_flops() * steps
    print(f"{steps:,} steps cost {run.total:,} FLOPs, {run.total / 1e12:.2f} TFLOPs.")


def optimizers(counter: FLOPsCounter) -> None:
    """Compare AdamW and SGD."""
    adamw, sgd = (counter.count_optimizer_flops(name).optimizer for name in ("adamw", "sgd"))
    print(f"AdamW {adamw:,} FLOPs, SGD {sgd:,} FLOPs: {adamw / sgd:.1f} times as much,")
    print(f"and {100 * adamw / counter.count_total_flops().total:.1f} % of the whole step.")


def bottlenecks(counter: FLOPsCounter) -> None:
    """Print the three most expensive components."""
    breakdown, forward = counter.get_breakdown(), counter.count_forward_flops().forward
    for name, flops in sorted(breakdown.items(), key=lambda item: item[1]["forward"], reverse=True)[:3]:
        print(f"  {name:<16}{100 * flops['forward'] / forward:>6.1f} % of forward")


def growth(config: ResNetBKConfig) -> None:
    """Print the FLOPs at several sequence lengths."""
    lengths = [128, 256, 512, 1024]
    steps = [counter_of(replace(config, n_seq=length)).count_total_flops() for length in lengths]
    for i, (length, step) in enumerate(zip(lengths, steps, strict=True)):
        ratio = f"{step.total / steps[i - 1].total:.2f} × the previous" if i else ""
        print(f"  N = {length:<6}{step.total / 1e9:>7.1f} GFLOPs   {ratio}".rstrip())
    print("Forward and backward double with N: growth is linear. The optimizer's work hardly changes.")


def explanation(counter: FLOPsCounter) -> None:
    """Explain a number."""
    print(counter.report().explain("blocks.0.bk_layer.output_proj"))


def main() -> None:
    """Run all chapters."""
    config = BASELINE_CONFIG
    counter = counter_of(config)
    chapter("1. FLOPs of a training step")
    total(counter)
    chapter("2. FLOPs by component")
    components(counter)
    chapter("3. Comparison of two models")
    comparison(config)
    chapter("4. Saved as JSON")
    saved(counter)
    chapter("5. Ten thousand steps")
    training(counter)
    chapter("6. AdamW and SGD")
    optimizers(counter)
    chapter("7. The three bottlenecks")
    bottlenecks(counter)
    chapter("8. Growth with the sequence length")
    growth(config)
    chapter("9. Explanation of a number")
    explanation(counter)


if __name__ == "__main__":
    main()
