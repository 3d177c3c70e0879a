"""Conventions: named weights that turn Work into one number of FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from graphflops.costs import WORK_CLASSES, Work
from graphflops.errors import UsageError
from graphflops.sizes import Size


@dataclass(frozen=True, slots=True)
class Convention:
    """What one operation of each class counts; a class that is not named counts 0."""

    name: str
    about: str
    weights: Mapping[str, int]

    def flops(self, work: Work) -> Size:
        """The number of FLOPs of some work: exact, and symbolic if the work is.

        >>> STANDARD.flops(Work(macs=10, elementwise=5, accumulate=3))
        25
        """
        total: Size = 0
        for name, count in work.items():
            total = total + self.weights.get(name, 0) * count
        return total


_ARITHMETIC = {"macs": 2, "elementwise": 1, "division": 1, "transcendental": 1}

STANDARD = Convention(
    "standard",
    "a multiply-add is 2, every other floating-point operation 1; sums that autograd adds are left out, as papers do",
    MappingProxyType(_ARITHMETIC),
)
EXACT = Convention(
    "exact",
    "as standard, and the sums that autograd adds (gradient fan-in, bias and broadcast reductions) count 1",
    MappingProxyType(_ARITHMETIC | {"accumulate": 1}),
)
TORCH = Convention(
    "torch",
    "matmul and convolution only, a multiply-add is 2: what torch.utils.flop_counter means to count",
    MappingProxyType({"macs": 2}),
)

CONVENTIONS: Mapping[str, Convention] = MappingProxyType({each.name: each for each in (STANDARD, EXACT, TORCH)})
assert all(name in WORK_CLASSES for each in CONVENTIONS.values() for name in each.weights)


def convention_named(name: str | Convention) -> Convention:
    """The convention of that name; a Convention is taken as it is.

    Raises:
        UsageError: there is no convention of that name.
    """
    if isinstance(name, Convention):
        return name
    if name not in CONVENTIONS:
        raise UsageError(f"there is no counting convention {name!r}; there are: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]
