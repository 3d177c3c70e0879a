"""Measure rates: run real batches, and count on how many rows each routed or halted module ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from graphflops.core.components import parents
from graphflops.core.errors import UsageError
from graphflops.core.rate import Rate

if TYPE_CHECKING:
    from torch import nn

    from graphflops.rules.loading import RuleSource


def measure(model: nn.Module, batches: Iterable[Any], *, rules: Iterable[RuleSource] | None = None) -> dict[str, Rate]:
    """Run real batches and return the rates of the modules whose work depends on the data, usable as ``rates=``.

    A rate is the rows on which a module ran, of the rows that an analysis counts at rate 1; rows are weighted with the
    elements of the module's first tensor. The expected rate is that of all batches together; the bounds are the lowest
    and the highest of a single batch. Modules that always run, and those that follow the module around them, are left
    out; the rate of a module inside of another is relative to the other's.

    The model runs in its current mode, without gradients. Hooks, parameters, buffers that change in a run (the
    statistics of a batch norm) and the state of the random number generator are restored.

    Args:
        model: a module, on real tensors.
        batches: each batch a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        rules: additional rules, as for ``analyze``.

    Raises:
        UsageError: there are no batches, or ``model`` is not a module.
        CaptureError: the model cannot be traced on a batch, so that its rows at rate 1 are unknown.
    """
    from graphflops.analysis.arguments import report_model_errors

    return report_model_errors(_measure)(model, batches, rules)


def _measure(model: nn.Module, batches: Iterable[Any], rules: Iterable[RuleSource] | None) -> dict[str, Rate]:
    import torch
    from torch import nn

    from graphflops.rules.loading import rulebook
    from graphflops.tracing.attempts import trace

    if not isinstance(model, nn.Module):
        raise UsageError(f"measure takes a torch.nn.Module and batches, not {type(model).__name__}")
    book = rulebook(rules)
    traces: dict[Any, tuple[Mapping[str, Fraction], Collection[str]]] = {}
    measured: list[_BatchRows] = []
    for batch in batches:
        args, kwargs = _inputs_of(batch)
        key = _trace_key(args, kwargs)
        if key not in traces:
            with _count_rows(model) as traced_rows:
                traced = trace(model, args, kwargs, book, grad=torch.is_grad_enabled())
            traces[key] = _full_rows(traced_rows, traced.routed_modules), traced.called
        full, called = traces[key]
        with _state_restored(model), _count_rows(model) as rows, torch.no_grad():
            model(*args, **kwargs)
        untraced = [path for path in rows if path not in called]
        if untraced:
            raise UsageError(
                f"{untraced[0]} ran on a batch of real data and is not in the graph: either the batch has fewer rows "
                "than there are modules to share them, or the data took another branch than the trace. Measure on a "
                "larger batch"
            )
        measured.append(_BatchRows(full, rows))
    if not measured:
        raise UsageError("there are no batches to measure; give at least one")
    return _rates_of(measured)


@dataclass(frozen=True)
class _BatchRows:
    """Module path → elements of the module's input: those of one batch, and those at rate 1."""

    full: Mapping[str, Fraction]
    rows: Counter[str]

    def rate_of(self, path: str) -> Fraction | None:
        """The rate of a module on this batch; None if it has no rows at rate 1."""
        return self.rows[path] / self.full[path] if self.full.get(path) else None


def _inputs_of(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,), {}


def _trace_key(args: Any, kwargs: Any) -> Any:
    """Structure, shapes, dtypes and values of Python objects: batches with the same key have the same trace."""
    import torch

    from graphflops.core.torch_compat import tree_flatten

    leaves, structure = tree_flatten((args, kwargs))
    return str(structure), tuple(
        (tuple(leaf.shape), leaf.dtype) if torch.is_tensor(leaf) else repr(leaf) for leaf in leaves
    )


class _Rows(Counter[str]):
    """Counts of rows; the copies of the hooks that run in a trace share them."""

    _graphflops_shares_it = True


@contextmanager
def _count_rows(model: nn.Module) -> Iterator[Counter[str]]:
    """Count, for each module, the elements of the first tensor of each call, or 1 for a call without tensors."""
    import torch

    from graphflops.core.torch_compat import tree_leaves

    rows = _Rows()

    def counter(path: str) -> Callable[..., None]:
        def count(module: Any, args: Any, kwargs: Any) -> None:
            if not path:
                rows.clear()  # a trace may start again
            tensors = (leaf.numel() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf))
            rows[path] += next(tensors, 1)

        return count

    handles = [
        module.register_forward_pre_hook(counter(path), with_kwargs=True) for path, module in model.named_modules()
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _state_restored(model: nn.Module) -> Iterator[None]:
    """Restore buffers and the state of the random number generators afterwards."""
    import torch

    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in values:
                    buffer.copy_(value)


def _full_rows(rows: Mapping[str, int], traced_shares: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Rows at rate 1: the rows of the trace, divided by the shares of them that the trace took."""
    return {
        path: count
        / prod((traced_shares.get(module) or Fraction(1) for module in (path, *parents(path))), start=Fraction(1))
        for path, count in rows.items()
    }


def _rates_of(batches: Sequence[_BatchRows]) -> dict[str, Rate]:
    """The rate of each module relative to the module around it; without those that always run with it."""
    paths = dict.fromkeys(path for batch in batches for path in batch.full)
    by_batch = {path: [batch.rate_of(path) for batch in batches] for path in paths}
    overall = {
        path: sum((batch.rows[path] for batch in batches), Fraction(0)) / full
        for path in paths
        if (full := sum((batch.full.get(path, Fraction(0)) for batch in batches), Fraction(0)))
    }
    rates = {}
    for path in overall:
        parent = next((module for module in parents(path) if module in overall), None)
        parent_by_batch = [Fraction(1)] * len(batches) if parent is None else by_batch[parent]
        relative = [
            rate / parent_rate
            for rate, parent_rate in zip(by_batch[path], parent_by_batch, strict=True)
            if rate is not None and parent_rate
        ]
        if relative and any(rate != 1 for rate in relative):
            expected = overall[path] / (Fraction(1) if parent is None else overall[parent])
            rates[path] = Rate(min(*relative, expected), expected, max(*relative, expected))
    return rates
