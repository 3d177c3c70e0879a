"""Sizes and parts of language models, found under the attribute names that common libraries use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from graphflops.core.components import components
from graphflops.core.entries import Entry
from graphflops.core.messages import try_getattr
from graphflops.models.flops_count import FLOPsCount
from graphflops.report.report import Report

# The first that is an integer attribute of the model or its config.
_ATTRIBUTES = {
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
    """Sizes of a language model; None for a size that it does not have."""

    d_model: int | None
    n_layers: int | None
    vocab_size: int | None
    num_experts: int | None
    top_k: int | None

    @classmethod
    def of(cls, model: nn.Module) -> Sizes:
        """Sizes from attributes of the model or its ``config``, otherwise from its modules."""
        modules = dict(model.named_modules())
        embedding = next((module for module in modules.values() if isinstance(module, nn.Embedding)), None)
        width, rows = (None, None) if embedding is None else (embedding.embedding_dim, embedding.num_embeddings)
        blocks = {name for name in components(_classes(modules)).values() if name.startswith("layer_")}
        experts = _experts(modules)
        owner, expert_count = (model, None) if experts is None else experts
        num_experts = _size(owner, "num_experts") or expert_count
        return cls(
            d_model=_size(model, "d_model") or width,
            n_layers=_size(model, "n_layers") or len(blocks) or None,
            vocab_size=_size(model, "vocab_size") or rows,
            num_experts=num_experts,
            top_k=None if num_experts is None else _top_k(model, modules, experts),
        )


def part_costs(report: Report) -> dict[str, FLOPsCount | None]:
    """Forward and backward FLOPs of one part of each kind; None if the model has no such part.

    The kinds are ``embedding``, ``layernorm``, ``bk_core``, ``moe``, ``output_projection`` and ``lm_head``. For a kind
    that every block has, the part of the first block is counted.
    """
    classes = report.modules
    paths = [path for path in classes if path]
    component = components(classes)
    outside_blocks = [path for path in paths if not component[path].startswith("layer_")]
    table = next((path for path in paths if classes[path].endswith("Embedding")), None)
    experts = _first(paths, ("experts",))
    return {
        "embedding": _part_cost(report, table and component[table]),
        "layernorm": _part_cost(report, next((path for path in paths if classes[path].endswith("Norm")), None)),
        "bk_core": _core_cost(report, paths),
        "moe": _part_cost(report, experts and experts.rpartition(".")[0]),
        "output_projection": _part_cost(report, _first(paths, _OUTPUT_PROJECTIONS)),
        "lm_head": _part_cost(report, _first(outside_blocks, _HEADS)),
    }


def entries_cost(report: Report, entries: Sequence[Entry]) -> FLOPsCount:
    """Forward and backward FLOPs of entries of a report."""
    count = FLOPsCount.of(report.with_entries(entries))
    return FLOPsCount(count.forward, count.backward)


def _core_cost(report: Report, paths: Sequence[str]) -> FLOPsCount | None:
    """The core of the first block: a module, or calls of an autograd function."""
    if path := _first(paths, _CORES):
        return _part_cost(report, path)
    calls = [entry for entry in report.entries if "BKCore" in entry.target]
    first = [entry for entry in calls if entry.path == calls[0].path]
    return entries_cost(report, first) if first else None


def _part_cost(report: Report, part: str | None) -> FLOPsCount | None:
    """The cost of a module or component; None without a path."""
    return entries_cost(report, report.select(part)) if part else None


def _first(paths: Iterable[str], names: Iterable[str]) -> str | None:
    """The first path that ends in one of the names; earlier names take precedence."""
    by_name: dict[str, str] = {}
    for path in paths:
        by_name.setdefault(path.rpartition(".")[2], path)
    return next((by_name[name] for name in names if name in by_name), None)


def _classes(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    return {path: type(module).__name__ for path, module in modules.items()}


def _experts(modules: Mapping[str, nn.Module]) -> tuple[nn.Module, int | None] | None:
    """The first module with a submodule ``experts``, and their number if they are a list."""
    for path, module in modules.items():
        parent, _, name = path.rpartition(".")
        if name == "experts":
            return modules[parent], len(module) if isinstance(module, (nn.ModuleList, nn.Sequential)) else None
    return None


def _top_k(
    model: nn.Module, modules: Mapping[str, nn.Module], experts: tuple[nn.Module, int | None] | None
) -> int | None:
    candidates = [model] if experts is None else [experts[0], *experts[0].children(), model]
    return next((size for module in candidates if (size := _size(module, "top_k"))), None)


def _size(module: nn.Module, size: str) -> int | None:
    """The size from an attribute of a module or of its ``config``."""
    return next((value for value in _values(module, _ATTRIBUTES[size])), None)


def _values(module: nn.Module, names: Iterable[str]) -> Iterator[int]:
    for name in names:
        for owner in (module, try_getattr(module, "config")):
            value = owner.get(name) if isinstance(owner, Mapping) else try_getattr(owner, name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                yield value
