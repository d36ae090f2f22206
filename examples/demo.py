"""The main job from beginning to end, against a real Consul agent: `make demo`.

A small HTTP service registers itself with a health check, is found by both clients once it is healthy, is called at
the address that was found, and deregisters.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from consul_access import AsyncConsulAccess, ConsulAccess, HttpCheck, Unavailable
from tools import servers
from tools.ports import free_ports


class Hello(BaseHTTPRequestHandler):
    """The service: says hello, and whether it is well."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"ok\n" if self.path == "/health" else b"hello, world\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keeps quiet: the demo tells the story."""


def main() -> None:
    with consul_agent() as url, hello_service() as port, ConsulAccess(url=url) as access:
        say(f"a Consul agent listens at {url}, and the hello service at 127.0.0.1:{port}")

        check = HttpCheck(interval="1s", timeout="1s")
        with access.register_service("hello", "127.0.0.1", port, tags=["demo"], check=check) as registration:
            say(f"registered as {registration.id} with the check GET /health every second")

            before = access.instances("hello", policy="any")[0].status
            say(f"at first the check is {before}, so nobody is sent there: {access.search_service('hello')}")

            wait_until(lambda: bool(access.search_service("hello")), "the check passes")
            say(f"then it is {access.instances('hello')[0].status}")

            address = access.resolve("hello")
            say(f"ConsulAccess finds it at {address}")
            say(f"AsyncConsulAccess finds it at {asyncio.run(resolve(url))}")
            with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
                say(f"and there it says: {answer.read().decode().strip()!r}")

        say(f"deregistered; now it is found at {access.search_service('hello', policy='any')}")


async def resolve(url: str) -> object:
    async with AsyncConsulAccess(url=url) as access:
        return await access.resolve("hello")


@contextmanager
def hello_service() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever, name="hello")
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def consul_agent() -> Iterator[str]:
    """A real agent of our own, on free ports, forgotten afterwards."""
    http, server, serf_lan, serf_wan = free_ports(4)
    options = {
        "http-port": http,
        "server-port": server,
        "serf-lan-port": serf_lan,
        "serf-wan-port": serf_wan,
        "dns-port": -1,
        "grpc-port": -1,
        "bind": "127.0.0.1",
        "client": "127.0.0.1",
        "log-level": "warn",
    }
    command = [str(servers.consul()), "agent", "-dev", *(f"-{name}={value}" for name, value in options.items())]
    with tempfile.TemporaryFile() as log:
        agent = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{http}"
            wait_until(lambda: answers(url) or stopped(agent, log), "the agent is ready")
            yield url
        finally:
            agent.terminate()
            agent.wait()


def answers(url: str) -> bool:
    """Whether the agent has joined its own catalog, which is when it can be used."""
    with ConsulAccess(url=url) as access:
        try:
            return "consul" in access.services()
        except Unavailable:
            return False


def stopped(agent: subprocess.Popen[bytes], log: object) -> bool:
    if agent.poll() is None:
        return False
    log.seek(0)  # type: ignore[attr-defined]
    sys.exit(f"the agent stopped: {log.read().decode()}")  # type: ignore[attr-defined]


def wait_until(condition: Callable[[], bool], what: str, within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited {within:g} s in vain until {what}")
        time.sleep(0.1)


def say(text: str) -> None:
    print(f"* {text}", flush=True)


if __name__ == "__main__":
    for variable in [name for name in os.environ if name.startswith("CONSUL_HTTP_")]:
        del os.environ[variable]  # the demo has an agent of its own, and no use for tokens meant for another
    main()
