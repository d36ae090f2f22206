"""Which version knows which field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access import BadAnswer, UnsupportedByAgent
from consul_access.rules.versions import Version, check, needs_version


@pytest.mark.parametrize(
    ("text", "numbers", "prerelease", "enterprise"),
    [
        ("1.8.7", (1, 8, 7), "", False),
        ("v1.10.11", (1, 10, 11), "", False),
        ("1.22.0+ent", (1, 22, 0), "", True),
        ("1.9.0-beta1", (1, 9, 0), "beta1", False),
        ("1.8.7+dfsg1", (1, 8, 7), "", False),
        ("1.21.0-rc1+ent.fips1402", (1, 21, 0), "rc1", True),
        ("2.0", (2, 0, 0), "", False),
    ],
)
def test_versions_are_read(text, numbers, prerelease, enterprise):
    assert Version.parse(text) == Version(numbers, prerelease, enterprise)


@pytest.mark.parametrize("text", ["", "x", "one.two"])
def test_what_is_no_version_is_a_bad_answer(text):
    with pytest.raises(BadAnswer):
        Version.parse(text)


@pytest.mark.parametrize(
    ("field", "first", "before"),
    [
        ("H2PING", "1.10.0", "1.9.17"),
        ("H2PingUseTLS", "1.11.0", "1.10.12"),
        ("FailuresBeforeWarning", "1.11.0", "1.10.12"),
        ("UDP", "1.13.0", "1.12.9"),
        ("OSService", "1.14.0", "1.13.9"),
        ("TCPUseTLS", "1.16.2", "1.16.1"),
        ("TLSServerName", "1.10.0", "1.9.17"),
        ("DisableRedirects", "1.9.17", "1.9.16"),
        ("DisableRedirects", "1.10.10", "1.10.9"),
        ("DisableRedirects", "1.11.5", "1.11.4"),
        ("DisableRedirects", "1.12.0", "1.8.7"),
    ],
)
def test_a_field_of_a_check_needs_its_version(field, first, before):
    for payload in ({"Check": {field: 1}}, {"Checks": [{"TTL": "1s"}, {field: 1}]}):
        assert needs_version(payload)
        check(payload, first)
        with pytest.raises(UnsupportedByAgent, match=f"{field}.*{before}"):
            check(payload, before)


@pytest.mark.parametrize(
    ("field", "first", "before"), [("Ports", "1.22.0", "1.21.9"), ("SocketPath", "1.10.0", "1.9.17")]
)
def test_a_field_of_a_service_needs_its_version(field, first, before):
    check({field: 1}, first)
    with pytest.raises(UnsupportedByAgent, match=field):
        check({field: 1}, before)


@pytest.mark.parametrize("field", ["Namespace", "Partition"])
def test_namespaces_and_partitions_need_enterprise(field):
    assert needs_version({field: "x"})
    check({field: "x"}, "1.15.0+ent")
    with pytest.raises(UnsupportedByAgent, match="Enterprise"):
        check({field: "x"}, "1.22.0")


def test_an_ordinary_registration_needs_no_look_at_the_version():
    assert not needs_version({"Name": "w", "Check": {"HTTP": "x", "Interval": "1s"}, "Checks": []})


@given(st.tuples(*[st.integers(0, 30)] * 3), st.tuples(*[st.integers(0, 30)] * 3))
def test_a_newer_version_has_what_an_older_one_has(one, other):
    older, newer = sorted([one, other])
    for since in (((1, 10, 0),), ((2, 3, 4),)):
        if Version(older).has(since):
            assert Version(newer).has(since)
