"""How answers look: headers, shapes, odd paths; and what is not known."""

from __future__ import annotations

import gzip
import json
import time
from urllib.parse import quote

import pytest

from consul_access.consul.plain import plain_addresses
from consul_access.consul.texts import meaning
from consul_access.errors import FilterError
from tests.conformance.conftest import since
from tests.support.waiting import eventually

VALUES = r'"-", "0", "\"", "`", [ \t\r\n], [1-9] or [a-zA-Z]'
PASSING = {"TTL": "1h", "Status": "passing"}
OF_WEB = ("service:web", "lone", "_service_maintenance:web")


class TestUnknownThings:
    @pytest.mark.parametrize(
        ("target", "status", "text"),
        [
            ("/v1/health/connect/x", 200, "[]"),
            ("/v1/catalog/connect/x", 200, "[]"),
            ("/v1/kv/x", 404, ""),
            ("/v1/coordinate/node/x", 404, ""),
            ("/v1/nothing", 404, ""),
            ("/v1/agent/services/", 404, ""),
            ("/v1/health/node/", 400, "Missing node name"),
            ("/v1/health/state/", 400, "Missing check state"),
            ("/v1/catalog/service/", 400, "Missing service name"),
            ("/v1/agent/health/service/id/", 500, "Bad request: Missing serviceID"),
            ("/v1/agent/service/", 404, "unknown service ID: "),
            ("/v1/agent/members?segment=x", 500, "Network segments are not supported in this version of Consul"),
        ],
    )
    def test_is_answered_so(self, consul, target, status, text):
        found = consul.request("GET", target)
        assert (found[0], found[1].strip()) == (status, text.strip())

    def test_a_node_that_is_not_there_has_no_services(self, consul):
        assert consul.read("/v1/catalog/node-services/x") == {"Node": None, "Services": None}
        assert consul.exchange("GET", "/v1/catalog/node/x")[1]["X-Consul-Index"] == "1"

    def test_an_agents_health_of_what_it_does_not_know_says_so_in_a_header(self, consul):
        status, headers, body = consul.exchange("GET", "/v1/agent/health/service/id/x")
        assert (status, headers["X-Consul-Reason"]) == (404, "ServiceId x not found")
        assert json.loads(body) == {"AggregatedStatus": "critical", "Service": None, "Checks": None}
        status, headers, body = consul.exchange("GET", "/v1/agent/health/service/name/x?format=text")
        assert (status, headers["X-Consul-Reason"]) == (404, "ServiceName x Not Found")
        assert body == b"ServiceName x Not Found"


class TestInstances:
    def test_are_plain_to_read(self, consul):
        for number, more in enumerate(({}, {"Address": "2001:db8::1", "Tags": ["a"], "Meta": {"b": "é"}})):
            body = {"Name": "web", "ID": f"web-{number}", "Address": "10.0.0.5", "Port": 80} | more
            assert consul.request("PUT", "/v1/agent/service/register", body)[0] == 200
        _, _, found = consul.exchange("GET", "/v1/health/service/web?passing=1")
        assert plain_addresses(found) == [("10.0.0.5", 80), ("2001:db8::1", 80)]


class TestHeaders:
    @pytest.mark.parametrize(("query", "told"), [("", "leader"), ("?stale", "stale"), ("?consistent", "consistent")])
    def test_reads_tell_how_consistent_they_are(self, consul, query, told):
        _, headers, _ = consul.exchange("GET", f"/v1/health/service/x{query}")
        assert headers["X-Consul-Effective-Consistency"] == told
        assert (headers["X-Consul-Knownleader"], headers["X-Consul-Lastcontact"]) == ("true", "0")
        assert int(headers["X-Consul-Index"]) >= 1

    def test_a_cached_read_misses_first_and_hits_then(self, consul):
        name = f"new-{id(object())}"
        target = f"/v1/health/service/{name}?cached"
        first, second = (consul.exchange("GET", target)[1] for _ in range(2))
        assert (first["X-Cache"], first["Age"]) == ("MISS", None)
        assert (second["X-Cache"], second["Age"]) == ("HIT", "0")
        ignoring = consul.exchange("GET", f"{target}&x=1", headers={"Cache-Control": "max-age=0, must-revalidate"})[1]
        assert ignoring["X-Cache"] in {"HIT", "MISS"}

    @pytest.mark.parametrize("path", ["health/service/x", "health/connect/x"])
    @pytest.mark.parametrize("query", ["index=1", "cached"])
    def test_since_1_10_who_asks_again_is_answered_from_a_view_which_knows_no_leader(self, consul, path, query):
        consul.register("x")
        _, headers, _ = consul.exchange("GET", f"/v1/{path}?{query}")
        _, near, _ = consul.exchange("GET", f"/v1/{path}?{query}&near=_agent")
        names = ("X-Consul-Query-Backend", "X-Consul-Knownleader")
        plain = ("blocking-query" if since(1, 10) else None, "true")
        assert tuple(headers[name] for name in names) == (("streaming", "false") if since(1, 10) else plain)
        assert tuple(near[name] for name in names) == plain

    @pytest.mark.parametrize(
        ("wrong", "text"), [("Service.ID ==", "1:14 (13): no match"), ("No.Such == 1", 'Selector "No" is not valid')]
    )
    def test_a_view_says_of_a_wrong_filter_only_what_is_wrong(self, consul, wrong, text):
        _, _, body = consul.exchange("GET", f"/v1/health/service/x?cached&filter={quote(wrong)}")
        beginning = "" if since(1, 10) else "Failed to create boolean expression evaluator: "
        assert body.decode().startswith(f"{beginning}{text}")
        assert meaning(500, body.decode()).error is FilterError

    @pytest.mark.parametrize(
        ("wanted", "at_first", "in_a_view"),
        [("zone:abc", 1, 1), ("zone:b", 0, 1), ("zone:x", 0, 0), ("other:a", 0, 0), ("x-y:q", 1, None)],
    )
    def test_a_view_takes_nodes_whose_meta_contains_what_it_should_equal(self, consul, wanted, at_first, in_a_view):
        """And nothing with a hyphen in its name: why the library sends a filter instead."""
        meta = {"zone": "abc", "x-y": "q"}
        node = {"Node": "apart", "Address": "10.0.0.9", "NodeMeta": meta, "Service": {"Service": "odd"}}
        consul.request("PUT", "/v1/catalog/register", node)
        try:
            target = f"/v1/health/service/odd?node-meta={wanted}"
            assert len(consul.read(target)) == at_first
            status, text = consul.request("GET", f"{target}&index=1")
            found = len(json.loads(text)) if status == 200 else None
            assert found == (in_a_view if since(1, 10) else at_first)
        finally:
            consul.request("PUT", "/v1/catalog/deregister", {"Node": "apart"})

    def test_a_view_of_a_datacenter_that_nobody_knows_is_empty_when_the_time_is_over(self, consul):
        begun = time.monotonic()
        status, text = consul.request("GET", "/v1/health/service/x?dc=nope&index=1&wait=300ms")
        if since(1, 10):
            assert (status, text.strip(), time.monotonic() - begun >= 0.3) == (200, "[]", True)
        else:
            assert (status, text) == (500, "No path to datacenter")

    def test_the_verbs_that_are_allowed_are_told(self, consul):
        status, headers, _ = consul.exchange("OPTIONS", "/v1/health/service/x")
        assert (status, headers["Allow"]) == (200, "OPTIONS,GET")
        status, headers, body = consul.exchange("PUT", "/v1/acl/login")
        assert (status, headers["Allow"], body) == (405, "OPTIONS,POST", b"method PUT not allowed")

    @pytest.mark.parametrize(
        ("target", "text"),
        [
            ("/v1/health/service/x", b"[]"),
            ("/v1/health/service/", b"Missing service name"),
            (f"/v1/agent/service/{'x' * 1379}", f"unknown service ID: {'x' * 1379}".encode()),
            (f"/v1/agent/service/{'x' * 1380}", f"unknown service ID: {'x' * 1380}".encode()),
        ],
        ids=["list", "refusal", "1399 bytes", "1400 bytes"],
    )
    def test_everything_is_packed_for_those_who_ask(self, consul, target, text):
        """Since 1.9 only what has 1,400 bytes or more."""
        _, headers, body = consul.exchange("GET", target, headers={"Accept-Encoding": "gzip"})
        packed = len(text) >= 1400 or not since(1, 9)
        assert headers["Content-Encoding"] == ("gzip" if packed else None)
        assert (gzip.decompress(body) if packed else body).strip() == text
        assert consul.exchange("GET", target)[1]["Content-Encoding"] is None

    def test_json_can_be_pretty(self, consul):
        _, _, body = consul.exchange("GET", "/v1/catalog/datacenters?pretty")
        assert body == b'[\n    "dc1"\n]\n'


class TestShapes:
    def test_meta_is_null_in_health_and_empty_elsewhere(self, consul):
        consul.register("bare")
        assert consul.read("/v1/health/service/bare")[0]["Service"]["Meta"] is None
        assert consul.read("/v1/catalog/service/bare")[0]["ServiceMeta"] == {}
        assert consul.read("/v1/agent/service/bare")["Meta"] == {}

    @pytest.mark.parametrize(
        ("address", "names"),
        [
            ("", None),
            ("10.0.0.1", {"lan_ipv4", "wan_ipv4"}),
            ("2001:db8::1", {"lan_ipv6", "wan_ipv6"}),
            ("x.example", None),
        ],
    )
    def test_tagged_addresses_are_made_from_an_ip_address(self, consul, address, names):
        consul.register("web", address=address, port=80)
        tagged = consul.read("/v1/health/service/web")[0]["Service"].get("TaggedAddresses")
        assert (tagged and set(tagged)) == names
        assert tagged is None or all(one == {"Address": address, "Port": 80} for one in tagged.values())

    def test_an_agents_checks_have_no_index_and_the_servers_have(self, consul):
        consul.register("web", check=PASSING)
        assert consul.read("/v1/agent/checks")["service:web"]["ModifyIndex"] == 0
        (check,) = consul.read("/v1/health/checks/web")
        assert check["ModifyIndex"] >= check["CreateIndex"] > 0

    def test_weights_come_as_both_numbers_whatever_the_state(self, consul):
        consul.register("web", weights={"Passing": 7, "Warning": 2}, check={"TTL": "1h", "Status": "critical"})
        assert consul.read("/v1/health/service/web")[0]["Service"]["Weights"] == {"Passing": 7, "Warning": 2}

    @pytest.mark.parametrize("told", [{}, {"Tags": None}, {"Tags": []}, {"Tags": ["a"]}])
    def test_the_tags_of_a_check_beside_its_agents_health_are_null_where_none_were_told(self, consul, told):
        """Everywhere else they are empty; `[]` stays what it is."""
        consul.request("PUT", "/v1/agent/service/register", {"Name": "web", "Check": PASSING} | told)
        consul.request("PUT", "/v1/agent/check/register", {"Name": "lone", "ServiceID": "web"} | PASSING)
        consul.request("PUT", "/v1/agent/service/maintenance/web?enable=true")
        seen = json.loads(consul.request("GET", "/v1/agent/health/service/id/web")[1])["Checks"]
        tags = told.get("Tags")
        assert {one["CheckID"]: one["ServiceTags"] for one in seen} == dict.fromkeys(OF_WEB, tags)
        known = consul.read("/v1/agent/checks")
        assert {name: one["ServiceTags"] for name, one in known.items()} == dict.fromkeys(OF_WEB, tags or [])

    @pytest.mark.parametrize("tags", [None, [], ["a"]])
    def test_a_transaction_tells_the_tags_of_a_check_as_they_were_told(self, consul, tags):
        """Those of its service; its own, and a name, only where it has no service."""
        told = {"Name": "k", "ServiceName": "web", "ServiceTags": tags}
        own, owned = told | {"CheckID": "own"}, told | {"CheckID": "owned", "ServiceID": "w", "ServiceTags": ["x"]}
        service = {"Service": "web", "ID": "w", "Tags": tags}
        consul.request("PUT", "/v1/catalog/register", {"Node": "ext-1", "Address": "10.1.1.1", "Service": service})
        sets = [{"Check": {"Verb": "set", "Check": {"Node": "ext-1"} | check}} for check in (own, owned)]
        results = json.loads(consul.request("PUT", "/v1/txn", sets)[1])["Results"]
        found = consul.read("/v1/health/checks/web")
        consul.request("PUT", "/v1/catalog/deregister", {"Node": "ext-1"})
        assert [one["Check"]["ServiceTags"] for one in results] == [tags, tags]
        assert {one["CheckID"]: one["ServiceTags"] for one in found} == dict.fromkeys(("own", "owned"), tags or [])


class TestPaths:
    @pytest.mark.parametrize("name", ["a/b", "ä", "a b", "a%b", "?", "#", "a+b"])
    def test_names_may_be_quoted_as_a_whole(self, consul, name):
        consul.register(name, id="odd")
        assert len(consul.read(f"/v1/health/service/{quote(name, safe='')}")) == 1

    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_two_slashes_are_redirected_whatever_the_verb(self, consul, method):
        status, headers, _ = consul.exchange(method, "/v1/agent//service/x?a=b")
        assert (status, headers["Location"]) == (301, "/v1/agent/service/x?a=b")

    @pytest.mark.parametrize("odd", ["%0A", "%00", "%7F", "%E2%80%8B"])
    def test_what_cannot_be_printed_is_400(self, consul, odd):
        assert consul.request("GET", f"/v1/health/service/a{odd}b") == (400, "")

    def test_half_of_an_escape_is_400(self, consul):
        assert consul.request("GET", "/v1/health/service/%zz")[0] == 400


class TestHealth:
    def test_passing_leaves_out_what_warns(self, consul):
        for status in ("passing", "warning", "critical"):
            consul.register("web", id=status, check={"TTL": "1h", "Status": status})
        for query in ("passing", "passing=1", "passing=true", "passing="):
            assert [e["Service"]["ID"] for e in consul.read(f"/v1/health/service/web?{query}")] == ["passing"]
        for query in ("", "passing=false", "passing=0"):
            assert len(consul.read(f"/v1/health/service/web?{query}")) == 3

    def test_maintenance_is_a_critical_check_with_the_reason_as_its_notes(self, consul):
        consul.register("web")
        consul.request("PUT", "/v1/agent/service/maintenance/web?enable=true&reason=a%20disk")
        consul.request("PUT", "/v1/agent/maintenance?enable=true")
        checks = eventually(lambda: len(found := consul.read("/v1/health/service/web")[0]["Checks"]) == 3 and found)
        found = {check["CheckID"]: (check["Status"], check["Notes"]) for check in checks}
        assert found["_service_maintenance:web"] == ("critical", "a disk")
        assert found["_node_maintenance"][1].startswith("Maintenance mode is enabled for this node, but no reason was")
        assert consul.request("GET", "/v1/agent/health/service/id/web?format=text") == (503, "maintenance")

    @pytest.mark.parametrize(
        ("expression", "kept"),
        [
            ("Service.Meta[`v`] == `2`", 1),
            ('Service.Meta["a b"] == "2"', 0),
            ("Service.Port == 80 and not (Service.Tags contains b or Service.Tags is empty)", 1),
            ('"a" in Service.Tags', 1),
            ('Service.Address matches "^10[.]0"', 1),
            ("Service.Meta.nokey != x", 1),
            ("Service.Meta.nokey matches x", 1),
        ],
    )
    def test_filters(self, consul, expression, kept):
        consul.register("web", port=80, address="10.0.0.1", tags=["a"], meta={"v": "2"})
        assert len(consul.read(f"/v1/health/service/web?filter={quote(expression)}")) == kept

    @pytest.mark.parametrize(
        ("expression", "text"),
        [
            ("Service.ID ==", f"1:14 (13): no match found, expected: {VALUES}"),
            ("No.Such == 1", 'Selector "No" is not valid'),
            ('Service.Tags == "a"', 'Invalid match operator "Equal" for selector "Service.Tags"'),
            ("(Service.ID == web", '1:19 (18): rule "grouping": Unmatched parentheses'),
            ('Service.ID == "we', '1:18 (17): rule "string": Unterminated string literal'),
            (
                "Service.Port == x",
                'Failed to coerce value "x" for selector "Service.Port": strconv.ParseInt: parsing "x": invalid syntax',
            ),
            (
                'Service.ID matches "("',
                'Failed to compile regular expression "(": error parsing regexp: missing closing ): `(`',
            ),
        ],
    )
    def test_what_is_said_of_wrong_ones(self, consul, expression, text):
        found = consul.request("GET", f"/v1/health/service/web?filter={quote(expression)}")
        assert found == (500, f"Failed to create boolean expression evaluator: {text}")
