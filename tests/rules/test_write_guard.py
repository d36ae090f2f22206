"""Writes that concern Kubernetes' own keys are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.keys import prefix_end
from consul_access.rules.write_guard import refuse_kubernetes

keys = st.text("/regisyt0.\x7f", max_size=12).map(str.encode) | st.sampled_from(
    [b"/registry", b"/registry/", b"/registry/a", b"/registry0", b"/registr", b"/"]
)


def refused(key: bytes, end: bytes | None = None) -> bool:
    try:
        refuse_kubernetes(key, end, "/registry")
    except InvalidInput:
        return True
    return False


@given(keys.filter(bool))
def test_a_key_is_refused_exactly_when_it_lies_below_the_prefix(key: bytes):
    assert refused(key) == key.startswith(b"/registry/")


@given(keys, keys)
def test_a_range_is_refused_whenever_it_holds_a_refused_key(prefix: bytes, key: bytes):
    if key.startswith(prefix) and key.startswith(b"/registry/"):
        assert refused(prefix or b"\0", prefix_end(prefix))


@pytest.mark.parametrize("prefix", [b"/registry0", b"/a", b"/z", b"web/", b"/registrx"])
def test_other_prefixes_are_free(prefix: bytes):
    assert not refused(prefix, prefix_end(prefix))


def test_the_refusal_says_what_to_do():
    with pytest.raises(InvalidInput, match="allow_kubernetes_writes=True"):
        refuse_kubernetes(b"/registry/services/specs/default/web", None, "/registry")
