"""Roles of a model's parts: attention, MLP, experts, norms, …, by the names of modules and by what they call.

A role is that of the nearest module around an op that has one:

- A class, or a name of an attribute, says it: `LlamaAttention`, `self_attn`; `GPT2MLP`, `fc1`; `MixtralExperts`;
  `LlamaRMSNorm`; `PatchEmbed`, `wte`; the children `lm_head`, `fc` or `classifier` of the model.
- A module that calls `scaled_dot_product_attention` is attention.
- A module whose parts have other roles has none of its own: a transformer's block is neither attention nor MLP.
  The work of a mixture of experts itself, beside its router, is that of its experts.
- A norm is one wherever it is, and so is a loss. A convolution or a recurrence has that role where nothing around it
  has another.

Everything else is `other`. Each op has one role, so that the roles sum to the total.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from graphflops.core.components import parents
from graphflops.core.entries import Entry
from graphflops.report.data import Query, ReportData, phases_of

OTHER = "other"
ROLES = (
    *("attention", "MLP", "router", "experts", "norm", "embedding", "head"),
    *("convolution", "recurrence", "loss", OTHER),
)

_CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm", re.IGNORECASE)),
    ("loss", re.compile(r"loss$|criterion$", re.IGNORECASE)),
    ("router", re.compile(r"router|topk_?gat|gating|moe_?gate$", re.IGNORECASE)),
    ("experts", re.compile(r"experts?(ffn|mlp|layer)?$|moe(_?block|_?layer|_?ffn)?$", re.IGNORECASE)),
    ("attention", re.compile(r"(attention|attn|mha)(\d*d|v?\d+|layer|pool\w*|conv\w*|module|core)?$", re.IGNORECASE)),
    (
        "MLP",
        re.compile(r"(mlp|ffn?|feed_?forward|intermediate|glu|dense\w*dense)(layer|block)?$", re.IGNORECASE),
    ),
    ("embedding", re.compile(r"embed|patch_?merging", re.IGNORECASE)),
    ("recurrence", re.compile(r"lstm|gru(cell)?$|rnn(cell)?$|mamba|ssm|rwkv|recurren", re.IGNORECASE)),
    ("convolution", re.compile(r"conv(olution)?(transpose)?\d?d", re.IGNORECASE)),
)
"""role → the classes of its modules"""
_NAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("router", re.compile(r"router")),
    ("experts", re.compile(r"(shared_)?experts?|shared_expert_gate|moe")),
    ("attention", re.compile(r"(self_?|cross_?|encoder_?|enc_?)?(attn|attention|mha)\d*")),
    (
        "MLP",
        re.compile(
            r"(mlp|ffn?|feed_?forward)\d*(_output)?|(fc|linear|lin|w|pwconv)[123]|(gate|up|down|gate_up)_proj"
            r"|intermediate|linear_tokens"
        ),
    ),
    ("embedding", re.compile(r"wte|wpe|\w*embed(ding)?s?(_\w+)?")),
)
"""role → the names of its modules"""
_HEAD = re.compile(
    r"(\w+_)?(heads?|fc|classif\w*|score|logits?|cls|predictions?|qa_outputs|lm_loss|proj_out|projection"
    r"|vocab_(projector|transform)|unembed\w*)(_\w+)?"
)
_OPERATORS: Mapping[str, frozenset[str]] = {
    "attention": frozenset(["scaled_dot_product_attention"]),
    "norm": frozenset(["layer_norm", "native_layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm"]),
    "loss": frozenset(["cross_entropy_loss", "nll_loss", "nll_loss_nd", "ctc_loss", "mse_loss"]),
    "embedding": frozenset(["embedding", "embedding_bag"]),
}
"""role → operators that have it where their module has none"""
_NEUTRAL = frozenset(("norm", "convolution", "embedding", "loss"))
"""roles of parts that a module of another role may have"""
_ALWAYS = frozenset(("norm", "loss"))
_WEAK = frozenset(("convolution", "recurrence"))


@dataclass(frozen=True)
class Roles:
    """The role of each module, and of each op."""

    by_path: Mapping[str, str]

    def of_module(self, path: str) -> str:
        """The role of a module: its own, or that of the nearest around it."""
        around = [role for place in (path, *parents(path)) if (role := self.by_path.get(place))]
        if around and around[0] in _ALWAYS:
            return around[0]
        strong = [role for role in around if role not in _WEAK]
        if "experts" in strong and strong[0] == "MLP":
            return "experts"
        return (strong or around or [OTHER])[0]

    def of(self, entry: Entry) -> str:
        """The role of an op: of some operators always the same, else that of its module."""
        role = self.of_module(entry.path)
        if role != OTHER or entry.kind != "call":
            return role
        return next((role for role, operators in _OPERATORS.items() if entry.operator in operators), OTHER)


def roles(report: ReportData) -> Roles:
    """The roles of a report's modules."""
    modules = report.modules
    called: dict[str, set[str]] = {}
    for entry in report.entries:
        if entry.kind == "call":
            called.setdefault(entry.path, set()).add(entry.operator)
    by_path: dict[str, str] = {}
    inside: dict[str, set[str]] = {}
    for path in sorted(modules, key=lambda path: (path.count("."), bool(path)), reverse=True):
        parts = inside.pop(path, set())
        role = _role(path, modules, called.get(path, set()), parts)
        if role:
            by_path[path] = role
        if path:
            parent = path.rpartition(".")[0]
            inside.setdefault(parent, set()).update(parts | ({role} if role else set()))
    return Roles(by_path)


def _role(path: str, modules: Mapping[str, str], operators: set[str], parts: set[str]) -> str:
    """The role of a module; ``parts`` are the roles of the modules in it."""
    parent, _, name = path.rpartition(".")
    strong = parts - _NEUTRAL
    if not path or {"experts", "router"} <= strong:
        return "experts" if path and "attention" not in strong else ""
    role = next((role for role, pattern in _CLASSES if pattern.search(modules[path])), "")
    if role == "norm" and parts:
        role = ""
    if not role or role in _WEAK:
        named = next((role for role, pattern in _NAMES if pattern.fullmatch(name)), "")
        around = f"{parent}." if parent else ""
        if name in ("gate", "gating") and f"{around}experts" in modules:
            named = "router"
        elif name == "output" and f"{around}intermediate" in modules:
            named = "MLP"
        elif not parent and _HEAD.fullmatch(name):
            named = "head"
        role = named or role
    if not role and not operators.isdisjoint(_OPERATORS["attention"]):
        role = "attention"
    allowed = {role, "MLP"} if role in ("experts", "head", "router") else {role}
    return role if strong <= allowed else ""


def by_role(report: ReportData, phase: Query = "forward") -> dict[str, int]:
    """Role → FLOPs of a phase, of the roles that there are; their sum is the total."""
    role, flops, phases = roles(report), Counter[str](), phases_of(phase)
    for entry in report.entries:
        flops[role.of(entry)] += report.convention.of(entry, phases, report.modules.get(entry.path, ""))
    return {name: flops[name] for name in ROLES if name in flops}
