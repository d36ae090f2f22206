"""A small pool of HTTP/1.1 connections: carries one request, brings one answer, and bounds everything on the way.

It does not retry, redirect, authenticate or unpack. Why not httpcore's pool: it loses a place for ever when a request
is cancelled early (encode/httpcore#1093), bounds each operation but never the whole exchange, has no limit on size,
and after a fork hands the child its parent's answers. Here a place is given back by code that never waits, so that no
cancellation can come between.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from consul_access._async.streams import connect, handshake, inlet, send_rest
from consul_access._pairs.sockets import SocketAddress, numeric, tls_error, unix, waits, watch_over
from consul_access._pairs.tasks import Slots, resolve
from consul_access.call import Headers
from consul_access.errors import (
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    PoolExhausted,
    TlsError,
)
from consul_access.models.address import Target
from consul_access.wire import AnswerReader, Broken, Limits, Request, Streaming, StreamReader, WireAnswer

if TYPE_CHECKING:
    import ssl

__all__ = ["AsyncCarrier", "AsyncConnection", "AsyncStream", "reason", "silence", "speaks_2"]

IDLE_SECONDS = 30.0
"""How long an unused connection is kept. Agents keep theirs for minutes; what sits in between often does not."""
TRUSTED_SECONDS = 0.5
"""How long it is believed, without a look, to be as good as when it was used last."""
OFFERED_2 = (
    "the server chose HTTP/2, which the given ssl_context= offers and only watches can speak: leave h2 out of its "
    "set_alpn_protocols"
)


class AsyncConnection:
    """One connection: sends a request and takes its answer, then the next.

    Args:
        sock: the socket, which never blocks.
        generation: of the process, counted by forks.
        max_bytes: how long the body of an answer may be on the wire.
    """

    __slots__ = ("generation", "idle_since", "inlet", "reader", "remote_ip", "sock", "used")

    def __init__(self, sock: socket.socket, *, generation: int, max_bytes: int) -> None:
        self.sock = sock
        self.inlet = inlet(sock)
        self.remote_ip = None if sock.family == getattr(socket, "AF_UNIX", None) else str(sock.getpeername()[0])
        self.reader = AnswerReader(max_bytes)
        self.generation = generation
        self.idle_since = 0.0
        self.used = False

    @property
    def begun(self) -> bool:
        """Whether something of the answer has come."""
        return self.reader.begun

    async def exchange(self, request: Request, limits: Limits) -> WireAnswer:
        """Sends the request and reads its answer."""
        if rest := self.send(request):
            await self.send_rest(rest, limits)
        reader = self.reader
        reader.expect(request.method)
        await self.arrive(reader.feed if request.arrived is None else partial(self._take, request.arrived), limits)
        self.used = True
        return reader.answer(self.remote_ip)

    async def arrive(self, take: Callable[[bytes], bool], limits: Limits) -> None:
        """Gives away what arrives, until whoever takes it has enough."""
        try:
            await self.inlet.feed(take, limits.read, limits.deadline)
        except TimeoutError as error:
            raise Broken(DeadlineExceeded(silence(limits, has_begun=self.begun)), sent=True) from error
        except OSError as error:
            if tls_error(error) is not None:
                raise self.tls_ended(error, has_answered=self.used or self.begun) from error
            raise Broken(self.lost(error), sent=True, stale=self.used and not self.begun) from error
        except ConnectionLost as error:
            raise Broken(error, sent=True, stale=self.used and not self.begun) from error.__cause__
        except ConsulAccessError as error:
            raise Broken(error, sent=True) from error.__cause__

    def _take(self, arrived: Callable[[WireAnswer], None], data: bytes) -> bool:
        reader = self.reader
        complete = reader.feed(data)
        if complete and data:
            arrived(reader.answer(self.remote_ip))
        return complete

    def streaming(self, max_bytes: int) -> Streaming:
        """What reads an answer that goes on."""
        self.reader = reader = StreamReader(max_bytes)
        return reader

    def is_at_end(self) -> bool:
        """Whether it is no good any more while it is idle: what arrives then is its end, or nothing to be trusted."""
        return self.inlet.is_readable()

    # While writing fails, the server has not got all of the request, so it cannot have acted on it.

    def send(self, request: Request) -> bytes | None:
        """Writes what there is room for at once, which is all of most requests; gives the rest, if there is any."""
        return self.send_now(request.render())

    def send_now(self, data: bytes) -> bytes | None:
        """Writes what there is room for at once; gives the rest, if there is any."""
        try:
            sent = self.sock.send(data)
        except OSError as error:
            if waits(error, writing=True) is None:
                raise Broken(self.lost(error), sent=False, stale=self.used) from error
            return data
        return None if sent == len(data) else data[sent:]

    async def send_rest(self, data: bytes, limits: Limits) -> None:
        """Writes the rest as there comes to be room for it."""
        try:
            await send_rest(self.sock, data, min(time.monotonic() + limits.write, limits.deadline))
        except TimeoutError as error:
            raise Broken(DeadlineExceeded("the server did not take the request in time"), sent=False) from error
        except OSError as error:
            raise Broken(self.lost(error), sent=False, stale=self.used) from error

    def tls_ended(self, error: OSError, *, has_answered: bool) -> Broken:
        """What to raise when TLS fails later than in the handshake.

        TLS 1.3 lets a client send before the server has judged its certificate; the judgement comes afterwards.
        """
        refused = TlsError(f"the server ended the TLS connection ({error})")
        return Broken(self.lost(error) if has_answered else refused, sent=has_answered)

    def lost(self, error: OSError) -> ConnectionLost:
        """The error for a connection that broke."""
        return ConnectionLost(f"the connection broke ({reason(error)})")

    def interrupt(self) -> None:
        """Wakes whoever waits on this connection, from any thread."""
        with contextlib.suppress(OSError):  # if it is broken already, that wakes them just as well
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.inlet.close()

    def abandon(self) -> None:
        """Lets go of what a forked child has of it."""
        self.inlet.abandon()


class AsyncStream:
    """An answer that goes on, on a connection of its own; made by `AsyncCarrier.open_stream`.

    Args:
        connection: the connection.
        max_bytes: how many bytes may have come and not been read yet.
        busy: where it is known as being in use, until it is closed.
    """

    __slots__ = ("__weakref__", "_busy", "_connection", "_reader")

    is_whole = False
    """Whether it has come to its end before it was handed on: here it is handed on with its headers."""
    holds_messages = False
    """Whether its body is made of gRPC's messages, and not of the gateway's lines."""

    def __init__(self, connection: AsyncConnection, max_bytes: int, busy: set[AsyncConnection]) -> None:
        self._connection = connection
        self._reader = connection.streaming(max_bytes)
        self._busy = busy
        watch_over(connection.sock)
        busy.add(connection)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._reader.status

    @property
    def headers(self) -> Headers:
        """The answer's headers."""
        return self._reader.headers

    async def begin(self, request: Request, limits: Limits) -> None:
        """Sends the request and waits for the headers."""
        connection = self._connection
        if rest := connection.send(request):
            await connection.send_rest(rest, limits)
        self._reader.expect(request.method)
        until = min(time.monotonic() + limits.read, limits.deadline)
        try:
            await self._more(self._has_headers, until)
        except TimeoutError as error:
            silence = DeadlineExceeded(f"no answer within {limits.read:g} s")
            raise Broken(silence, sent=True) from error

    async def read(self, deadline: float) -> bytes:
        """The next bytes; none when the answer has come to its end.

        Raises:
            TimeoutError: nothing came until the deadline; the stream is as good as before.
            Broken: the connection broke.
        """
        reader = self._reader
        if not reader.has_more and not reader.ended:
            await self._more(self._has_more, deadline)
        return reader.take()

    def _has_headers(self, data: bytes) -> bool:
        self._reader.feed(data)
        return self._reader.status > 0

    def _has_more(self, data: bytes) -> bool:
        return self._reader.feed(data) or self._reader.has_more

    async def _more(self, enough: Callable[[bytes], bool], until: float) -> None:
        """Takes what comes, until there is enough."""
        connection, reader = self._connection, self._reader
        try:
            await connection.inlet.feed_on(enough, until)
        except TimeoutError:
            raise
        except OSError as error:
            if tls_error(error) is not None:
                raise connection.tls_ended(error, has_answered=reader.begun) from error
            raise Broken(connection.lost(error), sent=True) from error
        except ConsulAccessError as error:
            raise Broken(error, sent=True) from error.__cause__

    def interrupt(self) -> None:
        """Wakes whoever waits for the next bytes, from any thread."""
        self._connection.interrupt()

    async def aclose(self) -> None:
        """Ends it; closing the connection is the only way to tell the server."""
        self._end()

    def _end(self) -> None:
        self._busy.discard(self._connection)
        self._connection.close()

    def __del__(self) -> None:
        # An iterator that is left half-way closes its stream no other way.
        self._end()


class _AsyncPool:
    """The connections to one target."""

    __slots__ = ("idle", "slots")

    def __init__(self, places: int) -> None:
        self.slots = Slots(places)
        self.idle: deque[AsyncConnection] = deque()

    def take(self, *, trusting: bool) -> AsyncConnection | None:
        """An idle connection that is still good, the last used first.

        Args:
            trusting: one that was used a moment ago is believed to be good without a look: should it be gone, a
                read is repeated at once and nobody notices.
        """
        while self.idle:
            try:
                connection = self.idle.pop()
            except IndexError:  # another thread was quicker
                return None
            idle = time.monotonic() - connection.idle_since
            if trusting and idle < TRUSTED_SECONDS:
                return connection
            if idle < IDLE_SECONDS and not connection.is_at_end():
                return connection
            connection.close()
        return None

    def drop_idle(self) -> None:
        while self.idle:
            try:
                self.idle.pop().close()
            except IndexError:
                return


class AsyncCarrier:
    """Carries requests over connections of its own.

    Args:
        max_connections: at most so many to one target; further requests wait for one.
        max_bytes: how long the body of an answer may be on the wire.
        tls: makes the TLS context, once, when the first https target is asked.
        server_name: the name to ask for and to expect in the certificate, instead of the target's host.

    Safe for threads and after `os.fork`: a child forgets its parent's connections and opens its own.
    """

    _kind_of_connection: ClassVar[type[AsyncConnection]] = AsyncConnection
    _kind_of_stream: ClassVar[type[AsyncStream]] = AsyncStream

    def __init__(
        self,
        *,
        max_connections: int,
        max_bytes: int,
        tls: Callable[[], ssl.SSLContext],
        server_name: str | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._max_bytes = max_bytes
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._server_name = server_name
        self._pools: dict[Target, _AsyncPool] = {}
        self._busy: set[AsyncConnection] = set()
        self._generation = 0
        self._closed = False
        _carriers.add(self)

    async def exchange(self, request: Request, limits: Limits) -> WireAnswer:
        """Sends the request and reads its answer.

        Raises:
            Broken: there is no complete answer within the limits.
            ClientClosed: after `close()`, or when it is called meanwhile.
        """
        self._check_open()
        pool = self._pools.get(request.target) or self._pool(request.target)
        slots = pool.slots
        if not slots.acquire_now():
            await self._acquire(slots, limits)
        connection: AsyncConnection | None = None
        reusable = False
        try:
            connection = pool.take(trusting=request.repeated) or await self._open(request.target, limits)
            self._busy.add(connection)
            answer = await connection.exchange(request, limits)
            reusable = answer.reusable
            return answer
        except Broken as broken:
            if self._closed:
                raise ClientClosed("the client was closed during the call") from broken
            if broken.stale:  # its neighbours were opened to the same, now gone, server
                pool.drop_idle()
            raise
        finally:
            self._give_back(pool, connection, reusable=reusable)
            slots.release()

    async def open_stream(self, request: Request, limits: Limits) -> AsyncStream:
        """Sends the request over a connection of its own, and gives its answer when the headers have come.

        Streams take none of the places that other requests wait for, however many there are.

        Raises:
            Broken: no headers came within the limits.
            ClientClosed: after `close()`, or when it is called meanwhile.
        """
        self._check_open()
        connection = await self._open(request.target, limits)
        stream = self._kind_of_stream(connection, self._max_bytes, self._busy)
        try:
            await stream.begin(request, limits)
        except BaseException as error:
            await stream.aclose()
            if self._closed and isinstance(error, Broken):
                raise ClientClosed("the client was closed during the call") from error
            raise
        return stream

    async def pin(self, target: Target, limits: Limits) -> Target:
        """The same target at one IP address that takes connections; the connection is kept for the first request."""
        for known, pool in list(self._pools.items()):
            connection = pool.take(trusting=False) if target == replace(known, ip=None) else None
            if connection is not None:  # there is one already: no look-up, and no further connection
                self._give_back(pool, connection, reusable=True)
                return known
        connection = await self._open(target, limits)
        pinned = target.pinned(connection.remote_ip) if connection.remote_ip else target
        self._give_back(self._pool(pinned), connection, reusable=True)
        return pinned

    def close(self) -> None:
        """Closes all connections, and wakes whoever waits for an answer."""
        self._closed = True
        for pool in list(self._pools.values()):
            pool.drop_idle()
        for connection in list(self._busy):
            connection.interrupt()

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use, and how many are idle."""
        return len(self._busy), sum(len(pool.idle) for pool in self._pools.values())

    def __repr__(self) -> str:
        busy, idle = self.connections
        return f"<{type(self).__name__} {'closed' if self._closed else f'{busy} busy, {idle} idle'}>"

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or not self.connections[1]:
            return
        warnings.warn(
            f"a client of {', '.join(map(str, self._pools))} was forgotten with open connections: "
            "use it in a with block, or close it",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        self.close()

    def _pool(self, target: Target) -> _AsyncPool:
        return self._pools.setdefault(target, _AsyncPool(self._max_connections))

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client is closed")

    async def _acquire(self, slots: Slots, limits: Limits) -> None:
        try:
            await slots.acquire(min(time.monotonic() + limits.pool, limits.deadline))
        except TimeoutError as error:
            busy = PoolExhausted(f"all {self._max_connections} connections were busy for {limits.pool:g} s")
            raise Broken(busy, sent=False) from error

    def _give_back(self, pool: _AsyncPool, connection: AsyncConnection | None, *, reusable: bool) -> None:
        if connection is None:
            return
        self._busy.discard(connection)
        if not reusable or connection.generation != self._generation:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        pool.idle.append(connection)
        if self._closed:  # close() may have looked just before
            pool.drop_idle()

    async def _open(self, target: Target, limits: Limits) -> AsyncConnection:
        sock = await self._reach(target, limits)
        if speaks_2(sock):
            sock.close()
            raise self._not_spoken(target)
        return self._made(sock)

    def _not_spoken(self, _target: Target) -> Exception:
        """What to raise when HTTP/2 was agreed on."""
        return Broken(TlsError(OFFERED_2), sent=False)

    async def _reach(self, target: Target, limits: Limits) -> socket.socket:
        """A connection, secured if it has to be."""
        deadline = min(time.monotonic() + limits.connect, limits.deadline)
        try:
            sock = await self._connect(target, deadline)
            return await self._secure(sock, target, deadline) if target.tls else sock
        except TimeoutError as error:
            raise Broken(ConnectFailed(f"no connection within {limits.connect:g} s"), sent=False) from error
        except socket.gaierror as error:
            unknown = ConnectFailed(f"the name {target.address.host!r} cannot be looked up ({reason(error)})")
            raise Broken(unknown, sent=False) from error
        except OSError as error:
            refused = tls_error(error)
            if refused is not None:
                raise Broken(TlsError(f"the TLS handshake failed ({_tls_reason(refused)})"), sent=False) from error
            raise Broken(ConnectFailed(f"no connection ({reason(error)})"), sent=False) from error

    def _made(self, sock: socket.socket) -> AsyncConnection:
        """The connection; its other end may be gone before it could be asked for its address."""
        try:
            return self._kind_of_connection(sock, generation=self._generation, max_bytes=self._max_bytes)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise Broken(ConnectFailed(f"no connection ({reason(error)})"), sent=False) from error
            raise

    async def _connect(self, target: Target, deadline: float) -> socket.socket:
        """Tries the addresses of the target's host in turn, each with a fair share of the time left."""
        places = await _places(target, deadline)
        for position, place in enumerate(places):
            share = (deadline - time.monotonic()) / (len(places) - position)
            try:
                return await connect(place, time.monotonic() + share)
            except OSError:  # TimeoutError is one
                if position == len(places) - 1:
                    raise
        raise ConnectionRefusedError(f"{target} has no address")

    async def _secure(self, sock: socket.socket, target: Target, deadline: float) -> socket.socket:
        try:
            if self._tls is None:
                self._tls = self._make_tls()
        except BaseException:
            sock.close()
            raise
        return await handshake(sock, self._tls, self._server_name or target.address.host, deadline)

    def _forget(self) -> None:
        """In a forked child: the sockets belong to the parent, so only this process's hold on them is let go."""
        inherited = [*self._busy, *(connection for pool in self._pools.values() for connection in pool.idle)]
        self._generation += 1
        self._pools, self._busy = {}, set()
        for connection in inherited:
            connection.abandon()


async def _places(target: Target, deadline: float) -> list[SocketAddress]:
    if target.unix_path is not None:
        return unix(target.unix_path)
    host, port = target.ip or target.address.host, target.address.port
    return numeric(host, port) or await resolve(host, port, deadline)


def speaks_2(sock: socket.socket) -> bool:
    """Whether the two sides have agreed on HTTP/2."""
    chosen: Callable[[], str | None] | None = getattr(sock, "selected_alpn_protocol", None)
    return chosen is not None and chosen() == "h2"


def silence(limits: Limits, *, has_begun: bool) -> str:
    """What to say when an answer did not come, or did not go on, within its limits."""
    if time.monotonic() >= limits.deadline:
        return "the time for the whole call ran out " + ("while the answer came" if has_begun else "without an answer")
    return f"silence for {limits.read:g} s " + ("in the middle of the answer" if has_begun else "instead of an answer")


def reason(error: OSError) -> str:
    """Why the system refused something."""
    return error.strerror or str(error) or type(error).__name__


def _tls_reason(error: ssl.SSLError) -> str:
    unverified = getattr(error, "verify_message", "")  # of a certificate that was not accepted
    return str(unverified) if unverified else str(error.reason or error.strerror or error).replace("_", " ").lower()


_carriers: weakref.WeakSet[AsyncCarrier] = weakref.WeakSet()


def _forget_in_child() -> None:
    for carrier in list(_carriers):
        carrier._forget()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
