"""The FLOPs of a training run of ResNet-BK, with the options that change the steps during a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphflops.core.errors import UsageError
from graphflops.models.flops_count import PhaseCounts
from graphflops.report.report import Report

if TYPE_CHECKING:
    from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

RUN_LEVEL_OPTIONS = ("use_curriculum_learning", "use_active_learning", "use_gradient_caching")
"""options that change a training run, but not a step on a full sequence"""
POOL_SIZE = 4
"""candidates per sequence that active learning selects"""
GRADIENT_REUSE = 2
"""steps for which gradient caching uses a gradient"""


def step_report(config: ResNetBKConfig, batch_size: int, **options: Any) -> Report:
    """The report of one step on full sequences; ``options`` as for ``training_run_cost``."""
    return _analyze(_model(config), batch_size, config.n_seq, _applicable(config, options))


def training_run_cost(
    config: ResNetBKConfig,
    steps: int,
    batch_size: int,
    *,
    pool: int = POOL_SIZE,
    reuse: int = GRADIENT_REUSE,
    **options: Any,
) -> PhaseCounts:
    """The exact FLOPs of a training run.

    - ``use_curriculum_learning``: steps use the sequence lengths of ``graphflops.models.curriculum``.
    - ``use_gradient_caching``: one of `reuse` steps computes a gradient; the optimizer updates in every step.
    - ``use_active_learning``: before each gradient, `pool` · B candidates run forward in ``eval`` mode, to select B.

    Args:
        config: the model.
        steps: optimizer steps.
        batch_size: B, sequences per step.
        pool: candidates per selected sequence.
        reuse: steps for which a gradient is used.
        options: as for ``analyze``: ``optimizer``, ``convention``, …. ``rates`` apply to the layers that sequences
            skip, and are ignored if the configuration skips none.

    Raises:
        UsageError: a number is not a positive integer.
    """
    for name, number in (("steps", steps), ("batch_size", batch_size), ("pool", pool), ("reuse", reuse)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} must be a positive integer, not {number!r}")
    options = _applicable(config, options)
    model, total, steps_done = _model(config), PhaseCounts(), 0
    for length, count in _curriculum_stages(config, steps):
        gradients = _multiples_between(steps_done, steps_done + count, reuse) if config.use_gradient_caching else count
        step = PhaseCounts.of(_analyze(model, batch_size, length, options), integer=True)
        update = PhaseCounts(optimizer=step.optimizer)
        total += gradients * (step - update) + count * update
        if config.use_active_learning:
            total += gradients * _selection_cost(model, pool * batch_size, length, options)
        steps_done += count
    return total


def _applicable(config: ResNetBKConfig, options: dict[str, Any]) -> dict[str, Any]:
    """The options without rates if the configuration has no adaptive computation: then every layer always runs."""
    return options if config.use_adaptive_computation else {**options, "rates": None}


def _curriculum_stages(config: ResNetBKConfig, steps: int) -> list[tuple[int, int]]:
    from graphflops.models.curriculum import curriculum

    if not config.use_curriculum_learning:
        return [(config.n_seq, steps)]
    return curriculum(config.n_seq, steps, multiple=max(config.scales))


def _multiples_between(start: int, end: int, divisor: int) -> int:
    """How many multiples of ``divisor`` ``range(start, end)`` contains.

    >>> _multiples_between(3, 7, 2), _multiples_between(4, 7, 2)
    (2, 2)
    """
    return -(-end // divisor) - -(-start // divisor)


def _selection_cost(model: ConfigurableResNetBK, candidates: int, length: int, options: dict[str, Any]) -> PhaseCounts:
    from graphflops.models.active_learning import Uncertainty

    model.eval()
    try:
        rates = {f"model.{path}": rate for path, rate in (options.get("rates") or {}).items()}
        report = _analyze(Uncertainty(model), candidates, length, {**options, "rates": rates, "training": False})
    finally:
        model.train()
    return PhaseCounts.of(report, integer=True)


def _model(config: ResNetBKConfig) -> ConfigurableResNetBK:
    import torch

    from graphflops.models import ConfigurableResNetBK

    with torch.device("meta"):
        return ConfigurableResNetBK(config)


def _analyze(model: Any, batch_size: int, length: int, options: dict[str, Any]) -> Report:
    import torch

    from graphflops.analysis.pipeline import analyze

    return analyze(model, (torch.empty(batch_size, length, dtype=torch.int64, device="meta"),), **options)
