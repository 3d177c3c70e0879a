"""Names whose look-up misbehaves."""

import sys
from types import SimpleNamespace
from typing import Any


class Namespace:
    @property
    def model(self) -> Any:
        raise RuntimeError("not today")

    @property
    def exits(self) -> Any:
        sys.exit(0)

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


namespace = Namespace()
things = SimpleNamespace(number=7)
