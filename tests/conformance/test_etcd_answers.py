"""The same requests, in the same order, to a real etcd and to a fake: every answer is the same, with its status."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any

import pytest

from tests.support.etcd import RELEASES, EtcdServer
from tests.support.fake_etcds import FakeEtcdServer

ACCIDENTS = {"cluster_id", "member_id", "raft_term", "raftTerm", "raftIndex", "raftAppliedIndex", "dbSize", "leader"}
ACCIDENTS |= {"dbSizeInUse", "members", "TTL", "etcdcluster"}
UNORDERED = {"keys", "leases"}
"""Leases, and the keys of one, come in any order."""
PLACES = re.compile(r" ?\(line \d+:\d+\):?|\s|\u00a0|:")
"""Where something is wrong; and protojson's blanks, which come by chance."""


def exchange(server: EtcdServer, method: str, path: str, body: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        made = {name: comparable(one) for name, one in value.items() if name not in ACCIDENTS}
        for name in UNORDERED & made.keys():
            made[name] = sorted(made[name], key=str)
        return made
    if isinstance(value, list):
        return [comparable(one) for one in value]
    return PLACES.sub("", value) if isinstance(value, str) else value


def seen(status: int, headers: dict[str, str], text: str) -> Any:
    told = {name: headers.get(name) for name in ("Content-Type", "Grpc-Metadata-Content-Type", "Location")}
    bodies: list[Any] = []
    for line in text.splitlines():
        try:
            bodies.append(comparable(json.loads(line)))
        except ValueError:
            bodies.append(line)
    return status, told, bodies


@pytest.mark.parametrize("release", RELEASES)
def test_every_answer_is_the_same(release, samples, record_property):
    requests = [json.loads(line) for line in (samples / "etcd-requests.jsonl").read_text().splitlines()]
    different = []
    with EtcdServer(release) as real, FakeEtcdServer(release) as fake:
        for request in requests:
            really, faked = seen(*exchange(real, *request)), seen(*exchange(fake, *request))
            if really != faked:
                different.append(f"{request}\n  real: {really}\n  fake: {faked}")
    record_property("requests", len(requests))
    assert not different, "\n".join(different)
