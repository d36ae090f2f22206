"""Instances of services: real HTTP servers in threads, which say who they are and remember what they were asked."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self, cast
from urllib.parse import parse_qs, urlsplit

CHUNK = b"x" * 65_536


class Asked(NamedTuple):
    method: str
    path: str
    host: str
    body: bytes


class Serving:
    """An instance, listening when it is made.

    Args:
        name: what it answers with.
        context: to speak https.
        port: where to listen; a free port by default.

    `/status/503` answers so; `/break` closes the connection after it has read the request; `/slow?seconds=1` takes its
    time; `/stream?mib=8` sends so much; `/hash` answers with the length and hash of what it was sent; `/cut` promises
    more than it sends; `/echo/...` answers with its path; everything else answers with its name.
    """

    def __init__(self, name: str, *, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.name = name
        self.asked: list[Asked] = []
        self.connections: set[socket.socket] = set()
        self.server_names: list[str | None] = []
        self.accepted = 0
        self.status = 200
        self._context = context
        self._server = _Server(self, port)
        self.port = int(self._server.server_address[1])
        if context is not None:
            context.sni_callback = lambda sock, server_name, context: self.server_names.append(server_name)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name=f"instance {name}")
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def stop(self) -> None:
        """Takes no further connections; those that are open end in the middle of whatever they do."""
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for sock in list(self.connections):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended already
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, instance: Serving, port: int) -> None:
        self.instance = instance
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that goes away is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def setup(self) -> None:
        super().setup()
        self.instance = cast("_Server", self.server).instance
        self.instance.accepted += 1
        self.instance.connections.add(self.connection)

    def finish(self) -> None:
        self.instance.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""

    def serve(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/hash":
            self.hash()
            return
        self.instance.asked.append(Asked(self.command, url.path, self.headers.get("Host", ""), self.received()))
        options = {name: float(values[0]) for name, values in parse_qs(url.query).items()}
        special = {"/break": self.hang_up, "/cut": self.cut, "/stream": self.stream}.get(url.path)
        if special is not None:
            special(**options)
            return
        time.sleep(options.get("seconds", 0))
        told = url.path.removeprefix("/status/")
        said = url.path if url.path.startswith("/echo/") else self.instance.name
        self.answer(said.encode(), int(told) if told.isdigit() else self.instance.status)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def received(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def head(self, length: int, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Instance", self.instance.name)
        self.end_headers()

    def answer(self, body: bytes, status: int = 200) -> None:
        self.head(len(body), status)
        if self.command != "HEAD":
            self.wfile.write(body)

    def hash(self) -> None:
        digest, length = hashlib.sha256(), int(self.headers.get("Content-Length", 0))
        left = length
        while left:
            part = self.rfile.read(min(left, len(CHUNK)))
            digest.update(part)
            left -= len(part)
        self.answer(f"{length} {digest.hexdigest()}".encode())

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.head(100)
        self.wfile.write(b"only this")
        self.close_connection = True

    def stream(self, mib: float) -> None:
        self.head(int(mib * 2**20))
        for _ in range(int(mib * 2**20) // len(CHUNK)):
            self.wfile.write(CHUNK)
