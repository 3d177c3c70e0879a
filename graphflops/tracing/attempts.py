"""The ways to a graph, in the order in which they are tried: folded, with every block, and exported by torch.export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias

from torch import fx, nn

from graphflops.core.errors import CaptureError
from graphflops.core.torch_compat import OpOverload
from graphflops.rules.book import RuleBook
from graphflops.tracing.copies.fake_tensors import FakeTensors
from graphflops.tracing.copies.function_module import FunctionModule
from graphflops.tracing.copies.module_attributes import module_attributes
from graphflops.tracing.folding.replay import as_module
from graphflops.tracing.isolation.exporting import export_program
from graphflops.tracing.isolation.isolation import run_isolated
from graphflops.tracing.session.aborts import CompositeExpanded, FoldingAborted
from graphflops.tracing.trace import Trace
from graphflops.tracing.tracer import Tracer
from graphflops.tracing.values.constant_propagation import ConstantPropagation, retry_with_branches_flipped
from graphflops.tracing.values.failures import add_attempt
from graphflops.tracing.values.faults import needs_data
from graphflops.tracing.values.recursion import recursion_limit_for, retry_with_deeper_recursion

OnResult: TypeAlias = Callable[[Any, ConstantPropagation], None]


def trace(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    book: RuleBook,
    *,
    grad: bool = True,
    fold: bool = False,
    opaque: Sequence[str] = (),
    storages: bool = False,
    attributes: bool = False,
    insides: bool = False,
    on_result: OnResult | None = None,
) -> Trace:
    """Trace a model on its inputs; tensors may be real, meta or fake, on any device.

    With ``fold``, a block that is identical to one that has run, and is called in the same way, is a single node.

    An ``autograd.Function`` that no rule names is written down as all that it runs, or as one node if a pattern of
    ``opaque`` names it. With ``storages``, the storages of results are recorded; with ``attributes``, the
    attributes of modules that are numbers; with ``insides``, the operators that a leaf runs. ``on_result`` is called
    with what the program returned, which has fake tensors, and with the values that are known of them.

    The model is never written to: a structural copy of it runs, with fake tensors in the place of its own.

    Raises:
        CaptureError: the model's own code refused the inputs, or needs a value that only data can tell.
    """
    options: dict[str, Any] = {"grad": grad, "fold": fold, "opaque": opaque}
    options |= {"storages": storages, "attributes": attributes, "insides": insides, "on_result": on_result}
    return run_isolated(lambda: _traced(model, args, kwargs, book, **options), keep=True)


def _traced(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    book: RuleBook,
    *,
    grad: bool,
    fold: bool,
    opaque: Sequence[str],
    storages: bool,
    attributes: bool,
    insides: bool,
    on_result: OnResult | None,
) -> Trace:
    module = as_module(model)
    root = module if isinstance(module, nn.Module) else FunctionModule(module, args, kwargs)

    expanded: set[OpOverload] = set()

    def attempt(values: ConstantPropagation, *, fold: bool = False) -> Trace:
        values.fakes.keeps_storages = storages
        with recursion_limit_for(values.fakes.survey.depth):
            tracer = Tracer(root, book, values, opaque, expanded, insides)
            traced = tracer.run(args, kwargs, grad=grad, fold=fold)
            if on_result is not None:
                on_result(tracer.result, values)
        numbers = module_attributes(values.fakes.survey.modules) if attributes else {}
        return replace(traced, attributes=numbers)

    def unfolded() -> Trace:
        while True:
            try:
                return retry_with_branches_flipped(
                    lambda flipped: ConstantPropagation(FakeTensors(root), flipped), attempt, CaptureError
                )
            except CompositeExpanded as inside:
                expanded.add(inside.operator)

    if fold:
        with suppress(FoldingAborted, CaptureError):  # what is wrong is said of the model itself
            return attempt(ConstantPropagation(FakeTensors(root)), fold=True)
    try:
        return retry_with_deeper_recursion(unfolded)
    except CaptureError as error:
        if isinstance(root, (FunctionModule, fx.GraphModule)) or not needs_data(error.__cause__):
            raise
        program = export_program(root, args, kwargs, grad=grad)
        if isinstance(program, str):
            raise add_attempt(error, f"torch.export: {program}") from error.__cause__
        try:
            options: dict[str, Any] = {"grad": grad, "fold": fold, "opaque": opaque}
            options |= {"storages": storages, "insides": insides, "on_result": on_result}
            traced = _traced(program, args, kwargs, book, **options, attributes=False)
        except CaptureError:
            raise add_attempt(error, "torch.export: its program asks for values as well") from error.__cause__
        note = "run on fake tensors: stopped where data decides; exported by torch.export"
        numbers = module_attributes(dict(root.named_modules())) if attributes else {}
        return replace(
            traced, name=type(root).__name__, capture_notes=(note, *traced.capture_notes), attributes=numbers
        )
