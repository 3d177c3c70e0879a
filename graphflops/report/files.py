"""Atomic writing of files.

Symbolic links are followed. A device or a FIFO is written to directly. A regular file is written without a name
(``O_TMPFILE``) and linked when it is complete, so that no reader sees a part of it and an interrupted process leaves
nothing behind. A file that replaces another one gets its mode and owner, and has a hidden name for a moment.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_path, one_line

FIFO_TIMEOUT = 10.0
"""seconds to wait for a reader of a FIFO"""


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a file completely, or leave the existing file unchanged.

    Raises:
        UsageError: the path cannot be written; the message has the reason.
    """
    # names of files may have surrogates, which UTF-8 cannot encode
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    try:
        _write(os.fspath(path), data)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(str(error))
        hint = "; give a path in a folder that exists" if isinstance(error, FileNotFoundError) else ""
        raise UsageError(f"cannot write {format_path(path)}: {reason}{hint}") from error
    return Path(path)


def _write(path: str, data: bytes) -> None:
    descriptor = _open_descriptor(path)
    if descriptor is not None:
        if sys.stdout is not None:
            sys.stdout.flush()
        _write_all(descriptor, data)
        return
    target = os.path.realpath(path)
    try:
        existing = os.stat(target)
    except FileNotFoundError:
        existing = None
    if existing is None or stat.S_ISREG(existing.st_mode):
        if existing is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _write_regular(target, data, existing)
    elif stat.S_ISDIR(existing.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    else:
        with open(_open_special(target), "wb", buffering=0) as file:
            _write_all(file.fileno(), data)


def _open_descriptor(path: str) -> int | None:
    """The open descriptor that a path such as ``/dev/stdout`` or ``/proc/self/fd/3`` names, if it does."""
    if not os.path.isdir("/proc/self/fd"):
        return None
    descriptors = os.path.realpath("/proc/self/fd")
    for _ in range(40):  # the limit of Linux
        folder, name = os.path.realpath(os.path.dirname(path)), os.path.basename(path)
        if folder == descriptors and name.isdigit():
            return int(name)
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def _open_special(target: str) -> int:
    """Open a device, or a FIFO once it has a reader."""
    deadline = time.monotonic() + FIFO_TIMEOUT
    while True:
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(target).st_mode):
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, "this FIFO has no reader") from error
            time.sleep(0.02)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def _write_regular(target: str, data: bytes, existing: os.stat_result | None) -> None:
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".graphflops-{os.urandom(8).hex()}")
    try:
        unnamed = _open_unnamed(folder)
        # a file system without O_TMPFILE needs a name from the start
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(temporary, flags, 0o666) if unnamed is None else unnamed, "wb", buffering=0) as file:
            _copy_mode(file.fileno(), existing)
            _write_all(file.fileno(), data)
            if unnamed is not None:
                if existing is None and _link(file.fileno(), target):
                    return
                _link(file.fileno(), temporary)
                os.replace(temporary, target)
                return
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt too
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _open_unnamed(folder: str) -> int | None:
    """Open a new file without a name in a folder; None if the file system does not support it."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return None  # a missing folder fails again when the named file is opened
        raise


def _link(descriptor: int, name: str) -> bool:
    """Link a file without a name; False if a file of this name exists by now."""
    root = os.open("/", os.O_RDONLY)
    try:
        # with src_dir_fd Python calls linkat, which follows the link in /proc
        os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(root)
    return True


def _copy_mode(descriptor: int, existing: os.stat_result | None) -> None:
    """Give a new file the mode, and if permitted the owner, of the file that it replaces."""
    if existing is None or not hasattr(os, "fchmod"):
        return
    status = os.fstat(descriptor)
    for uid, gid in ((existing.st_uid, -1), (-1, existing.st_gid)):
        if (uid, gid) != (status.st_uid, -1) and (uid, gid) != (-1, status.st_gid):
            with suppress(OSError):
                os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, stat.S_IMODE(existing.st_mode))
