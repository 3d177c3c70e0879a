"""Op, Region and what they consist of: the records of the graph."""

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

    ``is_weight`` says that it depends on parameters alone, as a transposed or tied weight does: its gradient is wgrad.
    The gradient of everything that depends on the inputs is dgrad.
    """

    name: str
    """the argument, as the operator's schema or the function's signature has it; ``name.0``, ``name.1`` in a list"""
    source: str
    """the name of the Op whose result it is"""
    index: int | None
    """which of its results; None if it has a single one"""
    spec: Spec
    requires_grad: bool
    is_weight: bool = False


class Read(NamedTuple):
    """One tensor on an edge of the graph: the reader's operand, which result of the maker it is, and its spec."""

    operand: str
    result: int | None
    spec: Spec


@dataclass(frozen=True, slots=True)
class BackwardHook:
    """A backward hook: its work belongs to a phase, and is done if a gradient comes to one of ``triggers``."""

    phase: Literal["dgrad", "wgrad"]
    triggers: tuple[Source, ...]
    gradients: frozenset[str] = frozenset()
    """of an autograd.Function's own backward: the operands whose gradients the call is for"""


class TensorArgument(NamedTuple):
    """A tensor among the arguments of a call."""

    source: Source
    spec: Spec
    stride: tuple[int, ...]


class Invocation(NamedTuple):
    """A call as it can be made again: the callable and its arguments, tensors as ``TensorArgument``."""

    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Op:
    """One node of the graph: a call, or where tensors come from and go to.

    ``operands`` stand in the order of the call, repeats and all: ``matmul(x, x)`` has two. The passes set
    ``needs_grad``, ``fan_in`` and ``weight_results``; before, they are empty.

    An Op of kind idle is a call in a backward hook that no gradient comes to, or one whose work another Op has.
    """

    name: str
    kind: Kind
    call: Any
    """the class, function or operator that is called; of a parameter, its name"""
    module_path: str
    line: str
    """the user's source line"""
    operands: tuple[Operand, ...]
    arguments: Mapping[str, Any]
    """all arguments by name, tensors as their specs; of a module, its parameters and attributes as well"""
    out: Spec | tuple[Spec, ...]
    requires_grad: bool
    reaches: tuple[Hashable, ...] = ()
    """the checkpointed regions that run again if a gradient of it is computed"""
    runs_again: Mapping[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None] = field(default_factory=dict)
    """the regions with which it is computed again; of one that keeps some of it, the operators that are"""
    hook: BackwardHook | None = None
    """the backward hook, or the Function's own backward, that makes the call"""
    own_code: str | None = None
    """of a call whose work is that of the Ops that it ran: why its backward could not run; empty if it could"""
    phase: StepPhase = ""
    """of a program that is a step: where it ran, if not forward"""
    gradients_of: Mapping[int | None, tuple[Source, ...]] = field(default_factory=dict)
    """of a call in the backward pass of a step: the tensors that its results are gradients of"""
    weight_results: frozenset[int] = frozenset()
    """those of its results that are gradients of weights"""
    goes_back: bool = False
    """whether it is autograd going back through a call whose rule gives the gradients"""
    only_accumulates: bool = False
    """whether autograd only adds up in it, gradients that meet or that were broadcast"""
    invocation: Invocation | None = field(default=None, repr=False, compare=False)
    """the call, if the graph was built so that its Ops can be expanded"""
    needs_grad: frozenset[str] = frozenset()
    """the operands whose gradients autograd computes"""
    fan_in: Mapping[int | None, int] = field(default_factory=dict)
    """index of a result → the number of gradients that meet there"""

    @property
    def target(self) -> str:
        """The qualified name of the callable."""
        return qualified_name(self.call) if self.kind == "call" else self.kind

    @property
    def outputs(self) -> tuple[Spec, ...]:
        """The output Specs, a single one as a tuple of one."""
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
        """Return the output that an Operand's ``index`` means."""
        return self.outputs[index or 0]


@dataclass(frozen=True, slots=True)
class Region:
    """A bracket around Ops: a module, a composite operator, a checkpointed region, or a block that repeats another.

    A repeat is a node of the graph by itself. Its Ops are those of the block that it repeats, under other names.
    """

    kind: RegionKind
    name: str
    path: str
    """the module path"""
    target: str
    """the module's class, or the composite operator"""
    ops: tuple[str, ...]
    """the names of the Ops inside, in the order in which they ran; of a repeat, of the Ops that it repeats"""
    renaming: Renaming | None = None
    """of a repeat: how their names become its own"""
    sources: Mapping[Source, Source] = field(default_factory=dict)
    """of a repeat: for what those Ops read from outside of their block, what it reads instead"""
    results: Mapping[str, str] = field(default_factory=dict)
    """of a repeat: those of ``ops`` whose results are read outside, in order, and their names here"""
