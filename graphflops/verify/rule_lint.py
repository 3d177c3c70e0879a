"""rules check: test a rule against the operations that its target runs.

Each rule is called at several sizes, on integers, twice, and on symbols. Its multiply-adds must be exactly those that
autograd runs. Its other operations may be fewer than those that run, as in published formulas, but not zero where some
run.

The calls come from ``example=``. For an operator without one, they are made from its schema.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from torch import nn

from graphflops.analysis.costing import call_arguments
from graphflops.core.costs import Cost, Work, covers
from graphflops.core.errors import NotSupported, RuleError, RuleLoadError
from graphflops.core.torch_compat import OpOverload, OpOverloadPacket
from graphflops.graph.build import build
from graphflops.graph.op import Op
from graphflops.graph.passes import run_passes
from graphflops.rules.available_names import available_names, overloads
from graphflops.rules.book import RuleBook
from graphflops.rules.example_calls import SHAPES, example_call
from graphflops.rules.formulas import symbolic
from graphflops.rules.loading import RuleSource, local, rulebook, shipped
from graphflops.rules.rule import Rule
from graphflops.rules.targets import is_pattern, resolve
from graphflops.tracing.attempts import trace
from graphflops.verify.rule_check import DIRECTIONS, RuleCheck, Verification, verify

ROUNDS = 3
"""sizes at which each rule is called"""
OPTIONS = {"attention": "math"}
COVER_EVERY_CALL = (
    "A rule covers every call of its target or raises NotSupported. It uses + − × // and ** on sizes, and branches on "
    "which arguments are present, never on a size."
)

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a rule, and how to fix it."""

    location: str
    """``file:line``"""
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}\n    {self.fix}"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check: the number of rules, the number that were tested, and the problems."""

    rules: int
    tested: int
    problems: tuple[Problem, ...]
    untested: tuple[Rule, ...] = ()
    """rules without an example call"""
    loaded: bool = True


def check_file(path: str | Path) -> CheckResult:
    """Check the rules of a file, or of every file of a folder."""
    try:
        book = local(path, strict=True)
    except RuleError as error:
        problem = Problem(str(path), str(error), "Fix this first; nothing else was checked.")
        return CheckResult(0, 0, (problem,), loaded=not isinstance(error, RuleLoadError))
    return check(book, list({id(rule): rule for _, rule in book}.values()))


def check_shipped() -> CheckResult:
    """Check the rules of graphflops."""
    return check(shipped(), [])


def check(book: RuleBook, sources: Sequence[RuleSource]) -> CheckResult:
    """Check the rules of a book; ``sources`` are given to each analysis as ``rules=``."""
    rules = list({id(rule): rule for _, rule in book}.values())
    full_book = rulebook(sources)
    problems: list[Problem] = []
    untested: list[Rule] = []
    for rule in rules:
        rng = random.Random(rule.name)  # the same sizes each time
        calls = [call for target in rule.targets for call in _calls_of(rule, target, full_book, rng)]
        rule_problems, tested = check_rule(rule, calls, sources)
        problems += rule_problems
        if not tested:
            untested.append(rule)
    return CheckResult(len(rules), len(rules) - len(untested), tuple(problems), tuple(untested))


def check_rule(rule: Rule, calls: Iterable[Call], sources: Sequence[RuleSource] = ()) -> tuple[list[Problem], bool]:
    """The problems of a rule on some calls, each kind once, and whether the rule applied to any of them."""
    problems: dict[tuple[str, str], Problem] = {}
    book = rulebook(sources)

    def add(message: str, fix: str, kind: str) -> None:
        problems.setdefault((kind, fix), Problem(location(rule), f"rule {rule.name} {message}", fix))

    if not rule.about:
        add("has no docstring", "Write its formula, and what it leaves out, as its docstring.", "about")
    ops: list[Op] = []
    tested = False
    for call, args, kwargs in calls:
        try:
            ops += [op for op in _ops(call, args, kwargs, book) if book.find(op.call) is rule]
            verification = verify(call, args, kwargs, rules=sources)
        except NotSupported:
            continue
        except RuleError as error:
            add(f"fails: {error}", COVER_EVERY_CALL, "error")
            continue
        except Exception:
            continue  # the operator refuses the call, forward or backward
        checks = [check for check in verification.checks if check.rule == f"{rule.name} ({rule.source})"]
        tested = tested or bool(checks)
        if checks:
            _check_macs(verification, add)
        for check in checks:
            _check_nonzero(check, add)
    for op in ops:
        _check_pure(rule, op, add)
    _check_gradient_keys(rule, ops, add)
    return list(problems.values()), tested


def location(rule: Rule) -> str:
    """``file:line`` of a rule, relative to the current directory if it is below it."""
    file, folder = Path(rule.file).resolve(), Path.cwd()
    return f"{file.relative_to(folder) if file.is_relative_to(folder) else file}:{rule.line}"


Add = Callable[[str, str, str], None]


def _check_macs(verification: Verification, add: Add) -> None:
    """Multiply-adds are those that autograd runs."""
    for direction, (rule_macs, measured) in verification.macs.items():
        if rule_macs != measured:
            names = ", ".join(check.target for check in verification.checks)
            message = f"counts {rule_macs:,} multiply-adds {direction} of {names}; autograd runs {measured:,}"
            fix = "Multiply-adds must be exact: those of matrix products and convolutions, forward and backward."
            add(message, fix, f"macs {direction}")


def _check_nonzero(check: RuleCheck, add: Add) -> None:
    """An operation that computes with each element is not free."""
    for direction in DIRECTIONS:
        rule_work, measured = check.rule_work[direction], check.measured[direction]
        computed = measured.elementwise + measured.division + measured.transcendental
        if not rule_work and not measured.macs and computed >= max(check.elements, 1):
            message = f"counts zero {direction} of {check.target}, which runs {measured}"
            add(message, "A rule counts zero only where no arithmetic runs.", f"zero {direction}")


def _check_pure(rule: Rule, op: Op, add: Add) -> None:
    """The same arguments give the same cost, in integers and in symbols."""
    arguments = call_arguments(op, OPTIONS)
    try:
        cost = rule.evaluate(arguments)
        if rule.evaluate(arguments) != cost:
            add("returns another cost when called again", "A rule depends on its arguments alone.", "pure")
        general, sizes = symbolic(rule, arguments)
    except NotSupported:
        return
    except RuleError as error:
        add(f"fails: {error}", COVER_EVERY_CALL, "error")
        return
    if _counts_at(general, sizes) != _counts_at(cost, {}):
        message = f"returns another cost on symbols than on integers, for {op.target}"
        add(message, "Branch on which arguments are present, never on the value of a size.", "branch")


def _counts_at(cost: Cost, sizes: Any) -> list[Any]:
    """All counts of a cost at some sizes."""
    works: list[Work] = [cost.forward, cost.recompute, *(cost.grads[key] for key in sorted(cost.grads))]
    counts = [count for work in works for count in work.counts()]
    return [count.subs(sizes) if hasattr(count, "subs") else count for count in counts]


def _check_gradient_keys(rule: Rule, ops: Sequence[Op], add: Add) -> None:
    """Gradients are keyed by inputs of the call."""
    available = [available_names(target) for target in rule.targets]
    if not ops or any(names is None for names in available):
        return
    inputs = frozenset().union(*(names for names in available if names is not None))
    inputs |= {name for op in ops for name in (*op.arguments, *(operand.name for operand in op.operands))}
    for op in ops:
        try:
            keys = rule.evaluate(call_arguments(op, OPTIONS)).grads
        except RuleError:
            continue
        names = {name for key in keys for name in key.split("|")}
        for unknown in sorted(name for name in names if not any(covers(name, operand) for operand in inputs)):
            operands = ", ".join(sorted(operand.name for operand in op.operands))
            add(f"has unknown gradient key {unknown!r}", f"Inputs of {op.target}: {operands}.", unknown)


def _ops(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], book: RuleBook) -> Iterator[Op]:
    yield from run_passes(build(trace(call, args, kwargs, book))).calls()


# -- calls ---------------------------------------------------------------------------------------------------------


def _calls_of(rule: Rule, target: Any, book: RuleBook, rng: random.Random) -> Iterator[Call]:
    """Calls of a target: those of the rule's ``example=``, else those made from an operator's schema."""
    if rule.example is not None:
        example: Any = resolve_name(rule.example) if isinstance(rule.example, str) else rule.example
        for _ in range(ROUNDS):
            args, kwargs = example()
            value = resolve(target)  # the example may have imported its module
            if is_pattern(target) or (isinstance(value, type) and issubclass(value, nn.Module)):
                yield args[0], tuple(args[1:]), kwargs
            else:
                call: Any = getattr(value, "apply", value)
                if callable(call):
                    yield call, tuple(args), kwargs
        return
    operator = resolve(target)
    if isinstance(operator, (OpOverload, OpOverloadPacket)):
        yield from _schema_calls(rule, overloads(operator), book, rng)


def _schema_calls(rule: Rule, ops: Iterable[OpOverload], book: RuleBook, rng: random.Random) -> Iterator[Call]:
    """Calls of the first overload that accepts example tensors, at several sizes."""
    for op in ops:
        if op._schema.is_mutable or not any(str(argument.type) == "Tensor" for argument in op._schema.arguments):
            continue
        for shapes in SHAPES:
            sizes = [{letter: rng.randint(2, 7) for letter in "abcdxyz"} for _ in range(ROUNDS)]
            examples = [example_call(op, shapes, size) for size in sizes]
            calls: list[Call] = [(op, args, {}) for args in examples if args is not None]
            if valid := [call for call in calls if _reaches(rule, call, book)]:
                yield from valid
                return


def _reaches(rule: Rule, call: Call, book: RuleBook) -> bool:
    operator, args, kwargs = call
    try:
        operator(*args, **kwargs)  # on the meta device: most examples are refused here, which is quick
        return any(book.find(op.call) is rule for op in _ops(*call, book))
    except Exception:  # operators raise anything for arguments that they do not accept
        return False
