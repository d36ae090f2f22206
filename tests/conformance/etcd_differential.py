"""Asks a real etcd and a fake the same, one after the other, and compares everything that is no accident."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

from tests.conformance.test_etcd_answers import comparable
from tests.support.etcd import EtcdServer, encoded
from tests.support.fake_etcds import FakeEtcdServer
from tests.support.waiting import eventually

COMPACTION = "/v3/kv/compaction"
KNOWN = 98
"""The watch of all that is known: every key, from the last compaction on. The fake tells it after the others."""


class EtcdPair:
    """A real server and a fake of the same release. Both may have keys from before: revisions are compared by steps.

    What goes wrong within its block is told with what was done until then.

    Args:
        real: the real server.
        fake: the fake.
        again: the command that does the same once more.
    """

    def __init__(self, real: EtcdServer, fake: FakeEtcdServer, again: str = "") -> None:
        self.release = real.release
        self.operations = 0
        self._revision = self._compacted = 1
        self._marks = 0
        self._real = real
        self._fake = fake
        self._again = again
        self._listeners: tuple[_Listener, _Listener] | None = None
        self._history: deque[str] = deque(maxlen=200)
        self._connection = http.client.HTTPConnection(real.host, real.port, timeout=20)

    def __enter__(self) -> EtcdPair:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._connection.close()
        if error is not None:
            done = "\n".join(self._history)
            error.add_note(f"after {self.operations} operations, the last of which are\n{done}")
            error.add_note(f"the real server says\n{self._real.log()[-3000:]}\nagain: {self._again}")

    def do(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Does the same to both, and compares; the answer."""
        if path == COMPACTION and self._listeners is not None:
            # What was there before an event is looked up when that is told, and is left out if it is compacted by then.
            self._expect_told(*self._listeners)
        self.operations += 1
        self._history.append(f"{path} {json.dumps(body)}")
        data = json.dumps(body).encode()
        self._connection.request("POST", path, data)
        answer = self._connection.getresponse()
        status, text = answer.status, answer.read()
        faked = self._fake.fake.request(path, data, timeout=20)
        really, fakely = json.loads(text), faked.json()
        if (status, comparable(really)) != (faked.status, comparable(fakely)):
            raise AssertionError(f"{path} {body}\n  real: {status} {really}\n  fake: {faked.status} {fakely}")
        self._revision = int(really.get("header", {}).get("revision", self._revision))
        if path == COMPACTION and status == 200:
            self._compacted = max(body.get("revision", 0), 1)
        return dict(really)

    def revision(self) -> int:
        return int(self.do("/v3/kv/range", {"key": encoded("nothing")})["header"]["revision"])

    def forget(self) -> None:
        """Both without keys and leases."""
        self.do("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA=="})
        for lease in self.do("/v3/lease/leases", {}).get("leases", ()):
            self.do("/v3/lease/revoke", {"ID": lease["ID"]})

    @contextlib.contextmanager
    def watched(self, requests: Sequence[dict[str, Any]]) -> Iterator[dict[str, list[Any]]]:
        """Watches both during the block, and compares in the end what either was told, watch by watch, in order.

        One more watches all keys from the last compaction on. Gives what the real one is told.
        """
        self._mark()
        known = {"key": "AA==", "range_end": "AA==", "start_revision": self._compacted, "prev_kv": True}
        asked = [*requests, {"create_request": known | {"watch_id": KNOWN}}]
        self._history.append(f"watch {json.dumps(asked)}")
        with _Listener(self._real, asked) as real, _Listener(self._fake, asked) as fake:
            # What is older than the watches is told in the background, for all of them at once. Until then a real
            # server cancels those that begin before a compaction.
            self._expect_told(real, fake)
            self._listeners = real, fake
            try:
                yield real.told
            finally:
                self._listeners = None
            self._mark()
            self._expect_told(real, fake)
            self.operations += fake.count() - len(fake.told[str(KNOWN)])
            if real.told != fake.told:
                raise AssertionError(_differences(real, fake))

    def _mark(self) -> None:
        """Writes a key of its own: when that is told, everything before is."""
        self._marks += 1
        self.do("/v3/kv/put", {"key": encoded(f"~mark {self._marks}")})

    def _expect_told(self, real: _Listener, fake: _Listener) -> None:
        """Waits until both have told of all that has happened."""
        try:
            eventually(lambda: real.revision() >= self._revision <= fake.revision(), within=10)
            eventually(lambda: real.count() >= fake.count(), within=10)
        except AssertionError:
            raise AssertionError(f"not all was told\n{_differences(real, fake)}") from None


def _differences(real: _Listener, fake: _Listener) -> str:
    watches = sorted(watch for watch in real.told.keys() | fake.told.keys() if real.told[watch] != fake.told[watch])
    return "\n".join(f"watch {watch}\n  real: {real.told[watch]}\n  fake: {fake.told[watch]}" for watch in watches)


class _Listener:
    """Reads a stream of watches in a thread, and sorts what it is told by watch."""

    def __init__(self, server: EtcdServer, asked: Sequence[dict[str, Any]]) -> None:
        self.told: defaultdict[str, list[Any]] = defaultdict(list)
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
        self._connection.request("POST", "/v3/watch", b"".join(json.dumps(one).encode() for one in asked))
        self._answer = self._connection.getresponse()
        self._thread = threading.Thread(target=self._listen)
        self._created = threading.Event()
        self._wanted = sum("create_request" in one for one in asked)

    def revision(self) -> int:
        """The last one that the watch of everything was told of."""
        events = [one["kv"] for one in tuple(self.told[str(KNOWN)]) if "kv" in one]
        return int(events[-1]["mod_revision"]) if events else 0

    def count(self) -> int:
        return sum(len(told) for told in tuple(self.told.values()))

    def _listen(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self._answer.readline():
                if line.strip():
                    self._take(json.loads(line)["result"])

    def _take(self, result: dict[str, Any]) -> None:
        told = self.told[result.get("watch_id", "0")]
        said = {name: value for name, value in result.items() if name not in {"header", "events", "watch_id"}}
        if said:
            told.append(comparable(said))
            self._wanted -= bool(said.get("created"))
        told += [comparable(event) for event in result.get("events", ())]
        if self._wanted == 0:
            self._created.set()

    def __enter__(self) -> _Listener:
        self._thread.start()
        assert self._created.wait(10), "not all watches were created"
        return self

    def __exit__(self, *_: object) -> None:
        sock = self._connection.sock or self._answer.fp.raw._sock
        sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._answer.close()
        self._connection.close()
