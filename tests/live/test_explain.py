"""Why a service is found, or is not, with real agents and clusters of Consul 1.8.7: one test for each finding."""

from __future__ import annotations

import json
import time

import pytest

from consul_access import (
    Address,
    ClientClosed,
    ConsulAccess,
    Explanation,
    F,
    FindingCode,
    HealthPolicy,
    InvalidInput,
    NotReady,
    Severity,
)
from tests.support.cluster import Cluster
from tests.support.scripted import never
from tests.support.waiting import eventually

TTL = {"TTL": "1h"}
PASSING = {"TTL": "1h", "Status": "passing"}
WARNING = {"TTL": "1h", "Status": "warning"}
WELL = {FindingCode.ADDRESS_FROM_NODE, FindingCode.NO_CHECKS, FindingCode.NO_AGENT, FindingCode.IS_AN_ID}
"""Findings that say nothing bad."""


@pytest.fixture
def catalog(consul):
    """Writes entries into the catalog behind all agents' backs, and takes them out at the end."""
    written = []

    def register(node, service, **more):
        body = {"Node": node, "Address": "10.9.9.9", "SkipNodeUpdate": node == consul.node} | more
        status, text = consul.request("PUT", "/v1/catalog/register", body | {"Service": service})
        assert status == 200, text
        written.append({"Node": node} | ({"ServiceID": service["ID"]} if node == consul.node else {}))

    yield register
    for entry in written:
        consul.request("PUT", "/v1/catalog/deregister", entry)


def codes(explanation, severity=None):
    return {finding.code for finding in explanation.findings if severity in {None, finding.severity}}


def bad(explanation):
    return codes(explanation) - WELL


def one(explanation, code):
    (finding,) = explanation.found(code)
    return finding


# --- whether it is there ----------------------------------------------------------------------------------


def test_a_service_that_is_well_is_explained_as_such(face, consul):
    about = {"address": "10.0.0.5", "tags": ["a"], "check": PASSING}
    consul.register("orders", id="orders-1", port=80, **about)

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("orders")
            assert codes(explanation) == set()
            assert explanation.is_discoverable
            assert explanation.service == "orders"
            agent = explanation.agent
            assert (agent.node, agent.datacenter) == (consul.node, "dc1")
            assert agent.version == consul.read("/v1/agent/self")["Config"]["Version"]
            assert agent.leader.startswith("127.0.0.1:")
            (instance,) = explanation.instances
            assert (instance.node, instance.at_agent, instance.in_catalog) == (consul.node, True, True)
            assert Address(instance.host, instance.port) in await access.search_service("orders")
            assert instance.admitted_by == tuple(HealthPolicy)
            assert {check.id: check.of_node for check in instance.checks} == {
                "serfHealth": True,
                "service:orders-1": False,
            }
            assert Explanation.model_validate_json(explanation.model_dump_json()) == explanation
            assert "orders: discoverable, 1 of 1 instances would be found" in str(explanation)

    face.run(story)


def test_an_unknown_service_is_told_with_similar_names(face, consul):
    consul.register("orders", id="o-1", port=80)

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("order")
            assert codes(explanation) == {FindingCode.UNKNOWN_SERVICE}
            assert not explanation.is_discoverable
            assert explanation.service is None
            assert "There is 'orders'." in one(explanation, "unknown_service").remedy
            assert "NOT discoverable, there is no such service" in str(explanation)
            other = await access.explain("ORDERS")
            assert other.is_discoverable
            assert other.service == "orders"
            assert FindingCode.OTHER_CASE in codes(other)

    face.run(story)


def test_an_id_is_explained_as_the_instance_it_belongs_to(face, consul, catalog):
    consul.register("orders", id="orders-1", port=80, check=PASSING)
    consul.register("orders", id="orders-2", port=81, check={**TTL, "Status": "critical"})
    consul.register("payments", id="orders", port=82)
    consul.register("shop", id="payments", port=83)
    catalog("far", {"Service": "orders", "ID": "far-with-check", "Port": 1}, Check={"Status": "passing", "Name": "c",
            "CheckID": "c", "ServiceID": "far-with-check"})  # fmt: skip
    catalog("farther", {"Service": "orders", "ID": "orders-without-check", "Port": 1})

    async def story():
        async with face.access(url=consul.url) as access:
            for asked, good in (("orders-1", True), ("orders-2", False)):
                explanation = await access.explain(asked)
                assert (explanation.service, explanation.instance_id) == ("orders", asked)
                assert [instance.id for instance in explanation.instances] == [asked]
                assert explanation.is_discoverable == good
                assert FindingCode.IS_AN_ID in codes(explanation)
            for asked in ("far-with-check", "orders-without-check"):
                explanation = await access.explain(asked)
                assert (explanation.service, explanation.instance_id) == ("orders", asked)
            explanation = await access.explain("payments")
            assert explanation.service == "payments"
            assert FindingCode.ALSO_AN_ID in codes(explanation)

    face.run(story)


# --- its health -------------------------------------------------------------------------------------------


def test_each_check_is_told_with_its_output(face, consul):
    consul.register("orders", id="never", port=1, check=TTL)
    consul.register("orders", id="late", port=2, check={"TTL": "1ms", "Status": "passing"})
    consul.register("orders", id="slow", port=3, check=WARNING)
    consul.register("orders", id="broken", port=4, check=TTL)
    consul.request("PUT", "/v1/agent/check/fail/service:broken?note=the+disk+is+full")
    eventually(lambda: "TTL expired" in consul.request("GET", "/v1/health/checks/orders")[1])
    assert "disk is full" not in consul.request("GET", "/v1/health/checks/orders")[1]  # it comes minutes later

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("orders")
            assert one(explanation, "never_checked").instance == "never"
            assert one(explanation, "ttl_expired").instance == "late"
            assert one(explanation, "check_warning").instance == "slow"
            assert "the disk is full" in one(explanation, "check_critical").text
            assert len([f for f in explanation.findings if f.severity is Severity.ERROR]) == 4
            assert not explanation.is_discoverable
            assert "0 of 4 instances would be found" in str(explanation)
            tolerant = await access.explain("orders", policy="passing_or_warning")
            assert [i.id for i in tolerant.instances if i.is_discoverable] == ["slow"]
            assert one(tolerant, "check_warning").severity is Severity.WARNING
            everything = await access.explain("orders", policy="any")
            assert codes(everything, Severity.ERROR) == set()
            assert all(instance.is_discoverable for instance in everything.instances)

    face.run(story)


def test_an_http_check_tells_what_the_agent_saw(consul, free_port):
    consul.register(
        "orders", id="o", port=1, check={"HTTP": f"http://127.0.0.1:{free_port}/health", "Interval": "100ms"}
    )
    eventually(lambda: "refused" in consul.request("GET", "/v1/agent/checks")[1])
    with ConsulAccess(url=consul.url) as access:
        assert "connection refused" in one(access.explain("orders"), "check_critical").text


def test_maintenance_of_a_service_and_of_its_node(face, consul):
    consul.register("orders", id="o", port=1, check=PASSING)
    consul.request("PUT", "/v1/agent/service/maintenance/o?enable=true&reason=new+disk")

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("orders")
            assert bad(explanation) == {FindingCode.SERVICE_MAINTENANCE}
            assert "new disk" in one(explanation, "service_maintenance").text
            await access.node_maintenance(True, "moving house")
            explanation = await access.explain("orders", policy="service_checks_only")
            assert bad(explanation) == {FindingCode.SERVICE_MAINTENANCE, FindingCode.NODE_MAINTENANCE}
            assert codes(explanation, Severity.ERROR) == bad(explanation)
            assert "moving house" in one(explanation, "node_maintenance").text
            await access.node_maintenance(False)

    face.run(story)


# --- the question -----------------------------------------------------------------------------------------


def test_tags_meta_and_filters_that_leave_an_instance_out(face, consul):
    consul.register("orders", id="o", port=80, address="10.0.0.5", tags=["v1"], meta={"zone": "a"})

    async def story():
        async with face.access(url=consul.url) as access:
            for query, part in (
                ({"tags": ["v1", "v2"]}, "it lacks the tag 'v2'; it has 'v1'"),
                ({"meta": {"zone": "b"}}, "its meta 'zone' is 'a'"),
                ({"filter": F.service.port == 81}, 'it does not fit filter=Service.Port == "81"'),
                ({"node_meta": {"rack": "7"}}, "it does not fit node_meta={'rack': '7'}"),
            ):
                explanation = await access.explain("orders", **query)
                assert bad(explanation) == {FindingCode.EXCLUDED_BY_QUERY}
                assert explanation.instances[0].excluded_by == (part,)
                assert not explanation.is_discoverable
                assert explanation.narrowed in str(explanation)
            assert (await access.explain("orders", tags="v1", meta={"zone": "a"}, near="_agent")).is_discoverable

    face.run(story)


def test_mistakes_in_the_question(face, consul):
    consul.register("orders", id="o", port=80)

    async def story():
        async with face.access(url=consul.url) as access:
            refused = await access.explain("orders", filter="No.Such == 1")
            assert codes(refused, Severity.ERROR) == {FindingCode.FILTER_REFUSED}
            assert not refused.is_discoverable
            elsewhere = await access.explain("orders", datacenter="nope")
            assert codes(elsewhere, Severity.ERROR) == {FindingCode.UNKNOWN_DATACENTER}
            for wrong in ({"policy": "nice"}, {"index": 1}, {"wait": "1s"}, {"colour": "red"}):
                with pytest.raises(InvalidInput):
                    await access.explain("orders", **wrong)
            for name in ("", "a//b", "a\nb"):
                with pytest.raises(InvalidInput):
                    await access.explain(name)

    face.run(story)


# --- where to call it -------------------------------------------------------------------------------------


def test_where_address_and_port_come_from_and_what_is_wrong_with_them(face, consul, catalog):
    consul.register("orders", id="of-the-node", port=80)
    consul.register("orders", id="portless", address="10.0.0.6")
    catalog("k8s-sync", {"Service": "orders", "ID": "synced", "Port": 80}, Address="127.0.0.1",
            NodeMeta={"external-source": "kubernetes"})  # fmt: skip
    catalog("far", {"Service": "orders", "ID": "misled", "Port": 80, "Address": "127.0.0.1"})

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("orders")
            by_id = {instance.id: instance for instance in explanation.instances}
            assert one(explanation, "address_from_node").instance == "of-the-node"
            assert by_id["of-the-node"].address_origin == "node"
            assert one(explanation, "no_port").instance == "portless"
            assert by_id["portless"].port_origin == "none"
            assert not by_id["portless"].is_discoverable
            assert one(explanation, "no_address").instance == "synced"
            assert "'kubernetes'" in one(explanation, "no_address").text
            assert one(explanation, "loopback_address").instance == "misled"
            assert {f.node for f in explanation.found("no_agent")} == {"k8s-sync", "far"}
            found = {str(address) for address in await access.search_service("orders")}
            good = {f"{i.host}:{i.port}" for i in explanation.instances if i.is_discoverable}
            assert found == good

    face.run(story)


def test_duplicates_and_weights(face, consul, catalog):
    consul.register("orders", id="a", port=80, address="10.0.0.5")
    consul.register("orders", id="b", port=80, address="10.0.0.5")
    consul.register("orders", id="w", port=81, address="10.0.0.5", check=WARNING, weights={"Passing": 3, "Warning": 0})
    catalog("far", {"Service": "orders", "ID": "a", "Port": 80, "Address": "10.0.0.7"})

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("orders", policy="passing_or_warning")
            duplicate = one(explanation, "duplicate_address")
            assert duplicate.text.startswith("10.0.0.5:80 is registered 2 times")
            assert consul.node in one(explanation, "duplicate_id").text
            assert "far" in one(explanation, "duplicate_id").text
            assert one(explanation, "weight_zero").instance == "w"

    face.run(story)


def test_impossible_entries_are_counted_and_what_cannot_be_read_is_said(face, consul):
    consul.register("orders", id="good", port=80, address="10.0.0.5")
    consul.register("orders", id="bad", port=70000, address="10.0.0.5")

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("orders")
            assert one(explanation, "unusable_entries").text.startswith("1 further instances")
            assert "agent.services" in one(explanation, "not_answered").text
            assert explanation.is_discoverable
            assert explanation.instances[0].at_agent is None

    face.run(story)


# --- agent and catalog ------------------------------------------------------------------------------------


def test_what_the_catalog_lists_at_a_node_whose_agent_does_not_hold_it(face, consul, catalog):
    catalog(consul.node, {"Service": "orders", "ID": "ghost", "Port": 80})

    async def story():
        async with face.access(url=consul.url) as access:
            explanation = await access.explain("orders")
            assert one(explanation, "not_at_agent").instance == "ghost"
            assert explanation.instances[0].at_agent is False

    face.run(story)


def test_what_the_catalog_holds_differently(face, consul, catalog):
    consul.register("orders", id="o", port=80, tags=["old"])
    catalog(consul.node, {"Service": "orders", "ID": "o", "Port": 81, "Tags": ["new"]})

    async def story():
        async with face.access(url=consul.url) as access:
            told = [finding.text for finding in (await access.explain("orders")).found("differs")]
            assert told[0] == "o: port is 81 in the catalog and 80 at its agent"
            assert told[1] == "o: tags is ['new'] in the catalog and ['old'] at its agent"

    face.run(story)


# --- access rules -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded():
    """An agent that denies whatever is not allowed, with a service and some tokens."""
    from tests.support.agents import ConsulAgent

    with ConsulAgent(acl=True) as agent:
        agent.register("orders", id="o", port=80, check=PASSING)
        yield agent


def token(agent, name, rules):
    _, policy = agent.request("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
    _, made = agent.request("PUT", "/v1/acl/token", {"Policies": [{"ID": json.loads(policy)["ID"]}]})
    return json.loads(made)["SecretID"]


READ = 'service_prefix "" { policy = "read" }'
READ_NODES = 'node_prefix "" { policy = "read" }'
READ_AGENT = 'agent_prefix "" { policy = "read" }'


def test_what_a_token_may_not_see(face, guarded):
    async def story():
        async with face.access(url=guarded.url) as access:  # none at all
            explanation = await access.explain("orders")
            assert codes(explanation, Severity.WARNING) == {FindingCode.HIDDEN_BY_ACL, FindingCode.PERMISSION_DENIED}
            assert codes(explanation, Severity.ERROR) == {FindingCode.UNKNOWN_SERVICE}
            assert one(explanation, "permission_denied").severity is Severity.WARNING
            assert "agent.self" in one(explanation, "permission_denied").text
            assert "NOT discoverable, and nothing of it is seen" in str(explanation)
        half = token(guarded, f"half-{face.name}", READ + READ_AGENT)
        async with face.access(url=guarded.url, token=half) as access:
            explanation = await access.explain("orders")
            assert codes(explanation) == {FindingCode.HIDDEN_BY_ACL}
            assert "not the nodes it runs on (node:read)" in one(explanation, "hidden_by_acl").text
            assert half not in str(explanation)
        whole = token(guarded, f"whole-{face.name}", READ + READ_NODES)
        async with face.access(url=guarded.url, token=whole) as access:
            explanation = await access.explain("orders")
            assert explanation.is_discoverable
            assert bad(explanation) == {FindingCode.PERMISSION_DENIED}
        async with face.access(url=guarded.url, token=guarded.token) as access:
            explanation = await access.explain("orders")
            assert bad(explanation) == set()
            unknown = await access.explain("order")
            assert codes(unknown) == {FindingCode.HIDDEN_BY_ACL, FindingCode.UNKNOWN_SERVICE}
            assert "There is 'orders'." in one(unknown, "unknown_service").remedy

    face.run(story)


def test_a_token_that_nobody_knows(face, guarded):
    async def story():
        secret = "0badc0de-0000-4000-8000-000000000000"
        async with face.access(url=guarded.url, token=secret) as access:
            explanation = await access.explain("orders")
            assert codes(explanation) == {FindingCode.TOKEN_UNKNOWN}
            assert "ACL not found" in one(explanation, "token_unknown").text
            assert secret not in str(explanation) + explanation.model_dump_json()

    face.run(story)


# --- the way there ----------------------------------------------------------------------------------------


def test_an_agent_that_is_not_there(face, free_port):
    async def story():
        async with face.access(port=free_port) as access:
            explanation = await access.explain("orders")
            assert codes(explanation) == {FindingCode.AGENT_UNREACHABLE}
            assert explanation.agent.address == f"127.0.0.1:{free_port}"
            assert f"127.0.0.1:{free_port}: no connection" in str(explanation)

    face.run(story)


def test_an_agent_that_says_nothing_is_asked_once(face, scripted, record_property):
    async def story():
        server = scripted([never()])
        async with face.access(url=server.url, timeout=1.0) as access:
            begun = time.monotonic()
            explanation = await access.explain("orders")
            record_property("seconds", f"{time.monotonic() - begun:.2f}")
            assert codes(explanation) == {FindingCode.AGENT_UNREACHABLE}
            assert len(server.requests) == 1

    face.run(story)


def test_a_closed_client_is_an_error(consul):
    access = ConsulAccess(url=consul.url)
    access.close()
    with pytest.raises(ClientClosed):
        access.explain("orders")


# --- clusters ---------------------------------------------------------------------------------------------


@pytest.fixture
def cluster():
    """Three servers and a client agent, which may all be ruined."""
    with Cluster(client=True) as cluster:
        yield cluster


def test_an_instance_on_two_nodes_one_of_which_fails(cluster, record_property):
    server = cluster.followers()[0]
    for member in (server, cluster.agent):
        member.register("orders", id="orders-1", port=80, check=PASSING)
    eventually(lambda: len(cluster.passing("orders", asked=server) or ()) == 2)
    with ConsulAccess(url=cluster.agent.url) as access:
        explanation = access.explain("orders-1")
        assert one(explanation, "duplicate_id").instance == "orders-1"
        by_node = {instance.node: instance.at_agent for instance in explanation.instances}
        assert by_node == {server.node: None, cluster.agent.node: True}
        assert explanation.agent.leader
        assert explanation.is_discoverable
    cluster.agent.kill()
    begun = time.monotonic()
    with ConsulAccess(url=server.url) as access:
        eventually(lambda: access.explain("orders").found("node_failed"), within=30)
        record_property("seconds until the failed node is told", f"{time.monotonic() - begun:.1f}")
        explanation = access.explain("orders")
        finding = one(explanation, "node_failed")
        assert (finding.node, finding.severity) == (cluster.agent.node, Severity.ERROR)
        assert "1 of 2 instances would be found" in str(explanation)


def test_an_agent_whose_node_name_belongs_to_another(cluster):
    agent = cluster.agent
    agent.kill()
    agent.forget()
    agent.run()
    eventually(lambda: agent.request("GET", "/v1/status/leader")[1] not in {"", '""'})
    agent.register("orders", id="orders-1", port=80, address="10.0.0.5")
    with ConsulAccess(url=agent.url) as access:
        explanation = access.explain("orders")
        assert codes(explanation, Severity.ERROR) == {FindingCode.NODE_NAME_RESERVED, FindingCode.NOT_IN_CATALOG}
        assert agent.node in one(explanation, "node_name_reserved").text
        (instance,) = explanation.instances
        assert (instance.at_agent, instance.in_catalog) == (True, False)
        assert "not in the catalog" in str(explanation)


def test_servers_without_a_leader(cluster, record_property):
    cluster.agent.register("orders", id="orders-1", port=80)
    eventually(lambda: cluster.passing("orders", asked=cluster.agent))
    for server in cluster.followers():
        server.kill()
    with ConsulAccess(url=cluster.agent.url) as access:
        eventually(lambda: access.explain("orders").found("no_leader"), within=60)
        begun = time.monotonic()
        explanation = access.explain("orders")
        record_property("seconds to explain without a leader", f"{time.monotonic() - begun:.1f}")
        assert codes(explanation, Severity.ERROR) == {FindingCode.NO_LEADER}
        assert not explanation.is_discoverable
        assert explanation.agent.node == cluster.agent.node
        with pytest.raises(NotReady, match="no leader"):
            access.wait_for("orders", timeout=10)


def test_servers_that_say_nothing(cluster):
    cluster.agent.register("orders", id="orders-1", port=80)
    with ConsulAccess(url=cluster.agent.url, timeout=2.0) as access:
        for server in cluster.servers:
            server.pause()
        begun = time.monotonic()
        explanation = access.explain("orders")
        assert time.monotonic() - begun < 10
        for server in cluster.servers:
            server.resume()
    assert codes(explanation, Severity.ERROR) == {FindingCode.NOT_ANSWERED}
    assert "the servers behind it do not answer" in one(explanation, "not_answered").text
    assert explanation.agent.node == cluster.agent.node
