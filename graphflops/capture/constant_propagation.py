"""What Python may ask of a value while nothing has one: constants are computed, and what data decides is assumed.

Fake tensors have shapes and no values. Most code never asks for one; what does ask mostly asks for what follows from
constants (a mask of ones, a range, a small buffer) or from inputs of integers and booleans that were given with their
values (lengths, places, masks), and that is computed, when it is asked for and not before. A random number that is
read is drawn (``graphflops.capture.random_numbers``). Data decides the rest. Of it three things are taken as given,
and a report says where all but the first are:

* numbers are numbers: nothing is infinite or NaN, and a matrix that is factorized has such factors;
* what is chosen by rank (``topk``, ``argmax``, ``sort``) is chosen evenly, so that a loop over experts sees as many
  tokens in all as it would with any data;
* a mask that is asked how many it has, or whether it has any, has all, and its complement none
  (``graphflops.capture.masks``); and numbers that are counted by ``bincount`` are below the least length that it is
  given.

A check, which asks in order to raise, is passed: an answer by which the program stops there and then is the wrong one,
and the trace is made again with the other. No other answer is ever changed. A number that Python only calculates with
may be any. Everything else is refused. Which modules are given rows that were chosen so,
``graphflops.capture.routing`` follows.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch

from graphflops.capture.dtypes import refuse_dtypes
from graphflops.capture.fake_tensors import FakeTensors, FoldingAborted, propagate_nnz
from graphflops.capture.faults import user_location
from graphflops.capture.kernels import Kernels
from graphflops.capture.masks import Masks
from graphflops.capture.provenance import Call, Origins, written_by
from graphflops.capture.python_numbers import any_numbers
from graphflops.capture.random_numbers import Draws
from graphflops.capture.routing import Routing
from graphflops.capture.session import session
from graphflops.capture.tensor_values import Contents, Value, real_execution
from graphflops.capture.value_reads import Place, Question, asked
from graphflops.core.errors import GraphflopsError
from graphflops.core.torch_compat import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    OpOverload,
    UnsupportedOperatorException,
    tree_any,
    tree_leaves,
    tree_map,
)

aten = torch.ops.aten

_DATA_DECIDES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)

LARGEST = 2**26
"""elements of the largest tensor whose values are computed"""
AT_ONCE = 2**22
"""elements of a mask that are computed at a time"""
DEEPEST = 100
"""operations between a question and the constants that answer it"""
NONE_ASSUMED = "taken as none, as others are taken as all"
"""what is said of a mask whose complement has all"""
DRAWN = "a random number decides; drawn from a seed of the analysis's own"
"""what is said of a draw that Python reads"""
OPTIMIZER_STEPS_DONE = 10_006
"""steps of an optimizer before the one that is counted. The next one is a prime: what is done every so many steps, such
as the roots of preconditioners, is not part of it, and a warm-up is over"""
DISTRIBUTIONS_VALID = "the arguments and values of torch.distributions are taken as valid, as they are in a correct run"
"""what is said once of all that torch.distributions validates"""
FINITE = "the gradients are taken as finite, so that the scaler of the step does not skip it"
"""what is said once of ``torch.amp.GradScaler``"""
MAX_ASSUMED_READS = 10_000
"""how often a truth is assumed at one place"""
PASSING = (0.0, 1.0, -1.0, 0.5)
"""numbers that a check is given, one after the other, until one passes"""
WIDEST = 500
"""tensors that are looked through for the masks that a number was made of"""
MOST_ATTEMPTS = 32
"""times that a model is run, each time with one more answer that passes a check"""


_NOWHERE: Mapping[Place, int] = {}


class ConstantPropagation:
    """The values of the tensors of one trace, as far as they follow from constants or are assumed.

    ``flipped_branches`` counts for each check of the program how many of its answers made it raise.

    Operators are run by their kernels, or with ``by_mode`` by the mode of the stand-ins, as a witness does.
    """

    def __init__(
        self, fakes: FakeTensors, flipped_branches: Mapping[Place, int] = _NOWHERE, *, by_mode: bool = False
    ) -> None:
        self.fakes = fakes
        if (here := session()) is not None:
            here.own(self)
        self.flipped_branches = flipped_branches
        self.branch_count = 0
        """how many truths were assumed"""
        self.questions: deque[Question] = deque(maxlen=8)
        """the last ones whose answers were assumed"""
        self.given: dict[int, torch.Tensor] = {}
        """inputs whose values were used"""
        self.masks = Masks(self)
        self.assumed: dict[str, None] = {}
        """what was assumed, in order, once each, after the user's line"""
        self.missing_buffer_values: dict[str, None] = {}
        """buffers that were asked for a value, and have none on the meta device"""
        self.not_given: dict[int, torch.Tensor] = {}
        """inputs that were asked for a value, and were given without data"""
        self.routing = Routing()
        self.where: Callable[[], str] = str
        """the user's line that runs"""
        self.updating: Any = None
        """the optimizer that steps, in which numbers only scale what is done"""
        self.reads_numbers: Callable[[], bool] = bool
        """whether the program is a step or the like, which reads its loss and its outputs to log them"""
        self.value_reads: dict[int, torch.Tensor] = {}
        """tensors whose values were asked for, for whoever clears it to know"""
        self.origins = Origins()
        self.draws = Draws()
        self.contents = Contents(self.origins, self.draws, lambda tensor, before: self._value(tensor, 0, before))
        self._known: dict[tuple[int, int], Value | None] = {}
        self._constants: dict[int, Value] = {}
        self._counts: dict[int, tuple[torch.Tensor, int]] = {}
        self._unknown: dict[int, torch.Tensor] = {}
        self._numbers: Any = None
        self._asked: Counter[str] = Counter()
        self._call = _by_mode if by_mode else Kernels(fakes.mode).run
        self._refuse = _nothing if by_mode else refuse_dtypes

    def run(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: Callable[[], str]) -> Any:
        """The result of an operator on fake tensors, also if its shape or value depends on data.

        Raises:
            DataDependentOutputException, DynamicOutputShapeException: data decides it, and nothing is assumed of it.
        """
        if op is aten._local_scalar_dense.default:
            if self.updating is not None and self._counts_steps(args[0]):
                return OPTIMIZER_STEPS_DONE + 1.0
            if self._is_of_scaler(args[0]):
                self.assumed.setdefault(FINITE)
                return 0.0
            if (value := self.of(args[0]) or self._of_whole_masks(args[0])) is not None:
                return self._answer(value, where)
            if self.updating is None and (question := asked(self.origins.ordinal)).is_check:
                return self._passing(args[0], question, where)
            if args[0].is_floating_point():
                if self.updating is not None:
                    return self._number_of_update(args[0], where)
                return self.assumed_number(where) if self.reads_numbers() else self._some_number()
            if args[0].dtype == torch.bool and self._taken_as_false(where):
                return False
        if op.overloadpacket in _PUT:
            self._count(*args[:3])
        if op in _INDEXED and (indices := self._positions(args[0], args[1], where)) is not None:
            args = (args[0], indices, *args[2:])
        self._refuse(op, args, kwargs)
        self._keep_constants(op, args, kwargs)
        try:
            result = self._call(op, args, kwargs)
        except _DATA_DECIDES:
            result = self._decided(op, args, kwargs, where)
            self.routing.decided(result)
        self.routing.ran(op, args, result)
        self._remember(op, args, kwargs, result)
        return result

    def of(self, tensor: torch.Tensor) -> Value | None:
        """The value of a tensor, if it does not depend on data, or if something is assumed of it."""
        return self._value(tensor, 0)

    def read(self, tensor: torch.Tensor) -> Value | None:
        """The value of a tensor that Python reads as a whole: known, a draw, or in a step also assumed; else None."""
        value = self.of(tensor)
        if value is None or (value.assumed - {"draw"} and not self.reads_numbers()):
            return None
        if value.assumed:
            self._say(value.assumed, self.where)
        return value

    def decide(self, truth: torch.Tensor, where: Callable[[], str] = str) -> bool:
        """Which branch a program takes: the one that follows from constants, else the first."""
        value = self.of(truth)
        if value is None:
            with real_execution():
                value = Value(torch.ones((), dtype=torch.bool), frozenset({"mask"}))
        return bool(self._answer(value, where))

    def mask_nnz(self, mask: torch.Tensor) -> int | None:
        """How many elements of a mask are true, or of one that is added above the least number; None if data decides.

        A mask that is the same for a whole batch is looked at once.
        """
        seen = mask
        while (made := self.origins.of(seen)) is not None and made.op.overloadpacket is aten.expand:
            seen = made.args[0]
        passing = 0
        rows = seen.shape[-2] if seen.dim() > 1 else 1
        step = max(1, AT_ONCE * rows // max(1, seen.numel()))  # a large mask is not there as a whole at any time
        for start in range(0, rows, step):
            value = self._rows_of(seen, slice(start, min(rows, start + step)))
            if value is None or value.assumed:
                return None
            with real_execution():
                real = value.tensor
                through = real if real.dtype == torch.bool else real > torch.finfo(real.dtype).min
                passing += int(through.count_nonzero())
        return passing * (mask.numel() // max(1, seen.numel()))

    def _rows_of(self, tensor: torch.Tensor, rows: slice) -> Value | None:
        """Some rows of a tensor's value: where an operator on elements made it, of the values that it was made of."""
        made = self._look_at(tensor)
        if made is None or tensor.numel() <= AT_ONCE or torch.Tag.pointwise not in made.op.tags:
            value = self._value(tensor, 0)
            if value is None or tensor.dim() < 2 or tensor.shape[-2] == 1:
                return value
            with real_execution():
                return Value(value.tensor[..., rows, :], value.assumed)
        if self.origins.last_write(tensor) >= made.ordinal:
            return None
        values = [self._rows_of(each, rows) for each in tree_leaves((made.args, made.kwargs)) if torch.is_tensor(each)]
        of = iter(values)
        if made.op._schema.is_mutable or None in values:
            return None

        def real(each: Any) -> Any:
            value = next(of) if torch.is_tensor(each) else None
            return each if value is None else value.tensor

        with real_execution():
            result = made.op(*tree_map(real, made.args), **tree_map(real, dict(made.kwargs)))
        return Value(result, frozenset().union(*(each.assumed for each in values if each is not None)))

    def _look_at(self, tensor: torch.Tensor) -> Call | None:
        """How a tensor was made; whoever repeats this block has to have the same one."""
        if id(tensor) in self._unknown:
            raise FoldingAborted
        self.value_reads[id(tensor)] = tensor
        return self.origins.of(tensor)

    def copied(self, tensor: torch.Tensor, value: Value) -> None:
        """Say what a tensor holds."""
        self.origins.given(tensor)
        self._known[id(tensor), 0] = value

    # -- answers -------------------------------------------------------------------------------------------------

    def _answer(self, value: Value, where: Callable[[], str]) -> Any:
        with real_execution():
            answer = value.tensor.item()
        if not value.assumed:
            return answer
        if value.assumed == {"draw"}:
            self._say(value.assumed, where)
            return answer
        question = asked(self.origins.ordinal)
        is_flipped = question.place in self.flipped_branches
        if isinstance(answer, bool):
            self.questions.append(question)
            self.branch_count += 1
            if question.is_of_distributions:
                self.assumed.setdefault(DISTRIBUTIONS_VALID)
            else:
                self._assume(where, f"whether; taken as {answer ^ is_flipped}")
            return answer ^ is_flipped
        if "mask" in value.assumed and question.is_check:
            self.questions.append(question)
            answer = type(answer)(0) if is_flipped else answer
        self._say(value.assumed, where, some=bool(answer))
        return answer

    def stopped_by(self, error: Exception) -> list[Question]:
        """The questions whose answers may have made the program raise this, the last one first."""
        cause = error.__cause__ if isinstance(error, GraphflopsError) and error.__cause__ is not None else error
        return [each for each in reversed(self.questions) if each.is_answered_by(cause, self.origins.ordinal)]

    def _of_whole_masks(self, tensor: torch.Tensor) -> Value | None:
        """A number that is counted from masks, such as a place in a queue, as if these had all; None if it is not."""
        made = self.origins.of(tensor)
        number = made.args[0] if made is not None and made.args and tensor.dtype == torch.bool else tensor
        if not torch.is_tensor(number) or number.dtype not in _WHOLE or not (masks := self._masks_of(number)):
            return None
        known, regions = dict(self._known), self.masks.regions
        for each in masks:
            self._suppose(each)
        value = self.of(tensor)
        if value is None:  # and nothing is assumed for nothing
            self._known, self.masks.regions = known, regions
        return value

    def _masks_of(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The masks of unknown truth that a number was made of."""
        found, seen, ahead = [], {id(tensor)}, [tensor]
        while ahead and len(seen) < WIDEST:
            each = ahead.pop()
            if each.dtype == torch.bool:
                found.append(each)
                continue
            made = self.origins.of(each)
            calls = [*([made] if made is not None else ()), *self.origins.writes(each)]
            operands = [part for call in calls for part in tree_leaves((call.args, dict(call.kwargs)))]
            for part in operands:
                if torch.is_tensor(part) and id(part) not in seen and self.of(part) is None:
                    seen.add(id(part))
                    ahead.append(part)
        return found

    def _passing(self, tensor: torch.Tensor, question: Question, where: Callable[[], str]) -> Any:
        """A truth or a number that a check asks for: one by which it does not raise."""
        if tensor.dtype == torch.bool:
            with real_execution():
                return self._answer(Value(torch.ones((), dtype=torch.bool), frozenset({"check"})), where)
        self.questions.append(replace(question, answers=len(PASSING)))
        self.branch_count += 1
        self._assume(where, "a number that is checked; taken as one that passes")
        number = PASSING[self.flipped_branches.get(question.place, 0)]
        return number if tensor.is_floating_point() else int(number)

    def _passes(self) -> bool | None:
        """What a comparison of numbers comes to that a check makes; None if it is not one."""
        if not asked(self.origins.ordinal).is_check:
            return None
        with real_execution():
            return bool(self._answer(Value(torch.ones((), dtype=torch.bool), frozenset({"check"})), self.where))

    def _some_number(self) -> Any:
        """A number that Python may calculate with; PyTorch refuses to take a size from it, or to compare it."""
        self._numbers = self._numbers or any_numbers(self._passes)
        return self._numbers.create_unbacked_symfloat()

    def _say(self, assumed: frozenset[str], where: Callable[[], str], *, some: bool = True) -> None:
        """Say what a number was taken for."""
        if "draw" in assumed:
            self.assumed.setdefault(f"{where()}: {DRAWN}")
        if assumed != {"draw"}:
            self._assume(where, _HOW["rank" if "rank" in assumed else "mask" if some else "none"])

    def _is_of_scaler(self, tensor: torch.Tensor) -> bool:
        """Whether it is what the scaler of a step found: how many gradients were not finite."""
        writes = self.origins.writes(tensor)
        return bool(writes) and writes[-1].op is aten._amp_foreach_non_finite_check_and_unscale_.default

    def _counts_steps(self, tensor: torch.Tensor) -> bool:
        """Whether it is how an optimizer that steps counts its steps."""
        states = getattr(self.updating, "state", {}).values()
        return any(isinstance(state, dict) and state.get("step") is tensor for state in states)

    def _number_of_update(self, tensor: torch.Tensor, where: Callable[[], str]) -> float:
        """A number that an update is scaled by."""
        self._assume(where, "a number that an update is scaled by; taken as ½")
        return 0.5  # of which there is an inverse, a root, and one less it

    def _taken_as_false(self, where: Callable[[], str]) -> bool:
        """Whether a truth that a step asks for is assumed: so often that it is no loop that waits for it."""
        self._asked[where()] += 1
        if self.updating is not None or not self.reads_numbers() or self._asked[where()] > MAX_ASSUMED_READS:
            return False
        self._assume(where, "whether; taken as False")
        return True

    def assumed_number(self, where: Callable[[], str]) -> float:
        """A number that a step reads."""
        self._assume(where, "a number that the step reads; taken as ½")
        return 0.5

    def _assume(self, where: Callable[[], str], what: str) -> None:
        self.assumed.setdefault(f"{where()}: data decides {what}")

    def _decided(self, op: OpOverload, args: Any, kwargs: Any, where: Callable[[], str]) -> Any:
        """The result of an operator whose shape data decides: computed, if its operands are known, or the largest."""
        if op._schema.name == "aten::masked_select":
            return self._selected(args[0], args[1], where)
        value = self._computed(op, args, kwargs, 0)
        if value is None and op.overloadpacket in _COMPARING:
            return self._compared(args[0], args[1], where)
        if value is None and op._schema.name == "aten::nonzero" and self._count_of(args[0]) is None:
            self._suppose_some(args[0])
            value = self._computed(op, args, kwargs, 0)
        if value is not None:
            found, assumed = value
            if assumed:
                has_any = not torch.is_tensor(found) or found.numel()
                self._say(assumed, where, some=bool(has_any))
            if not tree_any(torch.is_tensor, found):
                return found
            return tree_map(lambda each: self._fake(each, assumed) if torch.is_tensor(each) else each, found)
        if op is aten._pack_padded_sequence.default and (lengths := self.of(args[1])) is not None:
            return self._packed(args[0], lengths.tensor, *args[2:])
        largest = _LARGEST_RESULTS.get(op._schema.name)
        if largest is None or (largest is _below_the_least_length and not _least_length(*args, **kwargs)):
            return op(*args, **kwargs)
        self._assume(where, _HOW["range" if largest is _below_the_least_length else "mask"])
        return largest(self, *args, **kwargs)

    def _compared(self, one: torch.Tensor, other: torch.Tensor, where: Callable[[], str]) -> bool:
        """Whether tensors are equal, or nearly: those of one shape, unless a check raises on that."""
        if one is other or (one.shape != other.shape):
            return one is other
        with real_execution():
            return bool(self._answer(Value(torch.ones((), dtype=torch.bool), frozenset({"check"})), where))

    def _selected(self, of: torch.Tensor, mask: torch.Tensor, where: Callable[[], str]) -> torch.Tensor:
        """As many elements as a mask has, which may be a row for all, or a mask of all rows for one."""
        shape = torch.broadcast_shapes(of.shape, mask.shape)  # type: ignore[no-untyped-call]
        times = math.prod(shape) // max(1, mask.numel())
        many, assumed = self._how_many(mask)
        if assumed:
            self._say(assumed, where, some=bool(many))
        return self.fakes.make((many * times,), None, of.dtype)

    def _how_many(self, mask: torch.Tensor) -> tuple[int, frozenset[str]]:
        """How many elements of a mask are true, and what was assumed to know it."""
        if (many := self._count_of(mask)) is not None:
            return many, frozenset()
        if (value := self.of(mask)) is None:
            self._suppose_some(mask)
            value = self.of(mask)
        if value is None:
            return mask.numel(), frozenset({"mask"})
        with real_execution():
            if value.is_uniform:
                return mask.numel() * bool(mask.numel() and _one(value.tensor)), value.assumed
            return int(value.tensor.count_nonzero()), value.assumed

    def _count_of(self, mask: torch.Tensor) -> int | None:
        """How many a mask has, if something that was written to where it is true told, or where it is not."""
        if id(mask) in self._counts:
            return self._counts[id(mask)][1]
        made = self.made_by(mask)
        if made is not None and made[0].overloadpacket in (aten.logical_not, aten.bitwise_not):
            inner = self._counts.get(id(made[1][0]))
            return None if inner is None else mask.numel() - inner[1]
        return None

    def _suppose_some(self, mask: torch.Tensor) -> None:
        """Assume of a mask that is asked where it is true that it has all; none, if a check raises on that."""
        question = asked(self.origins.ordinal)
        if question.is_check:
            self.questions.append(question)
        self._suppose(mask, not (question.is_check and question.place in self.flipped_branches))

    def _suppose(self, mask: torch.Tensor, truth: bool = True) -> None:
        """Assume that a mask has all, or what can be all of it; what is now known was not before."""
        self.masks.assume(mask, truth)
        self._known = {name: value for name, value in self._known.items() if value is not None}
        self.contents.forget()

    def _packed(self, padded: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> Any:
        """Sequences of known lengths, one step of all of them after the other; what recurrent layers read are real."""
        with real_execution():
            sizes = torch.stack([(lengths > step).sum() for step in range(int(lengths.max()))])
            steps = int(sizes.sum())
        return self.fakes.make((steps, *padded.shape[2:]), None, padded.dtype), self.fakes.keep_real(sizes)

    def _fake(self, real: torch.Tensor, assumed: frozenset[str]) -> torch.Tensor:
        fake = self.fakes.make(real.shape, None, real.dtype)
        self.copied(fake, Value(real, assumed))
        return fake

    def _positions(self, of: torch.Tensor, indices: Any, where: Callable[[], str]) -> list[Any] | None:
        """Indices with the masks among them as the positions at which they are true; None if there are no masks.

        Raises:
            IndexError: a mask is not of the shape of what it chooses of, in PyTorch's words.
        """
        if not any(torch.is_tensor(each) and each.dtype in (torch.bool, torch.uint8) for each in indices):
            return None
        found: list[Any] = []
        for place, each in enumerate(indices):
            if torch.is_tensor(each) and each.dtype in (torch.bool, torch.uint8):
                axes = of.shape[len(found) : len(found) + each.dim()]
                if each.dim() and axes != each.shape:
                    raise IndexError(
                        f"The shape of the mask {list(each.shape)} at index {place} does not match the shape of the "
                        f"indexed tensor {list(of.shape)} at index {len(found)}"
                    )
                positions = self.run(aten.nonzero.default, (each,), {}, where)
                found += self.run(aten.unbind.int, (positions, 1), {}, where)
            else:
                found.append(each)
        return found

    def _count(self, written: torch.Tensor, indices: Any, values: torch.Tensor) -> None:
        """``x[mask] = y`` tells how many the mask chooses, if y has a row for each."""
        places = [axis for axis, each in enumerate(indices) if each is not None]
        mask = indices[places[0]]
        if len(places) == 1 and mask.dtype == torch.bool and values.dim() == written.dim() - mask.dim() + 1:
            self._counts[id(mask)] = mask, values.shape[places[0]]

    # -- what is known -------------------------------------------------------------------------------------------

    def _remember(self, op: OpOverload, args: Any, kwargs: Any, result: Any) -> None:
        if op in _SAME_NUMBERS:
            propagate_nnz(result, args[0])
        self.origins.remember(op, tuple(args), kwargs, result)

    def _keep_constants(self, op: OpOverload, args: Any, kwargs: Any) -> None:
        """What constants hold that are written to now, and that their mode forgets."""
        for each in written_by(op, args, kwargs):
            root = self.origins.root_of(each)
            if isinstance(root, FakeTensor) and root.constant is not None and id(root) not in self._constants:
                with real_execution():
                    self._constants[id(root)] = Value(root.constant.clone())

    def mark_unknown(self, tensor: torch.Tensor) -> None:
        """Say of a tensor that nobody knows how it was made: whoever asks for its value gets ``FoldingAborted``."""
        self._unknown[id(tensor)] = tensor

    def made_by(self, tensor: torch.Tensor) -> tuple[OpOverload, tuple[Any, ...], Mapping[str, Any]] | None:
        """The operator that made a tensor, and on what; None if that is not known, or written over since."""
        made = self.origins.made_by(tensor) if id(tensor) not in self._unknown else None
        return None if made is None else (made.op, made.args, made.kwargs)

    def version_of(self, tensor: torch.Tensor) -> int:
        """A number that is another one after the memory of a tensor was written to."""
        return self.origins.last_write(tensor)

    def number_in(self, tensor: torch.Tensor) -> float | None:
        """The number that all elements of a tensor are, as far as constants tell."""
        value = self.of(tensor)
        if value is None or value.assumed or not value.tensor.numel() or value.tensor.is_complex():
            return None
        with real_execution():
            first = value.tensor.flatten()[0]
            return float(first) if value.is_uniform or bool((value.tensor == first).all()) else None

    def _value(self, tensor: torch.Tensor, depth: int, before: int | None = None) -> Value | None:
        """The value of a tensor now, or before a call."""
        made = self._look_at(tensor)
        writes = len(self.origins.writes(tensor, before))
        if (key := (id(tensor), writes)) not in self._known:
            self.origins.given(tensor)
            found = self.contents.of(tensor, before) if writes else self._found(tensor, made, depth)
            self._known[key] = found
        return self._known[key]

    def _found(self, tensor: torch.Tensor, made: Call | None, depth: int) -> Value | None:
        held = self.fakes.known_values(tensor)
        if held is not None and held.is_meta:
            self.missing_buffer_values.setdefault(self.fakes.name_of(tensor) or "")
            return None
        if held is not None:
            if self.fakes.is_input(tensor):
                self.given.setdefault(id(tensor), tensor)
            with real_execution():
                return Value(held.cpu()) if held.numel() <= LARGEST else None
        if self.fakes.is_input_without_values(tensor):
            self.not_given.setdefault(id(tensor), tensor)
        if not isinstance(tensor, FakeTensor):
            return Value(tensor)
        if (constant := self._constants.get(id(tensor))) is not None:
            return constant
        if tensor.constant is not None:
            with real_execution():
                return Value(tensor.constant.clone())  # which its mode writes to
        if depth > DEEPEST:
            return None
        if made is None or (made.op is aten.alias.default and not made.args):  # it was not made, but given
            return self._assumed_of(tensor)
        packet = made.op.overloadpacket
        if (truth := _of_any_number(packet, made.args)) is not None:
            with real_execution():
                return Value(torch.tensor(truth).expand(tensor.shape), frozenset({"number"}))
        if (fill := _FILLS.get(packet)) is not None:
            number = fill if isinstance(fill, int) else made.args[fill.place]
            if torch.is_tensor(number):
                return None
            with real_execution():
                return Value(torch.tensor(number, dtype=tensor.dtype).expand(tensor.shape))
        by_rank = packet in _BY_RANK
        if by_rank and made.args[0].is_floating_point() and (evenly := _evenly(tensor, made)) is not None:
            return evenly
        found = self._computed(made.op, made.args, made.kwargs, depth + 1, tensor.shape, made.ordinal)
        if found is None and by_rank and (evenly := _evenly(tensor, made)) is not None:
            return evenly
        if found is None and _SUCCEEDS.get(packet) == made.index:
            with real_execution():
                return Value(torch.zeros(tensor.shape, dtype=tensor.dtype))
        if found is None:
            return self._of_a_mask(tensor, made)
        result, assumed = found
        if packet in _WHETHER_ANY and "mask" in assumed and "rank" not in assumed:
            with (
                real_execution()
            ):  # of two masks that are complements both may have some, and what is done to these is done
                return Value(torch.ones((), dtype=torch.bool).expand(tensor.shape), assumed)
        part = result[made.index] if isinstance(result, (tuple, list)) else result
        return Value(part, assumed) if torch.is_tensor(part) else None

    def _assumed_of(self, mask: torch.Tensor) -> Value | None:
        """What all elements of a mask were assumed to be, of itself or of the numbers that it is made of."""
        truth = self.masks.truth(mask) if mask.dtype == torch.bool else None
        if truth is None:
            return None
        with real_execution():
            return Value(torch.tensor(truth).expand(mask.shape), frozenset({"mask"}))

    def _of_a_mask(self, tensor: torch.Tensor, made: Call) -> Value | None:
        """What was assumed of a mask; whether one has any, or all, or how many: all of it."""
        if (assumed := self._assumed_of(tensor)) is not None:
            return assumed
        mask = made.args[0] if made.args and torch.is_tensor(made.args[0]) else None
        if made.op.overloadpacket not in _OF_MASKS or mask is None or mask.dtype != torch.bool or not tensor.numel():
            return None
        many = 1 if tensor.dtype == torch.bool else mask.numel() // tensor.numel()
        if made.op.overloadpacket not in _WHETHER_ANY:
            self._suppose(mask)
            if self.of(mask) is not None and (computed := self._computed(made.op, made.args, made.kwargs, 1)):
                return Value(*computed)
        with real_execution():
            return Value(torch.tensor(many).to(tensor.dtype).expand(tensor.shape), frozenset({"mask"}))

    def _computed(
        self,
        op: OpOverload,
        args: Any,
        kwargs: Any,
        depth: int,
        shape: torch.Size | None = None,
        before: int | None = None,
    ) -> tuple[Any, frozenset[str]] | None:
        """The result of an operator on known values, computed; None if one is not known, or it is too large."""
        if op._schema.is_mutable:
            return None
        if op.namespace != "aten" or op.overloadpacket in _EMPTY:
            return None
        if op.overloadpacket in _SHAPED_LIKE:  # whatever that holds
            with real_execution():
                args = (torch.empty((), dtype=args[0].dtype).expand(args[0].shape), *args[1:])
        evenly: frozenset[str] = frozenset()
        if op.overloadpacket in _BY_CHANCE and args[0].numel() <= LARGEST and not self._value(args[0], depth, before):
            evenly = frozenset({"rank"})
            with real_execution():  # nobody knows how likely each is, and something is drawn
                args = (torch.full(args[0].shape, 0.5), *args[1:])
        values: list[Value] = []
        for each in tree_leaves((args, kwargs)):
            if torch.is_tensor(each):
                value = self._value(each, depth, before)
                if value is None:
                    return None
                values.append(value)
        uniform = bool(values) and all(each.is_uniform for each in values)
        of = iter(values)

        def real(each: Any) -> Any:
            if not torch.is_tensor(each):
                return torch.device("cpu") if isinstance(each, torch.device) else each
            value = next(of)
            return _one(value.tensor) if uniform and pointwise else value.tensor

        is_drawn = torch.Tag.nondeterministic_seeded in op.tags
        pointwise = shape is not None and torch.Tag.pointwise in op.tags and not is_drawn
        small = all(math.prod(each) <= LARGEST for each in (*(value.shape for value in values), shape or ()))
        if not (small or (uniform and (pointwise or op.overloadpacket in _UNCHANGED))):
            return None
        assumed = evenly.union(*(each.assumed for each in values)) - {"number"}
        with real_execution():
            if uniform and op.overloadpacket in _UNCHANGED and not small:
                return _one(values[0].tensor).to(values[0].tensor.dtype).expand(shape or ()), assumed
            real_args, real_kwargs = tree_map(real, (args, dict(kwargs)))
            if is_drawn:
                return self._drawn(op, real_args, real_kwargs, assumed)
            result = op(*real_args, **real_kwargs)
            if uniform and pointwise and torch.is_tensor(result) and shape is not None:
                result = result.expand(shape)
        return (result, assumed) if result is not None else None

    def _drawn(
        self, op: OpOverload, args: Any, kwargs: Any, assumed: frozenset[str]
    ) -> tuple[Any, frozenset[str]] | None:
        """What an operator draws by the analysis's own generator; None if it can not be told to."""
        result = self.draws.run(op, args, kwargs)
        return None if result is None else (result, assumed | {"draw"})


def _by_mode(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return op(*args, **kwargs)


def _nothing(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None: ...


Found = TypeVar("Found")


def retry_with_branches_flipped(
    fresh: Callable[[Mapping[Place, int]], ConstantPropagation],
    attempt: Callable[[ConstantPropagation], Found],
    failure: type[Exception],
) -> Found:
    """Run a model; where it raises because of a truth that was assumed, once more with that one taken as false.

    A check of the kind ``if (variance < 0).any(): raise`` is passed this way, and no other answer is changed. What
    fails in any other way raises what it raised last, which is no such check; of a line that raises anyway the first.
    """
    flipped: Counter[Place] = Counter()
    first: Exception | None = None
    for _ in range(MOST_ATTEMPTS):
        values = fresh(flipped.copy())
        try:
            return attempt(values)
        except failure as error:
            if first is None or user_location(error.__cause__) != user_location(first.__cause__):
                first = error
            open_ones = (each for each in values.stopped_by(error) if flipped[each.place] < each.answers - 1)
            if (question := next(open_ones, None)) is None:
                break
            flipped[question.place] += 1
    assert first is not None
    raise first


def _one(tensor: torch.Tensor) -> torch.Tensor:
    """The one element of a uniform tensor."""
    return tensor.as_strided((), ()) if tensor.numel() else tensor


def _of_any_number(packet: Any, args: Any) -> bool | None:
    """What is so for every number that is one, neither infinite nor NaN: it equals itself, and not infinity."""
    truth = _NUMBERS_ARE_NUMBERS.get(packet)
    if packet not in (aten.eq, aten.ne) or args[0] is args[1]:
        return truth
    return not truth if isinstance(args[1], float) and not math.isfinite(args[1]) else None


def _evenly(tensor: torch.Tensor, made: Call) -> Value | None:
    """Ranks as if every row chose the next ones: as many of each, and no one twice in a row."""
    scores, several = made.args[0], len(made.op._schema.returns) > 1
    dim = _BY_RANK[made.op.overloadpacket](made.args, made.kwargs)
    if made.index != several or dim is None or not scores.dim() or tensor.numel() > LARGEST:
        return None
    many = scores.shape[dim]
    kept = tensor.dim() == scores.dim()
    chosen = tensor.shape[dim] if kept else 1
    rest = [size for axis, size in enumerate(scores.shape) if axis != dim % scores.dim()]
    with real_execution():
        even = (torch.arange(math.prod(rest) * chosen) % many).reshape(*rest, chosen)
        even = even.movedim(-1, dim) if kept else even.squeeze(-1)
    return Value(even, frozenset({"rank"}))


def _dim(place: int, default: int | None) -> Callable[[Any, Any], int | None]:
    def find(args: Any, kwargs: Any) -> int | None:
        found: int | None = args[place] if len(args) > place else kwargs.get("dim", default)
        return found

    return find


def _stable_dim(args: Any, kwargs: Any) -> int | None:
    if "dim" in kwargs:
        return int(kwargs["dim"])
    return next((each for each in args[1:] if isinstance(each, int) and not isinstance(each, bool)), -1)


_NUMBERS_ARE_NUMBERS: Mapping[Any, bool] = {
    aten.isnan: False,
    aten.isinf: False,
    aten.isposinf: False,
    aten.isneginf: False,
    aten.isfinite: True,
    aten.eq: True,
    aten.ne: False,  # x == x, which is how PyTorch asks
}
_SUCCEEDS: Mapping[Any, int] = {
    aten.linalg_cholesky_ex: 1,
    aten.linalg_inv_ex: 1,
    aten.linalg_solve_ex: 1,
    aten.linalg_lu_factor_ex: 2,
    aten.linalg_ldl_factor_ex: 2,
    aten._linalg_solve_ex: 3,
}
"""factorizations that say whether they succeeded, and which of their results does: 0 in a run that goes well"""
_BY_RANK: Mapping[Any, Callable[[Any, Any], int | None]] = {
    aten.topk: _dim(2, -1),
    aten.sort: _stable_dim,
    aten.argsort: _stable_dim,
    aten.argmax: _dim(1, None),
    aten.argmin: _dim(1, None),
    aten.max: _dim(1, None),
    aten.min: _dim(1, None),
}


class _Place(NamedTuple):
    """Where among its arguments a factory is told what to fill with."""

    place: int


_FILLS: Mapping[Any, int | _Place] = {
    aten.ones: 1,
    aten.ones_like: 1,
    aten.new_ones: 1,
    aten.zeros: 0,
    aten.zeros_like: 0,
    aten.new_zeros: 0,
    aten.full: _Place(1),
    aten.full_like: _Place(1),
    aten.new_full: _Place(2),
}
"""what is made with one number everywhere, of any size, and after whatever it is shaped like"""
_SAME_NUMBERS = (aten.t.default, aten.transpose.int, aten.detach.default, aten.alias.default)
_HOW = {
    "rank": "which; taken evenly",
    "mask": "how many; taken as all",
    "none": f"how many; {NONE_ASSUMED}",
    "range": "up to where; taken as the least length",
}
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_COMPARING = (aten.equal, aten.allclose)
"""what compares tensors, and answers at once"""
_WHETHER_ANY = (aten.any, aten._is_any_true)
_OF_MASKS = (*_WHETHER_ANY, aten.all, aten._is_all_true, aten.sum, aten.count_nonzero)
_UNCHANGED = (aten.any, aten.all, aten.amax, aten.amin, aten.max, aten.min, aten.expand, aten.view, aten.reshape)
"""of elements that are all the same, each result is one of them"""
_SHAPED_LIKE = (aten.rand_like, aten.randn_like, aten.randint_like)
_BY_CHANCE = (aten.multinomial, aten.bernoulli)
_EMPTY = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)
_PUT = (aten.index_put, aten.index_put_, aten._index_put_impl_)
_INDEXED = (aten.index.Tensor, aten._unsafe_index.Tensor)


def _all_positions(values: ConstantPropagation, self: torch.Tensor) -> Any:
    """The positions of a mask that is true everywhere."""
    if (many := values._count_of(self)) is not None:
        return values.fakes.make((many, self.dim()), None, torch.int64)
    fake = values.fakes.make((self.numel(), self.dim()), None, torch.int64)
    if self.numel() * max(self.dim(), 1) <= LARGEST:
        with real_execution():
            values.copied(fake, Value(torch.ones(self.shape, dtype=torch.bool).nonzero(), frozenset({"mask"})))
    return fake


def _all_different(values: ConstantPropagation, self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    n = self.numel()
    make = values.fakes.make
    return make((n,), None, self.dtype), make(self.shape, None, torch.int64), make((n,), None, torch.int64)


def _all_rows_different(
    values: ConstantPropagation, self: torch.Tensor, dim: int = 0, *args: Any, **kwargs: Any
) -> Any:
    n = self.shape[dim]
    make = values.fakes.make
    return make(self.shape, None, self.dtype), make((n,), None, torch.int64), make((n,), None, torch.int64)


def _all_kept(values: ConstantPropagation, boxes: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return values.fakes.make((boxes.shape[0],), None, torch.int64)


def _least_length(self: torch.Tensor, weights: torch.Tensor | None = None, minlength: int = 0) -> int:
    return minlength


def _below_the_least_length(values: ConstantPropagation, self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    weights = next((each for each in (*args, *kwargs.values()) if torch.is_tensor(each)), None)
    dtype = torch.int64 if weights is None else weights.dtype if weights.dtype == torch.float32 else torch.float64
    return values.fakes.make((_least_length(self, *args, **kwargs),), None, dtype)


_LARGEST_RESULTS: dict[Any, Callable[..., Any]] = {
    "aten::nonzero": _all_positions,
    "aten::_unique2": _all_different,
    "aten::unique_dim": _all_rows_different,
    "aten::unique_consecutive": _all_different,
    "torchvision::nms": _all_kept,
    "aten::bincount": _below_the_least_length,
}
"""Operator → its result when everything is chosen and everything is different."""
