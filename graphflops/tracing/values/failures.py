"""Messages for models that cannot be traced: where, why, what was tried, and what to do; and the user's source line."""

from __future__ import annotations

import inspect
import re
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.errors import CaptureError
from graphflops.core.messages import bug_report, error_text, format_error, shortened
from graphflops.core.rule_stub import rule_stub
from graphflops.core.torch_compat import tree_leaves
from graphflops.rules.stubs import stub
from graphflops.rules.targets import qualified_name
from graphflops.tracing.copies.function_module import FunctionModule
from graphflops.tracing.copies.layouts import MAX_KNOWN_ELEMENTS, spec_of
from graphflops.tracing.values.faults import (
    DTENSOR_ATTRIBUTES,
    LIBRARY_PREFIXES,
    Fault,
    classify_error,
    is_user_file,
    missing_attribute,
)
from graphflops.tracing.values.input_hints import input_hint

_NO_RULE = "; no rule with outputs= for "
_NO_KERNEL = re.compile(r"Could not run '(?P<op>[\w:.]+)' with arguments from the '(?P<backend>\w+)' backend")
"""the beginning of PyTorch's error if an operator has no kernel for a backend"""
_NO_FAKE_KERNEL = re.compile(r"no fake impl registered for <CustomOpDef\((?P<namespace>\w+)::(?P<name>\w+)\)>")
"""PyTorch's error for an operator of torch.library.custom_op that does not say what it returns"""

NO_ADDRESS = (
    "the program reads the memory address of a tensor (data pointer), and fake tensors have none: a kernel that is "
    "called with pointers cannot run during an analysis"
)
_LIBRARY_FILES = {threading.__file__}
"""files that are not the user's: there are tens of frames between an operator and the line that calls it"""


def user_line() -> str:
    """``file:line`` of the innermost frame that is neither PyTorch's nor graphflops's."""
    frame = inspect.currentframe()
    while frame is not None and ((file := frame.f_code.co_filename) in _LIBRARY_FILES or not is_user_file(file)):
        _LIBRARY_FILES.add(file)
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def failure_message(
    error: Exception,
    root: nn.Module,
    name: str,
    path: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    missing_buffers: Sequence[str] = (),
    missing_inputs: Sequence[str] = (),
) -> str:
    """The message for an error that ended a trace, in the module at ``path``.

    ``missing_buffers`` are the buffers whose values were read, and that have none on the meta device;
    ``missing_inputs`` the inputs of integers or booleans whose values were read, and that were given without data.
    """
    module = root.get_submodule(path)
    fault = classify_error(error)
    inputs = [spec_of(tensor) for tensor in tree_leaves((args, dict(kwargs))) if torch.is_tensor(tensor)]
    return "\n".join(
        [
            f"could not trace {name}",
            f"    where   {path or 'the model itself'} ({type(module).__name__ if path else name}), {_location(error)}",
            f"    reason  {_reason(error, fault)}",
            f"    inputs  {shortened(', '.join(map(str, inputs)), 1000) or 'none'}",
            f"    tried   {_first_attempt(root, module, path)}",
            "",
            *(_advice_on_inputs(missing_inputs) if fault is Fault.VALUE and missing_inputs else ()),
            *([hint] if fault is Fault.MODEL and (hint := input_hint(error, root, module, path, args, kwargs)) else ()),
            *_advice(error, fault, module, name, not path and _is_function(root), missing_buffers),
        ]
    )


def add_attempt(error: CaptureError, attempt: str) -> CaptureError:
    """The same error, whose message lists a second attempt to capture the model."""
    return CaptureError(str(error).replace(_NO_RULE, f"; (2) {shortened(attempt, 500)}{_NO_RULE}", 1))


def _first_attempt(root: nn.Module, module: nn.Module, path: str) -> str:
    attempt = "replay of the given graph" if isinstance(root, fx.GraphModule) else "fake-tensor tracing"
    target = qualified_name(type(module)) if path else "the function" if _is_function(root) else "the whole model"
    return f"(1) {attempt}: failed here{_NO_RULE}{target}"


def _advice_on_inputs(names: Sequence[str]) -> list[str]:
    verb = "is" if len(names) == 1 else "are"
    return [
        f"The model reads the values of {', '.join(names)}, which {verb} not known: pass integers and booleans as real "
        f"tensors, of at most {MAX_KNOWN_ELEMENTS:,} elements, and their values are used.",
        "",
    ]


def _advice(
    error: Exception, fault: Fault, module: nn.Module, name: str, is_bare: bool, missing_buffers: Sequence[str]
) -> Iterator[str]:
    """The lines that say what to do. ``is_bare``: the error is in a function that no module contains."""
    cls = type(module).__name__
    if is_bare and _makes_model(error):
        yield f"{name} makes a model: pass the model that it returns, as in analyze({name}(…), inputs)."
        return
    if (match := _NO_FAKE_KERNEL.search(error_text(error))) is not None:
        operator = f"{match['namespace']}.{match['name']}"
        yield f"Add a rule with outputs=… for {operator}, so that it is not run; or register_fake, as PyTorch says:"
        yield from _indented(
            stub(getattr(getattr(torch.ops, match["namespace"]), match["name"]), describes_output=True)
        )
        return
    if fault is Fault.MODEL:
        yield (
            "The model itself raised this error. Check the shapes and dtypes of the inputs, and run it on real "
            "tensors: it should raise there too. If it does not, please report a bug of graphflops."
        )
        return
    if fault is Fault.UNSUPPORTED:
        yield "graphflops does not support this yet; the model is not at fault."
        if _limitation(error) is None:
            yield f"Please report it with this line: {bug_report(error)}"
        if not is_bare:
            yield f"Until then, a rule with outputs=… for {cls} gives its cost instead."
        return
    buffers = ", ".join(buffer or "a tensor" for buffer in missing_buffers)
    reads = f"The model reads the value of {buffers}, which has none on the meta device: build the model on the CPU, or"
    if is_bare:
        yield (
            f"{f'{reads} move' if missing_buffers else 'The value is not known. Move'} the code that depends on it "
            f"into a torch.nn.Module, or an operator of torch.library.custom_op, that {name} calls, and add a rule "
            "with outputs=… for that, so that it is not traced."
        )
        return
    if missing_buffers:
        yield f"{reads} add a rule with outputs=… for {cls}, so that it is not traced:"
    else:
        yield (
            f"The value is not known. Add a rule with outputs=… for {cls}, so that it is not traced; and, if data "
            "decides how often it runs, a rate (rates=, --rate):"
        )
    yield from _indented(_format_rule(module))


def _indented(rule: str) -> Iterator[str]:
    yield ""
    yield from (f"    {line}".rstrip() for line in rule.splitlines())


def _makes_model(error: BaseException) -> bool:
    """Whether an error was raised while a module was made."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_code.co_name == "__init__" and isinstance(frame.f_locals.get("self"), nn.Module) for frame in frames
    )


def _is_function(root: nn.Module) -> bool:
    """Whether the user gave a function, and not a module."""
    return isinstance(root, FunctionModule)


def _format_rule(module: nn.Module) -> str:
    """A rule for a module's class that describes its output, ready to paste."""
    operand = next(iter(inspect.signature(module.forward).parameters), "input")
    return rule_stub(
        qualified_name(type(module)), [f"{operand}: Any"], {operand: "Work(…)", "*": "Work()"}, outputs=operand
    )


def _reason(error: Exception, fault: Fault) -> str:
    if fault is Fault.VALUE:
        return "data-dependent control flow (needs the value of a tensor)"
    if fault is Fault.MODEL:
        return format_error(error).replace("FakeTensor", "Tensor")
    if (limitation := _limitation(error)) is not None:
        return limitation
    match = _NO_KERNEL.search(error_text(error))
    return format_error(error) if match is None else f"the operator {match['op']} does not run on tensors without data"


def _limitation(error: Exception) -> str | None:
    """The known limitation behind an error, and what to do instead; None of other errors."""
    if (fake := _NO_FAKE_KERNEL.search(error_text(error))) is not None:
        return (
            f"the operator {fake['namespace']}::{fake['name']} has no fake kernel (register_fake), which says what it "
            "returns, and its own does not run on tensors without data"
        )
    if NO_ADDRESS in error_text(error):
        return NO_ADDRESS
    match = _NO_KERNEL.search(error_text(error))
    is_quantized = match and (match["op"].startswith("quantized::") or match["backend"].startswith("Quantized"))
    if is_quantized or "quantized nyi" in error_text(error):  # the error of older versions, such as 2.8 and 2.10
        operator = f" ({match['op']})" if match else ""
        return (
            f"quantized layers and tensors{operator} do not run on tensors without data: "
            "analyze the model as it is before torch.ao.quantization.convert, which has the same products"
        )
    if (attribute := missing_attribute(error)) in DTENSOR_ATTRIBUTES:
        return (
            f"the model reads the local part of a distributed tensor (DTensor, {attribute}), which is counted as a "
            "whole: analyze the model as it is before it is distributed"
        )
    return None


def _location(error: Exception) -> str:
    """``file:line: source`` of the innermost line of the user's code that an error came through."""
    entries = reversed(traceback.extract_tb(error.__traceback__))
    last = next((entry for entry in entries if not entry.filename.startswith(LIBRARY_PREFIXES)), None)
    if last is None:
        return "outside of any source file"
    line = f": {shortened(last.line, 200)}" if last.line else ""
    return f"{last.filename}:{last.lineno}{line}"
