"""The records of the graph: Op, Region, and their parts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from graphflops.core.renaming import Renaming
from graphflops.core.sizes import Spec
from graphflops.rules.targets import qualified_name

Source: TypeAlias = "tuple[str, int | None]"
"""the name of an Op, and the index of one of its results; None if it has a single one"""
StepPhase: TypeAlias = Literal["", "backward", "dgrad", "wgrad", "recompute", "optimizer"]
Kind: TypeAlias = Literal["input", "parameter", "constant", "call", "output", "idle"]
RegionKind: TypeAlias = Literal["module", "composite", "checkpoint", "repeat"]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that an Op reads.

    It ``is_weight`` if it depends on parameters alone, as a transposed or tied weight does: its gradient is wgrad. The
    gradient of a tensor that depends on an input is dgrad.
    """

    name: str
    """the argument's name in the operator's schema or the function's signature; ``name.0``, ``name.1`` in a list"""
    source: str
    """the name of the Op whose result it is"""
    index: int | None
    """the index of the result; None if the Op has a single one"""
    spec: Spec
    requires_grad: bool
    is_weight: bool = False


class Read(NamedTuple):
    """One tensor on an edge of the graph: the name of the reader's operand, the index of the result, and the spec."""

    operand: str
    result: int | None
    spec: Spec


@dataclass(frozen=True, slots=True)
class BackwardHook:
    """A backward hook: it runs, in its phase, if one of ``triggers`` has a gradient."""

    phase: Literal["dgrad", "wgrad"]
    triggers: tuple[Source, ...]
    gradients: frozenset[str] = frozenset()
    """of a call in the backward of an ``autograd.Function``: the operands whose gradients it is needed for"""


class Storage(NamedTuple):
    """The storage of a result: its size, and an earlier tensor that has the same one, if there is one."""

    nbytes: int
    shared_with: Source | None = None


class StorageGroup(NamedTuple):
    """The tensors that share a storage, in the order in which they were made, and its size in bytes."""

    tensors: tuple[Source, ...]
    nbytes: int


class Span(NamedTuple):
    """Bounds of the longest chain of dependent operations; ``upper`` is None if the work of an Op is unknown."""

    lower: int
    upper: int | None


class TensorArgument(NamedTuple):
    """A tensor among the arguments of a call."""

    source: Source
    spec: Spec
    stride: tuple[int, ...]


class Invocation(NamedTuple):
    """A call that can be run again: the callable and its arguments, tensors as ``TensorArgument``."""

    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Op:
    """One node of the graph: a call, an input, a parameter, a constant, or the output.

    ``operands`` are in the order of the call, with duplicates: ``matmul(x, x)`` has two. The passes set ``needs_grad``,
    ``fan_in`` and ``weight_grads``; before, they are empty.

    An Op of kind idle has no work: a call in a backward hook that does not run, or one that the rule of another Op
    counts.
    """

    name: str
    kind: Kind
    call: Any
    """the class, function or operator that is called; the name of a parameter"""
    module_path: str
    line: str
    """the user's source line"""
    operands: tuple[Operand, ...]
    arguments: Mapping[str, Any]
    """all arguments by name, tensors as their specs; and the parameters and attributes of a module"""
    out: Spec | tuple[Spec, ...]
    requires_grad: bool
    storages: tuple[Storage | None, ...] = ()
    """the storage of each output when it ran, None where there is none; empty unless ``capture`` made the graph"""
    recomputes: tuple[Hashable, ...] = ()
    """the checkpointed regions that run again if one of its gradients is computed"""
    recomputed_in: Mapping[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None] = field(default_factory=dict)
    """the checkpointed regions that run it again → the operators that run again if the region saves some results"""
    hook: BackwardHook | None = None
    """the backward hook, or the backward of an ``autograd.Function``, that makes the call"""
    own_code: str | None = None
    """of a call that is counted by the Ops that it ran: what is wrong with its backward, or an empty string"""
    phase: StepPhase = ""
    """of a call in a program that is a step: the phase in which it ran, if that is not forward"""
    gradients_of: Mapping[int | None, tuple[Source, ...]] = field(default_factory=dict)
    """of a call in the backward pass of a step: index of a result → the tensors whose gradient it is"""
    weight_grads: frozenset[int] = frozenset()
    """indices of the results that are gradients of weights"""
    is_rule_backward: bool = False
    """whether it stands for the backward pass of a call, whose rule has the cost of the gradients"""
    only_accumulates: bool = False
    """whether it only adds gradients: those of several readers, or of a tensor that was broadcast"""
    invocation: Invocation | None = field(default=None, repr=False, compare=False)
    """the call, if the graph was built with ``invocations``"""
    inside: tuple[Op, ...] = field(default=(), repr=False)
    """the Ops that a composite call runs, its operands as inputs and its results as the output; their names are to be
    appended to its own, except those of parameters and buffers"""
    needs_grad: frozenset[str] = frozenset()
    """the operands whose gradients autograd computes"""
    fan_in: Mapping[int | None, int] = field(default_factory=dict)
    """index of a result → the number of gradients that are summed there"""

    @property
    def target(self) -> str:
        """The qualified name of the callable."""
        return qualified_name(self.call) if self.kind == "call" else self.kind

    @property
    def is_forward(self) -> bool:
        """Whether it belongs to the forward pass: no call of a backward pass, of a hook or of an optimizer."""
        return not self.phase and self.hook is None and not self.is_rule_backward

    @property
    def outputs(self) -> tuple[Spec, ...]:
        """The specs of all outputs."""
        return self.out if isinstance(self.out, tuple) else (self.out,)

    @property
    def elements(self) -> int:
        """The number of elements of all outputs."""
        return sum(int(spec.numel) for spec in self.outputs)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all outputs."""
        return sum(int(spec.nbytes) for spec in self.outputs)

    def result(self, index: int | None) -> Spec:
        """Return the spec of an output by the ``index`` of an Operand."""
        return self.outputs[index or 0]


@dataclass(frozen=True, slots=True)
class Region:
    """A group of Ops: those of a module, of a composite call, of a checkpointed region, or of a repeated block.

    A repeat is a node of the graph. It has the Ops of the block that it repeats, under other names.
    """

    kind: RegionKind
    name: str
    path: str
    """the module path"""
    target: str
    """the class of a module, the target of a composite call; empty for other kinds"""
    ops: tuple[str, ...]
    """the names of the Ops, in the order in which they ran; of a repeat, those of the block that it repeats"""
    renaming: Renaming | None = None
    """of a repeat: the names of ``ops`` → its own names"""
    sources: Mapping[Source, Source] = field(default_factory=dict)
    """of a repeat: a tensor from outside that ``ops`` read → the tensor that it reads instead"""
    results: Mapping[str, str] = field(default_factory=dict)
    """of a repeat: each of ``ops`` whose results are read outside, in order → its name in the repeat"""
