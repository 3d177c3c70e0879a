"""Compare a published hand count of ResNet-BK with its graph: component by component, and every op it leaves out.

``python -m graphflops.models.reconciliation docs/reconciliation.md`` writes the page. The hand count consists of
formulas in B, N, D, … that do not use the graph. The page is written only if hand count + list = the graph's total.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch

from graphflops.analysis.pipeline import analyze
from graphflops.core.costs import ZERO, Work
from graphflops.core.entries import Entry
from graphflops.core.errors import GraphflopsError
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig
from graphflops.report.conventions import CONVENTIONS, EXACT, STANDARD, Convention
from graphflops.report.conventions.expressions import CountExpression
from graphflops.report.files import write_atomic
from graphflops.report.report import Report
from graphflops.verify.rule_check import DIRECTIONS, Direction, work_in

BATCH = 32
LENGTHS = (128, 256, 512, 1024, 2048)
PUBLISHED = {128: "48.9", 256: "97.8", 512: "202.0", 1024: "410.2", 2048: "826.6"}
"""GFLOPs of a step in the published table of growth"""


@dataclass(frozen=True)
class HandCount:
    """A line of the published hand count, and the entries of a report that it covers."""

    name: str
    forward: str
    """FLOPs, as an expression of the sizes B, N, D, V, E and K"""
    backward: str
    """the same, which may also name ``forward``"""
    entries: tuple[tuple[str, str, str], ...]
    """(path, operator, phase) patterns; phase is forward, backward or ``*``"""
    per_layer: bool = True

    def values(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """FLOPs forward and backward, of one layer."""
        forward = CountExpression(self.forward)(sizes)
        return forward, CountExpression(self.backward)({**sizes, "forward": forward})

    def formulas(self) -> tuple[str, ...]:
        """Both expressions, as they are printed."""
        return tuple(
            text.replace("*forward", " × forward").replace("D*D", "D²").replace("*", "·")
            for text in (self.forward, self.backward)
        )


HAND_COUNT = (
    HandCount(
        "embedding (token + position added)",
        "B*N*D",
        "B*N*D",
        (("embedding", "add", "forward"), ("embedding.token", "embedding", "backward")),
        per_layer=False,
    ),
    HandCount("layer norm", "5*B*N*D", "5*B*N*D", (("blocks.*.layer_norm", "layer_norm", "*"),)),
    HandCount("MoE: gate", "2*B*N*D*E", "2*forward", (("blocks.*.moe_ffn.gate", "gate", "*"),)),
    HandCount("MoE: softmax", "3*B*N*E", "2*forward", (("blocks.*.moe_ffn", "softmax", "*"),)),
    HandCount("MoE: experts", "B*N*K*(8*D*D + 2*D)", "2*forward", (("blocks.*.moe_ffn.experts", "experts", "*"),)),
    HandCount("BK-Core", "34*B*N", "26*B*N", (("blocks.*.bk_core", "bk_core", "*"),)),
    HandCount("output projection", "2*B*N*2*D", "2*forward", (("blocks.*.output_proj", "linear", "*"),)),
    HandCount("final layer norm", "5*B*N*D", "5*B*N*D", (("final_layernorm", "layer_norm", "*"),), per_layer=False),
    HandCount("LM head", "2*B*N*D*V", "2*forward", (("lm_head", "linear", "*"),), per_layer=False),
)

REASONS = {
    ("embedding.position", "embedding"): "each of the N position rows is added into the table's gradient",
    ("embedding", "add"): "position rows are broadcast over the batch; their gradients are summed back",
    ("blocks.*.layer_norm", "layer_norm"): "gradients of weight and bias are sums over the tokens",
    ("final_layernorm", "layer_norm"): "gradients of weight and bias are sums over the tokens",
    ("blocks.*.moe_ffn.gate", "gate"): "gradient of the bias is a sum over the tokens",
    ("blocks.*.moe_ffn.experts", "experts"): "gradients of the two biases are sums over the visits",
    ("blocks.*.moe_ffn", "top_k"): "each token's E probabilities are compared to choose its K experts",
    ("blocks.*.moe_ffn", "dropout"): "one multiplication for each of the 2·D hidden units of a visit, each way",
    ("blocks.*.moe_ffn", "combine"): "K outputs a token are weighted and added; backward both factors of the product",
    ("blocks.*.moe_ffn", "fan_in"): "the gradients of K experts join that of the gate at the layer's input",
    ("blocks.*.moe_ffn", "gradient fan-in"): "its output feeds the potential and the sum: two gradients are added",
    (
        "blocks.*.v_proj",
        "linear",
    ): "the potential is a projection of its own, D → 1: a matmul, its two gradients, a bias",
    (
        "blocks.*.bk_layer",
        "clamp",
    ): "potential and features are clamped: two comparisons, backward those and a selection",
    ("blocks.*.bk_core", "add"): "the potential is added to the diagonal of the Laplacian",
    ("blocks.*.output_proj", "linear"): "gradient of the bias is a sum over the tokens",
    (
        "blocks.*.bk_layer",
        "mul",
    ): "bk_scale times the spectral output; backward both factors, bk_scale's a sum of B·N·D",
    ("blocks.*.bk_layer", "add"): "MoE output + scaled spectral output",
    ("blocks.*", "add"): "the residual stream takes up what the layer adds",
    ("blocks.*", "gradient fan-in"): "the block's output feeds the next block twice: two gradients are added",
    ("embedding", "gradient fan-in"): "the sum feeds the first block twice: two gradients are added",
    ("lm_head", "linear"): "gradient of the bias is a sum over the tokens",
}


@dataclass(frozen=True)
class Extra:
    """Work in the graph that the hand count leaves out, for all layers together."""

    path: str
    operator: str
    times: int
    forward: Work
    backward: Work
    reason: str


def reconcile(
    config: ResNetBKConfig, batch: int = BATCH
) -> tuple[Report, list[tuple[HandCount, int, int]], list[Extra]]:
    """The report, the hand count's lines with their values for all layers, and the work that they leave out.

    Raises:
        GraphflopsError: a component differs from the hand count.
    """
    report = resnet_bk_report(config, batch)
    sizes = {
        "B": batch, "N": config.n_seq, "D": config.d_model, "V": config.vocab_size, "E": config.num_experts,
        "K": config.top_k,
    }  # fmt: skip
    hand = []
    for line in HAND_COUNT:
        times = config.n_layers if line.per_layer else 1
        forward, backward = (times * flops for flops in line.values(sizes))
        for phase, expected in zip(DIRECTIONS, (forward, backward), strict=True):
            work = sum(
                (_comparable_work(entry, phase) for entry in report.entries if _covers(line, entry, phase)), ZERO
            )
            if STANDARD.flops(work) != expected:
                raise GraphflopsError(
                    f"{line.name}, {phase}: {expected:,} by hand, {STANDARD.flops(work):,} in the graph"
                )
        hand.append((line, forward, backward))
    return report, hand, list(_extras(report.entries))


def resnet_bk_report(config: ResNetBKConfig, batch: int = BATCH) -> Report:
    """The report of a training step of ResNet-BK."""
    with torch.device("meta"):
        model = ConfigurableResNetBK(config)
    return analyze(model, (torch.empty(batch, config.n_seq, dtype=torch.int64, device="meta"),))


def _extras(entries: Iterable[Entry]) -> Iterator[Extra]:
    works: dict[tuple[str, str], list[tuple[Work, Work]]] = {}
    for entry in entries:
        forward, backward = _omitted_work(entry, "forward"), _omitted_work(entry, "backward")
        if forward or backward:
            path = ".".join("*" if part.isdigit() else part for part in entry.path.split("."))
            works.setdefault((_short(path), _operator(entry)), []).append((forward, backward))
    for (path, operator), pairs in works.items():
        if (path, operator) not in REASONS:
            raise GraphflopsError(f"no reason for {operator} in {path}: add one to REASONS")
        forward = sum((pair[0] for pair in pairs), ZERO)
        backward = sum((pair[1] for pair in pairs), ZERO)
        yield Extra(path, operator, len(pairs), forward, backward, REASONS[path, operator])


def _omitted_work(entry: Entry, phase: Direction) -> Work:
    """The work of an entry that the hand count leaves out: all of it, or the sums that autograd adds."""
    work = work_in(entry, phase)
    covered = any(_covers(line, entry, phase) for line in HAND_COUNT)
    return Work(accumulate=work.accumulate) if covered else work


def _covers(line: HandCount, entry: Entry, phase: str) -> bool:
    return any(
        fnmatchcase(_short(entry.path), path) and _operator(entry) == operator and line_phase in ("*", phase)
        for path, operator, line_phase in line.entries
    )


def _short(path: str) -> str:
    """A path without ``bk_layer``: ``blocks.0.bk_layer.v_proj`` is ``blocks.0.v_proj``."""
    return path.replace(".bk_layer.", ".")


def _operator(entry: Entry) -> str:
    return entry.part or entry.operator


def _comparable_work(entry: Entry, phase: Direction) -> Work:
    """The work of an entry without the sums that autograd adds, which the hand count leaves out."""
    return replace(work_in(entry, phase), accumulate=0)


def page(config: ResNetBKConfig | None = None) -> str:
    """The page, in Markdown."""
    config = config or ResNetBKConfig()
    report, hand, extras = reconcile(config)
    lines = [
        "# Hand count and graph, reconciled",
        "",
        "*Generated by `make reconcile`; a test checks it.*",
        "",
        f"ResNet-BK as configured by default (D = {config.d_model}, {config.n_layers} layers, N = {config.n_seq}, "
        f"V = {config.vocab_size:,}, E = {config.num_experts} experts, K = {config.top_k}), batch B = {BATCH}. "
        "A hand count of this model is published. Its parts agree with the graph to the last FLOP. The ops that it "
        "leaves out are listed below, each with its work and reason; hand count and list add up to the graph's total.",
        "",
        "## The hand count",
        "",
        "| component | forward | | backward | |",
        "|---|---|---:|---|---:|",
    ]
    for line, forward, backward in hand:
        times = config.n_layers if line.per_layer else 1
        note = f" (each of {times} layers)" if line.per_layer else ""
        values = zip(line.formulas(), (forward, backward), strict=True)
        lines.append(
            f"| {line.name}{note} | " + " | ".join(f"{text} | {flops // times:,}" for text, flops in values) + " |"
        )
    hand_forward, hand_backward = sum(line[1] for line in hand), sum(line[2] for line in hand)
    lines += [
        f"| **sum** | | **{hand_forward:,}** | | **{hand_backward:,}** |",
        "",
        "## Ops that the hand count leaves out",
        "",
        "Work of all layers together. `standard` omits the class *accumulate*, sums that autograd adds; `exact` "
        "counts it. See [conventions](conventions.md).",
        "",
        "| module | operator | ops | forward | backward, standard | backward, exact | reason |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for extra in extras:
        lines.append(
            f"| `{extra.path}` | {extra.operator} | {extra.times} | {_flops(STANDARD, extra.forward):,} "
            f"| {_flops(STANDARD, extra.backward):,} | {_flops(EXACT, extra.backward):,} | {extra.reason} |"
        )
    lines += [
        "",
        "## Hand count + list = graph",
        "",
        "| | convention | hand count | list | graph |",
        "|---|---|---:|---:|---:|",
    ]
    for phase, by_hand in (("forward", hand_forward), ("backward", hand_backward)):
        for name in ("standard", "exact"):
            convention = CONVENTIONS[name]
            listed = sum(_flops(convention, getattr(extra, phase)) for extra in extras)
            graph = report.under(convention)
            total = graph.forward if phase == "forward" else graph.backward + graph.recompute
            if by_hand + listed != total:
                raise GraphflopsError(f"{phase}, {name}: {by_hand:,} + {listed:,} is not the graph's {total:,}")
            lines.append(f"| {phase} | {name} | {by_hand:,} | {listed:,} | {total:,} |")
    parameters = sum(report.parameters.values())
    lines += [
        "",
        f"The optimizer adds {report.optimizer:,}: AdamW at 15 for each of {parameters:,} parameters.",
        "",
        *_growth(config),
    ]
    return "\n".join(lines) + "\n"


def _growth(config: ResNetBKConfig) -> Iterator[str]:
    """The growth of the totals with N, beside the published table."""
    yield "## Growth with the sequence length"
    yield ""
    yield "| N | forward | backward, standard | backward, exact | step by hand, GFLOPs | published, GFLOPs |"
    yield "|---:|---:|---:|---:|---:|---:|"
    reports = {}
    for n in LENGTHS:
        report, hand, _ = reconcile(replace(config, n_seq=n))
        reports[n] = report
        step = sum(forward + backward for _, forward, backward in hand) + report.optimizer
        yield (
            f"| {n} | {report.forward:,} | {report.backward:,} | {report.under('exact').backward:,} "
            f"| {step / 1e9:.1f} | {PUBLISHED[n]} |"
        )
    standard = all(
        (reports[2 * n].forward, reports[2 * n].backward) == (2 * reports[n].forward, 2 * reports[n].backward)
        for n in LENGTHS[:-1]
    )
    extra_terms = {
        reports[2 * n].under("exact").backward - 2 * reports[n].under("exact").backward for n in LENGTHS[:-1]
    }
    if not standard or extra_terms != {config.n_layers}:
        raise GraphflopsError(f"the totals do not double with N as the page says: {standard}, {extra_terms}")
    yield ""
    yield (
        "Under `standard`, forward and backward double exactly with N. Under `exact` the backward pass has one term "
        "that does not: the gradient of `bk_scale` is a sum of B·N·D products, B·N·D − 1 additions in each layer, "
        f"so that doubling N gives twice the work and {config.n_layers} more."
    )
    yield ""
    yield (
        "The published table of growth prints 202.0, 410.2 and 826.6 GFLOPs for the last three lengths. The formulas "
        "published with it give the column before: growth is linear, and these three figures do not follow from "
        "its own formulas."
    )


def _flops(convention: Convention, work: Work) -> int:
    return int(convention.flops(work))


if __name__ == "__main__":
    print(f"wrote {write_atomic(sys.argv[1], page())}" if len(sys.argv) > 1 else page())
