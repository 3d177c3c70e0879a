"""Commands about budgets in pyproject.toml: budget check, budget update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphflops.cli import options
from graphflops.core.codec import read_toml
from graphflops.core.errors import BudgetExceeded, UsageError
from graphflops.core.messages import format_path, format_value
from graphflops.report.terminal import say

if TYPE_CHECKING:
    from graphflops.report.report import Report

app = typer.Typer(help="Check models against the budgets in pyproject.toml, and update them.", no_args_is_help=True)

TABLE = "tool.graphflops.budget"
_ANALYSIS = ("input", "batch", "seq", "image", "optimizer", "inference", "convention", "attention", "rules", "rates")
"""keys of a budget that are options of the analysis"""
_KINDS: Mapping[type, str] = {int: "an integer ≥ 1", bool: "true or false", str: "a text"}
_LISTS = {"input": "inputs", "rules": "rules", "rates": "rates"}

Targets = Annotated[
    list[str] | None, typer.Argument(help="keys of the table; default: all", show_default=False, metavar="[TARGETS]...")
]
File = Annotated[Path, typer.Option("--file", help="the TOML file with the table [tool.graphflops.budget]")]
PYPROJECT = Path("pyproject.toml")


@app.command()
def check(targets: Targets = None, file: File = PYPROJECT) -> None:
    """Analyze each model with a budget; exit with code 3 if a number is over its limit, and say which module grew."""
    from graphflops.core.units import format_si
    from graphflops.report.budgets import Budget, quantity

    exceeded, total = [], 0
    for target, table in _chosen(_budgets(file), targets, file):
        with _place(file, target):
            budget, report = Budget.of(**_limits(table)), _report(target, table)
        total += 1
        try:
            budget.check(report, target)
        except BudgetExceeded as error:
            exceeded.append(target)
            say(f"over    {error}")
        else:
            numbers = (f"{name} {format_si(quantity(report, name))}" for name in budget.limits)
            say(f"within  {target}: {', '.join(numbers)}")
    if exceeded:
        raise BudgetExceeded(
            f"{len(exceeded)} of {total} budgets exceeded; if that is intended, run: graphflops budget update"
        )


@app.command()
def update(
    targets: Targets = None,
    inputs: options.Inputs = None,
    batch: options.Batch = None,
    seq: options.Seq = None,
    image: options.Image = None,
    file: File = PYPROJECT,
) -> None:
    """Write the numbers of today into the table, comments and order kept; a new TARGET gets a budget."""
    from graphflops.report.budgets import QUANTITIES
    from graphflops.report.files import write_atomic

    tomlkit = _tomlkit()
    _budgets(file, required=not targets)  # one message for files that are not TOML
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    section: Any = document
    for name in TABLE.split("."):
        if name not in section:
            section[name] = tomlkit.table(is_super_table=name != "budget")
        section = section[name]
    given = {"input": inputs, "batch": batch, "seq": seq, "image": image}
    if any(given.values()) and not targets:
        raise UsageError("--input, --batch, --seq and --image need a TARGET: graphflops budget update TARGET --input …")
    for target in targets or list(section):
        if target not in section:
            section[target] = tomlkit.inline_table()
            section[target].update({"total": "", "parameters": "", "unknown": 0})
        table = section[target]
        table.update({name: value for name, value in given.items() if value})
        with _place(file, target):
            _write(table, _report(target, table))
        numbers = (f"{name} {table[name]}" for name in QUANTITIES if name in table)
        say(f"updated {target}: {', '.join(numbers)}")
    write_atomic(file, tomlkit.dumps(document))


def _write(table: MutableMapping[str, Any], report: Report) -> None:
    """Set the limits of a table to the numbers of a report, and the numbers of its modules."""
    from graphflops.core.units import format_limit
    from graphflops.report.budgets import Budget, quantity, stored_modules

    Budget.of(**{name: value or 0 for name, value in _limits(table).items()})  # raises for unknown keys
    for name, value in _limits(table).items():
        if name not in ("tolerance", "modules"):
            number = quantity(report, name)
            table[name] = format_limit(number) if isinstance(value, str) else number
    modules = {path: format_limit(number) for path, number in stored_modules(report).items()}
    if modules:
        inline = _tomlkit().inline_table()
        inline.update(modules)
        table["modules"] = inline


def _budgets(file: Path, *, required: bool = True) -> Mapping[str, Mapping[str, Any]]:
    """Target → its table.

    Raises:
        UsageError: the file cannot be read, or has no valid table.
    """
    section: Any = read_toml(file, "project file")
    for name in TABLE.split("."):
        section = section.get(name, {}) if isinstance(section, dict) else section
    if not isinstance(section, dict) or not all(isinstance(table, dict) for table in section.values()):
        raise UsageError(f'{format_path(file)}: [{TABLE}] has lines such as "module:model" = {{ total = "16.4 G" }}')
    if required and not section:
        raise UsageError(f"{format_path(file)} has no [{TABLE}]: graphflops budget update TARGET adds one")
    return section


def _chosen(
    budgets: Mapping[str, Mapping[str, Any]], targets: Iterable[str] | None, file: Path
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for target in targets or budgets:
        if target not in budgets:
            raise UsageError(f"{format_path(file)} has no budget of {target}; it has: {', '.join(budgets)}")
        yield target, budgets[target]


def _limits(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in _ANALYSIS}


def _report(target: str, table: Mapping[str, Any]) -> Report:
    from graphflops.cli.reports import Analysis

    analysis: dict[str, Any] = {}
    for name in _ANALYSIS:
        if name in table:
            analysis[_LISTS.get(name, name)] = _option(name, table[name])
    return Analysis(**analysis).report(target)


def _option(name: str, value: Any) -> Any:
    """The value of an option of the analysis, checked.

    Raises:
        UsageError: it has another type.
    """
    if name in _LISTS:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            return [Path(text) for text in texts] if name == "rules" else [str(text) for text in texts]
        raise UsageError(f"{name} must be a text or a list of texts, not {format_value(value)}")
    kind: type = {"batch": int, "seq": int, "inference": bool}.get(name, str)
    if type(value) is not kind or (type(value) is int and value < 1):
        raise UsageError(f"{name} must be {_KINDS[kind]}, not {format_value(value)}")
    return value


@contextmanager
def _place(file: Path, target: str) -> Iterator[None]:
    """A context that adds the place in the file to errors."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{format_path(file)}, budget of {target}: {error}") from error


def _tomlkit() -> Any:
    try:
        import tomlkit
    except ModuleNotFoundError:
        raise UsageError('budget update needs tomlkit: pip install "graphflops[budget]"') from None
    return tomlkit
