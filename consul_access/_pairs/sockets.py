"""What both faces do with plain sockets, none of which waits.

Sockets never block: a connection belongs to no thread and no event loop. So an async client survives a second
`asyncio.run`, and works under asyncio and trio alike.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

if TYPE_CHECKING:
    import ssl

__all__ = [
    "CHUNK",
    "Probe",
    "SocketAddress",
    "begin_connect",
    "finish_connect",
    "left",
    "look_up",
    "numeric",
    "route_source",
    "tls_error",
    "unix",
    "waits",
    "watch_over",
]

SocketAddress: TypeAlias = "tuple[int, tuple[str, int] | tuple[str, int, int, int] | str]"
"""An address family, and an address as sockets of that family take it."""

CHUNK = 64 * 1024
"""Bytes that are taken from a socket at once."""
_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)}


def left(deadline: float) -> float:
    """Seconds until the deadline.

    Raises:
        TimeoutError: there are none.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def begin_connect(sock: socket.socket, where: SocketAddress) -> bool:
    """Starts to connect; whether that is still under way."""
    sock.setblocking(False)
    status = sock.connect_ex(where[1])
    if status and status not in _IN_PROGRESS:
        raise OSError(status, os.strerror(status))
    return bool(status)


def finish_connect(sock: socket.socket) -> None:
    """Sees how connecting went.

    Raises:
        OSError: it went wrong.
    """
    status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if status:
        raise OSError(status, os.strerror(status))
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def watch_over(sock: socket.socket) -> None:
    """Has the system look after a connection that may be silent for long, so that a dead way is noticed in 30 s."""
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Probe:
    """Asks a socket whether something has arrived: on an idle connection, its end."""

    __slots__ = ("_poll", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll = None if _poll is None else _poll()
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)

    def is_readable(self, seconds: float = 0.0) -> bool:
        """Whether it has, or does within so many seconds."""
        if self._poll is None:
            return ready(self._sock, seconds, writing=False)
        return bool(self._poll.poll(seconds * 1000))

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()

    def abandon(self) -> None:
        """Closes what a forked child has of its parent's socket."""
        self._sock.close()


def ready(sock: socket.socket, seconds: float, *, writing: bool) -> bool:
    """Waits so long at most until the socket can be read, or written; whether it can."""
    if _poll is None:
        return any(select.select(*(([], [sock], []) if writing else ([sock], [], [])), seconds))
    waiting = _poll()
    waiting.register(sock, select.POLLOUT if writing else select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


_poll = getattr(select, "poll", None)  # Windows has none; elsewhere select stops at file number 1023


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The error, if TLS raised it.

    Whoever asks loads nothing: a program that speaks plain HTTP starts sooner without TLS.
    """
    loaded = sys.modules.get("ssl")
    return cast("ssl.SSLError", error) if loaded is not None and isinstance(error, loaded.SSLError) else None


def waits(error: OSError, *, writing: bool) -> Literal["readable", "writable"] | None:
    """What a socket has to become before it can do what it could not do at once; None for any other error.

    Args:
        error: what it raised.
        writing: whether it was to send. TLS may have to read in order to write, and the reverse.
    """
    if isinstance(error, BlockingIOError):
        return "writable" if writing else "readable"
    name = type(tls_error(error)).__name__
    return "readable" if name == "SSLWantReadError" else "writable" if name == "SSLWantWriteError" else None


def look_up(host: str | bytes, port: int, flags: int = 0) -> list[SocketAddress]:
    """The addresses of a host, from the system's resolver, which knows no time limit."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, cast("tuple[str, int]", where)) for family, _, _, _, where in found]


def numeric(host: str, port: int) -> list[SocketAddress]:
    """The address that the host is, if it is one already; nothing is looked up."""
    try:
        # Text would be encoded as IDNA, whose tables take milliseconds to load, and addresses have no use for them.
        return look_up(host.encode(), port, socket.AI_NUMERICHOST)
    except OSError:
        return []


def unix(path: str) -> list[SocketAddress]:
    """A Unix socket, as an address."""
    return [(socket.AF_UNIX, path)]


def route_source(ip: str, port: int) -> str | None:
    """The local address that packets to this one leave from; None if there is no route. Nothing is sent."""
    for family, where in numeric(ip, port):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(where)
            return cast("str", probe.getsockname()[0])
    return None
