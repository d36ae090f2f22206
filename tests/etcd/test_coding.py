"""Bodies for the gateway: bytes become base64, and nothing else may look like it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.etcd import kv
from consul_access.etcd.coding import gateway_body

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.binary()
plain |= st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(exclude_categories=["Cs"]))
objects = st.dictionaries(
    names,
    st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=20),
)


def as_etcd_reads_it(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: as_etcd_reads_it(inner) for name, inner in value.items()}
    return [as_etcd_reads_it(inner) for inner in value] if isinstance(value, list) else value


@given(objects)
def test_a_body_says_what_json_itself_would_say(fields: dict[str, Any]) -> None:
    assert json.loads(gateway_body(fields)) == as_etcd_reads_it(fields)


@pytest.mark.parametrize("value", [float("nan"), "\ud800", object(), {"in": "\udfff"}])
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        gateway_body({"field": value})


def test_no_name_and_no_text_ends_its_string() -> None:
    hostile = '","prev_kv":true,"x":"'
    assert json.loads(gateway_body({hostile: hostile})) == {hostile: hostile}
    assert json.loads(gateway_body(kv.Compare(b"k", hostile, hostile, "=", 1).body()))["target"] == hostile


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.binary(min_size=1)


@given(KEYS)
def test_the_short_way_to_one_key_makes_the_same_call(key: str | bytes) -> None:
    short, long = kv.get_key(key), kv.get(kv.Get(key))
    assert (short.name, short.path, short.body, short.subject, short.repeat) == (
        long.name,
        long.path,
        long.body,
        long.subject,
        long.repeat,
    )


@given(KEYS, st.text(st.characters(exclude_categories=["Cs"])) | st.binary())
def test_what_is_put_without_anything_else_is_written_as_any_other_body(key: str | bytes, value: str | bytes) -> None:
    operation = kv.Put(key, value)

    assert kv.put(operation).body == gateway_body(operation.body())
