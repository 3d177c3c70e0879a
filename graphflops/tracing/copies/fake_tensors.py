"""The fake tensors of one trace, in place of a model's parameters and buffers, its inputs, and other real tensors."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from graphflops.core.errors import CaptureError
from graphflops.core.torch_compat import (
    DisableTorchDispatch,
    DisableTorchFunction,
    FakeTensor,
    FakeTensorMode,
    fake_tensor,
    is_functorch_wrapped_tensor,
    is_traceable_wrapper_subclass,
    no_dispatch_modes,
    temporarily_clear_interpreter_stack,
    tree_leaves,
)
from graphflops.tracing.copies.copying import Copier
from graphflops.tracing.copies.distributed import check_no_flat_parameters, is_distributed, replicated_values
from graphflops.tracing.copies.function_module import FunctionModule
from graphflops.tracing.copies.layouts import MAX_KNOWN_ELEMENTS, check_strided, is_supported_sparse, set_nnz
from graphflops.tracing.copies.module_state import Snapshot
from graphflops.tracing.copies.module_tree import survey_model
from graphflops.tracing.copies.object_state import object_dict
from graphflops.tracing.session.session import session, tracing

_NO_TENSORS = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device})
"""types of arguments that hold no tensors"""
_CPU = torch.device("cpu")


class StorageId(NamedTuple):
    """A storage: its number in a trace, and its size in bytes."""

    number: int
    nbytes: int


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors among arguments or results, in order."""
    flat = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else (value,)
    if not all(type(leaf) in _NO_TENSORS or isinstance(leaf, torch.Tensor) for leaf in flat):
        flat = tree_leaves(dict(value) if isinstance(value, dict) else value)
    return [leaf for leaf in flat if isinstance(leaf, torch.Tensor)]


def copy_if_stateful(value: Any) -> Any:
    """A copy of an object that a call may change, such as a cache of the model; any other value itself."""
    if isinstance(value, (torch.Tensor, nn.Module, type)) or not hasattr(value, "__dict__") or callable(value):
        return value
    modules = {id(attribute): attribute for attribute in vars(value).values() if isinstance(attribute, nn.Module)}
    with suppress(Exception):  # an object that cannot be copied is shared
        return copy.deepcopy(value, modules)
    return value


# -- autograd history of tensors that are not computed ---------------------------------------------------------------


class _NonLeaf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, make: Callable[[], torch.Tensor], count: int
    ) -> tuple[torch.Tensor, ...]:
        return tuple(make() for _ in range(count))


class _CallThatIsNotRun(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        make: Callable[[], tuple[torch.Tensor, ...]],
        make_gradient: Callable[[torch.Tensor], torch.Tensor],
        *operands: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ctx.make_gradient, ctx.operands = make_gradient, operands
        return make()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        gradients = (ctx.make_gradient(operand) if operand.requires_grad else None for operand in ctx.operands)
        return None, None, *gradients


def differentiable_results(
    make: Callable[[], tuple[torch.Tensor, ...]],
    make_gradient: Callable[[torch.Tensor], torch.Tensor],
    operands: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """The results of a call that does not run, with a history: their gradients go back to its operands."""
    return tuple(_CallThatIsNotRun.apply(make, make_gradient, *operands))  # type: ignore[no-untyped-call]


# -- the fake tensors of a trace -------------------------------------------------------------------------------------


class _Mode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """The FakeTensorMode of one trace. It sets nothing for the whole process, and its tensors have no address."""

    avoid_device_init = False  # else a mode sets how tensors are lifted, in all threads

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._allow_unsafe_data_ptr_access = False


class FakeTensors:
    """Fake tensors of one trace: same shape, strides, dtype and requires_grad as the real ones, no data.

    All are on the CPU, wherever the real ones are: one device for all, and one choice of kernels. ``copier`` copies
    objects that hold tensors, with fake tensors in their places.

    Raises:
        CaptureError: the model has parameters without a shape.
    """

    def __init__(self, root: nn.Module, mode: FakeTensorMode | None = None) -> None:
        self.survey = survey_model(root)
        _check_initialized(self.survey.lazy)
        check_no_flat_parameters(self.survey.modules)
        self.mode = mode or _Mode()
        self.copier = Copier(self.fake_for)
        self.copier.handle(PackedSequence, self.copy_packed_sequence)
        named = (*self.survey.parameters.items(), *self.survey.buffers.items())
        self._names = {id(tensor): name for name, tensor in named}
        # id of a tensor → the tensor, so that the id stays its own, and its fake tensor
        self._fakes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._originals: dict[int, torch.Tensor] = {}
        self._inputs: set[int] = set()
        self._real: dict[int, torch.Tensor] = {}
        self.keeps_storages = False
        """whether the storages of results are asked for"""
        self._storages: dict[int, tuple[torch.UntypedStorage, StorageId]] = {}
        self.copies_gradients = isinstance(root, FunctionModule) or not self.survey.parameters
        """whether existing gradients have fake tensors: a training step adds to them"""
        self.has_sparse = False
        """whether one of them stands for a sparse tensor"""
        if (running := session()) is not None:
            running.add_mode(self.mode)
            running.own(self)
        self._root = root

    def copies(self) -> Iterator[Any]:
        """All copies so far, of objects that are no tensors."""
        return self.copier.all_copies()

    def release(self) -> None:
        """Release all fake tensors and copies."""
        self.copier.release()
        vars(self).clear()

    @contextmanager
    def fake_mode(self) -> Iterator[None]:
        """Every new tensor is fake while this is open; then module-level state is restored."""
        running = session()
        assert running is not None, "fake tensors belong to an analysis"
        snapshot = Snapshot(self._root, self.survey.classes, self.copier.copy)
        self.copier.on_shared = snapshot.add
        with running.restored_after(snapshot.restore), ExitStack() as stack:
            for context in (tracing(), torch.inference_mode(False), no_dispatch_modes(), self.mode):
                stack.enter_context(context)
            yield

    def is_fake(self, value: Any) -> bool:
        """Whether a value is a fake tensor of this trace."""
        return isinstance(value, FakeTensor) and value.fake_mode is self.mode

    # -- fake tensors of real ones -------------------------------------------------------------------------------

    def fake_for(self, tensor: torch.Tensor) -> torch.Tensor:
        """The fake tensor of a tensor, always the same one; a fake tensor itself."""
        if self.is_fake(tensor):
            return tensor
        if id(tensor) not in self._fakes:
            is_sparse = is_supported_sparse(tensor)
            if not is_sparse:
                check_strided(tensor, self._names.get(id(tensor)))
            with temporarily_clear_interpreter_stack():  # a transformation of torch.func would wrap it
                with DisableTorchFunction():
                    shape, stride, grad = tensor.shape, None if is_sparse else tensor.stride(), tensor.requires_grad
                fake = self._new_fake(shape, stride, tensor.dtype, grad, isinstance(tensor, nn.Parameter))
                if is_sparse:
                    self.has_sparse = True
                    set_nnz(fake, tensor)
            self._fakes[id(tensor)] = tensor, fake
            self._originals[id(fake)] = tensor
            self._copy_attributes(fake, tensor)
        return self._fakes[id(tensor)][1]

    def _copy_attributes(self, fake: torch.Tensor, tensor: torch.Tensor) -> None:
        """Give a fake tensor the attributes and hooks of its tensor, and its gradient, if it may be added to."""
        with DisableTorchFunction():
            if not (isinstance(tensor, FakeTensor) or is_distributed(tensor)) and (attributes := object_dict(tensor)):
                object_dict(fake).update({name: self.copier.copy(value) for name, value in attributes.items()})
            if tensor.requires_grad:
                for hook in (tensor._backward_hooks or {}).values():
                    fake.register_hook(self.copier.copy(hook))  # type: ignore[no-untyped-call]
                for hook in (getattr(tensor, "_post_accumulate_grad_hooks", None) or {}).values():
                    fake.register_post_accumulate_grad_hook(self.copier.copy(hook))  # type: ignore[no-untyped-call]
            if self.copies_gradients and tensor.is_leaf and tensor.requires_grad and tensor.grad is not None:
                fake.grad = self.fake_for(tensor.grad)

    def fake_for_input(self, tensor: torch.Tensor) -> torch.Tensor:
        """The fake tensor of an input; the values of integer and boolean inputs that have data are known."""
        self._inputs.add(id(tensor))
        return self.fake_for(tensor)

    def replace_real_tensors(self, value: Any) -> Any:
        """Arguments with fake tensors in place of real ones; the same object, if there are none."""
        if isinstance(value, torch.Tensor):
            if self.is_fake(value) or id(value) in self._real or _is_wrapper(value):
                return value
            return self.fake_for(value)
        if type(value) in (tuple, list):
            if all(type(member) in _NO_TENSORS or self.is_fake(member) for member in value):
                return value
            members = [self.replace_real_tensors(member) for member in value]
            return value if all(map(operator.is_, value, members)) else type(value)(members)
        if type(value) is dict:
            items = {name: self.replace_real_tensors(member) for name, member in value.items()}
            return value if all(map(operator.is_, value.values(), items.values())) else items
        return value

    def keep_real(self, tensor: torch.Tensor) -> torch.Tensor:
        """Let an intermediate tensor with data stay real: PyTorch reads it where no mode intercepts the read."""
        self._real[id(tensor)] = tensor
        return tensor

    def copy_packed_sequence(
        self, original: PackedSequence, fake_for: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> PackedSequence:
        """A PackedSequence of fake tensors; its batch sizes, which recurrent layers read, are real."""
        data, batch_sizes, *indices = original
        fake_for = fake_for or self.fake_for
        with no_dispatch_modes(), DisableTorchFunction():
            copied = batch_sizes.clone()
        self._fakes[id(batch_sizes)] = batch_sizes, self.keep_real(copied)
        indices = [order if order is None else fake_for(order) for order in indices]
        return tuple.__new__(type(original), (fake_for(data), copied, *indices))

    # -- storages ------------------------------------------------------------------------------------------------

    def storages_of(self, value: Any) -> tuple[StorageId | None, ...]:
        """The storage of a tensor, or of each member of a tuple or list; None for what has none.

        The fake tensors of two tensors that share storage have the same one: that of their originals. Empty unless
        ``keeps_storages``.
        """
        if not self.keeps_storages:
            return ()
        return tuple(map(self._storage_of, value if isinstance(value, (tuple, list)) else (value,)))

    def _storage_of(self, tensor: Any) -> StorageId | None:
        if not isinstance(tensor, torch.Tensor) or (storage := _storage(tensor)) is None:
            return None
        if (known := self._storages.get(storage._cdata)) is None:
            original = _storage(self.original_of(tensor)) or storage
            if (known := self._storages.get(original._cdata)) is None:
                known = original, StorageId(len(self._storages), original.nbytes())
            # the storages are kept, so that no other one gets their address
            self._storages[original._cdata] = known
            self._storages[storage._cdata] = storage, known[1]
        return known[1]

    # -- new fake tensors ----------------------------------------------------------------------------------------

    def make(self, shape: Any, stride: Any, dtype: torch.dtype) -> torch.Tensor:
        """A new fake tensor, contiguous if no stride is given."""
        return self._new_fake(shape, stride, dtype, False, False)

    def intermediates(self, shape: Any, stride: Any, dtype: torch.dtype, count: int) -> tuple[torch.Tensor, ...]:
        """New fake tensors that require grad and are no leaves of autograd."""
        with torch.enable_grad():
            source = self._new_fake((), None, torch.float32, True, False)
            tensors = _NonLeaf.apply(source, lambda: self.make(shape, stride, dtype), count)  # type: ignore[no-untyped-call]
        return tuple(tensors)

    def _new_fake(
        self, shape: Any, stride: Any, dtype: torch.dtype, requires_grad: bool, is_parameter: bool
    ) -> torch.Tensor:
        """The same tensor as ``self.mode`` would return, which takes much longer."""
        with DisableTorchFunction(), DisableTorchDispatch():
            if stride is None:
                empty = torch.empty(shape, dtype=dtype, device="meta")
            else:
                empty = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
            return fake_tensor(self.mode, empty, _CPU, requires_grad, is_parameter)

    # -- real tensors of fake ones -------------------------------------------------------------------------------

    def original_of(self, fake: torch.Tensor) -> torch.Tensor:
        """The tensor that a fake tensor stands for; an intermediate itself."""
        return self._originals.get(id(fake), fake)

    def name_of(self, fake: torch.Tensor) -> str | None:
        """The name of the parameter or buffer that a fake tensor stands for."""
        return self._names.get(id(self._originals.get(id(fake), fake)))

    def is_input(self, fake: torch.Tensor) -> bool:
        """Whether a fake tensor stands for an input."""
        return id(self._originals.get(id(fake))) in self._inputs

    def is_input_without_values(self, fake: torch.Tensor) -> bool:
        """Whether a fake tensor stands for an input whose values are not used."""
        original = self._originals.get(id(fake))
        return original is not None and id(original) in self._inputs and not _has_values(original)

    def known_values(self, fake: torch.Tensor) -> torch.Tensor | None:
        """The tensor that a fake tensor stands for, if its values are known and neither trained nor updated."""
        original = self._originals.get(id(fake))
        if original is None or isinstance(original, (nn.Parameter, FakeTensor)):
            return None
        if is_distributed(original):
            return replicated_values(original)
        if id(original) in self._names:
            return original
        if id(original) in self._inputs and not _has_values(original):
            return None
        return None if original.requires_grad else original


def _check_initialized(lazy: list[str]) -> None:
    """Refuse lazy layers, which create their parameters at their first call and so would change the model.

    Raises:
        CaptureError: there is one that has not been called.
    """
    if lazy:
        raise CaptureError(
            f"{', '.join(lazy)} {'has' if len(lazy) == 1 else 'have'} no shape yet: run the model once on inputs like "
            "yours, so that its lazy layers make their parameters, or build these layers with their sizes"
        )


def _has_values(tensor: torch.Tensor) -> bool:
    """Whether the values of an input are used: integers and booleans are sizes, indices and masks."""
    if tensor.is_meta or isinstance(tensor, FakeTensor) or tensor.numel() > MAX_KNOWN_ELEMENTS:
        return False
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized)


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """The storage of a tensor; None of a sparse one, or one that wraps others."""
    with DisableTorchFunction(), suppress(RuntimeError, NotImplementedError):
        return tensor.untyped_storage()
    return None


def _is_wrapper(tensor: torch.Tensor) -> bool:
    """Whether a tensor wraps others: by a transformation of torch.func, or by its class."""
    return is_functorch_wrapped_tensor(tensor) or (is_traceable_wrapper_subclass(tensor) and not is_distributed(tensor))
