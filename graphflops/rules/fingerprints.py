"""Fingerprints of rule files, by which two reports know whether they were counted with the same rules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from graphflops.rules import templates
from graphflops.rules.rule import Rule


def fingerprints(rules: Iterable[Rule]) -> dict[str, str]:
    """File of a rule → hash of its content, for each file of these rules and for the templates that rules share.

    A file that cannot be read, such as that of a rule written in a console, has the hash ``""``.
    """
    files = {rule.source.rpartition(":")[0]: rule.file for rule in rules if rule.file}
    return {name: _hash(file) for name, file in sorted({**files, "rules/templates.py": templates.__file__}.items())}


def _hash(file: str) -> str:
    try:
        return _hash_of_version(file, Path(file).stat().st_mtime_ns)
    except (OSError, ValueError):
        return ""


@lru_cache(maxsize=256)
def _hash_of_version(file: str, modified: int) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
