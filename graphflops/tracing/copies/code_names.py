"""Names in the code of functions: which globals and attributes a function may read, and which it writes."""

from __future__ import annotations

import dis
import functools
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

from graphflops.tracing.copies.object_state import is_a

MISSING = object()
"""the content of a variable that has no value"""
_INSTALLED = tuple({*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


@functools.cache
def is_of_libraries(module: str | None) -> bool:
    """Whether a module is Python's or torch's own, whose globals hold no state of a model."""
    package = (module or "").partition(".")[0]
    return package == "torch" or (package in sys.stdlib_module_names and package != "__main__")


def is_users_file(module: types.ModuleType) -> bool:
    """Whether a Python module is neither of these nor of an installed package."""
    file = str(vars(module).get("__file__") or "")
    return not (is_of_libraries(module.__name__) or file.startswith(_INSTALLED))


def user_modules_named(module: Any, code: types.CodeType) -> Iterator[tuple[types.ModuleType, list[tuple[str, Any]]]]:
    """A Python module and those that code names in it, as far as they are users' files, with the names and values."""
    pending, visited = [module], set()
    while pending:
        candidate = pending.pop()
        if is_a(candidate, types.ModuleType) and id(candidate) not in visited and is_users_file(candidate):
            visited.add(id(candidate))
            named = [(name, vars(candidate)[name]) for name in names_in(code) if name in vars(candidate)]
            pending += (value for _, value in named)
            yield candidate, named


def cell_content(cell: types.CellType) -> Any:
    """The value of a variable of a closure; MISSING, if it has none yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> tuple[str, ...]:
    """The global names that code may look up, code of inner functions included."""
    inner = (name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in names_in(constant))
    return (*dict.fromkeys((*code.co_names, *inner)),)


@functools.lru_cache(maxsize=4096)
def names_written(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The globals and the attributes that code sets or deletes, code of inner functions included."""
    inner = [names_written(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    own = [
        (instruction.opname.partition("_")[2], instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR")
    ]
    return (
        frozenset(name for kind, name in own if kind == "GLOBAL").union(*(names for names, _ in inner)),
        frozenset(name for kind, name in own if kind == "ATTR").union(*(names for _, names in inner)),
    )


@functools.lru_cache(maxsize=4096)
def imports_in(code: types.CodeType) -> frozenset[str]:
    """The names of the Python modules that code imports, code of inner functions included."""
    inner = [imports_in(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    if dis.opmap["IMPORT_NAME"] not in code.co_code[::2]:
        return frozenset().union(*inner)
    own = [
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("IMPORT_NAME", "IMPORT_FROM")
    ]
    return frozenset(own).union(*inner)
