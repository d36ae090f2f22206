"""Connecting, sending and receiving on sockets that never block, each until a deadline."""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

from consul_access._pairs.sockets import CHUNK, Probe, SocketAddress, begin_connect, finish_connect
from consul_access._pairs.tasks import Inlet, wait_readable, wait_writable

__all__ = ["SecuredInlet", "connect", "handshake", "inlet", "send_now", "send_rest"]

T = TypeVar("T")

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


async def connect(where: SocketAddress, deadline: float) -> socket.socket:
    """A socket that is connected."""
    sock = socket.socket(where[0], socket.SOCK_STREAM)
    try:
        if begin_connect(sock, where):
            await wait_writable(sock, deadline)
        finish_connect(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def handshake(
    sock: socket.socket, context: ssl.SSLContext, server_name: str | None, deadline: float
) -> ssl.SSLSocket:
    """The socket, secured. It is closed when that fails."""
    try:
        secured = context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        await _when_ready(secured, secured.do_handshake, deadline)
    except BaseException:
        secured.close()
        raise
    return secured


def send_now(sock: socket.socket, data: bytes) -> int:
    """Sends what there is room for at once, which most requests fit into; how many bytes that were."""
    try:
        return sock.send(data)
    except _WOULD_BLOCK:
        return 0


async def send_rest(sock: socket.socket, data: bytes, sent: int, deadline: float) -> None:
    """Sends what `send_now` has left."""
    while sent < len(data):
        rest = memoryview(data)[sent:]
        sent += await _when_ready(sock, lambda: sock.send(rest), deadline, writing=True)  # noqa: B023


class SecuredInlet(Probe):
    """Where the bytes of a socket with TLS come in; see `Inlet`.

    TLS may hold bytes back that no poll of the socket tells of, so it is asked first.
    """

    __slots__ = ()

    async def feed(self, take: Callable[[bytes], bool], silence: float, deadline: float) -> None:
        """Gives away what arrives, until whoever takes it has enough; see `Inlet.feed`."""
        while not take(await self._next(min(time.monotonic() + silence, deadline))):
            pass

    async def feed_on(self, take: Callable[[bytes], bool], deadline: float) -> None:
        """The same for a stream, which may be silent."""
        await self.feed(take, math.inf, deadline)

    async def _next(self, deadline: float) -> bytes:
        try:
            return self._sock.recv(CHUNK)
        except _WOULD_BLOCK:
            return await _when_ready(self._sock, lambda: self._sock.recv(CHUNK), deadline)


def inlet(sock: socket.socket) -> Inlet | SecuredInlet:
    """Where the bytes of this socket come in."""
    return SecuredInlet(sock) if isinstance(sock, ssl.SSLSocket) else Inlet(sock)


async def _when_ready(sock: socket.socket, attempt: Callable[[], T], deadline: float, *, writing: bool = False) -> T:
    """Tries until the socket would no longer block. TLS may have to read in order to write, and the reverse."""
    while True:
        try:
            return attempt()
        except ssl.SSLWantReadError:
            await wait_readable(sock, deadline)
        except ssl.SSLWantWriteError:
            await wait_writable(sock, deadline)
        except BlockingIOError:
            await (wait_writable(sock, deadline) if writing else wait_readable(sock, deadline))
