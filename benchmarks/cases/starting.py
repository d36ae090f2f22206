"""What a fresh interpreter needs for the import alone, and up to the first look-up."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from benchmarks.common.cases import Case
from benchmarks.common.environments import ENVIRONMENTS, ROOT, Missing, Python, environment
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.plots import Bar, Panel, Plot
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from benchmarks.common.statistics import number, spread

IMPORTS = {
    "ours": "import consul_access",
    "ours-async": "from consul_access import AsyncConsulAccess",
    "py-consul": "import consul",
    "py-consul-async": "import consul.aio",
    "python-consul2": "import consul",
    "discovery-client": "import discovery.client",
    "httpx": "import httpx",
}
LOOK_UPS = {
    "ours": "import consul_access; consul_access.ConsulAccess({host!r}, {port}).instances('bench-10')",
    "ours, addresses": "import consul_access; consul_access.ConsulAccess({host!r}, {port}).search_service('bench-10')",
    "ours, Pydantic by itself": "import pydantic.dataclasses; from pydantic import TypeAdapter; TypeAdapter(list[int])",
    "py-consul": "import consul; consul.Consul({host!r}, {port}).health.service('bench-10', passing=True)",
    "python-consul2": "import consul; consul.Consul({host!r}, {port}).health.service('bench-10', passing=True)",
    "httpx": "import httpx; httpx.Client().get('http://{host}:{port}/v1/health/service/bench-10?passing=1').json()",
}
INTRODUCTION = (
    "What a fresh interpreter takes, by its own clock: for the import alone, and for import and first look-up of ten "
    "instances together."
)
NOT_LOADED = (
    "instances are read by Pydantic's core alone, without Pydantic, which by itself takes what the table of that "
    "section says. What is not needed for a look-up over plain HTTP (TLS, httpx, tenacity, the other models) is not "
    "imported."
)
PARTS = (
    "a client's first answer is read without Pydantic's core when every entry holds what agents write. Of 50 ms of the "
    "processor's time, where py-consul takes 110, 31 are modules of Python's own (8 of them what `dataclasses` needs), "
    "17 this library's with its parser of HTTP, and 2 the look-up."
)


def run_time(client: str, code: str) -> float:
    """Seconds."""
    timed = f"import time; begun = time.perf_counter(); {code}; print(time.perf_counter() - begun)"
    place = ENVIRONMENTS[client]
    assert isinstance(place, Python)
    done = subprocess.run(
        place.command("-c", timed), cwd=ROOT, env=environment(), check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def measure(session: Session) -> Figures:
    figures = Figures()
    agent = session.server()
    address = {"host": agent.host, "port": agent.port}
    wanted = [(client, "import", code) for client, code in IMPORTS.items()]
    wanted += [(client, "look-up", code.format(**address)) for client, code in LOOK_UPS.items()]
    possible = [one for one in wanted if _is_here(session, one)]
    for number_ in session.rounds(15):
        for client, what, code in turn(possible, number_):
            figures.note(client, {what: run_time(client.partition(",")[0], code)})
    return figures


def _is_here(session: Session, wanted: tuple[str, str, str]) -> bool:
    """Runs it once, which also writes the byte code."""
    client, _, code = wanted
    try:
        run_time(client.partition(",")[0], code)
    except Missing as missing:
        session.missing[client] = str(missing)
        return False
    return True


def tables(figures: Figures) -> list[str]:
    rows = [
        [client, *(_cell(figures, client, kind) for kind in ("import", "look-up"))]
        for client in dict.fromkeys([*IMPORTS, *LOOK_UPS])
        if client in figures.rounds
    ]
    scale = ", ".join(f"{figures.middle('py-consul', kind) * 1000:.0f} ms" for kind in ("import", "look-up"))
    said = f"py-consul's own medians, for the scale: {scale}."
    return [*table(["client", "import", "import and first look-up"], rows), said, ""]


def _cell(figures: Figures, client: str, kind: str) -> str:
    found = figures.quotient((client, kind), ("py-consul", kind))
    return "" if found is None else number(found.median)


def plots(figures: Figures) -> Sequence[Plot]:
    panels = []
    for kind, title in (("import", "import"), ("look-up", "import and first look-up")):
        bars = []
        for client in figures.rounds:
            if values := figures.get(client, kind):
                one = spread([value * 1000 for value in values])
                bars.append(Bar(client, one.median, one.low, one.high))
        panels.append(Panel(title, bars, " ms"))
    return [Plot("starting", "What a fresh interpreter takes", panels)]


CLAIMS = (
    Claim("import consul_access / import consul", ("ours", "import"), ("py-consul", "import"), target=0.15, row=15),
    Claim(
        "start to the first typed look-up / py-consul's",
        *(("ours", "look-up"), ("py-consul", "look-up")),
        target=1.4,
        row=16,
        why=NOT_LOADED,
    ),
    Claim(
        "start to the first addresses / py-consul's first look-up",
        *(("ours, addresses", "look-up"), ("py-consul", "look-up")),
        target=0.6,
        row=16,
        why=PARTS,
    ),
)
CASE = Case("starting", "From nothing", INTRODUCTION, measure, tables, CLAIMS, plots)
