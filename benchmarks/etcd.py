"""Our calls to etcd beside other clients', on one real server: a part of `make bench`.

Each client lives in a process of its own, and they take turns; a ratio is taken within a round. The table goes into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks.etcd_peer import KEY, PEERS, VALUE, WATCHED, prefix
from tests.support.etcd import NEWER, EtcdServer

MARK, NEXT = "<!-- etcd -->", "<!-- measured -->"
SIZES = (1, 100, 1000, 10_000)
CALLS = {"get": 300, "put": 100, "range:1": 200, "range:100": 60, "range:1000": 15, "range:10000": 3}
CALLS |= {"keepalive": 200, "cycle": 40}
EVENTS = 60
INTRODUCTION = (
    "Medians as multiples of those of the etcd3 package, CPU of the client's process in brackets. etcd3 stands beside "
    "the newest protobuf that it takes by itself, 3.20; with `compat.etcd3.install()` also beside protobuf 7, whose "
    "core is compiled. Values are 100 bytes long. A cycle is a lease granted, a key put under it, and the lease "
    "revoked. Ours and etcd3gw speak JSON with the gateway, all others gRPC; etcd-client-py is written in Rust. The "
    "raw rows are the floors of ours: a bare socket, and a bare `asyncio.Protocol`, that send prepared requests to the "
    "gateway and decode nothing.\n"
)
WHERE_TIME_GOES = """
What a target compares follows its prototype, which was a socket in a thread, also where the other client has tasks; the
last rows compare tasks with tasks. Most of a call is the gateway's: it makes JSON into gRPC, calls its own server, and
makes JSON of the answer, so the bare socket is the least that any client of it can take. What this library adds to a
`get`, measured in a loop with the answer already there, is about 50 µs of Python: 8 for the socket, 7 for HTTP, 8 to
read the JSON and the base64 in it, 6 to write the request, and the rest for what a bare socket does not do: limits in
time, the pool, failover, what may be repeated, errors that tell what happened. In an event loop it is about 100 µs: two
of its turns, and a place in its selector for each call, since connections belong to no event loop and so outlive it.
"""
OLD_PROTOBUF = ROOT / ".venv" / "protobuf-3"
"""What etcd3 needs by itself, beside the environment."""
TARGETS = (
    ("get, ours / etcd3", "get", "ours", "etcd3", "p50", 0.95),
    ("get, ours / etcd-client-py", "get", "ours", "etcd-client-py", "p50", 0.95),
    ("get, CPU, ours / etcd-client-py", "get", "ours", "etcd-client-py", "cpu", 0.35),
    ("put, ours / etcd3", "put", "ours", "etcd3", "p50", 0.95),
    ("put, ours / etcd-client-py", "put", "ours", "etcd-client-py", "p50", 0.95),
    ("put, CPU, ours / etcd-client-py", "put", "ours", "etcd-client-py", "cpu", 0.35),
    ("range of 1000, ours / etcd3", "range:1000", "ours", "etcd3", "p50", 0.95),
    ("range of 10000, ours / etcd3", "range:10000", "ours", "etcd3", "p50", 0.95),
    ("watch, ours / etcd3", "watch", "ours", "etcd3", "p50", 0.95),
    ("watch, ours / etcd-client-py", "watch", "ours", "etcd-client-py", "p50", 0.95),
    ("watch, CPU, ours / etcd-client-py", "watch", "ours", "etcd-client-py", "cpu", 0.4),
    ("keepalive, ours / etcd3", "keepalive", "ours", "etcd3", "p50", 0.5),
    ("cycle, ours / etcd3", "cycle", "ours", "etcd3", "p50", 1.0),
    ("cycle, ours / etcd3gw", "cycle", "ours", "etcd3gw", "p50", 0.6),
)

TASKS = tuple(
    (f"{what}{', CPU' if kind == 'cpu' else ''}, {mine} / etcd-client-py", what, mine, "etcd-client-py", kind)
    for what in ("get", "put", "watch")
    for kind in ("p50", "cpu")
    for mine in ("ours-async", "raw-async")
)
"""The same for tasks, which no target was set for: beside the floor, since an event loop has a price of its own."""

Figures = dict[tuple[str, str], dict[str, list[float]]]


class Peer:
    """A client's process."""

    def __init__(self, name: str, server: EtcdServer) -> None:
        self.name = name
        paths = [str(OLD_PROTOBUF), str(ROOT)] if name == "etcd3" else [str(ROOT)]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "etcd_peer.py"), name, server.host, str(server.port)]
            + [str(size) for size in SIZES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def order(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} stopped")
        found: dict[str, float] = json.loads(line)
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def watched(peer: Peer, server: EtcdServer) -> dict[str, float]:
    """How long after a write, from before it was sent, its event has come."""
    peer.order(do="watch", events=EVENTS)
    while not select.select([peer.process.stdout], [], [], 0.02)[0]:
        server.put(WATCHED, "0")  # until it has begun
    peer.answer()
    for _ in range(EVENTS):
        server.put(WATCHED, repr(time.monotonic()))
        time.sleep(0.002)
    return peer.answer()


def fill(server: EtcdServer) -> None:
    server.put(KEY, VALUE)
    server.put(WATCHED, "0")
    for size in SIZES:
        for number in range(size):
            server.put(f"{prefix(size)}{number:05}", VALUE)


def measured(rounds: int) -> Figures:
    figures: Figures = defaultdict(lambda: defaultdict(list))
    with EtcdServer(NEWER) as server:
        fill(server)
        peers = [Peer(name, server) for name in PEERS]
        try:
            for number in range(rounds):
                print(f"etcd, round {number + 1} of {rounds}", file=sys.stderr)
                turn = peers[number % len(peers) :] + peers[: number % len(peers)]
                for what, calls in CALLS.items():
                    for peer in turn:
                        peer.order(do=what, calls=calls)
                        _note(figures[peer.name, what], peer.answer())
                for peer in turn:
                    _note(figures[peer.name, "watch"], watched(peer, server))
        finally:
            for peer in peers:
                peer.close()
    return figures


def _note(kept: dict[str, list[float]], found: dict[str, float]) -> None:
    for kind, value in found.items():
        kept[kind].append(value)


def ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def report(figures: Figures) -> str:
    columns = [*CALLS, "watch"]
    lines = ["\n## etcd\n", INTRODUCTION]
    lines += ["| client | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in PEERS:
        cells = []
        for what in columns:
            mine, theirs = figures[name, what], figures["etcd3", what]
            cell = "-"
            if mine:
                cell = f"{ratio(mine['p50'], theirs['p50']):.2f} ({ratio(mine['cpu'], theirs['cpu']):.2f})"
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    floor = ", ".join(f"{what} {statistics.median(figures['etcd3', what]['p50']) * 1e6:.0f} µs" for what in columns)
    lines += [f"\netcd3's own medians, for the scale: {floor}.\n", "| what | ratio | target |", "|---|---|---|"]
    for title, what, mine, theirs, kind, target in TARGETS:
        lines.append(f"| {title} | {ratio(figures[mine, what][kind], figures[theirs, what][kind]):.2f} | {target} |")
    for title, what, mine, theirs, kind in TASKS:
        lines.append(f"| {title} | {ratio(figures[mine, what][kind], figures[theirs, what][kind]):.2f} | |")
    return "\n".join([*lines, WHERE_TIME_GOES])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = options.parse_args()
    text = report(measured(chosen.rounds))
    print(text)
    if chosen.write:
        page = ROOT / "docs" / "benchmarks.md"
        whole = page.read_text()
        before, _, rest = whole.partition(MARK if MARK in whole else NEXT)
        after = rest.partition(NEXT)[2] if MARK in whole else rest
        page.write_text(f"{before}{MARK}\n{text}\n{NEXT}{after}")


if __name__ == "__main__":
    main()
