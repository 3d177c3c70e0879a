"""Write docs/conformance.md from the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zoo import FAMILIES

Row = Mapping[str, Any]

TITLES = {
    "layers": "torch.nn, layer by layer",
    "training": "Training variants",
    "programs": "Graphs, compiled modules, transforms, control flow",
    "torchvision": "torchvision",
    "torchvision_ops": "torchvision: what it prints for its weights, at their own sizes",
    "causal_lm": "transformers: language models, two layers or one of each kind",
    "experts": "transformers: mixtures of experts, in each of the ways that it runs them",
    "transformers": "transformers: encoders, encoders with decoders, vision, audio, several senses",
    "timm": "timm, one model of each of its files",
    "wild": "Public packages, as they are",
    "repositories": "Public repositories that are no packages, as they are",
}

ABOUT = """# Conformance

Models verified against an independent count (`graphflops.analysis.mac_counter`): it runs each model and its backward
pass on fake tensors, and computes the multiply-adds of every matrix product and convolution that autograd dispatches
from their shapes. It uses neither rules nor the graph.

There is no tolerance: a row is *exact* if both integers are equal, forward and backward, and no op is unsupported.
The backward pass covers all outputs and everything that requires grad, with math attention (`attention="math"`), and
includes recomputation in checkpoints. A ratio is graphflops' count divided by the dispatched count. Where the authors
of a model publish its multiply-adds in G, an exact row also equals that number to three decimals. Everything
reachable from the model and its inputs, and the state of the process, is bitwise unchanged after both counts.

For data-dependent operations, whose number is in the column *assumed*, both counts assume balanced routing and full
masks (`graphflops/tracing/values/assumptions.py`): the total over all experts is then exact for any data, and a
selection has its largest size.

Models are in training mode, except torchvision's at batch 1, and models of transformers that drop layers or input
spans at random or branch on ranges that they have seen. Language models are in bfloat16, all others in float32.

Models of other public packages are unmodified, small, with random weights, and called with real tensors.

`make conformance` generates this page, `make wild` the part of the public packages, which it installs in a separate
folder, and `make repositories` the part of the repositories, which it clones. Each runs the rows that are not
finished; `python tests/conformance --help` lists the options. A family that did not run is left unchanged on the
page.
"""

DATA_DECIDES = "data-dependent control flow (needs the value of a tensor)"
"""the error for data-dependent Python branches or sizes, which static analysis cannot count"""

NOT_DENSE = "CaptureError: a tensor is not dense"
"""the error for sparse matrices, whose cost does not follow from their shape"""

FINE = ("exact", "refused", "data-dependent")


def verdict(row: Row) -> str:
    """exact, refused, data-dependent, unsupported ops, differs, not traced, folded wrong, changed, or the failure."""
    if "refused" in row:
        return "refused"
    if row.get("failed") == "graphflops" and row["error"].startswith(NOT_DENSE):
        return "refused"
    if row.get("failed") == "graphflops":
        return "data-dependent" if row["error"].startswith(DATA_DECIDES) else "not traced"
    if "failed" in row:
        return f"{row['failed']} failed"
    if row.get("changed"):
        return "changed"
    if row.get("unfolded", "the same") != "the same":
        return "folded wrong"
    if not all(_equal(row, phase) for phase in ("forward", "backward", "published") if phase in row):
        return "differs"
    return "unsupported ops" if row["unknown"] else "exact"


def write(rows: Sequence[Row], before: str = "") -> str:
    """The page; families without rows are copied from the previous page."""
    old_parts, old_totals = _parts(before)
    parts, totals = {}, {}
    for family, title in TITLES.items():
        own = [row for row in rows if row["family"] == family]
        if own:
            parts[family] = [_versions(family), *_reasons(own), "", *_table(own)]
            totals[family] = _numbers(own)
        elif title in old_parts and family in old_totals:
            parts[family], totals[family] = old_parts[title], old_totals[family]
    lines = [ABOUT, *_totals(totals)]
    for family, part in parts.items():
        lines += ["", f"## {TITLES[family]}", "", *part]
    return "\n".join(lines) + "\n"


def _parts(page: str) -> tuple[dict[str, list[str]], dict[str, list[int]]]:
    """The parts of a page: title → lines, and family → its row of the totals."""
    parts: dict[str, list[str]] = {}
    for part in page.split("\n## ")[1:]:
        title, *lines = part.strip("\n").split("\n")
        parts[title] = lines[1:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in parts.get("Totals", ())]
    return parts, {
        name: [int(number.replace(",", "")) for number in numbers] for name, *numbers in cells if name in TITLES
    }


def _versions(family: str) -> str:
    named = []
    for package in ("torch", *FAMILIES[family]):
        try:
            named.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return f"Verified with {', '.join(named)}."


def _numbers(rows: Sequence[Row]) -> list[int]:
    verdicts = Counter(map(verdict, rows))
    return [
        len(rows),
        verdicts["exact"],
        sum(_equal(row, "forward") for row in rows),
        sum(_equal(row, "backward") for row in rows),
        sum(bool(row.get("unknown")) for row in rows),
        verdicts["refused"],
        verdicts["data-dependent"],
        verdicts["not traced"],
        sum(count for verdict, count in verdicts.items() if verdict.endswith(" failed")),
    ]


def _totals(totals: Mapping[str, Sequence[int]]) -> list[str]:
    lines = [
        "## Totals",
        "",
        "| family | models | exact | forward equal | backward equal | unsupported ops | refused | data-dependent "
        "| not traced | failed |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    of_all = [sum(column) for column in zip(*totals.values(), strict=True)]
    for family, numbers in [*totals.items(), ("**all**", of_all)]:
        lines.append(f"| {family} | {' | '.join(f'{number:,}' for number in numbers)} |")
    return lines


def _equal(row: Row, phase: str) -> bool:
    return phase in row and row[phase][0] == row[phase][1]


def _reasons(rows: Sequence[Row]) -> list[str]:
    """The rows that disagree, with the reason."""
    lines = []
    differing = [row for row in rows if verdict(row) == "differs"]
    if differing:
        lines += ["", "### Different", "", "| model | phase | graphflops | dispatched |", "|---|---|--:|--:|"]
        for row in differing:
            for phase in ("forward", "backward", "published"):
                if phase in row and not _equal(row, phase):
                    counted, dispatched = row[phase]
                    lines.append(f"| {row['name']} | {phase} | {counted:,} | {dispatched:,} |")
    unknown = Counter[str]()
    models = Counter[str]()
    for row in rows:
        unknown.update(row.get("unknown") or {})
        models.update(list(row.get("unknown") or {}))
    if unknown:
        lines += ["", "### Unsupported ops", "", "| op | times | in models |", "|---|--:|--:|"]
        lines += [f"| `{op}` | {count:,} | {models[op]:,} |" for op, count in unknown.most_common()]
    models_by_reason: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if reason := row.get("refused") or row.get("error"):
            models_by_reason.setdefault((verdict(row), reason), []).append(row["name"])
    if models_by_reason:
        lines += ["", "### Refused, or failed", "", "| | reason | models |", "|---|---|---|"]
        for (kind, reason), names in sorted(models_by_reason.items()):
            lines.append(f"| {kind} | {_cell(reason)} | {', '.join(names)} |")
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| model | captured by | ops | with FLOPs | free | unsupported | assumed | forward, multiply-adds | ratio "
        "| backward | ratio | published, G | seconds | |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        cells = [_name(row), _cell("; ".join(row.get("capture", ())))]
        cells += [f"{row[column]:,}" if column in row else "" for column in ("ops", "counted", "zero")]
        cells.append(f"{sum(row['unknown'].values()):,}" if "unknown" in row else "")
        cells.append(f"{row['assumed']:,}" if row.get("assumed") else "")
        for phase in ("forward", "backward"):
            cells += [f"{row[phase][0]:,}", _ratio(*row[phase])] if phase in row else ["", ""]
        cells.append(f"{row['published'][1]:.3f}" if "published" in row else "")
        cells += [f"{row['seconds']:.2f}" if "seconds" in row else "", verdict(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _name(row: Row) -> str:
    """The name of the model, with the version of its package."""
    package, _, about = row["name"].partition(": ")
    return f"{package} {row['version']}: {about}" if "version" in row else row["name"]


def _ratio(counted: int, dispatched: int) -> str:
    """The ratio of two counts, which prints as 1 only if they are equal."""
    if counted == dispatched:
        return "1"
    if not dispatched:
        return "∞"
    near = f"{counted / dispatched:.4f}"
    return near if near != "1.0000" else ("just below 1" if counted < dispatched else "just above 1")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
