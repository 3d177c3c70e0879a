"""Faults: whether an error of a trace is the model's own, needs an unknown value, or is a limitation of graphflops.

The evidence is the frame that raised it (the user's code, PyTorch, or graphflops), and whether its text mentions
tensors without data, as no error of a run on real tensors does.
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

from graphflops.core import messages
from graphflops.core.messages import format_error

PACKAGE = str(Path(messages.__file__).parents[1]) + os.sep
MODELS = PACKAGE + "models" + os.sep
LIBRARY_PREFIXES = (os.path.dirname(torch.__file__) + os.sep, PACKAGE, "<")
DTENSOR_ATTRIBUTES = frozenset(
    {"_local_tensor", "_spec", "to_local", "full_tensor", "redistribute", "placements", "device_mesh"}
)
"""attributes of distributed tensors, which fake tensors do not have"""

_DATA_DEPENDENT = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode")
_NUMPY_ERROR = ".numpy() is not supported"
_PYTORCH_ERROR_FILES = ("dtypes.py", "shapes.py", "torchscript.py")
"""files of graphflops that raise the errors that PyTorch raises on real tensors"""
_TRACING_FOLDERS = tuple(
    os.path.join(os.path.dirname(torch.__file__), *path) + os.sep for path in (("_subclasses",), ("fx",), ("export",))
)
"""folders of PyTorch's code that runs for tensors without data alone"""
_OPERATOR_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, ArithmeticError)
"""errors that operators raise for wrong operands"""
_FAKE_TENSOR_ERROR = re.compile(
    r"FakeTensor|fake tensor|fake impl|INTERNAL ASSERT FAILED|Could not run '|'meta' device|meta tensor|SymInt|unbacked"
    r"|Unsupported\w+Exception|data is not allocated|invalid python storage|doesn't have storage|data pointer",
    re.IGNORECASE,
)
"""words of errors that a run on real tensors does not raise"""
_NO_ATTRIBUTE = re.compile(r"'(?:FakeTensor|Parameter|Tensor)' object has no attribute '(\w+)'")


class Fault(Enum):
    """The fault behind an error of a trace."""

    MODEL = "the model raised the error itself, and would on real tensors"
    VALUE = "the value of a tensor is needed, and not known"
    UNSUPPORTED = "graphflops does not support it yet"


def classify_error(error: BaseException) -> Fault:
    """The fault behind the error that ended a trace."""
    if needs_data(error):
        return Fault.VALUE
    text = format_error(error)
    if (attribute := missing_attribute(error)) is not None:
        is_of_tensors = hasattr(torch.Tensor, attribute) or attribute in DTENSOR_ATTRIBUTES
        return Fault.UNSUPPORTED if is_of_tensors else Fault.MODEL
    if isinstance(error, TypeError) and "invalid combination of arguments" in text:
        return Fault.MODEL  # it lists the types of all arguments
    if _FAKE_TENSOR_ERROR.search(text):
        return Fault.UNSUPPORTED
    innermost = _innermost(error)
    if innermost is None:
        return Fault.UNSUPPORTED
    file = innermost.tb_frame.f_code.co_filename
    if is_user_file(file):
        return Fault.MODEL
    is_operator_error = isinstance(error, _OPERATOR_ERRORS)
    if file.startswith(PACKAGE):
        if os.path.basename(file) in _PYTORCH_ERROR_FILES:
            return Fault.MODEL
        return Fault.MODEL if is_operator_error and _forwards_arguments(innermost) else Fault.UNSUPPORTED
    is_refusal = is_operator_error and type(error) is not NotImplementedError
    return Fault.UNSUPPORTED if file.startswith(_TRACING_FOLDERS) and not is_refusal else Fault.MODEL


def needs_data(error: BaseException | None) -> bool:
    """Whether a trace ended where the value of a tensor was read that data decides."""
    return type(error).__name__ in _DATA_DEPENDENT or (error is not None and _NUMPY_ERROR in format_error(error))


def missing_attribute(error: BaseException) -> str | None:
    """The attribute that a tensor does not have, by an AttributeError; None for any other error."""
    match = _NO_ATTRIBUTE.search(str(error)) if type(error) is AttributeError else None
    return match[1] if match else None


@lru_cache(maxsize=4096)
def is_user_file(file: str) -> bool:
    """Whether a file is neither PyTorch's nor graphflops's; the example models count as the user's."""
    return file.startswith(MODELS) or not file.startswith(LIBRARY_PREFIXES)


def user_location(error: BaseException | None) -> tuple[str, int] | None:
    """The file and line of the innermost user's code that an error came through."""
    entries = traceback.extract_tb(error.__traceback__ if error is not None else None)
    locations = ((entry.filename, entry.lineno or 0) for entry in reversed(entries) if is_user_file(entry.filename))
    return next(locations, None)


def raised_by_user(error: BaseException) -> bool:
    """Whether the line that raised an error is the user's."""
    innermost = _innermost(error)
    return innermost is not None and is_user_file(innermost.tb_frame.f_code.co_filename)


def _innermost(error: BaseException) -> TracebackType | None:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last


def _forwards_arguments(entry: TracebackType) -> bool:
    """Whether a frame was calling ``function(*args)``, as the frames do that pass on the model's own calls."""
    instructions = dis.get_instructions(entry.tb_frame.f_code)
    return any(step.opname == "CALL_FUNCTION_EX" for step in instructions if step.offset == entry.tb_lasti)
