"""What the testing kit costs: a fake that starts, and what the fixture `registry` adds to a test.

A part of `make bench`. Every number is taken in processes of its own, and what is compared takes turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = "<!-- testing kit -->"
STARTING = """
import time
begun = time.perf_counter()
from consul_access.testing import {name}
loaded = time.perf_counter()
first = {name}()
started = time.perf_counter()
laps = []
for _ in range(200):
    lap = time.perf_counter()
    {name}()
    laps.append(time.perf_counter() - lap)
print((loaded - begun) * 1000, (started - loaded) * 1000, sorted(laps)[100] * 1000)
"""
TESTS = 500
SUITE = """
import time
import pytest

@pytest.fixture(scope="session", autouse=True)
def warm(request):
    # What is loaded when a fixture is used first is no part of a test.
    from consul_access.testing import MemoryRegistry
    with MemoryRegistry() as registry:
        registry.services()

@pytest.fixture(scope="module", autouse=True)
def timed(warm):
    begun = time.process_time()  # nothing waits: on a machine with nothing else to do that is the time that it takes
    yield
    print("TOOK", (time.process_time() - begun) * 1000)

@pytest.fixture
def empty():
    yield

@pytest.mark.parametrize("number", range({tests}))
def test_it(number{fixture}):
    pass
"""


def starting(rounds: int) -> list[str]:
    """How long each fake takes to be there, in milliseconds: loaded, started first, started again."""
    lines = [
        "| fake | loading it, once in a process | the first | each further one (target 5 ms) |",
        "|---|---|---|---|",
    ]
    for name in ("FakeConsul", "FakeEtcd"):
        taken = [
            [float(one) for one in _run([sys.executable, "-c", STARTING.format(name=name)]).split()]
            for _ in range(rounds)
        ]
        loading, first, again = (statistics.median(column) for column in zip(*taken, strict=True))
        lines.append(f"| `{name}()` | {loading:.0f} ms | {first:.2f} ms | {again:.2f} ms |")
    return lines


def fixture(rounds: int) -> list[str]:
    """What `registry` adds to a test, in milliseconds."""
    added: dict[str, list[float]] = {"empty": [], "registry": []}
    for _ in range(rounds):
        without = _suite("")
        for name, taken in added.items():
            taken.append((_suite(f", {name}") - without) / TESTS)
    took, any_fixture = statistics.median(added["registry"]), statistics.median(added["empty"])
    return [
        f"A test that uses `registry` takes {took:.2f} ms of CPU time longer than one without a fixture (target 1 ms);",
        f"one with an empty fixture takes {any_fixture:.2f} ms longer.",
    ]


def _suite(arguments: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_it.py"
        path.write_text(SUITE.format(tests=TESTS, fixture=arguments))
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:asyncio", str(path)]
        told = _run(command, folder)
    return float(told.partition("TOOK ")[2].split()[0])


def _run(command: list[str], folder: str | None = None) -> str:
    return subprocess.run(command, cwd=folder or ROOT, capture_output=True, text=True, check=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    text = "\n".join(["## The testing kit", "", *starting(rounds), "", *fixture(rounds), ""])
    print(text)
    if given.write:
        page = ROOT / "docs" / "benchmarks.md"
        before, mark, after = page.read_text().partition(MARK)
        if not mark:
            raise SystemExit(f"{page} has no line {MARK}")
        kept = after[after.find("\n<!-- ") :] if "\n<!-- " in after else ""
        page.write_text(f"{before}{mark}\n\n{text}{kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
