"""What to say when a model cannot be traced: where, why, and what to do. And which source line is the user's."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import fx, nn

from graphflops.errors import CaptureError
from graphflops.rulebook import dotted_name
from graphflops.sizes import Spec

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_MODELS = _PACKAGE + "models" + os.sep
_NOT_THE_USERS = (os.path.dirname(torch.__file__) + os.sep, _PACKAGE, "<")
_NEEDS_DATA = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode")
_OPAQUE = "; opaque:"
_OF_NUMPY = ".numpy() is not supported"


@lru_cache(maxsize=4096)
def _is_users(file: str) -> bool:
    return file.startswith(_MODELS) or not file.startswith(_NOT_THE_USERS)


def user_line() -> str:
    """``file:line`` of the innermost frame that is neither torch's nor the tracer's."""
    frame = inspect.currentframe()
    while frame is not None and not _is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def failure(
    error: Exception, root: nn.Module, name: str, path: str, inputs: Sequence[Spec], blank: Sequence[str] = ()
) -> str:
    """The message for a trace that an error ended, in the module at ``path``.

    ``blank`` are the buffers that hold no value, being on the meta device, and were asked for one.
    """
    module = root.get_submodule(path)
    needs_data = asks_for_data(error)
    reason = "this line needs a value that only data can tell" if needs_data else f"{type(error).__name__}: {error}"
    lines = [
        f"could not trace {name}",
        f"    where   {path or 'the model itself'} ({type(module).__name__ if path else name}), {_line_of(error)}",
        f"    why     {reason}",
        f"    inputs  {', '.join(map(str, inputs)) or 'none'}",
        f"    tried   {_tried(root, module, path)}",
        "",
    ]
    if needs_data and blank:
        lines += [
            f"It asked for the value of {', '.join(blank)}, which has none on the meta device: "
            "build the model on the CPU, or give a rule that describes the outputs:",
            "",
        ]
    elif needs_data:
        lines += [f"Give {type(module).__name__} a rule that describes its outputs, so that it need not run:", ""]
    if needs_data:
        lines += [f"    {line}".rstrip() for line in _stub(module).splitlines()]
    else:
        lines += ["The model's own code stopped here. Check the shapes and dtypes of the inputs against its forward."]
    return "\n".join(lines)


def asks_for_data(error: BaseException | None) -> bool:
    """Whether a trace ended where a value was asked for that only data can tell."""
    return type(error).__name__ in _NEEDS_DATA or _OF_NUMPY in str(error)


def also_tried(error: CaptureError, way: str) -> CaptureError:
    """The same error, which says of another way to a graph as well why it is none."""
    return CaptureError(str(error).replace(_OPAQUE, f"; {way}{_OPAQUE}", 1))


def _tried(root: nn.Module, module: nn.Module, path: str) -> str:
    """What each way to a graph had to say, in their order."""
    given = "a given graph, replayed" if isinstance(root, fx.GraphModule) else "no graph was given"
    of = dotted_name(type(module)) if path else "the whole model"
    return f"{given}; run on fake tensors: stopped here{_OPAQUE} no rule describes the outputs of {of}"


def _stub(module: nn.Module) -> str:
    """A rule for a module's class, ready to paste: the Op is unknown, and not zero, until it is filled in."""
    cls = type(module)
    first = next(iter(inspect.signature(module.forward).parameters), "input")
    return "\n".join(
        [
            "from graphflops import Cost, Unpriced, Work, rule",
            "",
            f'@rule("{dotted_name(cls)}", outputs=lambda {first}: {first})  # outputs: as {first}; mend if not',
            f"def {cls.__name__.lower()}({first}):",
            '    """Say the formula here, and what it leaves out."""',
            f"    raise Unpriced(\"fill in: return Cost(Work(macs=…), grads={{'{first}': …, '*': …}})\")",
        ]
    )


def _line_of(error: Exception) -> str:
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(_NOT_THE_USERS)
    ]
    if not frames:
        return "outside of any source file"
    last = frames[-1]
    return f"{last.filename}:{last.lineno}: {last.line}" if last.line else f"{last.filename}:{last.lineno}"
