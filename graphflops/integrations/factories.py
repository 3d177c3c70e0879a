"""Models of the user's code: ``module:factory``, ``file.py:factory``, ``module:Class(64, 2)``, and ``model.pt2``."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphflops.analysis.arguments import check_model
from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, location_of, shortened
from graphflops.integrations.loaded import build

EXPORTED = ".pt2"
_TARGET = re.compile(r"(?P<module>[^:]*?(?:\.py)?):(?P<path>[^:(]+)(?P<call>\(.*\))?", re.DOTALL)


def load_object(target: str) -> Any:
    """The object that ``MODULE:NAME`` or ``FILE.py:NAME`` refers to.

    Raises:
        UsageError: no such module, file or name, or the import fails.
    """
    module_name, path, call = _parse(target)
    if call:
        raise UsageError(f"invalid target {target!r}: expected a name without arguments")
    return _attribute(_import(module_name, target), module_name, path, target)


def load_model(target: str) -> nn.Module:
    """The model of ``MODULE:FACTORY``: a function or class, or a module; arguments are literals, as in ``m:Net(64)``.

    It is built on the meta device, without memory for weights, or on the CPU if the factory fails on meta.

    Raises:
        UsageError: no such module or name, or the factory raises or does not return a torch.nn.Module.
    """
    module_name, path, call = _parse(target)
    factory = _attribute(_import(module_name, target), module_name, path, target)
    if call:
        args, kwargs = _literal_arguments(call, target)
        model = _call(partial(factory, *args, **kwargs) if callable(factory) else factory, target)
    else:
        model = factory if issubclass(type(factory), nn.Module) else _call(factory, target)
    if not issubclass(type(model), nn.Module):
        raise UsageError(f"{target} returned a {type(model).__name__}, not a torch.nn.Module")
    check_model(model)
    return model  # type: ignore[no-any-return]


def load_exported(path: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The program in a file of ``torch.export.save``, with the inputs that it was exported with.

    Raises:
        UsageError: there is no such file, or it holds no exported program.
    """
    if not Path(path).is_file():
        raise UsageError(f"there is no file {path}")
    try:
        program = torch.export.load(path)
    except USER_EXCEPTIONS as error:
        message = f"{path} holds no program that this version of torch can load: {format_error(error)}"
        raise UsageError(f"{message}\n    expected a file of torch.export.save") from error
    args, kwargs = program.example_inputs or ((), {})
    return program, args, dict(kwargs)


def _parse(target: str) -> tuple[str, str, str | None]:
    match = _TARGET.fullmatch(target)
    if match is None or not match["module"] or (match["module"].startswith(".") and not _is_file(match["module"])):
        raise UsageError(
            f"invalid target {shortened(target, 200)!r}: expected MODULE:FACTORY, for example my.models:tiny"
        )
    return match["module"], match["path"].strip(), match["call"]


def _attribute(module: Any, module_name: str, path: str, target: str) -> Any:
    value = module
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            near = get_close_matches(name, vars(value) if hasattr(value, "__dict__") else (), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"{target}: {module_name} has no {path!r}{hint}") from None
        except USER_EXCEPTIONS as error:
            raise UsageError(
                f"{target}: reading {name!r} raised {format_error(error)}\n    {location_of(error)}"
            ) from error
    return value


def _is_file(module_name: str) -> bool:
    return module_name.endswith(".py")


def _import(module_name: str, target: str) -> Any:
    folder = str(Path(module_name).resolve().parent if _is_file(module_name) else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return _import_file(Path(module_name)) if _is_file(module_name) else importlib.import_module(module_name)
    except FileNotFoundError as error:
        if _is_file(module_name) and not Path(module_name).exists():
            raise UsageError(f"{target}: there is no file {module_name}") from error
        raise UsageError(f"{target}: importing {module_name} failed, {location_of(error)}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UsageError(f"{target}: no module {module_name!r} in this folder or installed") from error
        raise UsageError(f"{target}: importing {module_name} failed, {location_of(error)}: {error}") from error
    except USER_EXCEPTIONS as error:
        raise UsageError(
            f"{target}: importing {module_name} failed, {location_of(error)}: {format_error(error)}"
        ) from error


def _import_file(path: Path) -> Any:
    """Import a file under its own name, or under another if a module of that name is imported already."""
    path = path.resolve()
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    name = path.stem if loaded is None else f"{path.stem}_of_target"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _literal_arguments(call: str, target: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call such as ``(64, heads=2)``."""
    try:
        tree = ast.parse(f"call{call}", mode="eval").body
        if not isinstance(tree, ast.Call):
            raise ValueError("this is no call")
        keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords if keyword.arg}
        return [ast.literal_eval(argument) for argument in tree.args], keywords
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UsageError(
            f"{shortened(target, 200)}: arguments are literals, as in Net(64, heads=2): {format_error(error)}"
        ) from error


def _call(factory: Callable[[], Any] | Any, target: str) -> Any:
    if not callable(factory):
        raise UsageError(f"{target} is a {type(factory).__name__}; expected a torch.nn.Module or a function")
    return build(factory, target)
