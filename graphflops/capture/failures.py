"""Messages for models that cannot be traced: where, why, what was tried, and what to do. And the user's source line."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Sequence

from torch import fx, nn

from graphflops.capture.fake_tensors import MAX_INPUT_ELEMENTS
from graphflops.capture.faults import NOT_THE_USERS, OF_DISTRIBUTED, Fault, fault_of, is_users, missing_attribute
from graphflops.core.errors import CaptureError
from graphflops.core.messages import bug_report, format_error, shortened
from graphflops.core.rule_stub import rule_stub
from graphflops.core.sizes import Spec
from graphflops.rules.targets import qualified_name

_OPAQUE = "; opaque:"
_WITHOUT_DATA = re.compile(r"Could not run '(?P<op>[\w:.]+)' with arguments from the '(?P<backend>\w+)' backend")
"""how PyTorch begins to say that an operator has no kernel for such tensors"""


_SEEN: set[str] = set()
"""files that are not the user's: there are tens of frames between an operator and who asked for it"""


def user_line() -> str:
    """``file:line`` of the innermost frame that is neither torch's nor the tracer's."""
    frame = inspect.currentframe()
    while frame is not None and ((file := frame.f_code.co_filename) in _SEEN or not is_users(file)):
        _SEEN.add(file)
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def failure(
    error: Exception,
    root: nn.Module,
    name: str,
    path: str,
    inputs: Sequence[Spec],
    blank: Sequence[str] = (),
    not_given: Sequence[str] = (),
) -> str:
    """The message for a trace that an error ended, in the module at ``path``.

    ``blank`` are the buffers that hold no value, being on the meta device, and were asked for one; ``not_given`` the
    inputs of integers or booleans.
    """
    module = root.get_submodule(path)
    fault = fault_of(error)
    return "\n".join(
        [
            f"could not trace {name}",
            f"    where   {path or 'the model itself'} ({type(module).__name__ if path else name}), {_line_of(error)}",
            f"    why     {_reason(error, fault)}",
            f"    inputs  {shortened(', '.join(map(str, inputs)), 1000) or 'none'}",
            f"    tried   {_tried(root, module, path)}",
            "",
            *(_of_inputs(not_given) if fault is Fault.VALUE and not_given else ()),
            *_advice(error, fault, module, name, not path and _is_function(root), blank),
        ]
    )


def _of_inputs(names: Sequence[str]) -> list[str]:
    verb = "is" if len(names) == 1 else "are"
    return [
        f"It asked for values of {', '.join(names)}, which {verb} not known: give integers and booleans as real "
        f"tensors, of at most {MAX_INPUT_ELEMENTS:,} elements, and their values are used.",
        "",
    ]


def _advice(
    error: Exception, fault: Fault, module: nn.Module, name: str, is_bare: bool, blank: Sequence[str]
) -> list[str]:
    """The lines that say what to do: of each kind of fault something else."""
    cls = type(module).__name__
    if fault is Fault.MODEL:
        return [
            "The model raised this by itself. Check the shapes and dtypes of the inputs against its forward, and run "
            "it on real tensors to see it raise there too. If it runs there, please report it as a fault of graphflops."
        ]
    if fault is Fault.HERE:
        lines = ["graphflops cannot do this yet, and the model is not at fault."]
        if _limit(error) is None:
            lines += [f"Please report this line: {bug_report(error)}"]
        return lines if is_bare else [*lines, f"Until then, a rule with outputs= for {cls} says what it costs instead."]
    names = ", ".join(each or "a tensor" for each in blank)
    asked = f"It asked for the value of {names}, which has none on the meta device: build the model on the CPU, or "
    if is_bare:
        start = f"{asked}put" if blank else "Nobody gave this value. Put"
        return [
            f"{start} what this line decides into a torch.nn.Module, or an operator of torch.library.custom_op, that "
            f"{name} calls, and give that a rule that describes its outputs, so that it need not run."
        ]
    if blank:
        lines = [f"{asked}give a rule that describes the outputs:"]
    else:
        lines = [
            f"Nobody gave this value. Give {cls} a rule that describes its outputs, so that it need not run; "
            "and, if data decides how often it runs, a rate (rates=, --rate):"
        ]
    return [*lines, "", *(f"    {line}".rstrip() for line in _stub(module).splitlines())]


def _is_function(root: nn.Module) -> bool:
    """Whether the user gave a function, which is traced as a module of ours."""
    return type(root).__module__.startswith("graphflops.capture")


def add_attempt(error: CaptureError, way: str) -> CaptureError:
    """The same error, which says of another way to a graph as well why it is none."""
    return CaptureError(str(error).replace(_OPAQUE, f"; {shortened(way, 500)}{_OPAQUE}", 1))


def _tried(root: nn.Module, module: nn.Module, path: str) -> str:
    """What each way to a graph had to say, in their order."""
    given = "a given graph, replayed" if isinstance(root, fx.GraphModule) else "no graph was given"
    whole = "the function" if _is_function(root) else "the whole model"
    of = qualified_name(type(module)) if path else whole
    return f"{given}; run on fake tensors: stopped here{_OPAQUE} no rule describes the outputs of {of}"


def _stub(module: nn.Module) -> str:
    """A rule for a module's class that describes its output, ready to paste."""
    operand = next(iter(inspect.signature(module.forward).parameters), "input")
    return rule_stub(
        qualified_name(type(module)), [f"{operand}: Any"], {operand: "Work(…)", "*": "Work()"}, outputs=operand
    )


def _reason(error: Exception, fault: Fault) -> str:
    """What an error says, in as many words as its reader needs."""
    if fault is Fault.VALUE:
        return "this line needs a value that only data can tell"
    if fault is Fault.MODEL:
        return format_error(error).replace("'FakeTensor' object", "'Tensor' object")
    if (limit := _limit(error)) is not None:
        return limit
    match = _WITHOUT_DATA.search(str(error))
    return format_error(error) if match is None else f"the operator {match['op']} does not run on tensors without data"


def _limit(error: Exception) -> str | None:
    """What cannot be done yet as far as is known, and what to do instead; None of other errors."""
    match = _WITHOUT_DATA.search(str(error))
    is_quantized = match and (match["op"].startswith("quantized::") or match["backend"].startswith("Quantized"))
    if is_quantized or "quantized nyi" in str(error):  # as older versions, such as 2.8 and 2.10, say
        operator = f" ({match['op']})" if match else ""
        return (
            f"quantized layers and tensors{operator} do not run on tensors without data: "
            "analyze the model as it is before torch.ao.quantization.convert, which has the same products"
        )
    if (attribute := missing_attribute(error)) in OF_DISTRIBUTED:
        return (
            f"a distributed tensor (DTensor) is asked for its part ({attribute}), and is counted whole: analyze the "
            "model as it is before it is distributed"
        )
    return None


def _line_of(error: Exception) -> str:
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(NOT_THE_USERS)]
    if not frames:
        return "outside of any source file"
    last = frames[-1]
    line = f": {shortened(last.line, 200)}" if last.line else ""
    return f"{last.filename}:{last.lineno}{line}"
