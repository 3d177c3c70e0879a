"""rules check: what can be said against a rule before anybody relies on it.

Each rule is called as a model would call it, at several sizes: on integers, again, and on symbols. What it claims is
held to what autograd dispatches (multiply-adds, exactly) and to the single operations that run: a rule may state fewer
of these than run, as published formulas do, but not none where some run.

The calls are those that a rule's ``example=`` makes, and for an operator those that its schema allows to make up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphflops.analysis.costing import call_arguments
from graphflops.capture.attempts import trace
from graphflops.core.costs import Cost, Work, covers
from graphflops.core.errors import NotSupported, RuleError, RuleLoadError
from graphflops.core.torch_compat import OpOverload, OpOverloadPacket
from graphflops.graph.build import build
from graphflops.graph.op import Op
from graphflops.graph.passes import run_passes
from graphflops.rules.available_names import available_names, overloads
from graphflops.rules.book import RuleBook
from graphflops.rules.formulas import symbolic
from graphflops.rules.loading import RuleSource, local, rulebook, shipped
from graphflops.rules.rule import Rule
from graphflops.rules.targets import is_pattern, resolve
from graphflops.verify.rule_check import DIRECTIONS, RuleCheck, Verification, verify

ROUNDS = 3
"""how many sizes each rule is called at"""
OPTIONS = {"attention": "math"}
FAILS = (
    "A rule covers every call of its target or raises NotSupported. It uses + − × // and ** on sizes, and branches on "
    "which arguments are present, never on a size."
)

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a rule: where, what, and what to do."""

    place: str
    """``file:line``"""
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}\n    {self.fix}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check: how many rules, how many of them were held to the witnesses, and what was found."""

    rules: int
    tested: int
    problems: tuple[Problem, ...]
    untested: tuple[Rule, ...] = ()
    """those of which no call was given or could be made up"""
    loaded: bool = True


def check_file(path: str | Path) -> Checked:
    """Check the rules of a file, or of every file of a folder."""
    try:
        book = local(path, strict=True)
    except RuleError as error:
        problem = Problem(str(path), str(error), "Mend this first; nothing else was checked.")
        return Checked(0, 0, (problem,), loaded=not isinstance(error, RuleLoadError))
    return check(book, list({id(each): each for _, each in book}.values()))


def check_shipped() -> Checked:
    """Check the rules that graphflops ships."""
    return check(shipped(), [])


def check(book: RuleBook, given: Sequence[RuleSource]) -> Checked:
    """Check rules; ``given`` is how an analysis is given them."""
    rules = list({id(each): each for _, each in book}.values())
    speaking = rulebook(given)
    problems: list[Problem] = []
    untested: list[Rule] = []
    for rule in rules:
        rng = random.Random(rule.name)  # so that a check says the same twice
        made = [list(_calls_of(rule, target, speaking, rng)) for target in rule.targets]
        wrong, tested = check_rule(rule, [each for calls_of in made for each in calls_of], given)
        problems += wrong
        if not tested:
            untested.append(rule)
    return Checked(len(rules), len(rules) - len(untested), tuple(problems), tuple(untested))


def check_rule(rule: Rule, examples: Iterable[Call], given: Sequence[RuleSource] = ()) -> tuple[list[Problem], bool]:
    """What is wrong with a rule as far as these calls show it, each kind of thing once; and whether any showed it."""
    found: dict[tuple[str, str], Problem] = {}
    book = rulebook(given)

    def add(what: str, fix: str, kind: str) -> None:
        found.setdefault((kind, fix), Problem(place(rule), f"rule {rule.name} {what}", fix))

    if not rule.about:
        add("does not say what it prices", "Write its formula, and what it leaves out, as its docstring.", "about")
    ops: list[Op] = []
    tested = False
    for call, args, kwargs in examples:
        try:
            ops += [op for op in _ops(call, args, kwargs, book) if book.find(op.call) is rule]
            found_by = verify(call, args, kwargs, rules=given)
        except NotSupported:
            continue
        except RuleError as error:
            add(f"fails: {error}", FAILS, "error")
            continue
        except Exception:
            continue  # the operator itself refuses it, forward or backward
        mine = [each for each in found_by.checks if each.rule == f"{rule.name} ({rule.source})"]
        tested = tested or bool(mine)
        if mine:
            _exact(found_by, add)
        for each in mine:
            _nonzero(each, add)
    for op in ops:
        _pure(rule, op, add)
    _strays(rule, ops, add)
    return list(found.values()), tested


def place(rule: Rule) -> str:
    """``file:line`` of a rule, the file as seen from here."""
    file, here = Path(rule.file).resolve(), Path.cwd()
    return f"{file.relative_to(here) if file.is_relative_to(here) else file}:{rule.line}"


Add = Callable[[str, str, str], None]


def _exact(found: Verification, add: Add) -> None:
    """Multiply-adds are those that autograd dispatches."""
    for way, (rule_work, seen) in found.macs.items():
        if rule_work != seen:
            names = ", ".join(each.target for each in found.checks)
            what = f"claims {rule_work:,} multiply-adds {way} of {names}, and autograd dispatches {seen:,}"
            add(what, "Multiply-adds have to be exact: matrix products and convolutions, both ways.", f"macs {way}")


def _nonzero(each: RuleCheck, add: Add) -> None:
    """What computes with each element is not claimed to cost nothing."""
    for way in DIRECTIONS:
        rule_work, measured = each.rule_work[way], each.measured[way]
        computed = measured.elementwise + measured.division + measured.transcendental
        if not rule_work and not measured.macs and computed >= max(each.elements, 1):
            what = f"claims that {each.target} costs nothing {way}, and it runs {measured}"
            add(what, "A zero needs a reason: nothing may run that computes.", f"zero {way}")


def _pure(rule: Rule, op: Op, add: Add) -> None:
    """The same question has the same answer, on integers as on symbols."""
    offered = call_arguments(op, OPTIONS)
    try:
        cost = rule.evaluate(offered)
        if rule.evaluate(offered) != cost:
            add("does not say the same twice", "A rule depends on what it is offered, and on nothing else.", "twice")
        general, sizes = symbolic(rule, offered)
    except NotSupported:
        return
    except RuleError as error:
        add(f"fails: {error}", FAILS, "error")
        return
    if _at(general, sizes) != _at(cost, {}):
        what = f"gives other numbers on symbols than on integers, of {op.target}"
        add(what, "Branch on what is there, never on the value of a size.", "branch")


def _at(cost: Cost, sizes: Any) -> list[Any]:
    """All counts of a cost, symbols put in."""
    works: list[Work] = [cost.forward, cost.recompute, *(cost.grads[key] for key in sorted(cost.grads))]
    counts = [count for work in works for count in work.counts()]
    return [count.subs(sizes) if hasattr(count, "subs") else count for count in counts]


def _strays(rule: Rule, ops: Sequence[Op], add: Add) -> None:
    """Gradients are of what calls can offer."""
    known = [available_names(target) for target in rule.targets]
    if not ops or any(each is None for each in known):
        return
    inputs = frozenset().union(*(each for each in known if each is not None))
    inputs |= {name for op in ops for name in (*op.arguments, *(each.name for each in op.operands))}
    for op in ops:
        try:
            keys = rule.evaluate(call_arguments(op, OPTIONS)).grads
        except RuleError:
            continue
        names = {name for key in keys for name in key.split("|")}
        for stray in sorted(name for name in names if not any(covers(name, each) for each in inputs)):
            given = ", ".join(sorted(each.name for each in op.operands))
            add(f"gives a gradient of {stray}, which is no input", f"Inputs of {op.target} are: {given}.", stray)


def _ops(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], book: RuleBook) -> Iterator[Op]:
    yield from run_passes(build(trace(call, args, kwargs, book))).calls()


# -- calls ---------------------------------------------------------------------------------------------------------


def _calls_of(rule: Rule, target: Any, book: RuleBook, rng: random.Random) -> Iterator[Call]:
    """Calls of a target: those that the rule's example makes, else those made up."""
    if rule.example is not None:
        for _ in range(ROUNDS):
            args, kwargs = rule.example()
            found = resolve(target)  # what the example imports may be what the target names
            if is_pattern(target) or (isinstance(found, type) and issubclass(found, nn.Module)):
                yield args[0], tuple(args[1:]), kwargs
            else:
                call: Any = getattr(found, "apply", found)
                if callable(call):
                    yield call, tuple(args), kwargs
        return
    found = resolve(target)
    if isinstance(found, (OpOverload, OpOverloadPacket)):
        yield from _made_up(rule, overloads(found), book, rng)


def _made_up(rule: Rule, ops: Iterable[OpOverload], book: RuleBook, rng: random.Random) -> Iterator[Call]:
    """Calls of the first overload that takes made-up tensors, each time of other sizes."""
    for op in ops:
        if op._schema.is_mutable or not any(str(each.type) == "Tensor" for each in op._schema.arguments):
            continue
        for shapes in SHAPES:
            tries = [_call(op, shapes, rng) for _ in range(ROUNDS)]
            good = [each for each in tries if each is not None and _reaches(rule, each, book)]
            if good:
                yield from good
                return


def _reaches(rule: Rule, call: Call, book: RuleBook) -> bool:
    operator, args, kwargs = call
    try:
        operator(*args, **kwargs)  # on the meta device: the quickest way to be refused
        return any(book.find(op.call) is rule for op in _ops(*call, book))
    except Exception:  # whatever an operator says of arguments that are not its kind
        return False


SHAPES = (
    "ab", "ab ab", "ab bc", "ab bc cd", "ab c", "xab xbc", "ab b", "a b", "a ab bc", "a ab b", "xab", "xab yac",
    "xyab", "xyzab", "xy xab xbc", "y xab xbc", "aa", "aa ab",
)  # fmt: skip
"""shapes of tensors, one after the other, a letter for a size; of more tensors than there are the last is repeated"""


def _call(op: OpOverload, shapes: str, rng: random.Random) -> Call | None:
    """A call of an operator on tensors of these shapes; None if it asks for something that is not made up."""
    sizes = {letter: rng.randint(2, 7) for letter in "abcdxyz"}
    kinds = [tuple(sizes[letter] for letter in shape) for shape in shapes.split()]
    args: list[Any] = []
    tensors = 0
    for argument in op._schema.arguments:
        name, kind = argument.name, str(argument.type)
        if argument.has_default_value() or argument.kwarg_only:
            break
        if kind in ("Tensor", "List[Tensor]"):
            dtype = _DTYPES.get(name, torch.float32)
            shape = kinds[min(tensors, len(kinds) - 1)]
            made = torch.empty(shape, dtype=dtype, device="meta", requires_grad=dtype.is_floating_point)
            args.append([made, made] if kind.startswith("List") else made)
            tensors += 1
        elif name == "normalized_shape":
            args.append(kinds[0][-1:])
        elif name in _NAMED or kind in _PLAIN:
            args.append(_NAMED[name] if name in _NAMED else _PLAIN[kind])
        else:
            return None
    return (op, tuple(args), {}) if tensors >= len(kinds) else None


_DTYPES = dict.fromkeys(("index", "indices", "target"), torch.int64) | dict.fromkeys(("condition", "mask"), torch.bool)
_NAMED: dict[str, Any] = {
    "dim": 0, "dims": [0], "stride": [1], "padding": [0], "dilation": [1], "output_padding": [0], "groups": 1,
}  # fmt: skip
_PLAIN = {"number": 0.5, "float": 0.5, "int": 1, "bool": False, "Optional[Tensor]": None}
