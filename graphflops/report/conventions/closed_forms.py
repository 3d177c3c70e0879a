"""Closed formulas of papers: terms in the sizes of a model, which are read off the shapes of its graph.

A formula speaks of a whole step, and not of its Ops, so that its terms take the place of the ledger's entries. Papers
do not split the backward pass: where it is twice the forward pass, one half each is put down to activations and
weights; that of attention, which has no weights, to activations.
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
    """One addend of a formula: which part of a model it stands for, as it is printed, and its work."""

    role: str
    text: str
    forward: Work
    dgrad: Work = ZERO
    wgrad: Work = ZERO
    recompute: Work = ZERO


def twice(role: str, text: str, forward: Work, *, weights: bool = True, again: bool = False) -> Term:
    """A term whose backward pass is twice its forward pass, which checkpoints do once more if ``again``."""
    dgrad, wgrad = (forward, forward) if weights else (2 * forward, ZERO)
    return Term(role, text, forward, dgrad, wgrad, forward if again else ZERO)


class Sizes:
    """What the shapes in a ledger say of a model's sizes; each is looked for when a formula asks for it.

    Raises:
        UsageError: the graph does not show a size; the message says what is missing.
    """

    def __init__(self, entries: Sequence[Entry], parameters: Mapping[str, int]) -> None:
        self.calls = [each for each in entries if each.kind == "call"]
        self.parameters = sum(parameters.values())
        """elements of all parameters, embeddings among them, tied ones once"""

    @cached_property
    def attention(self) -> tuple[int, ...]:
        """Batch, heads, sequence and head width, of layers that are all alike."""
        shapes = {(each.operands["query"], each.operands["key"]) for each in self.calls if each.operator == ATTENTION}
        if not shapes:
            raise UsageError(f"there is no attention: no call of {ATTENTION}, of which layers and heads are told")
        (query, key), *others = sorted(shapes)
        if others:
            raise UsageError(
                f"its attention layers are not alike, {query} and {others[0][0]}: there is no one sequence"
            )
        if len(query) < 4 or key[-2] != query[-2]:
            raise UsageError(f"its attention is not over one sequence by heads: query {query}, key {key}")
        return int(prod(query[:-3])), *query[-3:]

    @property
    def batch(self) -> int:
        """Sequences in a step."""
        return self.attention[0]

    @property
    def heads(self) -> int:
        """Heads of a layer."""
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
        """Layers: calls of attention."""
        return sum(each.operator == ATTENTION for each in self.calls)

    @cached_property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Op → inputs and outputs, of each product with a matrix of weights."""
        found = {}
        for each in self.calls:
            shape = each.operands.get(_MATRICES.get(each.operator, ""), ())
            if len(shape) == 2:
                found[each.op] = (shape[1], shape[0]) if each.operator == "linear" else (shape[0], shape[1])
        return found

    @cached_property
    def head(self) -> str:
        """The Op that makes logits: the last product with a matrix of the shape of an embedding's table."""
        tables = {each.operands["weight"] for each in self.calls if each.operator == "embedding"}
        heads = [op for op, (inputs, outputs) in self.matrices.items() if (outputs, inputs) in tables]
        if not heads:
            raise UsageError(
                "there is no vocabulary: no last linear layer with as many outputs as an embedding has rows"
            )
        return heads[-1]

    @property
    def width(self) -> int:
        """Width of the residual stream: what the logits are made of."""
        return self.matrices[self.head][0]

    @property
    def vocabulary(self) -> int:
        """Size of the vocabulary: how many logits there are."""
        return self.matrices[self.head][1]

    @property
    def hidden(self) -> int:
        """Width inside of the feed-forward network: there is a matrix to it, and one back."""
        shapes = {shape for op, shape in self.matrices.items() if op != self.head}
        there_and_back = {out for width, out in shapes if width == self.width != out and (out, width) in shapes}
        if len(there_and_back) != 1:
            raise UsageError("there is no feed-forward network of one width: a linear layer to it, and one back")
        return there_and_back.pop()

    def role(self, entry: Entry) -> str:
        """Which part of a model an entry is, in the words of the terms."""
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
        twice("linear", "24·B·s·l·h²", Work(macs=12 * tokens * s.layers * s.width**2), again=True),
        twice(
            *("attention", "4·B·s²·l·h", Work(macs=2 * tokens * s.sequence * s.layers * s.width)),
            weights=False,
            again=True,
        ),
        twice("logits", "2·B·s·h·V", Work(macs=tokens * s.width * s.vocabulary)),
    )


def palm(s: Sizes) -> tuple[Term, ...]:
    """Chowdhery et al. 2022, appendix B: a token costs 6·N + 12·L·H·Q·T, forward a third of it."""
    tokens = s.batch * s.sequence
    scores = 2 * tokens * s.layers * s.heads * s.head_width * s.sequence
    return (
        twice("linear", "2·N of each of B·T tokens", Work(macs=tokens * s.parameters)),
        twice("attention", "4·L·H·Q·T of each of B·T tokens", Work(macs=scores), weights=False),
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
    """The hand count in ResNet-BK's quick reference, layer by layer, with its own backward formulas."""
    mixtures = {each.op: each for each in s.calls if each.operator == "SparseMoE" and each.part == "experts"}
    layers = sum(each.operator == "bk_core" for each in s.calls)
    if not mixtures or not layers:
        raise UsageError("it is no ResNet-BK: there is no call of a mixture of experts and a BK-Core")
    mixture = next(iter(mixtures.values()))
    tokens, width = int(prod(mixture.outputs[0][:-1])), mixture.outputs[0][-1]
    experts, chosen = mixture.operands["gate.weight"][0], mixture.formula.sizes["top_k"]
    rows = layers * tokens
    bk_core = Work(elementwise=28 * rows, division=6 * rows)
    norm, embedding = Work(elementwise=5 * (layers + 1) * tokens * width), Work(elementwise=tokens * width)
    softmax = rows * experts * Work(elementwise=1, division=1, transcendental=1)
    return (
        Term("embedding", "B·N·D", embedding, dgrad=embedding),
        Term("layer_norm", "5·B·N·D of each", norm, dgrad=norm),
        twice("gate", "2·B·N·D·E of each layer", Work(macs=rows * width * experts)),
        twice("softmax", "3·B·N·E of each layer", softmax),
        twice(
            "experts",
            "B·N·K·(8·D² + 2·D) of each layer",
            rows * chosen * (Work(macs=4 * width**2) + Work(elementwise=2 * width)),
        ),
        Term("bk_core", "34·B·N of each layer", bk_core, dgrad=Work(elementwise=26 * rows)),
        twice("linear", "output projection: 2·B·N·2·D of each layer", Work(macs=2 * rows * width)),
        twice("logits", "2·B·N·D·V", Work(macs=tokens * width * s.vocabulary)),
    )


FORMULAS: Mapping[str, Callable[[Sizes], tuple[Term, ...]]] = MappingProxyType(
    {each.__name__: each for each in (megatron, palm, chinchilla, quickref)}
)


def terms(name: str, entries: Sequence[Entry], parameters: Mapping[str, int]) -> tuple[Entry, ...]:
    """The terms of a formula as entries of a ledger, in the phases that the graph has; updates are left as they are.

    Raises:
        UsageError: the graph does not show a size that the formula asks for.
    """
    sizes, formula = Sizes(entries, parameters), FORMULAS[name]
    try:
        found = formula(sizes)
    except UsageError as error:
        raise UsageError(f"{name} speaks of sizes that this model does not show: {error}") from error
    except (LookupError, ArithmeticError, ValueError) as error:  # calls without the operands that such calls have
        raise UsageError(f"{name} speaks of sizes that this model's calls do not show: {error!r}") from error
    about = " ".join((formula.__doc__ or "").split())
    lines = [_entry(name, i, term, about, _phases(sizes)) for i, term in enumerate(found)]
    return (*lines, *(each for each in entries if each.kind == "update" and name == "quickref"))


def _phases(sizes: Sizes) -> set[Phase]:
    """The phases that the graph has; checkpoints are told by matrices, as attention may run again by itself."""
    phases: set[Phase] = {"forward"}
    for each in sizes.calls:
        if each.work.get("dgrad") or each.work.get("wgrad"):
            phases |= {"dgrad", "wgrad"}
        if each.op in sizes.matrices and each.work.get("recompute"):
            phases.add("recompute")
    return phases


def _entry(name: str, i: int, term: Term, about: str, phases: set[Phase]) -> Entry:
    work: dict[Phase, Work] = {
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
        work={phase: done for phase, done in work.items() if phase in phases and done},
        rule=name,
        about=about,
        formula=Formula(term.text, {}, {}),
    )
