"""Whatever a stranger writes is a value or one of our errors; whatever a user names stays one segment of a URL.

CONSUL_ACCESS_FUZZ multiplies the number of examples; `make fuzz` sets it, and has atheris look further.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consul_access import ConsulAccessError, InvalidInput
from consul_access.call import Call, path
from consul_access.consul import agent, catalog, health
from consul_access.etcd.codecs import CODECS
from consul_access.models.address import Address
from consul_access.models.inputs import identifier, service_name
from tests.faults.decoders import DECODERS, PREFIX, RAW, as_bytes, read_wire
from tests.support.scripted2 import frame

MORE = int(os.environ.get("CONSUL_ACCESS_FUZZ") or 1)
few = settings(max_examples=20 * MORE)
many = settings(max_examples=100 * MORE)

TEXTS = st.text(max_size=8) | st.sampled_from(["", ".", "..", "a/b", "\x00", "10.0.0.5", "::1", "passing", "9" * 400])
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 65535, 65536, 2**31, 2**63, 2**64, 10**400, 1e308, float("inf"), float("nan")])
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@st.composite
def spoilt(draw: st.DrawFn, sample: Any) -> bytes:
    """A good answer in which one value, somewhere, is another one, is missing, or is there twice."""
    whole = {"it": copy.deepcopy(sample)}
    place: Any = whole
    key: Any = "it"
    while isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
    how = draw(st.sampled_from(["another", "another", "gone", "within"]))
    if how == "gone" and place is not whole:
        del place[key]
    elif how == "within":
        place[key] = [place[key]] if draw(st.booleans()) else {"a": place[key]}
    else:
        place[key] = draw(VALUES)
    return json.dumps(whole["it"]).encode()


@st.composite
def cut(draw: st.DrawFn, sample: Any) -> bytes:
    """A good answer with some of its bytes gone or changed."""
    data = bytearray(json.dumps(sample).encode())
    for _ in range(draw(st.integers(1, 3))):
        if data:
            place = draw(st.integers(0, len(data) - 1))
            data[place : place + draw(st.integers(0, 5))] = draw(st.binary(max_size=3))
    return bytes(data)


def check(decoder: Any, data: bytes) -> None:
    """The result can be looked at, and gives no address that cannot be called."""
    try:
        found = decoder(data)
    except ConsulAccessError:
        return
    assert repr(found) is not None
    for one in found if isinstance(found, list | tuple) else [found]:
        try:
            address = getattr(one, "address", None)
        except ConsulAccessError:
            continue
        if isinstance(address, Address):
            assert 1 <= address.port <= 65535
            assert re.fullmatch(r"[^\s/@\[\]?#\x00-\x1f]+", address.host)
            assert ":" not in address.host or "[" in str(address)


@pytest.mark.parametrize("name", DECODERS)
def test_a_good_answer_is_read(name):
    decoder, sample = DECODERS[name]
    assert decoder(as_bytes(sample)) is not None


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
@few
def test_a_spoilt_answer_is_a_value_or_our_error(name, data):
    decoder, sample = DECODERS[name]
    check(decoder, data.draw(spoilt(sample) | cut(sample)))


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=60))
@few
def test_any_bytes_are_a_value_or_our_error(name, data):
    check(DECODERS[name][0], data)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "bomb", [b"[" * 50_000, b'{"a":' * 50_000, b"[" * 5000 + b"]" * 5000, b"9" * 100_000, b"1e999"]
)
def test_bombs_are_a_value_or_our_error(name, bomb):
    check(DECODERS[name][0], bomb)


def leaves(sample: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything in it that holds nothing else."""
    inner = sample.items() if isinstance(sample, dict) else enumerate(sample) if isinstance(sample, list) else None
    if inner is None:
        yield where
        return
    for key, one in inner:
        yield from leaves(one, (*where, key))


@pytest.mark.parametrize("name", DECODERS)
def test_a_number_without_end_at_any_place_is_a_value_or_our_error(name):
    """`1e999` is JSON, and infinite where numbers are floats."""
    decoder, sample = DECODERS[name]
    if isinstance(sample, bytes):  # no JSON
        return
    for way in leaves(sample):
        whole = {"it": copy.deepcopy(sample)}
        place: Any = whole
        for key in ("it", *way)[:-1]:
            place = place[key]
        place[("it", *way)[-1]] = "endless"
        check(decoder, json.dumps(whole["it"]).replace('"endless"', "1e999").encode())


HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"HTTP/9 2\r\n",
    ]
)
LINES = st.sampled_from(
    [
        b"Content-Length: 2",
        b"Content-Length: 3",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Connection: close",
        b"Connection: upgrade",
        b"Upgrade: h2c",
        b": ",
        b"X: \x00",
        b" folded",
        b"X-Consul-Index: 7",
    ]
)
BODIES = st.sampled_from(
    [
        b"[]",
        b"2\r\n[]\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"0\r\n\r\n",
        b"\x1f\x8b\x08\x00",
        b"2\r\n[]\r\n",
        b"",
    ]
) | st.binary(max_size=20)


@given(head=HEADS, lines=st.lists(LINES, max_size=4), body=BODIES)
@many
def test_any_answer_on_the_wire_is_an_answer_or_our_error_and_the_same_however_it_is_cut(head, lines, body):
    check(read_wire, head + b"".join(b"%s\r\n" % line for line in lines) + b"\r\n" + body)


FRAMES = st.lists(
    st.tuples(
        st.integers(0, 10),
        st.sampled_from([0, 1, 4, 5, 8, 13, 255]),
        st.sampled_from([0, 1, 3]),
        st.binary(max_size=40),
    ),
    max_size=8,
)


@given(frames=FRAMES)
@many
def test_any_frames_of_http_2_are_an_answer_or_our_error_and_the_same_however_they_are_cut(frames):
    check(RAW["calls"], b"".join(frame(*one) for one in frames))


@given(data=st.binary(max_size=200))
@many
def test_any_message_of_etcds_is_an_answer_or_our_error(data):
    check(RAW["messages"], data)


# --- names in URLs --------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(), max_size=12) | st.sampled_from(
    [
        "a/b",
        "../../kv",
        "a?b=c",
        "a#b",
        "%2e%2e",
        "a%2Fb",
        "a;b",
        "a\\b",
        "ä ö",
        "☃",
        "a//b",
        "/a",
        "a/../b",
        "a\nb",
        "\ud800",
    ]
)
CALLS: dict[str, tuple[Any, int]] = {
    "health.instances": (health.instances, 3),
    "health.service": (health.service, 3),
    "health.checks": (health.checks, 3),
    "health.node": (health.node, 3),
    "catalog.service": (catalog.service, 3),
    "catalog.node": (catalog.node, 3),
    "agent.service": (agent.service, 3),
    "agent.deregister": (agent.deregister, 4),
    "agent.maintenance": (lambda name: agent.maintenance(name, True), 4),
    "agent.update_check": (lambda name: agent.update_check(name, "passing"), 4),
}
SAFE = re.compile(r"/[A-Za-z0-9_.~!$&'()*+,;=:@%/-]*")


def segments(call: Call[Any]) -> list[str]:
    line, _, _ = call.target_path.partition("?")
    assert SAFE.fullmatch(line), line
    return line.split("/")[1:]


@pytest.mark.parametrize("operation", CALLS)
@given(name=NAMES)
@few
def test_a_name_is_one_segment_of_the_path_or_refused(operation, name):
    make, place = CALLS[operation]
    try:
        found = segments(make(name))
    except InvalidInput:
        return
    usual = segments(make("plain"))
    assert len(found) == len(usual)
    assert unquote(found[place], errors="strict") == name
    assert found[:place] == usual[:place]
    assert found[place] not in {".", ".."}


@given(parts=st.lists(NAMES, min_size=1, max_size=4))
@many
def test_a_path_is_taken_apart_into_what_it_was_made_of(parts):
    try:
        made = path(*parts)
    except InvalidInput:
        return
    assert SAFE.fullmatch(made)
    assert [unquote(part, errors="strict") for part in made.split("/")[1:]] == parts


@given(name=NAMES, value=NAMES)
@many
def test_whatever_is_asked_for_stays_within_its_parameter(name, value):
    try:
        line = health.instances(name, tags=value, meta={"key": value}, near=value).target_path
    except InvalidInput:
        return
    assert line.isascii()
    assert line.isprintable()
    assert " " not in line
    pairs = [part.split("=", 1) for part in line.partition("?")[2].split("&")]
    assert {key for key, *_ in pairs} <= {"passing", "filter", "near", "tag"}


@pytest.mark.parametrize("codec", CODECS)
@given(service=NAMES, identity=NAMES)
@few
def test_a_key_is_taken_apart_into_what_it_was_made_of(codec, service, identity):
    try:
        key = CODECS[codec].key(PREFIX, service_name(service), identifier(identity, "id"))
    except InvalidInput:
        return
    assert key.startswith(PREFIX.encode())
    assert CODECS[codec].names(PREFIX, key) in {None, (service, identity)}
