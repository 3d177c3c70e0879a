"""Rates by running: how often each routed or halted module runs, and on how many rows, on real batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from graphflops.analysis.rates.patterns import around
from graphflops.core.errors import UsageError
from graphflops.core.rate import Rate

if TYPE_CHECKING:
    from torch import nn

    from graphflops.rules.loading import RuleSource


def measure(model: nn.Module, batches: Iterable[Any], *, rules: Iterable[RuleSource] | None = None) -> dict[str, Rate]:
    """Run real batches, and say at which rate modules ran whose work depends on data; usable as ``rates=``.

    A rate is the rows that a module worked on, of those that an analysis counts at rate 1: calls of it count with the
    elements of their first tensor. It is that of all batches together, with the least and the most of one batch.
    Modules that always run, and those that just follow a module around them, are left out; the rate of one inside of
    another is of what the other ran.

    The model runs as it is, in the mode that it is in, without gradients, and is as it was afterwards: hooks,
    parameters, buffers that running changes (the statistics of a batch norm) and the state of the random number
    generator.

    Args:
        model: a module, on real tensors.
        batches: of each batch a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        rules: rules of your own, as for ``analyze``.

    Raises:
        UsageError: there are no batches, or ``model`` is no module.
        CaptureError: the model cannot be traced on a batch, so that nobody knows what all of its rows are.
    """
    from graphflops.analysis.arguments import in_words

    return in_words(_measured)(model, batches, rules)


def _measured(model: nn.Module, batches: Iterable[Any], rules: Iterable[RuleSource] | None) -> dict[str, Rate]:
    import torch
    from torch import nn

    from graphflops.capture import trace
    from graphflops.rules.loading import rulebook

    if not isinstance(model, nn.Module):
        raise UsageError(f"measure takes a torch.nn.Module and batches, not {type(model).__name__}")
    book = rulebook(rules)
    traces: dict[Any, tuple[Mapping[str, Fraction], Collection[str]]] = {}
    counted: list[_Batch] = []
    for batch in batches:
        args, kwargs = _inputs(batch)
        shapes = _shapes(args, kwargs)
        if shapes not in traces:
            with _rows(model) as traced_rows:
                traced = trace(model, args, kwargs, book, grad=torch.is_grad_enabled())
            traces[shapes] = _full(traced_rows, traced.routed), traced.called
        full, called = traces[shapes]
        with _untouched(model), _rows(model) as rows, torch.no_grad():
            model(*args, **kwargs)
        unseen = [path for path in rows if path not in called]
        if unseen:
            raise UsageError(
                f"{unseen[0]} ran on a batch of real data, and is not in its graph: either the batch has fewer rows "
                "than there are modules to share them, or data took a branch that the trace did not. Measure on a "
                "larger batch"
            )
        counted.append(_Batch(full, rows))
    if not counted:
        raise UsageError("there are no batches to measure: give at least one")
    return _rates(counted)


@dataclass(frozen=True)
class _Batch:
    """What ran on one batch, and what would at rate 1; in elements of the inputs of modules, by path."""

    full: Mapping[str, Fraction]
    rows: Counter[str]

    def share(self, path: str) -> Fraction | None:
        """What a module ran of what it would; None if that is nothing."""
        return self.rows[path] / self.full[path] if self.full.get(path) else None


def _inputs(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,), {}


def _shapes(args: Any, kwargs: Any) -> Any:
    """What of a batch tells one trace from another."""
    import torch

    from graphflops.core.torch_compat import tree_flatten

    leaves, structure = tree_flatten((args, kwargs))
    return str(structure), tuple(
        (tuple(each.shape), each.dtype) if torch.is_tensor(each) else repr(each) for each in leaves
    )


class _Rows(Counter[str]):
    """Counts that a trace adds to as well: its copies of the hooks share them."""

    _graphflops_shares_it = True


@contextmanager
def _rows(model: nn.Module) -> Iterator[Counter[str]]:
    """Count, module by module, the elements of the first tensor of each call, and calls without tensors as one."""
    import torch

    from graphflops.core.torch_compat import tree_leaves

    rows = _Rows()

    def counting(path: str) -> Callable[..., None]:
        def count(module: Any, args: Any, kwargs: Any) -> None:
            if not path:
                rows.clear()  # a trace may begin anew
            tensors = (each.numel() for each in tree_leaves((args, kwargs)) if torch.is_tensor(each))
            rows[path] += next(tensors, 1)

        return count

    handles = [
        module.register_forward_pre_hook(counting(path), with_kwargs=True) for path, module in model.named_modules()
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Give back what running changes: buffers, and the state of random numbers."""
    import torch

    kept = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {each.device for each in (*model.parameters(), *model.buffers()) if each.is_cuda}
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in kept:
                    buffer.copy_(value)


def _full(rows: Mapping[str, int], routed: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Rows at rate 1: those of the trace, and where it took a share of them, all of which it took that share."""
    full = {}
    for path, count in rows.items():
        full[path] = count / prod(
            (routed.get(each) or Fraction(1) for each in (path, *around(path))), start=Fraction(1)
        )
    return full


def _rates(counted: Sequence[_Batch]) -> dict[str, Rate]:
    """The rate of each module of what the one around it ran; left out is where it ran as often as that."""
    paths = dict.fromkeys(path for batch in counted for path in batch.full)
    shares = {path: [batch.share(path) for batch in counted] for path in paths}
    together = {
        path: sum((batch.rows[path] for batch in counted), Fraction(0)) / full
        for path in paths
        if (full := sum((batch.full.get(path, Fraction(0)) for batch in counted), Fraction(0)))
    }
    found = {}
    for path in together:
        outer = next((each for each in around(path) if each in together), None)
        of = [Fraction(1)] * len(counted) if outer is None else shares[outer]
        within = [mine / its for mine, its in zip(shares[path], of, strict=True) if mine is not None and its]
        if within and any(each != 1 for each in within):
            expected = together[path] / (Fraction(1) if outer is None else together[outer])
            found[path] = Rate(min(*within, expected), expected, max(*within, expected))
    return found
