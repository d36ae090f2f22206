"""What this library relies on at etcd's gateway, looked at with nothing of ours in between."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.support.etcd import OLDER, encoded

HEADER_TIMEOUT = 3.0


def stream_lines(etcd, body: bytes, number: int, *, headers: dict[str, str] | None = None) -> list[dict]:
    """The first lines of a watch."""
    connection = http.client.HTTPConnection(etcd.host, etcd.port, timeout=10)
    try:
        connection.request("POST", "/v3/watch", body, headers or {})
        answer = connection.getresponse()
        lines: list[dict] = []
        while len(lines) < number:
            line = answer.readline()
            if line.strip():
                lines.append(json.loads(line))
        return lines
    finally:
        connection.close()


def create(**fields) -> bytes:
    return json.dumps({"create_request": fields}).encode()


def test_errors_have_the_shape_of_their_generation(etcd):
    status, text = etcd.post("/v3/lease/revoke", {"ID": 5})
    body = json.loads(text)
    assert (status, body["code"], body["message"]) == (404, 5, "etcdserver: requested lease not found")
    assert ("error" in body) == (etcd.release == OLDER)


def test_a_misspelt_field_is_ignored_in_silence(etcd):
    assert etcd.call("/v3/lease/grant", {"ttl": 100})["TTL"] == "2"
    assert etcd.call("/v3/lease/grant", {"TTL": 100})["TTL"] == "100"


def test_a_lease_that_is_gone_is_kept_alive_with_200_and_no_time(etcd):
    answer = etcd.call("/v3/lease/keepalive", {"ID": 5})
    assert answer["result"]["ID"] == "5"
    assert "TTL" not in answer["result"]
    assert etcd.call("/v3/lease/timetolive", {"ID": 5})["TTL"] == "-1"


def test_zeros_are_left_out_and_long_numbers_are_texts(etcd):
    answer = etcd.call("/v3/kv/range", {"key": encoded("nothing")})
    assert set(answer) == {"header"}
    assert isinstance(answer["header"]["revision"], str)
    etcd.put("empty", "")
    (pair,) = etcd.call("/v3/kv/range", {"key": encoded("empty")})["kvs"]
    assert "value" not in pair
    assert "lease" not in pair


def test_limits_of_a_transaction_are_told(etcd):
    puts = [{"request_put": {"key": encoded(f"{n}"), "value": ""}} for n in range(129)]
    assert etcd.post("/v3/kv/txn", {"success": puts})[0] == 400
    assert etcd.post("/v3/kv/txn", {"success": [puts[0], puts[0]]})[0] == 400
    assert etcd.post("/v3/kv/txn", {"success": puts[:128]})[0] == 200


@pytest.mark.parametrize(("size", "status"), [(1_400_000, 200), (1_600_000, 400)])
def test_requests_of_more_than_1_5_mib_are_refused(etcd, size, status):
    assert etcd.post("/v3/kv/put", {"key": encoded("big"), "value": encoded(b"x" * size)})[0] == status


def test_a_watch_begins_with_created_and_a_compacted_one_ends_without_ending(etcd):
    etcd.put("a", "1")
    etcd.put("a", "2")
    oldest = etcd.compact()
    created, canceled = stream_lines(etcd, create(key=encoded("a"), start_revision=1), 2)
    assert created["result"]["created"] is True
    assert canceled["result"]["canceled"] is True
    assert int(canceled["result"]["compact_revision"]) == oldest
    (again, event) = stream_lines(etcd, create(key=encoded("a"), start_revision=oldest), 2)
    assert again["result"]["created"] is True
    assert event["result"]["events"][0]["kv"]["mod_revision"] == str(oldest)


def test_two_watches_can_share_one_request(etcd):
    revision = etcd.put("a", "1")
    etcd.put("b", "1")
    body = create(key=encoded("a"), start_revision=revision) + create(key=encoded("b"), start_revision=revision)
    lines = stream_lines(etcd, body, 4)
    assert sorted(int(line["result"].get("watch_id", 0)) for line in lines) == [0, 0, 1, 1]


def test_many_large_events_are_cut_into_fragments(etcd):
    start = etcd.put("f/first", "x")
    for turn in range(60):
        etcd.put(f"f/{turn}", b"x" * 40_000)
    (created, first) = stream_lines(
        etcd, create(key=encoded("f/"), range_end=encoded("f0"), start_revision=start, fragment=True), 2
    )
    assert created["result"]["created"] is True
    assert first["result"]["fragment"] is True
    assert 0 < len(first["result"]["events"]) < 60


def test_a_watch_of_nothing_is_never_answered(etcd):
    connection = http.client.HTTPConnection(etcd.host, etcd.port, timeout=HEADER_TIMEOUT)
    connection.request("POST", "/v3/watch", b"{}")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()


def test_other_methods_are_not_for_the_gateway(etcd):
    connection = http.client.HTTPConnection(etcd.host, etcd.port, timeout=10)
    connection.request("GET", "/v3/kv/range")
    assert connection.getresponse().status == (405 if etcd.release == OLDER else 501)
    connection.close()
