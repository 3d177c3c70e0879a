"""Stand-ins: the fake tensors of one trace, and the structural copies of what holds tensors."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from graphflops.capture.copying import Copier
from graphflops.capture.distributed import check_no_flat_parameters, is_distributed, replicated_values
from graphflops.capture.module_state import snapshot_state
from graphflops.capture.module_tree import survey_model
from graphflops.capture.object_state import object_dict
from graphflops.capture.session import session, tracing
from graphflops.core.errors import CaptureError
from graphflops.core.sizes import Spec, as_size
from graphflops.core.torch_compat import (
    DisableTorchDispatch,
    DisableTorchFunction,
    FakeTensor,
    FakeTensorMode,
    OpOverload,
    fake_tensor,
    is_functorch_wrapped_tensor,
    is_traceable_wrapper_subclass,
    no_dispatch_modes,
    temporarily_clear_interpreter_stack,
    tree_leaves,
)

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_PLAIN = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device})
_NNZ = "_graphflops_nnz"
_CPU = torch.device("cpu")
LARGEST_GIVEN = 2**24
"""elements of the largest input of integers or booleans whose values are used"""


def spec_of(tensor: torch.Tensor) -> Spec:
    """The Spec of a tensor.

    Raises:
        CaptureError: it is sparse, nested or otherwise not strided.
    """
    check_strided(tensor)
    shape, dtype = tuple(as_size(size) for size in tensor.shape), str(tensor.dtype).removeprefix("torch.")
    return Spec(shape, dtype, nnz_of(tensor))


def nnz_of(fake: torch.Tensor) -> int | None:
    """How many numbers the sparse matrix holds that a stand-in stands for; None if it stands for a dense one."""
    return getattr(fake, _NNZ, None)


def propagate_nnz(result: Any, of: Any) -> None:
    """A view of a sparse matrix, such as its transpose, holds as many numbers."""
    if torch.is_tensor(of) and (nnz := nnz_of(of)) is not None:
        setattr(result, _NNZ, nnz)


def check_strided(tensor: torch.Tensor, name: str | None = None) -> None:
    """What a sparse or nested tensor costs depends on how many numbers it holds, which no shape says.

    A stand-in of it would be dense, and its products priced as dense ones.

    Raises:
        CaptureError: it is such a tensor.
    """
    if tensor.layout == torch.strided and not tensor.is_nested:
        return
    raise layout_error(tensor, name)


def layout_error(tensor: torch.Tensor, name: str | None = None) -> CaptureError:
    """The error that says why such a tensor is refused, and what to do."""
    return not_dense_error(
        f"{name or 'a tensor'} is {'nested' if tensor.is_nested else 'not dense'}", tensor.layout, tensor.dtype
    )


def not_dense_error(who: str, layout: Any, dtype: Any) -> CaptureError:
    """The error of a tensor that is said by its layout, since PyTorch makes no such one without data."""
    return CaptureError(
        f"{who} ({layout}, {dtype}): "
        "what it costs depends on how many numbers it holds, which its shape does not say.\n"
        "Hand over a dense tensor, where a zero counts as any number does and padding as data. Or hand over the "
        "numbers and their indices as tensors, have a module of yours do what is done with them, and give that "
        "module a rule that says what it costs and, in outputs=, what it returns."
    )


def _check_initialized(lazy: list[str]) -> None:
    """A lazy layer makes its parameters at its first call, which would change the model.

    Raises:
        CaptureError: there is one that has not been called.
    """
    if lazy:
        raise CaptureError(
            f"{', '.join(lazy)} {'has' if len(lazy) == 1 else 'have'} no shape yet: run the model once on inputs like "
            "yours, so that its lazy layers make their parameters, or build these layers with their sizes"
        )


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors among arguments or results, in order."""
    flat = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else (value,)
    if not all(type(each) in _PLAIN or isinstance(each, torch.Tensor) for each in flat):
        flat = tree_leaves(dict(value) if isinstance(value, dict) else value)
    return [each for each in flat if isinstance(each, torch.Tensor)]


def _numbers_in(sparse: torch.Tensor) -> int:
    with no_dispatch_modes():
        return int((sparse._values() if sparse.layout == torch.sparse_coo else sparse.values()).numel())


def copy_if_stateful(value: Any) -> Any:
    """A copy of an object of a model's own, such as a cache, which a call may change; everything else itself."""
    if isinstance(value, (torch.Tensor, nn.Module, type)) or not hasattr(value, "__dict__") or callable(value):
        return value
    held = {id(each): each for each in vars(value).values() if isinstance(each, nn.Module)}
    with suppress(Exception):  # what cannot be copied is what it is
        return copy.deepcopy(value, held)
    return value


class FoldingAborted(BaseException):  # no error: the trace is made again, with nothing folded
    """Something was asked of a block that repeats another one, and only a block that ran has an answer."""


class CompositeExpanded(
    FoldingAborted
):  # no error: the trace is made again, and writes down what is inside of the operator
    """A gradient is taken of what a composite operator made inside of it, and kept for its own gradient."""

    def __init__(self, operator: OpOverload) -> None:
        super().__init__()
        self.operator = operator


def _has_values(given: torch.Tensor) -> bool:
    """Whether the values of an input are used: they are sizes, places and masks, and not what is calculated with."""
    if given.is_meta or isinstance(given, FakeTensor) or given.numel() > LARGEST_GIVEN:
        return False
    return not (given.is_floating_point() or given.is_complex() or given.is_quantized)


class Wrapped(nn.Module):
    """A function as a module, which holds the modules that it reaches."""


def _is_wrapper(tensor: torch.Tensor) -> bool:
    """Whether a tensor is wrapped around others, by a transformation of torch.func or a class of its own."""
    return is_functorch_wrapped_tensor(tensor) or (is_traceable_wrapper_subclass(tensor) and not is_distributed(tensor))


class _NonLeaf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, make: Callable[[], torch.Tensor], many: int
    ) -> tuple[torch.Tensor, ...]:
        return tuple(make() for _ in range(many))


class _CallThatIsNotRun(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        make: Callable[[], tuple[torch.Tensor, ...]],
        like: Callable[[torch.Tensor], torch.Tensor],
        *operands: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ctx.like, ctx.operands = like, operands
        return make()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        return None, None, *(ctx.like(each) if each.requires_grad else None for each in ctx.operands)


def differentiable_results(
    make: Callable[[], tuple[torch.Tensor, ...]],
    like: Callable[[torch.Tensor], torch.Tensor],
    operands: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """The results of a call that does not run, with a history: gradients of them go back to its operands."""
    return tuple(_CallThatIsNotRun.apply(make, like, *operands))  # type: ignore[no-untyped-call]


class _Mode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A mode of one trace. It sets nothing for the whole process, and its tensors have no address."""

    avoid_device_init = False  # for which a mode would set how tensors are lifted, in all threads

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._allow_unsafe_data_ptr_access = False


class FakeTensors:
    """Fake tensors in place of a model's own and of its inputs: same shape, strides, dtype and requires_grad, no data.

    All say that they are on the CPU, wherever the real ones are: one device for all, and one choice of kernels.
    ``copier`` copies whatever holds tensors, with stand-ins in their places.
    """

    def __init__(
        self,
        root: nn.Module,
        mode: FakeTensorMode | None = None,
    ) -> None:
        self.survey = survey_model(root)
        _check_initialized(self.survey.lazy)
        check_no_flat_parameters(self.survey.modules)
        self.mode = mode or _Mode()
        self.copier = Copier(self.fake_for)
        self.copier.handle(PackedSequence, self.copy_packed_sequence)
        held = (self.survey.parameters, self.survey.buffers)
        self._names = {id(each): name for tensors in held for name, each in tensors.items()}
        # id of a tensor → itself, so that the id stays its own, and its stand-in
        self._fakes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._originals: dict[int, torch.Tensor] = {}
        self._given: set[int] = set()
        self._real: dict[int, torch.Tensor] = {}
        self.with_gradients = isinstance(root, Wrapped) or not self.survey.parameters
        """whether gradients that are there already have stand-ins: a step that trains adds to them"""
        self.some_sparse = False
        """whether one of them stands for a sparse tensor"""
        if (here := session()) is not None:
            here.add_mode(self.mode)
            here.own(self)
        self._root = root

    def copies(self) -> Iterator[Any]:
        """All copies so far, of objects that are no tensors."""
        return self.copier.all_copies()

    def release(self) -> None:
        """Let go of all stand-ins and copies."""
        self.copier.release()
        vars(self).clear()

    def is_fake(self, value: Any) -> bool:
        """Whether it is a stand-in, or was made of some on the way."""
        return isinstance(value, FakeTensor) and value.fake_mode is self.mode

    def fake_for(self, tensor: torch.Tensor) -> torch.Tensor:
        """The stand-in of a tensor, always the same one; a stand-in stands for itself."""
        if self.is_fake(tensor):
            return tensor
        if id(tensor) not in self._fakes:
            sparse = tensor.layout in _SPARSE and tensor.dim() == 2 and not tensor.requires_grad
            if not sparse:
                check_strided(tensor, self._names.get(id(tensor)))
            with temporarily_clear_interpreter_stack():  # where torch.func is at work, it would make its own of it
                with DisableTorchFunction():
                    shape, stride, grad = tensor.shape, None if sparse else tensor.stride(), tensor.requires_grad
                fake = self._new_fake(shape, stride, tensor.dtype, grad, isinstance(tensor, nn.Parameter))
                if sparse:
                    self.some_sparse = True
                    setattr(fake, _NNZ, _numbers_in(tensor))
            self._fakes[id(tensor)] = tensor, fake
            self._originals[id(fake)] = tensor
            self._copy_attributes(fake, tensor)
        return self._fakes[id(tensor)][1]

    def _copy_attributes(self, fake: torch.Tensor, tensor: torch.Tensor) -> None:
        """What is on a tensor is on its stand-in too: attributes, hooks, and a gradient, if it may be added to."""
        with DisableTorchFunction():
            if not (isinstance(tensor, FakeTensor) or is_distributed(tensor)) and (notes := object_dict(tensor)):
                object_dict(fake).update({name: self.copier.copy(note) for name, note in notes.items()})
            if tensor.requires_grad:
                for hook in (tensor._backward_hooks or {}).values():
                    fake.register_hook(self.copier.copy(hook))  # type: ignore[no-untyped-call]
                for hook in (getattr(tensor, "_post_accumulate_grad_hooks", None) or {}).values():
                    fake.register_post_accumulate_grad_hook(self.copier.copy(hook))  # type: ignore[no-untyped-call]
            if self.with_gradients and tensor.is_leaf and tensor.requires_grad and tensor.grad is not None:
                fake.grad = self.fake_for(tensor.grad)

    def replace_real_tensors(self, value: Any) -> Any:
        """Arguments with stand-ins in the place of real tensors; themselves, if there are none."""
        if isinstance(value, torch.Tensor):
            if self.is_fake(value) or id(value) in self._real or _is_wrapper(value):
                return value
            return self.fake_for(value)
        if type(value) in (tuple, list):
            if all(type(each) in _PLAIN or self.is_fake(each) for each in value):
                return value
            replaced = [self.replace_real_tensors(each) for each in value]
            return value if all(map(operator.is_, value, replaced)) else type(value)(replaced)
        if type(value) is dict:
            named = {name: self.replace_real_tensors(each) for name, each in value.items()}
            return value if all(map(operator.is_, value.values(), named.values())) else named
        return value

    def keep_real(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor with data, made on the way, that has no stand-in: PyTorch reads it where nobody looks on."""
        self._real[id(tensor)] = tensor
        return tensor

    def fake_for_input(self, tensor: torch.Tensor) -> torch.Tensor:
        """The stand-in of an input. Of its values those of integers and booleans are known, if there are any."""
        self._given.add(id(tensor))
        return self.fake_for(tensor)

    def copy_packed_sequence(
        self, original: PackedSequence, of: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> PackedSequence:
        """Packed sequences of stand-ins; their batch sizes, which recurrent layers read, are real."""
        data, sizes, *orders = original
        of = of or self.fake_for
        with no_dispatch_modes(), DisableTorchFunction():
            copied = sizes.clone()
        self._fakes[id(sizes)] = sizes, self.keep_real(copied)
        orders = [each if each is None else of(each) for each in orders]
        return tuple.__new__(type(original), (of(data), copied, *orders))

    def is_input(self, fake: torch.Tensor) -> bool:
        """Whether it stands for an input."""
        return id(self._originals.get(id(fake))) in self._given

    def is_input_without_values(self, fake: torch.Tensor) -> bool:
        """Whether it stands for an input of integers or booleans that has no data, or is too large to look at."""
        original = self._originals.get(id(fake))
        return original is not None and id(original) in self._given and not _has_values(original)

    def make(self, shape: Any, stride: Any, dtype: torch.dtype) -> torch.Tensor:
        """A new fake tensor, contiguous if no stride is given."""
        return self._new_fake(shape, stride, dtype, False, False)

    def intermediates(self, shape: Any, stride: Any, dtype: torch.dtype, many: int) -> tuple[torch.Tensor, ...]:
        """So many fake tensors that require grad, and that nobody holds."""
        with torch.enable_grad():
            source = self._new_fake((), None, torch.float32, True, False)
            made = _NonLeaf.apply(source, lambda: self.make(shape, stride, dtype), many)  # type: ignore[no-untyped-call]
        return tuple(made)

    def _new_fake(self, shape: Any, stride: Any, dtype: torch.dtype, grad: bool, parameter: bool) -> torch.Tensor:
        """Made as a mode would make it, but not by one, which takes much longer."""
        with DisableTorchFunction(), DisableTorchDispatch():
            if stride is None:
                empty = torch.empty(shape, dtype=dtype, device="meta")
            else:
                empty = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
            return fake_tensor(self.mode, empty, _CPU, grad, parameter)

    def original_of(self, fake: torch.Tensor) -> torch.Tensor:
        """What a stand-in stands for; itself, if it was made on the way."""
        return self._originals.get(id(fake), fake)

    def name_of(self, fake: torch.Tensor) -> str | None:
        """The name of the parameter or buffer that a stand-in stands for."""
        return self._names.get(id(self._originals.get(id(fake), fake)))

    def known_values(self, fake: torch.Tensor) -> torch.Tensor | None:
        """The tensor that a stand-in stands for, with the values it holds; none of what is trained or changes."""
        original = self._originals.get(id(fake))
        if original is None or isinstance(original, (nn.Parameter, FakeTensor)):
            return None
        if is_distributed(original):
            return replicated_values(original)
        if id(original) in self._names:
            return original
        if id(original) in self._given and not _has_values(original):
            return None
        return None if original.requires_grad else original

    @contextmanager
    def fake_mode(self) -> Iterator[None]:
        """Every tensor made from now on is fake; what is written to module-level state is put back afterwards."""
        here = session()
        assert here is not None, "stand-ins are of an analysis"
        with here.restored_after(snapshot_state(self._root, self.survey.classes)), ExitStack() as stack:
            for each in (tracing(), torch.inference_mode(False), no_dispatch_modes(), self.mode):
                stack.enter_context(each)
            yield
