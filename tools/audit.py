"""Whom users install along with this library: the list of parts, and which of them have a known flaw; `make audit`.

The list (SBOM, CycloneDX in JSON) is put beside the wheel it is of, in the folder dist. Known flaws are asked of the
service that pip-audit asks. One that does not answer, or knows nothing of the parts, is no good news and is said so.

The exit code is 0 when all parts are known and none has a known flaw, 1 when one has, and 3 when it was not found out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tools.wheels import ROOT, TOOLS, build, install

OURS = "consul-access"
FLAWED, UNKNOWN = 1, 3


class Verdict(NamedTuple):
    """What to say, and the exit code."""

    lines: Sequence[str]
    code: int


def bill(python: Path, target: Path, *options: str) -> None:
    """Writes the list of parts of an environment: names, versions, licences, and who needs whom.

    Args:
        python: the environment's.
        target: the file.
        options: of `cyclonedx-py environment`.
    """
    whole = ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "library", "--output-reproducible"]
    command = [str(TOOLS / "cyclonedx-py"), "environment", *whole, *options, "-o", str(target), str(python)]
    subprocess.run(command, check=True)


def flaws(python: Path, *options: str) -> Verdict:
    """Asks for known flaws of all that is installed in an environment, besides this library.

    Args:
        python: the environment's.
        options: of `pip-audit`.
    """
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    command = [str(TOOLS / "pip-audit"), "--path", str(packages), "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        reason = (done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"])[-1]
        return Verdict([f"nothing is known about flaws: the service for them does not answer: {reason}"], UNKNOWN)
    return judged(json.loads(done.stdout)["dependencies"])


def judged(parts: Sequence[dict[str, Any]]) -> Verdict:
    """What follows from what pip-audit has found out.

    Args:
        parts: its `dependencies`; those with a `skip_reason` it knows nothing of.
    """
    others = [part for part in parts if part["name"] != OURS]
    unknown = [part for part in others if "skip_reason" in part]
    lines = [
        f"{part['name']} {part['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no release'}"
        for part in others
        for flaw in part.get("vulns", ())
    ]
    code = FLAWED if lines else UNKNOWN if unknown or not others else 0
    if unknown:
        lines.append(f"of {len(unknown)} of {len(others)} parts nothing is known: {unknown[0]['skip_reason']}")
        lines.append("an index that passes on packages alone cannot tell; `make audit SERVICE=osv` asks another one")
    else:
        lines.append(f"{len(others)} parts are known to the service, {len(lines)} flaws of theirs")
    return Verdict(lines, code)


def main(options: Sequence[str]) -> int:
    """Builds the wheel, installs it with all extras, writes the list and asks for flaws."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    with tempfile.TemporaryDirectory() as scratch:
        (wheel,) = build(Path(scratch) / "dist", "--wheel")
        python = install(Path(scratch) / "env", f"{wheel}[{','.join(extras)}]")
        target = ROOT / "dist" / f"{'-'.join(wheel.name.split('-')[:2])}.cdx.json"
        target.parent.mkdir(exist_ok=True)
        bill(python, target)
        print(f"the list of parts is in {os.path.relpath(target)}")
        verdict = flaws(python, *options)
    print("\n".join(verdict.lines))
    return verdict.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
