"""Reports of models whose modules have any names, made without a model."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from graphflops import Report, Work
from graphflops.core.entries import PHASES, Entry, Formula, Unknown
from graphflops.report.conventions import STANDARD
from graphflops.report.parts import Costs, ModelInfo

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DANGEROUS = [
    "=cmd()",
    "+1",
    "-1",
    "@SUM(A1)",
    "a;=1",
    "a,=1",
    "|",
    "`",
    "\n",
    "\r\n",
    "\t=1",
    "<b>",
    "\\",
    '"',
    "&amp;",
]
NAMES = st.one_of(
    st.sampled_from(DANGEROUS),
    st.text(st.characters(exclude_characters="."), min_size=1, max_size=8),
).map(lambda name: name.replace(".", "_"))
FLOPS = st.integers(0, 2**70)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """A report of a few modules with work of their own and an op without a rule."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5))
    nested = draw(st.booleans())
    paths = ["", *names, *(f"{parent}.{name}" for parent in names for name in names[:2] if nested)]
    modules = {path: names[index % len(names)] for index, path in enumerate(paths)}
    flops = draw(st.lists(FLOPS, min_size=1, max_size=5))
    entries = tuple(
        Entry(
            kind="call",
            path=path,
            op=f"op_{index}",
            target=names[0],
            part="",
            line=names[-1],
            work={phase: Work(macs=flops[(index + place) % len(flops)]) for place, phase in enumerate(PHASES)},
            rule=names[0],
            about="",
            formula=Formula("0", {}, {}),
            outputs=((2, 3),),
        )
        for index, path in enumerate([*modules, paths[-1]])
    )
    unknown = Unknown("odd", names[-1], paths[-1], names[0], (), ("float32(2, 3)",), "no rule")
    parameters = {f"{paths[-1]}.weight": 6}
    info = ModelInfo(names[0], {}, parameters, frozenset(), modules, frozenset(modules))
    return Report(info, Costs(entries, (unknown,)), STANDARD)
