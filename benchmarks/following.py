"""What following services costs: picks, memory, decoding, how soon a change is seen, a thousand watches.

A part of `make bench`. Clients run in processes of their own and take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from itertools import cycle
from pathlib import Path
from timeit import timeit
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks.following_peer import MANY, ONE
from consul_access import ConsulAccess, HealthEntry, ServiceSnapshot, StalePolicy
from consul_access.call import Headers, Reply
from consul_access.consul import health
from consul_access.decoding import Rereader, decode_list
from consul_access.models.instance import share_parts
from tests.support.agents import ConsulAgent

MARK = "<!-- following -->"
WHERE_IT_GOES = """\
Seen means that `pick()` gives it; the rows of readers add how long it takes to wake whoever iterates over a watch.
After an idle quarter of a second every line of code runs from cold memory and costs ten times as much as in a loop,
in the bare socket's client too. So an answer that is plainly good news is taken over in the very callback that finds it
on the socket, before any task has its turn; whatever else there is to it comes after. Traced: 60 µs of the event loop
beyond the bare socket's wake, 40 for HTTP, 100 for the instance (`json.loads` alone takes 77), and 50 to hand it to the
resolver."""
SIZES = (1_000, 10_000, 100_000)
WATCHES = 1000


def entry(number: int) -> dict[str, Any]:
    """An instance with the tags, meta and checks that real ones have."""
    return {
        "Node": {
            "ID": f"{number:08x}-0000-4000-8000-000000000000", "Node": f"node-{number % 100}",
            "Address": f"10.0.{number // 250 % 250}.{number % 250}", "Datacenter": "dc1",
            "TaggedAddresses": {"lan": "10.0.0.1", "wan": "10.0.0.1"}, "Meta": {"consul-network-segment": ""},
        },
        "Service": {
            "ID": f"followed-{number}", "Service": "followed", "Tags": ["http", "v2", f"zone-{number % 3}"],
            "Address": f"10.1.{number // 250 % 250}.{number % 250}", "Port": 8080,
            "Meta": {"version": "2.3.1", "zone": f"z{number % 3}", "team": "core", "language": "python"},
            "Weights": {"Passing": 1, "Warning": 1}, "ModifyIndex": number,
        },
        "Checks": [
            {"Node": "n", "CheckID": name, "Name": name, "Status": "passing", "Output": "200 OK", "ServiceID": "x"}
            for name in ("serfHealth", f"service:followed-{number}")
        ],
    }  # fmt: skip


def answer(entries: list[dict[str, Any]]) -> Reply:
    return Reply(200, Headers(), json.dumps(entries, separators=(",", ":")).encode())


def finished(steps: Generator[None, None, Any]) -> tuple[Any, float, float]:
    """The result, the seconds that all steps took, and the longest one."""
    longest, begun = 0.0, time.perf_counter()
    last = begun
    while True:
        try:
            next(steps)
        except StopIteration as end:
            now = time.perf_counter()
            return end.value, now - begun, max(longest, now - last)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now


def reread() -> Rereader[Any]:
    kind = health.watched("followed", now=time.time).kind
    assert kind is not None
    return Rereader(kind, share_parts)


def picks(rounds: int) -> list[str]:
    """A pick beside a dict look-up and beside a plain round robin."""
    entries, _, _ = finished(reread().read(answer([entry(number) for number in range(10)])))
    snapshot = ServiceSnapshot(service="followed", instances=entries, source="live", answered_at=time.monotonic())
    found: dict[str, list[float]] = defaultdict(list)
    with ConsulAccess(port=1) as access:
        forever = access.resolver("followed")
        limited = access.resolver("followed", stale=StalePolicy.keep_for(60))
        for resolver in (forever, limited):
            resolver._tell(snapshot, None)
        table, turns = {"followed": entries}, {"followed": cycle(entries).__next__}
        ways: dict[str, Callable[[], object]] = {
            "a dict look-up and a plain round robin": lambda: turns["followed"](),  # noqa: PLW0108 - the look-up counts
            "pick(), kept for ever": forever.pick,
            "pick(), kept for a while": limited.pick,
            "instances()": forever.instances,
        }
        number = 200_000
        for _ in range(rounds):
            floor = timeit("table['followed']", globals={"table": table}, number=number)
            found["a dict look-up"].append(floor / number)
            for name, way in ways.items():
                found[name].append(timeit("way()", globals={"way": way}, number=number) / floor)
    scale = statistics.median(found.pop("a dict look-up")) * 1e9
    lines = [
        "| what | multiples of a dict look-up |", "|---|---|",
        *(f"| {name} | {statistics.median(ratios):.1f}{' (target 7)' if 'pick' in name else ''} |"
          for name, ratios in found.items()),
    ]  # fmt: skip
    return [*lines, "", f"A dict look-up takes {scale:.0f} ns.", ""]


def pick_beside_a_call() -> list[str]:
    """A pick beside what it takes the place of: asking the agent each time, as py-consul does."""
    import consul

    with ConsulAgent(server=True) as agent, ConsulAccess(url=agent.url) as access:
        agent.register("followed", address="10.0.0.5", port=8080)
        client = consul.Consul(host="127.0.0.1", port=agent.port)
        with access.resolver("followed") as resolver:
            resolver.wait_ready(10)
            ratios = []
            for _ in range(7):
                call = timeit(lambda: client.health.service("followed", passing=True), number=200) / 200
                ratios.append(call / (timeit(resolver.pick, number=200_000) / 200_000))
    return [f"Asking the agent with py-consul takes {statistics.median(ratios):.0f} times as long (target 5000).", ""]


def weighed(function: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    kept = function()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


def memory(sizes: tuple[int, ...]) -> list[str]:
    rows = ["| instances | bytes each | whole entries / ours |", "|---|---|---|"]
    for size in sizes:
        reply = answer([entry(number) for number in range(size)])
        reader = reread()
        mine = weighed(lambda reader=reader, reply=reply: finished(reader.read(reply))) / size  # type: ignore[misc]
        if size > 10_000:  # whole ones would take 700 MB
            rows.append(f"| {size} | {mine:.0f} (target 550) | |")
            continue
        whole = weighed(lambda reply=reply: decode_list(HealthEntry, reply)) / size  # type: ignore[misc]
        rows.append(f"| {size} | {mine:.0f} (target 550) | {whole / mine:.0f} (target 12) |")
    return [*rows, ""]


def decoding(rounds: int, size: int = 10_000) -> list[str]:
    entries = [entry(number) for number in range(size)]
    before = answer(entries)
    finished(reread().read(answer(entries[:1])))  # the reader itself is made by then
    times: dict[str, list[float]] = defaultdict(list)
    gc.collect()
    gc.freeze()  # what this benchmark has made to ask with is not looked through while it is asked
    for number in range(rounds):
        entries[number * 7 % size] = entry(size + number)
        after = answer(entries)
        reader = reread()
        _, _, stall = finished(reader.read(before))
        times["first stall"].append(stall)
        begun = time.perf_counter()
        decode_list(HealthEntry, after)
        times["whole"].append(time.perf_counter() - begun)
        gc.collect()
        _, took, stall = finished(reader.read(after))
        times["change"].append(took)
        times["stall"].append(stall)
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(whole / change for whole, change in zip(times["whole"], times["change"], strict=True))
    told = (
        f"One change among {size} instances is read {ratio:.0f} times faster than the whole answer into whole entries "
        f"(target 10), in {middle['change'] * 1000:.1f} ms. Meanwhile nothing else waits longer than "
        f"{middle['stall'] * 1000:.1f} ms (target 5), nor than {middle['first stall'] * 1000:.1f} ms at the first one."
    )
    return [told, ""]


@contextlib.contextmanager
def client(name: str, agent: ConsulAgent, number: int = 0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "following_peer.py"), name, "127.0.0.1", str(agent.port), str(number)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    with process:
        try:
            yield process
        finally:
            process.kill()


def seen(process: subprocess.Popen[str], port: int) -> float:
    """When it saw that port."""
    assert process.stdout is not None
    while True:
        found, moment = process.stdout.readline().split()
        if int(found) == port:
            return float(moment)


class Writer:
    """Changes services in the catalog over one bare socket, so that the acknowledgement is seen as soon as it comes."""

    def __init__(self, agent: ConsulAgent) -> None:
        self._sock = socket.create_connection(("127.0.0.1", agent.port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def change(self, service: str, port: int) -> float:
        """Gives the service another port; when that was acknowledged."""
        body = json.dumps({
            "Node": "external", "Address": "10.9.0.1", "SkipNodeUpdate": True,
            "Service": {"ID": service, "Service": service, "Address": "10.9.0.2", "Port": port},
        })  # fmt: skip
        head = f"PUT /v1/catalog/register HTTP/1.1\r\nHost: consul\r\nContent-Length: {len(body)}\r\n\r\n"
        self._sock.sendall((head + body).encode())
        data = self._sock.recv(65536)
        acknowledged = time.monotonic()
        assert data.startswith(b"HTTP/1.1 200"), data
        return acknowledged


def propagation(rounds: int, changes: int = 30) -> list[str]:
    found: dict[str, list[float]] = defaultdict(list)
    with ConsulAgent(server=True) as agent:
        agent.request("PUT", "/v1/catalog/register", {"Node": "external", "Address": "10.9.0.1"})
        writer = Writer(agent)
        port = 10_000
        for number in range(rounds):
            names = list(ONE)[number % len(ONE) :] + list(ONE)[: number % len(ONE)]
            for name in names:
                writer.change("followed", port)
                with client(name, agent) as process:
                    seen(process, port)
                    delays = []
                    for _ in range(changes):
                        time.sleep(0.25)  # it waits at the server again: we follow ten changes a second, no more
                        port += 1
                        acknowledged = writer.change("followed", port)
                        delays.append(seen(process, port) - acknowledged)
                found[name].append(statistics.median(delays))
                port += 1
    floor = found["raw"]
    rows = ["| client | p50 after the acknowledgement, as a multiple of the raw socket's |", "|---|---|"]
    for name, delays in found.items():
        ratio = statistics.median(mine / base for mine, base in zip(delays, floor, strict=True))
        rows.append(f"| {name} | {ratio:.2f}{' (target 1.8)' if name.startswith('ours') else ''} |")
    return [*rows, "", f"The raw socket's own median: {statistics.median(floor) * 1e6:.0f} µs.", "", WHERE_IT_GOES, ""]


def thousand(rounds: int, watches: int, changes: int = 40) -> list[str]:
    up: dict[str, list[float]] = defaultdict(list)
    each: dict[str, list[float]] = defaultdict(list)
    late: dict[str, list[float]] = defaultdict(list)
    with ConsulAgent(server=True, config={"limits": {"http_max_conns_per_client": 3 * watches}}) as agent:
        agent.request("PUT", "/v1/catalog/register", {"Node": "external", "Address": "10.9.0.1"})
        writer = Writer(agent)
        for which in range(watches):
            writer.change(f"s{which}", 1)
        port = 10_000
        for _ in range(rounds):
            for name in MANY:
                with client(name, agent, watches) as process:
                    assert process.stdout is not None
                    took, weight = map(float, process.stdout.readline().split())
                    up[name].append(took)
                    each[name].append(weight)
                    delays = []
                    for number in range(changes):
                        port += 1
                        acknowledged = writer.change(f"s{number * 7 % watches}", port)
                        delays.append(seen(process, port) - acknowledged)
                        time.sleep(0.02)
                    late[name].append(statistics.median(delays))
    rows = ["| client | brought up in | kB each | p50 of a change |", "|---|---|---|---|"]
    for name in MANY:
        target = " (target 20)" if name.startswith("ours") else ""
        rows.append(
            f"| {name} | {statistics.median(up[name]):.2f} s | {statistics.median(each[name]):.1f}{target} | "
            f"{statistics.median(late[name]) * 1000:.2f} ms |"
        )
    return [*rows, ""]


def report(rounds: int, watches: int, sizes: tuple[int, ...]) -> str:
    lines = ["## Following services", "", "### A pick from memory", "", *picks(max(rounds, 7)), *pick_beside_a_call()]
    lines += ["### Memory of a cached instance", "", *memory(sizes)]
    lines += ["### Reading an answer again", "", *decoding(rounds)]
    lines += ["### How soon a change is seen", "", *propagation(rounds)]
    lines += [
        f"### {watches} watches in one process, the agent's limit raised",
        "",
        *thousand(max(1, rounds // 3), watches),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round of everything, small")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    given = parser.parse_args()
    text = report(1, 100, SIZES[:1]) if given.quick else report(given.rounds, WATCHES, SIZES)
    print(text)
    if given.write:
        page = ROOT / "docs" / "benchmarks.md"
        before, mark, after = page.read_text().partition(MARK)
        kept = after[after.find("\n<!-- ") :] if "\n<!-- " in after else ""
        page.write_text(f"{before}{mark or MARK}\n\n{text}{kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
