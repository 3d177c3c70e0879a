"""Threads beside that of the analysis, and whether one of them runs the user's code."""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
import threading
from types import FrameType

_INSTALLED = tuple({*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def user_code_runs_elsewhere() -> bool:
    """Whether another thread runs a function of a user's file, and so may write to the state of a model's file.

    Threads that wait for an analysis do not count, nor do those that only run code of installed packages, as those of a
    notebook, a progress bar or a logger do.
    """
    own = threading.get_ident()
    return any(_is_in_user_code(frame) for thread, frame in sys._current_frames().items() if thread != own)


def _is_in_user_code(frame: FrameType | None) -> bool:
    is_in_user_code = False
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.startswith("graphflops.tracing."):
            return False  # it waits
        is_in_user_code = is_in_user_code or _is_users(name, frame.f_code.co_filename)
        frame = frame.f_back
    return is_in_user_code


@functools.lru_cache(maxsize=1024)
def _is_users(module: object, file: str) -> bool:
    """Whether a file belongs neither to Python nor to an installed package."""
    package = module.partition(".")[0] if isinstance(module, str) else ""
    is_of_python = (package in sys.stdlib_module_names and package != "__main__") or file.startswith("<frozen")
    return not is_of_python and not file.startswith(_INSTALLED)
