"""Messages of PyTorch that an analysis repeats in its own errors, and therefore keeps off the log and the terminal."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphflops.core.torch_compat import FAKE_TENSOR_LOG, export_module
from graphflops.tracing.session.session import in_analysis

_FAKE_TENSOR_LOGGER = logging.getLogger(FAKE_TENSOR_LOG)
"""logs the traceback of an operator that fails on fake tensors, which is in the error that is raised"""


class _ThreadState(threading.local):
    is_silent: bool = False


_thread = _ThreadState()


@contextmanager
def silence_export() -> Iterator[None]:
    """Drop what torch.export logs and prints in this thread about a program that it cannot export.

    It calls ``print``. From here on its module has a global of that name, which in other threads is Python's.
    """
    vars(export_module()).setdefault("print", print_unless_silent)
    before, _thread.is_silent = _thread.is_silent, True
    try:
        yield
    finally:
        _thread.is_silent = before


def print_unless_silent(*values: Any, **options: Any) -> None:
    """Python's ``print``, which prints nothing in a thread that is silenced."""
    if not _thread.is_silent:
        print(*values, **options)


def wrap_log_handling(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Logger.handle``: it drops records of a thread that is silenced, and of fake tensors in an analysis."""

    @functools.wraps(original)
    def handle(logger: logging.Logger, record: logging.LogRecord) -> None:
        if not (_thread.is_silent or (logger is _FAKE_TENSOR_LOGGER and in_analysis())):
            original(logger, record)

    return handle
