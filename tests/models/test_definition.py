"""What a service says about itself when it registers."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.call import json_body, path
from consul_access.errors import InvalidInput
from consul_access.models.address import Address
from consul_access.models.catalog import Weights
from consul_access.models.checks import AliasCheck, HttpCheck, ScriptCheck, TcpCheck, TtlCheck
from consul_access.models.definition import LARGEST, ServiceDefinition


def made(**fields: Any) -> ServiceDefinition:
    return ServiceDefinition(**({"id": "web-1", "name": "web"} | fields))


def test_id_and_name_are_all_that_must_be_said() -> None:
    assert made().payload() == {"ID": "web-1", "Name": "web"}


def test_everything_that_is_said_is_written_in_the_agents_own_words() -> None:
    definition = made(
        address="10.0.0.5",
        port=8080,
        tags=("a", "b, c", ""),
        meta={"version": "2", "empty": ""},
        checks=(TtlCheck("30s"),),
        weights=Weights(passing=7, warning=0),
        tagged_addresses={"wan": Address("[2001:db8::1]", 80)},
        enable_tag_override=True,
        namespace="team",
        partition="part",
    )

    assert definition.payload() == {
        "ID": "web-1",
        "Name": "web",
        "Address": "10.0.0.5",
        "Port": 8080,
        "Tags": ["a", "b, c", ""],
        "Meta": {"version": "2", "empty": ""},
        "Check": {"TTL": "30s"},
        "Weights": {"Passing": 7, "Warning": 0},
        "TaggedAddresses": {"wan": {"Address": "2001:db8::1", "Port": 80}},
        "EnableTagOverride": True,
        "Namespace": "team",
        "Partition": "part",
    }


def test_named_ports_are_a_list_whose_first_is_the_default() -> None:
    assert made(ports={"http": 80, "metrics": 9100}).payload()["Ports"] == [
        {"Name": "http", "Port": 80, "Default": True},
        {"Name": "metrics", "Port": 9100},
    ]


def test_several_checks_are_a_list() -> None:
    assert made(checks=(TtlCheck("30s"), TtlCheck("40s"))).payload()["Checks"] == [{"TTL": "30s"}, {"TTL": "40s"}]


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({"address": "10.0.0.5", "port": 80}, "10.0.0.5:80"),
        ({"address": "[::1]", "port": 80}, "[::1]:80"),
        ({"port": 80}, "127.0.0.1:80"),
        ({"address": "10.0.0.5", "ports": {"a": 81, "b": 82}}, "10.0.0.5:81"),
    ],
)
def test_a_check_without_a_target_aims_at_the_services_first_port(fields: Any, target: str) -> None:
    assert made(**fields, checks=(TcpCheck(),)).payload()["Check"]["TCP"] == target


def test_a_check_without_a_target_needs_a_port() -> None:
    with pytest.raises(InvalidInput, match="give port="):
        made(address="10.0.0.5", checks=(TcpCheck(),))


@pytest.mark.parametrize(
    ("given_as", "sent"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("[::1]", "::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("web.example", "web.example"),
        ("web_1.svc.cluster.local.", "web_1.svc.cluster.local."),
    ],
)
def test_an_address_is_sent_without_brackets(given_as: str, sent: str) -> None:
    assert made(address=given_as).payload()["Address"] == sent


REFUSED: dict[str, dict[str, Any]] = {
    "an empty name": {"name": ""},
    "the servers' name": {"name": "consul"},
    "a name that is no text": {"name": None},
    **{
        f"{what} {value!r}": {what: value}
        for what in ("id", "name")
        for value in (".", "..", "/a", "a//b", "a/../b", "a/", "a%2Fb", "a\nb", "a\rb", "a\0b", "\x85", "\ud800")
    },
    **{f"port {value!r}": {"port": value} for value in (-1, 0, 65536, 2**31, "80", True, 1.5)},
    **{
        f"address {value[:20]!r}": {"address": value}
        for value in (
            "", "0.0.0.0", "::", "[::]", "a b", " 10.0.0.5", "http://evil", "10.0.0.1/24", "host:80", "10.0.0.5:80",
            "[::1]:80", "a\nb", "10.0.0.5\n", "x." * 127, "x" * 254, "256.1.1.1", "1.2.3",
        )
    },
    "a tag with a line end": {"tags": ("a\nb",)},
    "one text as tags": {"tags": "abc"},
    "a tag that is a number": {"tags": (1,)},
    "65 pairs of meta": {"meta": {f"k{number}": "" for number in range(65)}},
    "an empty meta key": {"meta": {"": "x"}},
    "a meta key of 129": {"meta": {"k" * 129: "x"}},
    "a meta key with a dot": {"meta": {"a.b": "x"}},
    "a meta key with a line end": {"meta": {"a\n": "x"}},
    "a reserved meta key": {"meta": {"consul-x": "x"}},
    "a meta value of 513 bytes": {"meta": {"k": "x" * 513}},
    "a meta value of 514 bytes in 257 characters": {"meta": {"k": "é" * 257}},
    "a meta value that is a number": {"meta": {"k": 1}},
    "a meta value that is nothing": {"meta": {"k": None}},
    "a weight of 0": {"weights": Weights(passing=0)},
    "a weight of 65536": {"weights": Weights(passing=65536)},
    "a negative weight": {"weights": Weights(warning=-1)},
    "port and ports": {"port": 80, "ports": {"http": 80}},
    "a named port of 0": {"ports": {"http": 0}},
    "a port without a name": {"ports": {"": 80}},
    "a tagged address that cannot be called": {"tagged_addresses": {"wan": Address("0.0.0.0", 80)}},
    "a tagged address without a port": {"tagged_addresses": {"wan": Address("10.0.0.5", 0)}},
    "an empty namespace": {"namespace": ""},
    "something else as check": {"checks": ({"TTL": "10s"},)},
    "a check id given twice": {"checks": (TtlCheck(id="a"), TtlCheck(id="a"))},
    "a check id like one the agent makes": {"checks": (TtlCheck(id="service:web-1:2"), TtlCheck())},
}  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_what_an_agent_would_take_wrongly_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        made(**wrong)


@pytest.mark.parametrize("odd", ["a\xa0b", "a\u200bb", "a\ufeffb", "a\u2028b", "a\ue000b"], ids=ascii)
def test_an_id_that_cannot_be_printed_is_refused_because_agents_could_never_remove_it(odd: str) -> None:
    with pytest.raises(InvalidInput):
        made(id=odd)


@pytest.mark.parametrize(
    "fine",
    [
        {"meta": {f"k{number}": "" for number in range(64)}},
        {"meta": {"k" * 128: "x" * 512}},
        {"meta": {"k": "é" * 256}},
        {"port": 1},
        {"port": 65535},
        {"weights": Weights(passing=65535, warning=0)},
        {"id": "a/b c ä"},
        {"tags": ("a,b", "", "ä")},
    ],
)
def test_the_agents_limits_themselves_are_allowed(fine: dict[str, Any]) -> None:
    made(**fine).payload()


def test_a_registration_may_be_as_long_as_the_servers_take_and_no_longer() -> None:
    def of(length: int) -> ServiceDefinition:
        return made(tags=("x" * length,))

    room = LARGEST - len(json.dumps(of(0).payload()))
    assert of(room).tags == ("x" * room,)
    with pytest.raises(InvalidInput, match="shorten tags or checks"):
        of(room + 1)


@pytest.mark.parametrize("name", ["web_1", "a.b", "a/b", "ä", "x" * 64, "-a"])
def test_a_name_that_dns_cannot_hold_is_taken_and_the_log_says_so(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "consul_access"):
        made(name=name)
    assert any(record.name == "consul_access" and "DNS" in record.message for record in caplog.records)


def test_a_name_that_dns_can_hold_is_nothing_to_talk_about(caplog: pytest.LogCaptureFixture) -> None:
    made(name="web-1")
    made(name="x" * 63)
    assert caplog.records == []


class TestCheckIds:
    def test_a_single_check_is_named_after_the_service(self) -> None:
        assert made(checks=(TtlCheck(),)).check_ids() == ("service:web-1",)

    def test_several_checks_are_numbered(self) -> None:
        checks = (TtlCheck(), TtlCheck(id="mine"), TtlCheck())
        assert made(checks=checks).check_ids() == ("service:web-1:1", "mine", "service:web-1:3")

    def test_no_check_has_no_id(self) -> None:
        assert made().check_ids() == ()

    def test_the_only_ttl_check_is_found_among_others(self) -> None:
        assert made(port=80, checks=(TcpCheck(), TtlCheck())).only_ttl_check_id() == "service:web-1:2"

    @pytest.mark.parametrize("checks", [(), (TtlCheck(), TtlCheck())])
    def test_none_or_several_ttl_checks_must_be_named(self, checks: Any) -> None:
        with pytest.raises(InvalidInput, match="check_id="):
            made(checks=checks).only_ttl_check_id()


def test_the_nodes_that_must_exist_are_those_of_alias_checks() -> None:
    checks = (AliasCheck("a"), AliasCheck(node="n1"), AliasCheck("b", "n2"), TtlCheck())
    assert made(checks=checks).alias_nodes() == ("n1", "n2")


def test_a_registration_is_the_same_however_often_it_is_written() -> None:
    definition = made(port=80, checks=(ScriptCheck(iter(["/bin/true"])), HttpCheck(headers={"X": iter("ab")})))
    assert definition.payload() == definition.payload()
    assert definition.payload()["Checks"][1]["Header"] == {"X": ["a", "b"]}


# --- whatever is not refused ------------------------------------------------------------------------------

META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")


def mostly(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Few enough wrong values for many registrations to have none."""
    return st.integers(0, 7).flatmap(lambda thrown: wrong if thrown == 7 else right)


WORDS = mostly(st.from_regex(r"\A[a-zA-Z0-9ä_.-]{1,8}[a-z]\Z"), st.text(max_size=20) | st.text("ab./%-_", max_size=8))
HOSTS = st.none() | st.ip_addresses().map(str) | st.ip_addresses().map("[{}]".format) | st.just("web.example")
META = st.dictionaries(st.text("aB0_-", min_size=1, max_size=4), st.text("aé€", max_size=300), max_size=3)


@given(
    id=WORDS,
    name=WORDS,
    address=mostly(HOSTS, st.text(max_size=9)),
    port=mostly(st.none() | st.integers(1, 65535), st.integers(-2, 70000) | st.booleans() | st.just("80")),
    tags=mostly(st.lists(st.text("a,bä ", max_size=5), max_size=3), st.lists(st.text(max_size=5))).map(tuple),
    meta=mostly(META, st.dictionaries(st.text(max_size=4), st.text(max_size=300), max_size=3)),
)
def test_a_registration_that_is_not_refused_obeys_the_agents_rules(**fields: Any) -> None:
    try:
        written = ServiceDefinition(**fields).payload()
    except InvalidInput:
        return

    assert json.loads(json_body(written)) == written
    assert written["Name"] not in {"", "consul"}
    assert path("v1", "agent", "service", "deregister", written["ID"])
    assert path("v1", "health", "service", written["Name"])
    assert type(written.get("Port", 1)) is int
    assert 1 <= written.get("Port", 1) <= 65535
    assert written.get("Address", "x") not in {"", "0.0.0.0", "::"}
    assert not set(written.get("Address", "")) & set("[]/ \t\n")
    assert all(META_KEY.match(key) and not key.startswith("consul-") for key in written.get("Meta", {}))
    assert all(len(value.encode()) <= 512 for value in written.get("Meta", {}).values())
