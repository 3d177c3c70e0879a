"""The page on the graph prints what its examples print."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "graph.md"


def test_the_examples_print_the_output_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    for code, printed in re.findall(r"```python\n(.*?)```\n+(?:```text\n(.*?)```)?", text, re.DOTALL):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, namespace)
        assert out.getvalue() == printed
