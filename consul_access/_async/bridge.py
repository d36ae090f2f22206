"""Where this library and httpx meet; the only module that imports httpx, and only when it is needed.

`AsyncForeignCarrier` sends our requests through somebody else's httpx transport (a `transport=` argument, a mock, a
patched httpx or httpcore). `AsyncCarrierTransport` is the other direction: our carrier as an httpx transport.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import cast

import httpx

from consul_access._async.carrier import AsyncCarrier
from consul_access._pairs.tasks import time_limit, within
from consul_access.call import Headers
from consul_access.errors import (
    AnswerTooLarge,
    ClientClosed,
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    InvalidSettings,
    PoolExhausted,
    TlsError,
)
from consul_access.models.address import Address, Target
from consul_access.wire import Broken, Limits, Request, RequestHeaders, WireAnswer

__all__ = ["AsyncCarrierTransport", "AsyncForeignCarrier", "AsyncForeignStream", "stock_transport"]

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
_WRITTEN_BY_US = frozenset({"host", "content-length", "transfer-encoding", "connection"})


class AsyncForeignCarrier:
    """Carries requests through an httpx transport.

    Args:
        transport: the transport; it is used unchanged, and closed with the client.
        max_bytes: how long the body of an answer may be on the wire.

    Raises:
        InvalidSettings: it is a transport of the other face.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, *, max_bytes: int) -> None:
        if not hasattr(transport, "handle_async_request"):
            raise InvalidSettings(
                f"transport= must be an httpx.AsyncBaseTransport here, not {type(transport).__name__}"
            )
        self._transport = transport
        self._max_bytes = max_bytes
        self._closed = False

    async def exchange(self, request: Request, limits: Limits) -> WireAnswer:
        """Sends the request and reads its answer.

        Raises:
            Broken: there is no complete answer within the limits; whatever the transport raised is its cause.
            ClientClosed: after `close()`.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        try:
            with time_limit(limits.deadline):
                return await self._exchange(request, limits)
        except (Broken, ClientClosed):
            raise
        except ConsulAccessError as error:
            raise Broken(error, sent=True) from error.__cause__
        except Exception as error:
            raise Broken(_translated(error), sent=not isinstance(error, _NOT_SENT)) from error

    async def open_stream(self, request: Request, limits: Limits) -> AsyncForeignStream:
        """Sends the request, and gives its answer when the headers have come.

        Raises:
            Broken: no headers came within the limits; whatever the transport raised is its cause.
            ClientClosed: after `close()`.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        wanted = _httpx_request(request, limits, per_read=limits.read)
        deadline = min(limits.deadline, time.monotonic() + limits.connect + limits.read)
        try:
            response = await within(
                deadline, lambda: self._transport.handle_async_request(wanted), late=lambda late: late.aclose()
            )
            return AsyncForeignStream(_unread(response))
        except Exception as error:
            raise Broken(_translated(error), sent=not isinstance(error, _NOT_SENT)) from error

    async def _exchange(self, request: Request, limits: Limits) -> WireAnswer:
        response = _unread(await self._transport.handle_async_request(_httpx_request(request, limits)))
        try:
            body = await self._body(response, limits)
        finally:
            await response.aclose()
        packing = response.headers.get("Content-Encoding", "").encode("latin-1")
        return WireAnswer(response.status_code, Headers(response.headers.raw), body, reusable=True, packing=packing)

    async def _body(self, response: httpx.Response, limits: Limits) -> bytes:
        if not hasattr(response.stream, "__aiter__"):
            raise TypeError(f"it answered with a {type(response.stream).__name__}, which belongs to the other face")
        pieces: list[bytes] = []
        size = 0
        stream = aiter(cast("AsyncIterable[bytes]", response.stream))
        try:
            async for piece in stream:
                size += len(piece)
                if size > self._max_bytes:
                    raise AnswerTooLarge(f"the answer's body exceeds {self._max_bytes} bytes")
                if time.monotonic() > limits.deadline:
                    raise DeadlineExceeded("the time for the whole call ran out while the answer came")
                pieces.append(piece)
        finally:
            if isinstance(stream, AsyncGenerator):  # left half-way, it is not closed by itself
                await stream.aclose()
        return b"".join(pieces)

    async def pin(self, target: Target, _limits: Limits) -> Target:
        """The same target: whom a foreign transport connects to is its own affair."""
        return target

    async def aclose(self) -> None:
        """Closes the transport."""
        self._closed = True
        await self._transport.aclose()


class AsyncForeignStream:
    """An answer of a foreign transport that goes on.

    Args:
        response: the answer, whose body was not read yet.
    """

    holds_messages = False
    """Its body is made of the gateway's lines."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._pieces = aiter(cast("AsyncIterable[bytes]", response.stream))

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status_code

    @property
    def headers(self) -> Headers:
        """The answer's headers."""
        return Headers(self._response.headers.raw)

    @property
    def is_whole(self) -> bool:
        """Whether it has come to its end before it was handed on."""
        return self._response.is_stream_consumed

    async def read(self, deadline: float) -> bytes:
        """The next bytes; none when the answer has come to its end.

        Raises:
            Broken: it failed, or nothing came until the deadline: what a transport was asked for once cannot be
                asked for again.
        """
        try:
            with time_limit(deadline):
                return await anext(self._pieces)
        except StopAsyncIteration:
            return b""
        except Exception as error:
            raise Broken(_translated(error), sent=True) from error

    def interrupt(self) -> None:
        """Nothing: only the transport itself could wake whoever waits in it."""

    async def aclose(self) -> None:
        """Ends it."""
        if isinstance(self._pieces, AsyncGenerator):
            await self._pieces.aclose()
        await self._response.aclose()


class AsyncCarrierTransport(httpx.AsyncBaseTransport):
    """Our carrier as an httpx transport: bounded in time and size, safe when cancelled and after a fork.

    Args:
        carrier: what carries.
        total: seconds for a whole exchange, whatever the request's own limits per operation are.
    """

    def __init__(self, carrier: AsyncCarrier, *, total: float = 10.0) -> None:
        self._carrier = carrier
        self._total = total

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends an httpx request; errors are those httpx itself would raise."""
        body = await request.aread()
        try:
            answer = await self._carrier.exchange(_own_request(request, body), _limits(request, self._total))
        except Broken as broken:
            raise _httpx_error(broken, request) from broken
        except ClientClosed as error:
            raise RuntimeError(str(error)) from error
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() != b"transfer-encoding"]
        return httpx.Response(answer.status, headers=headers, content=answer.body, request=request)

    async def aclose(self) -> None:
        """Closes the carrier's connections."""
        self._carrier.close()


def stock_transport(tls: Callable[[], ssl.SSLContext], target: Target) -> httpx.AsyncBaseTransport:
    """What httpx itself would send with; asked only when a test tool has replaced its inside."""
    return httpx.AsyncHTTPTransport(verify=tls() if target.tls else False, uds=target.unix_path, trust_env=False)


def _httpx_request(request: Request, limits: Limits, *, per_read: float | None = None) -> httpx.Request:
    target = request.target
    url = httpx.URL(
        scheme="https" if target.tls else "http",
        host=target.address.host or "localhost",
        port=target.address.port or None,
        raw_path=(target.prefix + request.path).encode("ascii"),
    )
    left = max(0.0, limits.deadline - time.monotonic())
    limit = {name: min(getattr(limits, name), left) for name in ("connect", "read", "write", "pool")}
    if per_read is not None:  # a stream goes on after the exchange's own deadline
        limit["read"] = per_read
    return httpx.Request(
        request.method, url, headers=request.headers.pairs, content=request.body, extensions={"timeout": limit}
    )


def _unread(response: httpx.Response) -> httpx.Response:
    """The response; another one if its transport has read it, for then its stream must not be read again."""
    if not response.is_stream_consumed or isinstance(response.stream, httpx.ByteStream):
        return response
    headers = [pair for pair in response.headers.raw if pair[0].lower() != b"content-encoding"]  # it is decoded, too
    return httpx.Response(response.status_code, headers=headers, content=response.content)


def _translated(error: Exception) -> ConsulAccessError:
    """What a transport's exception means; everything unknown is a lost connection."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, httpx.PoolTimeout):
        return PoolExhausted(f"the transport had no connection free ({text})")
    if _tls_cause(error):
        return TlsError(f"the transport could not agree on TLS ({text})")
    if isinstance(error, _NOT_SENT):
        return ConnectFailed(f"the transport could not connect ({text})")
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return DeadlineExceeded(f"the transport brought no answer in time ({text})")
    return ConnectionLost(f"the transport failed ({text})")


def _tls_cause(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _own_request(request: httpx.Request, body: bytes) -> Request:
    url = request.url
    tls = url.scheme == "https"
    headers = tuple((name, value) for name, value in request.headers.items() if name not in _WRITTEN_BY_US)
    if any("\r" in value or "\n" in value for _, value in headers):
        raise httpx.LocalProtocolError("a header's value holds a line break", request=request)
    target = Target(Address(url.host, url.port or (443 if tls else 80)), tls=tls)
    written = RequestHeaders(target, headers)
    return Request(request.method, target, url.raw_path.decode("ascii"), written, body or None)


def _limits(request: httpx.Request, total: float) -> Limits:
    given = request.extensions.get("timeout", {})
    limit = {
        name: total if (value := given.get(name)) is None else value for name in ("connect", "read", "write", "pool")
    }
    return Limits(**limit, deadline=time.monotonic() + total)


def _httpx_error(broken: Broken, request: httpx.Request) -> httpx.TransportError:
    text = str(broken.error)
    if isinstance(broken.error, DeadlineExceeded):
        return httpx.ReadTimeout(text, request=request)
    if isinstance(broken.error, ConnectFailed):
        return httpx.ConnectError(text, request=request)
    if isinstance(broken.error, PoolExhausted):
        return httpx.PoolTimeout(text, request=request)
    if isinstance(broken.error, ConnectionLost):
        return httpx.ReadError(text, request=request)
    return httpx.RemoteProtocolError(text, request=request)
