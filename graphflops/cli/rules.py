"""Commands about rules: rules list, rules show, rules stub, rules check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphflops.core.characters import in_line
from graphflops.core.errors import RuleLoadError, UsageError, VerificationFailed
from graphflops.report.terminal import say

if TYPE_CHECKING:
    from graphflops.rules.book import RuleBook

app = typer.Typer(help="List, show, write and check FLOP rules.")

Rules = Annotated[
    list[Path] | None, typer.Option(help="file or folder with rules of your own, or torch:registered; repeatable")
]
Strict = Annotated[bool, typer.Option("--strict", help="fail if a plugin's rules do not load, instead of warning")]


@app.command("list")
def list_rules(
    pattern: Annotated[
        str | None, typer.Argument(help="only targets, rules or sources that contain this; * and ? as in file names")
    ] = None,
    rules: Rules = None,
    strict: Strict = False,
) -> None:
    """List every target with its rule, the rule's file, line and origin, and the rules that it overrides.

    Later rules win: first shipped rules, then installed packages, then --rules in order.
    """
    from fnmatch import fnmatch

    glob = pattern if pattern is None or set(pattern) & set("*?[") else f"*{pattern}*"
    rows = []
    for target, candidates in sorted(_rule_book(rules, strict).by_target().items()):
        (layer, rule), *overridden = candidates
        searched = (target, rule.name, rule.source, layer.origin)
        if glob is None or any(fnmatch(text, glob) for text in searched):
            hidden = ", ".join(f"{lower.source} ({lower_layer.origin})" for lower_layer, lower in overridden)
            source = rule.source + (f" (adapted from {rule.adapted_from})" if rule.adapted_from else "")
            rows.append(tuple(map(in_line, (target, source, layer.origin, hidden))))
    if not rows:
        say(f"no target, rule or source matches {pattern!r}")
        return
    rows.insert(0, ("target", "rule", "from", "overrides"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # one line per target, however long, so that grep works
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rule_book(rules: list[Path] | None, strict: bool) -> "RuleBook":
    """All rules; prints a warning for those that do not load."""
    from graphflops.rules.loading import rulebook

    book = rulebook(rules, strict=strict)
    for warning in book.warnings:
        say(f"warning: {warning}", error=True)
    return book


@app.command("show")
def show_rule(
    target: Annotated[
        str, typer.Argument(help="torch.nn.Linear, F.gelu, aten.gelu, optimizer.adamw, a qualified name")
    ],
    rules: Rules = None,
    strict: Strict = False,
) -> None:
    """Print the rule of a target: its formula in symbols, its source, its arguments and the rules that it overrides."""
    from graphflops.rules.pages import describe_rule

    say(describe_rule(_rule_book(rules, strict), target))


@app.command("stub")
def stub_rule(
    target: Annotated[str, typer.Argument(help="MODULE:NAME of a module class, an autograd Function or an operator")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write to this file")] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Write a rule file to fill in. It loads as written; its target is unsupported until the formulas are filled in."""
    from graphflops.integrations.factories import load_object
    from graphflops.report.files import write_atomic
    from graphflops.rules.stubs import stub

    text = stub(load_object(target))
    if output is None:
        say(text, end="")
    elif output.exists() and not force:
        raise UsageError(f"{output} exists; use another path, or --force to overwrite it")
    else:
        say(f"wrote {write_atomic(output, text)}: replace every …")


@app.command("check")
def check_rules(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="files or folders with rules; default: all shipped rules", show_default=False, metavar="[FILES]..."
        ),
    ] = None,
) -> None:
    """Check rules against the ops that really run: pure functions of sizes, exact multiply-adds, no unexplained zero.

    Exit code 4 if there is a problem, 1 if a file does not load. Calls of an operator are generated from its schema;
    a rule for anything else provides one with example=.
    """
    from graphflops.verify.rule_lint import check_file, check_shipped, location

    results = [check_file(file) for file in files] if files else [check_shipped()]
    for problem in (problem for result in results for problem in result.problems):
        say(str(problem))
    for rule in (rule for result in results for rule in result.untested if files):
        say(f"{location(rule)}: rule {rule.name} was not called: add @rule(…, example=…)")
    rules, checked = sum(result.rules for result in results), sum(result.tested for result in results)
    problems = sum(len(result.problems) for result in results)
    plural = "" if rules == 1 else "s", "" if problems == 1 else "s"
    say(f"{rules} rule{plural[0]}, {checked} checked against real calls, {problems or 'no'} problem{plural[1]}")
    if not all(result.loaded for result in results):
        raise RuleLoadError("rules above do not load and were not checked")
    if problems:
        raise VerificationFailed("rule check failed: see the problems above")
