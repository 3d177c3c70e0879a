"""What a model lends for a trace, fake stand-ins for its tensors, and how it is given back as it was."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, TypeAlias

import torch
from torch import nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from graphflops.errors import CaptureError
from graphflops.sizes import Spec, as_size
from graphflops.tracing.memos import forgotten, memos_of
from graphflops.tracing.survey import survey_of

Snapshot: TypeAlias = "tuple[dict[str, Any], dict[str, Any], list[tuple[Any, Any]]]"
"""the attributes of a module, what they were, and its containers with what they held"""

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_STORED = "_stored"
_CPU = torch.device("cpu")
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


def _refuse_lazy(lazy: list[str]) -> None:
    """A lazy layer makes its parameters at its first call, which would change the model.

    Raises:
        CaptureError: there is one that has not been called.
    """
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


class Unfold(BaseException):  # no error: the trace is made again, with nothing folded
    """Something was asked of a block that repeats another one, and only a block that ran has an answer."""


class _OnTheWay(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, make: Callable[[], torch.Tensor], many: int
    ) -> tuple[torch.Tensor, ...]:
        return tuple(make() for _ in range(many))


class StandIns:
    """Fake tensors in place of a model's own and of its inputs: same shape, strides, dtype and requires_grad, no data.

    All say that they are on the CPU, wherever the real ones are: one device for all, and one choice of kernels.
    """

    def __init__(self, root: nn.Module) -> None:
        self.survey = survey_of(root)
        _refuse_lazy(self.survey.lazy)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._memos = memos_of(root, self.survey.classes)
        held = (self.survey.parameters, self.survey.buffers)
        self._names = {id(each): name for tensors in held for name, each in tensors.items()}
        # id of a tensor → itself, so that the id stays its own, and its stand-in
        self._fakes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._originals: dict[int, torch.Tensor] = {}
        self._lent: dict[int, Snapshot] = {}
        self.some_sparse = False
        """whether one of them stands for a sparse tensor"""

    def is_one(self, tensor: torch.Tensor) -> bool:
        """Whether it is a stand-in, or was made of some on the way."""
        return isinstance(tensor, FakeTensor) and tensor.fake_mode is self.mode

    def is_unchanged(self, module: nn.Module) -> bool:
        """Whether a module holds, stand-ins apart, what it held when it was lent."""
        attributes, before, held = self._lent[id(module)]
        if attributes.keys() != before.keys() or any(attributes[name] is not each for name, each in before.items()):
            return False
        return all(self._holds(now, then) for now, then in held)

    def _holds(self, now: Any, then: Any) -> bool:
        """Whether a container holds what it held, or the stand-ins of it."""
        if isinstance(then, set) or len(now) != len(then):
            return bool(now == then)
        if isinstance(then, dict):
            if list(now) != list(then):
                return False
            now, then = now.values(), then.values()
        return all(one is other or one is self._stand_in(other) for one, other in zip(now, then, strict=True))

    def _stand_in(self, original: Any) -> torch.Tensor | None:
        return self._fakes[id(original)][1] if id(original) in self._fakes else None

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The stand-in of a tensor, always the same one; a stand-in stands for itself."""
        if self.is_one(tensor):
            return tensor
        if id(tensor) not in self._fakes:
            sparse = tensor.layout in _SPARSE and tensor.dim() == 2 and not tensor.requires_grad
            if not sparse:
                refuse_unless_strided(tensor, self._names.get(id(tensor)))
            with temporarily_clear_interpreter_stack():  # where torch.func is at work, it would make its own of it
                with torch._C.DisableTorchFunction():
                    shape, stride, grad = tensor.shape, None if sparse else tensor.stride(), tensor.requires_grad
                fake = self._made(shape, stride, tensor.dtype, grad, isinstance(tensor, nn.Parameter))
                if sparse:
                    self.some_sparse = True
                    setattr(fake, _STORED, _numbers_in(tensor))
            self._fakes[id(tensor)] = tensor, fake
            self._originals[id(fake)] = tensor
        return self._fakes[id(tensor)][1]

    def make(self, shape: Any, stride: Any, dtype: torch.dtype) -> torch.Tensor:
        """A new fake tensor, contiguous if no stride is given."""
        return self._made(shape, stride, dtype, False, False)

    def made_on_the_way(self, shape: Any, stride: Any, dtype: torch.dtype, many: int) -> tuple[torch.Tensor, ...]:
        """So many fake tensors that require grad, and that nobody holds."""
        with torch.enable_grad():
            source = self._made((), None, torch.float32, True, False)
            made = _OnTheWay.apply(source, lambda: self.make(shape, stride, dtype), many)  # type: ignore[no-untyped-call]
        return tuple(made)

    def _made(self, shape: Any, stride: Any, dtype: torch.dtype, grad: bool, parameter: bool) -> torch.Tensor:
        """Made as a mode would make it, but not by one, which takes much longer."""
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            if stride is None:
                empty = torch.empty(shape, dtype=dtype, device="meta")
            else:
                empty = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
            return FakeTensor(self.mode, empty, _CPU, requires_grad=grad, _is_param=parameter)

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
        somewhere = torch.utils._device.CURRENT_DEVICE is not None
        on_cpu = _CPU if somewhere else nullcontext()  # each function that is called passes through it
        as_plain = torch.inference_mode(False), _disable_current_modes(), on_cpu, self.mode
        with forgotten(self._memos), ExitStack() as stack:
            for each in (*as_plain, _unheard(_LOG)):
                stack.enter_context(each)
            yield

    @contextmanager
    def lent_to(self, root: nn.Module) -> Iterator[None]:
        """Stand-ins are in the place of every parameter and buffer while this is open, as in ``lending``."""
        modules = [*root.modules()]
        with self.lending() as lend:
            for module in modules:
                lend(module)
            yield

    @contextmanager
    def lending(self) -> Iterator[Callable[[nn.Module], None]]:
        """What is yielded puts stand-ins in the place of a module's tensors; afterwards everything is as it was.

        Put back are all attributes of every such module, what its dicts, lists and sets held, and the state of the
        random number generator.
        """
        with _unchanged() as remember:

            def lend(module: nn.Module) -> None:
                self._lent[id(module)] = remember(module)
                held: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
                for tensors in held:
                    for name, tensor in tensors.items():
                        if tensor is not None:
                            tensors[name] = self.of(tensor)

            yield lend


@contextmanager
def left_as_it_was(root: nn.Module) -> Iterator[None]:
    """All attributes of a model's modules are put back afterwards, and the state of the random number generator."""
    with _unchanged() as remember:
        for module in root.modules():
            remember(module)
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
def _unchanged() -> Iterator[Callable[[nn.Module], Snapshot]]:
    saved: list[Snapshot] = []

    def remember(module: nn.Module) -> Snapshot:
        attributes = vars(module)
        held = [(each, each.copy()) for each in attributes.values() if isinstance(each, (dict, list, set))]
        saved.append((attributes, attributes.copy(), held))
        return saved[-1]

    with _disable_current_modes():
        random_state = torch.get_rng_state()
    try:
        yield remember
    finally:
        for attributes, before, held in reversed(saved):
            for container, content in held:
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
            attributes.clear()
            attributes.update(before)
        with _disable_current_modes():
            torch.set_rng_state(random_state)
