"""Asks a real agent and a fake the same, one after the other, and compares everything that is no accident."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from consul_access.testing import FakeConsul
from consul_access.testing.common.exchange import Request
from tests.support.agents import ConsulAgent

COMPARED = (
    "Allow", "Content-Type", "Location", "Vary", "X-Consul-Effective-Consistency", "X-Consul-Knownleader",
    "X-Consul-Lastcontact", "X-Consul-Reason", "X-Consul-Default-Acl-Policy", "X-Consul-Query-Backend",
)  # fmt: skip
SETTLES_WITHIN = 5.0
MOST_WAITS = 4
FRESH_FOR = 40.0
"""Seconds after which both are begun anew: from a minute on an agent compares what it holds with the catalog, at a time
of its own, and what it then mends moves indexes."""
_GO_PATH = re.compile(r"Go (?:struct field \S+|value) of type")
"""Where in a body Go found something wrong: told in other words by each Go that an agent may be compiled with."""
_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Seen:
    """What was answered, without accidents.

    Args:
        status: the HTTP status.
        headers: those that mean something.
        body: parsed, with ids, hashes and indexes made comparable; or the text.
        moved: whether the index is higher, lower or the same as when this was last asked.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: Any
    moved: int = 0


@dataclass
class Side:
    """One of both, and the indexes that it told."""

    indexes: dict[str, int] = field(default_factory=dict)

    def moved(self, target: str, index: int) -> int:
        known = self.indexes.get(target, index)
        return (index > known) - (index < known)


class Pair:
    """A real agent and a fake of the same version, node and settings."""

    def __init__(self, real: ConsulAgent, version: str) -> None:
        self.real = real
        self.operations = 0
        self._version = version
        self._history: deque[str] = deque(maxlen=400)
        """Also what earlier examples did: an index may have moved long before it is asked for."""
        self._waits: list[_Wait] = []
        self._begin()

    def _begin(self) -> None:
        self.fake = FakeConsul(self._version, node=self.real.node, scripts=True)
        self._sides = (Side(), Side())
        self._begun = time.monotonic()
        self._connection = http.client.HTTPConnection("127.0.0.1", self.real.port, timeout=20)

    def _renew(self) -> None:
        """Both from the beginning."""
        self._connection.close()
        self.real.restart()
        self._begin()
        self._history.append("--- anew")

    def close(self) -> None:
        self.abandon()
        self._connection.close()

    def history(self) -> str:
        """The last operations, for whoever looks for the reason of a difference."""
        return "\n".join(self._history)

    def do(self, method: str, target: str, body: Any = None) -> int:
        """Does the same to both and compares; the status of both."""
        self.operations += 1
        self._history.append(f"{method} {target} {body!r}")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        deadline = time.monotonic() + SETTLES_WITHIN
        fake = self._ask_fake(method, target, data)
        real = self._ask_real(method, target, data)
        while real[0] != fake[0] and method == "GET" and time.monotonic() < deadline:
            real = self._ask_real(method, target, data)  # what an agent knows reaches the servers a moment later
        if real[0] != fake[0]:
            raise AssertionError(
                f"{method} {target} {body!r}\n  real, at {real[1]}: {real[0]}\n  fake, at {fake[1]}: {fake[0]}"
            )
        for side, (_, index) in zip(self._sides, (real, fake), strict=True):
            if index is not None:
                side.indexes[target] = index
        if method != "GET":
            self.settle()
            self._heed()
        return real[0].status

    def wait_for_a_change(self, target: str) -> None:
        """Begins to wait at both; from now on, whatever is done wakes both or neither."""
        if len(self._waits) < MOST_WAITS and self.do("GET", target) == 200:
            indexes = [side.indexes[target] for side in self._sides]
            self._history.append(f"wait {target} from {indexes}")
            self._waits.append(_Wait(self, target, *indexes))

    def _heed(self) -> None:
        """Compares who has been woken."""
        for wait in tuple(self._waits):
            self.operations += 1
            if wait.ended():
                self._waits.remove(wait)

    def settle(self) -> None:
        """Waits until the real servers know what the real agent knows."""
        deadline = time.monotonic() + SETTLES_WITHIN
        targets = (f"/v1/catalog/node/{self.real.node}", f"/v1/health/node/{self.real.node}")
        for target in targets:
            fake = self._ask_fake("GET", target, None)[0].body
            while (real := self._ask_real("GET", target, None)[0].body) != fake:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{target}: {', '.join(differences(real, fake))}")

    def abandon(self) -> None:
        """Ends all waits, wherever they are."""
        for wait in self._waits:
            wait.close()
        self._waits.clear()

    def clear(self) -> None:
        """Both without services, checks, maintenance, and nodes that no agent is behind; nothing is compared."""
        self.abandon()
        if time.monotonic() - self._begun > FRESH_FOR:
            self._renew()
        for ask in (self._ask_real, self._ask_fake):
            read = lambda target, ask=ask: ask("GET", target, None)[0].body  # noqa: E731
            for service_id in read("/v1/agent/services"):
                ask("PUT", f"/v1/agent/service/deregister/{http_path(service_id)}", None)
            for check_id in read("/v1/agent/checks"):
                ask("PUT", f"/v1/agent/check/deregister/{http_path(check_id)}", None)
            for node in {entry["Node"] for entry in read("/v1/catalog/nodes")} - {self.real.node}:
                # First its checks: one that was written in another case keeps the whole node, from 1.10 on.
                for check in read(f"/v1/health/node/{node}"):
                    gone = {"Node": node, "CheckID": check["CheckID"]}
                    ask("PUT", "/v1/catalog/deregister", json.dumps(gone).encode())
                ask("PUT", "/v1/catalog/deregister", json.dumps({"Node": node}).encode())
        self.settle()

    def _ask_real(self, method: str, target: str, data: bytes | None) -> tuple[Seen, int | None]:
        self._connection.request(method, target, data)
        answer = self._connection.getresponse()
        text = answer.read()
        return self._seen(0, target, answer.status, dict(answer.getheaders()), text)

    def _ask_fake(self, method: str, target: str, data: bytes | None) -> tuple[Seen, int | None]:
        answer = self.fake.request(method, target, data or b"", timeout=20)
        return self._seen(
            1,
            target,
            answer.status,
            {name: value.encode().decode("latin-1") for name, value in answer.headers},
            answer.body,
        )

    def _seen(
        self, side: int, target: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> tuple[Seen, int | None]:
        index = headers.get("X-Consul-Index")
        told = tuple((name, headers[name]) for name in COMPARED if name in headers)
        text = body.decode("utf-8", "replace")
        if not self._version.startswith("1.8."):  # those packages are compiled with a Go that the fake speaks like
            text = _GO_PATH.sub("Go value of type", text)
        parsed = comparable(json.loads(text)) if headers.get("Content-Type") == "application/json" else text
        if index is None:
            return Seen(status, told, parsed), None
        known = int(index) if status == 200 else None
        moved = 0 if known is None else self._sides[side].moved(target, known)
        return Seen(status, (*told, ("X-Consul-Index", "there" if int(index) > 0 else "zero")), parsed, moved), known


def unnumbered(value: Any) -> Any:
    """A body without indexes, which also move when something else does."""
    if isinstance(value, list):
        return [unnumbered(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: unnumbered(one) for name, one in value.items() if name not in {"CreateIndex", "ModifyIndex"}}


class _Wait:
    """A blocking query at both."""

    def __init__(self, pair: Pair, target: str, real: int, fake: int) -> None:
        self._pair = pair
        self._target = target
        self._known = (real, fake)
        self._found = unnumbered(pair.fake.request("GET", target).json())
        asked = f"{target}{'&' if '?' in target else '?'}wait=5m&index="
        self._connection = http.client.HTTPConnection("127.0.0.1", pair.real.port, timeout=60)
        self._connection.request("GET", f"{asked}{real}")
        self._thread = threading.Thread(target=self._listen)
        self._real: tuple[int, int] | None = None
        self._thread.start()
        self._stack = contextlib.ExitStack()
        self._course = self._stack.enter_context(pair.fake.course(Request("GET", f"{asked}{fake}")))

    def _listen(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self._connection.getresponse()
            answer.read()
            self._real = (answer.status, int(answer.headers["X-Consul-Index"]))

    def ended(self) -> bool:
        """Whether an end has come; fails when something has changed and only one has been woken.

        To be woken for nothing does no harm, and may happen to either: a real server also looks again when something
        near to what was asked about has changed.
        """
        answer = self._course.look()
        if answer is None and self._real is None:
            return False
        now = unnumbered(self._pair.fake.request("GET", self._target).json())
        if changed := ", ".join(differences(self._found, now)):
            self._thread.join(SETTLES_WITHIN)
            assert answer is not None, f"{self._target}: the real one has been woken, the fake has not: {changed}"
            assert self._real is not None, f"{self._target}: the fake has been woken, the real one has not: {changed}"
            fake = (answer.status, int(answer.header("X-Consul-Index") or 0))
            for (status, index), known in zip((self._real, fake), self._known, strict=True):
                assert (status, index > known) == (200, True), (
                    f"{self._target}: {self._real}, {fake} after {self._known}"
                )
        self.close()
        return True

    def close(self) -> None:
        """Ends it."""
        self._stack.close()
        if self._connection.sock is not None:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()


def differences(real: Any, fake: Any, where: str = "") -> Iterator[str]:
    """Where two bodies differ, and how."""
    if isinstance(real, dict) and isinstance(fake, dict):
        for name in sorted(real.keys() | fake.keys()):
            yield from differences(real.get(name, "nothing"), fake.get(name, "nothing"), f"{where}/{name}")
    elif real != fake:
        yield f"{where} is really {real!r} and not {fake!r}"


def http_path(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def comparable(value: Any) -> Any:
    """A body without accidents: what is made up or counted, and the order of what has none."""
    if isinstance(value, list):
        made = [comparable(element) for element in value]
        return sorted(made, key=lambda one: json.dumps(one, sort_keys=True))
    if not isinstance(value, dict):
        return value
    made = {name: comparable(element) for name, element in value.items()}
    if {"CreateIndex", "ModifyIndex"} <= made.keys():
        made["ModifyIndex"] = "later" if made["ModifyIndex"] > made["CreateIndex"] else "at once"
        made["CreateIndex"] = "there" if made["CreateIndex"] else "zero"
    if str(made.get("Node", "")).startswith("node-") and "Datacenter" in made:
        made["ModifyIndex"] = "either"  # the agent and the servers tell of its node, in any order
    for name in ("ID", "ContentHash"):
        if name == "ContentHash" or _IDS.fullmatch(str(made.get(name, ""))):
            made.pop(name, None)
    if "consul" in (made.get("Service"), made.get("ServiceName")):
        made = {name: element for name, element in made.items() if name not in {"Port", "ServicePort"}}
    if made.get("Type") == "alias" or str(made.get("Output", "")).startswith("Aliased check"):
        made["Output"] = "of an alias"  # which of several failing checks it names is an accident
    return made
