"""Asks a real etcd and a fake the same, one after the other, and compares everything that is no accident."""

from __future__ import annotations

import http.client
import json
from collections import deque
from typing import Any

from tests.conformance.test_etcd_answers import comparable
from tests.support.etcd import EtcdServer, encoded
from tests.support.fake_etcds import FakeEtcdServer


class EtcdPair:
    """A real server and a fake of the same release. Both may have keys from before: revisions are compared by steps."""

    def __init__(self, real: EtcdServer, fake: FakeEtcdServer) -> None:
        self.operations = 0
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
