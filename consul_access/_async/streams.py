"""Connecting, sending and receiving on sockets that never block, each until a deadline."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from consul_access._pairs.sockets import SocketAddress, begin_connect, finish_connect
from consul_access._pairs.tasks import wait_readable, wait_writable

__all__ = ["connect", "handshake", "receive", "send_all"]

T = TypeVar("T")

_CHUNK = 64 * 1024
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


async def receive(sock: socket.socket, deadline: float, *, wait_first: bool = False) -> bytes:
    """The next bytes, or none when the other side has closed.

    Args:
        sock: where from.
        deadline: until when to wait.
        wait_first: nothing can have arrived yet, so that a first attempt would be in vain.
    """
    if wait_first:
        await wait_readable(sock, deadline)
    try:
        return sock.recv(_CHUNK)
    except _WOULD_BLOCK:
        return await _when_ready(sock, lambda: sock.recv(_CHUNK), deadline)


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
