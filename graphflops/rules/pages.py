"""Rules as text: one rule for ``rules show``, and the pages of docs/rules/ for all shipped rules."""

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

from torch import nn

from graphflops.core.costs import WORK_CLASSES
from graphflops.core.entries import Formula
from graphflops.core.errors import UsageError
from graphflops.core.messages import shortened
from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket, TorchDispatchMode
from graphflops.report.files import write_atomic
from graphflops.rules.available_names import overloads
from graphflops.rules.book import RuleBook
from graphflops.rules.example_calls import example_call
from graphflops.rules.formulas import symbolic_example, symbolic_example_cost
from graphflops.rules.loading import shipped
from graphflops.rules.rule import Rule
from graphflops.rules.targets import canonical_name, qualified_name, registry_key, resolve
from graphflops.rules.typesetting import latex_rows

# -- one rule, for a terminal -------------------------------------------------------------------------------------


def describe_rule(book: RuleBook, target: str) -> str:
    """The rule of a target as text: its docstring, arguments, formula in symbols, source, and the rules it overrides.

    For a module class without a rule, the rules of the functions that its code calls; for a composite function, those
    of the operators that it runs.

    Raises:
        UsageError: the target is unknown; the message has similar ones.
    """
    value = resolve(target)
    if (rule := _find(book, target)) is not None:
        return "\n".join(_describe(book, target, rule))
    is_module = isinstance(value, type) and issubclass(value, nn.Module)
    callees = list(_rules_of_module(value, book) if is_module else _rules_of_function(target, book))
    if callees:
        lines = [f"{qualified_name(value)}: no rule names it; it is traced, and these rules apply to what it calls."]
        for name, callee in callees:
            lines += ["", *_describe(book, name, callee)]
        return "\n".join(lines)
    if not isinstance(value, str):
        raise UsageError(
            f"no rule names {target!r}: a call of it is traced, and the rules of what it runs apply; analyze --explain "
            "names them"
        )
    targets = book.by_target()
    by_last_part = {name.split(".")[-1]: name for name in targets}
    similar = get_close_matches(target, targets, n=3) or [
        by_last_part[part] for part in get_close_matches(target.split(".")[-1], by_last_part, n=3)
    ]
    hint = f"did you mean {' or '.join(similar)}?" if similar else "graphflops rules list shows all"
    raise UsageError(f"no rule names {shortened(target, 200)!r}; {hint}")


def _find(book: RuleBook, target: str) -> Rule | None:
    value = resolve(target)
    if isinstance(value, str):
        return book.rules.get(registry_key(value)) or book.rules.get(canonical_name(value))
    value = resolve(registry_key(value)) if isinstance(value, (BuiltinFunctionType, CustomOpDef)) else value
    calls = [value, *(overloads(value) if isinstance(value, OpOverloadPacket) else ())]
    return next((rule for call in calls if (rule := book.find(call)) is not None), None)


def _rules_of_module(cls: type, book: RuleBook) -> Iterator[tuple[str, Rule]]:
    """The rules of the torch functions called in the code of a module class and its bases, each rule once."""
    visited: set[int] = set()
    setup = ("__init__", "reset_parameters", "extra_repr")
    for base in cls.__mro__:
        methods = {} if base in (nn.Module, object) else vars(base)
        for function in (
            method for name, method in methods.items() if inspect.isfunction(method) and name not in setup
        ):
            for name, rule in _rules_in_code(function, book):
                if id(rule) not in visited:
                    visited.add(id(rule))
                    yield name, rule


def _rules_in_code(function: FunctionType, book: RuleBook) -> Iterator[tuple[str, Rule]]:
    """The rules of the torch functions called in the code of a Python function."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return
    callees = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for name in dict.fromkeys(callees):
        if name.startswith(("F.", "torch.")) and resolve(name) is not function:
            yield from _rules_of_function(name, book)


def _rules_of_function(name: str, book: RuleBook) -> Iterator[tuple[str, Rule]]:
    """The rule of a torch function, or the rules of what it runs; without free operations, such as views."""
    function = resolve(name)
    operator = resolve(registry_key(function))
    if (rule := _find(book, name)) is not None:
        if not rule.about.startswith("zero"):
            yield canonical_name(registry_key(function)), rule
    elif isinstance(operator, (OpOverload, OpOverloadPacket)):
        for op in _operators_run_by(operator):
            if (rule := book.find(op)) is not None and not rule.about.startswith("zero"):
                yield f"{qualified_name(operator)} runs {qualified_name(op)}", rule
    elif isinstance(function, FunctionType) and function.__module__ == "torch.nn.functional":
        yield from _rules_in_code(function, book)


class _OperatorRecorder(TorchDispatchMode):
    """Records the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[Any] = []

    def __torch_dispatch__(self, op: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.append(op)
        return op(*args, **(kwargs or {}))


def _operators_run_by(operator: OpOverload | OpOverloadPacket) -> list[Any]:
    """The operators that a composite operator runs on example tensors; none if it accepts no example."""
    op = overloads(operator)[0]
    for shapes in ("nnnn", "nnn", "nnnnn", "nn"):
        args = example_call(op, shapes, {"n": 8})
        recorder = _OperatorRecorder()
        try:
            with recorder:
                op(*(args or ()))
        except (RuntimeError, IndexError, ValueError):
            continue
        return recorder.operators
    return []


def _describe(book: RuleBook, target: str, rule: Rule) -> Iterator[str]:
    names = {canonical_name(registry_key(target)) for target in rule.targets}
    rules = next((book.by_target()[name] for name in sorted(names) if name in book.by_target()), [])
    origin = next((layer.origin for layer, candidate in rules if candidate is rule), "generic")
    yield f"{target}: rule {rule.name} ({rule.source}), {origin}"
    yield from _paragraph("about", rule.about or "no docstring")
    if len(rule.targets) > 1:
        yield from _paragraph("also for", ", ".join(sorted(names - {target})))
    yield from _paragraph("arguments", ", ".join(_format_arguments(rule)) or "none")
    if rule.outputs is not None:
        yield from _paragraph("outputs", "described by the rule, so that the call is not run")
    example = symbolic_example(rule)
    if example is None and rule.adapted_from:
        yield from _paragraph("formula", f"none: a rule adapted from {rule.adapted_from} may work on numbers alone")
    else:
        yield from (f"    {line}" for line in _formula_lines(example))
    for layer, overridden in rules:
        if overridden is not rule:
            yield from _paragraph("overrides", f"{overridden.name} ({overridden.source}), {layer.origin}")


def _paragraph(name: str, text: str) -> Iterator[str]:
    first, *rest = textwrap.wrap(" ".join(text.split()), 96)
    yield f"    {name:<9} {first}"
    yield from (f"    {'':<9} {line}" for line in rest)


def _format_arguments(rule: Rule) -> Iterator[str]:
    for name, parameter in rule.signature.parameters.items():
        yield name if parameter.default in (parameter.empty, None) else f"{name} = {parameter.default!r}"


def _formula_lines(example: tuple[Formula, dict[str, str]] | None) -> Iterator[str]:
    if example is None:
        yield "formula   depends on the call; analyze --explain prints it for yours"
        return
    formula, shapes = example
    yield from _lines_of(formula)
    if classes := [name for name in WORK_CLASSES if any(f"{name} =" in text for text in _texts(formula))]:
        yield f"classes   {', '.join(classes)}"
    if shapes:
        yield f"shapes    {', '.join(f'{name} {shape}' for name, shape in shapes.items())}"


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


# -- all shipped rules, as pages ----------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """File name → text: a page for each file of rules/, and ``index.md``."""
    families: dict[str, list[Rule]] = {}
    for _, rule in shipped():
        rules = families.setdefault(Path(rule.file).stem, [])
        if not any(candidate is rule for candidate in rules):
            rules.append(rule)
    texts = {f"{name}.md": "\n".join(_page(name, rules)) + "\n" for name, rules in sorted(families.items())}
    return {"index.md": "\n".join(_index(families)) + "\n", **texts}


def _index(families: dict[str, list[Rule]]) -> Iterator[str]:
    yield "# Rules"
    yield ""
    yield "The FLOP formula of each operation, a page for each file of `rules/`. Written by `make rules`; do not edit."
    yield ""
    yield "| family | about | targets |"
    yield "|---|---|---:|"
    for name, rules in sorted(families.items()):
        about = " ".join(_module_docstring(rules[0]).partition("\n\n")[0].split())
        yield f"| [{name}]({name}.md) | {_cell(about)} | {sum(len(rule.targets) for rule in rules)} |"
    yield ""
    yield (
        "Formulas are for operands of the dimensions below them: weight₁ is the second size of the operand `weight`, "
        "and |out| the number of elements of the output. "
        "Each rule names what it leaves out. An operator that no rule names has a "
        "generic rule from PyTorch's tags and schema, or is unsupported."
    )


def _page(name: str, rules: list[Rule]) -> Iterator[str]:
    yield f"# {name.replace('_', ' ').capitalize()}"
    yield ""
    yield _module_docstring(rules[0])
    yield ""
    yield f"From `rules/{name}.py`. Written by `make rules`; do not edit."
    for rule in sorted(rules, key=lambda candidate: (candidate.line, candidate.name)):
        yield ""
        yield f"## {rule.name}"
        yield ""
        yield ", ".join(f"`{canonical_name(registry_key(target))}`" for target in rule.targets)
        yield ""
        yield rule.about
        yield ""
        yield from _typeset(rule)


def _typeset(rule: Rule) -> Iterator[str]:
    example = symbolic_example_cost(rule)
    if example is None:
        yield "The formula depends on the call; `analyze --explain` prints it for yours."
        return
    cost, shapes = example
    yield "```math"
    yield r"\begin{array}{lll}"
    yield " \\\\\n".join(latex_rows(cost))
    yield r"\end{array}"
    yield "```"
    if shapes:
        yield ""
        dimensions = (f"`{name}` {shape.count(',') + 1}" for name, shape in shapes.items())
        yield f"Dimensions: {', '.join(dimensions)}."


def _module_docstring(rule: Rule) -> str:
    module: Any = sys.modules[f"graphflops.rules.shipped.{Path(rule.file).stem}"]
    return inspect.cleandoc(module.__doc__ or "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for obsolete in set(folder.glob("*.md")) - {folder / name for name in pages()}:
        obsolete.unlink()
    for name, text in pages().items():
        write_atomic(folder / name, text)
    print(f"wrote {len(pages())} pages to {folder}")
