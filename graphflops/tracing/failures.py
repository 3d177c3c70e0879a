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
from graphflops.raised import said, shortened
from graphflops.rulebook import dotted_name
from graphflops.sizes import Spec

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_MODELS = _PACKAGE + "models" + os.sep
_NOT_THE_USERS = (os.path.dirname(torch.__file__) + os.sep, _PACKAGE, "<")
_NEEDS_DATA = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode")
_SLIPS = (AssertionError, AttributeError, LookupError, NameError)
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


def raised_by_user(error: BaseException) -> bool:
    """Whether the line that raised an error is the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _is_users(frames[-1].filename)


def failure(
    error: Exception, root: nn.Module, name: str, path: str, inputs: Sequence[Spec], blank: Sequence[str] = ()
) -> str:
    """The message for a trace that an error ended, in the module at ``path``.

    ``blank`` are the buffers that hold no value, being on the meta device, and were asked for one.
    """
    module = root.get_submodule(path)
    is_bare = not path and _is_function(root)
    needs_data = asks_for_data(error)
    reason = "this line needs a value that only data can tell" if needs_data else said(error)
    lines = [
        f"could not trace {name}",
        f"    where   {path or 'the model itself'} ({type(module).__name__ if path else name}), {_line_of(error)}",
        f"    why     {reason}",
        f"    inputs  {shortened(', '.join(map(str, inputs)), 1000) or 'none'}",
        f"    tried   {_tried(root, module, path)}",
        "",
    ]
    if needs_data and blank:
        lines += [
            f"It asked for the value of {', '.join(blank)}, which has none on the meta device: "
            "build the model on the CPU, or give a rule that describes the outputs:",
            "",
        ]
    elif needs_data and is_bare:
        lines += [
            f"Put what this line decides into a torch.nn.Module, or into an operator of torch.library.custom_op, that "
            f"{name} calls, and give that a rule that describes its outputs: then it need not run."
        ]
    elif needs_data:
        lines += [f"Give {type(module).__name__} a rule that describes its outputs, so that it need not run:", ""]
    if needs_data and not is_bare:
        lines += [f"    {line}".rstrip() for line in _stub(module).splitlines()]
    elif not needs_data and _is_ours(error):
        lines += ["graphflops is at fault here, and not the model: please report this, with the model if you can."]
    elif not needs_data:
        lines += ["The model's own code stopped here. Check the shapes and dtypes of the inputs against its forward."]
    return "\n".join(lines)


def _is_function(root: nn.Module) -> bool:
    """Whether the user gave a function, which is traced as a module of ours."""
    return type(root).__module__.startswith("graphflops.tracing")


def asks_for_data(error: BaseException | None) -> bool:
    """Whether a trace ended where a value was asked for that only data can tell."""
    return type(error).__name__ in _NEEDS_DATA or (error is not None and _OF_NUMPY in said(error))


def also_tried(error: CaptureError, way: str) -> CaptureError:
    """The same error, which says of another way to a graph as well why it is none."""
    return CaptureError(str(error).replace(_OPAQUE, f"; {shortened(way, 500)}{_OPAQUE}", 1))


def _tried(root: nn.Module, module: nn.Module, path: str) -> str:
    """What each way to a graph had to say, in their order."""
    given = "a given graph, replayed" if isinstance(root, fx.GraphModule) else "no graph was given"
    whole = "the function" if _is_function(root) else "the whole model"
    of = dotted_name(type(module)) if path else whole
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


def _is_ours(error: Exception) -> bool:
    """Whether an error says more of how the model was traced than of the model: of code that is never handed a call."""
    frames = traceback.extract_tb(error.__traceback__)
    in_ours = bool(frames) and frames[-1].filename.startswith(_PACKAGE) and not frames[-1].filename.startswith(_MODELS)
    return "INTERNAL ASSERT FAILED" in said(error) or (in_ours and isinstance(error, _SLIPS))


def _line_of(error: Exception) -> str:
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(_NOT_THE_USERS)
    ]
    if not frames:
        return "outside of any source file"
    last = frames[-1]
    line = f": {shortened(last.line, 200)}" if last.line else ""
    return f"{last.filename}:{last.lineno}{line}"
