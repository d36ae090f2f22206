"""One client, measured in a process of its own. Reads what to do from standard input, a JSON object a line.

{"do": "latency", "service": "bench-10", "calls": 200}      -> {"p50": s, "p99": s, "cpu": s per call}
{"do": "callers", "service": "bench-10", "calls": 50, "callers": 16} -> {"rate": calls per second}
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any


class Threads:
    """Measures a function that blocks."""

    def __init__(self, read: Callable[[str], int]) -> None:
        self.read = read

    def latency(self, service: str, calls: int) -> dict[str, float]:
        self.read(service)
        times, cpu = [], time.process_time()
        for _ in range(calls):
            begun = time.perf_counter()
            self.read(service)
            times.append(time.perf_counter() - begun)
        return summary(times, time.process_time() - cpu)

    def callers(self, service: str, calls: int, callers: int) -> dict[str, float]:
        ready = threading.Barrier(callers + 1)

        def work() -> None:
            self.read(service)
            ready.wait()
            for _ in range(calls):
                self.read(service)

        threads = [threading.Thread(target=work) for _ in range(callers)]
        for thread in threads:
            thread.start()
        ready.wait()
        begun = time.perf_counter()
        for thread in threads:
            thread.join()
        return {"rate": calls * callers / (time.perf_counter() - begun)}


class Tasks:
    """Measures a function that is awaited."""

    def __init__(self, read: Callable[[str], Awaitable[int]]) -> None:
        self.read = read
        self.loop = asyncio.new_event_loop()

    def latency(self, service: str, calls: int) -> dict[str, float]:
        async def work() -> dict[str, float]:
            await self.read(service)
            times, cpu = [], time.process_time()
            for _ in range(calls):
                begun = time.perf_counter()
                await self.read(service)
                times.append(time.perf_counter() - begun)
            return summary(times, time.process_time() - cpu)

        return self.loop.run_until_complete(work())

    def callers(self, service: str, calls: int, callers: int) -> dict[str, float]:
        async def work() -> None:
            for _ in range(calls):
                await self.read(service)

        async def together() -> dict[str, float]:
            await asyncio.gather(*(self.read(service) for _ in range(callers)))
            begun = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(callers)))
            return {"rate": calls * callers / (time.perf_counter() - begun)}

        return self.loop.run_until_complete(together())


def summary(times: list[float], cpu: float) -> dict[str, float]:
    return {
        "p50": statistics.median(times),
        "p99": statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0],
        "cpu": cpu / len(times),
    }


def raw(host: str, port: int) -> Threads:
    """The floor: one keep-alive socket a thread, a prepared request, bytes out, nothing decoded."""
    local = threading.local()

    def read(service: str) -> int:
        sock = getattr(local, "sock", None)
        if sock is None:
            sock = local.sock = socket.create_connection((host, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(f"GET /v1/health/service/{service}?passing=1 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        data = sock.recv(65536)
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        folded = head.lower()
        if b"content-length:" in folded:
            length = int(folded.split(b"content-length:")[1].split(b"\r\n")[0])
            pieces, size = [body], len(body)
            while size < length:
                pieces.append(sock.recv(262144))
                size += len(pieces[-1])
            return size
        pieces = [body]
        while not b"".join(pieces[-2:]).endswith(b"\r\n0\r\n\r\n"):
            pieces.append(sock.recv(262144))
        return len(b"".join(pieces))

    return Threads(read)


def raw_working(host: str, port: int) -> Threads:
    """The same, with 35 µs of work of its own: a server that hears nothing for so long goes to sleep meanwhile."""
    asking = raw(host, port)

    def read(service: str) -> int:
        until = time.perf_counter() + 35e-6
        while time.perf_counter() < until:
            pass
        return asking.read(service)

    return Threads(read)


def ours(host: str, port: int) -> Threads:
    from consul_access import ConsulAccess

    access = ConsulAccess(host, port)
    return Threads(lambda service: len(access.instances(service)))


def ours_async(host: str, port: int) -> Tasks:
    from consul_access import AsyncConsulAccess

    access = AsyncConsulAccess(host, port)

    async def read(service: str) -> int:
        return len(await access.instances(service))

    return Tasks(read)


def py_consul(host: str, port: int) -> Threads:
    import consul

    client = consul.Consul(host=host, port=port)
    return Threads(lambda service: len(client.health.service(service, passing=True)[1]))


def httpx_async(host: str, port: int) -> Tasks:
    import httpx

    client = httpx.AsyncClient(base_url=f"http://{host}:{port}")

    async def read(service: str) -> int:
        answer = await client.get(f"/v1/health/service/{service}", params={"passing": "1"})
        return len(answer.json())

    return Tasks(read)


PEERS: dict[str, Callable[[str, int], Any]] = {
    "raw": raw,
    "raw, working 35 µs": raw_working,
    "ours": ours,
    "ours-async": ours_async,
    "py-consul": py_consul,
    "python-consul2": py_consul,  # the same module name, from a folder of its own
    "httpx-async": httpx_async,
}


def main() -> None:
    name, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    peer = PEERS[name](host, port)
    for line in sys.stdin:
        order = json.loads(line)
        result = getattr(peer, order.pop("do"))(**order)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
