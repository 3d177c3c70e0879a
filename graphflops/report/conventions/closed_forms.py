"""Closed formulas of papers: terms in the sizes of a model, which follow from the shapes in its graph.

A formula describes a whole step, not its ops, so that its terms replace the cost entries. Papers do not split the
backward pass: where it is twice the forward pass, one half is counted for activations and one for weights; all of it is
counted for activations in attention, which has no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from graphflops.core.costs import ZERO, Work
from graphflops.core.entries import Entry, Formula, Phase
from graphflops.core.errors import UsageError
from graphflops.core.sizes import prod

ATTENTION = "scaled_dot_product_attention"
_MATRICES = {"linear": "weight", "addmm": "mat2", "mm": "mat2"}


@dataclass(frozen=True, slots=True)
class Term:
    """A term of a formula: the part of the model that it describes (``role``), its text and its work."""

    role: str
    text: str
    forward: Work
    dgrad: Work = ZERO
    wgrad: Work = ZERO
    recompute: Work = ZERO


def twice(role: str, text: str, forward: Work, *, weights: bool = True, recomputed: bool = False) -> Term:
    """A term whose backward pass is twice its forward pass; checkpoints recompute it if ``again``."""
    dgrad, wgrad = (forward, forward) if weights else (2 * forward, ZERO)
    return Term(role, text, forward, dgrad, wgrad, forward if recomputed else ZERO)


class Sizes:
    """The sizes of a model, from the shapes in its cost entries; each is computed when a formula needs it.

    Raises:
        UsageError: the graph does not show a size; the message says which.
    """

    def __init__(self, entries: Sequence[Entry], parameters: Mapping[str, int]) -> None:
        self.calls = [entry for entry in entries if entry.kind == "call"]
        self.parameters = sum(parameters.values())
        """elements of all parameters with embeddings; tied parameters once"""

    @cached_property
    def attention(self) -> tuple[int, ...]:
        """Batch, heads, sequence length and head width, which all attention layers share."""
        shapes = {(call.operands["query"], call.operands["key"]) for call in self.calls if call.operator == ATTENTION}
        if not shapes:
            raise UsageError(f"there is no attention: no call of {ATTENTION}, from which layers and heads follow")
        (query, key), *different = sorted(shapes)
        if different:
            raise UsageError(
                f"its attention layers differ, {query} and {different[0][0]}: there is no single sequence length"
            )
        if len(query) < 4 or key[-2] != query[-2]:
            raise UsageError(f"its attention is not over one sequence by heads: query {query}, key {key}")
        return int(prod(query[:-3])), *query[-3:]

    @property
    def batch(self) -> int:
        """Sequences in the batch."""
        return self.attention[0]

    @property
    def heads(self) -> int:
        """Heads of an attention layer."""
        return self.attention[1]

    @property
    def sequence(self) -> int:
        """Tokens in a sequence."""
        return self.attention[2]

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.attention[3]

    @property
    def layers(self) -> int:
        """Number of layers: calls of attention."""
        return sum(call.operator == ATTENTION for call in self.calls)

    @cached_property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Op → number of inputs and outputs, of each product with a weight matrix."""
        matrices = {}
        for call in self.calls:
            shape = call.operands.get(_MATRICES.get(call.operator, ""), ())
            if len(shape) == 2:
                matrices[call.op] = (shape[1], shape[0]) if call.operator == "linear" else (shape[0], shape[1])
        return matrices

    @cached_property
    def head(self) -> str:
        """The op that computes logits: the last product with a matrix of the shape of an embedding."""
        tables = {call.operands["weight"] for call in self.calls if call.operator == "embedding"}
        heads = [op for op, (inputs, outputs) in self.matrices.items() if (outputs, inputs) in tables]
        if not heads:
            raise UsageError(
                "there is no vocabulary: no last linear layer with as many outputs as an embedding has rows"
            )
        return heads[-1]

    @property
    def width(self) -> int:
        """Width of the residual stream: inputs of the logits."""
        return self.matrices[self.head][0]

    @property
    def vocabulary(self) -> int:
        """Size of the vocabulary: number of logits."""
        return self.matrices[self.head][1]

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward network: there is a matrix to it, and one back."""
        shapes = {shape for op, shape in self.matrices.items() if op != self.head}
        candidates = {out for width, out in shapes if width == self.width != out and (out, width) in shapes}
        if len(candidates) != 1:
            raise UsageError("there is no feed-forward network of one width: a linear layer to it, and one back")
        return candidates.pop()

    def role(self, entry: Entry) -> str:
        """The part of the model that an entry belongs to, named as in the terms."""
        try:
            logits = entry.op == self.head
        except UsageError:
            logits = False
        if entry.operator == ATTENTION:
            return "attention"
        return "logits" if logits else "linear" if entry.op in self.matrices else entry.part or entry.operator


def megatron(s: Sizes) -> tuple[Term, ...]:
    """Narayanan et al. 2021, equation 3: 96·B·s·l·h²·(1 + s/6h + V/16lh); 72 and V/12lh without checkpoints."""
    tokens = s.batch * s.sequence
    return (
        twice("linear", "24·B·s·l·h²", Work(macs=12 * tokens * s.layers * s.width**2), recomputed=True),
        twice(
            *("attention", "4·B·s²·l·h", Work(macs=2 * tokens * s.sequence * s.layers * s.width)),
            weights=False,
            recomputed=True,
        ),
        twice("logits", "2·B·s·h·V", Work(macs=tokens * s.width * s.vocabulary)),
    )


def palm(s: Sizes) -> tuple[Term, ...]:
    """Chowdhery et al. 2022, appendix B: 6·N + 12·L·H·Q·T per token, a third of it forward."""
    tokens = s.batch * s.sequence
    scores = 2 * tokens * s.layers * s.heads * s.head_width * s.sequence
    return (
        twice("linear", "2·N per token, B·T tokens", Work(macs=tokens * s.parameters)),
        twice("attention", "4·L·H·Q·T per token, B·T tokens", Work(macs=scores), weights=False),
    )


def chinchilla(s: Sizes) -> tuple[Term, ...]:
    """Hoffmann et al. 2022, appendix F: embeddings, attention, dense blocks, logits; backward is twice forward."""
    tokens, inner = s.batch * s.sequence, s.heads * s.head_width
    scores = tokens * s.sequence * s.layers
    softmax = scores * s.heads * Work(elementwise=1, division=1, transcendental=1)
    return (
        twice("embedding", "2·s·V·d", Work(macs=tokens * s.vocabulary * s.width)),
        twice("linear", "attention: 2·3·s·d·(k·H) + 2·s·(k·H)·d", Work(macs=4 * tokens * s.width * inner * s.layers)),
        twice("attention", "2·s²·(k·H) + 3·H·s² + 2·s²·(k·H)", Work(macs=2 * scores * inner) + softmax, weights=False),
        twice("linear", "dense: 2·s·(d·f + d·f)", Work(macs=2 * tokens * s.width * s.hidden * s.layers)),
        twice("logits", "2·s·d·V", Work(macs=tokens * s.width * s.vocabulary)),
    )


def quickref(s: Sizes) -> tuple[Term, ...]:
    """The hand count of ResNet-BK's quick reference, layer by layer, with its own backward formulas."""
    mixtures = {call.op: call for call in s.calls if call.operator == "SparseMoE" and call.part == "experts"}
    layers = sum(call.operator == "bk_core" for call in s.calls)
    if not mixtures or not layers:
        raise UsageError("it is not a ResNet-BK: there is no mixture of experts or no BK-Core")
    mixture = next(iter(mixtures.values()))
    tokens, width = int(prod(mixture.outputs[0][:-1])), mixture.outputs[0][-1]
    experts, chosen = mixture.operands["gate.weight"][0], mixture.formula.sizes["top_k"]
    rows = layers * tokens
    bk_core = Work(elementwise=28 * rows, division=6 * rows)
    norm, embedding = Work(elementwise=5 * (layers + 1) * tokens * width), Work(elementwise=tokens * width)
    softmax = rows * experts * Work(elementwise=1, division=1, transcendental=1)
    return (
        Term("embedding", "B·N·D", embedding, dgrad=embedding),
        Term("layer_norm", "5·B·N·D each", norm, dgrad=norm),
        twice("gate", "2·B·N·D·E per layer", Work(macs=rows * width * experts)),
        twice("softmax", "3·B·N·E per layer", softmax),
        twice(
            "experts",
            "B·N·K·(8·D² + 2·D) per layer",
            rows * chosen * (Work(macs=4 * width**2) + Work(elementwise=2 * width)),
        ),
        Term("bk_core", "34·B·N per layer", bk_core, dgrad=Work(elementwise=26 * rows)),
        twice("linear", "output projection: 2·B·N·2·D per layer", Work(macs=2 * rows * width)),
        twice("logits", "2·B·N·D·V", Work(macs=tokens * width * s.vocabulary)),
    )


FORMULAS: Mapping[str, Callable[[Sizes], tuple[Term, ...]]] = MappingProxyType(
    {formula.__name__: formula for formula in (megatron, palm, chinchilla, quickref)}
)


def terms(name: str, entries: Sequence[Entry], parameters: Mapping[str, int]) -> tuple[Entry, ...]:
    """The terms of a formula as cost entries, in the phases that the graph has.

    Raises:
        UsageError: the graph does not show a size that the formula needs.
    """
    sizes, formula = Sizes(entries, parameters), FORMULAS[name]
    try:
        formula_terms = formula(sizes)
    except UsageError as error:
        raise UsageError(f"{name} needs sizes that this model does not show: {error}") from error
    except (LookupError, ArithmeticError, ValueError) as error:  # a call lacks operands
        raise UsageError(f"{name} needs sizes that the calls of this model do not show: {error!r}") from error
    about = " ".join((formula.__doc__ or "").split())
    formula_entries = [_entry(name, i, term, about, _phases(sizes)) for i, term in enumerate(formula_terms)]
    return (*formula_entries, *(entry for entry in entries if entry.kind == "update" and name == "quickref"))


def _phases(sizes: Sizes) -> set[Phase]:
    """The phases of the graph; recompute if matrix products have it, as attention recomputes without checkpoints."""
    phases: set[Phase] = {"forward"}
    for call in sizes.calls:
        if call.work.get("dgrad") or call.work.get("wgrad"):
            phases |= {"dgrad", "wgrad"}
        if call.op in sizes.matrices and call.work.get("recompute"):
            phases.add("recompute")
    return phases


def _entry(name: str, i: int, term: Term, about: str, phases: set[Phase]) -> Entry:
    works: dict[Phase, Work] = {
        "forward": term.forward,
        "dgrad": term.dgrad,
        "wgrad": term.wgrad,
        "recompute": term.recompute,
    }
    return Entry(
        kind="call",
        path="",
        op=f"{name}_{i}",
        target=f"{name}.{term.role}",
        part=term.text,
        line="",
        work={phase: work for phase, work in works.items() if phase in phases and work},
        rule=name,
        about=about,
        formula=Formula(term.text, {}, {}),
    )
