"""A server that does what it is told: answers, hangs up, drips, floods, or says nothing at all.

Each step deals with one request; after the last one it repeats that. A step is a function of the connection, and
says by its result whether the connection may be used again.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TypeAlias

from tests.support.listening import Listening

MEBIBYTE = 1024 * 1024
GZIP_HEADER = b"\x1f\x8b\x08" + bytes(7)  # nothing optional


@dataclass(frozen=True)
class Recorded:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    pieces: int
    """In how many pieces it arrived."""


@dataclass
class Connection:
    """What a step has in its hands."""

    sock: socket.socket
    ended: threading.Event
    """Set when the server is closed; whoever waits, waits for this."""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)


Step: TypeAlias = Callable[[Connection], bool]


def answer(
    status: int = 200, body: bytes = b"[]", headers: Mapping[str, str] | None = None, *, chunked: bool = False
) -> Step:
    """A complete answer."""
    head = _head(status, {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}, headers)
    packed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked and body else body

    def step(connection: Connection) -> bool:
        connection.send(head + packed)
        return True

    return step


def hang_up_after(step: Step) -> Step:
    """The step, and then the end of the connection that was promised to stay."""

    def then_close(connection: Connection) -> bool:
        step(connection)
        return False

    return then_close


def reset() -> Step:
    """No answer: the connection is reset."""

    def step(connection: Connection) -> bool:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return step


def truncate(body: bytes) -> Step:
    """All of an answer but its last byte."""

    def step(connection: Connection) -> bool:
        connection.send(_head(200, {"Content-Length": str(len(body))}) + body[:-1])
        return False

    return step


def never() -> Step:
    """Silence, for as long as the server lives."""

    def step(connection: Connection) -> bool:
        connection.ended.wait()
        return False

    return step


def later(seconds: float, step: Step, moments: list[float]) -> Step:
    """The step, some time later; notes when that was."""

    def delayed(connection: Connection) -> bool:
        if connection.ended.wait(seconds):
            return False
        moments.append(time.monotonic())
        return step(connection)

    return delayed


def drip_body(body: bytes, interval: float) -> Step:
    """A byte now and then."""

    def step(connection: Connection) -> bool:
        connection.send(_head(200, {"Content-Length": str(len(body))}))
        for position in range(len(body)):
            if connection.ended.wait(interval):
                return False
            connection.send(body[position : position + 1])
        return True

    return step


def drip_headers(interval: float) -> Step:
    """A header now and then, without end."""

    def step(connection: Connection) -> bool:
        connection.send(b"HTTP/1.1 200 OK\r\n")
        while not connection.ended.wait(interval):
            connection.send(b"X-Drip: drop\r\n")
        return False

    return step


def garbage(data: bytes) -> Step:
    """Bytes that are not HTTP."""

    def step(connection: Connection) -> bool:
        connection.send(data)
        return False

    return step


def endless(size: int, *, chunked: bool = False) -> Step:
    """A very long body."""

    def step(connection: Connection) -> bool:
        piece = b"x" * MEBIBYTE
        kind = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
        connection.send(_head(200, kind))
        for _ in range(size // MEBIBYTE):
            if connection.ended.is_set():
                return False
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        return False

    return step


def gzip_bomb(size: int) -> Step:
    """A small body that unpacks to a very long one; it is the same packed mebibyte again and again."""
    zeros, times = bytes(MEBIBYTE), size // MEBIBYTE
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    checksum = reduce(lambda sum_so_far, _: zlib.crc32(zeros, sum_so_far), range(times), 0)
    trailer = packer.flush() + struct.pack("<II", checksum, times * MEBIBYTE % 2**32)
    return answer(body=GZIP_HEADER + block * times + trailer, headers={"Content-Encoding": "gzip"})


def packed(body: bytes) -> Step:
    """An answer packed with gzip."""
    return answer(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})


def _head(status: int, kind: Mapping[str, str], headers: Mapping[str, str] | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Something",
        *(f"{name}: {value}" for name, value in {**kind, **(headers or {})}.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class ScriptedServer(Listening):
    """The server; it lives as long as its block.

    Args:
        steps: what to do with one request after the other.
        tls: speaks https.
        unix: listens at this path instead of a port.
        host: listens at this address, IPv4 or IPv6.
    """

    steps: Iterable[Step]
    tls: ssl.SSLContext | None = None
    unix: Path | None = None
    host: str = "127.0.0.1"
    requests: list[Recorded] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._steps = list(self.steps)
        self._position = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        if self.unix is not None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.fspath(self.unix))
        else:
            listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
            listener.bind((self.host, 0))
        self.port = 0 if self.unix is not None else int(listener.getsockname()[1])
        self._listen(listener)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix://{self.unix}" if self.unix is not None else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return self.address if self.unix is not None else f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return self.accepted

    def _hang_up(self) -> None:
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _serve(self, sock: socket.socket, number: int) -> None:
        # A client may go away at any moment; that is its right, and no failure of the server's.
        with contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            self._watch(sock)
            if self.tls is not None:
                sock = stack.enter_context(self._secured(sock))
                self._watch(sock)
            while self._next_step(self._read(sock, number))(Connection(sock, self.ended)):
                pass
        self._open.discard(sock)

    def _watch(self, sock: socket.socket) -> None:
        """Has it shut down with the server, even if that is being closed at this very moment."""
        self._open.add(sock)
        if self.ended.is_set():
            raise EOFError

    def _secured(self, sock: socket.socket) -> ssl.SSLSocket:
        assert self.tls is not None
        plain = sock.dup()
        try:
            self._watch(plain)  # during the handshake `sock` is neither the old nor the new one
            return self.tls.wrap_socket(sock, server_side=True)
        except ssl.SSLError:
            # Closing with something unread would reset the connection, and the alert be lost on its way.
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):
                pass
            raise
        finally:
            plain.close()
            self._open.discard(plain)

    def _next_step(self, request: Recorded) -> Step:
        with self._lock:
            self.requests.append(request)
            step = self._steps[min(self._position, len(self._steps) - 1)]
            self._position += 1
        return step

    def _read(self, sock: socket.socket, number: int) -> Recorded:
        data, pieces = b"", 0
        while b"\r\n\r\n" not in data:
            data, pieces = data + _received(sock), pieces + 1
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            body, pieces = body + _received(sock), pieces + 1
        method, target, _ = first.split(" ", 2)
        return Recorded(method, target, headers, body, number, pieces)


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise EOFError
    return data
