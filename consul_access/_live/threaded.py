"""An httpx transport for threads, used by tasks: each of its requests is made in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Self, cast

import anyio
import anyio.to_thread
import httpx

__all__ = ["ThreadedTransport"]


class ThreadedTransport(httpx.AsyncBaseTransport):
    """Sends through a transport that can only wait. Bodies are handed on as they come, for some never end.

    Args:
        transport: the transport; whoever gave it closes it.
        places: requests that may wait at once for their answers to begin.
    """

    def __init__(self, transport: httpx.BaseTransport, places: int) -> None:
        self._transport = transport
        self._limiter = anyio.CapacityLimiter(places)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the request in a thread, which is left behind when its answer is no longer wanted."""
        content = await request.aread()
        wanted = httpx.Request(
            request.method, request.url, headers=request.headers, content=content, extensions=request.extensions
        )
        answers: list[httpx.Response] = []
        is_left = threading.Event()

        def send() -> None:
            answers.append(self._transport.handle_request(wanted))
            if is_left.is_set():
                answers[0].close()

        try:
            await anyio.to_thread.run_sync(send, abandon_on_cancel=True, limiter=self._limiter)
        except BaseException:
            is_left.set()
            for answered in answers:
                answered.close()
            raise
        return _handed_on(answers[0])


def _handed_on(answered: httpx.Response) -> httpx.Response:
    if not answered.is_stream_consumed:
        return httpx.Response(answered.status_code, headers=answered.headers.raw, stream=_Body(answered))
    # The transport has read it already, and has thereby decoded it.
    headers = [pair for pair in answered.headers.raw if pair[0].lower() != b"content-encoding"]
    return httpx.Response(answered.status_code, headers=headers, content=answered.content)


class _Body(httpx.AsyncByteStream):
    """A body, each of whose pieces is waited for in a thread.

    It takes none of the transport's places: a watch that is quiet must not keep calls waiting.

    Args:
        answered: whose body it is.
    """

    def __init__(self, answered: httpx.Response) -> None:
        self._answered = answered
        self._pieces = iter(cast("Iterable[bytes]", answered.stream))
        self._limiter = anyio.CapacityLimiter(1)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece: bytes | None = await anyio.to_thread.run_sync(
            next, self._pieces, None, abandon_on_cancel=True, limiter=self._limiter
        )
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Ends it, also while a thread still waits for the next piece."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._answered.close)
