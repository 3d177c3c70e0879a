"""What a model lends for a trace, fake stand-ins for its tensors, and how it is given back as it was."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _disable_current_modes

from graphflops.errors import CaptureError
from graphflops.sizes import Spec, as_size

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_STORED = "_stored"
_LOG = logging.getLogger("torch._subclasses.fake_tensor")


def spec_of(tensor: torch.Tensor) -> Spec:
    """The Spec of a tensor.

    Raises:
        CaptureError: it is sparse, nested or otherwise not strided.
    """
    refuse_unless_strided(tensor)
    shape, dtype = tuple(as_size(size) for size in tensor.shape), str(tensor.dtype).removeprefix("torch.")
    return Spec(shape, dtype, stored_in(tensor))


def stored_in(stand_in: torch.Tensor) -> int | None:
    """How many numbers the sparse matrix holds that a stand-in stands for; None if it stands for a dense one."""
    return getattr(stand_in, _STORED, None)


def passes_on_what_is_stored(result: Any, of: Any) -> None:
    """A view of a sparse matrix, such as its transpose, holds as many numbers."""
    if torch.is_tensor(of) and (stored := stored_in(of)) is not None:
        setattr(result, _STORED, stored)


def refuse_unless_strided(tensor: torch.Tensor, name: str | None = None) -> None:
    """What a sparse or nested tensor costs depends on how many numbers it holds, which no shape says.

    A stand-in of it would be dense, and its products priced as dense ones.

    Raises:
        CaptureError: it is such a tensor.
    """
    if tensor.layout == torch.strided and not tensor.is_nested:
        return
    raise refusal(tensor, name)


def refusal(tensor: torch.Tensor, name: str | None = None) -> CaptureError:
    """The error that says why such a tensor is refused, and what to do."""
    return CaptureError(
        f"{name or 'a tensor'} is {'nested' if tensor.is_nested else 'not dense'} ({tensor.layout}, {tensor.dtype}): "
        "what it costs depends on how many numbers it holds, which its shape does not say.\n"
        "Hand over a dense tensor, where a zero counts as any number does and padding as data. Or hand over the "
        "numbers and their indices as tensors, have a module of yours do what is done with them, and give that "
        "module a rule that says what it costs and, in outputs=, what it returns."
    )


def _refuse_lazy(root: nn.Module) -> None:
    """A lazy layer makes its parameters at its first call, which would change the model.

    Raises:
        CaptureError: there is one that has not been called.
    """
    lazy = [name for name, each in (*root.named_parameters(), *root.named_buffers()) if is_lazy(each)]
    if lazy:
        raise CaptureError(
            f"{', '.join(lazy)} {'has' if len(lazy) == 1 else 'have'} no shape yet: run the model once on inputs like "
            "yours, so that its lazy layers make their parameters, or build these layers with their sizes"
        )


def _numbers_in(sparse: torch.Tensor) -> int:
    with _disable_current_modes():
        return int((sparse._values() if sparse.layout == torch.sparse_coo else sparse.values()).numel())


def as_it_is(value: Any) -> Any:
    """A copy of an object of a model's own, such as a cache, which a call may change; everything else itself."""
    if isinstance(value, (torch.Tensor, nn.Module, type)) or not hasattr(value, "__dict__") or callable(value):
        return value
    held = {id(each): each for each in vars(value).values() if isinstance(each, nn.Module)}
    with suppress(Exception):  # what cannot be copied is what it is
        return copy.deepcopy(value, held)
    return value


class StandIns:
    """Fake tensors in place of a model's own and of its inputs: same shape, strides, dtype and requires_grad, no data.

    All say that they are on the CPU, wherever the real ones are: one device for all, and one choice of kernels.
    """

    def __init__(self, root: nn.Module) -> None:
        _refuse_lazy(root)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._names = {id(each): name for name, each in (*root.named_parameters(), *root.named_buffers())}
        # id of a tensor → itself, so that the id stays its own, and its stand-in
        self._fakes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._originals: dict[int, torch.Tensor] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The stand-in of a tensor, always the same one; a stand-in stands for itself."""
        if isinstance(tensor, FakeTensor) and tensor.fake_mode is self.mode:
            return tensor
        if id(tensor) not in self._fakes:
            sparse = tensor.layout in _SPARSE and tensor.dim() == 2 and not tensor.requires_grad
            if not sparse:
                refuse_unless_strided(tensor, self._names.get(id(tensor)))
            with temporarily_clear_interpreter_stack():  # where torch.func is at work, it would make its own of it
                fake = self.make(tensor.shape, None if sparse else tensor.stride(), tensor.dtype)
                if sparse:
                    setattr(fake, _STORED, _numbers_in(tensor))
                if isinstance(tensor, nn.Parameter):
                    fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
                else:
                    fake.requires_grad_(tensor.requires_grad)
            self._fakes[id(tensor)] = tensor, fake
            self._originals[id(fake)] = tensor
        return self._fakes[id(tensor)][1]

    def make(self, shape: Any, stride: Any, dtype: torch.dtype) -> torch.Tensor:
        """A new fake tensor, contiguous if no stride is given; only while ``in_charge``."""
        if stride is None:
            return torch.empty(shape, dtype=dtype)
        return torch.empty_strided(shape, stride, dtype=dtype)

    def original_of(self, fake: torch.Tensor) -> torch.Tensor:
        """What a stand-in stands for; itself, if it was made on the way."""
        return self._originals.get(id(fake), fake)

    def name_of(self, fake: torch.Tensor) -> str | None:
        """The name of the parameter or buffer that a stand-in stands for."""
        return self._names.get(id(self._originals.get(id(fake), fake)))

    def held_by(self, fake: torch.Tensor) -> torch.Tensor | None:
        """The buffer that a stand-in stands for, with the values it holds; of what is trained or given, none."""
        original = self._originals.get(id(fake))
        named = original is not None and id(original) in self._names and not isinstance(original, nn.Parameter)
        return original if named else None

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Every tensor made from now on is fake, whatever modes the caller has switched on."""
        with torch.inference_mode(False), _disable_current_modes(), torch.device("cpu"), self.mode, _unheard(_LOG):
            yield

    @contextmanager
    def lent_to(self, root: nn.Module) -> Iterator[None]:
        """Put stand-ins in the place of every parameter and buffer; afterwards everything is as it was.

        Put back are all attributes of every module, what its dicts, lists and sets held, and the state of the random
        number generator.
        """
        with _unchanged(root):
            for module in root.modules():
                held: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
                for tensors in held:
                    for name, tensor in tensors.items():
                        if tensor is not None:
                            tensors[name] = self.of(tensor)
            yield


@contextmanager
def _unheard(log: logging.Logger) -> Iterator[None]:
    """What PyTorch logs of an operator that fails on fake tensors, a traceback, is in the error that we raise."""
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def _unchanged(root: nn.Module) -> Iterator[None]:
    saved = []
    for module in root.modules():
        held = [(each, each.copy()) for each in vars(module).values() if isinstance(each, (dict, list, set))]
        saved.append((vars(module), dict(vars(module)), held))
    with _disable_current_modes():
        random_state = torch.get_rng_state()
    try:
        yield
    finally:
        for attributes, before, held in saved:
            for container, content in held:
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
            attributes.clear()
            attributes.update(before)
        with _disable_current_modes():
            torch.set_rng_state(random_state)
