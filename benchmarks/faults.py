"""The fault laboratory: every scenario against this library and, where they can meet it, other clients: `make faults`.

Ours are tests (tests/faults/scenarios.py names them); their results and what they measured are read from pytest's own
report. Others are short programs (faults_peer.py) that meet the same faults (faults_meetings.py); what happened to
them is written down, and ours meets them beside, in the same way. `--rounds 2` runs each test again after all of them
have run. `--write` puts the tables into docs/reliability.md, everything as JSON beside it; the scenarios that were not
run this time keep what was found the last time.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks.faults_meetings import MEETINGS
from tests.faults.comparing import Met, is_ahead
from tests.faults.scenarios import ALONE, SCENARIOS, SERIES, holders, scenarios_of
from tests.support.hangups import hear_hangups
from tools import servers

PAGE, RESULTS = ROOT / "docs" / "reliability.md", ROOT / "docs" / "reliability.json"
MARK = "<!-- measured -->"


# --- others, and ours beside them -----------------------------------------------------------------------------


def met(names: list[str]) -> dict[str, dict[str, Any]]:
    """What happened to each client in each scenario."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        clients, meeting = MEETINGS[name]
        print(name, file=sys.stderr)
        for client, one in meeting(clients).items():
            found.setdefault(name, {})[client.removesuffix("-etcd")] = one.stored()
            print(f"  {client}: {one}", file=sys.stderr)
    return found


# --- ours -----------------------------------------------------------------------------------------------------


def tested(selection: list[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Runs the tests of these scenarios, all of them as often as wanted: what came of each scenario."""
    results: dict[str, dict[str, Any]] = {name: {"rounds": [], "measured": {}} for name in selection}
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        for name, (counts, measured) in tested_once(selection).items():
            results[name]["rounds"].append(counts)
            for what, values in measured.items():
                results[name]["measured"].setdefault(what, []).extend(values)
    return results


Outcome = tuple[dict[str, Any], dict[str, list[str]]]
"""How many tests passed, failed and were left out; and what they measured."""


def tested_once(selection: list[str]) -> dict[str, Outcome]:
    functions = sorted({test for name in selection for test in holders(name)})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        files = sorted({test.partition("::")[0] for test in functions})
        command = [sys.executable, "-m", "pytest", "-q", "-n", "4", "--dist", "loadfile", "-m", expression(selection)]
        subprocess.run([*command, f"--junitxml={report}", *files], cwd=ROOT, check=False)
        return of_cases(ET.parse(report).iter("testcase"), selection)


def expression(selection: list[str]) -> str:
    """Of pytest's marks: the tests of these scenarios and no others."""
    return " or ".join(f"scenario({name}=True)" for name in selection)


def of_cases(cases: Iterable[ET.Element], selection: list[str]) -> dict[str, Outcome]:
    results: dict[str, Outcome] = {name: ({"passed": 0, "failed": [], "skipped": 0}, {}) for name in selection}
    for case in cases:
        for name in scenarios_of_case(case):
            if name in selection:
                counts, measured = results[name]
                count(case, counts)
                for one in case.iter("property"):
                    if one.get("name") != "backend":
                        measured.setdefault(str(one.get("name")), []).append(str(one.get("value")))
    return results


def scenarios_of_case(case: ET.Element) -> list[str]:
    """One test function may hold several ways out, each of which its id names."""
    title = str(case.get("name"))
    path = next((one for module, one in modules().items() if f"{case.get('classname')}.".startswith(f"{module}.")), "")
    names = scenarios_of(path, title.partition("[")[0])
    return [name for name in names if "[L" not in title or f"[{name} " in title]


def count(case: ET.Element, counts: dict[str, Any]) -> None:
    if case.find("failure") is not None or case.find("error") is not None:
        counts["failed"].append(case.get("name"))
    else:
        counts["skipped" if case.find("skipped") is not None else "passed"] += 1


@cache
def modules() -> dict[str, str]:
    """The paths of the test modules, by the names that pytest's report has for them."""
    paths = {test.partition("::")[0] for name in SCENARIOS for test in holders(name)}
    return {path.removesuffix(".py").replace("/", "."): path for path in sorted(paths)}


# --- the page -------------------------------------------------------------------------------------------------


def verdict(result: dict[str, Any]) -> str:
    """Of all rounds."""
    rounds = result["rounds"]
    failed, passed = [len(one["failed"]) for one in rounds], [one["passed"] for one in rounds]
    if not any(passed + failed):
        return "not run"
    if any(failed):
        return f"**{' and '.join(map(str, failed))} failed**, {' and '.join(map(str, passed))} held"
    times = f"{len(rounds)} x " if len(rounds) > 1 else ""
    return f"holds ({times}{min(passed)})"


def recovery(result: dict[str, Any]) -> str:
    """What was measured, the slowest of each."""
    parts = []
    for what, values in result["measured"].items():
        seconds = [float(value.removesuffix(" s")) for value in values if value.endswith(" s")]
        if seconds and "after" in what:
            parts.append(f"{what} {max(seconds):.1f} s")
        elif what == "seconds":
            parts.append(f"{max(map(float, values)):.1f} s")
    return "; ".join(parts[:3])


def beside(name: str, peers: dict[str, dict[str, Any]]) -> list[str]:
    """What was said of ours and of the other client; or in a word why nobody else was there."""
    if name not in peers:
        return ["", f"*{ALONE[name]}*" if name in ALONE else "not run"]
    ours = Met.of(peers[name]["ours"])
    client, other = next((client, Met.of(one)) for client, one in peers[name].items() if client != "ours")
    return [ours.said, f"{client}{' **ahead**' if is_ahead(other, ours) else ''}: {other.said}"]


def tables(found: dict[str, Any]) -> str:
    """Everything that was found, for the page."""
    results, peers = found["ours"], found["peers"]
    titles = ["scenario", "what must hold", "our tests", "their recovery", "reference", "ours meets it", "another does"]
    lines = [f"With {', '.join(found['servers'])}.", ""]
    for series, title in SERIES.items():
        lines += [f"## {title}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        for name, one in SCENARIOS.items():
            if name.startswith(series):
                result = results.get(name, {"rounds": [], "measured": {}})
                cells = [f"{name} {one.what}", one.bar, verdict(result), recovery(result), one.reference]
                lines.append(f"| {' | '.join([*cells, *beside(name, peers)])} |")
        lines.append("")
    return "\n".join(lines)


def releases() -> list[str]:
    """The servers that all this ran with."""
    binaries = {"Consul": servers.consul(), "etcd": servers.etcd(), "etcd, newer": servers.etcd_newer()}
    said = {name: subprocess.check_output([binary, "--version"], text=True) for name, binary in binaries.items()}
    return [f"{name.partition(',')[0]} {re.search(r'[0-9]+[.][0-9.]+', text)[0]}" for name, text in said.items()]


def chosen(given: list[str]) -> list[str]:
    """The scenarios whose names begin with one of these; all of them when there are none."""
    return [name for name in SCENARIOS if not given or name.startswith(tuple(given))]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("scenarios", nargs="*", help="by name or by its beginning (C, F1); all of them by default")
    options.add_argument("--rounds", type=int, default=1, help="how often our tests are run; 1 by default")
    options.add_argument("--write", action="store_true", help="put the results into docs/reliability.md")
    options.add_argument("--only", choices=["ours", "peers"], help="run the tests, or the meetings with others")
    given = options.parse_args()
    hear_hangups()
    names = chosen(given.scenarios)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"ours": {}, "peers": {}}
    peers = {} if given.only == "ours" else met([name for name in MEETINGS if name in names])
    ours = {} if given.only == "peers" else tested(names, given.rounds)
    found = {
        "ours": {**known["ours"], **ours},
        "peers": {**known["peers"], **peers},
        "servers": releases(),
    }
    page = tables(found)
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(f"{PAGE.read_text().partition(MARK)[0]}{MARK}\n\n{page}")
    else:
        print(page)
    failed = [name for name, result in ours.items() if any(one["failed"] for one in result["rounds"])]
    behind = [name for name, one in peers.items() if "**ahead**" in "".join(beside(name, {name: one}))]
    print(f"failed: {failed or 'none'}; another client is ahead: {behind or 'nowhere'}", file=sys.stderr)
    return int(bool(failed or behind))


if __name__ == "__main__":
    sys.exit(main())
