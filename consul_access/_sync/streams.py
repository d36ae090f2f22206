# Written by tools/faces.py from consul_access/_async/streams.py; edit that one.
"""Connecting, sending and receiving on sockets that never block, each until a deadline."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from consul_access._pairs.sockets import CHUNK, Probe, SocketAddress, begin_connect, finish_connect, waits
from consul_access._pairs.threads import Inlet, wait_readable, wait_writable

if TYPE_CHECKING:
    import ssl

__all__ = ["SecuredInlet", "connect", "handshake", "inlet", "send_rest"]

T = TypeVar("T")


def connect(where: SocketAddress, deadline: float) -> socket.socket:
    """A socket that is connected."""
    sock = socket.socket(where[0], socket.SOCK_STREAM)
    try:
        if begin_connect(sock, where):
            wait_writable(sock, deadline)
        finish_connect(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def handshake(sock: socket.socket, context: ssl.SSLContext, server_name: str | None, deadline: float) -> ssl.SSLSocket:
    """The socket, secured. It is closed when that fails."""
    try:
        secured = context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        _when_ready(secured, secured.do_handshake, deadline)
    except BaseException:
        secured.close()
        raise
    return secured


def send_rest(sock: socket.socket, data: bytes, deadline: float) -> None:
    """Sends what there was no room for at once."""
    sent = 0
    while sent < len(data):
        rest = memoryview(data)[sent:]
        sent += _when_ready(sock, lambda: sock.send(rest), deadline, writing=True)  # noqa: B023


class SecuredInlet(Probe):
    """Where the bytes of a socket with TLS come in; see `Inlet`.

    TLS may hold bytes back that no poll of the socket tells of, so it is asked first.
    """

    __slots__ = ()

    def feed(self, take: Callable[[bytes], bool], silence: float, deadline: float) -> None:
        """Gives away what arrives, until whoever takes it has enough; see `Inlet.feed`."""
        while not take(self._next(min(time.monotonic() + silence, deadline))):
            pass

    def feed_on(self, take: Callable[[bytes], bool], deadline: float) -> None:
        """The same for a stream, which may be silent."""
        self.feed(take, math.inf, deadline)

    def _next(self, deadline: float) -> bytes:
        return _when_ready(self._sock, lambda: self._sock.recv(CHUNK), deadline)


def inlet(sock: socket.socket) -> Inlet | SecuredInlet:
    """Where the bytes of this socket come in."""
    return Inlet(sock) if type(sock) is socket.socket else SecuredInlet(sock)


def _when_ready(sock: socket.socket, attempt: Callable[[], T], deadline: float, *, writing: bool = False) -> T:
    """Tries until the socket would no longer block."""
    while True:
        try:
            return attempt()
        except OSError as error:
            needed = waits(error, writing=writing)
            if needed is None:
                raise
        (wait_writable(sock, deadline) if needed == "writable" else wait_readable(sock, deadline))
