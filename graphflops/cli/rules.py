"""Commands about rules: graphflops rules list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphflops.core.characters import in_line
from graphflops.report.terminal import say

if TYPE_CHECKING:
    from graphflops.rules.book import RuleBook

app = typer.Typer(help="The rules that price each kind of operation.")

Rules = Annotated[list[Path] | None, typer.Option(help="a file or folder of rules of your own, or torch:registered")]
Strict = Annotated[bool, typer.Option("--strict", help="refuse rules of others that do not load, instead of a warning")]


@app.command("list")
def list_rules(
    pattern: Annotated[
        str | None, typer.Argument(help="only targets, rules or sources with this in them; * and ? as in file names")
    ] = None,
    rules: Rules = None,
    strict: Strict = False,
) -> None:
    """List every target, the rule that speaks for it, where that stands and comes from, and what it shadows.

    The later wins: shipped rules, installed packages, --rules in their order.
    """
    from fnmatch import fnmatch

    wanted = pattern if pattern is None or set(pattern) & set("*?[") else f"*{pattern}*"
    lines = []
    for target, speakers in sorted(_book(rules, strict).by_target().items()):
        (layer, rule), *shadowed = speakers
        said = (target, rule.name, rule.source, layer.origin)
        if wanted is None or any(fnmatch(each, wanted) for each in said):
            hidden = ", ".join(f"{each.source} ({where.origin})" for where, each in shadowed)
            source = rule.source + (f" (adapted from {rule.adapted_from})" if rule.adapted_from else "")
            lines.append(tuple(map(in_line, (target, source, layer.origin, hidden))))
    if not lines:
        say(f"no target, rule or source has {pattern!r} in it")
        return
    lines.insert(0, ("target", "rule", "from", "shadows"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:  # one line each, however long, for people who search in it
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _book(rules: list[Path] | None, strict: bool) -> RuleBook:
    """All rules; what was left out is said on the error stream."""
    from graphflops.rules.loading import rulebook

    book = rulebook(rules, strict=strict)
    for warning in book.warnings:
        say(f"warning: {warning}", error=True)
    return book


@app.command("show")
def show_rule(
    target: Annotated[str, typer.Argument(help="torch.nn.Linear, F.gelu, aten.gelu, optimizer.adamw, a dotted name")],
    rules: Rules = None,
    strict: Strict = False,
) -> None:
    """Show the rule of a target: its formula in symbols, its source, what it asks for and what it shadows."""
    from graphflops.rules.pages import describe_rule

    say(describe_rule(_book(rules, strict), target))


@app.command("stub")
def stub_rule(
    target: Annotated[str, typer.Argument(help="PACKAGE.MODULE:NAME of a module class, a Function or an operator")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write to this file")] = None,
    force: Annotated[bool, typer.Option("--force", help="also if the file is there already")] = False,
) -> None:
    """Write a rule file to fill in. It loads as it is; what it prices stays unknown until it is filled in."""
    from graphflops.cli.targets import load
    from graphflops.core.errors import UsageError
    from graphflops.report.files import write_atomic
    from graphflops.rules.stubs import stub

    text = stub(load(target))
    if output is None:
        say(text, end="")
    elif output.exists() and not force:
        raise UsageError(f"{output} is there already; give another path, or --force to overwrite it")
    else:
        say(f"wrote {write_atomic(output, text)}: fill in what is marked …")


@app.command("check")
def check_rules(
    files: Annotated[
        list[Path] | None, typer.Argument(help="files or folders of rules; all shipped if left out")
    ] = None,
) -> None:
    """Hold rules to what runs: pure in their sizes, multiply-adds exact, no zero without a reason.

    Exit code 4 if anything is found, 1 if a file does not load. An operator's calls are made up from its schema; of
    anything else a rule brings one, with example=.
    """
    from graphflops.core.errors import RuleLoadError, VerificationFailed
    from graphflops.verify.rule_lint import check_file, check_shipped, place

    found = [check_file(each) for each in files] if files else [check_shipped()]
    for problem in (problem for each in found for problem in each.problems):
        say(str(problem))
    for rule in (rule for each in found for rule in each.untested if files):
        say(f"{place(rule)}: rule {rule.name} was not called: give it @rule(…, example=…)")
    total = sum(len(each.problems) for each in found)
    rules, tested = sum(each.rules for each in found), sum(each.tested for each in found)
    many = "" if rules == 1 else "s", "" if total == 1 else "s"
    say(f"{rules} rule{many[0]}, {tested} held to what runs, {total or 'no'} finding{many[1]}")
    if not all(each.loaded for each in found):
        raise RuleLoadError("rules that are above do not load, and were not checked")
    if total:
        raise VerificationFailed("the rules above are not what their targets do")
