"""From the etcd of a Kubernetes cluster into Consul's catalog: real servers on both sides."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from consul_access import (
    CatalogSync,
    ConsulAccess,
    EncryptedValue,
    EtcdRegistry,
    EtcdSettings,
    InvalidInput,
    NotReady,
    PermissionDenied,
    SyncState,
    Weights,
)
from consul_access.rules.syncing import FEW
from tests.live.test_etcd_kubernetes import SETS, fill, value_of
from tests.support.waiting import eventually

SERVER = 20.0
"""What a busy machine may need; a fraction of a second otherwise."""
BACK = SERVER + 15.0
"""A watch that has been cut off for more than 30 s, as on a busy machine, tries again every 15 s."""
NODE = "etcd-sync"
EXPECTED = {
    "iiip-redis-core-default": {"10.244.0.5:6379", "10.244.1.6:6379", "10.244.1.7:6379"},
    "redis-headless-default": {"10.244.0.5:6379", "10.244.1.6:6379", "10.244.1.7:6379"},
    "lb-shop": {"198.51.100.7:443"},
    "manual-shop": {"192.0.2.10:5432", "192.0.2.11:5432", "192.0.2.12:5432", "192.0.2.20:5433"},
    "shop-web": {"203.0.113.11:30080", "203.0.113.12:30080"},
}
REDIS = "/registry/endpointslices/default/iiip-redis-core-b62kk"
ALL_REDIS = (REDIS, "/registry/services/endpoints/default/iiip-redis-core")


@pytest.fixture
def server(consul):
    yield consul
    consul.request("PUT", "/v1/catalog/deregister", {"Node": NODE})


def services(server, node=NODE) -> dict[str, Any]:
    found = server.read(f"/v1/catalog/node/{node}")
    return found["Services"] if found else {}


def listed(server) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in services(server).values():
        found.setdefault(one["Service"], set()).add(f"{one['Address']}:{one['Port']}")
    return found


def redis(ready: tuple[bool, ...]) -> bytes:
    """A slice of the redis service, in JSON, with so many pods."""
    pods = [
        {"addresses": [f"10.244.9.{number}"], "conditions": {"ready": each}} for number, each in enumerate(ready, 1)
    ]
    labels = {"kubernetes.io/service-name": "iiip-redis-core"}
    return json.dumps(
        {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "iiip-redis-core-b62kk", "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "endpoints": pods,
            "ports": [{"name": "redisport", "port": 6379, "protocol": "TCP"}],
        }
    ).encode()


def test_what_kubernetes_has_is_in_the_catalog_and_stays_there_after_the_block(face, any_etcd, server, record_property):
    fill(any_etcd, "protobuf")
    events = []

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=server.url) as consul:
            sync = face.sync(etcd.kubernetes, consul, on_event=events.append)
            assert sync.state is SyncState.STOPPED
            async with sync:
                done = await sync.wait_ready(SERVER)
                assert listed(server) == EXPECTED
                assert (len(done.register), done.deregister, done.left_out) == (13, (), ())
                assert sync.state is SyncState.SYNCED
                assert sync.synced_at is not None
                found = await consul.search_service("iiip-redis-core-default")
                assert sorted(found) == [("10.244.0.5", 6379), ("10.244.1.6", 6379)]  # the third is not ready
                (entry,) = await consul.health("lb-shop")
                assert entry.node.address == "127.0.0.1"
                assert entry.node.meta == {"external-source": "kubernetes"}
                any_etcd.put(REDIS, redis((True, False)))
                _, after = await face.eventually(
                    lambda: listed(server)["iiip-redis-core-default"] == {"10.244.9.1:6379", "10.244.9.2:6379"},
                    within=SERVER,
                )
                record_property("from etcd into the catalog", f"{after:.3f} s")
                assert await consul.search_service("iiip-redis-core-default") == [("10.244.9.1", 6379)]
                again = await sync.plan()
                assert again.is_empty
            assert sync.state is SyncState.STOPPED
            assert len(listed(server)) == len(EXPECTED)

    face.run(story)
    assert [event.kind for event in events] == ["listed", "written", "written", "stopped"]
    assert (events[1].registered, events[2].registered, events[2].deregistered) == (13, 2, 3)


def test_a_plan_writes_nothing_and_a_single_pass_does_what_it_says(face, any_etcd, server):
    fill(any_etcd, "protobuf")

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=server.url) as consul:
            sync = face.sync(etcd.kubernetes, consul)
            plan = await sync.plan()
            assert len(plan.register) == 13
            assert services(server) == {}
            assert server.read(f"/v1/catalog/node/{NODE}") is None
            assert (await sync.once()).register == plan.register
            assert listed(server) == EXPECTED
            assert (await sync.plan()).unchanged == 13
            any_etcd.delete("/registry/services/specs/shop/manual")
            assert {one.name for one in (await sync.plan()).deregister} == {"manual-shop"}

    face.run(story)


def test_what_is_changed_or_removed_in_the_catalog_is_put_right(face, any_etcd, server):
    fill(any_etcd, "protobuf")

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=server.url) as consul:
            async with face.sync(etcd.kubernetes, consul, interval=0.2) as sync:
                await sync.wait_ready(SERVER)
                (one, *_) = (one for one in services(server).values() if one["Service"] == "lb-shop")
                changed = {"ID": one["ID"], "Service": "lb-shop", "Port": 1, "Address": "10.6.6.6", "Meta": one["Meta"]}
                server.request(
                    "PUT", "/v1/catalog/register", {"Node": NODE, "SkipNodeUpdate": True, "Service": changed}
                )
                await face.eventually(lambda: listed(server) == EXPECTED, within=SERVER)
                server.request("PUT", "/v1/catalog/deregister", {"Node": NODE})  # the node and all
                await face.eventually(lambda: listed(server) == EXPECTED, within=SERVER)
                check = f"shop/{one['ID']}"
                server.request("PUT", "/v1/catalog/deregister", {"Node": NODE, "CheckID": check})
                await face.eventually(
                    lambda: check in {each["CheckID"] for each in server.read(f"/v1/health/node/{NODE}")}, within=SERVER
                )

    face.run(story)


def test_what_others_have_on_the_node_is_left_alone(face, any_etcd, server):
    fill(any_etcd, "protobuf")
    theirs = {"ID": "theirs", "Service": "theirs", "Address": "10.1.1.1", "Port": 1}
    server.request("PUT", "/v1/catalog/register", {"Node": NODE, "Address": "127.0.0.1", "Service": theirs})

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=server.url) as consul:
            sync = face.sync(etcd.kubernetes, consul)
            assert (await sync.once()).foreign == ("theirs",)
            assert listed(server) == EXPECTED | {"theirs": {"10.1.1.1:1"}}
            sync = face.sync(etcd.kubernetes, consul, namespaces=["nothing"], may_vanish=1.0)
            assert len((await sync.once()).deregister) == 13
            assert listed(server) == {"theirs": {"10.1.1.1:1"}}

    face.run(story)


def test_the_node_of_an_agent_is_refused_before_anything_is_written(face, any_etcd, server):
    fill(any_etcd, "protobuf")

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=server.url) as consul:
            sync = face.sync(etcd.kubernetes, consul, node=server.node)
            for refused in (sync.plan, sync.once, sync.start):
                with pytest.raises(InvalidInput, match="the node of an agent"):
                    await refused()
            assert set(services(server, server.node)) == {"consul"}

    face.run(story)


def test_a_source_that_is_away_removes_nothing_and_goes_on_when_it_is_back(face, etcd_server, server, record_property):
    source = etcd_server()
    fill(source, "protobuf")
    events = []

    async def story():
        async with face.etcd(source.host, source.port) as etcd, face.access(url=server.url) as consul:
            async with face.sync(etcd.kubernetes, consul, interval=0.2, on_event=events.append) as sync:
                await sync.wait_ready(SERVER)
                source.kill()
                await face.eventually(lambda: sync.state is SyncState.STALE, within=SERVER)
                # What was lost in the catalog comes back meanwhile, and nothing goes.
                server.request("PUT", "/v1/catalog/deregister", {"Node": NODE})
                await face.eventually(lambda: listed(server) == EXPECTED, within=SERVER)
                source.run()
                source.put(REDIS, redis((True,)))
                _, after = await face.eventually(
                    lambda: listed(server)["iiip-redis-core-default"] == {"10.244.9.1:6379"}, within=BACK
                )
                record_property("after the source was back", f"{after:.2f} s")
                await face.eventually(lambda: sync.state is SyncState.SYNCED, within=SERVER)
        kinds = [event.kind for event in events]
        assert "source_lost" in kinds
        assert "source_back" in kinds[kinds.index("source_lost") :]

    face.run(story)


def test_a_source_that_was_never_read_removes_nothing(face, free_port, server, any_etcd):
    fill(any_etcd, "protobuf")
    with EtcdRegistry(any_etcd.host, any_etcd.port) as etcd, ConsulAccess(url=server.url) as consul:
        CatalogSync(etcd.kubernetes, consul).once()

    async def story():
        async with face.etcd("127.0.0.1", free_port) as etcd, face.access(url=server.url) as consul:
            async with face.sync(etcd.kubernetes, consul, interval=0.05) as sync:
                await face.eventually(lambda: sync.state is SyncState.STALE, within=SERVER)
                with pytest.raises(NotReady, match="stale"):
                    await sync.wait_ready(0.3)
                assert sync.last is None
                assert str(free_port) in sync.error
                assert listed(server) == EXPECTED

    face.run(story)


def test_the_catalog_being_away_is_told_and_made_up_for(face, any_etcd, agents, record_property):
    fill(any_etcd, "protobuf")
    target = agents(server=True)
    events = []

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=target.url, timeout=1) as consul:
            async with face.sync(etcd.kubernetes, consul, interval=0.2, on_event=events.append) as sync:
                await sync.wait_ready(SERVER)
                target.kill()
                await face.eventually(lambda: sync.state is SyncState.FAILING, within=SERVER)
                assert sync.error
                any_etcd.put(REDIS, redis((True,)))
                target.run()
                _, after = await face.eventually(
                    lambda: listed(target).get("iiip-redis-core-default") == {"10.244.9.1:6379"}, within=2 * SERVER
                )
                record_property("after the catalog was back", f"{after:.2f} s")
                await face.eventually(lambda: sync.state is SyncState.SYNCED, within=SERVER)
                assert sync.error == ""
        kinds = [event.kind for event in events]
        assert kinds.index("target_lost") < kinds.index("target_back")

    face.run(story)


def test_too_much_that_would_vanish_is_held_until_somebody_approves(face, any_etcd, server):
    fill(any_etcd, "protobuf")
    events = []

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=server.url) as consul:
            async with face.sync(etcd.kubernetes, consul, on_event=events.append) as sync:
                await sync.wait_ready(SERVER)
                any_etcd.clear()  # a store that was restored empty, or the wrong one
                await face.eventually(lambda: sync.state is SyncState.HELD, within=SERVER)
                assert len(sync.last.held) == 13
                assert "13 of 13 instances would vanish" in sync.last.reason
                assert listed(server) == EXPECTED
                sync.approve()
                await face.eventually(lambda: services(server) == {}, within=SERVER)
                await face.eventually(lambda: sync.state is SyncState.SYNCED, within=SERVER)
        assert [event.kind for event in events if event.kind in {"held", "released"}] == ["held", "released"]

    face.run(story)


def test_a_few_may_go_without_being_asked(any_etcd, server):
    fill(any_etcd, "protobuf")
    with EtcdRegistry(any_etcd.host, any_etcd.port) as etcd, ConsulAccess(url=server.url) as consul:
        with CatalogSync(etcd.kubernetes, consul, may_vanish=0.0) as sync:
            sync.wait_ready(SERVER)
            any_etcd.delete("/registry/services/specs/default/iiip-redis-core")
            eventually(lambda: "iiip-redis-core-default" not in listed(server), within=SERVER, what="three are gone")
            assert FEW == 3


def test_what_is_damaged_in_the_source_keeps_what_is_in_the_catalog(face, any_etcd, server, caplog):
    fill(any_etcd, "protobuf")
    with EtcdRegistry(any_etcd.host, any_etcd.port) as etcd, ConsulAccess(url=server.url) as consul:
        CatalogSync(etcd.kubernetes, consul).once()
    any_etcd.put(REDIS, value_of(REDIS)[:-9])
    any_etcd.delete(ALL_REDIS[1])

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd, face.access(url=server.url) as consul:
            with caplog.at_level(logging.CRITICAL, "consul_access"):
                async with face.sync(etcd.kubernetes, consul, may_vanish=1.0) as sync:
                    await sync.wait_ready(SERVER)
                    assert listed(server) == EXPECTED
                    assert sync.state is SyncState.HELD
                    assert [one.what for one in sync.last.left_out] == ["default"]
                    any_etcd.put(REDIS, redis((True,)))
                    await face.eventually(lambda: sync.state is SyncState.SYNCED, within=SERVER)
                    assert listed(server)["iiip-redis-core-default"] == {"10.244.9.1:6379"}

    face.run(story)


def test_hundreds_of_instances_are_written_in_transactions(any_etcd, server, record_property):
    fill(any_etcd, "protobuf")
    any_etcd.put(REDIS, redis((True,) * 200))
    with EtcdRegistry(any_etcd.host, any_etcd.port) as etcd, ConsulAccess(url=server.url) as consul:
        calls = []
        consul.on_exchange(calls.append)
        sync = CatalogSync(etcd.kubernetes, consul)
        assert len(sync.once().register) == 210
        written = [call for call in calls if call.operation in {"txn", "catalog.register"}]
        record_property("210 instances", f"{sum(call.elapsed for call in written):.3f} s in {len(written)} requests")
        assert [call.operation for call in written] == ["catalog.register", *["txn"] * 7]
        assert len(listed(server)["iiip-redis-core-default"]) == 200
        any_etcd.put(REDIS, redis((True,) * 100))
        calls.clear()
        assert len(sync.once().deregister) == 100
        assert [call.operation for call in calls].count("txn") == 2
        assert len(listed(server)["iiip-redis-core-default"]) == 100


def test_one_service_that_the_token_may_not_write_keeps_none_of_the_others_back(any_etcd, acl_consul):
    fill(any_etcd, "protobuf")
    rules = """
        node_prefix "" { policy = "write" }
        service_prefix "" { policy = "write" }
        service "lb-shop" { policy = "read" }
    """
    _, policy = acl_consul.request("PUT", "/v1/acl/policy", {"Name": "sync", "Rules": rules}, token=acl_consul.token)
    _, made = acl_consul.request(
        "PUT", "/v1/acl/token", {"Policies": [{"ID": json.loads(policy)["ID"]}]}, token=acl_consul.token
    )
    token = json.loads(made)["SecretID"]
    try:
        with (
            EtcdRegistry(any_etcd.host, any_etcd.port) as etcd,
            ConsulAccess(url=acl_consul.url, token=token) as consul,
        ):
            done = CatalogSync(etcd.kubernetes, consul).once()
            assert len(done.register) == 12
            (refused,) = done.left_out
            assert refused.what.startswith("lb-shop-")
            assert "the token may not do this" in refused.reason
            found = acl_consul.read(f"/v1/catalog/node/{NODE}")
            assert {one["Service"] for one in found["Services"].values()} == EXPECTED.keys() - {"lb-shop"}
        with EtcdRegistry(any_etcd.host, any_etcd.port) as etcd, ConsulAccess(url=acl_consul.url) as consul:
            with pytest.raises(PermissionDenied):
                CatalogSync(etcd.kubernetes, consul).once()
            with CatalogSync(etcd.kubernetes, consul) as sync:
                with pytest.raises(NotReady, match=r"failing.*Permission denied"):
                    sync.wait_ready(1.0)
    finally:
        acl_consul.request("PUT", "/v1/catalog/deregister", {"Node": NODE}, token=acl_consul.token)


def test_sets_stored_as_json_end_in_the_same_catalog(any_etcd, server):
    fill(any_etcd, "json")
    prefix = SETS["json"]["prefix"]
    settings = EtcdSettings.load(any_etcd.host, any_etcd.port, kubernetes_prefix=prefix, environ={})
    with EtcdRegistry(settings=settings) as etcd, ConsulAccess(url=server.url) as consul:
        found = CatalogSync(etcd.kubernetes, consul, node_port_addresses="internal_only").once()
        # That set holds no Nodes, so the NodePort service has no address.
        assert {one.name for one in found.register} == EXPECTED.keys() - {"shop-web"}
        assert [one.what for one in found.left_out] == ["shop/web"]


def test_encrypted_values_are_told_and_remove_nothing(any_etcd, server):
    fill(any_etcd, "protobuf")
    fill(any_etcd, "encrypted")
    prefix = SETS["encrypted"]["prefix"]
    settings = EtcdSettings.load(any_etcd.host, any_etcd.port, kubernetes_prefix=prefix, environ={})
    with (
        EtcdRegistry(any_etcd.host, any_etcd.port) as clear,
        EtcdRegistry(settings=settings) as etcd,
        ConsulAccess(url=server.url) as consul,
    ):
        CatalogSync(clear.kubernetes, consul).once()
        with pytest.raises(EncryptedValue, match="aes"):
            CatalogSync(etcd.kubernetes, consul).once()
        with CatalogSync(etcd.kubernetes, consul, may_vanish=1.0) as sync:
            eventually(lambda: sync.state is SyncState.STALE, within=SERVER, what="the source cannot be read")
            assert "encrypted at rest" in sync.error
            assert sync.last is None
        assert listed(server) == EXPECTED


def test_what_is_registered_at_etcd_is_in_consul_as_long_as_it_is_there(face, etcd, server):
    async def story():
        async with face.etcd(etcd.host, etcd.port, ttl=5) as registry, face.access(url=server.url) as consul:
            orders = {"tags": ["v2", "k8s"], "meta": {"team": "core"}, "weights": Weights(passing=3, warning=1)}
            async with registry.registered("orders", "10.0.0.5", 8080, id="orders-1", **orders):
                async with face.sync(registry, consul, prefix="x-") as sync:
                    await sync.wait_ready(SERVER)
                    (entry,) = await consul.health("x-orders")
                    assert (entry.service.address, entry.service.port) == ("10.0.0.5", 8080)
                    assert entry.service.tags == ("etcd", "v2")  # by k8s the reaper of consul-k8s would know its own
                    assert entry.service.weights.passing == 3
                    assert entry.service.meta == {
                        "team": "core",
                        "external-source": "etcd",
                        "sync-owner": NODE,
                        "sync-origin": "orders",
                    }
                    assert entry.node.meta == {"external-source": "etcd"}
                    assert await consul.search_service("x-orders") == [("10.0.0.5", 8080)]
                    named = {"ports": {"http": 80, "admin": 81}}
                    async with registry.registered("orders", "10.0.0.6", id="orders-2", **named):
                        await face.eventually(
                            lambda: listed(server) == {"x-orders": {"10.0.0.5:8080", "10.0.0.6:80"}}, within=SERVER
                        )
                    await face.eventually(lambda: listed(server) == {"x-orders": {"10.0.0.5:8080"}}, within=SERVER)
                    assert (await sync.plan()).is_empty

    face.run(story)


def test_a_registration_that_cannot_be_read_keeps_what_is_in_consul(any_etcd, server):
    prefix = "/consul-access/v1/services/"
    with EtcdRegistry(any_etcd.host, any_etcd.port) as registry, ConsulAccess(url=server.url) as consul:
        with registry.registered("orders", "10.0.0.5", 8080, id="orders-1"):
            with CatalogSync(registry, consul, may_vanish=1.0) as sync:
                sync.wait_ready(SERVER)
        any_etcd.put(f"{prefix}orders/orders-1", b"{")
        found = CatalogSync(registry, consul, may_vanish=1.0).once()
        assert (len(found.held), found.deregister) == (1, ())
        assert [one.what for one in found.left_out] == ["orders"]
        any_etcd.delete(f"{prefix}orders/orders-1")
        assert len(CatalogSync(registry, consul, may_vanish=1.0).once().deregister) == 1
