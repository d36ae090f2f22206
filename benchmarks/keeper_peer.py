"""Keeps services registered, in a process of its own: `keeper_peer.py CLIENT HOST PORT SERVICES SECONDS`.

Prints one JSON object: {"cpu": seconds of CPU a service and second, "memory": bytes a service}. With 0 seconds it says
"ready" and stays until it is told to end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

TTL = 9.0
BEAT = TTL / 3


def memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def measured(seconds: float, services: int, before: int) -> str:
    cpu = time.process_time()
    time.sleep(seconds)
    used = time.process_time() - cpu
    return json.dumps({"cpu": used / seconds / services, "memory": (memory() - before) / services})


def settings(number: int) -> dict[str, Any]:
    return {"port": 8080, "id": f"kept-{number}"}


def ours(host: str, port: int, services: int, seconds: float) -> None:
    from consul_access import ConsulAccess, TtlCheck

    access = ConsulAccess(host, port)
    access.services()
    with access.registered("warm", port=1, check=TtlCheck(TTL)):
        before = memory()
    for number in range(services):
        access.registered("kept", check=TtlCheck(TTL), **settings(number)).start()
    if not seconds:
        print("ready", flush=True)
        threading.Event().wait()
    print(measured(seconds, services, before), flush=True)
    access.close()


def ours_async(host: str, port: int, services: int, seconds: float) -> None:
    from consul_access import AsyncConsulAccess, TtlCheck

    async def main() -> None:
        async with AsyncConsulAccess(host, port) as access:
            async with access.registered("warm", port=1, check=TtlCheck(TTL)):
                before = memory()
            for number in range(services):
                await access.registered("kept", check=TtlCheck(TTL), **settings(number)).start()
            cpu = time.process_time()
            await asyncio.sleep(seconds)
            used = time.process_time() - cpu
            print(json.dumps({"cpu": used / seconds / services, "memory": (memory() - before) / services}), flush=True)

    asyncio.run(main())


def py_consul(host: str, port: int, services: int, seconds: float) -> None:
    """The loop that users write: one thread that reports every service in turn, and a handler for SIGTERM."""
    import consul

    client = consul.Consul(host=host, port=port)
    client.catalog.services()
    before = memory()
    for number in range(services):
        client.agent.service.register(
            "kept", service_id=f"kept-{number}", port=8080, check=consul.Check.ttl(f"{TTL:g}s")
        )

    def leave(*_: object) -> None:
        for number in range(services):
            client.agent.service.deregister(f"kept-{number}")
        sys.exit()

    def beat() -> None:
        while True:
            for number in range(services):
                client.agent.check.ttl_pass(f"service:kept-{number}")
            time.sleep(BEAT)

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=beat, daemon=True).start()
    if not seconds:
        print("ready", flush=True)
        while True:
            time.sleep(60)
    print(measured(seconds, services, before), flush=True)
    leave()


CLIENTS = {"ours": ours, "ours-async": ours_async, "py-consul": py_consul}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
