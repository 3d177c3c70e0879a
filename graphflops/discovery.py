"""Where rules come from: shipped, announced by installed packages, local files, given in the call. The later wins."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import graphflops.rules
from graphflops import generic
from graphflops.errors import DuplicateRule, RuleLoadError
from graphflops.rulebook import Rule, RuleBook, rules_made, rules_of

ENTRY_POINTS = "graphflops.rules"

RuleSource: TypeAlias = "Rule | ModuleType | str | Path"


@cache
def shipped() -> RuleBook:
    """The rules of the package, one file for one family, and below them the generic ones."""
    names = sorted(each.name for each in pkgutil.iter_modules(graphflops.rules.__path__))
    modules = [importlib.import_module(f"graphflops.rules.{name}") for name in names]
    book = RuleBook.of(rule for module in modules for rule in rules_of(module))
    return replace(book, beyond=generic.beyond)


def installed() -> RuleBook:
    """The rules that installed packages announce in the entry-point group ``graphflops.rules``.

    Raises:
        RuleLoadError: one of them does not load; the message names the package.
    """
    book = RuleBook()
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda each: each.name):
        try:
            module = point.load()
        except Exception as error:
            owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
            raise RuleLoadError(
                f'could not load the rules "{point.name}" that {owner} announces ({point.value}): {error}'
            ) from error
        book = book | RuleBook.from_module(module)
    return book


def local(path: str | Path) -> RuleBook:
    """The rules of a file, or of every ``.py`` file of a folder.

    Raises:
        RuleLoadError: no such file, or it does not load; the message names file and line.
        DuplicateRule: two of its rules name the same target.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.py"))
        return RuleBook.of(rule for file in files for rule in rules_of(_load(file)))
    if not path.is_file():
        raise RuleLoadError(f"there is no rule file {path}; give a Python file, or a folder of them")
    return RuleBook.from_module(_load(path))


def rulebook(rules: Iterable[RuleSource] | None = None) -> RuleBook:
    """All four layers as one book: shipped < installed < files and folders < rules given one by one."""
    given = list(rules or ())
    book = shipped() | installed()
    for each in given:
        if isinstance(each, (str, Path)):
            book = book | local(each)
        elif isinstance(each, ModuleType):
            book = book | RuleBook.from_module(each)
    single = [each for each in given if isinstance(each, Rule)]
    unusable = [each for each in given if not isinstance(each, (str, Path, ModuleType, Rule))]
    if unusable:
        raise RuleLoadError(
            f"{unusable[0]!r} is not a rule: give a path, a module, or a function marked with @graphflops.rule"
        )
    return book | RuleBook.of(single)


def _load(file: Path) -> ModuleType:
    name = f"graphflops_local_rules_{file.stem}_{hashlib.sha1(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that dataclasses and string annotations of the file resolve
    try:
        with rules_made() as made:
            spec.loader.exec_module(module)
    except Exception as error:
        raise RuleLoadError(f"could not load the rule file {_where(file, error)}") from error
    finally:
        del sys.modules[name]
    _refuse_lost(module, made)
    return module


def _refuse_lost(module: ModuleType, made: Iterable[Rule]) -> None:
    """Of two rules under one name Python keeps the second alone; the first would be gone without a word."""
    kept = {id(each): name for name, each in vars(module).items()}
    for rule in made:
        if rule.file == module.__file__ and id(rule) not in kept:
            other = next((each for each in made if id(each) in kept and each.name == rule.name), None)
            where = f"{module.__file__}:{rule.line}" + (f" and line {other.line}" if other else "")
            raise DuplicateRule(
                f"two rules under one name: {rule.name}, {where}. Python keeps the second alone; "
                "give each a name of its own"
            )


def _where(file: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{file}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [each.lineno for each in frames if Path(each.filename).resolve() == file.resolve()]
    return f"{file}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}"
