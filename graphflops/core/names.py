"""Names of operators, so that a rule file can be loaded without torch.

``@rule(aten.linear)`` is the same as ``@rule("aten.linear")`` and ``@rule(torch.ops.aten.linear)``.
"""

from __future__ import annotations


class Operators:
    """A namespace whose attributes are the names of its operators, without overloads.

    >>> Operators("aten").linear
    'aten.linear'
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def __getattr__(self, operator: str) -> str:
        if operator.startswith("__"):
            raise AttributeError(operator)
        return f"{self._namespace}.{operator}"


aten = Operators("aten")
"""the operators of PyTorch's ATen library"""
