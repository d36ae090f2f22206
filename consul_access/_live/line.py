"""One HTTP/2 connection: reads it, writes to it, and hands every answer to whoever waits for it.

It has one reader, whatever the number of questions on it. In httpx each request reads for itself, under a lock that all
share, so that an answer waits until everybody before it has had a turn: of a thousand watches hardly one ever sees a
change. All of it happens in the engine's own event loop, so there is nothing to lock.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Literal

import anyio
from anyio.lowlevel import checkpoint

from consul_access._async.carrier import reason, silence
from consul_access._pairs.sockets import CHUNK, tls_error, waits, watch_over
from consul_access._pairs.tasks import Bell
from consul_access.errors import ConnectionLost, ConsulAccessError, DeadlineExceeded, TlsError
from consul_access.rules.liveness import is_doubtful
from consul_access.wire import Broken, Limits, Request, WireAnswer
from consul_access.wire2 import Conversation, Ending

__all__ = ["Line"]

log = logging.getLogger("consul_access")

MOST_UNSENT = 1024 * 1024
"""Bytes that may wait to be sent. Requests are short; so much gathers only if the server asks and never reads."""


class _Asked:
    """A request under way, and whoever waits for its answer."""

    __slots__ = ("_event", "arrived", "heard_at", "outcome", "sent_at")

    def __init__(self, arrived: Callable[[WireAnswer], None] | None) -> None:
        self.arrived = arrived
        self.outcome: WireAnswer | Exception | None = None
        self.sent_at = self.heard_at = time.monotonic()
        self._event = anyio.Event()

    def end(self, ending: Ending) -> None:
        try:
            if ending.answer is not None and self.arrived is not None:
                self.arrived(ending.answer)
        except Exception as error:  # noqa: BLE001 - whoever asked hears of it, and the others do not
            self.outcome = error
        else:
            self.outcome = ending.answer or ending.broken
        self._event.set()

    async def wait(self, limits: Limits) -> None:
        """Until it has ended, or may be late."""
        with anyio.move_on_after(max(0.0, self._until(limits) - time.monotonic())):
            await self._event.wait()

    def is_late(self, limits: Limits) -> bool:
        return self.outcome is None and time.monotonic() >= self._until(limits)

    def _until(self, limits: Limits) -> float:
        return min(self.heard_at + limits.read, limits.deadline)


class Line:
    """One connection, from its handshake to its end.

    Args:
        sock: what has agreed on HTTP/2; it never blocks.
        max_bytes: how long the body of an answer may be on the wire.
        write: seconds for the server to take what is sent.
        changed: is called when a place has come free, or all have gone.
    """

    def __init__(self, sock: socket.socket, *, max_bytes: int, write: float, changed: Callable[[], None]) -> None:
        self._conversation = Conversation(max_bytes, str(sock.getpeername()[0]))
        self._sock = sock
        self._write = write
        self._changed = changed
        self._asked: dict[int, _Asked] = {}
        self._unsent = b""
        self._group = anyio.create_task_group()
        self._heard = Bell()
        self._heard_at = time.monotonic()
        self._writable: anyio.Event | None = None
        self._flushes = self._drains = self._is_doubted = False
        watch_over(sock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'open' if self.is_open else 'closed'}, {self.busy} under way>"

    @property
    def is_open(self) -> bool:
        """Whether answers can still come."""
        return self._conversation.failure is None

    @property
    def is_willing(self) -> bool:
        """Whether there is nothing that speaks against further requests, but the number of those under way."""
        return self.is_open and not self._is_doubted and not self._conversation.leaving

    @property
    def at_once(self) -> int:
        """How many requests it takes at once."""
        return self._conversation.at_once

    @property
    def busy(self) -> int:
        """How many requests are under way."""
        return len(self._asked)

    @property
    def free(self) -> int:
        """How many further requests it takes now."""
        return 0 if self._is_doubted else self._conversation.free

    @property
    def spare(self) -> int:
        """The same, for what is answered at once."""
        return 0 if self._is_doubted else self._conversation.spare

    async def ready(self, deadline: float) -> None:
        """Waits until the server has begun to speak.

        Raises:
            Broken: it has ended the connection instead.
            TimeoutError: it says nothing.
        """
        while not self._conversation.is_ready:
            if self._conversation.failure is not None:
                raise Broken(self._conversation.failure, sent=False)
            if not await self._heard.wait(self._heard.rung, deadline - time.monotonic()):
                raise TimeoutError

    async def exchange(self, request: Request, limits: Limits) -> WireAnswer:
        """Sends a request, for which there is a place, and waits for its answer.

        Raises:
            Broken: there is none within the limits.
        """
        number = self._conversation.ask(request)
        asked = self._asked[number] = _Asked(request.arrived)
        try:
            self._flush_soon()
            while asked.outcome is None:
                await asked.wait(limits)
                if asked.is_late(limits):
                    self._receive()  # what has come while this process was busy with something else counts
                if asked.is_late(limits):
                    raise self._late(number, asked, limits)
        finally:
            self._give_back(number)
        if isinstance(asked.outcome, Exception):
            raise asked.outcome
        return asked.outcome

    def close(self) -> None:
        """Ends it."""
        self._end(ConnectionLost("the connection was closed here"))

    def abandon(self) -> None:
        """In a forked child: lets go of what belongs to the parent."""
        self._sock.close()

    async def run(self) -> None:
        """Reads until the end. It runs beside all else, and raises nothing."""
        try:
            async with self._group:
                try:
                    await self._read()
                finally:
                    self.close()  # from here on nothing may begin in the group
        except Exception:
            log.exception("a connection failed in a way that was not foreseen; there will be another one")
        finally:
            with contextlib.suppress(OSError):  # a last word, such as what the server did wrong
                self._sock.send(self._unsent + self._conversation.to_send())
            self._sock.close()
            self._changed()

    # --- what arrives -------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while self.is_open:
            self._flush()  # TLS may have had to read before it could write
            needed = self._receive()
            if needed is None:
                await checkpoint()
            elif needed == "readable":
                await anyio.wait_readable(self._sock)
            else:
                await self._until_writable()

    def _receive(self) -> Literal["readable", "writable"] | None:
        """Takes what has arrived; says what to wait for when that is nothing."""
        try:
            data = self._sock.recv(CHUNK)
        except OSError as error:
            needed = waits(error, writing=False)
            if needed is None:
                self._end(self._lost(error))
            return needed
        now = self._heard_at = time.monotonic()
        self._is_doubted = False
        self._settle(self._conversation.feed(data))
        for number in self._conversation.heard & self._asked.keys():
            self._asked[number].heard_at = now
        self._leave_if_done()
        return None

    def _settle(self, endings: list[Ending]) -> None:
        for ending in endings:
            self._asked.pop(ending.number).end(ending)
        self._heard.ring()
        if not self.is_open:
            self._group.cancel_scope.cancel()

    def _end(self, error: ConsulAccessError) -> None:
        self._settle(self._conversation.fail(error))

    def _lost(self, error: OSError) -> ConsulAccessError:
        # TLS 1.3 lets a client send before the server has judged its certificate; the judgement comes afterwards.
        if tls_error(error) is not None and not self._conversation.is_ready:
            return TlsError(f"the server ended the TLS connection ({error})")
        return ConnectionLost(f"the connection broke ({reason(error)})")

    def _late(self, number: int, asked: _Asked, limits: Limits) -> Broken:
        """What to tell who has waited in vain; and if others were not answered either, a sign of life is asked for."""
        is_quiet = is_doubtful(time.monotonic(), self._heard_at, asked.sent_at)
        if is_quiet and not self._is_doubted and self.is_open:
            self._is_doubted = True
            self._group.start_soon(self._prove, limits.connect)
        late = DeadlineExceeded(silence(limits, has_begun=self._conversation.has_begun(number)))
        return Broken(late, sent=True)

    async def _prove(self, seconds: float) -> None:
        """Ends the connection unless a ping is answered in the time in which a new one would have to be made."""
        rung = self._heard.rung
        self._conversation.ping()
        self._flush()
        if not await self._heard.wait(rung, seconds):
            self._end(ConnectionLost(f"the connection is dead: not even a ping was answered within {seconds:g} s"))

    def _give_back(self, number: int) -> None:
        """A place has come free; if its answer is still under way, that is no longer wanted."""
        if self._asked.pop(number, None) is not None:
            self._conversation.drop(number)
            self._flush_soon()
        self._leave_if_done()
        self._changed()

    def _leave_if_done(self) -> None:
        if self._conversation.leaving and not self._asked:
            self.close()

    # --- what is sent -------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """Has it sent in a moment, together with what others ask in the same one: hundreds begin at once."""
        if not self._flushes and self.is_open:
            self._flushes = True
            self._group.start_soon(self._flush_now)

    async def _flush_now(self) -> None:
        self._flushes = False
        self._flush()

    def _flush(self) -> None:
        """Sends what there is room for. For the rest somebody waits."""
        self._unsent += self._conversation.to_send()
        if len(self._unsent) > MOST_UNSENT:
            self._end(ConnectionLost(f"the server does not take what it is sent, {MOST_UNSENT} bytes by now"))
        if self._unsent and self.is_open and not self._drains and self._send() == "writable":
            self._drains = True
            self._group.start_soon(self._drain)

    def _send(self) -> Literal["readable", "writable"] | None:
        """Sends what there is room for; says what to wait for when something is left."""
        try:
            sent = self._sock.send(self._unsent)
        except OSError as error:
            needed = waits(error, writing=True)
            if needed is None:
                self._end(self._lost(error))
            return needed
        self._unsent = self._unsent[sent:]
        return "writable" if self._unsent else None

    async def _drain(self) -> None:
        try:
            needed: str | None = "writable"
            while needed == "writable":
                with anyio.fail_after(self._write):
                    await self._until_writable()
                needed = self._send()
        except TimeoutError:
            self._end(DeadlineExceeded(f"the server took nothing of what it was sent within {self._write:g} s"))
        finally:
            self._drains = False

    async def _until_writable(self) -> None:
        """Waits for room; two at once may not, so the second one waits for the first."""
        if self._writable is not None:
            await self._writable.wait()
            return
        self._writable = anyio.Event()
        try:
            await anyio.wait_writable(self._sock)
        finally:
            self._writable.set()
            self._writable = None
