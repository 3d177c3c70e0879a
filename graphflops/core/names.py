"""Operators by their names, so that a file of rules can be read without torch.

@rule(aten.linear)  # the same as @rule("aten.linear"), and as @rule(torch.ops.aten.linear)
"""

from __future__ import annotations


class Operators:
    """A namespace of operators, whose attributes are their names: an operator's own, not that of an overload.

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
"""the operators that PyTorch is made of"""
