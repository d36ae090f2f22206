"""From Kubernetes' objects to instances."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import NoInstances
from consul_access.models.kubernetes import Endpoints, EndpointSlice, KubernetesService, Readiness
from consul_access.rules.endpoints import instances_of

LABEL = {"kubernetes.io/service-name": "web"}


def a_slice(*endpoints: dict[str, Any], ports: Any = ({"name": "http", "port": 80},), **fields: Any) -> EndpointSlice:
    labels = fields.pop("labels", LABEL)
    body = {"metadata": {"name": "web-x", "labels": labels}, "endpoints": list(endpoints), "ports": ports}
    return EndpointSlice.from_api(body | fields)


def older(*addresses: str, not_ready: tuple[str, ...] = ()) -> Endpoints:
    subset = {
        "addresses": [{"ip": ip} for ip in addresses],
        "notReadyAddresses": [{"ip": ip} for ip in not_ready],
        "ports": [{"name": "http", "port": 80}],
    }
    return Endpoints.from_api({"metadata": {"name": "web"}, "subsets": [subset]})


def found(*slices: EndpointSlice, endpoints: Endpoints | None = None, service: KubernetesService | None = None):
    return instances_of("shop", "web", service=service, slices=slices, endpoints=endpoints)


def test_what_is_not_told_counts_as_ready_and_serving_and_not_as_terminating():
    (one,) = found(a_slice({"addresses": ["10.0.0.1"], "conditions": {"ready": None}}))
    assert (one.ready, one.serving, one.terminating) == (True, True, False)


def test_an_instance_that_shuts_down_still_serves_but_is_not_ready():
    conditions = {"ready": False, "serving": True, "terminating": True}
    (one,) = found(a_slice({"addresses": ["10.0.0.1"], "conditions": conditions}))
    assert not one.is_meant(Readiness.READY)
    assert one.is_meant(Readiness.SERVING)
    assert one.is_meant(Readiness.ANY)


def test_slices_of_other_services_do_not_count():
    assert found(a_slice({"addresses": ["10.0.0.1"]}, labels={"kubernetes.io/service-name": "web2"})) == ()


def test_endpoints_count_only_where_there_is_no_slice():
    both = found(a_slice({"addresses": ["10.0.0.1"]}), endpoints=older("10.0.0.1", "10.0.0.2"))
    assert [one.host for one in both] == ["10.0.0.1"]
    alone = found(endpoints=older("10.0.0.1", not_ready=("10.0.0.2",)))
    assert [(one.host, one.ready) for one in alone] == [("10.0.0.1", True), ("10.0.0.2", False)]
    assert found(a_slice(), endpoints=older("10.0.0.1")) == ()


def test_the_ports_of_one_address_may_stand_in_several_slices():
    first = a_slice({"addresses": ["10.0.0.1"]}, ports=[{"name": "metrics", "port": 9100}])
    second = a_slice({"addresses": ["10.0.0.1"]}, ports=[{"name": "http", "port": 8080}])
    service = KubernetesService.from_api(
        {"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 9}]}}
    )
    (one,) = found(first, second, service=service)
    assert one.port == 8080
    assert one.port_named("metrics").port == 9100
    (unordered,) = found(first, second)
    assert unordered.port == 9100


def test_zone_and_node_come_from_where_the_version_has_them():
    v1 = {"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "a", "targetRef": {"kind": "Pod", "name": "web-0"}}
    beta = {
        "addresses": ["10.0.0.2"],
        "topology": {"kubernetes.io/hostname": "n2", "topology.kubernetes.io/zone": "b"},
    }
    one, other = found(a_slice(v1, beta))
    assert (one.node, one.zone, one.pod) == ("n1", "a", "web-0")
    assert (other.node, other.zone, other.pod) == ("n2", "b", "")


def test_a_port_without_a_number_is_none():
    (one,) = found(a_slice({"addresses": ["10.0.0.1"]}, ports=[{"name": None, "port": None}]))
    assert one.ports == ()
    with pytest.raises(NoInstances):
        _ = one.address


ips = st.sampled_from([f"10.0.0.{n}" for n in range(6)])


@given(st.lists(st.lists(ips, max_size=4), max_size=4), st.lists(ips, max_size=4))
def test_every_address_is_told_once(groups: list[list[str]], more: list[str]):
    slices = [a_slice(*({"addresses": [ip]} for ip in group)) for group in groups]
    told = [one.host for one in found(*slices, endpoints=older(*more))]
    assert len(told) == len(set(told))
    assert set(told) == ({ip for group in groups for ip in group} if groups else set(more))
