"""What a real agent answers, line by line: the ground that the library stands on.

Nothing of ours is between the test and the agent here, except where a line is about our reading of it. Compared with
1.8.7, and with 1.10.12 where `CONSUL_BIN` points to that: a line that is another there says since when.
"""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import quote

import pytest

from consul_access import ConsulAccess, TokenUnknown
from consul_access.consul import agent as agent_calls
from consul_access.consul.texts import meaning
from consul_access.errors import (
    FeatureDisabled,
    FilterError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    UnknownCheck,
    UnknownDatacenter,
    UnknownService,
    UnsupportedByAgent,
)
from tests.conformance.conftest import since, takes
from tests.support.waiting import eventually

HTTP = {"HTTP": "http://127.0.0.1:1/", "Interval": "10s"}


def put(consul, body, query=""):
    return consul.request("PUT", f"/v1/agent/service/register{query}", body)


class TestUnknownThings:
    @pytest.mark.parametrize(
        ("target", "status", "text"),
        [
            ("/v1/health/service/x", 200, "[]"),
            ("/v1/health/checks/x", 200, "[]"),
            ("/v1/health/node/x", 200, "[]"),
            ("/v1/catalog/service/x", 200, "[]"),
            ("/v1/catalog/node/x", 200, "null"),
            ("/v1/agent/service/x", 404, "unknown service ID: x"),
            ("/v1/agent/health/service/name/x", 404, "[]"),
            ("/v1/health/state/bogus", 200, "[]"),
            ("/v1/health/service/", 400, "Missing service name"),
            ("/v1/health/service", 301, ""),
            ("/v1/agent/version", 404, ""),
            ("/v1/health/service/x?dc=nope", 500, "No path to datacenter"),
            ("/v1/health/service/x?ns=n", 400, "Consul Enterprise feature"),
            ("/v1/health/service/x?partition=p&peer=p&near=nope&whatever=1", 200, "[]"),
        ],
    )
    def test_is_answered_so(self, consul, target, status, text):
        answered = consul.request("GET", target)
        assert answered[0] == status
        assert text in answered[1]

    def test_the_wrong_verb_is_refused(self, consul):
        assert consul.request("DELETE", "/v1/health/service/x")[0] == 405
        assert consul.request("HEAD", "/v1/health/service/x")[0] == 405


@pytest.mark.parametrize(
    "query", ["passing=maybe", "wait=5", "wait=abc", "index=-1", "stale&consistent", "cached&consistent"]
)
def test_bad_parameters_are_400(consul, query):
    status, text = consul.request("GET", f"/v1/health/service/x?{query}")
    assert status == 400
    assert meaning(status, text).error is InvalidRequest


@pytest.mark.parametrize("wrong", ["Service.Port ==", "No.Such == 1", 'Service.Tags matches "["', "Service.Port > 80"])
def test_filter_errors_are_500_and_no_passing_fault(consul, wrong):
    status, text = consul.request("GET", f"/v1/health/service/x?filter={quote(wrong)}")
    assert status == 500
    assert meaning(status, text).error is FilterError
    assert not FilterError.retryable


@pytest.mark.parametrize("status", ["critical", "warning", "maintenance"])
def test_the_filter_trap_keeps_critical_instances(consul, status):
    consul.register("web", port=80, check={**HTTP, "Status": "critical" if status == "maintenance" else status})
    if status == "maintenance":
        consul.request("PUT", "/v1/agent/service/maintenance/web?enable=true")
    for trap in ('Checks.Status == "passing"', 'Checks.Status != "critical"'):
        assert len(consul.read(f"/v1/health/service/web?filter={quote(trap)}")) == 1
    right = 'not Checks.Status == "critical"'
    assert len(consul.read(f"/v1/health/service/web?filter={quote(right)}")) == (status == "warning")


def test_repeated_tags_must_all_be_there(consul):
    consul.register("web", port=80, tags=["a", "b"])
    assert len(consul.read("/v1/health/service/web?tag=a&tag=b")) == 1
    assert consul.read("/v1/health/service/web?tag=a&tag=c") == []


def test_catalog_services_ignores_a_filter(consul):
    assert "consul" in consul.read("/v1/catalog/services?filter=nonsense")


class TestRegistering:
    @pytest.mark.parametrize("field", ["Namespace", "Partition", "Ports", "Locality", "SocketPath", "NoSuchField"])
    def test_an_unknown_field_refuses_the_whole_registration(self, consul, field):
        status, text = put(consul, {"Name": "web", field: "x"})
        if field == "SocketPath" and takes({field: "x"}):
            assert (status, text) == (200, "")
            return
        assert status == 400
        assert f'json: unknown field "{field}"' in text
        assert meaning(status, text).error is UnsupportedByAgent

    @pytest.mark.parametrize(
        ("field", "value"),
        [("H2PING", "h:1"), ("H2PingUseTLS", True), ("FailuresBeforeWarning", 1), ("UDP", "h:1"), ("TCPUseTLS", True),
         ("OSService", "x"), ("TLSServerName", "x"), ("DisableRedirects", True), ("Script", "x"),
         ("alias_service", "x")],
    )  # fmt: skip
    def test_so_does_an_unknown_field_of_a_check(self, consul, field, value):
        status, text = put(consul, {"Name": "web", "Check": {**HTTP, field: value}})
        if field not in {"Script", "alias_service"} and takes({"Check": {field: value}}):
            assert (status, text) == (200, "")
            return
        assert status == 400
        assert meaning(status, text).error is UnsupportedByAgent

    @pytest.mark.parametrize(
        "fields",
        [{"OutputMaxSize": 100}, {"Method": "POST"}, {"Body": "x"}, {"SuccessBeforePassing": 1},
         {"FailuresBeforeCritical": 1}, {"tls_skip_verify": True}, {"deregister_critical_service_after": "2m"}],
    )  # fmt: skip
    def test_these_fields_of_a_check_are_known(self, consul, fields):
        assert put(consul, {"Name": "web", "Check": {**HTTP, **fields}}) == (200, "")

    def test_so_are_these_spellings_of_a_service(self, consul):
        tagged = {"lan": {"address": "10.0.0.9", "port": 9}}
        assert put(consul, {"name": "web", "enable_tag_override": True, "tagged_addresses": tagged}) == (200, "")
        held = consul.read("/v1/agent/service/web")
        assert (held["EnableTagOverride"], held["TaggedAddresses"]["lan"]["Port"]) == (True, 9)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"Name": ""},
            {"Name": "web", "Port": "80"},
            {"Name": "web", "Address": "0.0.0.0"},
            {"Name": "web", "Address": "::"},
            {"Name": "web", "Meta": {f"k{number}": "" for number in range(65)}},
            {"Name": "web", "Meta": {"a b": ""}},
            {"Name": "web", "Meta": {"a" * 129: ""}},
            {"Name": "web", "Meta": {"a": "x" * 513}},
            {"Name": "web", "Meta": {"consul-a": ""}},
            {"Name": "web", "Weights": {"Passing": 0, "Warning": 1}},
            {"Name": "web", "Weights": {"Passing": 65536, "Warning": 1}},
            {"Name": "web", "Check": {"HTTP": "http://x"}},
            {"Name": "web", "Check": {**HTTP, "TTL": "10s"}},
            {"Name": "web", "Check": {"TTL": "10"}},
            {"Name": "web", "Check": {**HTTP, "Header": {"X": "y"}}},
            {"Name": "web", "Check": {**HTTP, "Status": "maintenance"}},
        ],
        ids=json.dumps,
    )
    def test_these_are_refused(self, consul, body):
        assert put(consul, body)[0] == 400

    def test_so_is_no_body_at_all(self, consul):
        assert put(consul, b"")[0] == 400

    @pytest.mark.parametrize(
        "fields",
        [
            {"Port": -1},
            {"Port": 70000},
            {"Address": "http://evil"},
            {"Address": "10.0.0.1/24"},
            {"Address": "host:80"},
            {"Check": {"TTL": 10}},
            {"Check": {**HTTP, "Interval": "1ms"}},
            {"Check": {}},
            {"Check": {**HTTP, "HTTP": "not a url"}},
            {"Check": {**HTTP, "Interval": 1}},
            {"Name": "an odd_näme"},
            {"Kind": "odd"},
        ],
        ids=json.dumps,
    )
    def test_these_are_accepted_without_complaint_so_we_refuse_them(self, consul, fields):
        assert put(consul, {"Name": "web", **fields})[0] == 200

    @pytest.mark.parametrize("check", [{"Args": ["/bin/true"]}, {"DockerContainerID": "x", "Args": ["/bin/true"]}])
    def test_script_checks_are_500_when_disabled(self, acl_consul, check):
        status, text = put(acl_consul, {"Name": "web", "Check": {**check, "Interval": "10s"}})
        assert status == 500
        assert meaning(status, text).error is FeatureDisabled


class TestChecks:
    def ids(self, consul):
        return set(consul.read("/v1/agent/checks"))

    def test_ids_are_made_from_the_services(self, consul):
        put(consul, {"Name": "one", "Check": {"TTL": "1h"}})
        put(consul, {"Name": "two", "Checks": [{"TTL": "1h"}, {"TTL": "1h"}]})
        assert self.ids(consul) == {"service:one", "service:two:1", "service:two:2"}
        assert consul.read("/v1/agent/checks")["service:one"]["Name"] == "Service 'one' check"

    def test_an_id_belongs_to_the_agent_and_is_stolen_silently(self, consul):
        put(consul, {"Name": "one", "Check": {"CheckID": "x", "TTL": "1h"}})
        assert put(consul, {"Name": "two", "Check": {"CheckID": "x", "TTL": "1h"}})[0] == 200
        assert consul.read("/v1/agent/checks")["x"]["ServiceID"] == "two"

    @pytest.mark.parametrize(
        ("query", "left"),
        [("", {"a", "b"}), ("?replace-existing-checks=1", {"a", "b"}), ("?replace-existing-checks=true", {"a"})],
    )
    def test_checks_no_longer_given_stay_unless_asked_in_the_right_words(self, consul, query, left):
        put(consul, {"Name": "web", "Checks": [{"CheckID": "a", "TTL": "1h"}, {"CheckID": "b", "TTL": "1h"}]})
        put(consul, {"Name": "web", "Checks": [{"CheckID": "a", "TTL": "1h"}]}, query)
        assert self.ids(consul) == left

    @pytest.mark.parametrize(("query", "left"), [("", {"service:web"}), ("?replace-existing-checks=true", set())])
    def test_a_registration_without_checks_leaves_those_there_are_unless_asked(self, consul, query, left):
        put(consul, {"Name": "web", "Check": {"TTL": "1h"}})
        put(consul, {"Name": "web"}, query)
        assert self.ids(consul) == left

    @pytest.mark.parametrize(("query", "kept"), [("", True), ("?replace-existing-checks=true", False)])
    def test_replacing_checks_ends_a_maintenance(self, consul, query, kept):
        put(consul, {"Name": "web"})
        consul.request("PUT", "/v1/agent/service/maintenance/web?enable=true")
        put(consul, {"Name": "web"}, query)
        assert ("_service_maintenance:web" in self.ids(consul)) is kept

    def test_registering_again_keeps_status_and_output(self, consul):
        put(consul, {"Name": "web", "Check": {"TTL": "1h"}})
        report = {"Status": "passing", "Output": "fine"}
        consul.request("PUT", "/v1/agent/check/update/service:web", report)
        put(consul, {"Name": "web", "Check": {"TTL": "1h", "Status": "critical"}})
        check = consul.read("/v1/agent/checks")["service:web"]
        assert (check["Status"], check["Output"]) == ("passing", "fine")

    def test_a_check_starts_critical_unless_told_otherwise(self, consul):
        put(consul, {"Name": "web", "Checks": [{"TTL": "1h"}, {"TTL": "1h", "Status": "passing"}]})
        checks = consul.read("/v1/agent/checks")
        assert [checks[f"service:web:{number}"]["Status"] for number in (1, 2)] == ["critical", "passing"]

    def test_a_ttl_expires_and_says_so(self, consul):
        put(consul, {"Name": "web", "Check": {"TTL": "1s", "Status": "passing"}})
        check = eventually(
            lambda: (found := consul.read("/v1/agent/checks")["service:web"])["Status"] == "critical" and found
        )
        assert "TTL expired" in check["Output"]

    @pytest.mark.parametrize("check_id", ["nope", "service:web"])
    def test_reporting_a_check_that_has_no_ttl_is_500(self, consul, check_id):
        put(consul, {"Name": "web", "Check": HTTP})
        status, text = consul.request("PUT", f"/v1/agent/check/update/{check_id}", {"Status": "passing"})
        assert (status, text) == (500, f'CheckID "{check_id}" does not have associated TTL')
        assert meaning(status, text).error is UnknownCheck

    def test_with_acls_the_text_is_another(self, acl_consul):
        status, text = acl_consul.request("PUT", "/v1/agent/check/update/nope", {"Status": "passing"})
        assert status == 500
        assert meaning(status, text).error is UnknownCheck


def test_an_alias_of_a_node_freezes_an_agent_when_it_is_registered_again(agents):
    """Seen for up to a minute. Why the documentation warns of such checks, and why this agent is this test's own."""
    agent = agents()
    body = json.dumps({"Name": "web", "ID": "w", "Port": 80, "Check": {"AliasNode": agent.node}})

    def is_frozen() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=1)
        try:
            connection.request("PUT", "/v1/agent/service/register", body)
            return connection.getresponse().status != 200
        except TimeoutError:
            return True
        finally:
            connection.close()

    assert not is_frozen()
    agent.request("PUT", "/v1/agent/service/deregister/w")
    assert any(is_frozen() for _ in range(3))


class TestDeregistering:
    def test_an_unknown_id_is_200(self, consul):
        assert consul.request("PUT", "/v1/agent/service/deregister/nope") == (200, "")

    def test_with_acls_it_is_500(self, acl_consul):
        status, text = acl_consul.request("PUT", "/v1/agent/service/deregister/zzz")
        assert status == 500
        assert meaning(status, text).error is UnknownService

    def test_both_are_false_to_us(self, consul, acl_consul):
        for agent in (consul, acl_consul):
            with ConsulAccess(url=agent.url, token=agent.token) as access:
                assert access.deregister_service("zzz") is False

    def test_maintenance_of_an_unknown_id_is_404_and_twice_is_200(self, consul):
        status, text = consul.request("PUT", "/v1/agent/service/maintenance/nope?enable=true")
        assert meaning(status, text).error is UnknownService
        put(consul, {"Name": "web"})
        for _ in range(2):
            assert consul.request("PUT", "/v1/agent/service/maintenance/web?enable=true")[0] == 200
        assert consul.request("PUT", "/v1/agent/service/maintenance/web")[0] == 400


class TestStatusAsData:
    @pytest.mark.parametrize(("status", "code"), [("passing", 200), ("warning", 429), ("critical", 503)])
    def test_the_agents_health_calls_answer_with_it(self, consul, status, code):
        put(consul, {"Name": "web", "Check": {"TTL": "1h", "Status": status}})
        assert consul.request("GET", "/v1/agent/health/service/id/web")[0] == code
        exchanges = []
        with ConsulAccess(url=consul.url) as access:
            access.on_exchange(exchanges.append)
            assert access.send(agent_calls.service_health("web")).status == status
            (outcome,) = access.send(agent_calls.service_health_by_name("web"))
            assert outcome.service.id == "web"
        assert len(exchanges) == 2  # a 429 here is no reason to try again

    def test_unknown_ones_are_critical_or_none(self, consul):
        with ConsulAccess(url=consul.url) as access:
            assert access.send(agent_calls.service_health("nope")).service is None
            assert access.send(agent_calls.service_health_by_name("nope")) == []


class TestBlocking:
    def test_the_same_index_waits_and_a_higher_one_too(self, consul):
        for index in (lambda found: found, lambda found: found + 1000):
            with ConsulAccess(url=consul.url) as access:
                at = access.instances("web").meta.index
                begun = time.monotonic()
                again = access.instances("web", index=index(at), wait="300ms")
                assert time.monotonic() - begun >= 0.3
                assert again.meta.index == at

    @pytest.mark.parametrize("path", ["health/service/x", "health/checks/x", "catalog/service/x"])
    def test_errors_carry_an_index_that_must_not_be_believed(self, consul, path):
        """Since 1.9 those of the first path carry none."""
        status, headers, _ = consul.exchange("GET", f"/v1/{path}?filter=nonsense")
        told = None if path == "health/service/x" and since(1, 9) else "1"
        assert (status, headers["X-Consul-Index"]) == (500, told)

    def test_an_agents_own_service_can_be_waited_for_by_hash(self, consul):
        put(consul, {"Name": "web", "Port": 80})
        with ConsulAccess(url=consul.url) as access:
            known = access.agent_service("web")
            begun = time.monotonic()
            same = access.send(agent_calls.service("web", wait="300ms", content_hash=known.content_hash))
            assert time.monotonic() - begun >= 0.3
            assert same == known
            put(consul, {"Name": "web", "Port": 81})
            changed = access.send(agent_calls.service("web", wait="10s", content_hash=known.content_hash))
            assert changed.port == 81


class TestAccess:
    @pytest.mark.parametrize(("target", "text"), [("/v1/catalog/services", "{}"), ("/v1/health/service/consul", "[]")])
    def test_reading_without_permission_looks_like_nothing(self, acl_consul, target, text):
        assert acl_consul.request("GET", target, token="anonymous")[1].strip() == text

    @pytest.mark.parametrize("target", ["/v1/agent/self", "/v1/agent/service/web", "/v1/kv/x"])
    def test_agents_own_endpoints_are_403(self, acl_consul, target):
        put(acl_consul, {"Name": "web"})
        status, text = acl_consul.request("GET", target, token="anonymous")
        assert status == 403
        assert issubclass(meaning(status, text).error, PermissionDenied)

    def test_an_unknown_service_is_404_even_to_who_may_not_read_it(self, acl_consul):
        assert acl_consul.request("GET", "/v1/agent/service/nope", token="anonymous")[0] == 404

    def test_an_unknown_token_is_acl_not_found(self, acl_consul):
        status, text = acl_consul.request("GET", "/v1/catalog/services", token="0badc0de-0000-4000-8000-000000000000")
        assert (status, text) == (403, "ACL not found")
        assert meaning(status, text).error is TokenUnknown

    @pytest.mark.parametrize("target", ["/v1/status/leader", "/v1/catalog/datacenters"])
    def test_these_are_told_to_anybody(self, acl_consul, target):
        assert acl_consul.request("GET", target, token="anonymous")[0] == 200

    @pytest.mark.parametrize("target", ["/v1/agent/health/service/id/web", "/v1/agent/health/service/name/web"])
    def test_an_agents_health_is_403(self, acl_consul, target):
        put(acl_consul, {"Name": "web"})
        assert acl_consul.request("GET", target, token="anonymous")[0] == 403

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("service/register", {"Name": "other"}),
            ("service/deregister/web", None),
            ("service/maintenance/web?enable=true", None),
            ("check/register", {"Name": "x", "TTL": "1h", "ServiceID": "web"}),
            ("check/pass/service:web", None),
        ],
    )
    def test_writing_without_permission_is_403(self, acl_consul, path, body):
        put(acl_consul, {"Name": "web", "Check": {"TTL": "1h"}})
        status, text = acl_consul.request("PUT", f"/v1/agent/{path}", body, token="anonymous")
        assert (status, text.startswith("Permission denied")) == (403, True)
        assert meaning(status, text).error is PermissionDenied

    def test_a_token_can_come_as_bearer(self, acl_consul):
        shown = {"X-Consul-Token": "", "Authorization": f"Bearer {acl_consul.token}"}
        assert acl_consul.exchange("GET", "/v1/agent/self", headers=shown)[0] == 200


class TestNames:
    @pytest.mark.parametrize("name", ["a/b", "a b", "ä", "a_b", "a.b", "x" * 5000])
    def test_these_can_be_registered_and_found(self, consul, name):
        put(consul, {"Name": name, "ID": "odd"})
        assert len(consul.read(f"/v1/health/service/{quote(name, safe='')}")) == 1

    @pytest.mark.parametrize("name", ["a//b", "..", "a/../b"])
    def test_these_are_accepted_and_then_lost_so_we_refuse_them(self, agents, name):
        agent = agents()  # its own: such a service cannot be removed again
        assert put(agent, {"Name": name, "ID": "odd"})[0] == 200
        assert agent.request("GET", f"/v1/health/service/{name}")[0] == 301


def test_a_real_answer_of_dev_mode_and_of_a_server_mean_the_same(consul, agents):
    server = agents(server=True)
    found = []
    for agent in (consul, server):
        agent.register("web", port=80, address="10.0.0.5", tags=["a"], meta={"b": "c"}, check={"TTL": "1h"})
        with ConsulAccess(url=agent.url) as access:
            (instance,) = eventually(lambda access=access: access.instances("web", policy="any"))
        found.append((instance.id, instance.address, instance.tags, instance.meta, instance.status))
    assert found[0] == found[1]


def test_errors_that_are_none_of_these_keep_their_status(consul):
    for status, text, error in ((404, "whatever", NotFound), (500, "No path to datacenter", UnknownDatacenter)):
        assert meaning(status, text).error is error
