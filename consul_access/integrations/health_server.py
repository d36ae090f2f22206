"""A small HTTP server that answers `/health`, for programs that speak no HTTP themselves."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from consul_access._sync.health import Health, HealthChecks
from consul_access.errors import InvalidInput
from consul_access.models.address import Address

__all__ = ["HealthServer"]

log = logging.getLogger("consul_access")

PATIENCE = 5.0
"""Seconds that a connection may take over its request; so nobody keeps a thread for ever."""


class HealthServer:
    """Answers how a program is, from a thread of its own.

    A context manager; or `start` and `stop`. With `check=HttpCheck(url=server.url)` an agent asks it; with
    `port=server` the service's own port is read from it.

    Args:
        health: a function, functions by name, or `HealthChecks` with limits of their own; without, 200 always.
        host: the address to listen at, by default this machine only; `0.0.0.0` or `::` for every interface, when the
            agent is elsewhere.
        port: 0, the default, takes a free one, which is known at once.
        path: what is answered; all else is 404.

    It answers 200 when every check passes, 429 for a warning and 503 when one is critical, with a JSON body that tells
    of each check, texts of exceptions included.
    Source: https://developer.hashicorp.com/consul/docs/register/health-check/vm#http-checks

    Raises:
        InvalidInput: an argument cannot be right.
        OSError: it cannot listen there.
    """

    def __init__(
        self, health: Health | None = None, *, host: str = "127.0.0.1", port: int = 0, path: str = "/health"
    ) -> None:
        if not path.startswith("/"):
            raise InvalidInput(f"path={path!r} must begin with '/'")
        self.checks = HealthChecks.of(health)
        self._path = path
        self._server = _Server(host, port, self.checks, path)
        self._thread: threading.Thread | None = None

    @property
    def socket(self) -> socket.socket:
        """The socket it listens at; this is what `port=server` is read from."""
        return self._server.socket

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where an agent on this machine can ask it."""
        host = str(self._server.server_address[0])
        return f"http://{Address({'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host), self.port)}{self._path}"  # noqa: S104

    def start(self) -> Self:
        """Begins to answer."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.05,), name="consul-access health server", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Closes the port; it cannot be started again."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} {'answers' if self._thread is not None else 'does not answer'}>"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, checks: HealthChecks, path: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.checks, self.path = checks, path
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Without http.server's own look-up of this machine's name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the names it has there
        log.debug("%s was not answered: %r", client_address, sys.exception())  # mostly a caller that has broken off


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - the only one that makes it
    timeout = PATIENCE
    server_version = "consul-access"
    sys_version = ""

    def do_GET(self) -> None:
        if urlsplit(self.path).path != self.server.path:
            self.send_error(404)
            return
        report = self.server.checks.report()
        body = report.body()
        self.send_response(report.http_status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Agents ask every few seconds; that is not worth a line."""
