"""One client that follows services: says on its output what it sees, when, and how much CPU it had used by then.

`python -m benchmarks.clients.following CLIENT HOST PORT SERVICES MODEST`; with 0 services it follows one, "followed".
Those that follow many first say what it took to begin, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import cast


def told(port: int) -> None:
    print(port, time.monotonic(), time.process_time(), flush=True)


def began(took: float, before: int, number: int) -> None:
    """Seconds until everything was there, and kilobytes that each has added."""
    print(json.dumps({"up": took, "kilobytes": (resident() - before) / number}), flush=True)


def resident() -> int:
    """Kilobytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def raw(host: str, port: int) -> None:
    """A blocking query on a bare socket: the floor."""
    sock = socket.create_connection((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    index = "0"
    while True:
        path = f"/v1/health/service/followed?passing=1&index={index}&wait=60s"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(headers.get(b"content-length", b"0")):
            body += sock.recv(65536)
        index = headers[b"x-consul-index"].decode()
        found = json.loads(body)
        told(found[0]["Service"]["Port"] if found else 0)


class _RawAsync(asyncio.Protocol):
    """A blocking query on a bare connection of asyncio's: the floor for tasks."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._index = "0"
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        path = f"/v1/health/service/followed?passing=1&index={self._index}&wait=60s"
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(headers.get(b"content-length", b"0")):
            return
        self._data, self._index = b"", headers[b"x-consul-index"].decode()
        found = json.loads(body)
        told(found[0]["Service"]["Port"] if found else 0)
        self._ask()


def raw_async(host: str, port: int) -> None:
    async def follow() -> None:
        await asyncio.get_running_loop().create_connection(lambda: _RawAsync(host), host, port)
        await asyncio.Event().wait()

    asyncio.run(follow())


def ours(host: str, port: int) -> None:
    """When `pick` gives the change. The engine tells its listeners in their order; the resolver is the first."""
    from consul_access import ConsulAccess
    from consul_access._live.reading import InstancesReading

    with ConsulAccess(host, port) as access, access.resolver("followed") as resolver:
        listening = access._engine.listen(
            InstancesReading("followed"), lambda *_: told(resolver.pick().port), lambda: None
        )
        threading.Event().wait()
        listening()


def ours_async(host: str, port: int) -> None:
    from consul_access import AsyncConsulAccess
    from consul_access._live.reading import InstancesReading

    async def follow() -> None:
        async with AsyncConsulAccess(host, port) as access, access.resolver("followed") as resolver:
            listening = access._engine.listen(
                InstancesReading("followed"), lambda *_: told(resolver.pick().port), lambda: None
            )
            await asyncio.Event().wait()
            listening()

    asyncio.run(follow())


def ours_reader(host: str, port: int) -> None:
    """When the reader of a watch has it."""
    from consul_access import ConsulAccess

    with ConsulAccess(host, port) as access:
        for snapshot in access.watch("followed"):
            told(snapshot.instances[0].port if snapshot else 0)


def ours_async_reader(host: str, port: int) -> None:
    from consul_access import AsyncConsulAccess

    async def follow() -> None:
        async with AsyncConsulAccess(host, port) as access:
            async for snapshot in access.watch("followed"):
                told(snapshot.instances[0].port if snapshot else 0)

    asyncio.run(follow())


def py_consul(host: str, port: int) -> None:
    import consul

    client = consul.Consul(host=host, port=port)
    index = None
    while True:
        index, found = client.health.service("followed", passing=True, index=index, wait="60s")
        told(found[0]["Service"]["Port"] if found else 0)


def many_ours(host: str, port: int, number: int, *, modest: bool) -> None:
    from consul_access import AsyncConsulAccess, ConsulSettings

    async def follow() -> None:
        settings = ConsulSettings.load(host, port, **({} if modest else {"watch_connections": number + 10}))
        async with AsyncConsulAccess(settings=settings) as access:
            await access.instances("s0")  # everything is imported and made
            before, begun = resident(), time.monotonic()
            watch = aiter(access.watch([f"s{which}" for which in range(number)]))
            for _ in range(number):
                await anext(watch)
            up = time.monotonic() - begun
            while not modest and access._engine._hub._blocked < number:  # type: ignore[union-attr]  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            began(up, before, number)
            async for snapshot in watch:
                told(snapshot.instances[0].port)

    asyncio.run(follow())


async def together(
    follow_one: Callable[[int, asyncio.Semaphore], Coroutine[object, object, None]], number: int
) -> None:
    """A task for each service, which releases the semaphore when it has its first answer."""
    before, begun = resident(), time.monotonic()
    up = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(follow_one(which, up)) for which in range(number)]
    for _ in tasks:
        await up.acquire()
    took = time.monotonic() - begun
    await asyncio.sleep(0.5)
    began(took, before, number)
    await asyncio.gather(*tasks)


def many_raw(host: str, port: int, number: int, *, modest: bool) -> None:
    async def ask(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, which: int, index: str
    ) -> tuple[str, bytes]:
        path = f"/v1/health/service/s{which}?passing=1&index={index}&wait=60s"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
        return headers[b"x-consul-index"].decode(), await reader.readexactly(int(headers[b"content-length"]))

    async def follow_one(which: int, up: asyncio.Semaphore) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        index, _ = await ask(reader, writer, which, "0")
        up.release()
        while True:
            index, body = await ask(reader, writer, which, index)
            told(json.loads(body)[0]["Service"]["Port"])

    async def follow() -> None:
        await together(follow_one, number)

    asyncio.run(follow())


def many_httpx(host: str, port: int, number: int, *, modest: bool) -> None:
    import httpx

    async def follow_one(client: httpx.AsyncClient, which: int, up: asyncio.Semaphore) -> None:
        answer = await client.get(f"/v1/health/service/s{which}?passing=1")
        up.release()
        while True:
            query = f"passing=1&index={answer.headers['x-consul-index']}&wait=60s"
            answer = await client.get(f"/v1/health/service/s{which}?{query}")
            told(answer.json()[0]["Service"]["Port"])

    async def follow() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", limits=limits, timeout=90) as client:
            await client.get("/v1/status/leader")
            await together(partial(follow_one, client), number)

    asyncio.run(follow())


ONE = {
    "raw": raw,
    "raw-async": raw_async,
    "ours": ours,
    "ours-async": ours_async,
    "ours, a watch's reader": ours_reader,
    "ours-async, a watch's reader": ours_async_reader,
    "py-consul": py_consul,
}
MANY = {"raw": many_raw, "ours-async": many_ours, "httpx-async": many_httpx}

if __name__ == "__main__":
    client, host, port, number, modest = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    if number:
        MANY[client](host, port, number, modest=bool(modest))
    else:
        ONE[client](host, port)
