"""The floor: keep-alive connections of our own, prepared requests, bytes out, nothing decoded."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

from benchmarks.clients.measuring import Tasks, Threads


def request(host: str, path: str, body: str | None = None) -> bytes:
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    return f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def resolve(host: str, service: str) -> bytes:
    return request(host, f"/v1/health/service/{service}?passing=1")


def register(host: str, service_id: str) -> bytes:
    body = {"Name": "stormy", "ID": service_id, "Port": 8080, "Check": {"TTL": "600s"}}
    return request(host, "/v1/agent/service/register", json.dumps(body))


def deregister(host: str, service_id: str) -> bytes:
    return request(host, f"/v1/agent/service/deregister/{service_id}", "")


def services(host: str, _: str) -> bytes:
    return request(host, "/v1/catalog/services")


OPERATIONS = {"resolve": resolve, "services": services, "register": register, "deregister": deregister}


def content_length(head: bytes) -> int | None:
    """None when the body comes in chunks."""
    folded = head.lower()
    if b"content-length:" not in folded:
        return None
    return int(folded.split(b"content-length:")[1].split(b"\r\n")[0])


def exchanged(sock: socket.socket, sent: bytes) -> int:
    sock.sendall(sent)
    data = sock.recv(65536)
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = content_length(head)
    pieces = [body]
    if length is not None:
        size = len(body)
        while size < length:
            pieces.append(sock.recv(262144))
            size += len(pieces[-1])
        return size
    while not b"".join(pieces[-2:]).endswith(b"0\r\n\r\n"):
        pieces.append(sock.recv(262144))
    return len(b"".join(pieces))


def raw(host: str, port: int) -> Threads:
    """One socket a thread."""
    local = threading.local()

    def asking(operation: str, argument: str) -> int:
        sock = getattr(local, "sock", None)
        if sock is None:
            sock = local.sock = socket.create_connection((host, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return exchanged(sock, OPERATIONS[operation](host, argument))

    return Threads({name: lambda argument, name=name: asking(name, argument) for name in OPERATIONS})  # type: ignore[misc]


def raw_working(host: str, port: int) -> Threads:
    """The same, with 35 µs of work of its own: a server that hears nothing for so long goes to sleep meanwhile."""
    asking = raw(host, port).operations["resolve"]

    def read(service: str) -> object:
        until = time.perf_counter() + 35e-6
        while time.perf_counter() < until:
            pass
        return asking(service)

    return Threads({"resolve": read})


class Waiting(asyncio.Protocol):
    """A connection that waits for one answer at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._answer: asyncio.Future[int]
        self._data = b""
        self._pieces: list[bytes] = []
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, sent: bytes) -> asyncio.Future[int]:
        self._answer = asyncio.get_running_loop().create_future()
        self._data, self._pieces, self._missing = b"", [], None
        self.transport.write(sent)
        return self._answer

    def data_received(self, data: bytes) -> None:
        if not self._pieces:
            self._data += data
            head, end, body = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            length = content_length(head)
            self._missing = None if length is None else length - len(body)
            self._pieces = [body]
        else:
            self._pieces.append(data)
            self._missing = None if self._missing is None else self._missing - len(data)
        if self._missing == 0 or (self._missing is None and b"".join(self._pieces[-2:]).endswith(b"0\r\n\r\n")):
            self._answer.set_result(len(b"".join(self._pieces)))


def raw_async(host: str, port: int) -> Tasks:
    """Connections of asyncio, as many as are needed at once."""
    free: list[Waiting] = []

    async def asking(operation: str, argument: str) -> int:
        if free:
            connection = free.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(Waiting, host, port)
        found = await connection.ask(OPERATIONS[operation](host, argument))
        free.append(connection)
        return found

    return Tasks({name: lambda argument, name=name: asking(name, argument) for name in OPERATIONS})  # type: ignore[misc]


CLIENTS = {"raw": raw, "raw, working 35 µs": raw_working, "raw-async": raw_async}
