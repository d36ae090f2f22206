"""The calls that write to the catalog: what is sent. No agent stands between these and the servers."""

from __future__ import annotations

import json

import pytest

from consul_access import Address, Check, HealthEntry, InvalidInput, ServiceDefinition, TtlCheck, Weights
from consul_access.call import Headers, Repeat, Reply
from consul_access.consul import agent, catalog, health
from consul_access.models.external import CatalogCheck, CatalogRegistration
from consul_access.models.status import CheckStatus
from consul_access.rules.heartbeats import stamped

ORDERS = ServiceDefinition(
    id="orders-1",
    name="orders",
    address="10.0.0.5",
    port=80,
    tags=("v2",),
    meta={"v": "2"},
    weights=Weights(passing=3, warning=1),
    tagged_addresses={"wan": Address("198.51.100.7", 80)},
    checks=(TtlCheck(30),),
)
BEAT = CatalogCheck(
    id="service:orders-1", name="Heartbeat", status=CheckStatus.PASSING, service_id="orders-1", output="fine"
)


def body(call):
    return json.loads(call.body)


def test_a_registration_is_written_in_the_words_of_the_catalog_and_leaves_an_existing_node_alone():
    call = catalog.register(CatalogRegistration(service=ORDERS, checks=(BEAT,)))
    assert (call.name, call.method, call.target_path) == ("catalog.register", "PUT", "/v1/catalog/register")
    assert (call.repeat, call.subject) == (Repeat.IDEMPOTENT, "orders-1")
    assert body(call) == {
        "Node": "consul-access",
        "Address": "127.0.0.1",
        "NodeMeta": {"external-node": "true", "external-source": "consul-access"},
        "SkipNodeUpdate": True,
        "Service": {
            "ID": "orders-1",
            "Service": "orders",
            "Address": "10.0.0.5",
            "Port": 80,
            "Tags": ["v2"],
            "Meta": {"v": "2"},
            "Weights": {"Passing": 3, "Warning": 1},
            "TaggedAddresses": {"wan": {"Address": "198.51.100.7", "Port": 80}},
        },
        "Checks": [
            {
                "CheckID": "service:orders-1",
                "Name": "Heartbeat",
                "Status": "passing",
                "ServiceID": "orders-1",
                "Notes": "",
                "Output": "fine",
            }
        ],
    }


def test_a_heartbeat_leaves_the_service_as_it_is():
    assert "Service" not in body(catalog.register(CatalogRegistration(checks=(BEAT,))))
    assert "Checks" not in body(catalog.register(CatalogRegistration(service=ORDERS)))


def test_a_deregistration_names_one_service_or_one_check():
    call = catalog.deregister("consul-access", "orders-1")
    assert (call.name, call.target_path) == ("catalog.deregister", "/v1/catalog/deregister")
    assert body(call) == {"Node": "consul-access", "ServiceID": "orders-1"}
    assert body(catalog.deregister("n", check_id="c")) == {"Node": "n", "CheckID": "c"}


@pytest.mark.parametrize("service_id", [None, "", "a\nb"])
def test_a_whole_node_is_never_removed(service_id):
    with pytest.raises(InvalidInput):
        catalog.deregister("consul-access", service_id)


@pytest.mark.parametrize("wrong", [{"node": ""}, {"node": "a\0b"}, {"address": "http://evil"}])
def test_what_cannot_be_right_is_refused(wrong):
    with pytest.raises(InvalidInput):
        catalog.register(CatalogRegistration(**wrong))


def test_the_members_of_a_cluster_are_read_by_name():
    told = [{"Name": "a", "Addr": "10.0.0.1", "Status": 1}, {"Name": "b"}]
    assert agent.members().read(Reply(200, Headers(), json.dumps(told).encode())) == ["a", "b"]


# --- readers ----------------------------------------------------------------------------------------------


def entry(service_id, output):
    own = {"CheckID": "c", "Status": "passing", "ServiceID": service_id, "Output": output}
    return {"Node": {"Node": "n"}, "Service": {"ID": service_id, "Service": "orders", "Port": 80}, "Checks": [own]}


def test_the_age_of_heartbeats_is_judged_when_the_answer_is_read_and_is_not_sent():
    clock = [1000.0]
    call = health.instances("orders", max_heartbeat_age="30s", now=lambda: clock[0])
    assert call.target_path == "/v1/health/service/orders?passing=1"
    answer = [entry("a", stamped(990.0, 10)), entry("b", "no stamp"), {"broken": 1}]
    reply = Reply(200, Headers([(b"X-Consul-Index", b"7")]), json.dumps(answer).encode())
    found = call.read(reply)
    assert [instance.id for instance in found] == ["a", "b"]
    assert (found.meta.index, found.rejected) == (7, 1)
    clock[0] = 1021.0
    assert [instance.id for instance in call.read(reply)] == ["b"]
    whole = health.service("orders", max_heartbeat_age=30, now=lambda: clock[0]).read(reply)
    assert [type(one) for one in whole] == [HealthEntry]
    assert isinstance(whole[0].checks[0], Check)


def test_without_a_clock_no_age_can_be_told():
    for ask in (health.instances, health.service):
        with pytest.raises(InvalidInput, match="now="):
            ask("orders", max_heartbeat_age=30)


def test_look_ups_without_checks_know_no_heartbeats():
    for ask in (catalog.service, catalog.services, health.checks):
        with pytest.raises(InvalidInput, match="max_heartbeat_age"):
            ask(**({} if ask is catalog.services else {"name": "orders"}), max_heartbeat_age=1)
