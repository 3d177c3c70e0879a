"""Numbers that data decides and that Python calculates with: any, as long as nothing but a check compares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def any_numbers(passes: Callable[[], bool | None]) -> Any:
    """An environment of PyTorch's symbols, for numbers of which nothing is known.

    Where Python branches on a comparison of one, ``passes`` says how; with None PyTorch refuses it.
    """
    import sympy
    from sympy.logic.boolalg import Boolean
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

    class Numbers(ShapeEnv):
        def evaluate_expr(self, orig_expr: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().evaluate_expr(orig_expr, *args, **kwargs)
            except GuardOnDataDependentSymNode:
                answer = passes() if isinstance(orig_expr, Boolean) else None
                if answer is None:
                    raise
                return sympy.true if answer else sympy.false

    return Numbers()
