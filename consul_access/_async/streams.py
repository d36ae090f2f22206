"""Connecting, sending and receiving on sockets that never block, each until a deadline."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

from consul_access._pairs.sockets import CHUNK, SocketAddress, begin_connect, finish_connect
from consul_access._pairs.tasks import fed, wait_readable, wait_writable

__all__ = ["connect", "handshake", "receive", "receive_all", "send_all"]

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


async def send_all(sock: socket.socket, data: bytes, deadline: float) -> None:
    """Sends all of it."""
    try:
        sent = sock.send(data)  # a request fits into the socket's buffer: there is nothing to wait for
    except _WOULD_BLOCK:
        sent = 0
    while sent < len(data):
        rest = memoryview(data)[sent:]
        sent += await _when_ready(sock, lambda: sock.send(rest), deadline, writing=True)  # noqa: B023


async def receive_all(sock: socket.socket, take: Callable[[bytes], bool], silence: float, deadline: float) -> None:
    """Gives away what arrives, until whoever takes it has enough.

    Args:
        sock: where from.
        take: takes the next bytes (none when the other side has closed); true when nothing more is wanted.
        silence: seconds that may pass without any.
        deadline: until when to wait at most.
    """
    if not isinstance(sock, ssl.SSLSocket):
        await fed(sock, take, silence, deadline)
        return
    while not take(await receive(sock, min(time.monotonic() + silence, deadline))):
        pass


async def receive(sock: socket.socket, deadline: float) -> bytes:
    """The next bytes, or none when the other side has closed."""
    try:
        return sock.recv(CHUNK)
    except _WOULD_BLOCK:
        return await _when_ready(sock, lambda: sock.recv(CHUNK), deadline)


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
