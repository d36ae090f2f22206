"""One client of etcd that takes orders on standard input: `python -m benchmarks.clients.etcd NAME HOST PORT SIZES...`.

Besides those of benchmarks/clients/measuring.py there is
{"do": "watched", "events": 100}   -> {"ready": 1} when it has begun, then {"p50": s, "cpu": s per event}
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal

from benchmarks.clients import measuring

KEY, VALUE, WATCHED = "bench/key", "v" * 100, "bench/watched"
TTL = 600
"""Seconds; longer than a run, since leases are renewed only when that is measured."""


def began() -> float:
    """Says that the watch is there; the CPU used so far."""
    print(json.dumps({"ready": 1}), flush=True)
    return time.process_time()


def summary(times: list[float], cpu: float) -> dict[str, float]:
    return {"p50": statistics.median(times), "cpu": (time.process_time() - cpu) / len(times)}


class Threads(measuring.Threads):
    """Measures functions that block.

    Args:
        operations: by name.
        watch: gives the values of a key as they are written; its first one must be waited for.
    """

    def __init__(self, operations: dict[str, Callable[[], object]], watch: Callable[[], Iterator[bytes]]) -> None:
        super().__init__({name: lambda _, call=call: call() for name, call in operations.items()})  # type: ignore[misc]
        self.watch = watch

    def watched(self, events: int) -> dict[str, float]:
        values = self.watch()
        next(values)  # the writer goes on until one has come
        times, cpu = [], began()
        for value in values:
            written = float(value)
            if written > 0:
                times.append(time.monotonic() - written)
            if len(times) == events:
                break
        return summary(times, cpu)


class Tasks(measuring.Tasks):
    """Measures functions that are awaited; as `Threads`."""

    def __init__(
        self, operations: dict[str, Callable[[], Awaitable[object]]], watch: Callable[[], AsyncIterator[bytes]]
    ) -> None:
        loop = asyncio.get_event_loop_policy().get_event_loop()
        super().__init__({name: lambda _, call=call: call() for name, call in operations.items()}, loop)  # type: ignore[misc]
        self.watch = watch

    def watched(self, events: int) -> dict[str, float]:
        return self.loop.run_until_complete(self._watched(events))

    async def _watched(self, events: int) -> dict[str, float]:
        values = self.watch()
        await anext(values)
        times, cpu = [], began()
        async for value in values:
            written = float(value)
            if written > 0:
                times.append(time.monotonic() - written)
            if len(times) == events:
                break
        return summary(times, cpu)


def prefix(size: int) -> str:
    return f"bench/{size}/"


def blocking(sizes: list[int], etcd: Any) -> Threads:
    """What `EtcdRegistry` does, over whatever carries it."""
    lease = etcd.lease(TTL)

    def cycle() -> None:
        held = etcd.lease(TTL)
        etcd.put("bench/cycle", VALUE, held)
        held.revoke()

    operations: dict[str, Callable[[], object]] = {
        "get": lambda: etcd.get(KEY),
        "put": lambda: etcd.put(KEY, VALUE),
        "keepalive": lease.keepalive,
        "cycle": cycle,
    }
    operations |= {f"range:{size}": lambda size=size: etcd.get_prefix(prefix(size)) for size in sizes}
    return Threads(operations, lambda: (event.value for event in etcd.watch_key(WATCHED)))


def prepared(host: str, port: int) -> dict[str, bytes]:
    """Requests of the gateway as bytes."""

    def request(path: str, **fields: object) -> bytes:
        body = json.dumps(fields).encode()
        head = f"POST /v3/{path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    key, value, watched = (b64encode(text.encode()).decode() for text in (KEY, VALUE, WATCHED))
    return {
        "get": request("kv/range", key=key),
        "put": request("kv/put", key=key, value=value),
        "watch": request("watch", create_request={"key": watched}),
    }


def is_whole(answer: bytes) -> bool:
    """Whether the answer has come to its end."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return len(body) >= int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])


def events_in(data: bytes) -> Iterator[bytes]:
    """The values in what has come of a watch, without a look at anything around them."""
    for piece in data.split(b'"value":"')[1:]:
        yield b64decode(piece.partition(b'"')[0])


def raw(host: str, port: int, _: list[int]) -> Threads:
    """The floor: one socket, prepared requests, answers that nobody decodes."""
    sock = socket.create_connection((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests = prepared(host, port)

    def call(request: bytes) -> bytes:
        sock.send(request)
        answer = sock.recv(65536)
        while not is_whole(answer):
            answer += sock.recv(65536)
        return answer

    def watch() -> Iterator[bytes]:
        with socket.create_connection((host, port)) as stream:
            stream.send(requests["watch"])
            while data := stream.recv(65536):
                yield from events_in(data)

    return Threads({name: lambda name=name: call(requests[name]) for name in ("get", "put")}, watch)


def raw_async(host: str, port: int, _: list[int]) -> Tasks:
    """The floor of event loops: an `asyncio.Protocol` that does as little."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    requests = prepared(host, port)

    class Answers(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            self.answer += data
            if is_whole(self.answer):
                self.whole.set_result(self.answer)

    async def connected() -> tuple[asyncio.Transport, Answers]:
        return await loop.create_connection(Answers, host, port)

    transport, answers = loop.run_until_complete(connected())

    async def call(request: bytes) -> bytes:
        answers.answer, answers.whole = b"", loop.create_future()
        transport.write(request)
        return await answers.whole

    async def watch() -> AsyncIterator[bytes]:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(requests["watch"])
        while data := await reader.read(65536):
            for value in events_in(data):
                yield value

    return Tasks({name: lambda name=name: call(requests[name]) for name in ("get", "put")}, watch)


def ours(host: str, port: int, sizes: list[int]) -> Threads:
    from consul_access import EtcdRegistry

    return blocking(sizes, EtcdRegistry(host, port))


def ours_grpc(host: str, port: int, sizes: list[int]) -> Threads:
    from consul_access import EtcdRegistry

    return blocking(sizes, EtcdRegistry(host, port, protocol="grpc"))


def by_channel(host: str, port: int, sizes: list[int]) -> Threads:
    from consul_access import EtcdRegistry
    from consul_access.compat.etcd3 import Etcd3Transport

    client = etcd3_client(host, port, newer=True)
    return blocking(sizes, EtcdRegistry(host, port, transport=Etcd3Transport(client)))


def etcd3_client(host: str, port: int, *, newer: bool) -> Any:
    """With protobuf 3 beside it, which it takes by itself, or made importable beside a newer one."""
    if newer:
        from consul_access.compat.etcd3 import install

        install()
    import etcd3

    return etcd3.client(host, port, grpc_options=[("grpc.max_receive_message_length", -1)])


def ours_async(host: str, port: int, sizes: list[int], protocol: Literal["gateway", "grpc"] = "gateway") -> Tasks:
    from consul_access import AsyncEtcdRegistry

    etcd = AsyncEtcdRegistry(host, port, protocol=protocol)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    lease = loop.run_until_complete(etcd.lease(TTL))

    async def cycle() -> None:
        held = await etcd.lease(TTL)
        await etcd.put("bench/cycle", VALUE, held)
        await held.revoke()

    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: etcd.get(KEY),
        "put": lambda: etcd.put(KEY, VALUE),
        "keepalive": lease.keepalive,
        "cycle": cycle,
    }
    operations |= {f"range:{size}": lambda size=size: etcd.get_prefix(prefix(size)) for size in sizes}

    async def watch() -> AsyncIterator[bytes]:
        async for event in etcd.watch_key(WATCHED):
            yield event.value

    return Tasks(operations, watch)


def ours_async_grpc(host: str, port: int, sizes: list[int]) -> Tasks:
    return ours_async(host, port, sizes, "grpc")


def etcd3(host: str, port: int, sizes: list[int]) -> Threads:
    return with_etcd3(etcd3_client(host, port, newer=False), sizes)


def etcd3_newer(host: str, port: int, sizes: list[int]) -> Threads:
    return with_etcd3(etcd3_client(host, port, newer=True), sizes)


def with_etcd3(client: Any, sizes: list[int]) -> Threads:
    lease = client.lease(TTL)

    def cycle() -> None:
        held = client.lease(TTL)
        client.put("bench/cycle", VALUE, held)
        held.revoke()

    operations: dict[str, Callable[[], object]] = {
        "get": lambda: client.get(KEY),
        "put": lambda: client.put(KEY, VALUE),
        "keepalive": lambda: list(lease.refresh()),
        "cycle": cycle,
    }
    operations |= {f"range:{size}": lambda size=size: list(client.get_prefix(prefix(size))) for size in sizes}
    return Threads(operations, lambda: (event.value for event in client.watch(WATCHED)[0]))


def etcd3gw(host: str, port: int, sizes: list[int]) -> Threads:
    from etcd3gw.client import Etcd3Client

    client = Etcd3Client(host=host, port=port, api_path="/v3/")
    lease = client.lease(TTL)

    def cycle() -> None:
        held = client.lease(TTL)
        client.put("bench/cycle", VALUE, held)
        held.revoke()

    operations: dict[str, Callable[[], object]] = {
        "get": lambda: client.get(KEY),
        "put": lambda: client.put(KEY, VALUE),
        "keepalive": lease.refresh,
        "cycle": cycle,
    }
    operations |= {f"range:{size}": lambda size=size: client.get_prefix(prefix(size)) for size in sizes}
    return Threads(operations, lambda: (event["kv"]["value"] for event in client.watch(WATCHED)[0]))


def aetcd(host: str, port: int, sizes: list[int]) -> Tasks:
    import aetcd

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def connected() -> Any:
        client = aetcd.Client(host, port, options={"grpc.max_receive_message_length": -1})
        await client.connect()
        return client

    client = loop.run_until_complete(connected())
    lease = loop.run_until_complete(client.lease(TTL))
    key, value = KEY.encode(), VALUE.encode()

    async def cycle() -> None:
        held = await client.lease(TTL)
        await client.put(b"bench/cycle", value, held)
        await held.revoke()

    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: client.get(key),
        "put": lambda: client.put(key, value),
        "keepalive": lease.refresh,
        "cycle": cycle,
    }
    operations |= {f"range:{size}": lambda size=size: client.get_prefix(prefix(size).encode()) for size in sizes}

    async def watch() -> AsyncIterator[bytes]:
        async for event in await client.watch(WATCHED.encode()):
            yield event.kv.value

    return Tasks(operations, watch)


def etcd_client_py(host: str, port: int, sizes: list[int]) -> Tasks:
    from etcd_client import Client

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def connected() -> Any:
        return await Client([f"http://{host}:{port}"]).connect().__aenter__()

    client = loop.run_until_complete(connected())
    key, value = KEY.encode(), VALUE.encode()
    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: client.get(key),
        "put": lambda: client.put(key, value),
    }
    operations |= {f"range:{size}": lambda size=size: client.get_prefix(prefix(size).encode()) for size in sizes}

    async def watch() -> AsyncIterator[bytes]:
        async for event in client.watch(WATCHED.encode()):
            yield bytes(event.value)

    return Tasks(operations, watch)


CLIENTS: dict[str, Callable[[str, int, list[int]], Threads | Tasks]] = {
    "raw": raw,
    "raw-async": raw_async,
    "ours": ours,
    "ours-async": ours_async,
    "ours, gRPC": ours_grpc,
    "ours-async, gRPC": ours_async_grpc,
    "ours, by etcd3's channel": by_channel,
    "etcd3": etcd3,
    "etcd3, protobuf 7": etcd3_newer,
    "aetcd": aetcd,
    "etcd-client-py": etcd_client_py,
    "etcd3gw": etcd3gw,
}


if __name__ == "__main__":
    name, host, port, *sizes = sys.argv[1:]
    measuring.serve(CLIENTS[name](host, int(port), [int(size) for size in sizes]))
