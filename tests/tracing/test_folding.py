"""Blocks of equal structure are looked at once, and the report is the same as if each had been."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from graphflops import Report, analyze
from graphflops.report.json_format import dumps
from graphflops.tracing.tracer import Tracer

WIDTH = 8


class Block(nn.Module):
    """A feed-forward network with a residual, and a number of its own that ``number`` says what to do with."""

    def __init__(self, index: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.index = index
        self.norm, self.dropout = nn.LayerNorm(WIDTH), nn.Dropout(dropout)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.down(F.gelu(self.up(self.norm(x)))))


class ReadsItsNumber(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.index % 2 else super().forward(x.tanh())


class AsksForItsNumber(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2.0 if getattr(self, "index", 0) > 1 else 1.0)


class CountsItsCalls(Block):
    def forward(self, x: Tensor) -> Tensor:
        self.index += 1
        return super().forward(x) if self.index < 3 else x.sin()


class Remembers(Block):
    def forward(self, x: Tensor) -> Tensor:
        self.__dict__["last"] = x
        return super().forward(x)


class RemembersInAList(Block):
    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(1)
        return super().forward(x)


class WritesToItsInput(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


class ReturnsAView(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(0, 1)


class ReturnsItsInput(Block):
    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        return x


class ReturnsTwo(Block):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = super().forward(x)
        return y, y.exp()


class WithoutGrad(Block):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class Detaches(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class AsksForAValue(Block):
    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.register_buffer("on", torch.tensor(index % 2 == 0))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.on else x.sin()


class SaysItsLayout(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clone(memory_format=torch.contiguous_format)


class RunsItselfAgain(Block):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)


class MakesAModule(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.Softmax(dim=-1)(x))


class KeepsAModuleThatItMakes(Block):
    def forward(self, x: Tensor) -> Tensor:
        before, KEPT["module"] = KEPT["module"], nn.Softmax(dim=-1)
        return super().forward(KEPT["module"](x)) if before is None else x.sin()


class WritesToAModuleOfNobody(Block):
    def forward(self, x: Tensor) -> Tensor:
        KEPT["counter"].count = getattr(KEPT["counter"], "count", 0) + 1
        return super().forward(x) if KEPT["counter"].count < 3 else x.sin()


KEPT: dict[str, Any] = {"module": None, "counter": nn.Identity()}


class Counter:
    """A plain object that blocks share."""

    def __init__(self) -> None:
        self.calls = 0


class CountsInItsClass(Block):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return super().forward(x) if self.calls < 3 else x.sin()


class CountsInAGlobal(Block):
    def forward(self, x: Tensor) -> Tensor:
        global calls
        calls += 1
        return super().forward(x) if calls < 3 else x.sin()


class CountsInAGlobalList(Block):
    def forward(self, x: Tensor) -> Tensor:
        CALLS.append(self.index)
        return super().forward(x) if len(CALLS) < 3 else x.sin()


class CountsInAGlobalObject(Block):
    def forward(self, x: Tensor) -> Tensor:
        COUNTER.calls += 1
        return super().forward(x) if COUNTER.calls < 3 else x.sin()


class CountsInAnObject(Block):
    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def forward(self, x: Tensor) -> Tensor:
        self.counter.calls += 1
        return super().forward(x) if self.counter.calls < 3 else x.sin()


class WithPartsThatCount(Block):
    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.norm = nn.Sequential(CountsInAnObject(counter))


calls = 0
CALLS: list[int] = []
COUNTER = Counter()


class WithRunningStatistics(Block):
    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.norm = nn.BatchNorm1d(WIDTH)


BLOCKS: list[Callable[[int], nn.Module]] = [
    Block,
    ReadsItsNumber,
    AsksForItsNumber,
    CountsItsCalls,
    Remembers,
    RemembersInAList,
    WritesToItsInput,
    ReturnsAView,
    ReturnsItsInput,
    WithoutGrad,
    Detaches,
    AsksForAValue,
    RunsItselfAgain,
    MakesAModule,
    KeepsAModuleThatItMakes,
    WritesToAModuleOfNobody,
    WithRunningStatistics,
    lambda index: Block(dropout=0.1 * (index % 2)),
    lambda index: nn.Sequential(Block(index), nn.ReLU(inplace=True)),
    lambda index: nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, batch_first=True),
]


class Stack(nn.Module):
    """Blocks one after the other, between a projection and a head."""

    def __init__(self, blocks: list[nn.Module], run: Callable[[Stack, Tensor], Any] | None = None) -> None:
        super().__init__()
        self.inlet, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.ModuleList(blocks)
        self.run = run or one_after_the_other

    def forward(self, x: Tensor) -> Any:
        return self.run(self, self.inlet(x))


def one_after_the_other(stack: Stack, x: Tensor) -> Any:
    for block in stack.blocks:
        x = block(x)
    return stack.head(x)


def collected(stack: Stack, x: Tensor) -> Any:
    states = [x]
    for block in stack.blocks:
        states.append(block(states[-1]))
    return stack.head(states[-1]), states


def only_some_lead_anywhere(stack: Stack, x: Tensor) -> Any:
    for i, block in enumerate(stack.blocks):
        y = block(x)
        x = y if i % 2 else x
    return stack.head(x)


def around_again(stack: Stack, x: Tensor) -> Any:
    return one_after_the_other(stack, stack.blocks[-1](one_after_the_other_without_head(stack, x)))


def one_after_the_other_without_head(stack: Stack, x: Tensor) -> Tensor:
    for block in stack.blocks:
        x = block(x)
    return x


def checkpointed(stack: Stack, x: Tensor) -> Any:
    for i, block in enumerate(stack.blocks):
        x = checkpoint(block, x, use_reentrant=False) if i % 2 else block(x)
    return stack.head(x)


def all_checkpointed(reentrant: bool) -> Callable[[Stack, Tensor], Any]:
    def run(stack: Stack, x: Tensor) -> Any:
        for block in stack.blocks:
            x = checkpoint(block, x, use_reentrant=reentrant)
        return stack.head(x)

    return run


def checkpointed_with_what_follows(stack: Stack, x: Tensor) -> Any:
    for block in stack.blocks:
        x = checkpoint(lambda x, block=block: block(x).sin(), x, use_reentrant=False)
    return stack.head(x)


def checkpointed_by_two(stack: Stack, x: Tensor) -> Any:
    return stack.head(checkpoint_sequential(list(stack.blocks), 2, x, use_reentrant=False))


def partly_without_grad(stack: Stack, x: Tensor) -> Any:
    for i, block in enumerate(stack.blocks):
        with torch.set_grad_enabled(i != 1 and torch.is_grad_enabled()):
            x = block(x)
    return stack.head(x)


def under_autocast(stack: Stack, x: Tensor) -> Any:
    for i, block in enumerate(stack.blocks):
        with torch.autocast("cpu", enabled=i > 1):
            x = block(x.float())
    return stack.head(x.float())


def penalized(stack: Stack, x: Tensor) -> Any:
    return one_after_the_other(stack, x).sum() + sum(
        parameter.square().sum() for parameter in stack.blocks.parameters()
    )


def other_widths(stack: Stack, x: Tensor) -> Any:
    for i, block in enumerate(stack.blocks):
        x = block(x[: 8 - i])
    return stack.head(x)


def written_to(stack: Stack, x: Tensor) -> Any:
    for block in stack.blocks:
        x = block(x)
        x += 1
    return stack.head(x)


def is_even(stack: Stack, x: Tensor) -> Any:
    for block in stack.blocks:
        x = block(x)
        if (x != x).any():
            x = x.sin()
    return stack.head(x)


def by_their_parts(stack: Stack, x: Tensor) -> Any:
    for block in stack.blocks:
        x = x + block.up(block.norm(x))[..., :WIDTH] if hasattr(block, "up") else block(x)
    return stack.head(x)


RUNS = [
    one_after_the_other,
    collected,
    only_some_lead_anywhere,
    around_again,
    checkpointed,
    all_checkpointed(reentrant=True),
    all_checkpointed(reentrant=False),
    checkpointed_with_what_follows,
    checkpointed_by_two,
    partly_without_grad,
    under_autocast,
    penalized,
    other_widths,
    written_to,
    is_even,
    by_their_parts,
]


def frozen(model: Stack) -> None:
    model.blocks[1].requires_grad_(False)


def tied(model: Stack) -> None:
    first, last = (list(block.modules()) for block in (model.blocks[0], model.blocks[-1]))
    for one, other in zip(first, last, strict=False):
        if isinstance(one, nn.Linear) and isinstance(other, nn.Linear) and one.weight.shape == other.weight.shape:
            other.weight = one.weight


def shared(model: Stack) -> None:
    model.blocks[2] = model.blocks[0]


def hooked(model: Stack) -> None:
    model.blocks[1].register_forward_hook(lambda module, args, out: out * 2)


def partly_in_evaluation(model: Stack) -> None:
    model.blocks[2].eval()


CHANGES: list[Callable[[Stack], None]] = [lambda model: None, frozen, tied, shared, hooked, partly_in_evaluation]


def folded_and_unfolded(model: nn.Module, *args: Any, **options: Any) -> tuple[Report, Report]:
    return analyze(model, args, fold=True, **options), analyze(model, args, fold=False, **options)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    block=st.sampled_from(BLOCKS),
    run=st.sampled_from(RUNS),
    change=st.sampled_from(CHANGES),
    training=st.booleans(),
    input_grad=st.booleans(),
    depth=st.integers(3, 5),
)
def test_a_report_is_the_same_to_the_last_letter(block, run, change, training, input_grad, depth) -> None:
    model = Stack([block(index) for index in range(depth)], run)
    change(model)
    x = torch.zeros(8, 8, 4, requires_grad=input_grad)
    folded, unfolded = folded_and_unfolded(model, x, training=training)
    assert folded == unfolded
    assert dumps(folded) == dumps(unfolded)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("block", BLOCKS)
def test_of_each_kind_of_block(block) -> None:
    folded, unfolded = folded_and_unfolded(Stack([block(index) for index in range(4)]), torch.zeros(8, 8, 4))
    assert dumps(folded) == dumps(unfolded)


@pytest.mark.parametrize("block", [CountsInItsClass, CountsInAGlobal, CountsInAGlobalList, CountsInAGlobalObject])
def test_of_blocks_that_write_to_state_outside_of_them(block) -> None:
    folded, unfolded = folded_and_unfolded(Stack([block(index) for index in range(5)]), torch.zeros(8, 8, 4))
    assert dumps(folded) == dumps(unfolded)
    assert folded.forward < analyze(Stack([Block() for _ in range(5)]), (torch.zeros(8, 8, 4),)).forward
    assert (CountsInItsClass.calls, calls, CALLS, COUNTER.calls) == (0, 0, [], 0)


@pytest.mark.parametrize("block", [CountsInAnObject, WithPartsThatCount])
def test_of_blocks_that_write_to_an_object_that_they_share(block) -> None:
    counter = Counter()
    folded, unfolded = folded_and_unfolded(Stack([block(counter) for _ in range(5)]), torch.zeros(8, 8, 4))
    assert dumps(folded) == dumps(unfolded)
    assert counter.calls == 0


@pytest.mark.sampled(4)
@pytest.mark.parametrize("block", [Block, RunsItselfAgain])
@pytest.mark.parametrize("run", RUNS)
def test_of_each_way_to_run_them(block, run) -> None:
    folded, unfolded = folded_and_unfolded(Stack([block(index) for index in range(4)], run), torch.zeros(8, 8, 4))
    assert dumps(folded) == dumps(unfolded)


def exported(model: nn.Module) -> ExportedProgram:
    return torch.export.export(model, (torch.zeros(8, 8, 4),))


GIVEN = [exported, fx.symbolic_trace]


class TestGivenGraphs:
    """A graph that the user traced is folded by the module paths in the metadata of its nodes."""

    @pytest.mark.sampled(6)
    @pytest.mark.parametrize("block", [Block, ReadsItsNumber, WritesToItsInput, ReturnsAView, Detaches, BLOCKS[-1]])
    @pytest.mark.parametrize("run", [one_after_the_other, collected, written_to, around_again, other_widths])
    @pytest.mark.parametrize("change", GIVEN)
    def test_the_same_report(self, change, run, block) -> None:
        model = change(Stack([block(index) for index in range(4)], run))
        folded, unfolded = folded_and_unfolded(model, torch.zeros(8, 8, 4))
        assert dumps(folded) == dumps(unfolded)

    @pytest.mark.parametrize("block", [Block, SaysItsLayout])
    @pytest.mark.parametrize("change", GIVEN)
    def test_no_more_calls_in_twenty_layers_than_in_four(self, change, block) -> None:
        four, twenty = (change(Stack([block(index) for index in range(depth)])) for depth in (4, 20))
        assert calls_of(twenty) == calls_of(four)

    @pytest.mark.parametrize("change", GIVEN)
    def test_layers_that_differ_are_looked_at_each(self, change) -> None:
        blocks = [Block(index) for index in range(4)]
        blocks[2].norm.eps = 1e-3
        folded, unfolded = folded_and_unfolded(change(Stack(blocks)), torch.zeros(8, 8, 4))
        assert dumps(folded) == dumps(unfolded)

    def test_so_is_a_model_that_has_to_be_exported(self) -> None:
        def careful(stack: Stack, x: Tensor) -> Any:
            if not torch.compiler.is_exporting() and x.sum() > 1e6:
                return x
            return one_after_the_other(stack, x)

        model = Stack([Block(index) for index in range(8)], careful)
        folded, unfolded = folded_and_unfolded(model, torch.zeros(8, 8, 4))
        assert "exported by torch.export" in folded.capture_notes[0]
        assert dumps(folded) == dumps(unfolded)
        assert calls_of(model) < calls_of(model, fold=False) - 5 * 6

    def test_a_graph_without_memory_of_modules_is_read_as_it_stands(self) -> None:
        model = fx.symbolic_trace(Stack([Block(index) for index in range(4)]))
        for node in model.graph.nodes:
            node.meta.clear()
        folded, unfolded = folded_and_unfolded(model, torch.zeros(8, 8, 4))
        assert dumps(folded) == dumps(unfolded)


@contextmanager
def written_down() -> Iterator[list[str]]:
    """The paths of all calls that are written down one by one."""
    paths: list[str] = []
    record = Tracer.record_call

    def recorded(tracer: Tracer, *args: Any, **kwargs: Any) -> Any:
        paths.append(tracer.module_paths[-1])
        return record(tracer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracer, "record_call", recorded)
        yield paths


def calls_of(model: nn.Module, **options: Any) -> int:
    with written_down() as paths:
        analyze(model, (torch.zeros(8, 8, 4),), **options)
    return len(paths)


class TestWhatIsLookedAtOnce:
    def test_no_more_calls_in_a_hundred_layers_than_in_three(self) -> None:
        three, hundred = (Stack([Block(index) for index in range(depth)]) for depth in (3, 100))
        assert calls_of(hundred) == calls_of(three)

    def test_also_functions_that_make_a_module(self) -> None:
        three, hundred = (Stack([MakesAModule(index) for index in range(depth)]) for depth in (3, 100))
        assert calls_of(hundred) == calls_of(three)

    def test_by_default(self) -> None:
        model = Stack([Block(index) for index in range(6)])
        assert calls_of(model, fold=False) > 2 * calls_of(model)

    def test_layers_that_differ_in_what_they_read_by_what_they_read(self) -> None:
        two, ten = (Stack([ReadsItsNumber(index % 2) for index in range(depth)]) for depth in (4, 10))
        assert calls_of(ten) == calls_of(two)

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_also_recomputation(self, reentrant: bool) -> None:
        if not hasattr(torch.utils.checkpoint._CheckpointFrame, "get_inputs"):
            pytest.skip("before PyTorch 2.12 a checkpoint saves its inputs by an operator, and each is looked at")
        for block, run in ((RunsItselfAgain, None), (Block, all_checkpointed(reentrant))):
            three, hundred = (Stack([block(index) for index in range(depth)], run) for depth in (3, 100))
            assert calls_of(hundred) == calls_of(three)

    @pytest.mark.parametrize(
        "block", [CountsItsCalls, Remembers, RemembersInAList, WritesToItsInput, ReturnsAView, AsksForAValue]
    )
    def test_in_doubt_each(self, block) -> None:
        model = Stack([block(index) for index in range(4)])
        assert calls_of(model) == calls_of(model, fold=False)

    def test_also_the_normalization_that_keeps_statistics(self) -> None:
        model = Stack([WithRunningStatistics(index) for index in range(8)])
        assert 3 * calls_of(model) < calls_of(model, fold=False)
        assert all(not module.num_batches_tracked for module in model.modules() if isinstance(module, nn.BatchNorm1d))


def test_an_error_is_that_of_the_layer_that_raises() -> None:
    class Raises(Block):
        def forward(self, x: Tensor) -> Tensor:
            if self.index == 3:
                raise ValueError("not this one")
            return super().forward(x)

    model = Stack([Raises(index) for index in range(5)])
    message = []
    for fold in (True, False):
        with pytest.raises(Exception, match="not this one") as error:
            analyze(model, (torch.zeros(8, 8, 4),), fold=fold)
        message.append(str(error.value))
    assert message[0] == message[1]
    assert "blocks.3" in message[0]


def test_the_model_is_what_it_was() -> None:
    model = Stack([ReadsItsNumber(index) for index in range(5)])
    before = [(module, vars(module), [*vars(module).items()]) for module in model.modules()]
    analyze(model, (torch.zeros(8, 8, 4),))
    for module, attributes, items in before:
        assert vars(module) is attributes
        assert [(name, id(value)) for name, value in items] == [(name, id(value)) for name, value in attributes.items()]


class ReadsItsClass(Block):
    """A block that branches on an attribute of its class, which the model around it writes between blocks."""

    depth = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if ReadsItsClass.depth < 2 else x.sin()


class WritesBetweenBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ReadsItsClass() for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ReadsItsClass.depth = 0
        for block in self.blocks:
            x = block(x)
            ReadsItsClass.depth += 1
        return x


def test_blocks_that_read_a_class_attribute_which_is_written_between_them() -> None:
    folded, unfolded = folded_and_unfolded(WritesBetweenBlocks(), torch.zeros(8, 8))
    assert folded.by_operator() == unfolded.by_operator()
    assert folded.by_operator()["sin"] == 2 * 64
