"""Differences of two reports beside their operators: inputs, optimizers, rates, versions and rules."""

from __future__ import annotations

from collections.abc import Iterator

from graphflops.core.errors import UsageError
from graphflops.report.data import ReportData, is_of_training


def check_comparable(first: ReportData, second: ReportData, names: tuple[str, str]) -> None:
    """Check that two reports have one convention, and that both are of a training step, or both of a forward pass.

    Raises:
        UsageError: they are not.
    """
    if first.convention != second.convention:
        raise UsageError(
            f"the reports have different conventions, {first.convention.name} and "
            f"{second.convention.name}: use report.with_convention(…)"
        )
    check_same_phases(first, second, names)


def check_same_phases(first: ReportData, second: ReportData, names: tuple[str, str]) -> None:
    """Check that both reports are of a training step, or both of a forward pass.

    Raises:
        UsageError: they are not.
    """
    training = is_of_training(first), is_of_training(second)
    if True in training and False in training:
        trained, evaluated = names if training[0] else names[::-1]
        raise UsageError(
            f"{trained} is the report of a training step and {evaluated} of a forward pass: "
            "analyze both with training=True, or both with training=False (--inference)"
        )


def setting_notes(first: ReportData, second: ReportData, names: tuple[str, str]) -> tuple[str, ...]:
    """Differences of two reports in inputs, optimizer, rates, coverage, versions and rules, one sentence each."""
    notes = []
    if sorted(first.inputs.values()) != sorted(second.inputs.values()):
        notes.append(f"the inputs differ: {_inputs(first)} and {_inputs(second)}")
    optimizers = [report.optimizer_name or "none" for report in (first, second)]
    if optimizers[0] != optimizers[1]:
        notes.append(f"the optimizers differ: {optimizers[0]} and {optimizers[1]}")
    if bool(first.rates) != bool(second.rates):
        notes.append(f"only {names[0] if first.rates else names[1]} has rates")
    for name, report in zip(names, (first, second), strict=True):
        if report.unknown:
            count = report.coverage.unknown
            notes.append(f"{name} has {count} unsupported op{'s' if count > 1 else ''}: its numbers are lower bounds")
    return (*notes, *_version_notes(first, second))


def _version_notes(first: ReportData, second: ReportData) -> Iterator[str]:
    """Sentences on other versions of PyTorch and graphflops, and on files of rules that both reports applied."""
    old, new = first.costs.versions, second.costs.versions
    for name, before, after in (("torch", old.torch, new.torch), ("graphflops", old.graphflops, new.graphflops)):
        if before and after and before != after:
            yield f"{name} was {before} and is {after}"
    if changed := [name for name in sorted(old.rules.keys() & new.rules.keys()) if old.rules[name] != new.rules[name]]:
        yield f"these files of rules changed: {', '.join(changed)}"


def _inputs(report: ReportData) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in report.inputs.items()) or "none"
