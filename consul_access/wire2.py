"""HTTP/2 as bytes: many questions on one connection, each answered when its time comes, and never a wait.

The state machine is h2's. What is added here is suspicion, as in `consul_access.wire`: there is an end to the headers
and the body of an answer, to all bodies of a connection together, and to frames that say nothing. And patience: h2
takes a GOAWAY for the end of everything, whereas a server says with it that it answers what it has taken on, and
nothing more. So frames are told apart here, and h2 does not see that one (RFC 9113, 6.8).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from consul_access.call import Headers
from consul_access.errors import AnswerTooLarge, BadAnswer, ConnectionLost, ConsulAccessError, InvalidInput
from consul_access.wire import MAX_HEADER_BYTES, Broken, Request, Unprocessed, WireAnswer

try:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.errors import ErrorCodes
    from h2.events import (
        DataReceived,
        Event,
        RemoteSettingsChanged,
        ResponseReceived,
        StreamEnded,
        StreamReset,
    )
    from h2.exceptions import StreamClosedError
    from h2.settings import SettingCodes, Settings
    from hpack import HeaderTuple, NeverIndexedHeaderTuple
except ImportError as error:
    raise ImportError("h2 is not installed: pip install 'consul-access[http2]'", name=error.name) from error

__all__ = ["Conversation", "Ending"]

MOST_AT_ONCE: Final = 200
"""Agents take 250 at once on a connection (Go's default), and count one that was given up for a moment longer."""
RESERVE: Final = 10
"""So many more may be for what is answered at once, such as who leads: no connection has to be made for that."""
SURPLUS: Final = 10_000
"""So many frames may say nothing (settings, pings, empty data) until an answer has come to its end."""
TOGETHER: Final = 4
"""What has come of all unfinished answers may be so many times as long as one of them may be."""
_WINDOW: Final = 1024 * 1024
_FRAME_HEAD: Final = 9
_FRAME_BODY: Final = 16 * 1024
_SETTINGS, _GOAWAY = 4, 7
_ACKNOWLEDGED: Final = 1
_LAST_NUMBER: Final = 2**31 - 1
_SECRET: Final = frozenset({"x-consul-token", "authorization"})


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request came to its end.

    Args:
        number: which one.
        answer: its answer, when there is one.
        broken: what happened instead.
    """

    number: int
    answer: WireAnswer | None = None
    broken: Broken | None = None


class _Answer:
    """What has come of one answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    @property
    def progress(self) -> str:
        if not self.status:
            return "before it answered"
        return f"in the middle of its answer, after {len(self.body)} bytes of the body"


class _Machine(H2Connection):
    MAX_CLOSED_STREAMS = 1000  # it remembers each of them, and late frames come within a moment

    @property
    def open_outbound_streams(self) -> int:
        """None: whoever asks has counted already, and h2 would go through all of them for every request.

        It removes those that have ended on the way, so from time to time it has to.
        """
        return super().open_outbound_streams if len(self.streams) > 2 * MOST_AT_ONCE else 0


class Conversation:
    """One connection's requests and answers.

    Args:
        limit: how many bytes a body may have on the wire.
        remote_ip: the other side's address, which answers tell.

    Whoever has the connection sends what `to_send` gives after each call of another method.
    """

    def __init__(self, limit: int, remote_ip: str | None = None) -> None:
        self._limit = limit
        self._remote_ip = remote_ip
        self._machine = _Machine(_configuration())
        self._machine.local_settings = Settings(client=True, initial_values=_settings())
        self._machine.initiate_connection()
        self._machine.increment_flow_control_window(_WINDOW * 16)
        self._answers: dict[int, _Answer] = {}
        self._brief: set[int] = set()
        self._endings: list[Ending] = []
        self._rest = b""
        self._held = self._surplus = 0
        self._greeted = False
        self.is_ready = False
        """Whether the server has begun to speak, so that its limits are known."""
        self.leaving = ""
        """Why the server takes no further requests; empty as long as it does."""
        self.failure: ConsulAccessError | None = None
        """What has ended it all."""
        self.heard: set[int] = set()
        """The requests of which something came with the last bytes."""

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""
        return min(MOST_AT_ONCE, self._machine.remote_settings.max_concurrent_streams)

    @property
    def free(self) -> int:
        """How many further requests may be sent now."""
        return self._room(MOST_AT_ONCE + len(self._brief))

    @property
    def spare(self) -> int:
        """The same, for what is answered at once."""
        return self._room(MOST_AT_ONCE + RESERVE)

    def _room(self, most: int) -> int:
        if not self.is_ready or self.leaving or self.failure is not None:
            return 0
        return max(0, min(most, self._machine.remote_settings.max_concurrent_streams) - len(self._answers))

    def has_begun(self, number: int) -> bool:
        """Whether something of this answer has come."""
        answer = self._answers.get(number)
        return answer is not None and answer.status > 0

    # --- what is sent -------------------------------------------------------------------------------------

    def to_send(self) -> bytes:
        """What is to be sent since the last time."""
        return self._machine.data_to_send()

    def ask(self, request: Request) -> int:
        """Begins a request, if there is one `free`; its number.

        Raises:
            InvalidInput: it has a body; only questions are asked here.
        """
        if request.body is not None:
            raise InvalidInput(f"{request.method} with a body cannot be sent over HTTP/2 here")
        number = self._machine.get_next_available_stream_id()
        self._machine.send_headers(number, _headers(request), end_stream=True)
        self._answers[number] = _Answer()
        if request.is_brief:
            self._brief.add(number)
        if number + 2 > _LAST_NUMBER:
            self.leaving = "the connection has run out of numbers"
        return number

    def drop(self, number: int) -> None:
        """The answer is no longer wanted."""
        if self._forget(number) is None:
            return
        with contextlib.suppress(StreamClosedError):  # its last byte may have come with what is refused
            self._machine.reset_stream(number, ErrorCodes.CANCEL)

    def ping(self) -> None:
        """Has the server give a sign of life."""
        if self.failure is None:
            self._machine.ping(b"\0consul?")

    # --- what arrives -------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[Ending]:
        """Takes the next bytes, or with none of them the end of the connection; what ended with them.

        It never raises: whatever the server does wrong is the end of an answer, or of all (`failure`).
        """
        self.heard = set()
        if self.failure is not None:
            return []
        if not data:
            return self.fail(None)
        try:
            self._take(data)
        except ConsulAccessError as error:
            return self.fail(error)
        except Exception as error:  # noqa: BLE001 - h2 promises its own errors, and nobody can promise that for it
            return self.fail(BadAnswer(f"what came is not HTTP/2 ({str(error) or type(error).__name__})"))
        return self._ended()

    def fail(self, error: ConsulAccessError | None) -> list[Ending]:
        """It is over, for all; what ended with it.

        Args:
            error: why; None when the server has closed the connection.
        """
        if self.failure is not None:
            return []
        why = f" ({self.leaving})" if self.leaving else ""
        self.failure = error or ConnectionLost(f"the server closed the connection{why}")
        for number, answer in self._answers.items():
            own = ConnectionLost(f"the server closed the connection {answer.progress}{why}")
            broken = Broken(own if error is None else copy.copy(error), sent=True)
            self._endings.append(Ending(number, broken=broken))
        self._answers.clear()
        return self._ended()

    def _ended(self) -> list[Ending]:
        ended, self._endings = self._endings, []
        return ended

    def _take(self, data: bytes) -> None:
        """Hands whole frames over to h2, but those that announce the end of the connection."""
        data = self._rest + data
        begin = end = 0
        while (frame := self._whole(data, end)) is not None:
            kind, after = frame
            if kind == _GOAWAY:
                self._hear(data[begin:end])
                self._told_to_leave(data[end + _FRAME_HEAD : after])
                begin = after
            end = after
        self._hear(data[begin:end])
        self._rest = data[end:]

    def _whole(self, data: bytes, at: int) -> tuple[int, int] | None:
        """The kind of the frame that begins there, and where it ends, if all of it has come."""
        if len(data) - at < _FRAME_HEAD:
            return None
        size, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
        if not self._greeted and (kind != _SETTINGS or flags & _ACKNOWLEDGED):
            raise BadAnswer("the server chose HTTP/2 and speaks something else")
        if size > _FRAME_BODY:
            raise BadAnswer(f"what came is not HTTP/2 (a frame of {size} bytes, where {_FRAME_BODY} are allowed)")
        after = at + _FRAME_HEAD + size
        if len(data) < after:
            return None
        self._greeted = True
        self._surplus += 1
        if self._surplus > SURPLUS:
            raise BadAnswer(f"the server has sent {SURPLUS} frames that say nothing")
        return kind, after

    def _hear(self, frames: bytes) -> None:
        for event in self._machine.receive_data(frames) if frames else ():
            self._happened(event)

    def _happened(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                self._begun(event.stream_id, event.headers)
            case DataReceived():
                self._machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._more(event.stream_id, event.data)
            case StreamEnded():
                self._complete(event.stream_id)
            case StreamReset():
                self._given_up(event.stream_id, event.error_code)
            case RemoteSettingsChanged():
                self.is_ready = True

    def _begun(self, number: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        answer = self._answers.get(number)
        if answer is None:
            return
        self._says_something(number)
        for name, value in headers:
            if name == b":status":
                answer.status = int(value)
            else:  # as Go writes them over HTTP/1.1, so that an answer looks the same whichever way it came
                answer.headers.append((bytes(name).title(), bytes(value)))
        length = next((value for name, value in answer.headers if name == b"Content-Length"), b"")
        if length.isdigit() and int(length) > self._limit:
            self._refuse(number, f"the answer's body exceeds {self._limit} bytes")

    def _more(self, number: int, data: bytes) -> None:
        answer = self._answers.get(number)
        if answer is None or not data:
            return
        self._says_something(number)
        answer.body += data
        self._held += len(data)
        if len(answer.body) > self._limit:
            self._refuse(number, f"the answer's body exceeds {self._limit} bytes")
        elif self._held > TOGETHER * self._limit:
            self._refuse(number, f"the answers on one connection exceed {TOGETHER * self._limit} bytes together")

    def _says_something(self, number: int) -> None:
        self.heard.add(number)
        self._surplus -= 1

    def _complete(self, number: int) -> None:
        answer = self._forget(number)
        if answer is None:
            return
        self._surplus = 0
        headers, body = Headers(answer.headers), bytes(answer.body)
        packing = headers.get("content-encoding", "").encode("latin-1")
        whole = WireAnswer(answer.status, headers, body, True, packing, self._remote_ip)
        self._endings.append(Ending(number, whole))

    def _given_up(self, number: int, code: ErrorCodes | int | None) -> None:
        answer = self._forget(number)
        if answer is None:
            return
        if code == ErrorCodes.REFUSED_STREAM:
            self._unprocessed(number, "the server refused the request for now, without looking at it")
            return
        lost = ConnectionLost(f"the server gave the request up {answer.progress} ({_name(code or 0)})")
        self._endings.append(Ending(number, broken=Broken(lost, sent=True)))

    def _refuse(self, number: int, reason: str) -> None:
        self.drop(number)
        self._endings.append(Ending(number, broken=Broken(AnswerTooLarge(reason), sent=True)))

    def _unprocessed(self, number: int, reason: str) -> None:
        broken = Unprocessed(ConnectionLost(reason), sent=False, stale=True)
        self._endings.append(Ending(number, broken=broken))

    def _told_to_leave(self, payload: bytes) -> None:
        if len(payload) < 8:
            raise BadAnswer("what came is not HTTP/2 (a GOAWAY that is too short)")
        last = int.from_bytes(payload[:4], "big") & _LAST_NUMBER
        code = _name(int.from_bytes(payload[4:8], "big"))
        self.leaving = f"the server takes no further requests on this connection: {code}"
        for number in [number for number in self._answers if number > last]:
            self._forget(number)
            self._unprocessed(number, self.leaving)

    def _forget(self, number: int) -> _Answer | None:
        self._brief.discard(number)
        answer = self._answers.pop(number, None)
        if answer is not None:
            self._held -= len(answer.body)
        return answer


def _configuration() -> H2Configuration:
    """What we send was looked at when it was made: by `Call`, the settings and the tokens."""
    return H2Configuration(
        client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )


def _settings() -> dict[SettingCodes, int]:
    return {
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
        SettingCodes.MAX_FRAME_SIZE: _FRAME_BODY,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
    }


def _headers(request: Request) -> list[HeaderTuple]:
    """Secrets are marked as never to be kept in a table, neither here nor by anybody on the way (RFC 7541, 7.1.3).

    Paths are, too: each is another one, and would drive out of the table what is sent every time.
    """
    target = request.target
    found = [
        HeaderTuple(":method", request.method),
        HeaderTuple(":scheme", "https"),
        HeaderTuple(":authority", target.host_header),
        NeverIndexedHeaderTuple(":path", f"{target.prefix}{request.path}"),
    ]
    for name, value in request.headers.pairs:
        kind = NeverIndexedHeaderTuple if name.lower() in _SECRET else HeaderTuple
        found.append(kind(name.lower(), value))
    return found


def _name(code: int) -> str:
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"code {code}"
