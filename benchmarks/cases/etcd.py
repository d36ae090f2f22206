"""Our calls to etcd beside other clients', on one real server."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.common.cases import Case
from benchmarks.common.environments import ETCD
from benchmarks.common.figures import Claim, Figures
from benchmarks.common.plots import Panel, Plot, ratios
from benchmarks.common.rendering import table
from benchmarks.common.session import Session, turn
from benchmarks.common.workers import Worker
from tests.support.etcd import NEWER, EtcdServer

KEY, VALUE, WATCHED = "bench/key", "v" * 100, "bench/watched"
SIZES = (1, 100, 1000, 10_000)
CALLS = {"get": 300, "put": 100, "range:1": 200, "range:100": 60, "range:1000": 15, "range:10000": 3}
CALLS |= {"keepalive": 200, "cycle": 40}
FEWER = {"get": 60, "put": 30, "range:100": 10, "keepalive": 30, "cycle": 10}
COLUMNS = (*CALLS, "watch")
BARE = {what for what in CALLS if what not in {"get", "put"}}
LACKING = {"etcd-client-py": {"keepalive", "cycle"}, "raw": BARE, "raw-async": BARE}
"""What a client does not do; etcd-client-py's leases cannot be kept."""
INTRODUCTION = (
    "Medians as multiples of those of the etcd3 package, CPU of the client's process in brackets. etcd3 stands beside "
    "the newest protobuf that it takes by itself, 3.20; with `compat.etcd3.install()` also beside protobuf 7, whose "
    "core is compiled. Values are 100 bytes long. A cycle is a lease granted, a key put under it, and the lease "
    'revoked. Ours and etcd3gw speak JSON with the gateway where nothing else is said; `gRPC` is `protocol="grpc"`, '
    "and the others speak nothing but that. etcd-client-py is written in Rust. The "
    "raw rows are the floors of ours: a bare socket, and a bare `asyncio.Protocol`, that send prepared requests to the "
    "gateway and decode nothing. No target was set for the face for tasks, since an event loop has a price of its own."
)

WHERE_TIME_GOES = """\
What a target compares follows its prototype, which was a socket in a thread, also where the other client has tasks; the
last rows compare tasks with tasks. Most of a call is the gateway's: it makes JSON into gRPC, calls its own server, and
makes JSON of the answer, so the bare socket is the least that any client of it can take. What this library adds to a
`get` is the next table's matter: limits in time, the pool, failover, what may be repeated, errors that tell what
happened. Caches are cold whenever an answer comes, since the server has had the same processor meanwhile, so that each
step costs two or three times what it does in a loop, where all of it is 25 µs. In an event loop two of its turns come
to that.

Over gRPC a call goes to etcd's server without the gateway in between. Its server would wake whoever waits for an answer
with a ping for each call; pings are answered once a second, and so come once a second.

Beside etcd-client-py ours misses its targets by as much as a bare `Protocol` misses them. Of the processor's time a
bare socket takes 0.11; the prototype, which had no limits in time, no pool, no failover and no errors to tell of, took
0.2. No single part stands out any more."""
PARTS = (
    ("a bare socket", 13),
    ("waiting with a limit in time", 3),
    ("HTTP", 7),
    ("the pool and its connection", 5),
    ("failover, limits, repeats, the reply", 8),
    ("JSON, base64, what is handed out", 11),
    ("the request", 2),
)
"""Microseconds of the processor for a `get` in a thread, after a server on the same core has emptied its caches."""
GATEWAY = (
    "most of such a call is the gateway's, whose JSON is the price of needing no gRPC: the raw rows of the section on "
    "etcd are the least that any client of it takes, and what ours adds to that is told below them."
)

GRPC = "ours, gRPC"
MESSAGES = (
    "frames and messages are written and read by Python here, and by compiled code there. In a loop that is 20 µs of a "
    "call's processor time (7 for the request, 7 for the frames, 6 for the message), two or three times that with cold "
    "caches, and 2 µs for each pair of key and value."
)


def prefix(size: int) -> str:
    return f"bench/{size}/"


def measure(session: Session) -> Figures:
    figures = Figures()
    sizes = session.amount(SIZES, SIZES[:2])
    calls = session.amount(CALLS, FEWER)
    with EtcdServer(NEWER) as server:
        session.say(f"filling etcd with {sum(sizes)} keys")
        _fill(server, sizes)
        with session.started(_commands(server, sizes)) as workers:
            for number in session.rounds(7):
                _round(figures, turn(workers, number), calls)
                for worker in turn(workers, number):
                    figures.note(worker.name, _watched(worker, server, session.amount(60, 20)), ":watch")
    return figures


def _commands(server: EtcdServer, sizes: Sequence[int]) -> dict[str, Callable[[], list[str]]]:
    address = (server.host, str(server.port), *map(str, sizes))
    return {
        name: partial(place.command, "-m", "benchmarks.clients.etcd", name, *address) for name, place in ETCD.items()
    }


def _round(figures: Figures, workers: Sequence[Worker], calls: Mapping[str, int]) -> None:
    for what, wanted in calls.items():
        for worker in workers:
            if what not in LACKING.get(worker.name, ()):
                found = worker.ask(do="latency", operation=what, calls=wanted)
                figures.note(worker.name, {kind: found[kind] for kind in ("p50", "cpu")}, f":{what}")


def _watched(worker: Worker, server: EtcdServer, events: int) -> dict[str, float]:
    """How long after a write, from before it was sent, its event has come."""
    assert worker.process.stdout is not None
    worker.order(do="watched", events=events)
    while not select.select([worker.process.stdout], [], [], 0.02)[0]:
        server.put(WATCHED, "0")  # until it has begun
    worker.answer()
    for _ in range(events):
        server.put(WATCHED, repr(time.monotonic()))
        time.sleep(0.002)
    return worker.answer()


def _fill(server: EtcdServer, sizes: Sequence[int]) -> None:
    server.put(KEY, VALUE)
    server.put(WATCHED, "0")
    for size in sizes:
        for number in range(size):
            server.put(f"{prefix(size)}{number:05}", VALUE)


def tables(figures: Figures) -> list[str]:
    columns = [what for what in COLUMNS if figures.get("etcd3", f"p50:{what}")]
    rows = [[name, *(_cell(figures, name, what) for what in columns)] for name in ETCD if name in figures.rounds]
    lines = table(["client", *columns], rows)
    tasks = [
        [f"{what}, {mine} / etcd-client-py", *cells]
        for what in ("get", "put", "watch")
        for mine in ("ours-async", "ours-async, gRPC", "raw-async")
        if (cells := _of_rust(figures, mine, what))
    ]
    scale = ", ".join(f"{what} {figures.middle('etcd3', f'p50:{what}') * 1e6:.0f} µs" for what in columns)
    lines += [f"etcd3's own medians, for the scale: {scale}.", ""]
    parts = [[part, str(time_)] for part, time_ in PARTS]
    lines += [*table(["tasks", "median", "CPU"], tasks), WHERE_TIME_GOES, ""]
    return [*lines, *table(["part of a `get` in a thread, caches cold", "CPU, µs"], parts)]


def _of_rust(figures: Figures, name: str, what: str) -> list[str]:
    found = [
        figures.quotient((name, f"{kind}:{what}"), ("etcd-client-py", f"{kind}:{what}")) for kind in ("p50", "cpu")
    ]
    return [f"{one.median:.2f}" for one in found if one is not None]


def _cell(figures: Figures, name: str, what: str) -> str:
    p50, cpu = (figures.quotient((name, f"{kind}:{what}"), ("etcd3", f"{kind}:{what}")) for kind in ("p50", "cpu"))
    return "-" if p50 is None or cpu is None else f"{p50.median:.2f} ({cpu.median:.2f})"


def plots(figures: Figures) -> Sequence[Plot]:
    panels = [
        Panel(what, bars)
        for what in COLUMNS
        if (bars := ratios(figures, tuple(ETCD), f"p50:{what}", ("etcd3", f"p50:{what}")))
    ]
    return [Plot("etcd", "Medians of calls to etcd, as multiples of the etcd3 package's", panels)]


def _against(row: int, what: str, mine: str, theirs: str, target: float, *, kind: str = "p50") -> Claim:
    called = f"{what}, {'CPU, ' if kind == 'cpu' else ''}{mine} / {theirs}"
    why = MESSAGES if mine == GRPC else GATEWAY
    return Claim(called, (mine, f"{kind}:{what}"), (theirs, f"{kind}:{what}"), target=target, row=row, why=why)


CLAIMS = (
    *(
        _against(18, what, mine, other, 0.95)
        for what in ("get", "put")
        for mine in ("ours", GRPC)
        for other in ("etcd3", "etcd-client-py")
    ),
    *(
        _against(18, what, mine, "etcd-client-py", 0.35, kind="cpu")
        for what in ("get", "put")
        for mine in ("ours", GRPC)
    ),
    *(_against(19, f"range:{size}", "ours", "etcd3", 0.95) for size in (1000, 10_000)),
    *(_against(19, f"range:{size}", GRPC, "etcd3", 0.45) for size in (1000, 10_000)),
    *(_against(19, f"range:{size}", GRPC, "etcd-client-py", 1.3) for size in (1000, 10_000)),
    *(_against(20, "watch", mine, other, 0.95) for mine in ("ours", GRPC) for other in ("etcd3", "etcd-client-py")),
    *(_against(20, "watch", mine, "etcd-client-py", 0.4, kind="cpu") for mine in ("ours", GRPC)),
    *(_against(21, "keepalive", mine, "etcd3", 0.5) for mine in ("ours", GRPC)),
    *(_against(21, "cycle", mine, "etcd3", 1.0) for mine in ("ours", GRPC)),
    *(_against(21, "cycle", mine, "etcd3gw", 0.6) for mine in ("ours", GRPC)),
    *(
        Claim(f"{what}, {kind}, {name} / etcd3", (name, f"{kind}:{what}"), ("etcd3", f"{kind}:{what}"))
        for name in ("ours-async", "ours-async, gRPC", "ours, by etcd3's channel")
        for what in COLUMNS
        for kind in ("p50", "cpu")
    ),
)
CASE = Case("etcd", "etcd", INTRODUCTION, measure, tables, CLAIMS, plots)
