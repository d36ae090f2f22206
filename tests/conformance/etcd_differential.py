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


class EtcdPair:
    """A real server and a fake of the same release. Both may have keys from before: revisions are compared by steps."""

    def __init__(self, real: EtcdServer, fake: FakeEtcdServer) -> None:
        self.operations = 0
        self._watched = 0
        self._real = real
        self._fake = fake
        self._history: deque[str] = deque(maxlen=200)
        self._connection = http.client.HTTPConnection(real.host, real.port, timeout=20)

    def close(self) -> None:
        self._connection.close()

    def history(self) -> str:
        return "\n".join(self._history)

    def do(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Does the same to both, and compares; the answer."""
        self.operations += 1
        self._history.append(f"{path} {json.dumps(body)}")
        data = json.dumps(body).encode()
        self._connection.request("POST", path, data)
        answer = self._connection.getresponse()
        status, text = answer.status, answer.read()
        faked = self._fake.fake.request(path, data, timeout=20)
        really, fakely = json.loads(text), faked.json()
        if (status, comparable(really)) != (faked.status, comparable(fakely)):
            raise AssertionError(
                f"{path} {body}\n  real: {status} {really}\n  fake: {faked.status} {fakely}\nafter\n{self.history()}"
            )
        return dict(really)

    def revision(self) -> int:
        return int(self.do("/v3/kv/range", {"key": encoded("nothing")})["header"]["revision"])

    def forget(self) -> None:
        """Both without keys and leases."""
        self.do("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA=="})
        for lease in self.do("/v3/lease/leases", {}).get("leases", ()):
            self.do("/v3/lease/revoke", {"ID": lease["ID"]})

    @contextlib.contextmanager
    def watched(self, requests: Sequence[dict[str, Any]]) -> Iterator[None]:
        """Watches both during the block, and compares in the end what either was told, watch by watch, in order."""
        self._watched += 1
        key = encoded(f"~mark {self._watched}")
        begun = int(self.do("/v3/kv/put", {"key": key})["header"]["revision"])
        mark = {"key": key, "start_revision": begun, "watch_id": MARK}
        asked = [*requests, {"create_request": mark}]
        self._history.append(f"watch {json.dumps(asked)}")
        with _Listener(self._real, asked) as real, _Listener(self._fake, asked) as fake:
            # What is older than the watches is told in the background, for all of them at once. Until then a real
            # server cancels those that begin before a compaction.
            eventually(lambda: real.marks() == fake.marks() == 1, within=5, what="the mark of the beginning")
            yield
            self.do("/v3/kv/put", {"key": key})
            eventually(lambda: real.marks() == fake.marks() == 2, within=5, what="the mark of the end")
            eventually(lambda: real.count() >= fake.count(), within=5, what=self._differences(real, fake))
            self.operations += fake.count()
            if real.told != fake.told:
                raise AssertionError(f"{self._differences(real, fake)}\nafter\n{self.history()}")

    def _differences(self, real: _Listener, fake: _Listener) -> str:
        watches = sorted(watch for watch in real.told.keys() | fake.told.keys() if real.told[watch] != fake.told[watch])
        return "\n".join(f"watch {watch}\n  real: {real.told[watch]}\n  fake: {fake.told[watch]}" for watch in watches)


MARK = 99
"""The watch of a key that is written before all others are begun, and again in the end."""


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

    def marks(self) -> int:
        """How often the key was written; operations may delete it in between."""
        return sum("kv" in one and "type" not in one for one in tuple(self.told[str(MARK)]))

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
