"""Models as they were at a commit: TARGET@COMMIT, analyzed by another Python process in a copy of the files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from graphflops.core.errors import UsageError
from graphflops.core.messages import shortened


def split_commit(target: str) -> tuple[str, str]:
    """A target without ``@COMMIT``, and the commit; empty for a target of the files as they are.

    >>> split_commit("models:net@HEAD~1"), split_commit("models:net")
    (('models:net', 'HEAD~1'), ('models:net', ''))
    """
    before, at, commit = target.rpartition("@")
    return (before, commit) if at and before else (target, "")


def save_report_at(target: str, commit: str, options: Sequence[str], path: Path) -> None:
    """Analyze a target at a commit and save its report.

    The process has its own ``sys.path``: folders of the repository are those of the copy.

    Raises:
        UsageError: there is no such commit, or the analysis failed; the message is that of the process.
    """
    with files_of(commit) as (folder, search_path):
        if str(root := _root()) in target:
            raise UsageError(f"{target} names a file of {root} as it is now: give its path relative to this folder")
        result = subprocess.run(
            [sys.executable, "-m", "graphflops", "analyze", target, *options, "--json", str(path)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path)},
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        message = "\n".join(lines).removeprefix("error: ")
        raise UsageError(f"{target} at commit {commit}: {shortened(message, 2000)}")


@contextmanager
def files_of(commit: str) -> Iterator[tuple[Path, list[str]]]:
    """A temporary copy of a commit's files: the folder that the current one is in it, and the search path for modules.

    Nothing in the repository is written, as a worktree would be; the copy is deleted in any case.

    Raises:
        UsageError: git is not installed, this is no repository, or there is no such commit.
    """
    root = _root()
    try:
        if commit.startswith("-"):
            raise UsageError("this is an option")
        tree = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
    except UsageError:
        raise UsageError(f"there is no commit {commit!r} in {root}; see git log, or git fetch it") from None
    with TemporaryDirectory(prefix="graphflops-") as temporary:
        copy = Path(temporary).resolve() / "files"
        copy.mkdir()
        environment = {"GIT_INDEX_FILE": str(Path(temporary) / "index")}
        _git("read-tree", tree, folder=root, environment=environment)
        _git("checkout-index", "--all", "--force", f"--prefix={copy}/", folder=root, environment=environment)
        current = copy / Path.cwd().resolve().relative_to(root)
        if not current.is_dir():
            raise UsageError(f"commit {commit} has no folder {current.relative_to(copy)}")
        yield current, [str(current), *_search_path(root, copy)]


def _root() -> Path:
    return Path(_git("rev-parse", "--show-toplevel")).resolve()


def _search_path(root: Path, copy: Path) -> list[str]:
    """The folders of ``sys.path``, with those of the repository in the copy; installed packages stay as they are."""
    folders = []
    for name in sys.path:
        folder = Path(name or ".").resolve()
        if folder.is_relative_to(root) and (copy / folder.relative_to(root)).is_dir():
            folder = copy / folder.relative_to(root)
        folders.append(str(folder))
    return folders


def _git(*arguments: str, folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """The output of a git command.

    Raises:
        UsageError: it failed.
    """
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError("TARGET@COMMIT needs git, which is not installed") from None
    if result.returncode:
        message = shortened(result.stderr.strip() or "it failed", 500)
        raise UsageError(f"TARGET@COMMIT needs a git repository: git {arguments[0]}: {message}")
    return result.stdout.strip()
