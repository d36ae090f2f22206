"""What this library relies on at etcd's gateway, looked at with nothing of ours in between."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.etcd import OLDER, RELEASES, encoded

HEADER_TIMEOUT = 3.0


@contextlib.contextmanager
def watching(etcd, body: bytes, headers: dict[str, str] | None = None) -> Iterator[Iterator[dict]]:
    """The lines of a watch, as they come."""
    connection = http.client.HTTPConnection(etcd.host, etcd.port, timeout=10)

    def lines(answer: http.client.HTTPResponse) -> Iterator[dict]:
        data = b""
        while piece := answer.read1():  # unlike readline() it says when the stream ends in the middle
            *whole, data = (data + piece).split(b"\n")
            yield from (json.loads(line) for line in whole if line.strip())

    try:
        connection.request("POST", "/v3/watch", body, headers or {})
        yield lines(connection.getresponse())
    finally:
        connection.close()


def stream_lines(etcd, body: bytes, number: int, *, headers: dict[str, str] | None = None) -> list[dict]:
    """The first lines of a watch."""
    with watching(etcd, body, headers) as lines:
        return [next(lines) for _ in range(number)]


def lines_until(etcd, body: bytes, goes_on: Callable[[dict], bool]) -> None:
    """Tells of each line of a watch, as long as that wants another one."""
    with watching(etcd, body) as lines:
        while goes_on(next(lines)):
            pass


def create(**fields) -> bytes:
    return json.dumps({"create_request": fields}).encode()


@pytest.fixture(params=RELEASES)
def release(request) -> str:
    return request.param


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


def test_events_are_shown_as_they_were_asked_for(etcd):
    start = etcd.put("a", "1")
    etcd.put("a", "2")
    etcd.delete("a")
    body = create(key=encoded("a"), start_revision=start, prev_kv=True)
    body += create(key=encoded("a"), start_revision=start, filters=["NOPUT"])
    body += create(key=encoded("a"), start_revision=start, filters=["NODELETE"])
    events: dict[str, list] = {"0": [], "1": [], "2": []}

    def told(line: dict) -> bool:
        events[line["result"].get("watch_id", "0")] += line["result"].get("events", [])
        return sum(map(len, events.values())) < 6

    lines_until(etcd, body, told)
    first, second, third = events["0"]
    assert ("type" in first, "prev_kv" in first, first["kv"]["version"]) == (False, False, "1")
    assert (second["prev_kv"]["value"], second["kv"]["value"], second["kv"]["version"]) == ("MQ==", "Mg==", "2")
    assert (third["type"], third["kv"], third["prev_kv"]["value"]) == (
        "DELETE", {"key": encoded("a"), "mod_revision": str(start + 2)}, "Mg==",
    )  # fmt: skip
    assert [event.get("type", "PUT") for event in events["1"]] == ["DELETE"]
    assert [event["kv"]["version"] for event in events["2"]] == ["1", "2"]
    assert all("prev_kv" not in event for event in (*events["1"], *events["2"]))


def test_a_watch_of_the_future_waits_for_it(etcd):
    start = etcd.put("a", "1") + 3
    with watching(etcd, create(key=encoded("a"), start_revision=start)) as lines:
        assert next(lines)["result"]["created"] is True
        for value in ("2", "3", "4"):
            etcd.put("a", value)
        (event,) = next(lines)["result"]["events"]
        assert (event["kv"]["mod_revision"], event["kv"]["value"]) == (str(start), encoded("4"))


def test_progress_can_be_asked_for_at_the_beginning(etcd):
    revision = etcd.put("a", "1")
    body = create(key=encoded("a"), watch_id=7) + b'{"progress_request": {}}'
    told = {line["result"]["watch_id"]: line["result"] for line in stream_lines(etcd, body, 2)}  # in either order
    assert told["7"]["created"] is True
    assert int(told["-1"]["header"]["revision"]) == revision


def test_a_second_watch_of_the_same_id_is_refused_and_says_why(etcd):
    created, refused = stream_lines(
        etcd, create(key=encoded("a"), watch_id=7) + create(key=encoded("b"), watch_id=7), 2
    )
    assert created["result"]["watch_id"] == "7"
    assert (refused["result"]["watch_id"], refused["result"]["created"], refused["result"]["canceled"]) == (
        "-1",
        True,
        True,
    )
    assert "duplicate watch ID" in refused["result"]["cancel_reason"]


def test_a_watch_beyond_ones_rights_is_created_and_canceled_at_once(etcd_with_users):
    token = etcd_with_users.token("ann", "annpw")
    body = create(key=encoded("bob/"))
    (line,) = stream_lines(etcd_with_users, body, 1, headers={"Authorization": token})
    assert (line["result"]["watch_id"], line["result"]["created"], line["result"]["canceled"]) == ("-1", True, True)
    assert "permission denied" in line["result"]["cancel_reason"]


def test_streams_of_a_server_that_ends_in_order_say_so_at_most_and_those_of_a_killed_one_break(etcd_server, release):
    server = etcd_server(release)
    server.put("a", "1")
    with watching(server, create(key=encoded("a"))) as lines:
        assert next(lines)["result"]["created"] is True
        server.stop()
        last = []
        with contextlib.suppress(ConnectionResetError):  # 3.4 and 3.5 mostly say why, or end without a word, or do this
            for line in lines:
                last.append(line)  # noqa: PERF402 - what came before a reset counts
        assert [line["error"].get("code", line["error"].get("grpc_code")) for line in last] in ([], [14])
    server.run()
    with watching(server, create(key=encoded("a"))) as lines:
        assert next(lines)["result"]["created"] is True
        server.kill()
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            next(lines)


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
