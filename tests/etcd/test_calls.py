"""Calls of etcd's gateway: what is sent, and what is read from both generations' answers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from consul_access.call import Call, Headers, Repeat, Reply
from consul_access.errors import AuthenticationFailed, BadAnswer, InvalidInput, TokenUnknown
from consul_access.etcd import auth, cluster, kv, leases
from consul_access.models.keys import KeyMetadata, KeyValue, prefix_end


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def sent(call: Call[Any]) -> Any:
    assert call.method == "POST"
    assert call.body is not None
    return json.loads(call.body)


def read(call: Call[Any], answer: Any, status: int = 200) -> Any:
    body = answer if isinstance(answer, str) else json.dumps(answer)
    return call.read(Reply(status, Headers(), body.encode()))


HEADER = {"cluster_id": "14841639068965178418", "member_id": "10276657743932975437", "revision": "7", "raft_term": "2"}
PAIR = {"key": b64("a"), "create_revision": "2", "mod_revision": "3", "version": "2", "value": b64("b")}


# --- keys ------------------------------------------------------------------------------------------------------


def test_a_key_is_read_with_what_is_known_about_it():
    call = kv.get(kv.Get("a"))
    assert (call.path, sent(call), call.repeat) == ("/v3/kv/range", {"key": b64("a")}, Repeat.READ)
    page = read(call, {"header": HEADER, "kvs": [PAIR | {"lease": "7587869"}], "count": "1"})
    assert page == ((KeyValue(b"b", KeyMetadata(b"a", 2, 3, 2, 7587869)),), False, 1, 7)


def test_what_is_zero_may_be_missing():
    assert read(kv.get(kv.Get("a")), {"header": HEADER}) == ((), False, 0, 7)
    (found,) = read(kv.get(kv.Get("a")), {"kvs": [{"key": b64("a")}]}).items
    assert found == KeyValue(b"", KeyMetadata(b"a"))


def test_options_of_a_range_are_spelt_as_etcd_ignores_all_others():
    wanted = kv.Get("a", b"b", limit=5, revision=3, serializable=True, keys_only=True, count_only=True)
    assert sent(kv.get(wanted)) == {
        "key": b64("a"),
        "range_end": b64("b"),
        "limit": 5,
        "revision": 3,
        "serializable": True,
        "keys_only": True,
        "count_only": True,
    }


def test_the_empty_prefix_means_all_keys():
    assert sent(kv.get_prefix("")) == {"key": "AA==", "range_end": "AA=="}


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_a_prefixs_range_holds_exactly_the_keys_that_begin_with_it(prefix: bytes, key: bytes):
    first, end = kv.prefix_range(prefix)
    within = key >= first and (end == b"\0" or key < end)
    if key:  # etcd has no empty key
        assert within == key.startswith(prefix) or (prefix == b"" and key == b"")


def test_the_end_of_a_prefix_carries_over():
    assert prefix_end(b"a/") == b"a0"
    assert prefix_end(b"a\xff") == b"b"
    assert prefix_end(b"\xff\xff") == b"\0"


def test_the_next_page_begins_behind_the_last_key_at_the_first_pages_revision():
    following = kv.next_page(kv.Get("a", b"b", limit=2), b"a2", 9)
    assert (following.key, following.range_end, following.limit, following.revision) == (b"a2\0", b"b", 2, 9)


def test_writing_is_not_repeated_unless_that_is_harmless():
    call = kv.put(kv.Put("a", b"\xff", 12, previous=True))
    assert sent(call) == {"key": b64("a"), "value": b64(b"\xff"), "lease": 12, "prev_kv": True}
    assert call.repeat is Repeat.NEVER
    assert kv.put(kv.Put("a", "b"), repeat=Repeat.IDEMPOTENT).repeat is Repeat.IDEMPOTENT
    assert read(call, {"header": HEADER, "prev_kv": PAIR}) == (7, KeyValue(b"b", KeyMetadata(b"a", 2, 3, 2)))
    assert kv.delete(kv.Delete("a")).repeat is Repeat.NEVER


def test_deleting_tells_how_many():
    call = kv.delete(kv.Delete("a", b"b", previous=True))
    assert sent(call) == {"key": b64("a"), "range_end": b64("b"), "prev_kv": True}
    assert read(call, {"header": HEADER, "deleted": "1", "prev_kvs": [PAIR]})[0] == 1
    assert read(call, {"header": HEADER}) == (0, 7, ())


def test_a_transaction_compares_and_does():
    call = kv.txn(
        [kv.Compare.value("a", "=", "1"), kv.Compare.missing("b"), kv.Compare.mod_revision("c", "<", 5)],
        [kv.Put("a", "2"), kv.Delete("b")],
        [kv.Get("a")],
    )
    assert sent(call) == {
        "compare": [
            {"key": b64("a"), "target": "VALUE", "result": "EQUAL", "value": b64("1")},
            {"key": b64("b"), "target": "CREATE", "result": "EQUAL", "create_revision": "0"},
            {"key": b64("c"), "target": "MOD", "result": "LESS", "mod_revision": "5"},
        ],
        "success": [
            {"request_put": {"key": b64("a"), "value": b64("2")}},
            {"request_delete_range": {"key": b64("b")}},
        ],
        "failure": [{"request_range": {"key": b64("a")}}],
    }
    assert call.repeat is Repeat.NEVER
    assert kv.txn([kv.Compare.exists("a")], [kv.Get("a")]).repeat is Repeat.READ
    answer = read(
        call,
        {
            "header": HEADER,
            "succeeded": True,
            "responses": [{"response_put": {"header": HEADER}}, {"response_delete_range": {"deleted": "2"}}],
        },
    )
    assert (answer.succeeded, answer.answers[0].revision, answer.answers[1].deleted) == (True, 7, 2)
    other = read(call, {"responses": [{"response_range": {"kvs": [PAIR], "count": "1"}}]})
    assert (other.succeeded, other.answers[0].total) == (False, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: kv.get(kv.Get("")),
        lambda: kv.put(kv.Put(b"", "x")),
        lambda: kv.put(kv.Put("a", 5)),  # type: ignore[arg-type]
        lambda: kv.put(kv.Put("a", "\ud800")),
        lambda: kv.txn([], [kv.Put("a", "1"), kv.Put(b"a", "2")]),
        lambda: kv.txn([], [kv.Put(f"{n}", "") for n in range(129)]),
        lambda: kv.Compare.value("a", "==", "1"),  # type: ignore[arg-type]
        lambda: kv.Compare.version("a", "=", -1),
        lambda: leases.grant(0),
        lambda: leases.grant(9_000_000_001),
        lambda: leases.grant(2.5),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_right_is_refused_before_it_is_sent(wrong):
    with pytest.raises(InvalidInput):
        wrong()


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"kvs":[{"key":"%%%"}]}', '{"kvs":5}', '{"count":"x"}', '{"kvs":[5]}']
)
def test_an_answer_that_is_none_is_a_bad_answer(body: str):
    with pytest.raises(BadAnswer):
        read(kv.get(kv.Get("a")), body)


# --- leases, logging in, the cluster ---------------------------------------------------------------------------


def test_a_lease_is_granted_in_capital_letters():
    call = leases.grant(10)
    assert (call.path, sent(call), call.repeat) == ("/v3/lease/grant", {"TTL": 10}, Repeat.IDEMPOTENT)
    assert read(call, {"header": HEADER, "ID": "7587869", "TTL": "10"}) == (7587869, 10)
    assert sent(leases.grant(10, id=5)) == {"TTL": 10, "ID": 5}
    assert leases.grant(10, id=5).repeat is Repeat.NEVER


def test_a_lease_that_has_ended_shows_by_what_is_missing():
    call = leases.keepalive(5)
    assert read(call, {"result": {"header": HEADER, "ID": "5", "TTL": "7"}}) == 7
    assert read(call, {"result": {"header": HEADER, "ID": "5"}}) is None
    status = leases.time_to_live(5, keys=True)
    assert read(status, {"TTL": "-1", "ID": "5"}) is None
    assert read(status, {"TTL": "3", "grantedTTL": "9", "keys": [b64("a")]}) == (3, 9, (b"a",))


def test_logging_in_gives_a_token_or_none_where_there_are_no_users():
    call = auth.authenticate("ann", SecretStr("s3cret"))
    assert "s3cret" not in repr(call)
    assert read(call, {"header": HEADER, "token": "abc.12"}).get_secret_value() == "abc.12"
    nobody = "etcdserver: authentication is not enabled"
    assert read(call, {"error": nobody, "message": nobody, "code": 9}, 412) is None
    assert read(call, {"code": 9, "message": nobody}, 400) is None
    with pytest.raises(AuthenticationFailed):
        read(call, {"code": 3, "message": "etcdserver: authentication failed, invalid user ID or password"}, 400)
    with pytest.raises(TokenUnknown):
        read(call, {"code": 3, "message": "etcdserver: user name is empty"}, 400)


def test_members_and_status_have_ids_beyond_64_bits_with_a_sign():
    (member, other) = read(
        cluster.members(),
        {"members": [{"ID": "18446744073709551615", "name": "m0", "clientURLs": ["http://x:1"]}, {"ID": "1"}]},
    )
    assert (member.id, member.client_urls) == (2**64 - 1, ("http://x:1",))
    assert (other.name, other.client_urls) == ("", ())
    status = read(
        cluster.status(),
        {"header": HEADER, "version": "3.5.16", "leader": HEADER["member_id"], "errors": ["NOSPACE"]},
    )
    assert status.is_leader
    assert status.errors == ("NOSPACE",)
    assert read(cluster.status(), {"header": HEADER, "version": "3.4.23"}).leader is None
