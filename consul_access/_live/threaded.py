"""An httpx transport for threads, used by tasks: each of its requests is made in a thread."""

from __future__ import annotations

import anyio
import anyio.to_thread
import httpx

__all__ = ["ThreadedTransport"]


class ThreadedTransport(httpx.AsyncBaseTransport):
    """Sends through a transport that can only wait.

    Args:
        transport: the transport; whoever gave it closes it.
        places: requests that may wait at once.
    """

    def __init__(self, transport: httpx.BaseTransport, places: int) -> None:
        self._transport = transport
        self._limiter = anyio.CapacityLimiter(places)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the request in a thread, which is left behind when its answer is no longer wanted."""
        content = await request.aread()

        def send() -> httpx.Response:
            answered = self._transport.handle_request(
                httpx.Request(
                    request.method, request.url, headers=request.headers, content=content, extensions=request.extensions
                )
            )
            try:
                body = answered.read()
            finally:
                answered.close()
            headers = [pair for pair in answered.headers.raw if pair[0].lower() != b"content-encoding"]
            return httpx.Response(answered.status_code, headers=headers, content=body)

        return await anyio.to_thread.run_sync(send, abandon_on_cancel=True, limiter=self._limiter)
