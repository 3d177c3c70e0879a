"""The sources of rules, by precedence: shipped, installed packages, files and modules, rules given in Python."""

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
"""the source name of ``adapters.from_torch()``, as in ``--rules torch:registered``"""

RuleSource: TypeAlias = "Rule | ModuleType | str | Path"


@cache
def shipped() -> RuleBook:
    """The rules of graphflops, with the generic rules as fallback."""
    names = sorted(module.name for module in pkgutil.iter_modules(graphflops.rules.shipped.__path__))
    modules = [importlib.import_module(f"graphflops.rules.shipped.{name}") for name in names]
    book = RuleBook.of((rule for module in modules for rule in rules_of(module)), "shipped")
    return replace(book, fallback=_fallback)


def _fallback(book: RuleBook, op: OpOverload | OpOverloadPacket) -> Rule | None:
    from graphflops.rules.fallback import fallback_rule

    return fallback_rule(book, op)


def installed(*, strict: bool = False) -> RuleBook:
    """The rules of installed packages: the entry points of group ``graphflops.rules``, in the order of their names.

    A package whose rules do not load is left out, with a line in the book's ``warnings``.

    Raises:
        RuleLoadError: strict, and the rules of a package do not load; the message names the package.
    """
    book = RuleBook()
    for point in sorted(_entry_points(_folders()), key=lambda point: point.name):
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else "of unknown name"
        try:
            with collect_rules() as collected:
                module = point.load()
            if not isinstance(module, ModuleType):
                raise RuleLoadError(f"{point.value} is a {type(module).__name__}; expected a module with rules")
            _check_overwritten(module, collected)
            book = book | RuleBook.of(_checked(rules_of(module)), f"package {owner}")
        except USER_EXCEPTIONS as error:
            message = (
                f'could not load the rules "{point.name}" ({point.value}) of package {owner}: {_with_location(error)}'
            )
            if strict:
                raise RuleLoadError(message) from error
            book = replace(book, warnings=(*book.warnings, message))
    return book


@lru_cache(maxsize=1)
def _entry_points(folders: Hashable) -> tuple[EntryPoint, ...]:
    """The entry points of installed packages, read again if the folders changed, as that takes a file for each."""
    return tuple(entry_points(group=ENTRY_POINTS))


def _folders() -> Hashable:
    """The folders in which packages are installed, with their times of modification."""
    folders = [folder or "." for folder in sys.path]
    return tuple((folder, os.stat(folder).st_mtime_ns) for folder in folders if os.path.exists(folder))


def local(path: str | Path, *, strict: bool = False) -> RuleBook:
    """The rules of a file, or of every ``.py`` file of a folder.

    A file of a folder that does not load is left out, with a line in the book's ``warnings``.

    Raises:
        RuleLoadError: there is no such file, or it does not load; the message names the line. In a folder: if strict.
        DuplicateRule: two rules name the same target.
    """
    path = Path(path)
    if path.is_dir():
        rules: list[Rule] = []
        warnings: list[str] = []
        for file in sorted(path.glob("*.py")):
            try:
                rules += _load(file)
            except RuleError as error:
                if strict:
                    raise
                warnings.append(str(error))
        return replace(RuleBook.of(rules, str(path)), warnings=tuple(warnings))
    if not path.is_file():
        raise RuleLoadError(f"no such rule file: {path}; give a Python file, or a folder of them")
    if path.suffix != ".py":
        raise RuleLoadError(f"{path} is not a rule file: rules are Python, in a file that ends in .py")
    return RuleBook.of(_load(path), str(path))


def rulebook(rules: Iterable[RuleSource] | None = None, *, strict: bool = False) -> RuleBook:
    """The book of all rules, by precedence: shipped < installed < files, folders and modules < single rules.

    Among equals the later takes precedence: packages in the order of their entry points' names, files in the order
    given. ``"torch:registered"`` stands for the rules of ``adapters.from_torch``.

    Raises:
        UsageError: ``rules`` is not a list.
        RuleError: a rule in ``rules`` is wrong; if strict, also one that is installed or in a folder.
    """
    if isinstance(rules, (str, Path, Rule, ModuleType, RuleDecorator)) or not isinstance(rules, Iterable | None):
        raise UsageError(f"rules must be a list, as in rules=['my_rules.py'], not a {type(rules).__name__}")
    sources = list(rules or ())
    check_decorators(sources)
    book = shipped() | installed(strict=strict)
    for source in sources:
        if isinstance(source, (str, Path)) and str(source) == REGISTERED:
            from graphflops.rules.adapters import from_torch

            book = book | RuleBook.of(_checked(from_torch()), REGISTERED)
        elif isinstance(source, (str, Path)):
            book = book | local(source, strict=strict)
        elif isinstance(source, ModuleType):
            check_decorators(vars(source).values())
            book = book | RuleBook.of(_checked(rules_of(source)), str(source.__file__))
    single = [source for source in sources if isinstance(source, Rule)]
    if unusable := [source for source in sources if not isinstance(source, (str, Path, ModuleType, Rule))]:
        description = "@rule without brackets" if isinstance(unusable[0], RuleDecorator) else format_value(unusable[0])
        raise RuleLoadError(
            f"{description} is not a rule: give a path, a module, or a function decorated with @graphflops.rule(TARGET)"
        )
    return book | RuleBook.of(_checked(single), "given")


def _checked(rules: Iterable[Rule]) -> list[Rule]:
    """The same rules, if their targets provide their arguments, as far as that is known without a call.

    This imports torch, so shipped rules are checked by a test instead.

    Raises:
        RuleLoadError: an argument is not available; the message names rule, file, line and the available names.
    """
    checked = list(rules)
    for rule in checked:
        from graphflops.rules.available_names import check_signature

        if problem := check_signature(rule):
            raise RuleLoadError(f"{rule.file}:{rule.line}: rule {rule.name} {problem}")
    return checked


def _load(file: Path) -> list[Rule]:
    name = f"graphflops_local_rules_{file.stem}_{hashlib.sha1(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RuleLoadError(
            f"{file} is not a rule file: give a Python file, whose name ends in .py, or a folder of them"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and string annotations in the file look it up
    try:
        with collect_rules() as collected:
            spec.loader.exec_module(module)
    except USER_EXCEPTIONS as error:
        raise RuleLoadError(f"could not load the rule file {_with_line(file, error)}") from error
    finally:
        del sys.modules[name]
    _check_overwritten(module, collected)
    return _checked(rules_of(module))


def _check_overwritten(module: ModuleType, collected: Iterable[Rule]) -> None:
    """Check that no rule of a module was overwritten by a later one of the same name.

    Raises:
        DuplicateRule: one was.
    """
    check_decorators(vars(module).values())
    kept = {id(value) for value in vars(module).values()}
    for rule in collected:
        if rule.file == module.__file__ and id(rule) not in kept:
            later = next(
                (candidate for candidate in collected if id(candidate) in kept and candidate.name == rule.name), None
            )
            place = f"{module.__file__}:{rule.line}" + (f" and line {later.line}" if later else "")
            raise DuplicateRule(
                f"two rules of the same name: {rule.name}, {place}. Python keeps the second alone; rename one of them"
            )


def _with_location(error: BaseException) -> str:
    """An error in one line, with file and line unless it is a RuleError, which names them."""
    if isinstance(error, RuleError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    return f"{location_of(error, source=False)}: {format_error(error)}"


def _with_line(file: Path, error: BaseException) -> str:
    """An error in one line, with the line of the rule file that it comes from."""
    if isinstance(error, SyntaxError):
        return f"{file}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    line_numbers = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file.resolve()]
    message = str(error) if isinstance(error, RuleError) else format_error(error)
    return f"{file}:{line_numbers[-1] if line_numbers else 1}: {message}"
