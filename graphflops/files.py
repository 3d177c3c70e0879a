"""Writing a file whole or not at all, and reading one that should be ours."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from graphflops.errors import UsageError


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write beside, then rename: a reader never meets half a file, and a failure leaves the old one.

    Raises:
        UsageError: the path cannot be written.
    """
    path = Path(path)
    beside = ""
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(beside, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        os.replace(beside, path)
    except OSError as error:
        if beside and os.path.exists(beside):
            os.unlink(beside)
        raise UsageError(f"cannot write {path}: {error.strerror}; give a path in a folder that exists") from error
    return path


Read = TypeVar("Read")


def read_whole(path: str | Path, what: str, schemas: Sequence[str], read: Callable[[dict[str, Any]], Read]) -> Read:
    """What ``read`` makes of a file of JSON; ``what`` is what it should be, and ``schemas`` are those it may have.

    Raises:
        UsageError: there is no such file, or it is not a whole one of a known version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") not in schemas:
        raise UsageError(
            f"{path} is not a {what} that this version of graphflops reads (its schema is not {schemas[-1]})"
        )
    try:
        return read(data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise UsageError(f"{path} is not a whole {what}: {type(error).__name__}: {error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
