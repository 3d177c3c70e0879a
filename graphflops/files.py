"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
