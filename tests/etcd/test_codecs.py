"""How instances are written at etcd, and read again."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import BadValue, CheckStatus, InvalidInput, KeyEvent, KeyMetadata, KeyValue, TtlCheck, Weights
from consul_access.call import Headers, Reply
from consul_access.errors import NoLeader, PermissionDenied
from consul_access.etcd import leases
from consul_access.etcd.codecs import CODECS, DEFAULT_PREFIX, instance_of
from consul_access.etcd.holdings import Holdings
from consul_access.models.keys import EventKind
from consul_access.rules.registering import definition

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="%/."), min_size=1)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=20)
IDS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PORTS = st.integers(1, 65535)


def item(key: bytes, value: bytes, revision: int = 7) -> KeyValue:
    return KeyValue(value, KeyMetadata(key, mod_revision=revision))


@given(
    name=NAMES.filter(lambda name: name != "consul"),
    id=IDS,
    port=PORTS,
    tags=st.lists(TEXTS, max_size=3),
    meta=st.dictionaries(st.from_regex(r"\A[A-Za-z0-9_]{1,9}\Z"), TEXTS, max_size=3),
    status=st.sampled_from(CheckStatus),
    weight=st.integers(1, 65535),
)
def test_what_is_written_natively_is_read_again(**given):
    name, id, port, tags, meta, status, weight = given.values()  # noqa: A001
    written = definition(
        name, "10.0.0.5", port, id=id, tags=tags, meta=meta, check=TtlCheck(15), weights=Weights(passing=weight)
    )
    codec = CODECS["native"]
    key = codec.key(DEFAULT_PREFIX, name, id)
    assert key.startswith(codec.key(DEFAULT_PREFIX, name, ""))
    value = codec.encode(written, status, "", "now")
    assert value is not None
    read = instance_of(codec, DEFAULT_PREFIX, item(key, value))
    assert read is not None
    assert (read.service, read.id, read.address) == (name, id, ("10.0.0.5", port))
    assert (read.tags, read.meta, read.status, read.passing_weight) == (tuple(tags), meta, status, weight)
    assert read.modify_index == 7


@given(name=NAMES, other=NAMES, id=IDS)
def test_the_keys_of_one_service_are_never_those_of_another(name, other, id):  # noqa: A002
    codec = CODECS["native"]
    if name != other:
        assert not codec.key(DEFAULT_PREFIX, other, id).startswith(codec.key(DEFAULT_PREFIX, name, ""))


@given(codec=st.sampled_from(sorted(CODECS)), value=st.binary(max_size=60))
def test_bytes_of_any_kind_are_an_instance_or_a_bad_value(codec, value):
    with contextlib.suppress(BadValue):
        instance_of(CODECS[codec], "/p/", item(b"/p/orders/1", value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(field=st.sampled_from(["address", "port", "ports", "tags", "meta", "health", "weights", "schema"]), value=JSON)
def test_fields_of_any_kind_are_an_instance_or_a_bad_value(field, value):
    whole = {"schema": 1, "id": "1", "name": "orders", "address": "10.0.0.5", "port": 1} | {field: value}
    with contextlib.suppress(BadValue):
        instance_of(CODECS["native"], "/p/", item(b"/p/orders/1", json.dumps(whole).encode()))


@given(key=st.binary(max_size=20))
def test_keys_of_any_kind_stand_for_an_instance_or_for_none(key):
    for codec in CODECS.values():
        names = codec.names("/p/", key)
        assert names is None or key.startswith(b"/p/")


@pytest.mark.parametrize("codec", ["go_naming", "kratos"])
@pytest.mark.parametrize("status", [one for one in CheckStatus if one is not CheckStatus.PASSING])
def test_formats_without_health_have_no_value_for_what_does_not_pass(codec, status):
    written = definition("orders", "10.0.0.5", 80, check=TtlCheck(15))
    assert CODECS[codec].encode(written, status, "", "") is None


@pytest.mark.parametrize("codec", ["go_naming", "kratos"])
def test_formats_of_addresses_need_one(codec):
    with pytest.raises(InvalidInput, match="address and a port"):
        CODECS[codec].encode(definition("orders", None, 80, check=TtlCheck(15)), CheckStatus.PASSING, "", "")


def value_of(number: int) -> bytes:
    return json.dumps({"schema": 1, "id": str(number), "name": "orders", "address": "10.0.0.5", "port": 1}).encode()


@given(st.lists(st.tuples(st.sampled_from(["put", "delete", "spoil", "resync"]), st.integers(0, 4))))
def test_holdings_are_what_the_events_amount_to(steps):
    holdings = Holdings(CODECS["native"], "/p/")
    expected: dict[int, bool] = {}
    for step, number in steps:
        key = f"/p/orders/{number}".encode()
        metadata = KeyMetadata(key, mod_revision=1)
        if step == "resync":
            expected = {number: True}
            event = KeyEvent(EventKind.RESYNC, b"/p/", items=(KeyValue(value_of(number), metadata),))
        elif step == "delete":
            expected.pop(number, None)
            event = KeyEvent(EventKind.DELETE, key, metadata=metadata)
        else:
            expected.pop(number, None)
            if step == "put":
                expected[number] = True
            value = value_of(number) if step == "put" else b"spoilt"
            event = KeyEvent(EventKind.PUT, key, value, metadata=metadata)
        holdings.take(event)
        assert [one.id for one in holdings.instances("orders")] == sorted(map(str, expected))
        assert list(holdings.tags()) == (["orders"] if expected else [])


def answered(*lines: str) -> Reply:
    return Reply(200, Headers(()), "\n".join(lines).encode())


def test_heartbeats_of_several_leases_are_told_apart():
    call = leases.keepalive_all([11, 12, 13])
    assert call.body == b'{"ID":11}{"ID":12}{"ID":13}'
    lines = ['{"result":{"header":{},"ID":"11","TTL":"10"}}', "", '{"result":{"ID":"12"}}']
    assert call.read(answered(*lines)) == {11: 10, 12: None}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}', NoLeader),
        ('{"error":{"code":7,"message":"etcdserver: permission denied"}}', PermissionDenied),
    ],
)
def test_an_error_among_heartbeats_is_an_error(line, error):
    with pytest.raises(error):
        leases.keepalive_all([11]).read(answered(line))
