"""HTTP/2 as far as gRPC needs it, as bytes: one call at a time on a connection, and nothing here waits.

h2 takes 250 µs of the processor's time for a call, as much as everything else together that a client of etcd does.
So the frames are read and written here, which takes a tenth of that; headers are still hpack's matter, but an answer's
are met again and again, and are looked up. The tests have h2 speak with it as a server.

Why one call at a time: whoever calls reads the answer himself, and nobody has to hand it on from a thread of its own.
https://httpwg.org/specs/rfc9113.html, https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import ClassVar, Final
from urllib.parse import unquote

from consul_access.call import Headers
from consul_access.errors import AnswerTooLarge, BadAnswer, ConnectionLost
from consul_access.models.address import Target
from consul_access.wire import MAX_HEADER_BYTES, Unprocessed

try:
    from hpack import Decoder, HPACKError
except ImportError as error:
    raise ImportError("hpack is not installed: pip install 'consul-access[http2]'", name=error.name) from error

__all__ = ["CallReader", "head_of"]

SURPLUS: Final = 10_000
"""So many frames may say nothing (settings, pings, empty data) until the answer goes on."""
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
_END_STREAM = _ACKNOWLEDGED = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_TABLE_SIZE, _ENABLE_PUSH, _WINDOW_SIZE, _FRAME_SIZE, _HEADER_LIST_SIZE = 1, 2, 4, 5, 6
_LARGEST_FRAME: Final = 16 * 1024
_LARGEST_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65_535
_LAST_NUMBER: Final = 2**31 - 3
_REFUSED_STREAM: Final = 7
_REMEMBERED: Final = 64
_SHORT: Final = 256
_HEAD: Final = struct.Struct(">IBI")
"""How a frame begins: its length and kind, its flags, and the number of its stream."""
_NUMBER: Final = struct.Struct(">I")
_CODES: Final = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED"),
    *("FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
    *("INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)


def _frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, number) + payload


def _settings() -> bytes:
    """Ours: no table of headers, so that an answer's headers are the same bytes each time, and no pushes.

    Windows are as large as they can be: what may come is bounded by the length of an answer, and by what is read.
    """
    ours = {
        _TABLE_SIZE: 0,
        _ENABLE_PUSH: 0,
        _WINDOW_SIZE: _LARGEST_WINDOW,
        _FRAME_SIZE: _LARGEST_FRAME,
        _HEADER_LIST_SIZE: MAX_HEADER_BYTES,
    }
    return _frame(_SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in ours.items()))


def head_of(target: Target, path: str, metadata: Iterable[tuple[str, str]], secret: frozenset[str]) -> bytes:
    """The headers of a call, in a form that no table remembers; secrets as what nobody on the way may remember either.

    Args:
        target: whom it goes to.
        path: what is called.
        metadata: further headers, their names in small letters.
        secret: names of headers that hold secrets (RFC 7541, section 7.1.3).
    """
    pairs = [
        (":method", "POST"),
        (":scheme", "https" if target.tls else "http"),
        (":path", f"{target.prefix}{path}"),
        (":authority", target.host_header),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    ]
    return b"".join(
        (b"\x10" if name in secret else b"\x00") + _text(name.encode("ascii")) + _text(value.encode("latin-1"))
        for name, value in pairs
    )


def _text(data: bytes) -> bytes:
    """A text of a header (RFC 7541, sections 5.1 and 5.2), not packed."""
    size = len(data)
    if size < 0x7F:
        return b"%c%b" % (size, data)
    found, size = bytearray(b"\x7f"), size - 0x7F
    while size > 0x7F:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found) + data


class CallReader:
    """One connection's calls, one after the other: what is to be sent, and the answer from what arrives.

    Args:
        limit: how many bytes an answer may have; of one that goes on, how many may wait to be taken.

    Whoever has the connection sends what `to_send` gives, after `ask` and whenever something has arrived.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decoder = Decoder(MAX_HEADER_BYTES)
        self._known: dict[bytes, tuple[int, Headers]] = {}
        self._well: Headers | None = None
        self._told = bytearray()
        self._unsent = bytearray(_PREFACE + _settings())
        self._unsent += _frame(_WINDOW, 0, 0, (_LARGEST_WINDOW - _FIRST_WINDOW).to_bytes(4, "big"))
        self._rest = b""
        self._greeted = False
        self._window = self._first_window = _FIRST_WINDOW
        self._stream_window = 0
        self._largest_frame = _LARGEST_FRAME
        self._taken = self._stream_taken = 0
        self._number = -1
        self._leaving = ""
        self._forget()

    def _forget(self) -> None:
        self._body = memoryview(b"")
        self._ends = False
        self._block = b""
        self._block_ends = self._in_block = False
        self._surplus = self._fed = self._size = 0
        self._waiting = bytearray()
        self.status = 0
        self.headers = Headers()
        self.trailers = Headers()
        self.ended = False

    # --- what is sent -------------------------------------------------------------------------------------

    def ask(self, head: bytes, body: bytes, *, ends: bool) -> None:
        """Begins a call; the one before has ended.

        Args:
            head: its headers, from `head_of`.
            body: its messages, framed.
            ends: whether nothing will follow.
        """
        self._forget()
        self._number += 2
        self._stream_window = self._first_window
        self._stream_taken = 0
        self._body, self._ends = memoryview(body), ends
        pieces = range(0, len(head), _LARGEST_FRAME)
        for at in pieces:
            flags = _END_HEADERS if at == pieces[-1] else 0
            kind = _CONTINUATION if at else _HEADERS
            self._unsent += _frame(kind, flags, self._number, head[at : at + _LARGEST_FRAME])
        self._pour()

    def _pour(self) -> None:
        """Writes as much of the body as the server has room for."""
        while self._body and (room := min(self._window, self._stream_window, self._largest_frame)) > 0:
            piece, self._body = bytes(self._body[:room]), self._body[room:]
            flags = _END_STREAM if self._ends and not self._body else 0
            self._unsent += _frame(_DATA, flags, self._number, piece)
            self._window -= len(piece)
            self._stream_window -= len(piece)

    def to_send(self, *, all_of_it: bool = True) -> bytes:
        """What is to be sent since the last time: the call and, behind it, what the server is told beside it.

        Args:
            all_of_it: also what can wait. A server of Go's measures how quick the way is with a ping for each call,
                unless the last one is not answered yet, and each of them wakes whoever waits for his answer.
        """
        data = bytes(self._unsent)
        self._unsent.clear()
        if all_of_it:
            data += self._told
            self._told.clear()
        return data

    @property
    def is_urgent(self) -> bool:
        """Whether there is something that the call is waiting for."""
        return bool(self._unsent)

    @property
    def has_to_send(self) -> bool:
        """Whether there is anything."""
        return bool(self._unsent or self._told)

    @property
    def is_idle(self) -> bool:
        """Whether the connection is good for another call."""
        is_under_way = self._number > 0 and not self.ended
        return not is_under_way and not self._body and not self._leaving and self._number < _LAST_NUMBER

    # --- what has come ------------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether something of the answer has come."""
        return self._fed > 0

    @property
    def has_more(self) -> bool:
        """Whether something of the body has come since the last time."""
        return bool(self._waiting)

    def take(self) -> bytes:
        """What has come of the body since the last time."""
        data, self._waiting = bytes(self._waiting), bytearray()
        self._size = 0
        return data

    def leave(self, why: str) -> None:
        """The connection is not used again."""
        self._leaving = self._leaving or why

    @property
    def is_refused(self) -> bool:
        """Whether nothing came but how the call has ended."""
        return self.ended and not self.trailers

    @property
    def is_foreign(self) -> bool:
        """Whether this answer is none of gRPC's, but perhaps of a proxy in between."""
        return self.status not in {0, 200} and "grpc-status" not in self.headers

    def outcome(self) -> tuple[int, str]:
        """How the call has ended: gRPC's code and text.

        Raises:
            BadAnswer: it does not say.
        """
        if self.trailers is self._well:  # as the last time, which most answers are
            return 0, ""
        told = self.trailers if "grpc-status" in self.trailers else self.headers
        code = told.get("grpc-status", "")
        if not code.isdigit():
            kind = self.headers.get("content-type", "nothing")
            raise BadAnswer(f"the answer, of status {self.status} and with {kind}, is none of gRPC's")
        text = unquote(told.get("grpc-message", ""))
        if told is self.trailers and int(code) == 0 and not text:
            self._well = told
        return int(code), text

    # --- what arrives -------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes, or with none of them the end of the connection; true once the answer is complete.

        Raises:
            ConnectionLost: the connection or the call came to its end before the answer did.
            Unprocessed: the server has not looked at the call.
            BadAnswer: this is not HTTP/2.
            AnswerTooLarge: the answer exceeds its limit, or its headers 64 KiB.
        """
        if not data:
            self._closed()
            return True
        data = self._rest + data if self._rest else data
        position, size = 0, len(data)
        while size - position >= _HEAD.size:
            mixed, flags, number = _HEAD.unpack_from(data, position)
            length, kind = mixed >> 8, mixed & 0xFF
            if length > _LARGEST_FRAME or not self._greeted:
                self._greet(data, length, kind, flags)
            begin, position = position, position + _HEAD.size + length
            if position > size:
                position = begin
                break
            self._take(kind, flags, number & _LARGEST_WINDOW, data[begin + _HEAD.size : position])
        self._rest = data[position:]
        return self.ended

    def _closed(self) -> None:
        if not self.ended:
            why = f" ({self._leaving})" if self._leaving else ""
            raise ConnectionLost(f"the server closed the connection {self._progress()}{why}")
        self.leave("the server closed the connection")

    def _progress(self) -> str:
        return "in the middle of its answer" if self._fed else "before it answered"

    def _greet(self, data: bytes, length: int, kind: int, flags: int) -> None:
        """Looks at the first frame, which has to hold settings, or at one that is too large."""
        if not self._greeted and (kind != _SETTINGS or flags & _ACKNOWLEDGED):
            spoken = "HTTP/1.1" if data.startswith(b"HTTP/1") else "something else"
            raise BadAnswer(f"the server speaks {spoken} here, and no gRPC")
        if length > _LARGEST_FRAME:
            raise BadAnswer(f"what came is not HTTP/2 (a frame of {length} bytes, where {_LARGEST_FRAME} are allowed)")
        self._greeted = True

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._surplus += 1
        if self._surplus > SURPLUS:
            raise BadAnswer(f"the server has sent {SURPLUS} frames that say nothing")
        if self._in_block and kind != _CONTINUATION:
            raise BadAnswer("what came is not HTTP/2 (headers that do not go on)")
        take = self._takers.get(kind)
        if take is None:  # what is not known is to be ignored (RFC 9113, section 4.1)
            return
        try:
            take(self, flags, number, payload)
        except (IndexError, struct.error) as error:
            raise BadAnswer("what came is not HTTP/2 (a frame that is too short)") from error

    def _is_ours(self, number: int) -> bool:
        return number == self._number and not self.ended

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > _LARGEST_WINDOW // 2:
            self._told += _frame(_WINDOW, 0, 0, self._taken.to_bytes(4, "big"))
            self._taken = 0
        if not self._is_ours(number):
            return
        self._stream_taken += len(payload)
        if self._stream_taken > _LARGEST_WINDOW // 2:
            self._told += _frame(_WINDOW, 0, number, self._stream_taken.to_bytes(4, "big"))
            self._stream_taken = 0
        if flags & _PADDED:
            payload = _without_padding(payload)
        if payload:
            if not self.status:
                raise BadAnswer("what came is not HTTP/2 (a body before its headers)")
            self._goes_on(len(payload))
            self._size += len(payload)
            if self._size > self._limit:
                raise AnswerTooLarge(f"the answer exceeds {self._limit} bytes")
            self._waiting += payload
        if flags & _END_STREAM:
            self.ended = True

    def _goes_on(self, size: int) -> None:
        self._fed += size
        self._surplus = 0

    def _take_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & _PADDED:
            payload = _without_padding(payload)
        self._block = payload[5:] if flags & _PRIORITY else payload
        self._block_ends = bool(flags & _END_STREAM)
        self._go_on_with_headers(flags, number)

    def _take_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if not self._in_block:
            raise BadAnswer("what came is not HTTP/2 (a continuation of nothing)")
        self._block += payload
        self._go_on_with_headers(flags, number)

    def _go_on_with_headers(self, flags: int, number: int) -> None:
        if len(self._block) > MAX_HEADER_BYTES:
            raise AnswerTooLarge(f"the answer's headers exceed {MAX_HEADER_BYTES} bytes")
        self._in_block = not flags & _END_HEADERS
        if self._in_block:
            return
        status, headers = self._known.get(self._block) or self._decoded(self._block)
        if self._is_ours(number):
            self._hear(status, headers)

    def _decoded(self, block: bytes) -> tuple[int, Headers]:
        """The status and the headers of a block."""
        try:
            pairs = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except (HPACKError, UnicodeError) as error:
            raise BadAnswer(f"what came is not HTTP/2 (headers: {error})") from error
        status = next((value for name, value in pairs if name == b":status"), b"0")
        if not status.isdigit() or len(status) > 3:
            raise BadAnswer("what came is not HTTP/2 (a status that is none)")
        found = int(status), Headers([pair for pair in pairs if not pair[0].startswith(b":")])
        if self._decoder.header_table_size == 0 and len(block) <= _SHORT:  # it means the same the next time
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = found
        return found

    def _hear(self, status: int, headers: Headers) -> None:
        self._goes_on(1)
        if self.status:
            self.trailers = headers
        elif not status:
            raise BadAnswer("what came is not HTTP/2 (an answer without a status)")
        elif status < 200:  # the answer proper is still to come
            return
        else:
            self.status, self.headers = status, headers
        if self._block_ends:
            self.ended = True

    def _take_window(self, _flags: int, number: int, payload: bytes) -> None:
        more = _NUMBER.unpack(payload)[0] & _LARGEST_WINDOW
        if number == 0:
            self._window += more
        elif number == self._number:
            self._stream_window += more
        if self._body:
            self._pour()

    def _take_settings(self, flags: int, _number: int, payload: bytes) -> None:
        if flags & _ACKNOWLEDGED:
            return
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _WINDOW_SIZE:
                self._stream_window += value - self._first_window
                self._first_window = value
            elif name == _FRAME_SIZE:
                self._largest_frame = max(_LARGEST_FRAME, min(value, 2**24 - 1))
        self._told += _frame(_SETTINGS, _ACKNOWLEDGED, 0)
        self._pour()

    def _take_ping(self, flags: int, _number: int, payload: bytes) -> None:
        if not flags & _ACKNOWLEDGED:
            self._told += _frame(_PING, _ACKNOWLEDGED, 0, payload[:8])

    def _take_push(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise BadAnswer("what came is not HTTP/2 (a push, which was not allowed)")

    def _take_reset(self, _flags: int, number: int, payload: bytes) -> None:
        (code,) = _NUMBER.unpack(payload)
        if not self._is_ours(number):
            return
        if code == _REFUSED_STREAM:
            raise _unprocessed("the server refused the call for now, without looking at it")
        raise ConnectionLost(f"the server gave the call up {self._progress()} ({_name(code)})")

    def _take_goaway(self, _flags: int, _number: int, payload: bytes) -> None:
        last, code = struct.unpack_from(">II", payload)
        said = payload[8:108].decode("utf-8", "replace")
        self.leave(f"the server takes no further calls on this connection: {_name(code)} {said}".strip())
        if last & _LARGEST_WINDOW < self._number and not self.ended:
            raise _unprocessed(self._leaving)

    _takers: ClassVar[dict[int, Callable[[CallReader, int, int, bytes], None]]] = {
        _DATA: _take_data,
        _HEADERS: _take_headers,
        _CONTINUATION: _take_continuation,
        _WINDOW: _take_window,
        _SETTINGS: _take_settings,
        _PING: _take_ping,
        _PUSH: _take_push,
        _RESET: _take_reset,
        _GOAWAY: _take_goaway,
    }


def _unprocessed(reason: str) -> Unprocessed:
    return Unprocessed(ConnectionLost(reason), sent=False, stale=True)


def _without_padding(payload: bytes) -> bytes:
    padding = payload[0]
    if padding >= len(payload):
        raise BadAnswer("what came is not HTTP/2 (more padding than there is)")
    return payload[1 : len(payload) - padding]


def _name(code: int) -> str:
    return _CODES[code] if code < len(_CODES) else f"code {code}"
