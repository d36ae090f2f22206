"""A registration as it is sent, and the limits of what it may say."""

from __future__ import annotations

import pytest

from consul_access import Address, AliasCheck, HttpCheck, InvalidInput, ServiceDefinition, TtlCheck, Weights


def test_only_what_was_given_is_sent():
    assert ServiceDefinition(id="web-1", name="web").payload() == {"ID": "web-1", "Name": "web"}


def test_everything_that_was_given_is_sent():
    definition = ServiceDefinition(
        id="web-1",
        name="web",
        address="[2001:db8::1]",
        port=80,
        tags=("a",),
        meta={"v": "1"},
        checks=(HttpCheck(),),
        weights=Weights(passing=2, warning=0),
        tagged_addresses={"wan": Address("198.51.100.1", 8080)},
        enable_tag_override=True,
        namespace="n",
        partition="p",
    )
    assert definition.payload() == {
        "ID": "web-1",
        "Name": "web",
        "Address": "2001:db8::1",
        "Port": 80,
        "Tags": ["a"],
        "Meta": {"v": "1"},
        "Weights": {"Passing": 2, "Warning": 0},
        "TaggedAddresses": {"wan": {"Address": "198.51.100.1", "Port": 8080}},
        "EnableTagOverride": True,
        "Namespace": "n",
        "Partition": "p",
        "Check": {"HTTP": "http://[2001:db8::1]:80/health", "Interval": "10s"},
    }


def test_several_checks_are_a_list():
    definition = ServiceDefinition(id="w", name="w", port=1, checks=(TtlCheck("5s"), TtlCheck("6s")))
    assert [check["TTL"] for check in definition.payload()["Checks"]] == ["5s", "6s"]


def test_without_an_address_checks_aim_at_the_agents_own_machine():
    definition = ServiceDefinition(id="w", name="w", port=80, checks=(HttpCheck(),))
    assert definition.payload()["Check"]["HTTP"] == "http://127.0.0.1:80/health"


def test_named_ports_replace_the_port_and_the_first_is_the_default():
    definition = ServiceDefinition(id="w", name="w", ports={"http": 80, "grpc": 81}, checks=(HttpCheck(),))
    assert definition.payload()["Ports"] == [
        {"Name": "http", "Port": 80, "Default": True},
        {"Name": "grpc", "Port": 81},
    ]
    assert definition.payload()["Check"]["HTTP"].endswith(":80/health")
    with pytest.raises(InvalidInput, match="exclude each other"):
        ServiceDefinition(id="w", name="w", port=80, ports={"http": 81})


def test_check_ids_are_those_that_the_agent_makes():
    one = ServiceDefinition(id="w", name="w", checks=(TtlCheck("5s"),))
    assert one.check_ids() == ("service:w",)
    many = ServiceDefinition(id="w", name="w", checks=(TtlCheck("5s"), TtlCheck("5s", id="x"), TtlCheck("5s")))
    assert many.check_ids() == ("service:w:1", "x", "service:w:3")


def test_a_check_id_may_not_come_twice():
    for checks in (
        (TtlCheck("5s", id="x"), TtlCheck("5s", id="x")),
        (TtlCheck("5s", id="service:w:2"), TtlCheck("5s")),
    ):
        with pytest.raises(InvalidInput, match="twice"):
            ServiceDefinition(id="w", name="w", checks=checks)


def test_the_only_ttl_check_is_found():
    checks = (HttpCheck("http://x/"), TtlCheck("5s"))
    assert ServiceDefinition(id="w", name="w", checks=checks).only_ttl_check_id() == "service:w:2"
    for wrong in ((), (TtlCheck("5s"), TtlCheck("6s"))):
        with pytest.raises(InvalidInput, match=f"{len(wrong)} TTL checks"):
            ServiceDefinition(id="w", name="w", checks=wrong).only_ttl_check_id()


def test_the_nodes_of_alias_checks_are_known():
    checks = (AliasCheck(node="n1"), AliasCheck(service="s"), TtlCheck("5s"))
    assert ServiceDefinition(id="w", name="w", checks=checks).alias_nodes() == ("n1",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"name": "consul"},
        {"address": "http://x"},
        {"port": 0},
        {"tags": ("a\n",)},
        {"meta": {"a b": ""}},
        {"weights": Weights(passing=0)},
        {"weights": Weights(passing=1, warning=65536)},
        {"tagged_addresses": {"wan": Address("0.0.0.0", 80)}},
        {"tagged_addresses": {"wan": Address("x", 0)}},
        {"ports": {"http": 0}},
        {"ports": {"": 80}},
        {"namespace": ""},
        {"checks": ("http",)},
        {"checks": (HttpCheck(),)},
        {"tags": ("x" * 1000,) * 600},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_cannot_be_right_is_refused(wrong):
    with pytest.raises(InvalidInput):
        ServiceDefinition(**({"id": "w", "name": "w"} | wrong))
