"""What a whole run of ResNet-BK costs, where options decide on what its steps are made, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphflops.core.errors import UsageError
from graphflops.models.flops_count import PhaseCounts
from graphflops.report.report import Report

if TYPE_CHECKING:
    from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

OF_A_RUN = ("use_curriculum_learning", "use_active_learning", "use_gradient_caching")
"""the options that change a run, and no step on a whole sequence"""
POOL = 4
"""candidates for each sequence that active learning chooses"""
REUSE = 2
"""steps that gradient caching uses a gradient for"""


def step_report(config: ResNetBKConfig, batch_size: int, **options: Any) -> Report:
    """One step of the model that a configuration describes, on whole sequences; ``options`` are ``run_amount``'s."""
    return _analyzed(_model(config), batch_size, config.n_seq, _fitting(config, options))


def run_amount(
    config: ResNetBKConfig, steps: int, batch_size: int, *, pool: int = POOL, reuse: int = REUSE, **options: Any
) -> PhaseCounts:
    """What so many steps cost together, exactly.

    - ``use_curriculum_learning``: the steps are made on the lengths that ``graphflops.models.curriculum`` says.
    - ``use_gradient_caching``: of `reuse` steps, one computes a gradient; the optimizer works in all of them.
    - ``use_active_learning``: before each gradient, `pool` · B candidates go forward, in ``eval``, to choose B.

    Args:
        config: the model.
        steps: how many steps the optimizer makes.
        batch_size: B, the number of sequences of a step.
        pool: candidates for each that is chosen.
        reuse: steps that a gradient is used for.
        options: as for ``analyze``: ``optimizer``, ``convention``, …. ``rates`` are of layers that sequences skip, and
            left out where the configuration has none.

    Raises:
        UsageError: a number is not a positive integer.
    """
    for name, number in (("steps", steps), ("batch_size", batch_size), ("pool", pool), ("reuse", reuse)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} must be a positive integer, not {number!r}")
    options = _fitting(config, options)
    model, total, done = _model(config), PhaseCounts(), 0
    for length, count in _stages(config, steps):
        gradients = _multiples(done, done + count, reuse) if config.use_gradient_caching else count
        step = PhaseCounts.of(_analyzed(model, batch_size, length, options), integer=True)
        update = PhaseCounts(optimizer=step.optimizer)
        total += gradients * (step - update) + count * update
        if config.use_active_learning:
            total += gradients * _choosing(model, pool * batch_size, length, options)
        done += count
    return total


def _fitting(config: ResNetBKConfig, options: dict[str, Any]) -> dict[str, Any]:
    """The options for a configuration: without adaptive computation all layers run, and no rate is of them."""
    return options if config.use_adaptive_computation else {**options, "rates": None}


def _stages(config: ResNetBKConfig, steps: int) -> list[tuple[int, int]]:
    from graphflops.models.curriculum import curriculum

    if not config.use_curriculum_learning:
        return [(config.n_seq, steps)]
    return curriculum(config.n_seq, steps, multiple=max(config.scales))


def _multiples(first: int, end: int, of: int) -> int:
    """How many multiples of a number there are from one to before another.

    >>> _multiples(3, 7, 2), _multiples(4, 7, 2)
    (2, 2)
    """
    return -(-end // of) - -(-first // of)


def _choosing(model: ConfigurableResNetBK, candidates: int, length: int, options: dict[str, Any]) -> PhaseCounts:
    from graphflops.models.active_learning import Uncertainty

    model.eval()
    try:
        rates = {f"model.{path}": rate for path, rate in (options.get("rates") or {}).items()}
        report = _analyzed(Uncertainty(model), candidates, length, {**options, "rates": rates, "training": False})
    finally:
        model.train()
    return PhaseCounts.of(report, integer=True)


def _model(config: ResNetBKConfig) -> ConfigurableResNetBK:
    import torch

    from graphflops.models import ConfigurableResNetBK

    with torch.device("meta"):
        return ConfigurableResNetBK(config)


def _analyzed(model: Any, batch_size: int, length: int, options: dict[str, Any]) -> Report:
    import torch

    from graphflops.analysis.pipeline import analyze

    return analyze(model, (torch.empty(batch_size, length, dtype=torch.int64, device="meta"),), **options)
