"""Registrations as they are rendered, put before a real agent: what is not refused here is understood there.

`test_contract` holds what an agent does with registrations in general; here it is ours that it gets.
"""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consul_access import ConsulAccess
from consul_access.consul import agent as agent_calls
from consul_access.errors import InvalidInput, UnsupportedByAgent
from consul_access.models.address import Address
from consul_access.models.catalog import Weights
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
from consul_access.rules import versions
from consul_access.rules.registering import definition
from tests.conformance.conftest import since, takes
from tests.support.waiting import eventually

COMMON = {
    "name": "ours",
    "notes": "two\nlines",
    "status": "warning",
    "success_before_passing": 2,
    "failures_before_critical": 3,
    "deregister_critical_service_after": "10m",
}
PACE = {"interval": 1.5, "timeout": "500ms"}

KNOWN = {
    "http": (HttpCheck(), "http"),
    "http by URL": (HttpCheck("https://[::1]:8443/x?y=z", **COMMON, **PACE), "http"),
    "http with everything": (
        HttpCheck(
            method="post",
            headers={"Host": "web.example", "X-Many": ["1", "2", "é"]},
            body='{"a": "b"}\n',
            tls_skip_verify=False,
            output_max_size=1,
            **COMMON,
        ),
        "http",
    ),
    "tcp": (TcpCheck(**COMMON, **PACE), "tcp"),
    "tcp at IPv6": (TcpCheck("[2001:db8::1]:80"), "tcp"),
    "grpc": (GrpcCheck(**COMMON, **PACE), "grpc"),
    "grpc with everything": (GrpcCheck("h:1", service="pkg.Svc", use_tls=True, tls_skip_verify=True), "grpc"),
    "ttl": (TtlCheck(), "ttl"),
    "ttl with everything": (TtlCheck("1h30m", **COMMON), "ttl"),
    "script": (ScriptCheck(["/bin/true", "a b", "é"], output_max_size=10, **COMMON, **PACE), "script"),
    "alias": (AliasCheck("other"), "alias"),
}


def send(consul, made, *, replace=True):
    with ConsulAccess(url=consul.url) as access:
        access.send(agent_calls.register(made, replace_existing_checks=replace))


def of(*checks, **fields):
    return ServiceDefinition(**({"id": "web-1", "name": "web", "port": 8080, "checks": checks} | fields))


def put(consul, body):
    return consul.request("PUT", "/v1/agent/service/register?replace-existing-checks=true", body)


class TestKinds:
    @pytest.mark.parametrize(("check", "kind"), KNOWN.values(), ids=KNOWN)
    def test_a_check_of_every_known_kind_is_taken_for_what_it_is(self, consul, check, kind):
        send(consul, of(check))
        found = consul.read("/v1/agent/checks")["service:web-1"]
        assert found["Type"] == kind
        has_run = kind == "alias" or found["Output"]  # a short interval may have passed by now
        assert has_run or found["Status"] == (check.status or "critical")
        if check.name:
            assert (found["Name"], found["Notes"]) == ("ours", "two\nlines")

    def test_all_of_them_fit_into_one_registration(self, consul):
        made = of(*(check for check, _ in KNOWN.values()))
        send(consul, made)
        assert set(consul.read("/v1/agent/checks")) == set(made.check_ids())

    @pytest.mark.parametrize(
        ("check", "field"),
        [
            (UdpCheck(), "UDP"),
            (H2PingCheck(), "H2PING"),
            (H2PingCheck(use_tls=False), "H2PING" if not since(1, 10) else "H2PingUseTLS"),
            (OsServiceCheck("nginx"), "OSService"),
            (TcpCheck(use_tls=True), "TCPUseTLS"),
            (GrpcCheck(tls_server_name="x"), "TLSServerName"),
            (HttpCheck(disable_redirects=True), "DisableRedirects"),
            (TtlCheck(failures_before_warning=1), "FailuresBeforeWarning"),
        ],
    )
    def test_the_table_of_versions_agrees_with_the_agent(self, consul, check, field):
        payload = of(check).payload()
        status, text = put(consul, payload)
        if takes(payload):
            assert (status, text) == (200, "")
            return
        assert status == 400
        assert f'json: unknown field "{field}' in text
        with pytest.raises(UnsupportedByAgent, match=field):
            versions.check(payload, consul.read("/v1/agent/self")["Config"]["Version"])

    @pytest.mark.parametrize(
        ("fields", "field"),
        [({"port": None, "ports": {"http": 80}}, "Ports"), ({"namespace": "n"}, "Namespace"),
         ({"partition": "p"}, "Partition")],
    )  # fmt: skip
    def test_so_it_does_about_the_service_itself(self, consul, fields, field):
        payload = of(**fields).payload()
        assert put(consul, payload) == (400, f'Request decode failed: json: unknown field "{field}"')
        with pytest.raises(UnsupportedByAgent, match=field):
            versions.check(payload, consul.read("/v1/agent/self")["Config"]["Version"])


class TestCheckIds:
    @pytest.mark.parametrize(
        "checks",
        [
            (),
            (TtlCheck(),),
            (TtlCheck(id="mine"),),
            (TtlCheck(), TcpCheck(), TtlCheck()),
            (TtlCheck(), TcpCheck(id="mine/own"), TtlCheck()),
        ],
    )
    def test_the_ids_we_tell_are_those_the_agent_makes(self, consul, checks):
        made = of(*checks)
        send(consul, made)
        assert set(consul.read("/v1/agent/checks")) == set(made.check_ids())

    def test_the_only_ttl_check_is_the_one_that_can_be_reported(self, consul):
        made = of(TcpCheck(), TtlCheck())
        send(consul, made)
        with ConsulAccess(url=consul.url) as access:
            access.pass_check(made.only_ttl_check_id(), "fine")
        assert consul.read("/v1/agent/checks")["service:web-1:2"]["Output"] == "fine"

    def test_going_from_two_checks_to_one_leaves_no_orphans(self, consul):
        send(consul, of(TtlCheck(), TtlCheck()))
        send(consul, of(TtlCheck()))
        assert set(consul.read("/v1/agent/checks")) == {"service:web-1"}

    def test_without_replacing_the_orphans_stay(self, consul):
        send(consul, of(TtlCheck(), TtlCheck()))
        send(consul, of(TtlCheck()), replace=False)
        assert set(consul.read("/v1/agent/checks")) == {"service:web-1", "service:web-1:1", "service:web-1:2"}

    def test_the_last_of_two_equal_ids_wins_so_we_refuse_them(self, consul):
        twice = [{"CheckID": "a", "TTL": "1h", "Notes": "first"}, {"CheckID": "a", "TTL": "1h", "Notes": "last"}]
        assert put(consul, {"Name": "web", "Checks": twice})[0] == 200
        assert consul.read("/v1/agent/checks")["a"]["Notes"] == "last"

    def test_the_nodes_own_check_can_be_taken_away_so_we_refuse_its_id(self, agents):
        consul = agents()  # its own: it has no health of its own afterwards
        assert put(consul, {"Name": "web", "Check": {"CheckID": "serfHealth", "TTL": "1h"}})[0] == 200

        def owners():
            return [check["ServiceID"] for check in consul.read(f"/v1/health/node/{consul.node}")]

        eventually(lambda: owners() == ["web"])
        consul.request("PUT", "/v1/agent/service/deregister/web")
        eventually(lambda: owners() == [])


class TestTakenWithoutComplaint:
    @pytest.mark.parametrize(
        "check",
        [
            {"HTTP": "http://h/", "Interval": "10s", "Header": {"X:": ["a\r\nY: b"]}},
            {"HTTP": "http://h/", "Interval": "10s", "Method": "G(T"},
            {"HTTP": "http://h/", "Interval": "10s", "SuccessBeforePassing": -1},
            {"HTTP": "http://::1:80/h", "Interval": "10s"},
            {"HTTP": "file:///etc/passwd", "Interval": "10s"},
            {"TCP": "::1:80", "Interval": "10s"},
            {"TCP": "h:99999", "Interval": "10s"},
            {"Args": [""], "Interval": "10s"},
            {"AliasService": ""},
        ],
        ids=json.dumps,
    )
    def test_checks_that_can_never_pass_are_taken_so_we_refuse_them(self, consul, check):
        assert put(consul, {"Name": "web", "Check": check})[0] == 200

    @pytest.mark.parametrize("check", [{}, {"TTL": "0s"}])
    def test_a_check_of_nothing_is_no_check_and_the_service_passes_for_ever(self, consul, check):
        assert put(consul, {"Name": "web", "Check": check})[0] == 200
        assert consul.read("/v1/agent/checks") == {}
        assert consul.read("/v1/agent/health/service/id/web")["AggregatedStatus"] == "passing"

    def test_a_number_is_nanoseconds_so_we_send_texts(self, consul):
        put(consul, {"Name": "web", "Check": {"TTL": 10, "Status": "passing"}})
        eventually(lambda: consul.read("/v1/agent/checks")["service:web"]["Status"] == "critical")

    def test_a_ttl_in_seconds_is_seconds(self, consul):
        send(consul, of(TtlCheck(10, status="passing")))
        assert "10" not in consul.read("/v1/agent/checks")["service:web-1"]["Output"]
        assert consul.read("/v1/agent/checks")["service:web-1"]["Status"] == "passing"

    @pytest.mark.parametrize(
        ("field", "value"),
        [("ID", "x"), ("success_before_passing", 1), ("failures_before_critical", 1), ("grpc_use_tls", True),
         ("tls_server_name", "x"), ("disable_redirects", True)],
    )  # fmt: skip
    def test_these_spellings_are_not_known_so_we_use_others(self, consul, field, value):
        status, text = put(consul, {"Name": "web", "Check": {"TTL": "1h", field: value}})
        if {"grpc_use_tls": since(1, 9), "tls_server_name": since(1, 10)}.get(field):
            assert (status, text) == (200, "")
            return
        assert status == 400
        assert f'unknown field "{field}"' in text

    def test_two_megabytes_are_taken_so_we_set_a_bound(self, agents):
        assert put(agents(), {"Name": "web", "Tags": ["x" * 2_000_000]})[0] == 200


class TestDeregistering:
    def test_an_unknown_check_is_200_and_an_empty_id_500(self, consul):
        assert consul.request("PUT", "/v1/agent/check/deregister/nope")[0] == 200
        assert consul.request("PUT", "/v1/agent/service/deregister/")[0] == 500

    def test_a_check_of_an_unknown_service_is_500(self, consul):
        body = {"Name": "x", "ServiceID": "nope", "TTL": "1h"}
        assert consul.request("PUT", "/v1/agent/check/register", body) == (500, 'ServiceID "nope" does not exist')

    def test_checks_go_with_their_service(self, consul):
        send(consul, of(TtlCheck(), TtlCheck(id="mine")))
        with ConsulAccess(url=consul.url) as access:
            assert access.deregister_service("web-1") is True
        assert consul.read("/v1/agent/checks") == {}


class TestReplacing:
    def test_the_same_id_under_another_name_replaces_the_service(self, consul):
        send(consul, of())
        send(consul, of(name="other"))
        assert [entry["Service"] for entry in consul.read("/v1/agent/services").values()] == ["other"]

    def test_a_long_output_arrives_uncut_by_the_agent(self, consul):
        send(consul, of(TtlCheck()))
        with ConsulAccess(url=consul.url) as access:
            access.pass_check("service:web-1", "é" * 5000)
        assert consul.read("/v1/agent/checks")["service:web-1"]["Output"] == "é" * 2048

    @pytest.mark.parametrize("replace", [True, False])
    def test_maintenance_ends_with_replacing_and_stays_without(self, consul, replace):
        send(consul, of(TtlCheck()))
        with ConsulAccess(url=consul.url) as access:
            access.maintenance("web-1", True)
        send(consul, of(TtlCheck()), replace=replace)
        assert ("_service_maintenance:web-1" in consul.read("/v1/agent/checks")) is not replace


def test_a_complete_service_comes_back_as_it_was_described(consul):
    made = definition(
        "web",
        "2001:db8::1",
        8080,
        id="web/1 ä",
        tags=["a,b", "", "ä"],
        meta={"k" * 128: "é" * 256},
        weights=Weights(passing=65535, warning=0),
        tagged_addresses={"wan": Address("web.example", 80)},
        enable_tag_override=True,
        check=None,
    )
    send(consul, made)
    with ConsulAccess(url=consul.url) as access:
        known = access.agent_service(made.id)
    assert (known.id, known.name, known.address, known.port) == ("web/1 ä", "web", "2001:db8::1", 8080)
    assert (known.tags, known.meta, known.weights) == (made.tags, made.meta, made.weights)
    assert (known.tagged_addresses["wan"].address, known.tagged_addresses["wan"].port) == ("web.example", 80)
    assert known.enable_tag_override


UNPRINTABLE = ["a\xa0b", "a\u200bb", "a\ufeffb", "a\u2028b", "a\ue000b"]


@pytest.mark.parametrize("odd", UNPRINTABLE, ids=ascii)
def test_an_id_that_cannot_be_printed_is_taken_and_can_never_be_removed_again(agents, odd):
    consul = agents()  # its own, since it keeps the service
    assert put(consul, {"Name": "web", "ID": odd})[0] == 200
    status, text = consul.request("PUT", f"/v1/agent/service/deregister/{quote(odd, safe='')}")
    assert (status, text) == (400, "")
    assert list(consul.read("/v1/agent/services")) == [odd]


# Above this, what can be printed depends on the agent's edition of Unicode.
PRINTABLE = st.characters(max_codepoint=0x17F).filter(str.isprintable)
ODD = st.text(PRINTABLE, max_size=12) | st.text("ab./-_ ", max_size=8)
TEXTS = (
    st.sampled_from(["web", "a/b", "ä b", "a.b", "?a=b&c", "#", "a+b", ":;@"]) | st.text(PRINTABLE, min_size=1) | ODD
)
HOSTS = st.none() | st.ip_addresses().map(str) | st.ip_addresses().map("[{}]".format) | st.just("web.example") | ODD


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "id": TEXTS,
            "name": TEXTS,
            "address": HOSTS,
            "port": st.integers(1, 65535),
            "tags": st.lists(st.text(PRINTABLE, max_size=5), max_size=3).map(tuple),
            "meta": st.dictionaries(
                st.text("aB0_-", min_size=1, max_size=4), st.text(PRINTABLE, max_size=100), max_size=3
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "interval": st.floats(1, 1e6),
            "notes": st.text(st.characters(codec="utf-8"), max_size=9),
            "id": st.one_of(st.none(), TEXTS),
        }
    ),
)
def test_what_is_not_refused_here_can_be_registered_found_and_removed(consul, fields, check):
    try:
        made = ServiceDefinition(**fields, checks=(HttpCheck(**check), TtlCheck(check["interval"])))
    except InvalidInput:
        return

    consul.clear()
    send(consul, made)
    assert set(consul.read("/v1/agent/checks")) == set(made.check_ids())
    with ConsulAccess(url=consul.url) as access:
        assert access.agent_service(made.id).tags == made.tags
        eventually(lambda: access.instances(made.name, policy="any"))
        assert access.deregister_service(made.id) is True
    assert consul.request("GET", f"/v1/agent/service/{quote(made.id, safe='')}")[0] == 404
