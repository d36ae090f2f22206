"""A service that says hello, answers /health, and registers itself at Consul. Nothing but the library is needed.

    python testservice.py [--consulip=HOST:PORT] [--host=ADDRESS] [--port=8080]

It serves while Consul is away, too, and registers as soon as that is there. In a pod it registers POD_IP, and tells
POD_NAME, POD_NAMESPACE and NODE_NAME in its meta.

On SIGTERM it leaves every look-up, goes on answering for two seconds those who still have its address, deregisters,
and ends. A second signal ends it at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from consul_access import ConsulAccess, HttpCheck
from consul_access.integrations.wsgi import Registered

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def hello(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The service itself: an ordinary WSGI application."""
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"Hello World from testservice!\n"]


class Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Agents ask every few seconds; that is not worth a line."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Says nothing."""


def main() -> None:
    """Serves, registered, until it is told to end."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--consulip", metavar="HOST:PORT", help="the agent; CONSUL_HTTP_ADDR, else 127.0.0.1:8500")
    options.add_argument("--host", default="0.0.0.0", help="the address to listen at; every one by default")  # noqa: S104
    options.add_argument("--port", type=int, default=8080, help="8080 by default; 0 takes a free one")
    given = options.parse_args()

    with ConsulAccess(addresses=given.consulip and [given.consulip]) as access:
        check = HttpCheck(interval="2s", timeout="1s", deregister_critical_service_after="10m")
        app = Registered(
            hello, "testservice", access=access, check=check, fail_fast=False, environment_meta=True, tags=["v1"]
        )
        with make_server(given.host, given.port, app, Server, Quiet) as server:
            app.start(server)  # the port is read from it, and the address that others reach us at is found out
            print(f"testservice listens at port {server.server_port}", flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
