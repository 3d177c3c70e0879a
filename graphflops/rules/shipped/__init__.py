"""The rules graphflops ships. A checkout keeps them in the top-level rules/, a wheel right here, beside this file."""

from pathlib import Path

_root = Path(__file__).parents[3]
if (_root / "pyproject.toml").is_file():  # not "if rules/ exists": in site-packages that may be someone else's
    __path__.append(str(_root / "rules"))
