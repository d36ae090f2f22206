"""Makes HTTP and TCP checks in earnest: asks the addresses that they name, and reports what came of it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Final

from consul_access.testing.consul.agent import Agent
from consul_access.testing.consul.definitions import CheckDefinition
from consul_access.testing.consul.local import LocalCheck, pace

if TYPE_CHECKING:
    from consul_access.testing.consul.fake import FakeConsul

__all__ = ["Prober"]

USUAL_TIMEOUT: Final = 10.0
OUTPUT_LIMIT: Final = 4096


class Prober:
    """A thread that waits until a check is due, and makes it in another one.

    Args:
        fake: whose checks.
    """

    def __init__(self, fake: FakeConsul) -> None:
        self._fake = fake
        self._thread: threading.Thread | None = None
        self._ended = False
        self._runs: set[threading.Thread] = set()

    def start(self) -> None:
        """Begins, unless it has."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="fake-consul-checks")
            self._thread.start()

    def close(self) -> None:
        """Makes no more checks, and waits for those under way."""
        shared = self._fake.shared
        with shared.changed:
            self._ended = True
            shared.changed.notify_all()
            running = [self._thread, *self._runs]
        for thread in running:
            if thread is not None and thread.is_alive():
                thread.join(USUAL_TIMEOUT)

    def _work(self) -> None:
        shared = self._fake.shared
        with shared.changed:
            while not self._ended:
                shared.tick()
                pause = self._begin_due()
                shared.changed.wait(pause if shared.clock.passes_by_itself else None)

    def _begin_due(self) -> float | None:
        """Begins what is due; seconds until the next one is."""
        shared = self._fake.shared
        now = shared.clock.now()
        following = []
        for agent in shared.state.agents:
            for held in agent.local.checks.values():
                for kind, probe in held.probes.items() if agent.is_up else ():
                    if probe.at <= now:
                        probe.at = now + pace(probe.definition)
                        self._spawn(agent, held, kind, probe.definition)
                    following.append(probe.at)
        return max(0.0, min(following) - now) if following else None

    def _spawn(self, agent: Agent, held: LocalCheck, kind: str, definition: CheckDefinition) -> None:
        work = (agent, held, kind, definition)
        thread = threading.Thread(target=self._run, args=work, daemon=True, name="fake-consul-check")
        self._runs = {one for one in self._runs if one.is_alive()} | {thread}
        thread.start()

    def _run(self, agent: Agent, held: LocalCheck, kind: str, definition: CheckDefinition) -> None:
        status, output = asked_http(definition) if kind == "http" else asked_tcp(definition)
        with self._fake.locked():
            if self._ended or agent.local.checks.get(held.check.id) is not held:
                return
            now = self._fake.cluster.now
            agent.local.observe(held, status, output, now=now, defer=agent.deferral())
            agent.sync()
            self._fake.notify()


def asked_http(definition: CheckDefinition) -> tuple[str, str]:
    """Asks an HTTP address: 2xx is passing, 429 warning, all else critical."""
    url, method = definition.text("HTTP"), definition.text("Method") or "GET"
    try:
        request = urllib.request.Request(url, definition.text("Body").encode() or None, method=method)  # noqa: S310
        request.add_header("User-Agent", "Consul Health Check")
        request.add_header("Accept", "text/plain, text/*, */*")
        for name, values in definition.fields.get("Header", {}).items():
            request.add_header(name, ", ".join(values))
        with _opener(definition).open(request, timeout=_timeout(definition)) as answer:
            return _judged(url, method, answer.status, answer.read(OUTPUT_LIMIT))
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return _judged(url, method, error.code, error.read(OUTPUT_LIMIT))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return "critical", f'{method.capitalize()} "{url}": {_dialled(url)}{_reason(error)}'


def _judged(url: str, method: str, status: int, body: bytes) -> tuple[str, str]:
    found = "passing" if 200 <= status < 300 else "warning" if status == 429 else "critical"
    phrase = http.client.responses.get(status, "")
    return found, f"HTTP {method} {url}: {status} {phrase} Output: {body.decode('utf-8', 'replace')}"


def _opener(definition: CheckDefinition) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    if definition.fields.get("TLSSkipVerify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


def asked_tcp(definition: CheckDefinition) -> tuple[str, str]:
    """Connects to an address: passing if somebody takes the connection."""
    target = definition.text("TCP")
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _timeout(definition)):
            return "passing", f"TCP connect {target}: Success"
    except (OSError, ValueError, OverflowError) as error:
        return "critical", f"dial tcp {target}: {_reason(error)}"


def _timeout(definition: CheckDefinition) -> float:
    return definition.lasts("Timeout") or USUAL_TIMEOUT


def _dialled(url: str) -> str:
    """Where a connection was tried, as Go tells it."""
    parts = urllib.parse.urlsplit(url)
    return f"dial tcp {parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}: "


def _reason(error: BaseException) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ConnectionRefusedError):
        return "connect: connection refused"
    if isinstance(inner, TimeoutError):
        return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    return str(inner)
