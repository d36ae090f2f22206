"""Measures what this library costs, beside other clients: `make bench`, or `python -m benchmarks --help`.

A full run writes docs/benchmarks.json, and of it the page docs/benchmarks.md and its pictures. A run of some of the
cases replaces their figures and leaves the others. A quick run writes below .venv, and leaves the documentation alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.common.cases import Case
from benchmarks.common.comparing import Incomparable, regressions
from benchmarks.common.environments import ROOT
from benchmarks.common.figures import Measured, Results
from benchmarks.common.plots import drawing
from benchmarks.common.rendering import page, plots, targets
from benchmarks.common.session import Session
from tools import servers

FULL, QUICK = ROOT / "docs", ROOT / ".venv" / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    given = _parser().parse_args(arguments)
    folder = QUICK if given.quick else FULL
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "benchmarks.json"
    results = _known(path, "quick" if given.quick else "full")
    old = Results.read(given.compare) if given.compare else None  # before it is written over
    if not given.render:
        _measure(_chosen(given.only), results, _session(given), path)
    _write(results, folder)
    print(targets(CASES, results))
    print(f"written: {path}, {folder / 'benchmarks.md'}", file=sys.stderr)
    return 0 if old is None else _compared(old, results)


def _session(given: argparse.Namespace) -> Session:
    return Session(quick=given.quick, rounds=given.rounds, limit=given.limit)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a little of everything, in less than two minutes")
    parser.add_argument("--only", action="append", metavar="CASE", help=f"one of {', '.join(c.name for c in CASES)}")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="begin no further round of a case after so long")
    parser.add_argument("--rounds", type=int, help="how many, in place of each case's own number")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="end with 1 when a figure got worse than there"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing: make the page of the figures there are")
    return parser


def _chosen(names: Sequence[str] | None) -> list[Case]:
    known = {case.name: case for case in CASES}
    if unknown := set(names or ()) - set(known):
        sys.exit(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [case for case in CASES if not names or case.name in names]


def _known(path: Path, mode: str) -> Results:
    """What was measured before."""
    return Results.read(path) if path.exists() else Results(mode)


def _measure(cases: Sequence[Case], results: Results, session: Session, path: Path) -> None:
    place = f"Python {platform.python_version()}, {os.cpu_count()} cores, {_versions()}"
    try:
        for case in cases:
            session.say(f"--- {case.name}")
            results.cases[case.name] = Measured(place, case.measure(session))
            path.write_text(results.text(), "utf-8")  # what is measured stays, whatever becomes of the next case
    finally:
        session.close()
    for client, reason in session.missing.items():
        session.say(f"{client} was left out: {reason}")


def _versions() -> str:
    """Of the servers."""
    found = []
    for binary in (servers.consul(), servers.etcd_newer()):
        said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True).stdout
        number = re.search(r"\d+\.\d+\.\d+", said)
        found.append(f"{binary.name} {number.group() if number else 'of an unknown version'}")
    return ", ".join(found)


def _write(results: Results, folder: Path) -> None:
    pictures = folder / "benchmarks"
    pictures.mkdir(exist_ok=True)
    (folder / "benchmarks.json").write_text(results.text(), "utf-8")
    (folder / "benchmarks.md").write_text(page(CASES, results), "utf-8")
    for plot in plots(CASES, results):
        (pictures / f"{plot.name}.svg").write_text(drawing(plot), "utf-8")


def _compared(old: Results, new: Results) -> int:
    claims = [(case.name, claim) for case in CASES for claim in case.claims]
    try:
        worse = list(regressions(claims, old, new))
    except Incomparable as error:
        print(f"cannot be compared: {error}", file=sys.stderr)
        return 2
    for one in worse:
        print(f"worse: {one}", file=sys.stderr)
    print(f"{len(worse)} of the compared figures got worse by more than noise", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and clients are ended on the way out
    sys.exit(main())
