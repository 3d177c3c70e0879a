"""Whose doing an error of a trace is: the model's own, a value that nobody gave, or something graphflops cannot do yet.

The evidence is the frame that raised it (the user's code, PyTorch, or ours), and whether the error speaks of tensors
without data, which a run on real ones never does.
"""

from __future__ import annotations

import dis
import os
import re
import traceback
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import torch

from graphflops.core.messages import format_error

PACKAGE = str(Path(__file__).parents[1]) + os.sep
MODELS = PACKAGE + "models" + os.sep
NOT_THE_USERS = (os.path.dirname(torch.__file__) + os.sep, PACKAGE, "<")

_NEEDS_DATA = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode")
_OF_NUMPY = ".numpy() is not supported"
_IN_WORDS_OF_PYTORCH = tuple(f"{PACKAGE}capture{os.sep}{name}.py" for name in ("dtypes", "torchscript"))
"""files of ours that raise what PyTorch raises on real tensors"""
_OF_TRACES = tuple(
    os.path.join(os.path.dirname(torch.__file__), *path) + os.sep for path in (("_subclasses",), ("fx",), ("export",))
)
"""where PyTorch keeps what runs for tensors without data alone"""
_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, ArithmeticError)
"""how operators refuse their operands"""
_WITHOUT_DATA = re.compile(
    r"FakeTensor|fake tensor|fake impl|INTERNAL ASSERT FAILED|Could not run '|'meta' device|meta tensor|SymInt|unbacked"
    r"|Unsupported\w+Exception|data is not allocated|invalid python storage|doesn't have storage|data pointer",
    re.IGNORECASE,
)
"""what errors speak of that a run on real tensors does not have"""
_NO_ATTRIBUTE = re.compile(r"'(?:FakeTensor|Parameter|Tensor)' object has no attribute '(\w+)'")


class Fault(Enum):
    """What a trace failed at."""

    MODEL = "the model raised by itself, and would on real tensors"
    VALUE = "it asks for a value that nobody gave"
    HERE = "graphflops cannot do this yet"


def fault_of(error: BaseException) -> Fault:
    """What a trace failed at, by the error that ended it."""
    if needs_data(error):
        return Fault.VALUE
    text = format_error(error)
    if (attribute := missing_attribute(error)) is not None:
        return Fault.HERE if hasattr(torch.Tensor, attribute) or attribute in OF_DISTRIBUTED else Fault.MODEL
    if _WITHOUT_DATA.search(text):
        return Fault.HERE
    innermost = _innermost(error)
    if innermost is None:
        return Fault.HERE
    file = innermost.tb_frame.f_code.co_filename
    if is_users(file) or file.startswith(_IN_WORDS_OF_PYTORCH):
        return Fault.MODEL
    if file.startswith(PACKAGE):
        return Fault.MODEL if isinstance(error, _REFUSALS) and _calls_anything(innermost) else Fault.HERE
    is_refusal = isinstance(error, _REFUSALS) and type(error) is not NotImplementedError
    return Fault.HERE if file.startswith(_OF_TRACES) and not is_refusal else Fault.MODEL


def needs_data(error: BaseException | None) -> bool:
    """Whether a trace ended where a value was asked for that only data can tell."""
    return type(error).__name__ in _NEEDS_DATA or (error is not None and _OF_NUMPY in format_error(error))


def missing_attribute(error: BaseException) -> str | None:
    """The attribute that a tensor was asked for and does not have; None for any other error."""
    match = _NO_ATTRIBUTE.search(str(error)) if type(error) is AttributeError else None
    return match[1] if match else None


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """Whether a file is neither PyTorch's nor ours; the models that are shipped are as a user's."""
    return file.startswith(MODELS) or not file.startswith(NOT_THE_USERS)


def user_location(error: BaseException | None) -> tuple[str, int] | None:
    """The file and line of the user's code that an error came out of."""
    entries = traceback.extract_tb(error.__traceback__ if error is not None else None)
    return next(((each.filename, each.lineno or 0) for each in reversed(entries) if is_users(each.filename)), None)


def raised_by_user(error: BaseException) -> bool:
    """Whether the line that raised an error is the user's."""
    innermost = _innermost(error)
    return innermost is not None and is_users(innermost.tb_frame.f_code.co_filename)


OF_DISTRIBUTED = frozenset(
    {"_local_tensor", "_spec", "to_local", "full_tensor", "redistribute", "placements", "device_mesh"}
)
"""attributes of distributed tensors, which their stand-ins do not have"""


def _innermost(error: BaseException) -> TracebackType | None:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last


def _calls_anything(entry: TracebackType) -> bool:
    """Whether the frame was calling ``function(*args)``, as those frames do that pass on the model's own calls."""
    found = (each for each in dis.get_instructions(entry.tb_frame.f_code) if each.offset == entry.tb_lasti)
    return next((each.opname for each in found), "") == "CALL_FUNCTION_EX"
