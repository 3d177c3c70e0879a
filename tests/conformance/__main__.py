"""The conformance zoo: every model's multiply-adds, by graphflops and by the witness.

python tests/conformance                      # what is not finished yet; then the page
python tests/conformance --family timm        # one family; --only 'resnet*' by name; the page's other parts stay
python tests/conformance --unfold --fresh    # and each report to be the same if no block is folded
python tests/conformance --fresh              # all again; --retry: again what did not agree
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path

from page import FINE, verdict, write
from run import Row, Rows, Runner, progress, serve
from zoo import FAMILIES, entries, missing

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run what was asked for, write the page; 1 if anything of it does not agree."""
    asked = _arguments()
    if asked.worker:
        serve(asked.rules, unfold=asked.unfold)
        return 0
    families = asked.family or list(FAMILIES)
    for family in families:
        if lacking := missing(family):
            print(f"{family} is left out: {' and '.join(lacking)} not installed", file=sys.stderr)
    rows = Rows(asked.rows)
    everything = entries(families)
    chosen = [each for each in everything if not asked.only or any(fnmatch(each.name, only) for only in asked.only)]
    waiting = [each for each in chosen if asked.fresh or not _finished(rows.found.get(each.key), asked.retry)]
    with progress(len(waiting)) as step:
        Runner(asked.jobs, asked.limit, asked.rules, asked.unfold).run(waiting, lambda row: (rows.add(row), step(row)))
    before = asked.page.read_text(encoding="utf-8") if asked.page.exists() else ""
    asked_for = {each.key for each in chosen}
    shown = [rows.found[each.key] for each in everything if each.key in rows.found]
    asked.page.write_text(write(shown, before), encoding="utf-8")
    verdicts = [verdict(rows.found[key]) for key in asked_for]
    exact, fine = sum(each == "exact" for each in verdicts), sum(each in FINE for each in verdicts)
    print(
        f"{len(verdicts)} models: {exact} agree exactly, {fine - exact} are refused with a reason, "
        f"{len(verdicts) - fine} do not agree; see {asked.page}"
    )
    return 0 if fine == len(verdicts) else 1


def _finished(row: Row | None, retry: bool) -> bool:
    return row is not None and (not retry or verdict(row) in ("exact", "refused"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="only this family; may be repeated")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="only models of such a name; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many run at a time; %(default)s unless told")
    parser.add_argument("--limit", type=float, default=180, help="seconds for one model; %(default)s unless told")
    parser.add_argument("--fresh", action="store_true", help="run again what is finished")
    parser.add_argument("--retry", action="store_true", help="run again what did not agree")
    parser.add_argument("--unfold", action="store_true", help="hold each report to that of no block folded")
    parser.add_argument("--rules", action="append", default=[], metavar="PATH", help="rules beside the shipped ones")
    parser.add_argument("--rows", type=Path, default=ROOT / "build" / "conformance.jsonl", help="the finished rows")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "conformance.md", help="the page to write")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
