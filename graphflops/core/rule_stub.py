"""The text of a rule to fill in. It loads as it is, and the calls of its target stay unknown until it is filled in."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence


def rule_stub(
    target: str, arguments: Sequence[str] = (), gradients: Mapping[str, str] | None = None, *, outputs: str = ""
) -> str:
    """A rule for a target, by its qualified name, as Python source.

    ``arguments`` are written as in a signature, ``"x: Spec"``. ``gradients`` proposes the work of each gradient, by
    operand. ``outputs`` is the operand that the output is assumed to be like, if the rule is to describe the output.
    """
    signature = ", ".join(sorted([*arguments, "out: Any = None"], key=lambda argument: "=" in argument))
    decorator = f'@rule("{target}")'
    if outputs:
        decorator = f'@rule("{target}", outputs=lambda {outputs}: {outputs})  # output spec: same as {outputs}'
    proposals = "\n".join(f'    #         "{name}": {work},' for name, work in (gradients or {"*": "Work()"}).items())
    return f'''from typing import Any

from graphflops import Cost, NotSupported, Spec, Work, rule


{decorator}
def {_function_name(target)}({signature}) -> Cost:
    """The formula, its source, and what it leaves out."""
    raise NotSupported("the rule stub of {target} is not filled in")
    # Replace the line above. Arguments that are not needed may go. Classes of work: macs, elementwise, division,
    # transcendental, integer.
    # return Cost(
    #     Work(elementwise=…),  # forward
    #     {{  # each gradient: Work() is free, and a gradient that is missing is reported as unknown
{proposals}
    #     }},
    # )
'''


def _function_name(target: str) -> str:
    last = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.split(r"\W+", target.removesuffix(".default"))[-1]).lower()
    return f"{last}_rule" if keyword.iskeyword(last) or not last.isidentifier() else last
