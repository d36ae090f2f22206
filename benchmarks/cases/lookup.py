"""A look-up of healthy instances that asks the agent, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common.cases import Case
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.plots import Panel, Plot, ratios
from benchmarks.common.rendering import table
from benchmarks.common.session import SIZES, Session, turn
from benchmarks.common.statistics import number

CLIENTS = (
    *("raw", "raw, working 35 µs", "raw-async", "ours", "ours-async", "go", "node", "py-consul", "py-consul-async"),
    *("python-consul2", "discovery-client", "httpx", "httpx-async"),
)
CALLS = {1: 300, 10: 200, 100: 60, 1000: 10}
"""A turn's calls, by the number of instances."""
FEWER = {1: 60, 10: 30, 100: 10}

INTRODUCTION = """\
How long it takes to ask for a service's healthy instances and to have them decoded, as multiples of the floor: one
keep-alive socket with a prepared request whose answer is not even decoded. "p99" and "CPU" are such multiples too.

- On a quick machine the floor for one instance is lower than any client that does something with the answer can get: a
  server that hears nothing for a few tens of microseconds goes to sleep, and waking it takes longer than answering. The
  second row, the bare socket with 35 µs of work between its calls, shows it. This library's own work is about 35 µs.
- From 1000 instances on, the server's own time counts most.
- Ours gives typed instances, retries, keeps a deadline and checks what it reads; go, node and the others give
  structures or dictionaries as they came. discovery-client opens a connection for every call."""


def measure(session: Session) -> Figures:
    figures = Figures()
    agent = session.server()
    with session.workers(CLIENTS, agent.host, agent.port) as workers:
        for number_ in session.rounds(9):
            for size, calls in session.amount(CALLS, FEWER).items():
                for worker in turn(workers, number_):
                    found = worker.ask(do="latency", operation="resolve", argument=f"bench-{size}", calls=calls)
                    figures.note(worker.name, found, f":{size}")
    return figures


def tables(figures: Figures) -> list[str]:
    rows, sizes = [], _measured(figures)
    for client in CLIENTS:
        cells = [_cell(figures, client, size) for size in sizes]
        if any(cells):
            rows.append([client, *cells])
    floor = ", ".join(f"{figures.middle('raw', f'p50:{size}') * 1e6:.0f} µs" for size in sizes)
    head = ["client", *(f"{size} inst." for size in sizes)]
    return [*table(head, rows), f"The raw socket's own median, for the scale: {floor}.", "", *factors(figures)]


def _measured(figures: Figures) -> list[int]:
    return [size for size in SIZES if figures.get("raw", f"p50:{size}")]


def _cell(figures: Figures, client: str, size: int) -> str:
    found = [figures.quotient((client, f"{kind}:{size}"), ("raw", f"{kind}:{size}")) for kind in ("p50", "p99", "cpu")]
    if None in found:
        return ""
    p50, p99, cpu = (one.median for one in found if one is not None)
    return f"{p50:.2f} (p99 {p99:.2f}, CPU {cpu:.1f})"


FACTORS = (
    ("median, py-consul / ours", "py-consul", "ours", "p50"),
    ("CPU, py-consul / ours", "py-consul", "ours", "cpu"),
    ("median, python-consul2 / ours", "python-consul2", "ours", "p50"),
    ("median, httpx / ours", "httpx", "ours", "p50"),
    ("median, Go's client / ours", "go", "ours", "p50"),
    ("CPU, Go's client / ours", "go", "ours", "cpu"),
    ("median, node / ours", "node", "ours", "p50"),
    ("median, httpx.AsyncClient / ours-async", "httpx-async", "ours-async", "p50"),
    ("CPU, httpx.AsyncClient / ours-async", "httpx-async", "ours-async", "cpu"),
    ("median, py-consul's async client / ours-async", "py-consul-async", "ours-async", "p50"),
    ("median, discovery-client / ours-async", "discovery-client", "ours-async", "p50"),
)


def factors(figures: Figures) -> list[str]:
    """How many times faster."""
    rows, sizes = [], _measured(figures)
    for what, theirs, mine, kind in FACTORS:
        found = [figures.quotient((theirs, f"{kind}:{size}"), (mine, f"{kind}:{size}")) for size in sizes]
        if any(found):
            rows.append([what, *("" if one is None else number(one.median) for one in found)])
    return table(["how many times faster", *(f"{size} inst." for size in sizes)], rows)


def plots(figures: Figures) -> Sequence[Plot]:
    panels = [
        Panel(
            f"{size} instance{'s' if size > 1 else ''}", ratios(figures, CLIENTS, f"p50:{size}", ("raw", f"p50:{size}"))
        )
        for size in _measured(figures)
    ]
    return [Plot("lookup", "The median of a look-up as a multiple of the raw socket's", panels)]


def _against(row: int, client: str, kind: str, targets: dict[int, float], what: str, *, why: str = "") -> list[Claim]:
    return [
        Claim(
            f"{what}, {size} inst.",
            (client, f"{kind}:{size}"),
            ("ours", f"{kind}:{size}"),
            better="higher",
            target=target,
            row=row,
            why=why,
        )
        for size, target in targets.items()
    ]


FLOOR = (
    "the bare socket asks again within a few microseconds, so that the server never sleeps; with 35 µs of work between "
    "its calls, which is what this library does in a call, the socket itself is where the second row of the look-ups "
    "has it, and ours is as far above that as decoding and checking take."
)
INSTANCES = (
    "from a hundred instances on most of it is the reading by Pydantic's core and the making of typed instances, "
    "where py-consul makes dictionaries of what came."
)
CLAIMS = (
    Claim("a look-up of 1 instance / raw socket", ("ours", "p50:1"), ("raw", "p50:1"), target=1.6, row=1, why=FLOOR),
    *_against(2, "py-consul", "p50", {1: 3.0, 10: 2.4, 100: 1.6, 1000: 1.2}, "median, py-consul / ours"),
    *_against(3, "py-consul", "cpu", {1: 6, 10: 4.5, 100: 2.5, 1000: 1.4}, "CPU, py-consul / ours", why=INSTANCES),
    *(
        Claim(f"ours / Go's client, {size} inst.", ("ours", f"p50:{size}"), ("go", f"p50:{size}"), target=1.0, row=4)
        for size in (1, 10, 100)
    ),
    Claim(
        "ours-async, 1 inst. / raw asyncio connection",
        *(("ours-async", "p50:1"), ("raw-async", "p50:1")),
        target=1.5,
        row=5,
        why="as for the bare socket in 1: the server sleeps meanwhile.",
    ),
    Claim(
        "median, httpx.AsyncClient / ours-async, 1 inst.",
        *(("httpx-async", "p50:1"), ("ours-async", "p50:1")),
        better="higher",
        target=3.5,
        row=5,
    ),
    Claim(
        "median, py-consul's async client / ours-async, 1 inst.",
        *(("py-consul-async", "p50:1"), ("ours-async", "p50:1")),
        better="higher",
        target=1.4,
        row=5,
    ),
    *(
        Claim(f"{client}, {kind}, {size} inst. / raw", (client, f"{kind}:{size}"), ("raw", f"{kind}:{size}"))
        for client in ("ours", "ours-async")
        for kind in ("p50", "cpu")
        for size in SIZES
    ),
)
CASE = Case("lookup", "A look-up that asks the agent", INTRODUCTION, measure, tables, CLAIMS, plots)
