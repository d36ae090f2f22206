"""A registry that plays a part: a scripted server whose answer depends on what it is asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support import scripted
from tests.support.scripted import Connection, Recorded, ScriptedServer, Step, answer


def entry(number: int = 1, service: str = "orders", **fields: Any) -> dict[str, Any]:
    """An instance as the agent tells it."""
    place = f"{number // 250}.{number % 250}"
    given = {"ID": f"{service}-{number}", "Service": service, "Address": f"10.0.{place}", "Port": 8000 + number}
    return {
        "Node": {"ID": f"{number:08x}", "Node": f"node-{number}", "Address": f"10.1.{place}", "Datacenter": "dc1"},
        "Service": {"Tags": [], "Meta": {}, "Weights": {"Passing": 1, "Warning": 1}} | given | fields,
        "Checks": [],
    }


def listed(*entries: Mapping[str, Any], index: object = 10, **headers: str) -> Step:
    """A list of instances as an answer; with an index of None there is no such header."""
    told = {} if index is None else {"X-Consul-Index": str(index)}
    return answer(body=json.dumps(entries, separators=(",", ":")).encode(), headers=told | headers)


class PlayedRegistry(ScriptedServer):
    """Answers as a function of the request says; `/v1/status/leader` is answered by itself, unless told otherwise.

    Args:
        play: what to do with a request. The query is given as a mapping of lists.
    """

    def __init__(self, play: Callable[[Recorded, dict[str, list[str]]], Step], *, leader: str = "127.0.0.1:8300"):
        self._play = play
        self.leader = leader
        self.times: list[float] = []
        super().__init__([scripted.never()])

    def _next_step(self, request: Recorded) -> Step:
        with self._lock:
            self.requests.append(request)
            self.times.append(time.monotonic())
        url = urlsplit(request.target)
        if url.path == "/v1/status/leader":
            return answer(body=json.dumps(self.leader).encode())
        return self._play(request, parse_qs(url.query, keep_blank_values=True))


class BlockingRegistry(PlayedRegistry):
    """Behaves as an agent should: holds back an answer until its index has passed the one that is waited for."""

    def __init__(self, *entries: Mapping[str, Any], index: int = 10) -> None:
        self._changed = threading.Condition()
        self._entries = entries
        self._index = index
        self.fault: Step | None = None
        """What every request is met with instead, those that wait already included."""
        super().__init__(self._answered)

    def change(self, *entries: Mapping[str, Any], index: int | None = None) -> None:
        """From now on it holds these."""
        with self._changed:
            self._entries = entries
            self._index = self._index + 1 if index is None else index
            self._changed.notify_all()

    def _answered(self, request: Recorded, query: dict[str, list[str]]) -> Step:
        if self.fault is not None:
            return self.fault
        if "index" not in query:
            return listed(*self._entries, index=self._index)
        index, wait = int(query["index"][0]), float(query["wait"][0].removesuffix("ms")) / 1000

        def step(connection: Connection) -> bool:
            deadline = time.monotonic() + wait
            with self._changed:
                while self._index <= index and time.monotonic() < deadline and not connection.ended.is_set():
                    self._changed.wait(0.05)
                    if self.fault is not None:
                        return self.fault(connection)
            return listed(*self._entries, index=self._index)(connection)

        return step
