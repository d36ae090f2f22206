"""One of the demo's services, in a process of its own: `python -m consul_access.testing.demo.service NAME PORT`.

It takes requests, registers itself, and on SIGTERM leaves every look-up before it stops. `demo-shop` finds
`demo-stock` by its name whenever it is asked. It also ends with whoever started it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from consul_access import Address, ConsulAccess, HttpCheck, NoInstances

__all__ = ["DRAIN", "SHOP", "STOCK"]

STOCK: Final = "demo-stock"
SHOP: Final = "demo-shop"
DRAIN: Final = 1.0
"""Seconds for which it serves on when it is out of every look-up."""


def shop(access: ConsulAccess) -> str:
    """What the shop says: what it hears from the stock, wherever that is now."""
    try:
        stock: Address = access.resolve(STOCK)
    except NoInstances:
        return "sold out: nobody keeps the stock"
    with urllib.request.urlopen(f"http://{stock}/", timeout=5) as answer:
        return f"{answer.read().decode().strip()}, says {STOCK} at {stock}"


def stock(_: ConsulAccess) -> str:
    """What the stock says."""
    return "3 apples"


def handler(name: str, access: ConsulAccess) -> type[BaseHTTPRequestHandler]:
    """What answers the requests of a service."""
    says = shop if name == SHOP else stock

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{'ok' if self.path == '/health' else says(access)}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # whoever asked has not waited for it
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Keeps quiet: the demo tells the story."""

    return Handler


def main() -> None:
    """Runs a service until it is told to end."""
    name, port = sys.argv[1], int(sys.argv[2])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever tells the story, who then ends this
    threading.Thread(target=_end_with_starter, args=(ended,), daemon=True).start()
    with ConsulAccess() as access:
        host = "127.0.0.1" if _is_here(access) else None
        server = ThreadingHTTPServer((host or "0.0.0.0", port), handler(name, access))  # noqa: S104 - others have to reach it
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            check = HttpCheck(interval="1s", timeout="1s")
            with access.registered(name, host, server.server_port, check=check, drain=DRAIN):
                while not ended.wait(1.0):  # a signal that comes just before a wait for ever is not seen until its end
                    pass
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _end_with_starter(ended: threading.Event) -> None:
    """Whoever started this holds the other end of its standard input."""
    sys.stdin.read()
    ended.set()


def _is_here(access: ConsulAccess) -> bool:
    """Whether the agent is on this machine, and so can ask a service that listens at its loopback only."""
    host = access.settings.targets[0].address.host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in {"", "localhost"}


if __name__ == "__main__":
    main()
