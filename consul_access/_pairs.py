"""What waits, in pairs: `recv` for threads, `arecv` for tasks, and so on.

The two faces share everything but this. Both work on the same plain sockets, so a connection belongs to no event
loop: an async client survives a second `asyncio.run`, and works under asyncio and trio alike. Every deadline is an
absolute `time.monotonic()` value; reaching one raises `TimeoutError`.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import anyio
import anyio.to_thread

from consul_access.errors import InvalidSettings

__all__ = [
    "AsyncSlots",
    "Slots",
    "aconnect",
    "ahandshake",
    "arecv",
    "aresolve",
    "asend_all",
    "asettled",
    "ashielded",
    "asleep",
    "atime_limit",
    "connect",
    "handshake",
    "is_readable",
    "numeric",
    "recv",
    "resolve",
    "route_source",
    "send_all",
    "settled",
    "shielded",
    "sleep",
    "time_limit",
    "unix",
]

T = TypeVar("T")
SocketAddress = tuple[int, tuple[str, int] | tuple[str, int, int, int] | str]
"""An address family, and an address as sockets of that family take it."""

_CHUNK = 64 * 1024
_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)}


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


# --- threads ----------------------------------------------------------------------------------------------


def recv(sock: socket.socket, deadline: float) -> bytes:
    """The next bytes, or none when the other side has closed."""
    sock.settimeout(_left(deadline))
    return sock.recv(_CHUNK)


def send_all(sock: socket.socket, data: bytes, deadline: float) -> None:
    sock.settimeout(_left(deadline))
    sock.sendall(data)  # the time limit covers the whole of it, not each piece


def connect(address: SocketAddress, deadline: float) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(_left(deadline))
        sock.connect(where)
        return _tuned(sock)
    except BaseException:
        sock.close()
        raise


def handshake(sock: socket.socket, context: ssl.SSLContext, server_name: str | None, deadline: float) -> ssl.SSLSocket:
    secured = context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    try:
        secured.settimeout(_left(deadline))
        secured.do_handshake()
        return secured
    except BaseException:
        secured.close()
        raise


def resolve(host: str, port: int, deadline: float) -> list[SocketAddress]:
    """The addresses of a host name. The system's resolver knows no time limit, so it gets a thread that can be left."""
    found: list[list[SocketAddress]] = []
    failed: list[OSError] = []

    def look_up() -> None:
        try:
            found.append(_look_up(host, port))
        except OSError as error:
            failed.append(error)

    worker = threading.Thread(target=look_up, name=f"consul-access resolve {host}", daemon=True)
    try:
        worker.start()
    except RuntimeError:  # the interpreter is shutting down (Python 3.12) and starts no threads any more
        return _look_up(host, port)
    worker.join(_left(deadline))
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError
    return found[0]


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def time_limit(_deadline: float) -> AbstractContextManager[object]:
    """Nothing: a thread in foreign code cannot be interrupted. It has been told its limits instead."""
    return contextlib.nullcontext()


def shielded() -> AbstractContextManager[object]:
    """Nothing: threads cannot be cancelled."""
    return contextlib.nullcontext()


def settled(value: T | Awaitable[T]) -> T:
    """The value itself.

    Raises:
        InvalidSettings: it is a coroutine or another awaitable.
    """
    if not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        value.close()
    raise InvalidSettings(
        "an async function was given to a client for threads: use AsyncConsulAccess, or a plain function"
    )


class Slots:
    """A number of places; whoever finds none free waits for one, in vain at most until the deadline."""

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)

    def acquire(self, deadline: float) -> None:
        if not self._places.acquire(blocking=False) and not self._places.acquire(timeout=_left(deadline)):
            raise TimeoutError

    def release(self) -> None:
        self._places.release()


# --- tasks ------------------------------------------------------------------------------------------------


async def arecv(sock: socket.socket, deadline: float) -> bytes:
    """The next bytes, or none when the other side has closed."""
    return await _when_ready(sock, lambda: sock.recv(_CHUNK), deadline)


async def asend_all(sock: socket.socket, data: bytes, deadline: float) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await _when_ready(sock, lambda: sock.send(rest), deadline, writing=True) :]  # noqa: B023


async def aconnect(address: SocketAddress, deadline: float) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        status = sock.connect_ex(where)
        if status in _IN_PROGRESS:
            with anyio.fail_after(_left(deadline)):
                await anyio.wait_writable(sock)
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))
        return _tuned(sock)
    except BaseException:
        sock.close()
        raise


async def ahandshake(
    sock: socket.socket, context: ssl.SSLContext, server_name: str | None, deadline: float
) -> ssl.SSLSocket:
    secured = context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    try:
        await _when_ready(secured, secured.do_handshake, deadline)
        return secured
    except BaseException:
        secured.close()
        raise


async def aresolve(host: str, port: int, deadline: float) -> list[SocketAddress]:
    """The addresses of a host name, looked up in a thread that is left behind when time runs out."""
    with anyio.fail_after(_left(deadline)):
        return await anyio.to_thread.run_sync(_look_up, host, port, abandon_on_cancel=True)


async def asleep(seconds: float) -> None:
    await anyio.sleep(seconds)


def atime_limit(deadline: float) -> AbstractContextManager[object]:
    """Ends the block at the deadline, with `TimeoutError`."""
    return anyio.fail_after(max(0.0, deadline - time.monotonic()))


def ashielded() -> AbstractContextManager[object]:
    """Lets the block end although its task is being cancelled; the block has its own limit in time."""
    return anyio.CancelScope(shield=True)


async def asettled(value: T | Awaitable[T]) -> T:
    """The value, awaited if it has to be."""
    if inspect.isawaitable(value):
        return cast("T", await value)
    return value


class AsyncSlots:
    """A number of places; whoever finds none free waits for one, in vain at most until the deadline."""

    def __init__(self, places: int) -> None:
        self._places = anyio.Semaphore(places, fast_acquire=True)

    async def acquire(self, deadline: float) -> None:
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.fail_after(_left(deadline)):
                await self._places.acquire()

    def release(self) -> None:
        self._places.release()


async def _when_ready(sock: socket.socket, attempt: Callable[[], T], deadline: float, *, writing: bool = False) -> T:
    """Tries until the socket would no longer block. TLS may have to read in order to write, and the reverse."""
    while True:
        try:
            return attempt()
        except ssl.SSLWantReadError:
            wait = anyio.wait_readable
        except ssl.SSLWantWriteError:
            wait = anyio.wait_writable
        except BlockingIOError:
            wait = anyio.wait_writable if writing else anyio.wait_readable
        with anyio.fail_after(_left(deadline)):
            await wait(sock)


# --- both -------------------------------------------------------------------------------------------------


def _look_up(host: str, port: int, flags: int = 0) -> list[SocketAddress]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, cast("tuple[str, int]", where)) for family, _, _, _, where in found]


def numeric(host: str, port: int) -> list[SocketAddress]:
    """The address that the host is, if it is one already; nothing is looked up."""
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
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


def _tuned(sock: socket.socket) -> socket.socket:
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


if sys.platform == "win32":

    def is_readable(sock: socket.socket) -> bool:
        """Whether something has arrived: on an idle connection, its end."""
        return bool(select.select([sock], [], [], 0)[0])

else:

    def is_readable(sock: socket.socket) -> bool:
        """Whether something has arrived: on an idle connection, its end."""
        waiting = select.poll()
        waiting.register(sock, select.POLLIN)
        return bool(waiting.poll(0))
