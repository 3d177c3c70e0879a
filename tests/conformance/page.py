"""docs/conformance.md, from the rows."""

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

Whole models, forward and backward, held to the **dispatch witness** (`graphflops.analysis.mac_counter`): it runs each
model and its backward on fake tensors, and reads the multiply-adds of every matrix product and convolution that
autograd dispatches off the shapes. It knows nothing of rules or graphs.

There is no tolerance: a row is *exact* if both integers are equal, forward and backward, and no Op is unknown. Backward
is that of all outputs to whatever requires grad, with the mathematics of attention (`attention="math"`), and includes
what checkpoints recompute. A ratio is graphflops' count by the witness'. Where the authors of a model print its
multiply-adds, in thousands of millions, an exact row also is that number, to the last of its three decimals. And all
that can be reached from the model and its inputs is after both what it was before, to the bit, and so is the process.

Where data decides, at as many places as *assumed* says, both take routing as even and masks as full
(`graphflops/capture/constant_propagation.py`): the sizes are then those of a loop over experts in all, whatever the
data, and the largest that a selection can have.

Models are built to train; torchvision's at batch 1, and those of transformers that drop layers or spans of their
input at random, or branch on the ranges that they have seen, in evaluation mode. Language models are built in
bfloat16, all others in float32.

Models of other public packages are unmodified, built small with random weights, and called with real tensors.

`make conformance` writes this page, `make wild` the part of the public packages, which it installs in a folder beside
the environment, and `make repositories` that of the repositories, which it clones. Each runs what is not finished yet;
`python tests/conformance --help` tells how to run less, or all again. A family that did not run stays as it is on the
page.
"""

DATA_DECIDES = "data-dependent control flow (needs the value of a tensor)"
"""What graphflops says of Python that branches on data, or sizes that data decides: nothing static can count it."""

NOT_DENSE = "CaptureError: a tensor is not dense"
"""What graphflops says of a sparse matrix that a model makes: what it costs is not in its shape."""

FINE = ("exact", "refused", "data decides")


def verdict(row: Row) -> str:
    """One of: exact, refused, data decides, unknown ops, differs, not traced, folded wrong, changed, or what failed."""
    if "refused" in row:
        return "refused"
    if row.get("failed") == "graphflops" and row["error"].startswith(NOT_DENSE):
        return "refused"
    if row.get("failed") == "graphflops":
        return "data decides" if row["error"].startswith(DATA_DECIDES) else "not traced"
    if "failed" in row:
        return f"{row['failed']} failed"
    if row.get("changed"):
        return "changed"
    if row.get("unfolded", "the same") != "the same":
        return "folded wrong"
    if not all(_equal(row, each) for each in ("forward", "backward", "published") if each in row):
        return "differs"
    return "unknown ops" if row["unknown"] else "exact"


def write(rows: Sequence[Row], before: str = "") -> str:
    """The page. What has no rows is as it was on the page before."""
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
    """What a page says: title → its part's lines, and family → its numbers among the totals."""
    parts: dict[str, list[str]] = {}
    for part in page.split("\n## ")[1:]:
        title, *lines = part.strip("\n").split("\n")
        parts[title] = lines[1:]
    cells = [[each.strip() for each in line.strip("| ").split("|")] for line in parts.get("Totals", ())]
    return parts, {name: [int(each.replace(",", "")) for each in numbers] for name, *numbers in cells if name in TITLES}


def _versions(family: str) -> str:
    named = []
    for package in ("torch", *FAMILIES[family]):
        try:
            named.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return f"Held to {', '.join(named)}."


def _numbers(rows: Sequence[Row]) -> list[int]:
    verdicts = Counter(map(verdict, rows))
    return [
        len(rows),
        verdicts["exact"],
        sum(_equal(row, "forward") for row in rows),
        sum(_equal(row, "backward") for row in rows),
        sum(bool(row.get("unknown")) for row in rows),
        verdicts["refused"],
        verdicts["data decides"],
        verdicts["not traced"],
        sum(count for each, count in verdicts.items() if each.endswith(" failed")),
    ]


def _totals(totals: Mapping[str, Sequence[int]]) -> list[str]:
    lines = [
        "## Totals",
        "",
        "| family | models | exact | forward equal | backward equal | unknown ops | refused | data decides "
        "| not traced | failed |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    of_all = [sum(column) for column in zip(*totals.values(), strict=True)]
    for family, numbers in [*totals.items(), ("**all**", of_all)]:
        lines.append(f"| {family} | {' | '.join(f'{each:,}' for each in numbers)} |")
    return lines


def _equal(row: Row, phase: str) -> bool:
    return phase in row and row[phase][0] == row[phase][1]


def _reasons(rows: Sequence[Row]) -> list[str]:
    """What does not agree, with its reason."""
    lines = []
    differing = [row for row in rows if verdict(row) == "differs"]
    if differing:
        lines += ["", "### Different", "", "| model | phase | graphflops | witness |", "|---|---|--:|--:|"]
        for row in differing:
            for phase in ("forward", "backward", "published"):
                if phase in row and not _equal(row, phase):
                    ours, theirs = row[phase]
                    lines.append(f"| {row['name']} | {phase} | {ours:,} | {theirs:,} |")
    unknown = Counter[str]()
    models = Counter[str]()
    for row in rows:
        unknown.update(row.get("unknown") or {})
        models.update(list(row.get("unknown") or {}))
    if unknown:
        lines += ["", "### Unknown ops", "", "| op | times | in models |", "|---|--:|--:|"]
        lines += [f"| `{op}` | {count:,} | {models[op]:,} |" for op, count in unknown.most_common()]
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if reason := row.get("refused") or row.get("error"):
            said.setdefault((verdict(row), reason), []).append(row["name"])
    if said:
        lines += ["", "### Refused, or failed", "", "| | reason | models |", "|---|---|---|"]
        for (kind, reason), names in sorted(said.items()):
            lines.append(f"| {kind} | {_cell(reason)} | {', '.join(names)} |")
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| model | captured by | ops | counted | zero | unknown | assumed | forward, multiply-adds | ratio "
        "| backward | ratio | published, G | seconds | |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        cells = [_name(row), _cell("; ".join(row.get("capture", ())))]
        cells += [f"{row[each]:,}" if each in row else "" for each in ("ops", "counted", "zero")]
        cells.append(f"{sum(row['unknown'].values()):,}" if "unknown" in row else "")
        cells.append(f"{row['assumed']:,}" if row.get("assumed") else "")
        for phase in ("forward", "backward"):
            cells += [f"{row[phase][0]:,}", _ratio(*row[phase])] if phase in row else ["", ""]
        cells.append(f"{row['published'][1]:.3f}" if "published" in row else "")
        cells += [f"{row['seconds']:.2f}" if "seconds" in row else "", verdict(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _name(row: Row) -> str:
    """Its name, with the version of the package whose it is."""
    package, _, about = row["name"].partition(": ")
    return f"{package} {row['version']}: {about}" if "version" in row else row["name"]


def _ratio(ours: int, theirs: int) -> str:
    """1 if and only if they are equal; never rounded to it."""
    if ours == theirs:
        return "1"
    if not theirs:
        return "∞"
    near = f"{ours / theirs:.4f}"
    return near if near != "1.0000" else ("just below 1" if ours < theirs else "just above 1")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
