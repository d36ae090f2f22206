"""A fake as an httpx transport, for threads, asyncio and trio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
import httpx

from consul_access.testing.common.course import AgentDown, Course
from consul_access.testing.common.exchange import Answer, Live, Request

if TYPE_CHECKING:
    from consul_access.testing.common.fake import Fake, Shared

__all__ = ["FakeTransport"]

TICK: Final = 0.5
"""Real seconds after which an answer that goes on says a blank line, so that whoever reads it can also end."""


class FakeTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries requests to a fake in the same process.

    Args:
        fake: the fake.
    """

    def __init__(self, fake: Fake[Any]) -> None:
        self._fake = fake

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Asks the fake, in a thread; errors are those of a real connection."""
        asked = _asked(request, request.read())
        try:
            with ExitStack() as stack:
                answer = stack.enter_context(self._fake.course(asked)).wait(_read_timeout(request))
                live = self._live(asked, request, answer, stack)
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except AgentDown as error:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request) from error
        return _answered(request, answer, live)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Asks the fake, in a task; errors are those of a real connection."""
        asked = _asked(request, await request.aread())
        try:
            with ExitStack() as stack:
                course = stack.enter_context(self._fake.course(asked))
                with anyio.fail_after(_read_timeout(request)):
                    answer = await self._wait(course)
                live = self._live(asked, request, answer, stack)
        except TimeoutError as error:
            raise httpx.ReadTimeout("the fake did not answer in time", request=request) from error
        except AgentDown as error:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request) from error
        return _answered(request, answer, live)

    def _live(self, asked: Request, request: httpx.Request, answer: Answer, stack: ExitStack) -> _Lines | None:
        """The body of an answer that goes on; its connection is a connection until it is closed."""
        if answer.live is None:
            return None
        return _Lines(self._fake, asked, request, answer.live, stack.pop_all())

    async def _wait(self, course: Course) -> Answer:
        shared = self._fake.shared
        while True:
            with _changing(shared) as changed:
                answer = course.look()
                if answer is not None:
                    await anyio.lowlevel.checkpoint()
                    return answer
                if course.jump():
                    continue
                pause = course.pause() if shared.clock.passes_by_itself else None
                with anyio.move_on_after(pause):
                    await changed.wait()


class _Lines(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An answer that goes on, read by a thread or a task."""

    def __init__(
        self, fake: Fake[Any], asked: Request, request: httpx.Request, live: Live, connection: ExitStack
    ) -> None:
        self._fake = fake
        self._asked = asked
        self._request = request
        self._live = live
        self._connection = connection
        self._heard = time.monotonic()
        self._closed = False

    def _next(self) -> bytes | None:
        """What has come; None when it is over.

        Raises:
            httpx.ReadTimeout: nothing has come for too long.
            httpx.ReadError: the connection was lost.
        """
        with self._fake.locked():
            if self._fake.faults.is_frozen(self._asked):
                limit = _read_timeout(self._request)
                if limit is not None and time.monotonic() - self._heard > limit:
                    raise httpx.ReadTimeout("the fake says nothing", request=self._request)
                return b""
            data, over, broken = self._live.take(), self._live.over or self._closed, self._live.broken
        if not data and over:
            if broken:
                raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
            return None
        return data

    def _tick(self) -> bytes:
        """What a quiet connection says, unless it is frozen."""
        return b"" if self._fake.faults.is_frozen(self._asked) else b"\n"

    def _pause(self) -> float:
        shared = self._fake.shared
        pause = shared.pause() if shared.clock.passes_by_itself else None
        return TICK if pause is None else min(TICK, pause)

    def __iter__(self) -> Iterator[bytes]:
        shared = self._fake.shared
        quiet = time.monotonic()
        while True:
            with shared.changed:
                data = self._next()
                if data == b"" and time.monotonic() - quiet < TICK:
                    shared.changed.wait(self._pause())
                    continue
            if data is None:
                return
            quiet = time.monotonic()
            if said := data or self._tick():
                self._heard = quiet
                yield said

    async def __aiter__(self) -> AsyncIterator[bytes]:
        shared = self._fake.shared
        quiet = time.monotonic()
        while True:
            with _changing(shared) as changed:
                data = self._next()
                if data == b"" and time.monotonic() - quiet < TICK:
                    with anyio.move_on_after(self._pause()):
                        await changed.wait()
                    continue
            if data is None:
                return
            await anyio.lowlevel.checkpoint()
            quiet = time.monotonic()
            if said := data or self._tick():
                self._heard = quiet
                yield said

    def close(self) -> None:
        """Ends it."""
        with self._fake.locked():
            self._closed = True
            self._live.close()
            self._connection.close()
            self._fake.shared.notify()

    async def aclose(self) -> None:
        """Ends it."""
        self.close()


@contextmanager
def _changing(shared: Shared[Any]) -> Iterator[anyio.Event]:
    """Set when something has changed since the beginning of the block, whichever thread did that."""
    woken = anyio.Event()
    waker = _from_any_thread(woken.set)
    with shared.changed:
        shared.wakers.add(waker)
    try:
        yield woken
    finally:
        with shared.changed:
            shared.wakers.discard(waker)


def _from_any_thread(call: Callable[[], object]) -> Callable[[], None]:
    """The call, made in the loop that runs here, whoever asks for it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        token = trio.lowlevel.current_trio_token()
        return lambda: _unless_over(trio.RunFinishedError, token.run_sync_soon, call)
    return lambda: _unless_over(RuntimeError, loop.call_soon_threadsafe, call)


def _unless_over(over: type[Exception], soon: Callable[..., object], call: Callable[[], object]) -> None:
    try:
        soon(call)
    except over:
        return  # the loop has ended, and with it everybody who waited in it


def _asked(request: httpx.Request, body: bytes) -> Request:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(request.method, request.url.raw_path.decode("ascii"), headers, body)


def _answered(request: httpx.Request, answer: Answer, live: _Lines | None) -> httpx.Response:
    if live is not None:
        return httpx.Response(answer.status, headers=list(answer.headers), stream=live, request=request)
    if answer.lost:
        raise httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
    if answer.cut:
        got, all_of_it = max(0, len(answer.body) - answer.cut), len(answer.body)
        text = (
            f"peer closed connection without sending complete message body (received {got} bytes, expected {all_of_it})"
        )
        raise httpx.RemoteProtocolError(text, request=request)
    headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(answer.body), request=request)


def _read_timeout(request: httpx.Request) -> float | None:
    timeout: float | None = request.extensions.get("timeout", {}).get("read")
    return timeout
