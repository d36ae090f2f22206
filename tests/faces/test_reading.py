"""Looking services up, against a real agent."""

from __future__ import annotations

import time

import pytest

from consul_access import (
    Address,
    CheckStatus,
    F,
    FilterError,
    HealthPolicy,
    InvalidInput,
    NoInstances,
    RoundRobinBalancer,
    UnknownDatacenter,
)
from consul_access.consul import catalog, health, status
from tests.support.waiting import eventually

PASSING = {"TTL": "1h", "Status": "passing"}
WARNING = {"TTL": "1h", "Status": "warning"}
CRITICAL = {"TTL": "1h", "Status": "critical"}


@pytest.fixture
def shop(consul):
    """Four instances, one in each state."""
    for name, port, check in (("ok", 1, PASSING), ("warn", 2, WARNING), ("bad", 3, CRITICAL), ("away", 4, PASSING)):
        about = {"check": check, "tags": [name, "all"], "meta": {"n": name}}
        consul.register("shop", id=name, port=port, address="10.0.0.5", **about)
    consul.request("PUT", "/v1/agent/service/maintenance/away?enable=true&reason=disk")
    eventually(lambda: "_service_maintenance:away" in consul.request("GET", "/v1/health/checks/shop")[1])
    return consul


EXPECTED = {
    HealthPolicy.PASSING: {"ok"},
    HealthPolicy.PASSING_OR_WARNING: {"ok", "warn"},
    HealthPolicy.SERVICE_CHECKS_ONLY: {"ok"},
    HealthPolicy.ANY: {"ok", "warn", "bad", "away"},
}


@pytest.mark.parametrize("policy", list(HealthPolicy))
def test_a_policy_gives_the_same_list_from_every_method(face, shop, policy):
    async def story():
        async with face.access(url=shop.url) as access:
            flat = await access.instances("shop", policy=policy)
            whole = await access.health("shop", policy=policy)
            addresses = await access.search_service("shop", policy=policy)
            assert {instance.id for instance in flat} == EXPECTED[policy]
            assert {entry.service.id for entry in whole} == EXPECTED[policy]
            assert {address.port for address in addresses} == {instance.port for instance in flat}
            assert sorted(flat, key=lambda one: one.id) == sorted((e.instance for e in whole), key=lambda one: one.id)
            assert (await access.resolve("shop", policy=policy)) in addresses

    face.run(story)


def test_instances_know_how_they_stand(face, shop):
    async def story():
        async with face.access(url=shop.url) as access:
            found = {instance.id: instance.status for instance in await access.instances("shop", policy="any")}
            assert found == {
                "ok": CheckStatus.PASSING,
                "warn": CheckStatus.WARNING,
                "bad": CheckStatus.CRITICAL,
                "away": CheckStatus.MAINTENANCE,
            }

    face.run(story)


def test_node_maintenance_hides_an_instance_from_every_policy_but_any(face, consul):
    consul.register("web", port=80, address="10.0.0.5")

    async def story():
        async with face.access(url=consul.url) as access:
            await access.node_maintenance(True, "new disk")
            for policy in set(HealthPolicy) - {HealthPolicy.ANY}:
                assert await access.instances("web", policy=policy) == []
            (instance,) = await access.instances("web", policy="any")
            assert instance.status is CheckStatus.MAINTENANCE
            await access.node_maintenance(False)
            assert len(await access.instances("web")) == 1

    face.run(story)


def test_a_critical_node_does_not_matter_when_only_service_checks_count(face, consul):
    node_check = {"Name": "disk", "ID": "disk", "TTL": "1h", "Status": "critical"}
    consul.register("web", port=80, address="10.0.0.5", check=PASSING)
    assert consul.request("PUT", "/v1/agent/check/register", node_check)[0] == 200

    async def story():
        async with face.access(url=consul.url) as access:
            assert await access.instances("web") == []
            assert len(await access.instances("web", policy="service_checks_only")) == 1

    try:
        face.run(story)
    finally:
        consul.request("PUT", "/v1/agent/check/deregister/disk")


def test_unknown_services_and_services_without_healthy_instances_are_both_empty(face, consul):
    consul.register("sick", port=80, check=CRITICAL)

    async def story():
        async with face.access(url=consul.url) as access:
            for name in ("sick", "unknown"):
                assert await access.instances(name) == []
                assert await access.search_service(name) == []
                with pytest.raises(NoInstances, match=name):
                    await access.resolve(name)
            assert (await access.instances("unknown")).meta.index >= 1
            assert await access.catalog("unknown") == []
            assert len(await access.catalog("sick")) == 1

    face.run(story)


def test_narrowing_by_tags_meta_filter_and_node_meta(face, shop):
    async def story():
        async with face.access(url=shop.url) as access:

            async def ids(**query):
                return {instance.id for instance in await access.instances("shop", policy="any", **query)}

            assert await ids(tags="ok") == {"ok"}
            assert await ids(tags=["ok", "all"]) == {"ok"}
            assert await ids(tags=["ok", "bad"]) == set()
            assert await ids(meta={"n": "bad"}) == {"bad"}
            assert await ids(filter='Service.Meta.n == "warn"') == {"warn"}
            assert await ids(filter=F.service.tags.contains("warn") | (F.service.port == 3)) == {"warn", "bad"}
            assert await ids(filter=~F.service.meta["n"].matches("^(ok|bad)$"), meta={"n": "away"}) == {"away"}
            assert await ids(filter=F.no_check(status="critical")) == {"ok", "warn"}
            assert await ids(filter=F.any_check(status="passing")) == EXPECTED[HealthPolicy.ANY]  # the node's own
            assert await ids(node_meta={"no": "such"}) == set()
            assert {entry.service_id for entry in await access.catalog("shop", meta={"n": "ok"})} == {"ok"}
            assert {entry.service_id for entry in await access.catalog("shop", filter=F.service.port == 2)} == {"warn"}

    face.run(story)


@pytest.mark.parametrize("value", ['"', "\\", "`", "a b", "'", '"\\`', "é☃", "a\nb", "%", "&", "]", '" == "" or ""=="'])
def test_any_text_can_be_filtered_for(face, consul, value):
    consul.register("odd", id="right", port=80, tags=[value], check=None)
    consul.register("odd", id="wrong", port=81, tags=["other"], check=None)

    async def story():
        async with face.access(url=consul.url) as access:
            for query in ({"filter": F.service.tags.contains(value)}, {"tags": value}):
                assert [instance.id for instance in await access.instances("odd", **query)] == ["right"]

    face.run(story)


def test_the_mistakes_an_agent_would_swallow_are_refused_here(face, scripted):
    server = scripted([])

    async def story():
        async with face.access(url=server.url) as access:
            for query in (
                {"policy": "helathy"},
                {"consistency": "strong"},
                {"consistency": "consistent", "cached": True},
                {"index": -1},
                {"wait": "5"},
                {"wait": "11m"},
                {"near": ""},
                {"tag": "x"},
            ):
                with pytest.raises(InvalidInput):
                    await access.instances("web", **query)
            with pytest.raises(InvalidInput):
                await access.catalog("web", policy="passing")
            with pytest.raises(InvalidInput):
                health.state("bogus")

    face.run(story)
    assert server.requests == []


def test_a_wrong_filter_is_named_and_not_repeated(face, consul):
    refusals = []

    def count(exchange):
        refusals.extend([exchange] if isinstance(exchange.error, FilterError) else [])

    async def story():
        async with face.access(url=consul.url) as access:
            access.on_exchange(count)
            for wrong in ("Service.Port ==", "No.Such == 1", 'Service.Tags matches "["', 'Service.Meta == "x"'):
                with pytest.raises(FilterError) as caught:
                    await access.instances("web", filter=wrong)
                assert caught.value.status == 500
                assert not caught.value.retryable

    face.run(story)
    assert len(refusals) == 4


def test_an_unknown_datacenter_is_named(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.raises(UnknownDatacenter):
                await access.instances("web", datacenter="nope")
        async with face.access(url=consul.url, datacenter="nope") as elsewhere:
            with pytest.raises(UnknownDatacenter):
                await elsewhere.services()
            assert (await elsewhere.instances("consul", datacenter="dc1", policy="any")).rejected == 0

    face.run(story)


@pytest.mark.parametrize("again", [{}, {"index": 1, "wait": "1s"}, {"cached": True}], ids=["first", "again", "cached"])
def test_what_is_wanted_of_nodes_and_said_of_filters_is_the_same_however_it_is_asked(face, consul, again):
    """From 1.10 on a view answers who asks again; it understands `node-meta` differently, and says less of a filter."""
    node = {"Node": "apart", "Address": "10.0.0.9", "NodeMeta": {"zone": "abc", "x-y": "q"}}
    consul.request("PUT", "/v1/catalog/register", node | {"Service": {"Service": "odd", "Port": 80}})

    async def story():
        async with face.access(url=consul.url) as access:
            for wanted, number in (({"zone": "abc"}, 1), ({"zone": "b"}, 0), ({"x-y": "q", "zone": "abc"}, 1)):
                assert len(await access.instances("odd", policy="any", node_meta=wanted, **again)) == number
            with pytest.raises(FilterError, match="filter"):
                await access.instances("odd", filter="No.Such == 1", **again)

    try:
        face.run(story)
    finally:
        consul.request("PUT", "/v1/catalog/deregister", {"Node": "apart"})


@pytest.mark.parametrize("query", [{}, {"consistency": "stale"}, {"consistency": "consistent"}, {"cached": True}])
def test_every_consistency_answers_and_tells_how(face, consul, query):
    consul.register("web", port=80)

    async def story():
        async with face.access(url=consul.url) as access:
            if "cached" in query:
                await access.instances("web", near="_agent", **query)
            found = await access.instances("web", near="_agent", **query)
            assert len(found) == 1
            assert found.meta.known_leader
            assert found.meta.last_contact == 0
            assert found.meta.cache_hit is (True if "cached" in query else None)

    face.run(story)


def test_a_blocking_read_waits_for_a_change_and_no_longer(face, consul):
    async def story():
        async with face.access(url=consul.url) as access:
            before = await access.instances("web")
            begun = time.monotonic()
            same = await access.instances("web", index=before.meta.index, wait="200ms")
            assert 0.2 <= time.monotonic() - begun < 2
            assert same == []
            consul.register("web", port=80)
            changed = await access.instances("web", index=before.meta.index, wait="10s")
            assert len(changed) == 1
            assert changed.meta.index > before.meta.index

    face.run(story)


def test_a_blocking_read_may_take_longer_than_the_timeout_of_other_calls(face, consul):
    async def story():
        async with face.access(url=consul.url, timeout=0.3) as access:
            before = await access.instances("web")
            assert await access.instances("web", index=before.meta.index, wait="700ms") == []

    face.run(story)


def test_services_and_the_other_sections_are_read(face, consul):
    consul.register("web", port=80, tags=["x"])

    async def story():
        async with face.access(url=consul.url) as access:
            services = await access.services()
            assert services == {"consul": [], "web": ["x"]}
            assert services.meta.index > 0
            assert ":" in await access.send(status.leader())
            assert len(await access.send(status.peers())) == 1
            assert await access.send(catalog.datacenters()) == ["dc1"]
            assert [node.name for node in await access.send(catalog.nodes())] == [consul.node]
            assert (await access.send(catalog.node(consul.node))).address == "127.0.0.1"
            assert await access.send(catalog.node("unknown")) is None
            assert [check.id for check in await access.send(health.node(consul.node))] == ["serfHealth"]
            assert await access.send(health.node("unknown")) == []
            assert [check.id for check in await access.send(health.state("passing"))] == ["serfHealth"]
            assert await access.send(health.checks("web")) == []

    face.run(story)


def test_the_address_is_the_services_own_or_else_its_nodes(face, consul):
    consul.register("own", port=80, address="10.0.0.5")
    consul.register("nodes", port=80)
    consul.register("six", port=80, address="2001:db8::1")

    async def story():
        async with face.access(url=consul.url) as access:
            assert await access.resolve("own") == Address("10.0.0.5", 80)
            assert await access.resolve("nodes") == Address("127.0.0.1", 80)
            assert str(await access.resolve("six")) == "[2001:db8::1]:80"

    face.run(story)


def test_the_misspelt_name_still_works_and_says_so(face, consul):
    consul.register("web", port=80, address="10.0.0.5")

    async def story():
        async with face.access(url=consul.url) as access:
            with pytest.deprecated_call(match="search_service"):
                assert await access.serach_service("web") == [Address("10.0.0.5", 80)]

    face.run(story)


def test_resolve_spreads_calls_over_all_instances(face, consul):
    for port in range(1, 4):
        consul.register("web", id=f"web-{port}", port=port, address="10.0.0.5")

    async def story():
        async with face.access(url=consul.url) as access:
            seen = {(await access.resolve("web")).port for _ in range(100)}
            assert seen == {1, 2, 3}
            with pytest.raises(InvalidInput, match="round_trip"):
                await access.resolve("web", balancer="round_trip")
            turns = RoundRobinBalancer()
            assert sorted([(await access.resolve("web", balancer=turns)).port for _ in range(3)]) == [1, 2, 3]
            kept = {(await access.resolve("web", balancer="sticky", key="user-7")).port for _ in range(10)}
            assert len(kept) == 1

    face.run(story)
