"""What a client lets others see: hooks for keepers' events, picks and ejections, its keepers and its resolvers."""

from __future__ import annotations

import time

import pytest

from consul_access import EjectingBalancer, EjectionPolicy, RoundRobinBalancer, TtlCheck, consul
from consul_access.call import Call, path


def registered(agent, *names):
    for place, name in enumerate(names):
        agent.register("orders", id=name, address=f"127.0.0.{place + 1}", port=8000)


def test_keepers_and_their_events_are_seen(face, consul):
    told, own = [], []

    async def story():
        async with face.access(url=consul.url) as access:
            remove = access.on_keeper_event(lambda name, event: told.append((name, event.service_id, event.kind)))
            assert access.keepers == ()
            async with access.registered(
                "orders", "127.0.0.1", 8000, id="orders-1", check=TtlCheck(3), on_event=own.append
            ):
                (keeper,) = access.keepers
                assert (keeper.name, keeper.id, keeper.state) == ("orders", "orders-1", "registered")
                consul.request("PUT", "/v1/agent/service/deregister/orders-1")
                await face.eventually(lambda: keeper.re_registrations, 30, "it is restored")
            assert access.keepers == ()
            remove()
            async with access.registered("orders", "127.0.0.1", 8000, check=None):
                pass

    face.run(story)
    assert {name for name, *_ in told} == {"orders"}
    kinds = [kind for _, _, kind in told]
    assert [kind for kind in kinds if kind != "visible"] == [
        "registered",
        "lost",
        "registered_again",
        "draining",
        "deregistered",
    ]
    assert kinds == [event.kind for event in own]


def test_resolvers_are_seen_while_they_follow_and_picks_are_told(face, consul):
    registered(consul, "one", "two")
    picked = []

    async def story():
        async with face.access(url=consul.url) as access:
            remove = access.on_pick(lambda instance: picked.append(instance.id))
            async with access.resolver("orders") as resolver:
                (seen,) = access.resolvers
                assert seen.snapshot().service == "orders"
                assert seen.balancer is resolver.balancer
                chosen = [resolver.pick().id for _ in range(4)]
                assert picked == chosen
                remove()
                resolver.pick()
            assert len(picked) == 4
            assert access.resolvers == ()
            resolver = access.resolver("orders")
            await resolver.start()
            assert len(access.resolvers) == 1
        assert access.resolvers == ()  # the client's end is the resolver's

    face.run(story)


def test_without_a_hook_a_pick_is_the_balancers_own(face, consul):
    """Observing costs nothing when nobody does it."""
    registered(consul, "one", "two")

    class Balancer:
        def prepare(self, instances):
            self.pick = lambda key=None: instances[0]
            return self.pick

    balancer = Balancer()

    async def story():
        async with face.access(url=consul.url) as access:
            async with access.resolver("orders", balancer=balancer) as resolver:
                inner = getattr(resolver, "_inner", resolver)
                assert inner._choose is balancer.pick

    face.run(story)


def test_ejections_are_told_with_the_service_they_concern(face, consul):
    registered(consul, "one", "two")
    told = []

    async def story():
        async with face.access(url=consul.url) as access:
            access.on_ejection(lambda name, address: told.append((name, address)))
            balancer = EjectingBalancer(RoundRobinBalancer(), time.monotonic, EjectionPolicy(failures=2))
            async with access.resolver("orders", balancer=balancer) as resolver:
                bad = resolver.pick()
                for _ in range(2):
                    resolver.started(bad)
                    resolver.report(bad, False, 0.01)
                assert told == [("orders", bad.address)]
                assert balancer.ejected == {bad.address}
                assert resolver.pick() != bad

    face.run(story)


def test_a_hook_that_fails_is_logged_and_changes_nothing(face, consul, caplog):
    registered(consul, "one", "two")

    def fails(*_):
        raise ZeroDivisionError

    async def story():
        async with face.access(url=consul.url) as access:
            access.on_keeper_event(fails)
            access.on_pick(fails)
            access.on_ejection(fails)
            balancer = EjectingBalancer(RoundRobinBalancer(), time.monotonic, EjectionPolicy(failures=1))
            async with access.registered("web", "127.0.0.1", 8000, check=None):
                async with access.resolver("orders", balancer=balancer) as resolver:
                    resolver.report(resolver.pick(), False, 0.01)
                    assert len(balancer.ejected) == 1

    face.run(story)
    for what in ("the keeper goes on", "the pick stands", "the instance is left out all the same"):
        assert f"a hook failed; {what}" in caplog.text


def test_keepers_and_resolvers_at_etcd_are_seen_as_well(face, any_etcd):
    told, picked = [], []

    async def story():
        async with face.etcd(any_etcd.host, any_etcd.port) as etcd:
            etcd.on_keeper_event(lambda name, event: told.append((name, event.kind)))
            etcd.on_pick(lambda instance: picked.append(instance.id))
            async with etcd.registered("orders", "127.0.0.1", 8000, id="orders-1"):
                async with etcd.resolver("orders") as resolver:
                    await resolver.wait_ready(10)
                    resolver.pick()
                    assert [keeper.id for keeper in etcd.keepers] == ["orders-1"]
                    assert len(etcd.resolvers) == 1
            assert etcd.keepers == etcd.resolvers == ()

    face.run(story)
    assert picked == ["orders-1"]
    assert ("orders", "registered") in told
    assert ("orders", "deregistered") in told


def test_an_exchange_tells_its_url_and_whether_it_waited_for_a_change(face, consul):
    registered(consul, "one")
    exchanges = []

    async def story():
        async with face.access(url=consul.url) as access:
            access.on_exchange(exchanges.append)
            found = await access.instances("orders")
            await access.instances("orders", index=found.meta.index, wait="10ms")
            async with access.resolver("orders"):
                await face.eventually(lambda: len(exchanges) >= 3, what="the resolver has asked")

    face.run(story)
    first, second = exchanges[:2]
    assert first.server == consul.url
    assert (first.blocking, second.blocking) == (False, True)


@pytest.mark.parametrize(("query", "expected"), [((("index", "7"),), True), ((("hash", "ab"),), True), ((), False)])
def test_a_call_with_an_index_or_a_hash_blocks(query, expected):
    call = Call("x", "GET", path("v1", "x"), lambda reply: None, query=query)
    assert call.is_blocking is expected
    assert not consul.health.instances("orders").is_blocking
