"""Which fields of a registration an agent's version knows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import BadAnswer, UnsupportedByAgent
from consul_access.models.checks import (
    AliasCheck,
    GrpcCheck,
    H2PingCheck,
    HttpCheck,
    OsServiceCheck,
    ScriptCheck,
    TcpCheck,
    TtlCheck,
    UdpCheck,
)
from consul_access.models.definition import ServiceDefinition
from consul_access.rules.versions import Version, check, needs_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.8.7", Version((1, 8, 7))),
        ("v1.10.11", Version((1, 10, 11))),
        ("1.22", Version((1, 22, 0))),
        ("1.22.0+ent", Version((1, 22, 0), enterprise=True)),
        ("1.22.0+ent.fips1402", Version((1, 22, 0), enterprise=True)),
        ("1.9.0-beta1", Version((1, 9, 0), "beta1")),
        ("1.9.0-beta1+ent", Version((1, 9, 0), "beta1", enterprise=True)),
        ("1.9.0+dev", Version((1, 9, 0))),
        ("1.9.0-dev", Version((1, 9, 0), "dev")),
    ],
)
def test_a_version_is_read_from_what_agents_say(text: str, version: Version) -> None:
    assert Version.parse(text) == version


@pytest.mark.parametrize("text", ["", "consul", "1", "1.x", "-1.2.3"])
def test_what_is_no_version_is_a_bad_answer(text: str) -> None:
    with pytest.raises(BadAnswer, match="which is none"):
        Version.parse(text)


@given(st.tuples(*[st.integers(0, 999)] * 3), st.sampled_from(["", "beta1", "rc.2"]))
def test_a_version_reads_back_as_it_is_written(numbers: tuple[int, int, int], prerelease: str) -> None:
    version = Version(numbers, prerelease)
    assert Version.parse(str(version)) == version


def test_versions_are_compared_by_number_and_not_by_letter() -> None:
    assert Version.parse("1.10.0").has(((1, 9, 0),))
    assert not Version.parse("1.9.9").has(((1, 10, 0),))


def of(check_fields: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    body = {"ID": "web", "Name": "web", **fields}
    return body if check_fields is None else body | {"Check": check_fields}


# Field, then for every line of versions the last that does not know it and the first that does.
BORDERS: list[tuple[dict[str, Any], str, str]] = [
    (of({"DisableRedirects": True}), "1.8.19", "1.9.17"),
    (of({"DisableRedirects": True}), "1.9.16", "1.9.17"),
    (of({"DisableRedirects": True}), "1.10.9", "1.10.10"),
    (of({"DisableRedirects": True}), "1.11.4", "1.11.5"),
    (of({"DisableRedirects": True}), "1.11.0", "1.12.0"),
    (of({"TLSServerName": "x"}), "1.9.17", "1.10.0"),
    (of({"H2PING": "h:1"}), "1.9.17", "1.10.0"),
    (of({"H2PingUseTLS": False}), "1.10.11", "1.11.0"),
    (of({"FailuresBeforeWarning": 1}), "1.10.11", "1.11.0"),
    (of({"UDP": "h:1"}), "1.12.9", "1.13.0"),
    (of({"OSService": "x"}), "1.13.9", "1.14.0"),
    (of({"TCPUseTLS": True}), "1.16.1", "1.16.2"),
    (of(SocketPath="/x"), "1.9.17", "1.10.0"),
    (of(Ports=[]), "1.21.5", "1.22.0"),
    (of(Namespace="n"), "1.22.0", "1.8.0+ent"),
    (of(Partition="p"), "1.22.0", "1.11.0+ent"),
]


@pytest.mark.parametrize(("payload", "too_old", "new_enough"), BORDERS)
def test_a_field_is_refused_below_the_version_that_brought_it(
    payload: dict[str, Any], too_old: str, new_enough: str
) -> None:
    assert needs_version(payload)
    check(payload, new_enough)
    with pytest.raises(UnsupportedByAgent):
        check(payload, too_old)


def test_the_refusal_names_the_field_the_version_it_needs_and_the_agents() -> None:
    with pytest.raises(UnsupportedByAgent, match=r"DisableRedirects .*1\.9\.17, 1\.10\.10, 1\.11\.5 .* 1\.8\.7"):
        check(of({"DisableRedirects": True}), "1.8.7")
    with pytest.raises(UnsupportedByAgent, match=r"Namespace .*Enterprise.* 1\.22\.0"):
        check(of(Namespace="n"), "1.22.0")


def test_every_one_of_several_checks_is_looked_at() -> None:
    payload = {"ID": "web", "Name": "web", "Checks": [{"TTL": "10s"}, {"UDP": "h:1"}]}
    with pytest.raises(UnsupportedByAgent, match="UDP"):
        check(payload, "1.8.7")


@pytest.mark.parametrize(
    "old",
    [
        HttpCheck(headers={"A": "b"}, method="GET", body="x", tls_skip_verify=True, output_max_size=9,
                  success_before_passing=1, failures_before_critical=1, deregister_critical_service_after="1m"),
        TcpCheck(),
        GrpcCheck(use_tls=True, tls_skip_verify=True),
        TtlCheck(),
        ScriptCheck(["/bin/true"]),
        AliasCheck("a"),
    ],
    ids=lambda found: type(found).__name__,
)  # fmt: skip
def test_what_every_version_knows_asks_for_none(old: Any) -> None:
    payload = ServiceDefinition(id="web", name="web", port=80, checks=(old,)).payload()

    assert not needs_version(payload)
    check(payload, "1.8.0")


@pytest.mark.parametrize(
    "young",
    [
        UdpCheck(), H2PingCheck(), OsServiceCheck("x"), TcpCheck(use_tls=False), H2PingCheck(use_tls=False),
        TcpCheck(tls_server_name="x"), HttpCheck(disable_redirects=False), TtlCheck(failures_before_warning=0),
    ],
    ids=repr,
)  # fmt: skip
def test_a_young_field_counts_even_when_it_says_no(young: Any) -> None:
    payload = ServiceDefinition(id="web", name="web", port=80, checks=(young,)).payload()

    assert needs_version(payload)
    with pytest.raises(UnsupportedByAgent):
        check(payload, "1.8.7")
