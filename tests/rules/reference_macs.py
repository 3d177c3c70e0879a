"""The multiply-adds of the matrix products that autograd dispatches, counted while real tensors run.

No rules are used. A product of (…, n, k) and (…, k, m) is n·k·m multiply-adds for each of the batch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

_FACTORS = {
    **dict.fromkeys((aten.mm, aten.bmm, aten.mv, aten.dot, aten.vdot), (0, 1)),
    **dict.fromkeys((aten.addmm, aten.baddbmm, aten.addmv, aten.addbmm), (1, 2)),
}
"""which arguments are the two factors"""


class MatmulCounter(TorchDispatchMode):
    """Counts multiply-adds of the matrix products that are dispatched while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op.overloadpacket in _FACTORS:
            first, second = (args[i] for i in _FACTORS[op.overloadpacket])
            self.macs += first.numel() * (second.shape[-1] if second.dim() > 1 else 1)
        else:
            name = op._opname
            assert not any(part in name for part in ("mm", "matmul", "attention", "conv", "linear", "addr")), name
        return op(*args, **kwargs or {})


@contextmanager
def math_kernels() -> Any:
    """Attention as two visible matrix products, and no fused encoder layer."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def count_macs(run: Callable[..., Any], inputs: Iterable[Any]) -> Counter[str]:
    """Multiply-adds of a real run: forward, and backward from all outputs to whatever requires grad."""
    inputs = tuple(inputs)
    with math_kernels():
        with MatmulCounter() as forward:
            result = run(*inputs)
        outputs = [leaf for leaf in tree_leaves(result) if torch.is_tensor(leaf) and leaf.requires_grad]
        with MatmulCounter() as backward:
            if outputs:
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return Counter(forward=forward.macs, backward=backward.macs)


def patterns(count: int) -> list[tuple[bool, ...]]:
    """All ways in which ``count`` tensors may require grad."""
    return [tuple(bool(i >> k & 1) for k in range(count)) for i in range(2**count)]


def seeded(*shape: int, requires_grad: bool = False) -> Tensor:
    """A small real tensor, always the same."""
    generator = torch.Generator().manual_seed(math.prod(shape) + len(shape))
    return torch.randn(shape, generator=generator).requires_grad_(requires_grad)
