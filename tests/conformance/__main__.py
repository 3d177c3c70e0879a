"""The conformance models: the multiply-adds of each by graphflops and by the reference counter.

python tests/conformance                      # run unfinished rows, then write the page
python tests/conformance --family timm        # one family; --only 'resnet*' by name; other families stay on the page
python tests/conformance --unfold --fresh    # also require the same report without folding
python tests/conformance --fresh              # rerun all rows; --retry: only those that disagree
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path

from page import FINE, verdict, write
from run import Row, Rows, Runner, progress, run_worker
from zoo import FAMILIES, entries, missing

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the chosen models and write the page; the exit code is 1 if a count differs."""
    options = _arguments()
    if options.worker:
        run_worker(options.rules, unfold=options.unfold)
        return 0
    families = options.family or list(FAMILIES)
    for family in families:
        if packages := missing(family):
            print(f"skipping {family}: {' and '.join(packages)} not installed", file=sys.stderr)
    rows = Rows(options.rows)
    all_entries = entries(families)
    chosen = [
        entry
        for entry in all_entries
        if not options.only or any(fnmatch(entry.name, pattern) for pattern in options.only)
    ]
    pending = [entry for entry in chosen if options.fresh or not _finished(rows.by_key.get(entry.key), options.retry)]
    with progress(len(pending)) as step:
        Runner(options.jobs, options.limit, options.rules, options.unfold).run(
            pending, lambda row: (rows.add(row), step(row))
        )
    before = options.page.read_text(encoding="utf-8") if options.page.exists() else ""
    chosen_keys = {entry.key for entry in chosen}
    finished = [rows.by_key[entry.key] for entry in all_entries if entry.key in rows.by_key]
    options.page.write_text(write(finished, before), encoding="utf-8")
    verdicts = [verdict(rows.by_key[key]) for key in chosen_keys]
    exact, fine = sum(verdict == "exact" for verdict in verdicts), sum(verdict in FINE for verdict in verdicts)
    print(
        f"{len(verdicts)} models: {exact} agree exactly, {fine - exact} are refused with a reason, "
        f"{len(verdicts) - fine} do not agree; see {options.page}"
    )
    return 0 if fine == len(verdicts) else 1


def _finished(row: Row | None, retry: bool) -> bool:
    return row is not None and (not retry or verdict(row) in ("exact", "refused"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="only this family; may be repeated")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="only models whose name matches; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of worker processes (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=180, help="seconds for one model (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="rerun finished rows")
    parser.add_argument("--retry", action="store_true", help="rerun rows that disagree")
    parser.add_argument("--unfold", action="store_true", help="compare each report with the one without folding")
    parser.add_argument("--rules", action="append", default=[], metavar="PATH", help="additional rules")
    parser.add_argument("--rows", type=Path, default=ROOT / "build" / "conformance.jsonl", help="the finished rows")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "conformance.md", help="the page to write")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
