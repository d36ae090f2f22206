"""What came of our own tests, scenario by scenario: read from pytest's report."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.faults.scenarios import SCENARIOS, holders, scenarios_of

ROOT = Path(__file__).resolve().parents[2]


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
