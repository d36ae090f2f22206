"""Carries calls to etcd over gRPC, instead of its JSON gateway; to everything else both look the same.

For clusters whose gateway is off, or which know their users by the CommonName of their certificates, and for ranges of
thousands of keys, for which the gateway writes JSON. A call has a connection to itself for as long as it takes, as over
HTTP/1.1, and so the pool, its limits and what is told of errors are the same.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

from consul_access._async.carrier import AsyncCarrier, AsyncConnection, AsyncStream, speaks_2
from consul_access._pairs.sockets import CHUNK, waits
from consul_access.call import Headers, json_body
from consul_access.errors import BadAnswer, BadValue, ConsulAccessError, InvalidInput, TlsError
from consul_access.etcd.messages import (
    METHODS,
    TOLD,
    Method,
    as_json,
    decode,
    documents,
    encode,
    framed,
    http_status,
    messages_of,
)
from consul_access.models.address import Target
from consul_access.rules.liveness import is_answer_due
from consul_access.wire import Broken, Limits, Request, RequestHeaders, Streaming, WireAnswer
from consul_access.wire_grpc import CallReader, head_of

__all__ = ["AsyncGrpcCarrier"]

log = logging.getLogger("consul_access")

_TOKEN: Final = "token"  # noqa: S105 - its name, under which etcd looks for it
_SECRET: Final = frozenset({_TOKEN})
_METADATA: Final = "grpc-metadata-"
"""What the gateway takes away from the names of headers that it hands on."""
_UNKNOWN: Final = "there is no such call over gRPC here"
_NOT_AGREED: Final = (
    "client and server did not agree on HTTP/2, which gRPC needs (an ssl_context= that is given has to offer it: "
    "set_alpn_protocols(['h2']))"
)


class AsyncGrpcConnection(AsyncConnection):
    """One connection: makes a call and takes its answer, then the next."""

    __slots__ = ("_answered_at", "_heads", "_unsent", "calls")

    def __init__(self, sock: socket.socket, *, generation: int, max_bytes: int) -> None:
        super().__init__(sock, generation=generation, max_bytes=max_bytes)
        self.calls = CallReader(max_bytes)
        """Its calls, one after the other."""
        self._heads: dict[str, tuple[RequestHeaders, bytes]] = {}
        self._unsent: bytes | None = None
        self._answered_at = 0.0

    @property
    def begun(self) -> bool:
        """Whether something of the answer has come."""
        return self.calls.begun

    async def exchange(self, request: Request, limits: Limits) -> WireAnswer:
        """Sends the request and reads its answer."""
        method = METHODS.get(request.path)
        if method is None:
            return WireAnswer(501, Headers(), _refusal(12, _UNKNOWN), reusable=True, packing=b"")
        rest = self.send(request)
        while True:
            if rest:
                await self.send_rest(rest, limits)
            await self.arrive(self.take, limits)
            if self.calls.ended:
                break
            rest, self._unsent = self._unsent, None
        self.used = True
        return self._answer(method, request)

    def streaming(self, max_bytes: int) -> Streaming:  # noqa: ARG002 - the same as of other answers
        """What reads an answer that goes on."""
        return _Messages(self)

    def send(self, request: Request) -> bytes | None:
        """Writes what there is room for at once, which is all of most requests; gives the rest, if there is any."""
        method = _method(request)
        self.calls.ask(self._head(request, method), _messages(method, request.body), ends=not method.goes_on)
        now = time.monotonic()
        is_due = is_answer_due(now, self._answered_at)
        if is_due:
            self._answered_at = now
        return self.send_now(self._to_send(all_of_it=is_due))

    def take(self, data: bytes) -> bool:
        """Takes what has come; true once the answer is complete, or something has to be sent for which is no room."""
        ended = self.calls.feed(data)
        if self.calls.is_urgent and not ended:
            self._send_more()
        return ended or self._unsent is not None

    def take_on(self, data: bytes) -> bool:
        """The same for an answer that goes on: whatever the server waits for is sent at once."""
        ended = self.calls.feed(data)
        if self.calls.has_to_send and not ended:
            self._send_more()
        return ended

    def _send_more(self) -> None:
        try:
            self._unsent = self.send_now(self._to_send())
        except Broken as broken:
            broken.sent = True  # of a part of it, at least
            raise

    def is_at_end(self) -> bool:
        """Whether it is no good any more while it is idle. Servers may also ask for a sign of life: the next call."""
        try:
            while self.calls.is_idle and self.inlet.is_readable() and (data := self._arrived()) is not None:
                self.calls.feed(data)
        except (Broken, ConsulAccessError) as error:
            log.debug("an idle connection has ended: %s", error)
            return True
        return not self.calls.is_idle

    def _arrived(self) -> bytes | None:
        """What has arrived; None when TLS waits for more of it."""
        try:
            return self.sock.recv(CHUNK)
        except OSError as error:
            if waits(error, writing=False) is None:
                raise Broken(self.lost(error), sent=False, stale=True) from error
            return None

    def _to_send(self, *, all_of_it: bool = True) -> bytes:
        rest, self._unsent = self._unsent, None
        return (rest or b"") + self.calls.to_send(all_of_it=all_of_it)

    def _head(self, request: Request, method: Method) -> bytes:
        """The headers of a call, written once for many of them."""
        known = self._heads.get(method.path)
        if known is None or known[0] is not request.headers:
            head = head_of(request.target, method.path, _metadata(request.headers), _SECRET)
            known = self._heads[method.path] = (request.headers, head)
        return known[1]

    def _answer(self, method: Method, request: Request) -> WireAnswer:
        """The answer as the gateway would have given it."""
        calls = self.calls
        status, body, message = calls.status, b"", None
        if calls.is_foreign:
            body = calls.take()
        elif (outcome := calls.outcome())[0]:
            status, body = http_status(outcome[0]), _refusal(*outcome)
        elif request.takes_message and not method.many:
            (message,) = _decoded(method, calls.take())
        else:
            told = [as_json(method.answer, one) for one in _decoded(method, calls.take())]
            body = b"\n".join(json_body({"result": one} if method.many else one) for one in told)
        return WireAnswer(status, calls.headers, body, calls.is_idle, b"", self.remote_ip, message)


class _Messages:
    """An answer that goes on: gRPC's messages as they come, and behind them how it has ended.

    Args:
        connection: where it comes in.
    """

    __slots__ = ("_calls", "_connection", "_is_told")

    def __init__(self, connection: AsyncGrpcConnection) -> None:
        self._connection = connection
        self._calls = connection.calls
        self._is_told = False

    @property
    def status(self) -> int:
        """What the gateway's status would be; 0 until something has come."""
        calls = self._calls
        if not calls.is_refused or calls.is_foreign:
            return calls.status
        return http_status(calls.outcome()[0])

    @property
    def headers(self) -> Headers:
        """The answer's headers."""
        return self._calls.headers

    @property
    def begun(self) -> bool:
        """Whether something of the answer has come."""
        return self._calls.begun

    @property
    def ended(self) -> bool:
        """Whether the answer is complete."""
        return self._calls.ended

    @property
    def has_more(self) -> bool:
        """Whether something has come since the last time, or its end has, and was not told yet."""
        return self._calls.has_more or (self._calls.ended and not self._is_told)

    def expect(self, method: str) -> None:
        """Nothing: all calls are answered alike."""

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes, or with none of them the end of the connection; true once the answer is complete."""
        return self._connection.take_on(data)

    def take(self) -> bytes:
        """What has come since the last time."""
        calls, data = self._calls, self._calls.take()
        if not calls.ended or self._is_told or calls.is_foreign:
            return data
        self._is_told = True
        code, text = calls.outcome()
        if not code:
            return data
        if calls.is_refused:
            return _refusal(code, text)
        return data + framed(json_body({"error": {"code": code, "message": text}}), TOLD)


class AsyncGrpcStream(AsyncStream):
    """An answer that goes on, on a connection of its own."""

    __slots__ = ()

    holds_messages = True


class AsyncGrpcCarrier(AsyncCarrier):
    """Carries requests of etcd's gateway over gRPC, and answers as the gateway would."""

    _kind_of_connection = AsyncGrpcConnection
    _kind_of_stream = AsyncGrpcStream

    async def _open(self, target: Target, limits: Limits) -> AsyncConnection:
        sock = await self._reach(target, limits)
        if target.tls and not speaks_2(sock):
            sock.close()
            raise Broken(TlsError(_NOT_AGREED), sent=False)
        return self._made(sock)


def _method(request: Request) -> Method:
    method = METHODS.get(request.path)
    if method is None:
        raise InvalidInput(f"{request.path} is not carried over gRPC")
    return method


def _messages(method: Method, body: bytes | None) -> bytes:
    try:
        return b"".join(framed(encode(method.request, document)) for document in documents(body or b"{}"))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"the body is not what {method.name} takes: {error}") from error


def _metadata(headers: RequestHeaders) -> Iterator[tuple[str, str]]:
    """The headers that mean something to etcd, and our name."""
    for name, value in headers.pairs:
        folded = name.lower()
        if folded == "authorization":
            yield _TOKEN, value
        elif folded == "user-agent" or folded.startswith(_METADATA):
            yield folded.removeprefix(_METADATA), value


def _refusal(code: int, text: str) -> bytes:
    return json_body({"code": code, "message": text})


def _decoded(method: Method, data: bytes) -> list[dict[str, Any]]:
    messages, rest = messages_of(data, len(data))
    if rest or not messages or (len(messages) > 1 and not method.many):
        raise BadAnswer(f"{len(messages)} messages and {len(rest)} bytes came where one answer was awaited")
    try:
        return [decode(method.answer, message) for _, message in messages]
    except BadValue as error:
        raise BadAnswer(f"the answer cannot be read: {error}") from error
