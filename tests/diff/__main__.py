"""Differences of models between two releases of timm and transformers: writes docs/diff-releases.md.

The older releases are installed in a folder of their own, beside the torch that is there. Each release analyzes the
models in a process of its own, on the meta device, and saves their reports. Then
each pair is compared, and each model with itself under other names. A pair fails unless

* the rows sum to the difference of the totals in every phase;
* for each module path, the rows sum to the change of the module's own FLOPs, which are counted from the reports alone:
  so a module whose number changed has a row;
* the model inside of another module, which has other paths and another class, has an empty difference.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RELEASES = "releases.txt"
"""a file with the releases that were imported"""
OLD = ("timm==0.9.16", "transformers==5.0.0")
TIMM = [
    "resnet18",
    "resnet50",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "regnetx_002",
    "densenet121",
    "swin_tiny_patch4_window7_224",
    "mixer_s32_224",
    "deit_tiny_patch16_224",
    "maxvit_tiny_rw_224",
    "edgenext_xx_small",
    "eva02_tiny_patch14_224",
    "beit_base_patch16_224",
    "coatnet_nano_rw_224",
    "hrnet_w18_small",
]
HF = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "phi3",
    "mixtral",
    "gpt2",
    "gpt_neox",
    "opt",
    "falcon",
    "olmo2",
    "bert",
    "roberta",
    "t5",
    "whisper",
    "vit",
    "clip",
]


def names() -> list[str]:
    """The models, as ``graphflops.load`` takes them."""
    return [*(f"timm:{name}" for name in TIMM), *(f"hf:{name}" for name in HF)]


def install(folder: Path, requirements: Sequence[str]) -> None:
    """Install releases in a folder, timm without its dependencies: it would install another torch.

    An installation that fails leaves no folder of this name.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for requirement in requirements:
        options = ["--no-deps"] if requirement.startswith("timm") else []
        subprocess.run([*pip, *options, "--upgrade", "--target", str(unfinished), requirement], check=True)
    unfinished.rename(folder)


def file_of(name: str) -> str:
    return name.replace(":", "-") + ".json"


def analyze_all(names: Sequence[str], folder: Path, *, renamed: bool) -> None:
    """Save a report of each model, and if ``renamed`` of the model inside of another; run by each release."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():  # of an earlier run
        file.unlink()
    sys.path.insert(0, str(ROOT / "tests/conformance"))
    import shim  # noqa: F401
    from torch import nn

    import graphflops

    class Outer(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner(*args, **kwargs)

    import timm
    import transformers

    releases = f"timm {timm.__version__} and transformers {transformers.__version__}"
    (folder / RELEASES).write_text(releases)
    print(releases, flush=True)
    for name in names:
        try:
            loaded = graphflops.load(name, training=True)
            graphflops.analyze(*loaded).to_json(folder / file_of(name))
            if renamed:
                graphflops.analyze(Outer(loaded.model), *loaded[1:]).to_json(folder / f"renamed-{file_of(name)}")
            print(f"  {name}", flush=True)
        except Exception as error:
            (folder / file_of(name)).with_suffix(".error").write_text(f"{type(error).__name__}: {error}")
            print(f"  {name}: {type(error).__name__}: {str(error).splitlines()[0][:150]}", flush=True)


def own_flops(report: Any, phase: str) -> Counter[str]:
    """Module path → FLOPs of its own operators: those of the module without those of its children."""
    flops = report.by_module(phase)
    own = Counter(flops)
    for path, number in flops.items():
        if path:
            own[path.rpartition(".")[0]] -= number
    return own


def problems(difference: Any, before: Any, after: Any) -> list[str]:
    """Faults of a difference, found from the two reports alone."""
    from graphflops.core.entries import PHASES

    faults = []
    for phase in PHASES:
        if sum(row.difference(phase) for row in difference.rows) != after.flops(phase) - before.flops(phase):
            faults.append(f"{phase}: the rows do not add up")
        expected = own_flops(after, phase)
        expected.subtract(own_flops(before, phase))
        rows: Counter[str] = Counter()
        for row in difference.rows:
            rows[row.after] += row.right[phase]
            rows[row.before] -= row.left[phase]
        if unnamed := [path for path in {*expected, *rows} if expected[path] != rows[path]]:
            faults.append(f"{phase}: no row names {unnamed[:3]}")
    return faults


def compare_all(names: Sequence[str], old: Path, new: Path) -> list[tuple[str, ...]]:
    """A row of the page for each model that both releases have."""
    import graphflops

    rows = []
    for name in names:
        paths = [folder / file_of(name) for folder in (old, new)]
        if not all(path.exists() for path in paths):
            continue
        before, after = map(graphflops.Report.from_json, paths)
        difference = graphflops.diff(before, after)
        other = graphflops.diff(after, graphflops.Report.from_json(new / f"renamed-{file_of(name)}"))
        faults = problems(difference, before, after)
        if not other.is_empty:
            faults.append(f"renamed: {len(other.changes)} changes")
        kinds = Counter(row.kind for row in difference.rows)
        modules = {(row.before, row.after) for row in difference.changes}
        numbers = (before.total, after.total, difference.difference())
        rows.append(
            (
                f"`{name}`",
                *(f"{number:,}" for number in numbers),
                *(str(kinds[kind]) for kind in ("changed", "added", "removed", "renamed")),
                str(len(modules)),
                "; ".join(faults) or "yes",
            )
        )
        print(f"  {name}: {rows[-1][-1]}", flush=True)
    return rows


def page(rows: list[tuple[str, ...]], releases: list[str]) -> str:
    """The page: a line for each pair."""
    head = (
        "model",
        "FLOPs before",
        "after",
        "difference",
        "changed",
        "added",
        "removed",
        "renamed",
        "modules",
        "holds",
    )
    equal = sum(row[4:7] == ("0", "0", "0") for row in rows)
    failed = sum(row[-1] != "yes" for row in rows)
    lines = [
        "# Differences between releases",
        "",
        f"`python tests/diff` compares models of {releases[0]} with those of {releases[1]},",
        "a training step of each, and writes this page.",
        f"Of {len(rows)} pairs, {len(rows) - equal} have changed operators, and {failed} fail. A pair holds if",
        "",
        "- the rows sum to the difference of the totals in every phase,",
        "- for each module, the rows sum to the change of its own FLOPs: whichever changed has a row, and",
        "- the newer model inside of another module, which has other paths, has an empty difference to itself.",
        "",
        "Columns count rows of the difference by kind, and the modules that they name.",
        "",
        f"| {' | '.join(head)} |",
        f"|---|{'--:|' * (len(head) - 2)}---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"{datetime.now(UTC):%Y-%m-%d}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all steps; exit with 1 if a pair fails, or if there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models, such as hf:llama; default: all, and the page is written")
    parser.add_argument("--old", nargs="+", default=OLD, help="releases to compare with: timm==1.0.30 …")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv/diff", help="packages and reports")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--renamed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--page", type=Path, default=ROOT / "docs/diff-releases.md", help="the page to write")
    arguments = parser.parse_args()
    models = arguments.names or names()
    if arguments.worker:
        analyze_all(models, arguments.worker, renamed=arguments.renamed)
        return 0
    packages = arguments.folder / "-".join(sorted(arguments.old))
    old, new = (arguments.folder / name for name in ("old", "new"))
    if not packages.exists():
        install(packages, arguments.old)
    for folder, path, options in ((old, [str(packages)], []), (new, [], ["--renamed"])):
        search = os.pathsep.join([*path, str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, __file__, *models, "--worker", str(folder), *options]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": search}, check=True)
    rows = compare_all(models, old, new)
    if not arguments.names:
        arguments.page.write_text(
            page(rows, [(folder / RELEASES).read_text() for folder in (old, new)]), encoding="utf-8"
        )
    return int(not rows or any(row[-1] != "yes" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
