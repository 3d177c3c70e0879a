"""Operators without FLOPs: views, copies and the creation of data. Each has a reason, which the report prints."""

from __future__ import annotations

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Spec
from graphflops.rules.rule import rule
from graphflops.rules.templates import ALL_OPERANDS, additions, free, multiplications, sum_to_size

views = free(
    "a view of the same data; its gradient is a view or is put into zeros",
    aten.view, aten._unsafe_view, aten.alias, aten.detach, aten.t, aten.transpose, aten.permute,
    aten.unsqueeze, aten.squeeze, aten.select, aten.slice, aten.narrow, aten.split, aten.split_with_sizes, aten.unbind,
    aten.diagonal, aten.as_strided, aten.view_as_real, aten.view_as_complex, aten._conj, aten.real, aten.imag,
    aten.movedim, aten._reshape_alias, aten.unsafe_split, aten.unsafe_split_with_sizes, aten.lift_fresh,
)  # fmt: skip

copies = free(
    "a copy or a cast; its gradient is one too",
    aten.clone, aten._to_copy, aten.copy, aten.contiguous, aten.cat, aten.stack, aten.roll, aten.flip,
    aten.constant_pad_nd, aten.fill, aten.zero, aten.complex, aten.select_scatter, aten.slice_scatter,
    aten.pixel_shuffle, aten.diag_embed, aten.lu_unpack, aten.to, aten.rot90, aten.block_diag,
    aten.diagonal_scatter, aten.as_strided_scatter, aten._conj_physical,
)  # fmt: skip

put_back = free(
    "gradients written into zeros at their positions; the double backward indexes",
    aten.select_backward, aten.slice_backward, aten.diagonal_backward, aten.masked_scatter_backward,
)  # fmt: skip
packing = free("a copy of rows of sequences, one step of all after the other", aten._pack_padded_sequence)
repeated = free("the place of each element, as often as it is repeated", "aten.repeat_interleave.Tensor")
creation = free(
    "made from nothing but its shape",
    aten.zeros, aten.ones, aten.full, aten.empty, aten.arange, aten.linspace, aten.eye, aten.scalar_tensor,
    aten.zeros_like, aten.ones_like, aten.full_like, aten.empty_like, aten.empty_strided, aten.new_zeros, aten.new_ones,
    aten.new_full, aten.new_empty, aten.new_empty_strided, aten.tril_indices, aten.triu_indices, aten.logspace,
)  # fmt: skip

communication = free(
    "exchanged between processes; the additions of a reduction are left out",
    *(f"c10d.{name}_" for name in (
        "allreduce", "allreduce_coalesced", "reduce", "allgather", "_allgather_base", "allgather_coalesced",
        "allgather_into_tensor_coalesced", "reduce_scatter", "_reduce_scatter_base", "reduce_scatter_tensor_coalesced",
        "broadcast", "gather", "scatter", "alltoall", "alltoall_base", "recv", "recv_any_source",
    )),
    "c10d.send", "c10d.barrier",
)  # fmt: skip

randomness = free(
    "drawing random numbers is not arithmetic of the model",
    aten.rand, aten.randn, aten.rand_like, aten.randn_like, aten.randint, aten.randint_like, aten.randperm,
    aten.bernoulli, aten.uniform, aten.normal, aten.exponential, aten.multinomial, aten.random,
    aten.poisson, aten.geometric, aten.cauchy, aten.log_normal, aten.binomial,
)  # fmt: skip


@rule(aten.expand)
def expand(self: Spec, out: Spec) -> Cost:
    """A view that repeats; backward the copies are summed."""
    return Cost(ZERO, {"self": sum_to_size(out, self)})


@rule(aten.repeat, aten.repeat_interleave)
def repeat(self: Spec, out: Spec) -> Cost:
    """A copy that repeats; backward the copies are summed."""
    return Cost(ZERO, {"self": sum_to_size(out, self)})


@rule(aten._standard_gamma, aten._sample_dirichlet)
def drawn_gamma(self: Spec) -> Cost:
    """Drawing is not arithmetic of the model. Backward the derivative of a sample by its parameter, as one function,
    and a product.
    """
    return Cost(ZERO, {"self": Work(elementwise=self.numel, transcendental=self.numel)})


@rule(aten._standard_gamma_grad, aten._dirichlet_grad)
def drawn_gamma_backward(out: Spec) -> Cost:
    """The derivative of a sample by its parameter, as one function. PyTorch has none of it."""
    return Cost(Work(transcendental=out.numel))


@rule(aten.index, aten._unsafe_index, aten.index_select, aten.gather, aten.take, aten.masked_select)
def gather(self: Spec, out: Spec) -> Cost:
    """Elements picked by index: no arithmetic forward; backward each is added to where it came from."""
    return Cost(ZERO, {"self": Work(accumulate=out.numel)})


@rule(aten.unfold_backward)
def unfold_backward(grad_in: Spec) -> Cost:
    """Backward of windows of a tensor: each is added to where it came from. The double backward indexes."""
    return Cost(Work(accumulate=grad_in.numel), {"grad_in": ZERO})


@rule(aten.index_add)
def index_add(source: Spec, alpha: float = 1) -> Cost:
    """One addition for each element of the source, and a product if α is not 1; backward the gradient is picked by
    index.
    """
    scaled = multiplications(source.numel, source) if alpha != 1 else ZERO
    return Cost(additions(source.numel, source) + scaled, {"source": scaled, ALL_OPERANDS: ZERO})


@rule(aten.scatter_add)
def scatter_add(index: Spec, src: Spec) -> Cost:
    """One addition for each index: no more of the source is read. Backward the gradient is picked by index."""
    return Cost(additions(index.numel, src), {ALL_OPERANDS: ZERO})


@rule(aten.index_put, aten._unsafe_index_put)
def index_put(self: Spec, values: Spec, accumulate: bool = False) -> Cost:
    """Elements put in place by index, or added there: one addition each. The gradient is picked by index."""
    added = additions(values.numel, values) if accumulate else ZERO
    return Cost(added, {ALL_OPERANDS: ZERO})


@rule(aten.put)
def put(source: Spec, accumulate: bool = False) -> Cost:
    """As ``index_put``, of a tensor as one row."""
    return Cost(additions(source.numel, source) if accumulate else ZERO, {ALL_OPERANDS: ZERO})


@rule(aten.masked_scatter)
def masked_scatter(out: Spec) -> Cost:
    """Elements put in place by a mask. The gradient of what stays is selected from, one selection an element."""
    return Cost(ZERO, {"self": additions(out.numel, out), "source": ZERO})


@rule(aten.scatter, aten.index_copy, aten.index_fill)
def scatter(out: Spec) -> Cost:
    """Elements put in place by index: no arithmetic either way."""
    return Cost(ZERO, {"*": ZERO})
