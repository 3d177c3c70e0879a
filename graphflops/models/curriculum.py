"""Curriculum learning: the sequence length grows during training."""

from __future__ import annotations

from graphflops.models.checks import require_size


def curriculum(n_seq: int, steps: int, *, stages: int = 4, multiple: int = 1) -> list[tuple[int, int]]:
    """(length, steps) of each of S stages with lengths N/S, 2·N/S, … N, rounded up to a multiple.

    Stage i ends after step ⌊i·steps/S⌋. Stages without steps are omitted.

    >>> curriculum(128, 10)
    [(32, 2), (64, 3), (96, 2), (128, 3)]

    Raises:
        ValueError: a size is not a positive integer.
    """
    for name, size in (("n_seq", n_seq), ("steps", steps), ("stages", stages), ("multiple", multiple)):
        require_size(name, size)
    ends = [steps * stage // stages for stage in range(stages + 1)]
    lengths = [min(n_seq, -(-n_seq * stage // (stages * multiple)) * multiple) for stage in range(1, stages + 1)]
    return [(length, ends[i + 1] - ends[i]) for i, length in enumerate(lengths) if ends[i + 1] > ends[i]]
