"""Where rules come from: shipped, announced by installed packages, local files, given in the call. The later wins."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import graphflops.rules.shipped
from graphflops.core.errors import DuplicateRule, RuleError, RuleLoadError, UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, format_value, location_of
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule, RuleDecorator, check_decorators, collect_rules, rules_of

if TYPE_CHECKING:
    from graphflops.core.torch_compat import OpOverload, OpOverloadPacket

ENTRY_POINTS = "graphflops.rules"
REGISTERED = "torch:registered"
"""what stands for ``adapters.from_torch()`` on a command line: ``--rules torch:registered``"""

RuleSource: TypeAlias = "Rule | ModuleType | str | Path"


@cache
def shipped() -> RuleBook:
    """The rules of the package, one file for one family, and below them the generic ones."""
    names = sorted(each.name for each in pkgutil.iter_modules(graphflops.rules.shipped.__path__))
    modules = [importlib.import_module(f"graphflops.rules.shipped.{name}") for name in names]
    book = RuleBook.of((rule for module in modules for rule in rules_of(module)), "shipped")
    return replace(book, fallback=_fallback)


def _fallback(book: RuleBook, op: OpOverload | OpOverloadPacket) -> Rule | None:
    from graphflops.rules.fallback import fallback_rule

    return fallback_rule(book, op)


def installed(*, strict: bool = False) -> RuleBook:
    """The rules that installed packages announce in the entry-point group ``graphflops.rules``, by their names' order.

    A package whose rules do not load takes nobody else's down: the book's ``warnings`` say what is left out.

    Raises:
        RuleLoadError: strict, and one of them does not load; the message names the package.
    """
    book = RuleBook()
    for point in sorted(_announced(_searched()), key=lambda each: each.name):
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else "of unknown name"
        try:
            with collect_rules() as made:
                module = point.load()
            if not isinstance(module, ModuleType):
                raise RuleLoadError(f"{point.value} is a {type(module).__name__}, not a module that holds rules")
            _refuse_lost(module, made)
            book = book | RuleBook.of(_checked(rules_of(module)), f"package {owner}")
        except USER_EXCEPTIONS as error:
            message = (
                f'could not load the rules "{point.name}" that the package {owner} announces ({point.value}): '
                f"{_said(error)}"
            )
            if strict:
                raise RuleLoadError(message) from error
            book = replace(book, warnings=(*book.warnings, message))
    return book


@lru_cache(maxsize=1)
def _announced(searched: Hashable) -> tuple[EntryPoint, ...]:
    """What packages announce, read again if the folders ``searched`` have changed: it takes a file of each package."""
    return tuple(entry_points(group=ENTRY_POINTS))


def _searched() -> Hashable:
    """The folders in which packages are installed, and when something was last installed there."""
    folders = [each or "." for each in sys.path]
    return tuple((each, os.stat(each).st_mtime_ns) for each in folders if os.path.exists(each))


def local(path: str | Path, *, strict: bool = False) -> RuleBook:
    """The rules of a file, or of every ``.py`` file of a folder.

    A file of a folder that does not load takes no other down: the book's ``warnings`` say what is left out.

    Raises:
        RuleLoadError: no such file, or it does not load; the message names file and line. Of a folder: if strict.
        DuplicateRule: two of its rules name the same target.
    """
    path = Path(path)
    if path.is_dir():
        found: list[Rule] = []
        warnings: list[str] = []
        for file in sorted(path.glob("*.py")):
            try:
                found += _load(file)
            except RuleError as error:
                if strict:
                    raise
                warnings.append(str(error))
        return replace(RuleBook.of(found, str(path)), warnings=tuple(warnings))
    if not path.is_file():
        raise RuleLoadError(f"there is no rule file {path}; give a Python file, or a folder of them")
    if path.suffix != ".py":
        raise RuleLoadError(f"{path} is no rule file: rules are Python, in a file that ends in .py")
    return RuleBook.of(_load(path), str(path))


def rulebook(rules: Iterable[RuleSource] | None = None, *, strict: bool = False) -> RuleBook:
    """All four layers as one book: shipped < installed < files, folders and modules < rules given one by one.

    Within one of them the later speaks over the earlier: packages by the names of their entry points, files in the
    order in which they are given. ``"torch:registered"`` is all that ``adapters.from_torch`` finds.

    Raises:
        UsageError: it is no list.
        RuleError: what is given here is wrong; strict, what is installed or in a folder is as well.
    """
    if isinstance(rules, (str, Path, Rule, ModuleType, RuleDecorator)) or not isinstance(rules, Iterable | None):
        raise UsageError(f"rules must be a list, as in rules=['my_rules.py'], not a {type(rules).__name__}")
    given = list(rules or ())
    check_decorators(given)
    book = shipped() | installed(strict=strict)
    for each in given:
        if isinstance(each, (str, Path)) and str(each) == REGISTERED:
            from graphflops.rules.adapters import from_torch

            book = book | RuleBook.of(_checked(from_torch()), REGISTERED)
        elif isinstance(each, (str, Path)):
            book = book | local(each, strict=strict)
        elif isinstance(each, ModuleType):
            check_decorators(vars(each).values())
            book = book | RuleBook.of(_checked(rules_of(each)), str(each.__file__))
    single = [each for each in given if isinstance(each, Rule)]
    unusable = [each for each in given if not isinstance(each, (str, Path, ModuleType, Rule))]
    if unusable:
        what = "@rule without brackets" if isinstance(unusable[0], RuleDecorator) else format_value(unusable[0])
        raise RuleLoadError(
            f"{what} is not a rule: give a path, a module, or a function marked with @graphflops.rule(TARGET)"
        )
    return book | RuleBook.of(_checked(single), "given")


def _checked(rules: Iterable[Rule]) -> list[Rule]:
    """The same rules, if they ask for what calls can offer, as far as that is known.

    To know that takes torch, which is imported for any rule that is not shipped; those are held to it by a test.

    Raises:
        RuleLoadError: one of them does not; the message names rule, file and line, and what is offered.
    """
    checked = list(rules)
    for rule in checked:
        from graphflops.rules.available_names import check_signature

        if wrong := check_signature(rule):
            raise RuleLoadError(f"{rule.file}:{rule.line}: rule {rule.name} {wrong}")
    return checked


def _load(file: Path) -> list[Rule]:
    name = f"graphflops_local_rules_{file.stem}_{hashlib.sha1(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RuleLoadError(f"{file} is no rule file: give a Python file, whose name ends in .py, or a folder of them")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that dataclasses and string annotations of the file resolve
    try:
        with collect_rules() as made:
            spec.loader.exec_module(module)
    except USER_EXCEPTIONS as error:
        raise RuleLoadError(f"could not load the rule file {_where(file, error)}") from error
    finally:
        del sys.modules[name]
    _refuse_lost(module, made)
    return _checked(rules_of(module))


def _refuse_lost(module: ModuleType, made: Iterable[Rule]) -> None:
    """Of two rules under one name Python keeps the second alone; the first would be gone without a word."""
    check_decorators(vars(module).values())
    kept = {id(each): name for name, each in vars(module).items()}
    for rule in made:
        if rule.file == module.__file__ and id(rule) not in kept:
            other = next((each for each in made if id(each) in kept and each.name == rule.name), None)
            where = f"{module.__file__}:{rule.line}" + (f" and line {other.line}" if other else "")
            raise DuplicateRule(
                f"two rules under one name: {rule.name}, {where}. Python keeps the second alone; "
                "give each a name of its own"
            )


def _said(error: BaseException) -> str:
    """An error in one line, with the place it comes from if it is not one of ours, which name it."""
    if isinstance(error, RuleError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    return f"{location_of(error, source=False)}: {format_error(error)}"


def _where(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{file}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [each.lineno for each in frames if Path(each.filename).resolve() == file.resolve()]
    told = str(error) if isinstance(error, RuleError) else format_error(error)
    return f"{file}:{lines[-1] if lines else 1}: {told}"
