"""Hooks of MkDocs: formulas become MathML when the site is built, so that a page needs no script and no network."""

from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have blocks of LaTeX, ```` ```math ````, which GitHub typesets too, written as MathML."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": as_mathml})
    return config


def as_mathml(source: str, *_: Any, **__: Any) -> str:
    """The MathML of a block of LaTeX."""
    return f'<div class="formula">{convert(source, display="block")}</div>'.replace("\\_", "_")
