"""Changes of a configuration in a target: ``hf:llama?num_hidden_layers=2&vision_config.hidden_size=64``."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.core.messages import first_of, shortened

_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


def split_overrides(text: str, target: str) -> tuple[str, dict[str, Any]]:
    """A name and its changes: values by field, in the syntax of Python; a bare word is a string.

    >>> split_overrides("llama?num_hidden_layers=2&dtype=bfloat16", "")
    ('llama', {'num_hidden_layers': 2, 'dtype': 'bfloat16'})

    Raises:
        UsageError: a change is not FIELD=VALUE, or a field is given twice.
    """
    name, _, query = text.partition("?")
    overrides: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        field, equals, value = part.partition("=")
        if not (field and equals):
            raise UsageError(f"{target}: {shortened(part, 100)!r} is not FIELD=VALUE, as in {name}?num_hidden_layers=2")
        if field in overrides:
            raise UsageError(f"{target}: {field} is given twice: keep one")
        overrides[field] = _value(value)
    return name, overrides


def check_field(field: str, fields: Iterable[str], owner: str, target: str) -> None:
    """Check that a field is one of the fields of its owner.

    Raises:
        UsageError: it is not; the message names fields that are spelled alike.
    """
    names = sorted(name for name in fields if not name.startswith("_"))
    if field not in names:
        near = get_close_matches(field, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"its fields: {first_of(names, 12)}"
        raise UsageError(f"{target}: {owner} has no field {shortened(field, 100)!r}; {hint}")


def _value(text: str) -> Any:
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
