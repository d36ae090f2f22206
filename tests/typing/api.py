"""What type checkers must understand; nobody runs this file (`make types`)."""

from __future__ import annotations

import time
from datetime import datetime
from typing import assert_type

import httpx

from consul_access import (
    Address,
    AsyncCatalogSync,
    AsyncConsulAccess,
    AsyncDiscoveryTransport,
    AsyncEtcdRegistry,
    AsyncKeeper,
    AsyncRegistration,
    AsyncRegistry,
    AsyncResolver,
    Call,
    CatalogEntry,
    CatalogSync,
    CheckStatus,
    ConsulAccess,
    DiscoveryTransport,
    EjectingBalancer,
    EjectionPolicy,
    Entries,
    EtcdRegistry,
    Explanation,
    F,
    FindingCode,
    HealthEntry,
    HealthPolicy,
    HttpCheck,
    InstancesFailed,
    Keeper,
    KeeperState,
    KeyEvent,
    KeyMetadata,
    KeyValue,
    KubernetesInstance,
    KubernetesService,
    KubernetesSnapshot,
    Lease,
    Reaped,
    Registration,
    Registry,
    Resolver,
    RoundRobinBalancer,
    ServiceInstance,
    ServiceSnapshot,
    ServicesSnapshot,
    StalePolicy,
    SyncInstance,
    SyncPlan,
    SyncState,
    TtlCheck,
)
from consul_access.integrations.opentelemetry import Telemetry
from consul_access.integrations.prometheus import Metrics
from consul_access.testing import FakeConsul


def threads(access: ConsulAccess) -> None:
    assert_type(access.search_service("web"), list[Address])
    assert_type(access.resolve("web", tags=["a"]), Address)
    assert_type(access.instances("web", policy=HealthPolicy.ANY, filter=F.service.port == 80), Entries[ServiceInstance])
    assert_type(access.health("web", index=1, wait="10s"), Entries[HealthEntry])
    assert_type(access.catalog("web", datacenter="dc2"), Entries[CatalogEntry])
    assert_type(access.instances("web")[0].status, CheckStatus)
    assert_type(access.services()["web"], list[str])
    assert_type(access.wait_for("web", at_least=2, timeout="1m", tags="a"), Entries[ServiceInstance])
    assert_type(access.wait_for_all(["web"], on_progress=print), dict[str, Entries[ServiceInstance]])
    assert_type(access.wait_for_all({"web": 2}, on_progress=lambda progress: progress.kind)["web"][0].port, int)
    assert_type(access.explain("web", policy="any"), Explanation)
    assert_type(access.explain("web").findings[0].code, FindingCode)
    assert_type(access.register_service("web", "10.0.0.5", 80, check=TtlCheck("15s")), Registration)
    assert_type(access.deregister_service("web-1"), bool)
    with access.registered("web", port=80, on_event=lambda event: event.kind, health=lambda: True) as keeper:
        assert_type(keeper, Keeper)
        assert_type(keeper.state, KeeperState)
        assert_type(keeper.last_ok, datetime | None)
    with access.resolver("web", tags="a", stale=StalePolicy.keep_for(60), balancer="weighted") as web:
        assert_type(web, Resolver)
        assert_type(web.pick(key="k"), ServiceInstance)
        assert_type(web.wait_ready(5, at_least=2), tuple[ServiceInstance, ...])
        assert_type(web.snapshot(), ServiceSnapshot)
    for snapshot in access.watch(["web", "db"], policy="any"):
        assert_type(snapshot, ServiceSnapshot)
        assert_type(snapshot.diff.added, tuple[ServiceInstance, ...])
    for services in access.watch_services():
        assert_type(services, ServicesSnapshot)
    access.on_change("web", lambda snapshot: snapshot.index).stop()
    access.on_keeper_event(lambda service, event: (service.upper(), event.kind))()
    access.on_pick(lambda instance: instance.address)()
    access.on_ejection(lambda service, address: (service.upper(), address.port))()
    assert_type(access.keepers, tuple[Keeper, ...])
    assert_type(access.resolvers, tuple[Resolver, ...])
    Metrics().observe(access)()
    Telemetry(background=True).observe(access)()
    with access.registered("web", "10.0.0.5", 80, mode="catalog", node="mine") as keeper:
        assert_type(keeper.node, str)
    access.registered("web", port=80, require_agent=True)
    access.registered("web", mode="magic")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert_type(access.instances("web", max_heartbeat_age="1m"), Entries[ServiceInstance])
    assert_type(access.reap(older_than=600, dry_run=True), list[Reaped])
    assert_type(access.send(Call("raw", "GET", "/v1/status/leader", read=lambda reply: reply.status)), int)
    access.register_service("web", port=80, checks=[HttpCheck(path="/x"), TtlCheck(30)], meta={"a": "b"})
    access.instances("web", polcy="any")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    access.instances("web", consistency="strong")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def tasks(access: AsyncConsulAccess) -> None:
    assert_type(await access.search_service("web"), list[Address])
    assert_type(await access.instances("web"), Entries[ServiceInstance])
    assert_type(await access.wait_for("web"), Entries[ServiceInstance])
    assert_type((await access.explain("web")).is_discoverable, bool)
    assert_type(await access.register_service("web", "10.0.0.5", 80), AsyncRegistration)
    async with access.registered("web", port=80) as keeper:
        assert_type(keeper, AsyncKeeper)
        assert_type(await keeper.stop(), bool)
    async with access.resolver("web") as web:
        assert_type(web, AsyncResolver)
        assert_type(web.pick(), ServiceInstance)
        assert_type(await web.wait_ready(), tuple[ServiceInstance, ...])
    async for snapshot in access.watch("web"):
        assert_type(snapshot, ServiceSnapshot)
    async with access, await access.register_service("web", "10.0.0.5", 80) as registration:
        assert_type(await registration.deregister(), bool)


def any_registry(registry: Registry) -> Address:
    registry.register_service("web", "10.0.0.5", 80)
    with registry.registered("web", "10.0.0.5", 80, drain=1.0) as keeper, registry.resolver("web") as web:
        assert_type(keeper.state, KeeperState)
        assert_type(web.pick(), ServiceInstance)
    for snapshot in registry.watch("web", policy="any"):
        assert_type(snapshot, ServiceSnapshot)
    registry.wait_for("web", at_least=2)
    return registry.resolve("web", tags=["a"])


async def any_async_registry(registry: AsyncRegistry) -> Address:
    await registry.register_service("web", "10.0.0.5", 80)
    return await registry.resolve("web")


def a_fake_serves_both_faces() -> None:
    fake = FakeConsul("1.10", acl=True)
    ConsulAccess(transport=fake.transport())
    AsyncConsulAccess(transport=fake.transport())
    fake.after(3).requests.lose_leader(for_=2)
    with fake.serve() as server:
        assert_type(server.url, str)


async def both_fulfil_their_protocol(access: ConsulAccess, async_access: AsyncConsulAccess) -> None:
    any_registry(access)
    any_registry(EtcdRegistry())
    await any_async_registry(async_access)
    await any_async_registry(AsyncEtcdRegistry())


def services_at_etcd(etcd: EtcdRegistry) -> None:
    assert_type(etcd.register_service("web", "10.0.0.5", 80), Keeper)
    assert_type(etcd.search_service("web"), list[Address])
    assert_type(etcd.instances("web", policy="any", tags="a"), Entries[ServiceInstance])
    assert_type(etcd.wait_for("web"), Entries[ServiceInstance])
    assert_type(etcd.wait_for_all({"web": 1}), dict[str, Entries[ServiceInstance]])
    assert_type(etcd.explain("web", tags="a"), Explanation)
    assert_type(next(etcd.watch_services()), ServicesSnapshot)
    with etcd.resolver("web") as web:
        assert_type(web, Resolver)
    for snapshot in etcd.watch("web"):
        assert_type(snapshot, ServiceSnapshot)
    etcd.instances("web", near="_agent")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def keys(etcd: EtcdRegistry) -> None:
    value, metadata = etcd.get("a")
    assert_type(value, bytes | None)
    assert_type(metadata, KeyMetadata | None)
    assert_type(etcd.put("a", b"b"), int)
    assert_type(etcd.delete("a"), bool)
    assert_type(etcd.replace("a", "b", "c"), bool)
    assert_type(etcd.get_prefix("a/"), list[KeyValue])
    assert_type(etcd.delete_prefix("a/"), int)
    with etcd.lease(10) as lease, etcd.watch_prefix("a/") as watch:
        assert_type(lease, Lease)
        assert_type(lease.ttl(), int | None)
        for event in watch:
            assert_type(event, KeyEvent)
    assert_type(etcd.kubernetes.services("default"), Entries[KubernetesService])
    assert_type(etcd.kubernetes.instances("default", "web"), list[KubernetesInstance])
    for snapshot in etcd.kubernetes.watch("default", "web"):
        assert_type(snapshot, KubernetesSnapshot)
    etcd.put("a", 5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def async_keys(etcd: AsyncEtcdRegistry) -> None:
    assert_type(await etcd.put("a", "b"), int)
    async with await etcd.lease(10) as lease, etcd.watch_key("a") as watch:
        assert_type(await lease.keepalive(), int)
        async for event in watch:
            assert_type(event, KeyEvent)
    async for snapshot in etcd.kubernetes.watch("default", "web"):
        assert_type(snapshot, KubernetesSnapshot)


def by_name(access: ConsulAccess) -> None:
    transport = DiscoveryTransport(access, balancer=RoundRobinBalancer, tags=["eu"], policy="any")
    with httpx.Client(transport=transport) as client:
        try:
            client.get("http://orders/")
        except InstancesFailed as error:
            assert_type(error.failures[0].address, Address)
    balancer = EjectingBalancer(RoundRobinBalancer(), time.monotonic, EjectionPolicy(failures=3))
    with access.resolver("orders", balancer=balancer) as resolver:
        assert_type(resolver.pick(key="user-7"), ServiceInstance)
    DiscoveryTransport(access, host="mine")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def async_by_name(access: AsyncConsulAccess) -> None:
    async with httpx.AsyncClient(transport=AsyncDiscoveryTransport(access)) as client:
        await client.get("http://orders/")


def syncs(etcd: EtcdRegistry, consul: ConsulAccess, other: AsyncEtcdRegistry) -> None:
    with CatalogSync(etcd.kubernetes, consul, node_port_addresses="internal_only") as sync:
        assert_type(sync.wait_ready(5), SyncPlan)
        assert_type(sync.state, SyncState)
    assert_type(CatalogSync(source=etcd, target=consul).plan().register, tuple[SyncInstance, ...])
    CatalogSync(other.kubernetes, consul)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    CatalogSync(etcd, consul, node_port_addresses="x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def async_syncs(etcd: AsyncEtcdRegistry, consul: AsyncConsulAccess) -> None:
    async with AsyncCatalogSync(etcd.kubernetes, consul) as sync:
        assert_type(await sync.once(), SyncPlan)
    AsyncCatalogSync(etcd, consul)
