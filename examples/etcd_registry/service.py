"""A service that says hello and registers itself at etcd instead of Consul.

    python service.py [--etcd=HOST:PORT ...] [--address=127.0.0.1] [--port=0]

etcd has no agents and runs no checks: the registration is a key that lives for as long as this process renews its
lease. Killed, it is gone after 15 seconds; told to end, at once.
"""

from __future__ import annotations

import argparse
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from consul_access import EtcdRegistry


class Hello(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        body = b"Hello from a service at etcd!\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Says nothing."""


def main() -> None:
    """Serves, registered, until it is told to end."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--etcd", action="append", metavar="HOST:PORT", help="a member; ETCDCTL_ENDPOINTS by default")
    options.add_argument("--address", default="127.0.0.1", help="where others reach it")
    options.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    given = options.parse_args()

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with ThreadingHTTPServer((given.address, given.port), Hello) as server, EtcdRegistry(endpoints=given.etcd) as etcd:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with etcd.registered("hello", given.address, server, drain=1.0) as keeper:
            print(f"{keeper.id} listens at {given.address}:{server.server_port}", flush=True)
            ended.wait()
        server.shutdown()


if __name__ == "__main__":
    main()
