"""Kubernetes' stored objects: what a real API server wrote, read back, and whatever else may stand there."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import BadValue, EncryptedValue, InvalidInput
from consul_access.etcd.kubernetes import decode, endpoints_key, service_key, services_prefix, slices_prefix
from consul_access.models.kubernetes import Endpoints, EndpointSlice, KubernetesNode, KubernetesService

SETS = {
    one["name"]: one["entries"]
    for one in json.loads((Path(__file__).parent.parent / "samples" / "k8s-etcd-samples.json").read_text())["sets"]
}
MODELS = {"Service": KubernetesService, "Endpoints": Endpoints, "EndpointSlice": EndpointSlice, "Node": KubernetesNode}
LOOKED_INTO = set(MODELS)


def value_of(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["value_b64"])


def as_stored(api: dict[str, Any]) -> dict[str, Any]:
    """What the API answers with, without what is not stored there (the revision) or not decoded (who wrote what)."""
    expected = copy.deepcopy(api)
    for name in ("managedFields", "resourceVersion"):
        expected["metadata"].pop(name, None)
    if expected["kind"] == "Node":  # of whose status only the addresses are looked at
        status = {"addresses": expected["status"]["addresses"]}
        return {name: expected[name] for name in ("apiVersion", "kind", "metadata")} | {"status": status}
    if expected["kind"] not in LOOKED_INTO:
        return {name: expected[name] for name in ("apiVersion", "kind", "metadata")}
    return expected


@pytest.mark.parametrize("entry", SETS["protobuf"], ids=lambda entry: entry["key"])
def test_protobuf_is_read_as_the_api_answers_it(entry):
    assert decode(value_of(entry)) == as_stored(entry["api_json"])


def test_there_are_samples_of_every_kind():
    assert (len(SETS["protobuf"]), len(SETS["json"])) == (34, 23)
    assert {entry["api_json"]["kind"] for entry in SETS["protobuf"]} > LOOKED_INTO


@pytest.mark.parametrize("entry", SETS["json"], ids=lambda entry: entry["key"])
def test_json_is_read_as_it_is(entry):
    found = decode(value_of(entry))
    assert found == json.loads(value_of(entry))
    assert MODELS[found["kind"]].from_api(found).metadata.name == found["metadata"]["name"]


@pytest.mark.parametrize(
    "entry",
    [entry for entry in SETS["protobuf"] if entry["api_json"]["kind"] in MODELS],
    ids=lambda entry: entry["key"],
)
def test_the_models_are_the_same_from_etcd_and_from_the_api(entry):
    stored = decode(value_of(entry))
    stored["metadata"]["resourceVersion"] = entry["mod_revision"]
    kind = MODELS[stored["kind"]]
    # Labels and status changed between the two readings of some objects, the revision tells which.
    if entry["api_json"]["metadata"]["resourceVersion"] == entry["mod_revision"]:
        assert kind.from_api(stored) == kind.from_api(entry["api_json"])


@pytest.mark.parametrize(
    ("kind", "provider"),
    [("services/specs", "aescbc"), ("services/endpoints", "secretbox"), ("endpointslices", "aesgcm")],
)
def test_an_encrypted_value_names_its_provider(kind, provider):
    entries = [entry for entry in SETS["encrypted"] if f"/{kind}/" in entry["key"]]
    assert entries
    for entry in entries:
        with pytest.raises(EncryptedValue, match=provider):
            decode(value_of(entry))


# --- EndpointSlice v1, which Kubernetes 1.21 and later store; the samples are of 1.20 -----------------------------


def packed(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message of numbers and length-delimited fields."""
    found = b""
    for number, value in fields:
        if isinstance(value, int):
            found += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            found += varint(number << 3 | 2) + varint(len(data)) + data
    return found


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def slice_of(version: str, *endpoint: tuple[int, int | str | bytes]) -> bytes:
    """A stored EndpointSlice with one endpoint of these fields and one port."""
    meta = packed((1, "web-x1"), (3, "shop"), (11, packed((1, "kubernetes.io/service-name"), (2, "web"))))
    port = packed((1, "http"), (2, "TCP"), (3, 9100), (4, "h2c"))
    whole = packed((1, meta), (2, packed(*endpoint)), (3, port), (4, "IPv6"))
    return b"k8s\0" + packed((1, packed((1, version), (2, "EndpointSlice"))), (2, whole))


CONDITIONS = packed((1, 1), (2, 1), (3, 0))
ZONES = packed((1, packed((1, "zone-b"))))


@pytest.mark.parametrize(
    ("version", "fields", "told"),
    [
        (
            "discovery.k8s.io/v1",
            [(5, packed((1, "rack"), (2, "r7"))), (6, "node-1"), (7, "zone-a"), (8, ZONES)],
            {"deprecatedTopology": {"rack": "r7"}, "zone": "zone-a", "hints": {"forZones": [{"name": "zone-b"}]}},
        ),
        (
            "discovery.k8s.io/v1beta1",
            [(5, packed((1, "topology.kubernetes.io/zone"), (2, "zone-a"))), (6, "node-1"), (7, ZONES)],
            {"topology": {"topology.kubernetes.io/zone": "zone-a"}, "hints": {"forZones": [{"name": "zone-b"}]}},
        ),
    ],
)
def test_the_same_field_is_a_zone_in_one_version_and_hints_in_the_other(version, fields, told):
    found = decode(slice_of(version, (1, "2001:db8::5"), (2, CONDITIONS), (3, "web-0"), *fields))
    assert (found["apiVersion"], found["addressType"]) == (version, "IPv6")
    assert found["ports"] == [{"name": "http", "protocol": "TCP", "port": 9100, "appProtocol": "h2c"}]
    assert found["endpoints"] == [
        {
            "addresses": ["2001:db8::5"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "hostname": "web-0",
            "nodeName": "node-1",
            **told,
        }
    ]
    (endpoint,) = EndpointSlice.from_api(found).endpoints
    assert (endpoint.node_name, endpoint.hostname) == ("node-1", "web-0")


# --- damaged ones -------------------------------------------------------------------------------------------------

SMALL = sorted((value_of(entry) for entry in SETS["protobuf"]), key=len)
VARIED = [value_of(entry) for entry in SETS["protobuf"] if entry["api_json"]["kind"] in LOOKED_INTO]


def is_read_or_refused(data: bytes) -> bool:
    """Whether it could be read; any other exception than our own is a failure of the test."""
    try:
        found = decode(data)
        if found["kind"] in MODELS:
            MODELS[found["kind"]].from_api(found)
    except BadValue:
        return False
    return True


@pytest.mark.parametrize("value", VARIED, ids=lambda value: str(len(value)))
def test_cut_off_at_any_byte_a_value_is_read_or_refused(value: bytes):
    outcomes = [is_read_or_refused(value[:length]) for length in range(len(value))]
    assert not any(outcomes[:8])


@pytest.mark.parametrize("value", VARIED, ids=lambda value: str(len(value)))
def test_with_any_byte_damaged_a_value_is_read_or_refused(value: bytes):
    refused = 0
    for position in range(len(value)):
        for flipped in (0xFF, 0x80, 0x01, 0x07):
            damaged = bytearray(value)
            damaged[position] ^= flipped
            refused += not is_read_or_refused(bytes(damaged))
    assert refused > 100


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_mark_are_read_or_refused(data: bytes):
    is_read_or_refused(b"k8s\0" + data)


@given(st.sampled_from(VARIED), st.data())
def test_any_bytes_within_a_value_are_read_or_refused(value: bytes, data: st.DataObject):
    begin = data.draw(st.integers(0, len(value)))
    is_read_or_refused(value[:begin] + data.draw(st.binary(max_size=40)) + value[begin:])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["metadata", "spec", "ports", "endpoints", "subsets", "addresses", "conditions", "status", "name"]
                ),
                inner,
            )
        ),
    )
)
def test_any_json_is_read_or_refused(found: object):
    for kind in MODELS:
        body = {
            "kind": kind,
            "apiVersion": "v1",
            "metadata": found,
            "spec": found,
            "endpoints": found,
            "subsets": found,
        }
        is_read_or_refused(json.dumps(body).encode())


def test_messages_within_messages_have_an_end():
    inner = b""
    for _ in range(10_000):
        size, packed = len(inner), bytearray()
        while size > 127:
            packed.append(size & 127 | 128)
            size >>= 7
        inner = b"\x0a" + bytes([*packed, size]) + inner
        if len(inner) > 100_000:
            break
    assert not is_read_or_refused(b"k8s\0" + inner)


@pytest.mark.parametrize("value", [b"", b"hello", b"k8s", b"{", b"[]", b'{"a":1}', b"k8s\0"])
def test_what_is_no_object_of_kubernetes_is_refused(value: bytes):
    with pytest.raises(BadValue):
        decode(value)


# --- keys ---------------------------------------------------------------------------------------------------------


def test_keys_are_where_kubernetes_has_them():
    keys = {entry["key"] for entry in SETS["protobuf"]}
    assert service_key("/registry", "shop", "web") in keys
    assert endpoints_key("/registry", "shop", "web") in keys
    assert any(key.startswith(slices_prefix("/registry", "shop")) for key in keys)
    assert services_prefix("/registry", None) == "/registry/services/specs/"
    assert services_prefix("/registry", "shop").endswith("/shop/")


@pytest.mark.parametrize("name", ["", "a/b", "a\n", None])
def test_names_that_would_lead_elsewhere_are_refused(name):
    with pytest.raises(InvalidInput):
        service_key("/registry", "default", name)
