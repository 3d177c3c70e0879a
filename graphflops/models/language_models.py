"""Language models, ours and others': their sizes by the names that people give them, and the parts that they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from graphflops.core.components import components
from graphflops.core.entries import Entry
from graphflops.models.flops_count import FLOPsCount
from graphflops.report.report import Report

# The first of these that the model or its config has as an integer counts.
_SPELLINGS = {
    "d_model": ("d_model", "hidden_size", "n_embd", "embed_dim", "dim"),
    "n_layers": ("n_layers", "num_hidden_layers", "num_layers", "n_layer", "depth"),
    "vocab_size": ("vocab_size", "n_vocab", "num_tokens"),
    "num_experts": ("num_experts", "num_local_experts", "n_routed_experts", "n_experts"),
    "top_k": ("num_experts_per_tok", "top_k", "k"),
}

_HEADS = ("lm_head", "head", "output", "embed_out", "to_logits")
_OUTPUT_PROJECTIONS = ("output_proj", "out_proj", "o_proj", "c_proj", "wo")
_CORES = ("bk_core", "birman_schwinger_core")


@dataclass(frozen=True)
class Sizes:
    """The sizes of a language model; None is a size that it does not have."""

    d_model: int | None
    n_layers: int | None
    vocab_size: int | None
    num_experts: int | None
    top_k: int | None

    @classmethod
    def of(cls, model: nn.Module) -> Sizes:
        """The sizes that the model or its ``config`` says, else those that its modules have."""
        modules = dict(model.named_modules())
        embedding = next((each for each in modules.values() if isinstance(each, nn.Embedding)), None)
        width, rows = (None, None) if embedding is None else (embedding.embedding_dim, embedding.num_embeddings)
        blocks = {name for name in components(_classes(modules)).values() if name.startswith("layer_")}
        experts = _experts(modules)
        num_experts = _said(model, "num_experts") if experts is None else _said(experts[0], "num_experts") or experts[1]
        return cls(
            d_model=_said(model, "d_model") or width,
            n_layers=_said(model, "n_layers") or len(blocks) or None,
            vocab_size=_said(model, "vocab_size") or rows,
            num_experts=num_experts,
            top_k=None if num_experts is None else _top_k(model, modules, experts),
        )


def parts_of(report: Report) -> dict[str, FLOPsCount | None]:
    """Forward and backward of one part of each kind; None where the model has no such part.

    The kinds are ``embedding``, ``layernorm``, ``bk_core``, ``moe``, ``output_projection`` and ``lm_head``. Of a kind
    that every block has, it is the part of the first block.
    """
    classes = report.modules
    paths = [path for path in classes if path]
    named = components(classes)
    around = [path for path in paths if not named[path].startswith("layer_")]
    table = next((path for path in paths if classes[path].endswith("Embedding")), None)
    experts = _first(paths, ("experts",))
    return {
        "embedding": _of(report, table and named[table]),
        "layernorm": _of(report, next((path for path in paths if classes[path].endswith("Norm")), None)),
        "bk_core": _core(report, paths),
        "moe": _of(report, experts and experts.rpartition(".")[0]),
        "output_projection": _of(report, _first(paths, _OUTPUT_PROJECTIONS)),
        "lm_head": _of(report, _first(around, _HEADS)),
    }


def cost_of(report: Report, entries: Sequence[Entry]) -> FLOPsCount:
    """Forward and backward of some entries of a report."""
    count = FLOPsCount.of(report.with_entries(entries))
    return FLOPsCount(count.forward, count.backward)


def _core(report: Report, paths: Sequence[str]) -> FLOPsCount | None:
    """The core of the first block: a module, or calls of a function that is one."""
    if path := _first(paths, _CORES):
        return _of(report, path)
    calls = [each for each in report.entries if "BKCore" in each.target]
    first = [each for each in calls if each.path == calls[0].path]
    return cost_of(report, first) if first else None


def _of(report: Report, part: str | None) -> FLOPsCount | None:
    """The cost of a module or component; None if there is none. The model itself, of the empty path, is no part."""
    return cost_of(report, report.select(part)) if part else None


def _first(paths: Iterable[str], names: Iterable[str]) -> str | None:
    """The first path whose last name is the first of these that any has."""
    last: dict[str, str] = {}
    for path in paths:
        last.setdefault(path.rpartition(".")[2], path)
    return next((last[name] for name in names if name in last), None)


def _classes(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    return {path: type(module).__name__ for path, module in modules.items()}


def _experts(modules: Mapping[str, nn.Module]) -> tuple[nn.Module, int | None] | None:
    """The first module that has ``experts``, and how many these are if they are a list."""
    for path, module in modules.items():
        parent, _, last = path.rpartition(".")
        if last == "experts":
            return modules[parent], len(module) if isinstance(module, (nn.ModuleList, nn.Sequential)) else None
    return None


def _top_k(
    model: nn.Module, modules: Mapping[str, nn.Module], experts: tuple[nn.Module, int | None] | None
) -> int | None:
    asked = [model] if experts is None else [experts[0], *experts[0].children(), model]
    return next((said for each in asked if (said := _said(each, "top_k"))), None)


def _said(module: nn.Module, size: str) -> int | None:
    """A size that an attribute of a module, or of its ``config``, says."""
    return next((value for value in _values(module, _SPELLINGS[size])), None)


def _values(module: nn.Module, names: Iterable[str]) -> Iterator[int]:
    for name in names:
        for holder in (module, attribute_of(module, "config")):
            value = holder.get(name) if isinstance(holder, Mapping) else attribute_of(holder, name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                yield value


def attribute_of(holder: Any, name: str) -> Any:
    """An attribute, or None; a property of the user's may raise anything."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None
