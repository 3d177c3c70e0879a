"""Clones the repositories of the conformance run, each at its commit, where they are not there yet.

python tests/conformance/clone.py FOLDER
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from families.repositories import COMMITS


def clone(repository: str, commit: str, folder: Path) -> None:
    """The files of one commit, without the history. An interrupted clone is repeated."""
    path = folder / repository.partition("/")[2]
    if (path / ".git" / "cloned").exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    source = f"https://github.com/{repository}"
    for command in (["init", "-q"], ["fetch", "-q", "--depth", "1", source, commit], ["checkout", "-qf", "FETCH_HEAD"]):
        subprocess.run(["git", "-C", str(path), *command], check=True)
    (path / ".git" / "cloned").touch()


if __name__ == "__main__":
    for repository, commit in COMMITS.items():
        clone(repository, commit, Path(sys.argv[1]))
