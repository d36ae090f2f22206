"""etcd's messages, held against the descriptions that they come with, and read as protobuf itself reads them."""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from functools import cache

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from consul_access.compat.descriptors import FILES
from consul_access.errors import AnswerTooLarge, BadAnswer, BadValue, ConsulAccessError, InvalidInput
from consul_access.etcd.coding import key_value
from consul_access.etcd.message_watch import MessageDecoder
from consul_access.etcd.messages import METHODS, TOLD, as_json, decode, documents, encode, framed, messages_of

KINDS = {
    "int": FieldDescriptor.TYPE_INT64,
    "uint": FieldDescriptor.TYPE_UINT64,
    "short": FieldDescriptor.TYPE_UINT32,
    "flag": FieldDescriptor.TYPE_BOOL,
    "text": FieldDescriptor.TYPE_STRING,
    "bytes": FieldDescriptor.TYPE_BYTES,
    "enum": FieldDescriptor.TYPE_ENUM,
    "message": FieldDescriptor.TYPE_MESSAGE,
    "pair": FieldDescriptor.TYPE_MESSAGE,
}
SINCE_THE_DESCRIPTORS = {
    "StatusResponse": {"raftAppliedIndex", "errors", "dbSizeInUse", "isLearner"},
    "Member": {"isLearner"},
    "MemberListRequest": {"linearizable"},
    "WatchCreateRequest": {"watch_id", "fragment"},
    "WatchResponse": {"cancel_reason", "fragment"},
    "Compare": {"lease", "range_end"},
}
"""Fields that came after the version that the descriptions are of (etcd 3.2)."""
EVERY = [pytest.param(path, method, id=path) for path, method in METHODS.items()]


@cache
def pool():
    made = descriptor_pool.DescriptorPool()
    for name in ("kv", "auth", "rpc"):
        made.AddSerializedFile(zlib.decompress(base64.b64decode(FILES[name])))
    return made


def descriptor(name):
    return pool().FindMessageTypeByName(f"etcdserverpb.{name}")


def compare(message, described):
    for name, field in message.by_name.items():
        if name in SINCE_THE_DESCRIPTORS.get(described.name, ()):
            continue
        theirs = described.fields_by_name[name]
        assert (field.number, KINDS[field.kind], field.many) == (theirs.number, theirs.type, theirs.is_repeated), name
        if field.kind == "enum":
            known = [value.name for value in theirs.enum_type.values]
            assert list(field.names[: len(known)]) == known
        if field.kind == "message":
            compare(field.message, theirs.message_type)


@pytest.mark.parametrize(("path", "method"), EVERY)
def test_fields_are_those_that_etcd_describes(path, method):
    compare(method.request, descriptor(f"{method.message}Request"))
    compare(method.answer, descriptor(f"{method.message}Response"))


@pytest.mark.parametrize(("path", "method"), EVERY)
def test_paths_are_those_of_the_methods(path, method):
    service = pool().FindServiceByName(f"etcdserverpb.{method.service}")
    (theirs,) = (one for one in service.methods if one.name == method.name)
    assert method.path == f"/etcdserverpb.{service.name}/{theirs.name}"
    assert (theirs.input_type.name, theirs.output_type.name) == (
        f"{method.message}Request",
        f"{method.message}Response",
    )


NUMBERS = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "uint": st.integers(0, 2**64 - 1),
    "short": st.integers(0, 2**32 - 1),
    "flag": st.booleans(),
    "text": st.text(max_size=5),
    "bytes": st.binary(max_size=200),
}
PAIRS = st.fixed_dictionaries(
    {},
    optional={
        "key": st.binary(max_size=300),
        "value": st.binary(max_size=300),
        "create_revision": st.integers(0, 2**63 - 1),
        "mod_revision": st.integers(0, 300),
        "version": st.integers(0, 2**63 - 1),
        "lease": st.integers(-(2**63), 2**63 - 1),
    },
)


def values(field, described):
    if field.kind == "enum":
        return st.sampled_from([value.number for value in described.enum_type.values])
    if field.kind == "pair":
        return PAIRS
    if field.kind == "message":
        return contents(field.message, described.message_type)
    return NUMBERS[field.kind]


def contents(message, described):
    """What such a message may hold, as protobuf takes it."""
    known = {
        name: (field, described.fields_by_name[name])
        for name, field in message.by_name.items()
        if name in described.fields_by_name
    }
    optional = {
        name: st.lists(values(field, theirs), max_size=3) if field.many else values(field, theirs)
        for name, (field, theirs) in known.items()
    }
    if described.name in {"RequestOp", "ResponseOp", "WatchRequest"}:  # one of them
        return st.one_of([st.fixed_dictionaries({name: one}) for name, one in optional.items()])
    return st.fixed_dictionaries({}, optional=optional)


def made(name, content):
    return message_factory.GetMessageClass(descriptor(name))(**content)


@pytest.mark.parametrize(("path", "method"), EVERY)
@settings(max_examples=25)
@given(data=st.data())
def test_an_answer_is_read_as_the_gateways_json_has_it(path, method, data):
    name = f"{method.message}Response"
    theirs = made(name, data.draw(contents(method.answer, descriptor(name))))
    found = decode(method.answer, memoryview(theirs.SerializeToString()))
    told = json_format.MessageToDict(theirs, preserving_proto_field_name=True)
    assert without_pairs(as_json(method.answer, found)) == without_pairs(told)
    assert pairs(found) == pairs(told)


def pairs(found):
    """All pairs of key and value in there, in their order."""
    if isinstance(found, list):
        return [pair for part in found for pair in pairs(part)]
    told = []
    for name, value in found.items() if isinstance(found, dict) else ():
        if name in {"kv", "prev_kv", "kvs", "prev_kvs"}:
            told += map(key_value, value if isinstance(value, list) else [value])
        else:
            told += pairs(value)
    return told


def without_pairs(found):
    """The rest, without what a zero, or nothing, is told as."""
    if isinstance(found, dict):
        rest = {name: without_pairs(value) for name, value in found.items()}
        return {name: value for name, value in rest.items() if value not in ("0", 0, "", False, {}, [], "NONE", "PUT")}
    return [without_pairs(one) for one in found] if isinstance(found, list) else found


@pytest.mark.parametrize(("path", "method"), EVERY)
@settings(max_examples=25)
@given(data=st.data())
def test_a_request_is_written_as_protobuf_writes_the_gateways_json(path, method, data):
    name = f"{method.message}Request"
    theirs = made(name, data.draw(contents(method.request, descriptor(name))))
    body = json_format.MessageToJson(theirs, preserving_proto_field_name=True).encode()
    (document,) = documents(body)
    ours = encode(method.request, document)
    assert message_factory.GetMessageClass(descriptor(name)).FromString(ours) == theirs


@pytest.mark.parametrize(("path", "method"), EVERY)
@given(noise=st.binary(max_size=200))
def test_no_bytes_are_an_unhandled_error(path, method, noise):
    try:
        answer = decode(method.answer, memoryview(noise))
    except BadValue:
        return
    json.dumps(as_json(method.answer, answer))


def test_a_damaged_answer_is_told_wherever_it_is_damaged():
    pairs = [{"key": b"k" * 200, "value": b"v", "mod_revision": 300}, {"key": b"l", "lease": -1}, {"key": b"m"}]
    whole = made("RangeResponse", {"header": {"revision": 7}, "kvs": pairs, "count": 1}).SerializeToString()
    method = METHODS["/v3/kv/range"]
    assert decode(method.answer, memoryview(whole))["count"] == 1
    for position in range(1, len(whole)):
        for byte in (0, 0x7F, 0x80, 0xFF):
            readable(method, whole[:position] + bytes([byte]) + whole[position + 1 :])
    cut_off = [position for position in range(len(whole)) if not readable(method, whole[:position])]
    assert len(cut_off) > len(whole) - 10  # all but the ends of its six fields


def readable(method, data):
    """Whether it can be read; anything but `BadValue` is an error of ours."""
    try:
        decode(method.answer, memoryview(data))
    except BadValue:
        return False
    return True


def test_fields_of_later_versions_are_skipped_also_in_pairs():
    later = b"\xa2\x06\x03new" + b"\xa8\x06\x05" + b"\xb1\x06" + b"\xff" * 8
    pair = b"\x0a\x01k" + later + b"\x2a\x01v"
    message = (later + b"\x12" + bytes([len(pair)]) + pair) * 2 + b"\x12" + bytes([len(pair)]) + pair
    answer = decode(METHODS["/v3/kv/range"].answer, memoryview(message))
    assert [(one.key, one.value) for one in answer["kvs"]] == [(b"k", b"v")] * 3


@pytest.mark.parametrize("pairs", [1, 2])
def test_a_number_in_a_pair_has_64_bits_at_most(pairs):
    method, negative = METHODS["/v3/kv/range"], b"\xff" * 9 + b"\x01"
    for number, expected in ((negative, -1), (b"\xff" * 9 + b"\x7f", -1), (b"\xff" * 10 + b"\x01", None)):
        message = (b"\x12" + bytes([len(number) + 1]) + b"\x30" + number) * pairs
        if expected is None:
            assert not readable(method, message)
        else:
            assert [one.metadata.lease for one in decode(method.answer, memoryview(message))["kvs"]] == [
                expected
            ] * pairs


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v3/kv/range", b'{"kye": "a2V5"}', "'kye' is no field"),
        ("/v3/kv/range", b'{"limit": "9223372036854775808"}', "64 bits"),
        ("/v3/lease/grant", b'{"TTL": 36893488147419103232}', "64 bits"),
    ],
)
def test_a_request_that_is_none_is_refused(path, body, text):
    with pytest.raises(InvalidInput, match=text):
        encode(METHODS[path].request, documents(body)[0])


def test_several_documents_are_read_one_by_one():
    assert documents(b'{"ID":1}{"ID":2}') == [{"ID": 1}, {"ID": 2}]
    assert documents(b"{}") == [{}]


@given(messages=st.lists(st.binary(max_size=20), max_size=5), cut=st.integers(0, 200))
def test_messages_are_whole_or_still_to_come(messages, cut):
    data = b"".join(map(framed, messages))
    found, rest = messages_of(data[:cut], 100)
    more, nothing = messages_of(rest + data[cut:], 100)
    assert [bytes(message) for _, message in found + more] == messages
    assert nothing == b""


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"\1\0\0\0\1x", BadAnswer), (b"\0\0\0\1\0", AnswerTooLarge), (b"\0\xff\xff\xff\xff", AnswerTooLarge)],
)
def test_packed_and_endless_messages_are_refused(data, error):
    with pytest.raises(error):
        messages_of(data, 100)


def test_a_watch_tells_events_and_how_it_ended():
    event = made(
        "WatchResponse",
        {"header": {"revision": 9}, "watch_id": 1, "events": [{"type": 1, "kv": {"key": b"k", "mod_revision": 9}}]},
    ).SerializeToString()
    decoder = MessageDecoder(1000)
    told = framed(event) + framed(b'{"error": {"code": 14, "message": "etcdserver: no leader"}}', TOLD)
    lines = [line for at in range(len(told)) for line in decoder.feed(told[at : at + 1])]
    first, second = lines
    assert (first.watch_id, first.revision, first.events[0].kind, first.events[0].key) == (1, 9, "delete", b"k")
    assert second.error == ("etcdserver: no leader", 14)


@given(noise=st.binary(max_size=300))
def test_no_bytes_of_a_watch_are_an_unhandled_error(noise):
    for data in (noise, framed(noise)):
        with contextlib.suppress(ConsulAccessError):
            MessageDecoder(200).feed(data)
