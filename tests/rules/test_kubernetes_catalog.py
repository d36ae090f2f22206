"""A cluster's services as they stand in Consul: by the conventions of consul-k8s, on what a real API server wrote."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consul_access.etcd.kubernetes import decode
from consul_access.models.kubernetes import Endpoints, EndpointSlice, KubernetesNode, KubernetesService
from consul_access.models.status import CheckStatus
from consul_access.models.sync import SyncInstance, SyncList, SyncRules
from consul_access.rules.kubernetes_catalog import Cluster, catalog_of

(SAMPLES,) = (
    one["entries"]
    for one in json.loads((Path(__file__).parent.parent / "samples" / "k8s-etcd-samples.json").read_text())["sets"]
    if one["name"] == "protobuf"
)
READ: dict[str, Callable[[Any], Any]] = {
    "Service": KubernetesService.from_api,
    "EndpointSlice": EndpointSlice.from_api,
    "Endpoints": Endpoints.from_api,
    "Node": KubernetesNode.from_api,
}


def sampled(**changed: Any) -> Cluster:
    found: dict[str, list[Any]] = {kind: [] for kind in READ}
    for entry in SAMPLES:
        value = decode(base64.b64decode(entry["value_b64"]))
        if value["kind"] in READ:
            found[value["kind"]].append(READ[value["kind"]](value))
    return Cluster(found["Service"], found["EndpointSlice"], found["Endpoints"], found["Node"], **changed)


def of(found: SyncList, origin: str) -> list[SyncInstance]:
    return [one for one in found.instances if one.origin == origin]


def made(*, annotations: dict[str, str] | None = None, ready: bool = True, **spec: Any) -> Cluster:
    """One service with one pod."""
    service = {
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations or {}},
        "spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]} | spec,
    }
    pods = {
        "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "nodeName": "node-1"}],
        "ports": [{"name": "admin", "port": 8081}, {"name": "http", "port": 8080}],
    }
    return Cluster([KubernetesService.from_api(service)], [EndpointSlice.from_api(pods)])


def annotated(**names: str) -> dict[str, str]:
    return {f"consul.hashicorp.com/service-{name.replace('_', '-')}": value for name, value in names.items()}


def only(found: SyncList) -> SyncInstance:
    (one,) = found.instances
    assert found.left_out == ()
    return one


def test_pods_of_a_service_are_named_identified_and_marked_as_consul_k8s_does():
    found = catalog_of(sampled(), SyncRules())
    pods = of(found, "default/iiip-redis-core")
    assert {(one.address, one.port, one.status) for one in pods} == {
        ("10.244.0.5", 6379, CheckStatus.PASSING),
        ("10.244.1.6", 6379, CheckStatus.PASSING),
        ("10.244.1.7", 6379, CheckStatus.CRITICAL),
    }
    for one in pods:
        assert one.name == "iiip-redis-core-default"
        digest = hashlib.sha1(f"{one.name}-{one.address}".encode()).hexdigest()
        assert one.id == f"{one.name}-{digest[:12]}"
        assert one.check_id == f"default/{one.id}"
        assert one.check_type == "kubernetes-readiness"
        assert one.tags == ("etcd",)
        assert one.meta["external-k8s-ns"] == "default"
        assert one.meta["port-redisport"] == "6379"
        assert one.meta["external-k8s-ref-name"].startswith("redis-")
        assert one.meta["external-k8s-topology-zone"] in {"zone-a", "zone-b"}


def test_a_node_port_is_called_at_the_nodes_and_annotations_name_tag_and_describe_it():
    found = of(catalog_of(sampled(), SyncRules()), "shop/web")
    assert {(one.address, one.port) for one in found} == {("203.0.113.11", 30080), ("203.0.113.12", 30080)}
    for one in found:
        assert (one.name, one.tags, one.meta["team"]) == ("shop-web", ("etcd", "a", "b"), "core")
        assert one.meta["port-metrics"] == "9090"
    inside = of(catalog_of(sampled(), SyncRules(node_port_addresses="internal_only")), "shop/web")
    assert {one.address for one in inside} == {"192.168.10.11", "192.168.10.12"}
    assert {one.id for one in inside} == {one.id for one in found}  # the id is the pod's


def test_external_ips_go_before_everything_else_and_load_balancers_before_pods():
    cluster = sampled()
    assert [(one.address, one.port) for one in of(catalog_of(cluster, SyncRules()), "shop/lb")] == [
        ("198.51.100.7", 443)
    ]
    bare = [
        one.model_copy(update={"spec": one.spec.model_copy(update={"external_ips": ()})}) for one in cluster.services
    ]
    cluster.services = bare
    found = of(catalog_of(cluster, SyncRules()), "shop/lb")
    assert [(one.address, one.port) for one in found] == [("198.51.100.20", 443), ("lb.example.test", 443)]


def test_what_stands_before_pods_passes_while_one_of_them_is_ready():
    assert only(catalog_of(made(externalIPs=["198.51.100.1"]), SyncRules())).status is CheckStatus.PASSING
    down = made(externalIPs=["198.51.100.1"], ready=False)
    assert only(catalog_of(down, SyncRules())).status is CheckStatus.CRITICAL


def test_every_sample_but_external_names_and_empty_services_is_there():
    found = catalog_of(sampled(), SyncRules())
    assert {one.origin for one in found.instances} == {
        "default/iiip-redis-core",
        "default/redis-headless",
        "shop/lb",
        "shop/manual",
        "shop/web",
    }
    assert found.left_out == ()
    assert len({one.id for one in found.instances}) == len(found.instances)


def test_namespaces_prefix_and_suffix_are_chosen():
    found = catalog_of(sampled(), SyncRules(namespaces=("shop",), prefix="k-", add_namespace=False))
    assert {one.name for one in found.instances} == {"k-lb", "k-manual", "shop-web"}  # the last by its annotation
    assert catalog_of(sampled(), SyncRules(except_namespaces=("shop", "default"))).instances == ()


@pytest.mark.parametrize(
    ("said", "by_default", "there"), [("false", True, False), ("true", False, True), ("", False, False)]
)
def test_a_service_says_itself_whether_it_is_meant(said, by_default, there):
    found = catalog_of(made(annotations=annotated(sync=said)), SyncRules(by_default=by_default))
    assert bool(found.instances) is there


def test_the_services_first_port_is_meant_unless_the_annotation_says_another():
    assert only(catalog_of(made(), SyncRules())).port == 8080
    assert [port.name for port in only(catalog_of(made(), SyncRules())).ports] == ["http", "admin"]
    assert only(catalog_of(made(annotations=annotated(port="admin")), SyncRules())).port == 8081
    numbered = only(catalog_of(made(annotations=annotated(port="9999")), SyncRules()))
    assert (numbered.port, [port.name for port in numbered.ports]) == (9999, ["default"])


def test_weights_and_meta_come_from_annotations_and_what_no_meta_can_be_is_left_out():
    one = only(
        catalog_of(
            made(
                annotations=annotated(weight="7", meta_team="core")
                | {
                    "consul.hashicorp.com/service-meta-bad key": "x",
                    "consul.hashicorp.com/service-meta-long": "x" * 600,
                }
            ),
            SyncRules(),
        )
    )
    assert (one.weight, one.meta["team"]) == (7, "core")
    assert not {"bad key", "long"} & set(one.meta)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sync": "perhaps"}, "neither true nor false"),
        ({"name": "consul"}, "Consul's own"),
        ({"port": "70000"}, "65535"),
    ],
)
def test_a_service_that_cannot_be_written_is_told_and_keeps_nothing_else_back(wrong, told):
    cluster = made(annotations=annotated(**wrong))
    cluster.services = [*cluster.services, *sampled().services]
    cluster.slices = [*cluster.slices, *sampled().slices]
    found = catalog_of(cluster, SyncRules(namespaces=("shop", "default")))
    assert [one.what for one in found.left_out if told in one.reason] == ["shop/web"]
    assert of(found, "default/iiip-redis-core")


def test_what_cannot_be_read_is_doubtful_and_so_is_what_stands_on_a_node_that_cannot():
    found = catalog_of(sampled(unreadable={"shop": "a slice is damaged"}), SyncRules())
    assert found.doubtful == {"shop"}
    assert [(one.what, one.reason) for one in found.left_out] == [("shop", "a slice is damaged")]
    cluster = sampled(unreadable_nodes=frozenset({"node-1"}))
    cluster.nodes = [one for one in cluster.nodes if one.metadata.name != "node-1"]
    found = catalog_of(cluster, SyncRules())
    assert "shop/web" in found.doubtful
    assert [one.address for one in of(found, "shop/web")] == ["203.0.113.12"]
