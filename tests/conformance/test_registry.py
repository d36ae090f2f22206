"""What every registry does, whatever is behind it: one suite, run on Consul and on etcd, by both faces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from consul_access import (
    AsyncConsulAccess,
    AsyncEtcdRegistry,
    AsyncRegistry,
    ConsulAccess,
    EtcdRegistry,
    InvalidInput,
    KeeperState,
    NoInstances,
    NotReady,
    Registry,
)
from consul_access.registry import (
    AsyncKeeperHandle,
    AsyncRegistrationHandle,
    AsyncResolverHandle,
    AsyncWatchHandle,
    KeeperHandle,
    RegistrationHandle,
    ResolverHandle,
    WatchHandle,
)
from tests.support.agents import ConsulAgent
from tests.support.etcd import NEWER, OLDER, EtcdServer
from tests.support.faces import Face

RESTORED = 7.0
"""Seconds until a registration is back that was removed: the longest pause between two looks, and some room."""


@dataclass
class Backend:
    """A registry that can be damaged behind our back.

    Args:
        name: for the test's id.
        server: the real server.
    """

    name: str
    server: Any

    def client(self, face: Face) -> Any:
        """A client of it, in a block."""
        if self.name == "consul":
            return face.access(url=self.server.url)
        return face.etcd(endpoints=self.server.address)

    def settings(self) -> dict[str, Any]:
        """What a registration needs besides: Consul's would be asked for its health, and nothing answers there."""
        return {"check": None} if self.name == "consul" else {}

    def forget(self) -> None:
        """Removes every registration."""
        self.server.clear()


@pytest.fixture(params=["consul", OLDER, NEWER])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "consul":
        agent: ConsulAgent = request.getfixturevalue("shared_agent")
        agent.clear()
        yield Backend("consul", agent)
        agent.clear()
        return
    server: EtcdServer = request.getfixturevalue("etcd_servers")(request.param)
    server.clear()
    yield Backend(f"etcd {request.param}", server)
    server.clear()


@pytest.mark.parametrize(
    ("client", "protocol", "handles"),
    [
        (ConsulAccess, Registry, (KeeperHandle, WatchHandle, ResolverHandle)),
        (EtcdRegistry, Registry, (KeeperHandle, WatchHandle, ResolverHandle)),
        (AsyncConsulAccess, AsyncRegistry, (AsyncKeeperHandle, AsyncWatchHandle, AsyncResolverHandle)),
        (AsyncEtcdRegistry, AsyncRegistry, (AsyncKeeperHandle, AsyncWatchHandle, AsyncResolverHandle)),
    ],
)
def test_it_is_a_registry_and_what_it_gives_are_handles(client, protocol, handles):
    access = client()
    assert isinstance(access, protocol)
    keeper, watch, resolver = handles
    assert all(hasattr(type(access.registered("orders", "10.0.0.5", 80)), name) for name in _members(keeper))
    assert isinstance(access.watch("orders"), watch)
    assert isinstance(access.resolver("orders"), resolver)


def _members(protocol: type) -> set[str]:
    return {name for kind in protocol.__mro__ for name in vars(kind) if not name.startswith("_")} - {"mro"}


def test_what_is_registered_is_found_and_what_is_deregistered_is_not(face, backend):
    async def story():
        async with backend.client(face) as access:
            settings = {"id": "orders-1", "tags": ["a", "b"], "meta": {"version": "2"}} | backend.settings()
            handle = await access.register_service("orders", "10.0.0.5", 8080, **settings)
            assert (handle.id, handle.name) == ("orders-1", "orders")
            assert isinstance(getattr(handle, "_inner", handle), RegistrationHandle | AsyncRegistrationHandle)
            (instance,) = await access.instances("orders")
            assert (instance.id, instance.service, instance.address) == ("orders-1", "orders", ("10.0.0.5", 8080))
            assert (set(instance.tags), instance.meta) == ({"a", "b"}, {"version": "2"})
            assert (str(instance.status), instance.weight) == ("passing", 1)
            assert await access.search_service("orders") == [("10.0.0.5", 8080)]
            assert await access.resolve("orders") == ("10.0.0.5", 8080)
            assert sorted((await access.services())["orders"]) == ["a", "b"]
            assert await handle.deregister()
            assert await access.search_service("orders") == []
            assert "orders" not in await access.services()

    face.run(story)


def test_look_ups_can_be_narrowed(face, backend):
    async def story():
        async with backend.client(face) as access:
            for number, tag in enumerate(["blue", "green"], 1):
                settings = {"id": f"orders-{number}", "tags": [tag], "meta": {"number": str(number)}}
                await access.register_service("orders", "10.0.0.5", 8080 + number, **settings, **backend.settings())
            for query in ({"tags": "green"}, {"meta": {"number": "2"}}, {"tags": ["green"], "policy": "any"}):
                assert [one.id for one in await access.instances("orders", **query)] == ["orders-2"], query
            assert len(await access.instances("orders", consistency="stale")) == 2
            assert await access.instances("orders", tags=["blue", "green"]) == []
            with pytest.raises(NoInstances, match="red"):
                await access.resolve("orders", tags="red")

    face.run(story)


def test_another_service_whose_name_begins_the_same_is_another_service(face, backend):
    async def story():
        async with backend.client(face) as access:
            await access.register_service("orders-archive", "10.0.0.5", 1, **backend.settings())
            await access.register_service("orders", "10.0.0.6", 2, **backend.settings())
            assert await access.search_service("orders") == [("10.0.0.6", 2)]

    face.run(story)


def test_the_same_id_replaces_the_registration(face, backend):
    async def story():
        async with backend.client(face) as access:
            for port in (8080, 8081):
                await access.register_service("orders", "10.0.0.5", port, id="orders-1", **backend.settings())
                assert await access.search_service("orders") == [("10.0.0.5", port)]
            until = time.monotonic() + 2.5  # long enough for a look of whoever might want the former one back
            while time.monotonic() < until:
                assert await access.search_service("orders") == [("10.0.0.5", 8081)]
                await face.sleep(0.1)

    face.run(story)


def test_ids_may_hold_slashes_and_letters_of_any_kind(face, backend):
    async def story():
        async with backend.client(face) as access:
            await access.register_service("bücher", "10.0.0.5", 1, id="rack 1/host-2", **backend.settings())
            (instance,) = await access.instances("bücher")
            assert instance.id == "rack 1/host-2"
            assert await access.deregister_service("rack 1/host-2")
            assert await access.instances("bücher") == []

    face.run(story)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "consul"},
        {"name": "a\nb"},
        {"id": "../x"},
        {"id": "50%"},
        {"address": "http://10.0.0.5"},
        {"address": "0.0.0.0"},
        {"port": 0},
        {"port": 65536},
        {"tags": "one"},
        {"meta": {"key with space": "1"}},
        {"meta": {"number": 1}},
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused_before_anything_is_sent(face, backend, wrong):
    async def story():
        async with backend.client(face) as access:
            exchanges = []
            access.on_exchange(exchanges.append)
            given = {"name": "orders", "address": "10.0.0.5", "port": 8080} | wrong
            with pytest.raises(InvalidInput):
                await access.register_service(**given, **backend.settings())
            assert exchanges == []

    face.run(story)


WRONG = [{"polcy": "any"}, {"policy": "good"}, {"tags": [1]}, {"consistency": "strong"}]


@pytest.mark.parametrize("query", WRONG, ids=str)
def test_an_option_that_cannot_be_right_is_refused(face, backend, query):
    async def story():
        async with backend.client(face) as access:
            for ask in (access.instances, access.search_service, access.resolve, access.wait_for):
                with pytest.raises(InvalidInput):
                    await ask("orders", **query)
            with pytest.raises(InvalidInput):
                access.resolver("orders", **query)
            with pytest.raises(InvalidInput):
                access.watch("orders", **query)

    face.run(story)


def test_deregistering_says_whether_it_was_there(face, backend):
    async def story():
        async with backend.client(face) as access, backend.client(face) as other:
            assert not await access.deregister_service("orders-1")
            await access.register_service("orders", "10.0.0.5", 8080, id="orders-1", **backend.settings())
            assert await access.deregister_service("orders-1")
            assert not await access.deregister_service("orders-1")
            await access.register_service("orders", "10.0.0.5", 8080, id="orders-1", **backend.settings())
            assert await other.deregister_service("orders-1")

    face.run(story)


def test_a_kept_registration_tells_its_states_and_ends_with_its_block(face, backend):
    events = []

    async def story():
        async with backend.client(face) as access:
            keeper = access.registered(
                "orders", "10.0.0.5", 8080, id="orders-1", drain=0.3, on_event=events.append, **backend.settings()
            )
            assert keeper.state is KeeperState.STOPPED
            async with keeper:
                assert keeper.state is KeeperState.REGISTERED
                assert keeper.re_registrations == 0
                assert await access.search_service("orders") == [("10.0.0.5", 8080)]
            assert keeper.state is KeeperState.STOPPED
            assert await access.instances("orders", policy="any") == []
            assert not await keeper.stop()

    face.run(story)
    assert [event.kind for event in events] == ["registered", "visible", "draining", "deregistered"]
    assert [event.state for event in events] == [
        KeeperState.PENDING,
        KeeperState.REGISTERED,
        KeeperState.DRAINING,
        KeeperState.STOPPED,
    ]
    assert {event.service_id for event in events} == {"orders-1"}


def test_a_kept_registration_that_somebody_removes_is_restored(face, backend, record_property):
    events = []

    async def story():
        async with backend.client(face) as access:
            settings = {"id": "orders-1", "on_event": lambda event: events.append(event.kind)} | backend.settings()
            async with access.registered("orders", "10.0.0.5", 8080, **settings) as keeper:
                backend.forget()
                begun = time.monotonic()
                while not await access.search_service("orders"):
                    assert time.monotonic() - begun < RESTORED
                    await face.sleep(0.02)
                record_property("back after", f"{time.monotonic() - begun:.2f} s")
                await face.eventually(lambda: keeper.state is KeeperState.REGISTERED)
                assert keeper.re_registrations == 1

    face.run(story)
    assert events == ["registered", "visible", "lost", "registered_again", "visible", "draining", "deregistered"]


def test_closing_the_client_ends_what_it_keeps(face, backend):
    async def story():
        async with backend.client(face) as other:
            async with backend.client(face) as access:
                await access.registered("orders", "10.0.0.5", 8080, **backend.settings()).start()
                assert await other.search_service("orders")
            assert await other.search_service("orders") == []

    face.run(story)


def test_a_watch_tells_what_is_there_and_every_change(face, backend):
    async def story():
        async with backend.client(face) as access, access.watch("orders") as watch:
            first = await anext(watch)
            assert (first.service, len(first), first.source, first.is_stale) == ("orders", 0, "live", False)
            handle = await access.register_service("orders", "10.0.0.5", 8080, id="orders-1", **backend.settings())
            come = await anext(watch)
            assert [one.id for one in come.diff.added] == ["orders-1"]
            await access.register_service("orders", "10.0.0.6", 8080, id="orders-2", **backend.settings())
            more = await anext(watch)
            assert sorted(str(one.address) for one in more) == ["10.0.0.5:8080", "10.0.0.6:8080"]
            assert more.index > come.index
            await handle.deregister()
            gone = await anext(watch)
            assert [one.id for one in gone.diff.removed] == ["orders-1"]
            await watch.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(watch)

    face.run(story)


def test_a_resolver_follows_and_picks_in_turn(face, backend):
    async def story():
        async with backend.client(face) as access, access.resolver("orders") as orders:
            with pytest.raises(NoInstances):
                orders.pick()
            with pytest.raises(NoInstances):
                await orders.wait_ready(0.2)
            for number in (1, 2):
                await access.register_service("orders", "10.0.0.5", number, **backend.settings())
            assert len(await orders.wait_ready(10, at_least=2)) == 2
            picked = [orders.pick().port for _ in range(4)]
            assert sorted(picked[:2]) == [1, 2]
            assert picked[:2] == picked[2:]
            assert orders.snapshot().source == "live"
            assert orders.snapshot().age < 60

    face.run(story)


def test_a_wait_ends_when_enough_instances_are_there(face, backend):
    async def story():
        async with backend.client(face) as access:
            told = []
            with pytest.raises(NotReady, match="'orders' not ready"):
                await access.wait_for("orders", timeout=0.5, on_progress=told.append)
            assert str(told[-1].kind) == "unknown_service"
            await access.register_service("orders", "10.0.0.5", 8080, **backend.settings())
            assert [one.address for one in await access.wait_for("orders", timeout=10)] == [("10.0.0.5", 8080)]
            with pytest.raises(NotReady) as failure:
                await access.wait_for("orders", at_least=2, timeout=0.5)
            (progress,) = failure.value.progress
            assert (str(progress.kind), progress.found, progress.wanted) == ("too_few", 1, 2)
            with pytest.raises(NotReady, match="nothing fits"):
                await access.wait_for("orders", tags=["blue"], timeout=0.5)
            with pytest.raises(InvalidInput):
                await access.wait_for("orders", at_least=0)

    face.run(story)


def test_whoever_misspells_a_name_is_told_the_right_one(face, backend):
    async def story():
        async with backend.client(face) as access:
            await access.register_service("payments", "10.0.0.5", 8080, **backend.settings())
            with pytest.raises(NotReady, match="there is 'payments'"):
                await access.wait_for("payment", timeout=0.5)

    face.run(story)


def test_a_closed_client_ends_watches_and_resolvers(face, backend):
    async def story():
        async with backend.client(face) as access:
            watch, orders = access.watch("orders"), access.resolver("orders")
            await anext(watch)
            await orders.start()
        with pytest.raises(StopAsyncIteration):
            await anext(watch)

    face.run(story)
