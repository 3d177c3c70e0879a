"""Example calls, made from a rule's signature or an operator's schema.

``example_arguments`` gives the arguments of a rule as Specs, to show its formula. ``example_call`` gives those of an
operator as tensors on the meta device, to run it: for ``rules check``, and to see what a composite operator runs.
PyTorch's own samples (``torch.testing._internal.common_methods_invocations.op_db``) are not used: their import needs
packages that PyTorch does not install, freezes the flags in ``torch.backends``, and replaces methods of TorchScript.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import Parameter
from itertools import product
from typing import Any

import torch

from graphflops.core.sizes import Size, Sizes, Spec
from graphflops.core.torch_compat import OpOverload
from graphflops.rules.rule import Rule

# -- the arguments of a rule, as Specs ----------------------------------------------------------------------------

_IMAGE_ARGUMENTS = {
    "stride", "padding", "dilation", "kernel_size", "output_size", "groups", "scale_factors", "transposed",
}  # fmt: skip
_VALUES = {
    "attention": "flash",
    "grad_outputs": frozenset((0, 1, 2)),
    "mode": "reduced",
    "output_mask": (True, True, True),
    "training": True,
}
_SIZE = 8
"""the size of every dimension"""


def example_arguments(rule: Rule) -> Iterator[dict[str, Any]]:
    """Arguments for a rule: first all operands with the same number of dimensions, then every combination."""
    parameters = rule.signature.parameters
    fixed = {
        name: value for name, parameter in parameters.items() if (value := _plain_value(name, parameter)) is not None
    }
    tensors = [name for name, parameter in parameters.items() if name not in fixed and _may_be_tensor(parameter)]
    ranks = (4, 3, 2, 1) if _IMAGE_ARGUMENTS & set(parameters) else (2, 3, 4, 1)
    same = [(rank,) * len(tensors) for rank in ranks]
    for combination in [*same, *(product(ranks, repeat=len(tensors)) if len(tensors) < 5 else ())]:
        for as_tuple in (False, True):
            rank_of = dict(zip(tensors, combination, strict=True))
            yield {**fixed, **{name: _operand(parameters[name], rank, as_tuple) for name, rank in rank_of.items()}}


def _operand(parameter: Parameter, rank: int, as_tuple: bool) -> Any:
    spec = Spec((_SIZE,) * rank)
    annotation = str(parameter.annotation)
    is_open = "Spec" not in annotation  # one Spec or a tuple of them
    is_tuple = annotation.startswith(("tuple[", "list[", "Sequence["))
    return (spec,) * 3 if is_tuple or (is_open and as_tuple) else spec


def _may_be_tensor(parameter: Parameter) -> bool:
    is_open = parameter.annotation in (parameter.empty, Any)
    return "Spec" in str(parameter.annotation) or is_open or parameter.name == "out"


def _plain_value(name: str, parameter: Parameter) -> Any:
    """A value for an argument that is not a tensor; None for a tensor, or an argument that may be left out."""
    annotation = str(parameter.annotation)
    if "Spec" in annotation or name == "out":
        return None
    if name in _VALUES:
        return _VALUES[name]
    if parameter.default not in (parameter.empty, None):
        return parameter.default
    if parameter.annotation == Size or annotation in ("int", "<class 'int'>"):
        return _SIZE
    if "float" in annotation:
        return 0.5
    if "bool" in annotation:
        return name.startswith("compute_")
    if "Size, ..." in annotation or parameter.annotation == Sizes:
        return (_SIZE, _SIZE)
    if "list[int]" in annotation:
        return [-1]  # axes
    return None


# -- the arguments of an operator, as meta tensors ----------------------------------------------------------------

SHAPES = (
    "ab", "ab ab", "ab bc", "ab bc cd", "ab c", "xab xbc", "ab b", "a b", "a ab bc", "a ab b", "xab", "xab yac",
    "xyab", "xyzab", "xy xab xbc", "y xab xbc", "aa", "aa ab",
)  # fmt: skip
"""shapes of an operator's tensors, a letter for a size; the last one is repeated for further tensors"""

_DTYPES = dict.fromkeys(("index", "indices", "target"), torch.int64) | dict.fromkeys(("condition", "mask"), torch.bool)
_BY_NAME: dict[str, Any] = {
    "dim": 0, "dims": [0], "stride": [1], "padding": [0], "dilation": [1], "output_padding": [0], "groups": 1,
    "use_input_stats": True,
}  # fmt: skip
_BY_TYPE = {"number": 0.5, "float": 0.5, "int": 1, "SymInt": 1, "bool": False, "Optional[Tensor]": None}


def example_call(op: OpOverload, shapes: str, sizes: Mapping[str, int]) -> tuple[Any, ...] | None:
    """The arguments of an operator, with tensors of these shapes; None if it needs an argument of another type."""
    tensor_shapes = [tuple(sizes[letter] for letter in shape) for shape in shapes.split()]
    args: list[Any] = []
    tensors = 0
    for argument in op._schema.arguments:
        name, kind = argument.name, str(argument.type)
        if argument.has_default_value() or argument.kwarg_only:
            break
        if kind in ("Tensor", "List[Tensor]"):
            dtype = _DTYPES.get(name, torch.float32)
            shape = tensor_shapes[min(tensors, len(tensor_shapes) - 1)]
            tensor = torch.empty(shape, dtype=dtype, device="meta", requires_grad=dtype.is_floating_point)
            args.append([tensor, tensor] if kind.startswith("List") else tensor)
            tensors += 1
        elif name == "normalized_shape":
            args.append(tensor_shapes[0][-1:])
        elif name in _BY_NAME or kind in _BY_TYPE:
            args.append(_BY_NAME[name] if name in _BY_NAME else _BY_TYPE[kind])
        else:
            return None
    return tuple(args) if tensors >= len(tensor_shapes) else None
