"""Writing a file: whole, or not at all.

A name that leads elsewhere is followed, so that a link stays a link. What is no regular file, such as a device or a
FIFO, is written to as it is. A regular file is written without a name and named when it is whole, so that nobody meets
half of one, and nothing is left behind by whoever is stopped half-way, be it by ``kill -9``. Where a file is replaced,
the new one has the mode and owner of the old one; there it bears a hidden name of its own between two system calls.
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

READER_COMES_IN = 10.0
"""seconds that a FIFO is waited for which nobody reads"""


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a file whole, or leave what was there as it was.

    Raises:
        UsageError: the path cannot be written; the message says why.
    """
    # names of files may hold half of a character, which UTF-8 cannot say
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    try:
        _write(os.fspath(path), data)
    except (OSError, ValueError, TypeError) as error:
        said = getattr(error, "strerror", None) or one_line(str(error))
        hint = "; give a path in a folder that exists" if isinstance(error, FileNotFoundError) else ""
        raise UsageError(f"cannot write {format_path(path)}: {said}{hint}") from error
    return Path(path)


def _write(path: str, data: bytes) -> None:
    descriptor = _open_descriptor(path)
    if descriptor is not None:
        if sys.stdout is not None:
            sys.stdout.flush()
        _fill(descriptor, data)
        return
    target = os.path.realpath(path)
    try:
        there = os.stat(target)
    except FileNotFoundError:
        there = None
    if there is None or stat.S_ISREG(there.st_mode):
        if there is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _write_regular(target, data, there)
    elif stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    else:
        with open(_opened_special(target), "wb", buffering=0) as file:
            _fill(file.fileno(), data)


def _open_descriptor(path: str) -> int | None:
    """The file of this process that is open already and that a path names: ``/dev/stdout``, ``/proc/self/fd/3``."""
    if not os.path.isdir("/proc/self/fd"):
        return None
    own = os.path.realpath("/proc/self/fd")
    for _ in range(40):  # as many links as Linux follows
        folder, name = os.path.realpath(os.path.dirname(path)), os.path.basename(path)
        if folder == own and name.isdigit():
            return int(name)
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def _opened_special(target: str) -> int:
    """A device or FIFO, open; of a FIFO, once somebody reads it."""
    until = time.monotonic() + READER_COMES_IN
    while True:
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(target).st_mode):
                raise
            if time.monotonic() > until:
                raise OSError(errno.ENXIO, "nobody reads this FIFO") from error
            time.sleep(0.02)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def _fill(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _write_regular(target: str, data: bytes, there: os.stat_result | None) -> None:
    folder = os.path.dirname(target)
    beside = os.path.join(folder, f".graphflops-{os.urandom(8).hex()}")
    try:
        nameless = _nameless(folder)
        # where a file system knows no files without a name, it has one from the start; the umask is the system's affair
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(beside, flags, 0o666) if nameless is None else nameless, "wb", buffering=0) as file:
            _as_before(file.fileno(), there)
            _fill(file.fileno(), data)
            if nameless is not None:
                if there is None and _named(file.fileno(), target):
                    return
                _named(file.fileno(), beside)
                os.replace(beside, target)
                return
        os.replace(beside, target)
    except BaseException:  # an interrupt as well
        with suppress(OSError):
            os.unlink(beside)
        raise


def _nameless(folder: str) -> int | None:
    """A new file in a folder that has no name yet; None where there is no such thing."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return None  # a folder that is not there says so again when a name in it is opened
        raise


def _named(descriptor: int, name: str) -> bool:
    """Give a file that has no name this one; False if there is a file of this name by now."""
    root = os.open("/", os.O_RDONLY)
    try:
        # with a folder's descriptor Python calls linkat, which follows the link in /proc
        os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(root)
    return True


def _as_before(descriptor: int, there: os.stat_result | None) -> None:
    """Give a new file the owner, as far as one may, and the mode of the one it is to replace."""
    if there is None or not hasattr(os, "fchmod"):
        return
    now = os.fstat(descriptor)
    for uid, gid in ((there.st_uid, -1), (-1, there.st_gid)):
        if (uid, gid) != (now.st_uid, -1) and (uid, gid) != (-1, now.st_gid):
            with suppress(OSError):
                os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
