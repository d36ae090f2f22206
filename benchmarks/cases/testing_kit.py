"""What the testing kit costs: a fake that starts, and what the fixture `registry` adds to a test."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.cases import Case
from benchmarks.common.environments import ROOT, environment
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.rendering import table
from benchmarks.common.session import Session

FAKES = ("FakeConsul", "FakeEtcd")
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
print(loaded - begun, started - loaded, sorted(laps)[100])
"""
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
    print("TOOK", time.process_time() - begun)

@pytest.fixture
def empty():
    pass

@pytest.mark.parametrize("number", range({tests}))
def test_it(number{fixture}):
    pass
"""
INTRODUCTION = "How long a fake takes to be there, and what the fixture `registry` adds to a test that uses it."


def measure(session: Session) -> Figures:
    figures = Figures()
    for _ in session.rounds(9):
        for name in FAKES:
            loading, first, again = map(float, _run([sys.executable, "-c", STARTING.format(name=name)]).split())
            figures.note(name, {"loading": loading, "first": first, "again": again})
        tests = session.amount(500, 200)
        for name, fixture in (("without", ""), ("empty", ", empty"), ("registry", ", registry")):
            figures.note(name, {"test": _suite(fixture, tests) / tests})
    return figures


def _suite(fixture: str, tests: int) -> float:
    """Seconds of CPU that a module with so many empty tests takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_it.py"
        path.write_text(SUITE.format(tests=tests, fixture=fixture))
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:asyncio", str(path)]
        return float(_run(command, folder).partition("TOOK ")[2].split()[0])


def _run(command: list[str], folder: str | None = None) -> str:
    done = subprocess.run(command, cwd=folder or ROOT, env=environment(), capture_output=True, text=True, check=True)
    return done.stdout


def tables(figures: Figures) -> list[str]:
    rows = [
        [f"`{name}()`", *(f"{figures.middle(name, kind) * 1000:.2f} ms" for kind in ("loading", "first", "again"))]
        for name in FAKES
    ]
    alone = figures.middle("without", "test")
    added, anyone = ((figures.middle(name, "test") - alone) * 1000 for name in ("registry", "empty"))
    head = ["fake", "loading it, once in a process", "the first", "each further one (target 5 ms)"]
    told = (
        f"A test that uses `registry` takes {added:.2f} ms of CPU longer than one without a fixture (target 1 ms); one "
        f"with an empty fixture takes {anyone:.2f} ms longer."
    )
    return [*table(head, rows), told, ""]


CLAIMS = (
    *(Claim(f"{name}() / loading it", (name, "again"), (name, "loading")) for name in FAKES),
    Claim("an empty test with `registry` / without", ("registry", "test"), ("without", "test")),
)
CASE = Case("testing-kit", "The testing kit", INTRODUCTION, measure, tables, CLAIMS)
