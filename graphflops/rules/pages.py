"""Rules for readers: one rule on a terminal, and all that are shipped as pages of the documentation."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn

from graphflops.core.costs import WORK_CLASSES
from graphflops.core.entries import Formula
from graphflops.core.errors import UsageError
from graphflops.core.messages import shortened
from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket, TorchDispatchMode
from graphflops.report.files import write_atomic
from graphflops.rules.available_names import overloads
from graphflops.rules.book import RuleBook
from graphflops.rules.formulas import symbolic_example
from graphflops.rules.loading import shipped
from graphflops.rules.rule import Rule
from graphflops.rules.targets import canonical_name, qualified_name, registry_key, resolve

# -- one rule, on a terminal --------------------------------------------------------------------------------------


def describe_rule(book: RuleBook, target: str) -> str:
    """What the rule of a target says: its formula in symbols, its source, what it asks for and what it shadows.

    A module class that no rule names is shown by the functions that its code calls, and a composite function by the
    operators that it runs.

    Raises:
        UsageError: nothing is known of such a target; the message has near ones.
    """
    found = resolve(target)
    if (rule := _find(book, target)) is not None:
        return "\n".join(_shown(book, target, rule))
    is_module = isinstance(found, type) and issubclass(found, nn.Module)
    called = list(_functions_of(found, book) if is_module else _priced_by(target, book))
    if called:
        lines = [f"{qualified_name(found)}: no rule names it, so what it does is traced, and priced as follows."]
        for name, each in called:
            lines += ["", *_shown(book, name, each)]
        return "\n".join(lines)
    known = book.by_target()
    short = {name.split(".")[-1]: name for name in known}
    near = get_close_matches(target, known, n=3) or [
        short[each] for each in get_close_matches(target.split(".")[-1], short, n=3)
    ]
    if not isinstance(found, str):
        raise UsageError(
            f"no rule names {target!r}: a call of it is traced, and what runs in it is priced; analyze --explain says "
            "by which rules"
        )
    hint = f"did you mean {' or '.join(near)}?" if near else "graphflops rules list shows all"
    raise UsageError(f"no rule names {shortened(target, 200)!r}; {hint}")


def _find(book: RuleBook, target: str) -> Rule | None:
    found = resolve(target)
    if isinstance(found, str):
        return book.rules.get(registry_key(found)) or book.rules.get(canonical_name(found))
    found = resolve(registry_key(found)) if isinstance(found, (BuiltinFunctionType, CustomOpDef)) else found
    calls = [found, *(overloads(found) if isinstance(found, OpOverloadPacket) else ())]
    return next((rule for each in calls if (rule := book.find(each)) is not None), None)


def _functions_of(cls: type, book: RuleBook) -> Iterator[tuple[str, Rule]]:
    """What prices the functions of torch that a module's code and its bases' call, each rule once."""
    seen: set[int] = set()
    setup = ("__init__", "reset_parameters", "extra_repr")
    for base in cls.__mro__:
        methods = {} if base in (nn.Module, object) else vars(base)
        for function in (each for name, each in methods.items() if inspect.isfunction(each) and name not in setup):
            for called, rule in _in_the_code_of(function, book):
                if id(rule) not in seen:
                    seen.add(id(rule))
                    yield called, rule


def _in_the_code_of(function: FunctionType, book: RuleBook) -> Iterator[tuple[str, Rule]]:
    """What prices the functions of torch that a function of Python names where it calls them."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for name in dict.fromkeys(called):
        if name.startswith(("F.", "torch.")) and resolve(name) is not function:
            yield from _priced_by(name, book)


def _priced_by(name: str, book: RuleBook) -> Iterator[tuple[str, Rule]]:
    """The rule of a function of torch; without one, those of what it runs: operators, or functions in its code.

    What is free, as views are, is left out.
    """
    function = resolve(name)
    operator = resolve(registry_key(function))
    if (rule := _find(book, name)) is not None:
        if not rule.about.startswith("zero"):
            yield canonical_name(registry_key(function)), rule
    elif isinstance(operator, (OpOverload, OpOverloadPacket)):
        for each in _runs(operator):
            if (rule := book.find(each)) is not None and not rule.about.startswith("zero"):
                yield f"{qualified_name(operator)} runs {qualified_name(each)}", rule
    elif isinstance(function, FunctionType) and function.__module__ == "torch.nn.functional":
        yield from _in_the_code_of(function, book)


class _Running(TorchDispatchMode):
    """Writes down which operators run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Any] = []

    def __torch_dispatch__(self, op: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(op)
        return op(*args, **(kwargs or {}))


_MADE_UP = {"bool": True, "float": 0.5, "int": 1, "SymInt": 1}


def _runs(operator: OpOverload | OpOverloadPacket) -> list[Any]:
    """What a composite operator runs on tensors without data, of as many axes as it takes; nothing if none fit."""
    op = overloads(operator)[0]
    needed = [str(each.type) for each in op._schema.arguments if not each.has_default_value()]
    for rank in (4, 3, 5, 2):
        tensor = torch.empty((8,) * rank, device="meta")
        running = _Running()
        try:
            with running:
                op(*(tensor if kind == "Tensor" else _MADE_UP.get(kind) for kind in needed))
        except (RuntimeError, IndexError, ValueError):
            continue
        return running.seen
    return []


def _shown(book: RuleBook, target: str, rule: Rule) -> Iterator[str]:
    names = {canonical_name(registry_key(each)) for each in rule.targets}
    speakers = next((book.by_target()[name] for name in sorted(names) if name in book.by_target()), [])
    origin = next((layer.origin for layer, each in speakers if each is rule), "generic")
    yield f"{target}: rule {rule.name} ({rule.source}), {origin}"
    yield from _paragraph("says", rule.about or "nothing: it has no docstring")
    if len(rule.targets) > 1:
        yield from _paragraph("also for", ", ".join(sorted(names - {target})))
    yield from _paragraph("asks for", ", ".join(_asked(rule)) or "nothing")
    if rule.outputs is not None:
        yield from _paragraph("outputs", "described by the rule, so that a call need not run")
    sampled = symbolic_example(rule)
    if sampled is None and rule.adapted_from:
        yield from _paragraph("formula", f"none: what is adapted from {rule.adapted_from} may work on numbers alone")
    else:
        yield from (f"    {line}" for line in _formula_lines(sampled))
    for layer, each in speakers:
        if each is not rule:
            yield from _paragraph("shadows", f"{each.name} ({each.source}), {layer.origin}")


def _paragraph(name: str, text: str) -> Iterator[str]:
    first, *rest = textwrap.wrap(" ".join(text.split()), 96)
    yield f"    {name:<9} {first}"
    yield from (f"    {'':<9} {line}" for line in rest)


def _asked(rule: Rule) -> Iterator[str]:
    for name, each in rule.signature.parameters.items():
        yield name if each.default in (each.empty, None) else f"{name} = {each.default!r}"


def _formula_lines(sampled: tuple[Formula, dict[str, str]] | None) -> Iterator[str]:
    if sampled is None:
        yield "formula   depends on the call: analyze --explain prints it with the sizes of yours"
        return
    formula, shapes = sampled
    yield from _lines_of(formula)
    if classes := [name for name in WORK_CLASSES if any(f"{name} =" in text for text in _texts(formula))]:
        yield f"classes   {', '.join(classes)}"
    if shapes:
        yield f"written for {', '.join(f'{name} {shape}' for name, shape in shapes.items())}"


def _lines_of(formula: Formula) -> Iterator[str]:
    for name, part in formula.parts.items():
        yield name
        yield from (f"    {line}" for line in _lines_of(part))
    if formula.parts:
        return
    yield f"forward   {formula.forward}"
    for key, text in formula.grads.items():
        yield f"gradient of {'every operand' if key == '*' else key}   {text}"
    if formula.span:
        yield f"span      {formula.span}"
    if formula.backward_span:
        yield f"span of the backward pass   {formula.backward_span}"


def _texts(formula: Formula) -> Iterator[str]:
    yield formula.forward
    yield from formula.grads.values()
    for part in formula.parts.values():
        yield from _texts(part)


# -- all that are shipped, as pages -------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """File name → text: a page for each file of rules, and ``index.md``. Made from the rules themselves."""
    families: dict[str, list[Rule]] = {}
    for _, rule in shipped():
        rules = families.setdefault(Path(rule.file).stem, [])
        if not any(each is rule for each in rules):
            rules.append(rule)
    made = {f"{name}.md": "\n".join(_page(name, rules)) + "\n" for name, rules in sorted(families.items())}
    return {"index.md": "\n".join(_index(families)) + "\n", **made}


def _index(families: dict[str, list[Rule]]) -> Iterator[str]:
    yield "# Rules"
    yield ""
    yield "What each operation costs, one page for a file of `rules/`. Written by `make rules`; do not edit."
    yield ""
    yield "| family | what it is | targets |"
    yield "|---|---|---:|"
    for name, rules in sorted(families.items()):
        about = " ".join(_module_of(rules[0]).partition("\n\n")[0].split())
        yield f"| [{name}]({name}.md) | {_cell(about)} | {sum(len(each.targets) for each in rules)} |"
    yield ""
    yield (
        "Sizes are written `weight₁`, the second of the operand `weight`, and `out.numel`, the number of all elements. "
        "What is not counted stands in each rule's own words. An operator that none of them names is priced by "
        "[what PyTorch says of it](../design.md#price-rules), or is unknown."
    )


def _page(name: str, rules: list[Rule]) -> Iterator[str]:
    yield f"# {name.replace('_', ' ').capitalize()}"
    yield ""
    yield _module_of(rules[0])
    yield ""
    yield f"From `rules/{name}.py`. Written by `make rules`; do not edit."
    for rule in sorted(rules, key=lambda each: (each.line, each.name)):
        yield ""
        yield f"## {rule.name}"
        yield ""
        yield ", ".join(f"`{canonical_name(registry_key(each))}`" for each in rule.targets)
        yield ""
        yield rule.about
        yield ""
        yield "```text"
        yield from _formula_lines(symbolic_example(rule))
        yield "```"


def _module_of(rule: Rule) -> str:
    module: Any = sys.modules[f"graphflops.rules.shipped.{Path(rule.file).stem}"]
    return inspect.cleandoc(module.__doc__ or "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.glob("*.md")) - {folder / name for name in pages()}:
        old.unlink()
    for name, text in pages().items():
        write_atomic(folder / name, text)
    print(f"wrote {len(pages())} pages to {folder}")
