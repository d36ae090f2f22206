"""Keeps services registered: `python -m benchmarks.clients.keeping CLIENT HOST PORT SERVICES TTL SECONDS`.

Prints one JSON object: {"compared": CPU seconds a heartbeat, comparing included, "beats": the same for heartbeats
alone, "memory": bytes a service}, and ends without deregistering. With 0 seconds it says "ready" and stays until it is
told to end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETTLES = 1.5
"""Seconds from the last registration to the measurement: the first look at each comes after one second."""


def memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


class Measured:
    """CPU a heartbeat, from one moment to another; whoever makes heartbeats counts them."""

    beats = 0

    def begin(self) -> None:
        self._cpu, self._counted = time.process_time(), self.beats

    def end(self) -> float:
        return (time.process_time() - self._cpu) / max(1, self.beats - self._counted)


def tell(**figures: float) -> None:
    print(json.dumps(figures), flush=True)
    os._exit(0)  # the agent is thrown away as well


def settings(number: int) -> dict[str, Any]:
    return {"port": 8080, "id": f"kept-{number}"}


def counted(place: Any) -> Measured:
    """Counts the heartbeats that keepers make at agents."""
    found = Measured()
    beat = place.beat

    def counting(self: Any, status: Any, output: str) -> Any:
        found.beats += 1
        return beat(self, status, output)

    place.beat = counting
    return found


def compare_no_more(keepers: Sequence[Any]) -> None:
    """From now on they make heartbeats and nothing else, as py-consul's loop does."""
    from consul_access.rules import keeping

    keeping.LOOK_EVERY = float("inf")
    for keeper in keepers:
        keeper._rule._due.pop(keeping.Step.LOOK, None)
        keeper._place._waits_from = float("inf")


def ours(host: str, port: int, services: int, ttl: float, seconds: float) -> None:
    from consul_access import ConsulAccess, TtlCheck
    from consul_access._sync.at_agent import AtAgent

    access = ConsulAccess(host, port)
    access.services()
    with access.registered("warm", port=1, check=TtlCheck(ttl)):
        before = memory()
    found = counted(AtAgent)
    keepers = [access.registered("kept", check=TtlCheck(ttl), **settings(number)) for number in range(services)]
    for keeper in keepers:
        keeper.start()
    if not seconds:
        print("ready", flush=True)
        threading.Event().wait()
    time.sleep(SETTLES)
    found.begin()
    time.sleep(seconds)
    compared, grown = found.end(), memory() - before
    compare_no_more(keepers)
    found.begin()
    time.sleep(seconds)
    tell(compared=compared, beats=found.end(), memory=grown / services)


def ours_async(host: str, port: int, services: int, ttl: float, seconds: float) -> None:
    from consul_access import AsyncConsulAccess, TtlCheck
    from consul_access._async.at_agent import AsyncAtAgent

    async def main() -> None:
        async with AsyncConsulAccess(host, port) as access:
            async with access.registered("warm", port=1, check=TtlCheck(ttl)):
                before = memory()
            found = counted(AsyncAtAgent)
            keepers = [access.registered("kept", check=TtlCheck(ttl), **settings(number)) for number in range(services)]
            for keeper in keepers:
                await keeper.start()
            await asyncio.sleep(SETTLES)
            found.begin()
            await asyncio.sleep(seconds)
            compared, grown = found.end(), memory() - before
            compare_no_more(keepers)
            found.begin()
            await asyncio.sleep(seconds)
            tell(compared=compared, beats=found.end(), memory=grown / services)

    asyncio.run(main())


def py_consul(host: str, port: int, services: int, ttl: float, seconds: float) -> None:
    """The loop that users write: one thread that reports every service in turn, and a handler for SIGTERM."""
    import consul

    client = consul.Consul(host=host, port=port)
    client.catalog.services()
    before = memory()
    for number in range(services):
        client.agent.service.register(
            "kept", service_id=f"kept-{number}", port=8080, check=consul.Check.ttl(f"{ttl:g}s")
        )
    found = Measured()

    def leave(*_: object) -> None:
        for number in range(services):
            client.agent.service.deregister(f"kept-{number}")
        sys.exit()

    def beat() -> None:
        due = time.monotonic()
        while True:
            for number in range(services):
                client.agent.check.ttl_pass(f"service:kept-{number}")
                found.beats += 1
            due += ttl / 3
            time.sleep(max(0.0, due - time.monotonic()))

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=beat, daemon=True).start()
    if not seconds:
        print("ready", flush=True)
        while True:
            time.sleep(60)
    time.sleep(SETTLES)
    found.begin()
    time.sleep(seconds)
    used = found.end()
    tell(compared=used, beats=used, memory=(memory() - before) / services)


CLIENTS = {"ours": ours, "ours-async": ours_async, "py-consul": py_consul}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6]))
