"""A way to an agent that counts how often something is deregistered."""

from __future__ import annotations

import contextlib
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Counting:
    """Passes requests on to an agent, and counts the deregistrations."""

    def __init__(self, agent):
        self.seen = []
        self.deregistrations = 0
        self.refuse_next = False
        self.holds = "/v1/agent/check/update/"
        self.held = threading.Event()
        """Requests to what begins so, heartbeats if nothing else is said, are held back while it is not set."""
        self.held.set()
        self.holding = threading.Event()
        self.may_pass = threading.Event()
        self.may_pass.set()
        self.told = lambda what, value: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self):
                outer.seen.append((time.monotonic(), self.path))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path.startswith(outer.holds) and not outer.held.is_set():
                    outer.holding.set()
                    outer.held.wait(10)
                if self.path.startswith("/v1/agent/service/deregister/"):
                    outer.deregistrations += 1
                    outer.may_pass.wait(5)
                    if outer.refuse_next:
                        outer.refuse_next = False
                        self._answer(500, b"No cluster leader")
                        return
                connection = HTTPConnection("127.0.0.1", agent.port, timeout=60)
                with contextlib.closing(connection), contextlib.suppress(ConnectionError):  # one end is gone, or both
                    connection.request(self.command, self.path, body or None, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    self._answer(answer.status, answer.read())
                    return
                self.close_connection = True

            def _answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = _pass  # noqa: N815 - the names that http.server calls

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def asked(self, path):
        """When something was asked for, such as `/v1/agent/service/maintenance/`."""
        return [when for when, seen in self.seen if seen.startswith(path)]

    def first(self, path, log=""):
        """When something was asked for first."""
        found = self.asked(path)
        assert found, f"{path} was not asked for, but {self.seen}; {log}"
        return min(found)
