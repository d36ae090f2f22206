"""A fake on a port: HTTP/1.1 with connections that stay, a thread for each of them."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import struct
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, Self

from consul_access.testing.common.course import AgentDown, Course
from consul_access.testing.common.exchange import LOST, Answer, Live, Request

if TYPE_CHECKING:
    from types import TracebackType

    from consul_access.testing.common.fake import Fake

__all__ = ["FakeServer"]

_RESET: Final = struct.pack("ii", 1, 0)
_HEAD_LIMIT: Final = 1024 * 1024
_BACKLOG: Final = 256
_TAKER, _SERVER = "fake", "fake-connection"
"""The names of threads: of the one that takes connections, and of those that serve one each."""


class _Malformed(Exception):
    """What came is not HTTP."""


class FakeServer:
    """Serves a fake for as long as its block lasts. While the fake is down, connections are refused.

    Args:
        fake: the fake.
        host: the interface.
        port: where; 0 for a free one.
    """

    def __init__(self, fake: Fake[Any], host: str, port: int) -> None:
        self.fake = fake
        self.host = host
        self.port = port
        self._listener: socket.socket | None = None
        self._connections: set[_Connection] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Host and port, as CONSUL_HTTP_ADDR and ETCDCTL_ENDPOINTS take them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.address}"

    def start(self) -> Self:
        """Begins to serve; for whoever has no block. End it with `close()`.

        Raises:
            OSError: the port is taken.
        """
        self.listen()
        self.fake.servers.append(self)
        return self

    def close(self) -> None:
        """Ends every connection and frees the port."""
        if self in self.fake.servers:
            self.fake.servers.remove(self)
        self.deafen()
        # Who takes connections may be about to start a thread for one more; so the others are looked for after his end.
        for name in (_TAKER, _SERVER):
            for thread in self._running(name):
                thread.join(10)

    def listen(self) -> None:
        """Takes connections."""
        if self._listener is not None:
            return
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        self._spawn(threading.Thread(target=self._accept, args=(listener,), daemon=True, name=_TAKER))

    def deafen(self) -> None:
        """Takes no more connections, and ends those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in tuple(self._connections):
            connection.interrupt()

    def _spawn(self, thread: threading.Thread) -> None:
        with self._lock:
            self._threads = {one for one in self._threads if one.is_alive()} | {thread}
            thread.start()

    def _running(self, name: str) -> list[threading.Thread]:
        """The threads of this name that have been started, without the one that asks."""
        with self._lock:
            return [one for one in self._threads if one.name == name and one is not threading.current_thread()]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # closed
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(threading.Thread(target=self._serve, args=(sock,), daemon=True, name=_SERVER))

    def _serve(self, sock: socket.socket) -> None:
        is_admitted = self.fake.admit()
        connection = _Connection(self.fake, sock)
        self._connections.add(connection)
        # A client may go away at any moment; that is its right, and no failure of the server's.
        try:
            with contextlib.suppress(OSError, EOFError), sock:
                if is_admitted and self._listener is not None:
                    connection.serve()
                else:
                    connection.send(self.fake.turned_away(), "GET")
        finally:
            self._connections.discard(connection)
            connection.close()
            if is_admitted:
                self.fake.dismiss()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FakeServer {self.url}>"


class _Connection:
    def __init__(self, fake: Fake[Any], sock: socket.socket) -> None:
        self._fake = fake
        self._sock = sock
        self._data = b""
        self._alarm, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._ended = False
        self._is_idle = True

    def close(self) -> None:
        """Frees what it holds."""
        self._alarm.close()
        self._bell.close()

    def interrupt(self) -> None:
        """Ends it, also when it waits: what has an answer now gets it, and then it is over."""
        self._ended = True
        self._ring()
        with contextlib.suppress(OSError):
            # Who has nothing to wait for learns at once that the connection is of no use.
            self._sock.shutdown(socket.SHUT_RDWR if self._is_idle else socket.SHUT_RD)

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    # --- one request after the other ----------------------------------------------------------------------

    def serve(self) -> None:
        """Answers until one side has had enough."""
        while not self._ended:
            try:
                request, stays = self._read()
                self._is_idle = False
            except _Malformed:
                self.send(
                    Answer(400, (("Content-Type", "text/plain; charset=utf-8"),), b"400 Bad Request", closes=True),
                    "GET",
                )
                return
            try:
                with self._fake.course(request, admitted=True) as course:
                    answer = self._wait(course)
            except AgentDown:
                answer = LOST
            if answer.live is not None:
                self._stream(answer, answer.live)
                return
            self._is_idle = True
            self.send(answer, request.method, stays=stays)
            if not stays or answer.closes or answer.lost:
                return

    def _wait(self, course: Course) -> Answer:
        """Waits for the answer, or for the client's going away, or the server's end."""
        shared = self._fake.shared
        with shared.changed:
            shared.wakers.add(self._ring)
        try:
            while (answer := course.look()) is None:
                if self._ended:
                    raise EOFError
                if course.jump():
                    continue
                self._sleep(course.pause() if shared.clock.passes_by_itself else None)
            return answer
        finally:
            with shared.changed:
                shared.wakers.discard(self._ring)

    def _sleep(self, seconds: float | None) -> None:
        readable, _, _ = select.select([self._alarm, self._sock], [], [], seconds)
        if self._alarm in readable:
            self._alarm.recv(65536)
        if self._sock in readable and not self._ended:
            data = self._sock.recv(65536)
            if not data:
                raise EOFError
            self._data += data

    # --- an answer that goes on ---------------------------------------------------------------------------

    def _stream(self, answer: Answer, live: Live) -> None:
        """Sends what comes, until one side has had enough. Nothing further is read on this connection."""
        shared = self._fake.shared
        with shared.changed:
            shared.wakers.add(self._ring)
        try:
            self._sock.sendall("\r\n".join([*_head(answer), "Transfer-Encoding: chunked", "", ""]).encode("latin-1"))
            while not self._ended:
                with self._fake.locked():
                    data, over, broken = live.take(), live.over, live.broken
                    pause = shared.pause()
                if data:
                    self._sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))
                if over:
                    if broken:
                        self.send(LOST, "POST")
                    else:
                        self._sock.sendall(b"0\r\n\r\n")
                    return
                self._sleep(pause if shared.clock.passes_by_itself else None)
            self.send(LOST, "POST")
        finally:
            with shared.changed:
                shared.wakers.discard(self._ring)
                live.close()

    # --- reading ------------------------------------------------------------------------------------------

    def _read(self) -> tuple[Request, bool]:
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise _Malformed
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = self._body(headers)
        closing = "close" in headers.get("connection", "").lower()
        return Request(parts[0], _target(parts[1]), headers, body), not closing and parts[2] != "HTTP/1.0"

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("expect", "").lower() == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks()
        length = headers.get("content-length", "0")
        if not length.isdigit():
            raise _Malformed
        return self._exactly(int(length))

    def _chunks(self) -> bytes:
        body = b""
        while True:
            size = self._until(b"\r\n").partition(b";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError:
                raise _Malformed from None
            if length == 0:
                while self._until(b"\r\n"):
                    pass
                return body
            body += self._exactly(length)
            self._until(b"\r\n")

    def _until(self, end: bytes) -> bytes:
        while (at := self._data.find(end)) < 0:
            if len(self._data) > _HEAD_LIMIT:
                raise _Malformed
            self._more()
        found, self._data = self._data[:at], self._data[at + len(end) :]
        return found

    def _exactly(self, length: int) -> bytes:
        while len(self._data) < length:
            self._more()
        found, self._data = self._data[:length], self._data[length:]
        return found

    def _more(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        self._data += data

    # --- writing ------------------------------------------------------------------------------------------

    def send(self, answer: Answer, method: str, *, stays: bool = True) -> None:
        """Sends an answer, as well as it is meant to arrive."""
        if answer.lost:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return
        lines = [*_head(answer), f"Content-Length: {len(answer.body)}"]
        if answer.closes or not stays:
            lines.append("Connection: close")
        body = b"" if method == "HEAD" else answer.body
        data = "\r\n".join([*lines, "", ""]).encode("utf-8") + body
        self._sock.sendall(data[: len(data) - answer.cut] if answer.cut else data)


def _head(answer: Answer) -> list[str]:
    reason = http.client.responses.get(answer.status, "")
    headers = (f"{name}: {_one_line(value)}" for name, value in answer.headers)
    return [f"HTTP/1.1 {answer.status} {reason}", *headers, f"Date: {formatdate(time.time(), usegmt=True)}"]


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


def _target(text: str) -> str:
    """Path and query; some clients name the whole address."""
    if text.startswith("/"):
        return text
    _, _, rest = text.partition("://")
    return f"/{rest.partition('/')[2]}"
