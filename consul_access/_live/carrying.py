"""Carries the questions of an engine: over a few HTTP/2 connections where the server speaks that, else one on each.

Agents with TLS agree on HTTP/2 when they are offered it (hashicorp/consul PR 3657), and take 250 requests at once on a
connection. They let 200 connections in from one address, so a thousand questions fit only in this way.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import socket
import time
from functools import cached_property
from typing import TYPE_CHECKING, cast

import anyio
from anyio.abc import TaskGroup

from consul_access._async.carrier import AsyncCarrier, reason, speaks_2
from consul_access._async.transport import AsyncTransport
from consul_access._pairs.tasks import Bell
from consul_access.errors import ConnectFailed, PoolExhausted
from consul_access.models.address import Target
from consul_access.settings import ssl_context
from consul_access.wire import Broken, Limits, Request, Unprocessed, WireAnswer

if TYPE_CHECKING:
    import ssl

    from consul_access._live.line import Line

__all__ = ["WatchCarrier", "WatchTransport"]

log = logging.getLogger("consul_access")

TRIES = 3
"""How often a request is sent that no server has looked at."""
ROOM = 100
"""A connection that carries nothing is closed when the others have room for so many more."""


class _Multiplexed(Exception):
    """A connection that was made for a single request turned out to be for many."""


class _Attempt:
    """A connection being made, for whoever needs one."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.failure: Broken | None = None


class _Bundle:
    """The HTTP/2 connections to one target."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.attempt: _Attempt | None = None
        self.is_single = False
        """Whether the last connection that was made takes one request at a time."""
        self.bell = Bell()

    def free(self, *, is_brief: bool) -> Line | None:
        """The first connection with room, so that the last ones become superfluous.

        Args:
            is_brief: it is for something that is answered at once.
        """
        line = next((line for line in self.lines if line.free), None)
        return next((line for line in self.lines if line.spare), None) if line is None and is_brief else line

    @property
    def is_full(self) -> bool:
        """Whether another connection would be of use: one that takes nothing at all will not be helped by a second."""
        return all(line.busy for line in self.lines if line.is_willing)

    @property
    def at_once(self) -> int:
        """How many requests a connection carries."""
        return next((max(1, line.at_once) for line in self.lines if line.is_open), 1)

    def tidy(self) -> None:
        """Something has ended: closed connections are forgotten, and superfluous ones closed."""
        self.lines = [line for line in self.lines if line.is_open]
        idle = next((line for line in reversed(self.lines) if line.free and not line.busy), None)
        if idle is not None and sum(line.free for line in self.lines if line is not idle) >= ROOM:
            idle.close()
        self.bell.ring()


class WatchCarrier(AsyncCarrier):
    """Carries questions, many on each connection if the server and the installed packages allow it."""

    _group: TaskGroup | None = None

    @cached_property
    def _bundles(self) -> dict[Target, _Bundle]:
        return {}

    def attend(self, group: TaskGroup) -> None:
        """From now on connections are read in this group."""
        self._group = group

    def places(self, target: Target) -> int:
        """How many requests may be under way; connections count one each until one has turned out to carry more."""
        bundle = self._bundles.get(target)
        return self._max_connections * (1 if bundle is None else bundle.at_once)

    async def exchange(self, request: Request, limits: Limits) -> WireAnswer:
        """Sends the request and reads its answer; sends it again if the server has not looked at it.

        Raises:
            Broken: there is no complete answer within the limits.
            ClientClosed: after `close()`.
        """
        if not request.target.tls or self._group is None or not self._speaks_2:
            return await super().exchange(request, limits)
        bundle = self._bundles.setdefault(request.target, _Bundle())
        for _ in range(TRIES - 1):
            with contextlib.suppress(Unprocessed):
                return await self._sent(bundle, self._group, request, limits)
        return await self._sent(bundle, self._group, request, limits)

    @cached_property
    def _speaks_2(self) -> bool:
        """Asked once, and only for https: who follows services over plain HTTP loads nothing for it."""
        return speaks_http2()

    async def _sent(self, bundle: _Bundle, group: TaskGroup, request: Request, limits: Limits) -> WireAnswer:
        while True:
            line = await self._line(bundle, group, request, limits)
            if line is not None:
                return await line.exchange(request, limits)
            with contextlib.suppress(_Multiplexed):
                return await super().exchange(request, limits)

    async def _line(self, bundle: _Bundle, group: TaskGroup, request: Request, limits: Limits) -> Line | None:
        """A connection with room for one more request; None when connections take one at a time."""
        until = min(time.monotonic() + limits.pool, limits.deadline)
        while True:
            self._check_open()
            line = bundle.free(is_brief=request.is_brief)
            if line is not None or bundle.is_single:
                return line
            if bundle.attempt is not None:
                await self._wait(bundle.attempt, until)
            elif bundle.is_full and len(bundle.lines) < self._max_connections:
                await self._try(bundle, group, request.target, limits)
            elif not await bundle.bell.wait(bundle.bell.rung, until - time.monotonic()):
                raise Broken(PoolExhausted(f"the server took no further request for {limits.pool:g} s"), sent=False)

    async def _wait(self, attempt: _Attempt, until: float) -> None:
        """Waits for somebody else's attempt, whose failure counts for all: hundreds may need the same connection."""
        with anyio.move_on_after(max(0.0, until - time.monotonic())):
            await attempt.ended.wait()
        if attempt.failure is not None:
            raise Broken(copy.copy(attempt.failure.error), sent=False) from attempt.failure.__cause__
        if not attempt.ended.is_set():
            raise Broken(PoolExhausted("no connection was made in the time to wait for one"), sent=False)

    async def _try(self, bundle: _Bundle, group: TaskGroup, target: Target, limits: Limits) -> None:
        attempt = bundle.attempt = _Attempt()
        try:
            sock = await self._reach(target, limits)
            bundle.is_single = not speaks_2(sock)
            if bundle.is_single:
                self._give_back(self._pool(target), self._made(sock), reusable=True)
            else:
                await self._begin(bundle, group, sock, limits)
        except Broken as broken:
            attempt.failure = broken
            raise
        finally:
            bundle.attempt = None
            attempt.ended.set()

    async def _begin(self, bundle: _Bundle, group: TaskGroup, sock: socket.socket, limits: Limits) -> None:
        from consul_access._live.line import Line

        try:
            line = Line(sock, max_bytes=self._max_bytes, write=limits.write, changed=bundle.tidy)
        except OSError as error:  # its other end may be gone before it could be asked for its address
            sock.close()
            raise Broken(ConnectFailed(f"no connection ({reason(error)})"), sent=False) from error
        group.start_soon(line.run)
        bundle.lines.append(line)
        try:
            await line.ready(min(time.monotonic() + limits.connect, limits.deadline))
        except BaseException as error:
            line.close()
            if not isinstance(error, TimeoutError):
                raise
            silent = ConnectFailed(f"the server agreed on HTTP/2 and said nothing for {limits.connect:g} s")
            raise Broken(silent, sent=False) from error

    def _not_spoken(self, target: Target) -> Exception:
        if target not in self._bundles:
            return super()._not_spoken(target)
        self._bundles[target].is_single = False
        return _Multiplexed()

    def close(self) -> None:
        """Closes all connections, and wakes whoever waits for an answer."""
        super().close()
        for line in self._lines():
            line.close()

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use, and how many are idle."""
        busy, idle = super().connections
        lines = self._lines()
        used = sum(line.busy > 0 for line in lines)
        return busy + used, idle + len(lines) - used

    def _lines(self) -> list[Line]:
        return [line for bundle in self._bundles.values() for line in bundle.lines if line.is_open]

    def _forget(self) -> None:
        super()._forget()
        for line in self._lines():
            line.abandon()
        self._bundles.clear()


class WatchTransport(AsyncTransport):
    """Sends an engine's calls; see `AsyncTransport`."""

    def _kind_of_carrier(self) -> type[AsyncCarrier]:
        return WatchCarrier

    @property
    def _carries(self) -> WatchCarrier:
        return cast("WatchCarrier", self._own)

    def attend(self, group: TaskGroup) -> None:
        """From now on connections are read in this group."""
        self._carries.attend(group)

    @property
    def room(self) -> int:
        """How many calls may be under way at the server that is asked next."""
        target = self._failover.order(time.monotonic())[0]
        is_ours = self._carrier(target) is self._carries
        return self._carries.places(target) if is_ours else self.settings.max_connections

    def _make_tls(self) -> ssl.SSLContext:
        """Only a context of our own offers HTTP/2: what a given one offers, it also offers for ordinary calls."""
        if self.settings.ssl_context is not None or not speaks_http2():
            return super()._make_tls()
        return ssl_context(self.settings, ("h2", "http/1.1"))


def speaks_http2() -> bool:
    """Whether what the extra `http2` names is installed."""
    try:
        importlib.import_module("consul_access.wire2")
    except ImportError as error:
        log.debug("watches speak HTTP/1.1: %s", error)
        return False
    return True
