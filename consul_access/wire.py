"""HTTP/1.1 as bytes: writes one request, reads one answer, and never waits.

The parser is llhttp (by way of httptools). What is added here is suspicion: an answer has an end to its headers and
its body, on the wire and unpacked, and nothing may follow it on the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import httptools

from consul_access.call import Headers
from consul_access.errors import AnswerTooLarge, BadAnswer, ConnectionLost, ConsulAccessError
from consul_access.models.address import Target

__all__ = [
    "MAX_HEADER_BYTES",
    "AnswerReader",
    "Broken",
    "Limits",
    "Request",
    "StreamReader",
    "Streaming",
    "Unprocessed",
    "WireAnswer",
    "unpack",
]

MAX_HEADER_BYTES: Final = 64 * 1024
_BODILESS: Final = frozenset({204, 304})
_CHUNK_FRAME: Final = 16
"""What a chunk costs on the wire at most: its length in hexadecimal, and two line breaks."""
_UNPACK_STEP: Final = 64 * 1024
_PACKED_STEP: Final = 4 * 1024
"""zlib copies what it leaves of its input, so it is given little at a time."""


class RequestHeaders:
    """The headers of requests to one target, written once for many of them.

    Args:
        target: whom they go to.
        pairs: name and value; `Host` and `Content-Length` are not among them.
        token: the token that is among them, if any.
    """

    __slots__ = ("pairs", "text", "token")

    def __init__(self, target: Target, pairs: tuple[tuple[str, str], ...], token: str | None = None) -> None:
        self.pairs = pairs
        self.token = token
        self.text = "".join(f"{name}: {value}\r\n" for name, value in (("Host", target.host_header), *pairs))


class Request(NamedTuple):
    """One request, addressed and ready to be written by any carrier.

    Args:
        method: GET, PUT, ...
        target: whom it goes to.
        path: path and query, without the target's prefix.
        headers: all but `Content-Length`.
        body: the bytes to send, or None.
        repeated: whoever sends it sends it again, at once, should the connection turn out to be gone.
        arrived: may be told of the complete answer before anybody else has his turn; it waits for nothing.
        takes_message: whether the answer's `message` will do, where there is one, and no body is needed.
    """

    method: str
    target: Target
    path: str
    headers: RequestHeaders
    body: bytes | None = None
    repeated: bool = False
    arrived: Callable[[WireAnswer], None] | None = None
    takes_message: bool = False

    @property
    def is_brief(self) -> bool:
        """Whether it is answered at once: whoever waits for news wants to be told as it arrives."""
        return self.arrived is None

    def render(self) -> bytes:
        """Head and body in one piece, so that a request is one write."""
        line = f"{self.method} {self.target.prefix}{self.path} HTTP/1.1\r\n"
        if self.body is None:
            return f"{line}{self.headers.text}\r\n".encode("latin-1")
        return f"{line}{self.headers.text}Content-Length: {len(self.body)}\r\n\r\n".encode("latin-1") + self.body


class WireAnswer(NamedTuple):
    """An answer as it came over the wire, still packed.

    Args:
        status: the HTTP status.
        headers: as they came.
        body: as it came.
        reusable: whether the connection is good for another request.
        packing: what the header `Content-Encoding` says; empty without one.
        remote_ip: the IP address of the other end, if it is known.
        message: what the body's JSON would be parsed to, from a carrier that speaks something else than JSON.
    """

    status: int
    headers: Headers
    body: bytes
    reusable: bool
    packing: bytes
    remote_ip: str | None = None
    message: dict[str, Any] | None = None


class Limits(NamedTuple):
    """How long one exchange may take.

    Args:
        connect: seconds for a connection to be made, name look-up and TLS included.
        read: seconds of silence while an answer is awaited or arriving.
        write: seconds for the request to be taken.
        pool: seconds to wait for one of the client's own connections to come free.
        deadline: the moment (`time.monotonic()`) at which all of it ends.
    """

    connect: float
    read: float
    write: float
    pool: float
    deadline: float


class Broken(Exception):
    """An exchange that brought no answer.

    Args:
        error: what to tell the caller.
        sent: whether the server may hold the whole request.
        stale: whether the connection had been used before, so that a new one is worth trying at once.
    """

    def __init__(self, error: ConsulAccessError, *, sent: bool, stale: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.sent = sent
        self.stale = stale


class Unprocessed(Broken):
    """The server says that it has not looked at the request: it may be sent again, at once, over another connection."""


class AnswerReader:
    """Reads the answers of one connection, one after the other.

    Args:
        limit: how many bytes a body may have on the wire.
    """

    __slots__ = (
        "_body",
        "_complete",
        "_error",
        "_fed",
        "_headers",
        "_headers_done",
        "_keep_alive",
        "_known",
        "_limit",
        "_method",
        "_parser",
        "_pieces",
        "_size",
        "_status",
        "_surplus",
        "_until_eof",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parser = httptools.HttpResponseParser(self)
        self.expect("GET")

    def expect(self, method: str) -> None:
        """Makes ready for the answer to a request of this method."""
        self._method = method
        self._headers: list[tuple[bytes, bytes]] = []
        self._known: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._status = self._size = self._pieces = self._fed = 0
        self._headers_done = self._complete = False
        self._until_eof = self._surplus = self._keep_alive = False
        self._error: BadAnswer | None = None

    @property
    def begun(self) -> bool:
        """Whether a first byte has come."""
        return self._fed > 0

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes, or with none of them the end of the connection; true once the answer is complete.

        Raises:
            ConnectionLost: the end came before that of the answer.
            BadAnswer: this is not HTTP/1.1.
            AnswerTooLarge: the headers (or what comes after the last chunk) exceed 64 KiB, or the body its limit.
        """
        if not data:
            self.feed_eof()
            return True
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise BadAnswer("the server switched to another protocol") from error
        except httptools.HttpParserError as error:
            if not self._complete:
                raise BadAnswer(f"the answer is not HTTP/1.1 ({error})", excerpt=_excerpt(data)) from error
            self._surplus = True  # the answer stands; what came after it condemns the connection
        if self._error is not None:
            raise self._error
        if not self._complete and self._frame() > MAX_HEADER_BYTES:
            raise AnswerTooLarge(f"the answer's headers exceed {MAX_HEADER_BYTES} bytes")
        return self._complete

    def _frame(self) -> int:
        """How many bytes came that are not the body's: headers, trailers, whatever chunks carry beside it."""
        return self._fed - self._size - _CHUNK_FRAME * self._pieces

    def feed_eof(self) -> None:
        """Takes the end of the connection, which ends an answer that states no length.

        Raises:
            ConnectionLost: the answer had not ended.
        """
        if self._until_eof:
            self._complete = True
        if not self._complete:
            raise ConnectionLost("the server closed the connection " + self._progress())

    def _progress(self) -> str:
        if not self._fed:
            return "before it answered"
        return f"in the middle of its answer, after {self._size} bytes of the body"

    def answer(self, remote_ip: str | None) -> WireAnswer:
        """The complete answer."""
        reusable = self._keep_alive and not self._surplus and not self._until_eof
        return WireAnswer(
            self._status,
            Headers(self._headers),
            bytes(self._body),
            reusable,
            self._known.get(b"content-encoding", b""),
            remote_ip,
        )

    # What the parser calls. An exception in here would reach the caller in disguise, hence `_error`.

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_done:  # trailers are none of the headers
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._headers_done, self._status = True, status  # by the end, the parser may be reading something else
        # Backwards: of several values the first counts.
        self._known = {name.lower(): value for name, value in reversed(self._headers)}
        length = self._known.get(b"content-length")
        if self._method == "HEAD":
            self._complete = True
        elif length is not None:
            if length.isdigit() and int(length) > self._limit:
                self._refuse()
        elif status not in _BODILESS and b"transfer-encoding" not in self._known:
            self._until_eof = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._size += len(data)
        if self._size > self._limit:
            self._refuse()
        elif self._error is None:
            self._pieces += 1
            if self._pieces == 1:
                self._body = data  # most answers come in one piece
            else:
                self._join(data)

    def _join(self, data: bytes) -> None:
        """Joined at once: a million pieces weigh more than their sum."""
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += data

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if not self._headers_done:  # 100 Continue and its kin: the answer proper is still to come
            self._headers.clear()
            return
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()  # the parser knows it at this moment only

    def _refuse(self) -> None:
        self._body = b""
        self._error = AnswerTooLarge(f"the answer's body exceeds {self._limit} bytes")


class Streaming(Protocol):
    """Reads one answer that goes on for as long as both sides like; see `StreamReader`."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def begun(self) -> bool: ...

    @property
    def ended(self) -> bool: ...

    @property
    def has_more(self) -> bool: ...

    def expect(self, method: str) -> None: ...

    def feed(self, data: bytes) -> bool: ...

    def take(self) -> bytes: ...


class StreamReader(AnswerReader):
    """Reads one answer that goes on for as long as both sides like, and gives its body out in pieces.

    Args:
        limit: how many bytes may wait to be taken.
    """

    __slots__ = ("_waiting",)

    def expect(self, method: str) -> None:
        """Makes ready for the answer to a request of this method."""
        super().expect(method)
        self._waiting = bytearray()

    @property
    def status(self) -> int:
        """The HTTP status; 0 until the headers are complete."""
        return self._status

    @property
    def headers(self) -> Headers:
        """The answer's headers."""
        return Headers(self._headers)

    @property
    def ended(self) -> bool:
        """Whether the answer is complete."""
        return self._complete

    @property
    def has_more(self) -> bool:
        """Whether something of the body has come since the last time."""
        return bool(self._waiting)

    def take(self) -> bytes:
        """What has come of the body since the last time."""
        data, self._waiting = bytes(self._waiting), bytearray()
        return data

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._size += len(data)
        self._pieces += 1
        self._waiting += data
        if len(self._waiting) > self._limit:
            self._refuse()


def unpack(answer: WireAnswer, limit: int) -> bytes:
    """The body as it was before `Content-Encoding`.

    Args:
        answer: what came over the wire.
        limit: how many bytes the unpacked body may have.

    Raises:
        AnswerTooLarge: it unpacks to more (a zip bomb stops here, at the limit).
        BadAnswer: it is damaged, or packed in a way that was not asked for.
    """
    if not answer.packing or not answer.body:
        return answer.body
    import zlib  # what comes from this machine is not packed

    encoding = answer.packing.decode("latin-1").strip().lower()
    if encoding in {"", "identity"}:
        return answer.body
    if encoding not in {"gzip", "x-gzip"}:
        raise BadAnswer(f"the answer is packed as {encoding!r}, which was not asked for", status=answer.status)
    try:
        return _gunzip(answer.body, limit)
    except zlib.error as error:
        raise BadAnswer(f"the answer's gzip data is damaged ({error})", status=answer.status) from error


def _gunzip(data: bytes, limit: int) -> bytes:
    import zlib

    pieces: list[bytes] = []
    size = taken = 0
    rest = b""
    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    while rest or taken < len(data):
        if not rest:
            rest = data[taken : taken + _PACKED_STEP]
            taken += _PACKED_STEP
        if member.eof:
            member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        piece = member.decompress(rest, _UNPACK_STEP)
        rest = member.unused_data if member.eof else member.unconsumed_tail
        size += len(piece)
        if size > limit:
            raise AnswerTooLarge(f"the answer unpacks to more than {limit} bytes")
        pieces.append(piece)
    if not member.eof:
        raise zlib.error("it ends too early")
    return b"".join(pieces)


def _excerpt(data: bytes) -> str:
    return " ".join(data[:800].decode("utf-8", "replace").split())
