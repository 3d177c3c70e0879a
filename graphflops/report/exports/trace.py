"""A report as a trace for Perfetto or chrome://tracing: the step as a timeline, on which each FLOP takes as long.

The format is the JSON object format of Google's *Trace Event Format*, with complete events, which nest by their time.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from graphflops.core.components import parents
from graphflops.core.entries import Entry, Phase, Unknown
from graphflops.report.data import ReportData
from graphflops.report.exports.rows import flops_of

_MAX_NANOSECONDS = 10**12
"""length of a timeline; one of more FLOPs has a thousand of them a nanosecond, or a million, …"""
_MAX_EXACT = 2**53
"""integers below are exact in programs that read all numbers as floats"""


class _Slice(NamedTuple):
    """The work of an entry in a phase."""

    entry: Entry
    phase: Phase
    flops: int


def as_trace(report: ReportData) -> str:
    """A report as JSON of trace events, with a track each for the forward pass, the backward pass and the optimizer.

    Ops follow each other, backward in reverse order, and modules are the slices around them. ``args.flops`` of a slice
    is the exact number, as a text where a float would round it. Free ops have no slice. Ops without a rule are
    instants at the end of the forward pass.
    """
    entries = [(entry, flops_of(report, entry)) for entry in report.entries]
    backward: tuple[Phase, ...] = ("recompute", "dgrad", "wgrad")
    tracks = {
        "forward": [_Slice(entry, "forward", flops["forward"]) for entry, flops in entries],
        "backward": [_Slice(entry, phase, flops[phase]) for entry, flops in reversed(entries) for phase in backward],
        "optimizer": [_Slice(entry, "optimizer", flops["optimizer"]) for entry, flops in entries],
    }
    scale = 1
    while report.total // scale >= _MAX_NANOSECONDS:
        scale *= 1000
    events = [_metadata("process_name", 0, name=report.model)]
    now = 0
    for number, (name, slices) in enumerate(tracks.items(), start=1):
        track = _Track(report, number, now, scale)
        for part in slices:
            track.add(part)
        now = track.end(report.unknown if name == "forward" else ())
        if track.events:
            order = _metadata("thread_sort_index", number, sort_index=number)
            events += [_metadata("thread_name", number, name=name), order, *track.events]
    about = {
        "model": report.model,
        "convention": report.convention.name,
        "scale": f"1 ns is {scale:,} {report.convention.unit}s: a count, not a measured time",
        "total": str(report.total),
    }
    content = {"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}
    return json.dumps(content, separators=(",", ":")) + "\n"


class _Track:
    """The events of a track: ops one after another, inside of slices of their modules. Time is counted in FLOPs."""

    def __init__(self, report: ReportData, number: int, start: int, scale: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._report, self._number, self._now, self._scale = report, number, start, scale
        self._modules: list[tuple[str, int, dict[str, Any]]] = []
        """path, start and event of the modules around the next op"""

    def add(self, part: _Slice) -> None:
        """Append the slice of an op, if it has FLOPs."""
        if not part.flops:
            return
        entry = part.entry
        self._enter(entry.path)
        name = f"{entry.operator} {entry.op}" if entry.kind == "update" else entry.part or entry.operator
        facts = {key: getattr(entry, key) for key in ("op", "target", "rate", "rule", "line")}
        event = self._append(name, part.phase, {"module": entry.path, **{k: text for k, text in facts.items() if text}})
        start, self._now = self._now, self._now + part.flops
        self._finish(event, start)

    def end(self, unknown: tuple[Unknown, ...] = ()) -> int:
        """Close all modules, append instants of unsupported ops, and return the time."""
        self._leave(0)
        for op in unknown:
            facts = {"op": op.op, "module": op.owner, "why": op.why, "line": op.line}
            self._append(f"unsupported: {op.target}", "unsupported", facts, ph="i", s="t")
        return self._now

    def _enter(self, path: str) -> None:
        """Close the modules that a path is not in, and open those around it, and itself, that are not open."""
        around = [*reversed([*parents(path)]), path] if path else [""]
        shared = 0
        for (module, _, _), outer in zip(self._modules, around, strict=False):
            if module != outer:
                break
            shared += 1
        self._leave(shared)
        for module in around[shared:]:
            cls = self._report.modules.get(module, "")
            name = f"{module.rpartition('.')[2]} {cls}".strip() if module else self._report.model
            self._modules.append((module, self._now, self._append(name, "module", {"module": module})))

    def _leave(self, depth: int) -> None:
        """Close modules until so many are open."""
        while len(self._modules) > depth:
            _, start, event = self._modules.pop()
            self._finish(event, start)

    def _append(self, name: str, category: str, arguments: dict[str, Any], **fields: str) -> dict[str, Any]:
        event = {"name": name, "cat": category, "ph": "X", **fields, "pid": 1, "tid": self._number}
        event |= {"ts": self._microseconds(self._now), "args": arguments}
        self.events.append(event)
        return event

    def _finish(self, event: dict[str, Any], start: int) -> None:
        flops = self._now - start
        event["dur"] = (self._now // self._scale - start // self._scale) / 1000
        event["args"]["flops"] = flops if flops < _MAX_EXACT else str(flops)

    def _microseconds(self, flops: int) -> float:
        return flops // self._scale / 1000


def _metadata(name: str, track: int, /, **arguments: object) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": 1, "tid": track, "args": arguments}
