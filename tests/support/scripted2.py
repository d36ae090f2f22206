"""A registry that speaks HTTP/2 over TLS, well or badly: what it does with a request is a function of that.

Whoever does not agree on HTTP/2 is answered over HTTP/1.1, by the same function. Each connection has one thread, which
reads, calls `play`, and does what other threads have asked for (`later`).
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, PingReceived, RequestReceived, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.support.listening import Listening

BEAT = 0.005


class Asked:
    """One request, and the means to answer it in the thread of its connection."""

    def __init__(self, connection: Connection1, number: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.connection = connection
        self.number = number
        self.raw = list(headers)
        self.headers = {name.decode(): value.decode() for name, value in headers}
        url = urlsplit(self.headers[":path"])
        self.path, self.query = url.path, parse_qs(url.query, keep_blank_values=True)
        self.moment = time.monotonic()

    def answer(self, body: bytes = b"[]", status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        told = {"content-length": str(len(body)), **(headers or {})}
        self.connection.answer(self.number, status, told, body)

    def listed(self, *entries: Mapping[str, Any], index: object = 10) -> None:
        body = json.dumps(entries, separators=(",", ":")).encode()
        self.answer(body, headers={"x-consul-index": str(index)})


class Connection1:
    """One connection of a client that speaks HTTP/1.1."""

    protocol = "http/1.1"

    def __init__(self, server: Server2, sock: ssl.SSLSocket) -> None:
        self.server = server
        self.sock = sock
        self.open: dict[int, Asked] = {}
        self.is_ended = False
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._data = b""

    def later(self, task: Callable[[], None]) -> None:
        """Has something done in this connection's thread."""
        self._tasks.put(task)

    def hang_up(self) -> None:
        self.is_ended = True

    def answer(self, number: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} Something", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.sock.sendall("\r\n".join(lines).encode() + body)

    def serve(self) -> None:
        self.sock.settimeout(BEAT)
        while not self.is_ended and not self.server.ended.is_set():
            while not self._tasks.empty():
                self._tasks.get()()
            self.server.beat(self)
            with contextlib.suppress(TimeoutError):
                self._read()

    def _read(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._data += data
        if b"\r\n\r\n" not in self._data:
            return
        (first, *lines), self._data = self._data.split(b"\r\n"), b""
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines if line)]
        asked = self.open[1] = Asked(self, 1, [(b":path", first.split()[1]), *pairs])
        self.server.meet(asked)


class Connection2(Connection1):
    """One connection of a client that speaks HTTP/2."""

    protocol = "h2"

    def __init__(self, server: Server2, sock: ssl.SSLSocket) -> None:
        super().__init__(server, sock)
        self.machine = H2Connection(
            H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=True)
        )
        allowed = {SettingCodes.MAX_CONCURRENT_STREAMS: server.at_once}
        self.machine.local_settings = Settings(client=False, initial_values=allowed)
        self.resets: list[int] = []
        self.most = 0
        """So many requests were under way at once, at most."""
        self.is_frozen = False

    def begin(self, number: int, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.machine.send_headers(number, [(":status", str(status)), *(headers or {}).items()])

    def answer(self, number: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.begin(number, status, headers)
        for start in range(0, len(body) or 1, 16_000):
            self.machine.send_data(number, body[start : start + 16_000])
        self.machine.end_stream(number)

    def raw(self, data: bytes) -> None:
        """Bytes as they are, beside all rules."""
        self.flush()
        self.sock.sendall(data)

    def goaway(self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        self.raw(frame(7, 0, 0, struct.pack(">II", last, code)))

    def flush(self) -> None:
        data = self.machine.data_to_send()
        if data:
            self.sock.sendall(data)

    def serve(self) -> None:
        self.sock.settimeout(BEAT)
        self.machine.initiate_connection()
        self.server.greet(self)
        while not self.is_ended and not self.server.ended.is_set():
            while not self._tasks.empty():
                self._tasks.get()()
            self.server.beat(self)
            if self.is_frozen:
                time.sleep(BEAT)
                continue
            self.flush()
            with contextlib.suppress(TimeoutError):
                self._read()

    def _read(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        for event in self.machine.receive_data(data):
            match event:
                case RequestReceived():
                    asked = self.open[event.stream_id] = Asked(self, event.stream_id, event.headers)
                    self.most = max(self.most, self.machine.open_inbound_streams)
                    self.server.meet(asked)
                case StreamReset():
                    self.open.pop(event.stream_id, None)
                    self.resets.append(event.stream_id)
                case PingReceived():
                    self.server.pings += 1
                case ConnectionTerminated():
                    raise EOFError


Play: TypeAlias = Callable[[Asked], None]


class Server2(Listening):
    """The server; it lives as long as its block.

    Args:
        play: what to do with a request; the question who leads is answered before, unless `leader` is None.
        certificate: configures the server's TLS context.
        protocols: what it agrees on, the preferred first; none for no ALPN at all.
        at_once: so many requests a connection may carry, as it tells.
    """

    def __init__(
        self,
        play: Play,
        certificate: Callable[[ssl.SSLContext], object],
        *,
        protocols: Sequence[str] = ("h2", "http/1.1"),
        at_once: int = 250,
        leader: str | None = "127.0.0.1:8300",
    ) -> None:
        self.play = play
        self.greet: Callable[[Connection2], None] = lambda _: None
        self.at_once = at_once
        self.leader = leader
        self.requests: list[Asked] = []
        self.connections: list[Connection1] = []
        self.pings = 0
        self.failures: list[BaseException] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate(self._tls)
        if protocols:
            self._tls.set_alpn_protocols(list(protocols))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        self._listen(listener)
        self.url = f"https://127.0.0.1:{self.port}"

    @property
    def live(self) -> list[Any]:
        return [connection for connection in self.connections if not connection.is_ended]

    def agree_on(self, *protocols: str) -> None:
        """From now on it speaks these; all that were connected have to come again."""
        self._tls.set_alpn_protocols(list(protocols))
        for connection in self.live:
            connection.hang_up()

    @property
    def waiting(self) -> list[Asked]:
        """The requests under way."""
        return [asked for connection in self.live for asked in list(connection.open.values())]

    def meet(self, asked: Asked) -> None:
        self.requests.append(asked)
        if asked.path == "/v1/status/leader" and self.leader is not None:
            self.done(asked, lambda: asked.answer(json.dumps(self.leader).encode()))
        else:
            self.play(asked)

    def beat(self, connection: Connection1) -> None:
        """Now and then, in the thread of each connection."""

    def done(self, asked: Asked, answer: Callable[[], None]) -> None:
        """Answers, if that is still wanted."""
        if asked.connection.open.pop(asked.number, None) is not None:
            answer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        assert not self.failures, self.failures

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(5)
        try:
            secured = self._tls.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            return
        with secured:
            kind = Connection2 if secured.selected_alpn_protocol() == "h2" else Connection1
            connection = kind(self, secured)
            self.connections.append(connection)
            try:
                connection.serve()
            except (OSError, EOFError, ProtocolError):
                pass  # a client may go away at any moment
            except Exception as error:  # noqa: BLE001 - the test hears of it
                self.failures.append(error)
            finally:
                connection.is_ended = True


class BlockingRegistry2(Server2):
    """Behaves as an agent should: holds back an answer until its index has passed the one that is waited for."""

    def __init__(
        self, certificate: Callable[[ssl.SSLContext], object], *entries: Mapping[str, Any], **how: Any
    ) -> None:
        self._entries = entries
        self._index = 10
        super().__init__(self._asked, certificate, **how)

    def change(self, *entries: Mapping[str, Any]) -> None:
        """From now on it holds these, and tells whoever waits."""
        self._entries = entries
        self._index += 1
        for connection in self.live:
            connection.later(lambda connection=connection: self._tell(connection))

    def _tell(self, connection: Connection1) -> None:
        for asked in list(connection.open.values()):
            self._asked(asked)

    def beat(self, connection: Connection1) -> None:
        for asked in list(connection.open.values()):
            wait = float(asked.query.get("wait", ["600000ms"])[0].removesuffix("ms")) / 1000
            if time.monotonic() > asked.moment + wait:
                self._answer(asked)

    def _asked(self, asked: Asked) -> None:
        if int(asked.query.get("index", ["0"])[0]) < self._index:
            self._answer(asked)

    def _answer(self, asked: Asked) -> None:
        entries = [one for one in self._entries if one["Service"]["Service"] == asked.path.rpartition("/")[2]]
        self.done(asked, lambda: asked.listed(*entries, index=self._index))


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + payload
