"""Kubernetes' services out of a real etcd that holds what a real API server wrote."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from consul_access import Address, EncryptedValue, EtcdRegistry, EtcdSettings, InvalidInput, NoInstances
from tests.support.etcd import EtcdServer

SETS = {
    one["name"]: one
    for one in json.loads((Path(__file__).parent.parent / "samples" / "k8s-etcd-samples.json").read_text())["sets"]
}


def fill(server: EtcdServer, name: str, *, without: str = "") -> None:
    """Puts the samples of one set where they were."""
    for entry in SETS[name]["entries"]:
        if not without or without not in entry["key"]:
            server.put(entry["key"], base64.b64decode(entry["value_b64"]))


def value_of(key: str) -> bytes:
    (entry,) = (entry for entry in SETS["protobuf"]["entries"] if entry["key"] == key)
    return base64.b64decode(entry["value_b64"])


def service_of(namespace: str, name: str) -> dict[str, Any]:
    key = f"/registry/services/specs/{namespace}/{name}"
    (entry,) = (entry for entry in SETS["protobuf"]["entries"] if entry["key"] == key)
    api: dict[str, Any] = entry["api_json"]
    return api


@pytest.mark.parametrize("stored", ["protobuf", "json"])
def test_services_are_read_whatever_they_are_stored_as(face, etcd, stored):
    fill(etcd, stored)
    settings = EtcdSettings.load(etcd.host, etcd.port, kubernetes_prefix=SETS[stored]["prefix"], environ={})

    async def story() -> None:
        async with face.etcd(settings=settings) as client:
            found = await client.kubernetes.services("shop")
            assert found.rejected == 0
            by_name = {service.name: service for service in found}
            assert set(by_name) == {"empty", "ext", "lb", "manual", "web"}
            assert by_name["ext"].spec.type == "ExternalName"
            assert by_name["lb"].outside_addresses
            everywhere = await client.kubernetes.services(None)
            assert {service.namespace for service in everywhere} == {"default", "shop"}
            headless = {service.name for service in everywhere if service.is_headless}
            assert "redis-headless" in headless

    face.run(story)


@pytest.mark.parametrize("stored", ["protobuf", "json"])
def test_the_instances_of_a_service_are_those_that_kubernetes_calls_ready(face, etcd, stored):
    fill(etcd, stored)
    settings = EtcdSettings.load(etcd.host, etcd.port, kubernetes_prefix=SETS[stored]["prefix"], environ={})

    async def story() -> None:
        async with face.etcd(settings=settings) as client:
            found = await client.kubernetes.instances("default", "iiip-redis-core")
            assert [one.port_named("redisport").port for one in found] == [6379] * len(found)
            assert all(one.ready and one.pod.startswith("redis-") and one.node for one in found)
            assert {one.zone for one in found} <= {"zone-a", "zone-b"}
            whole = await client.kubernetes.instances("default", "iiip-redis-core", readiness="any")
            assert len(whole) == 3
            assert len({one.host for one in whole}) == 3
            assert await client.kubernetes.instances("shop", "empty") == []
            assert await client.kubernetes.instances("shop", "no-such-service") == []

    face.run(story)


def test_slices_and_endpoints_tell_the_same_and_are_not_counted_twice(etcd):
    fill(etcd, "protobuf")
    with EtcdRegistry(etcd.host, etcd.port) as client:
        for name in ("iiip-redis-core", "redis-headless"):
            by_slices = client.kubernetes.instances("default", name, readiness="any")
            for entry in SETS["protobuf"]["entries"]:
                if entry["key"].startswith(f"/registry/endpointslices/default/{name}"):
                    etcd.delete(entry["key"])
            by_endpoints = client.kubernetes.instances("default", name, readiness="any")
            assert {one.address for one in by_slices} == {one.address for one in by_endpoints}
            assert {one.pod for one in by_slices} == {one.pod for one in by_endpoints}
            fill(etcd, "protobuf")


def test_the_services_first_port_is_meant_and_others_go_by_name(etcd):
    fill(etcd, "protobuf")
    with EtcdRegistry(etcd.host, etcd.port) as client:
        ports = [port["name"] for port in service_of("shop", "web")["spec"]["ports"]]
        found = client.kubernetes.instances("shop", "web", readiness="any")
        assert found
        for one in found:
            assert one.ports[0].name == ports[0]
            assert one.address == Address(one.host, one.port_named(ports[0]).port)
            with pytest.raises(NoInstances, match="no port 'nothing'"):
                one.port_named("nothing")
        assert len({one.port_named("metrics").port for one in found}) == 2  # two pods with ports of their own
        assert len({":" in one.host for one in found}) == len(service_of("shop", "web")["spec"]["ipFamilies"])


def test_encrypted_values_are_told_with_their_provider(face, etcd):
    fill(etcd, "encrypted")
    prefix = SETS["encrypted"]["prefix"]
    settings = EtcdSettings.load(etcd.host, etcd.port, kubernetes_prefix=prefix, environ={})

    async def story() -> None:
        async with face.etcd(settings=settings) as client:
            with pytest.raises(EncryptedValue, match="aescbc"):
                await client.kubernetes.services("shop")
            with pytest.raises(EncryptedValue, match="aesgcm"):
                await client.kubernetes.instances("shop", "web")

    face.run(story)


def test_a_damaged_object_is_left_out_and_the_log_says_so(face, etcd, caplog):
    fill(etcd, "protobuf")
    etcd.put("/registry/services/specs/shop/web", value_of("/registry/services/specs/shop/web")[:-7])

    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            with caplog.at_level(logging.WARNING, "consul_access"):
                found = await client.kubernetes.services("shop")
            assert found.rejected == 1
            assert "web" not in {service.name for service in found}
            assert "/registry/services/specs/shop/web cannot be read" in caplog.text

    face.run(story)


def test_changes_are_told_as_whole_snapshots(face, etcd):
    slice_key = next(
        entry["key"] for entry in SETS["protobuf"]["entries"] if "/endpointslices/default/iiip-redis" in entry["key"]
    )
    fill(etcd, "protobuf")

    async def story() -> None:
        async with face.etcd(etcd.host, etcd.port) as client:
            async with client.kubernetes.watch("default", "iiip-redis-core") as watch:
                first = await anext(watch)
                assert len(first.instances) == 2
                etcd.put("/registry/endpointslices/default/other", value_of(slice_key)[:40])  # damaged: nothing new
                etcd.delete(slice_key)  # now the older object counts, which knows no zones
                second = await anext(watch)
                assert {one.address for one in second.instances} == {one.address for one in first.instances}
                assert {one.zone for one in second.instances} == {""}
                etcd.delete("/registry/services/endpoints/default/iiip-redis-core")
                assert (await anext(watch)).instances == ()
                etcd.put(slice_key, value_of(slice_key))
                last = await anext(watch)
                assert last.instances == first.instances
                assert last.revision > second.revision > first.revision

    face.run(story)


def test_a_watch_that_missed_something_is_told_what_there_is(etcd_server):
    server = etcd_server("3.5")
    fill(server, "protobuf")
    with EtcdRegistry(server.host, server.port) as client:
        with client.kubernetes.watch("default", "iiip-redis-core") as watch:
            before = next(watch)
            server.kill()
            server.run()
            for entry in SETS["protobuf"]["entries"]:
                if "/default/iiip-redis-core" in entry["key"] and "specs" not in entry["key"]:
                    server.delete(entry["key"])
            server.compact()
            assert before.instances
            assert next(watch).instances == ()


def test_names_that_lead_elsewhere_are_refused(face, any_etcd):
    async def story() -> None:
        async with face.etcd(any_etcd.host, any_etcd.port) as client:
            with pytest.raises(InvalidInput):
                await client.kubernetes.instances("shop/../default", "web")
            with pytest.raises(InvalidInput):
                await client.kubernetes.instances("shop", "")
            with pytest.raises(InvalidInput, match="ready, serving, any"):
                await client.kubernetes.instances("shop", "web", readiness="readyish")

    face.run(story)
