"""A fake as an httpx transport, for threads, asyncio and trio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import httpx

from consul_access.testing.consul.course import AgentDown, Course
from consul_access.testing.consul.exchange import Answer, Request

if TYPE_CHECKING:
    from consul_access.testing.consul.fake import FakeConsul

__all__ = ["FakeTransport"]


class FakeTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries requests to a fake in the same process.

    Args:
        fake: the fake.
    """

    def __init__(self, fake: FakeConsul) -> None:
        self._fake = fake

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Asks the fake, in a thread; errors are those of a real connection."""
        asked = _asked(request, request.read())
        try:
            with self._fake.course(asked) as course:
                answer = course.wait(_read_timeout(request))
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except AgentDown as error:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request) from error
        return _answered(request, answer)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Asks the fake, in a task; errors are those of a real connection."""
        asked = _asked(request, await request.aread())
        try:
            with self._fake.course(asked) as course, anyio.fail_after(_read_timeout(request)):
                answer = await self._wait(course)
        except TimeoutError as error:
            raise httpx.ReadTimeout("the fake did not answer in time", request=request) from error
        except AgentDown as error:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request) from error
        return _answered(request, answer)

    async def _wait(self, course: Course) -> Answer:
        shared = self._fake.shared
        while True:
            woken = anyio.Event()
            waker = _from_any_thread(woken.set)
            with shared.changed:
                shared.wakers.add(waker)
            try:
                answer = course.look()
                if answer is not None:
                    await anyio.lowlevel.checkpoint()
                    return answer
                if course.jump():
                    continue
                pause = course.pause() if shared.clock.passes_by_itself else None
                with anyio.move_on_after(pause):
                    await woken.wait()
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


def _answered(request: httpx.Request, answer: Answer) -> httpx.Response:
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
