"""Settings of the process that a program may change: environment, paths, filters of warnings, flags of PyTorch."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch


def snapshot_settings() -> Callable[[], None]:
    """Return a function that restores what has changed meanwhile."""
    before = [get() for get, _ in _SETTINGS]

    def restore() -> None:
        for (get, set_), value in zip(_SETTINGS, before, strict=True):
            if get() != value:
                set_(value)

    return restore


def _set_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _set_filters(before: list[Any]) -> None:
    with warnings.catch_warnings():
        pass  # at its end, Python forgets what it derived from the filters
    warnings.filters[:] = before  # type: ignore[index]


def _set_path(before: list[str]) -> None:
    sys.path[:] = before


def _set_deterministic(before: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (lambda: dict(os.environ), _set_environment),
    (lambda: [*sys.path], _set_path),
    (lambda: [*warnings.filters], _set_filters),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        _set_deterministic,
    ),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    *(_attribute(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
)
"""how each setting is read and set"""
