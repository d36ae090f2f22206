"""The contract of `Registry` and `AsyncRegistry` as a suite for pytest, to be run on any backend, also on yours.

    class TestMine(RegistryContract):
        @pytest.fixture
        def backend(self):
            with a_server() as server:
                yield Backend(connect=lambda: Mine(server), connect_async=lambda: AsyncMine(server), forget=server.wipe)

Each test is one story, which is told to threads, to asyncio and to trio. It runs unchanged on Consul, on etcd, on
the fakes of both, and in memory.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from consul_access.errors import InvalidInput, NoInstances, NotReady
from consul_access.registry import (
    AsyncKeeperHandle,
    AsyncRegistrationHandle,
    AsyncRegistry,
    AsyncResolverHandle,
    AsyncWatchHandle,
    KeeperHandle,
    RegistrationHandle,
    Registry,
    ResolverHandle,
    WatchHandle,
)
from consul_access.rules.keeping import KeeperEvent, KeeperState
from consul_access.testing.stories import AwaitedBase, rest, tell

__all__ = ["Backend", "RegistryContract"]

UNHURRIED: Final = 2.5
"""Seconds within which whoever might want a former state back would have looked again."""


@dataclass(frozen=True)
class Backend:
    """What the suite needs to know of a registry. Nothing may be registered there when a test begins.

    Args:
        connect: makes a client for threads; each has to see what the others do. None where there is none.
        connect_async: makes a client for tasks, called within the loop. None where there is none.
        forget: removes every registration, behind the backs of the clients.
        registration: what registering an instance needs besides, so that it is found healthy at once.
        restored_within: seconds after which a registration is back that was removed.
    """

    connect: Callable[[], Registry] | None = None
    connect_async: Callable[[], AsyncRegistry] | None = None
    forget: Callable[[], None] = field(kw_only=True)
    registration: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    restored_within: float = field(default=7.0, kw_only=True)


class RegistryContract:
    """What every registry does: derive a class whose name begins with `Test`, with a fixture `backend`.

    The fixture gives a `Backend`, and has it clean for each test. Where there is no client for tasks, or trio is not
    installed, set `faces`.
    """

    faces: tuple[str, ...] = ("threads", "asyncio", "trio")
    """The faces to be tested."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Has every test made once for each face."""
        metafunc.parametrize("face", self.faces)

    @pytest.fixture
    def backend(self) -> Backend:
        """The registry to be tested; this is the one that has to be overridden.

        Raises:
            NotImplementedError: it was not.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `backend` that gives a Backend")

    @pytest.fixture
    def teller(self, face: str, backend: Backend) -> _Teller:
        """Tells the stories."""
        return _Teller(face, backend)

    # --- shapes -------------------------------------------------------------------------------------------

    def test_it_is_a_registry_and_what_it_gives_are_handles(self, teller: _Teller) -> None:
        async def story() -> None:
            protocol, keeper, watch, resolver = _SHAPES[teller.is_async]
            async with teller.client() as access:
                given = _unwrapped(access)
                assert isinstance(given, protocol)
                kept = given.registered("orders", "10.0.0.5", 80, **teller.registration)
                assert [name for name in _members(keeper) if not hasattr(type(kept), name)] == []
                assert isinstance(given.watch("orders"), watch)
                assert isinstance(given.resolver("orders"), resolver)

        teller.tell(story)

    # --- registering and finding --------------------------------------------------------------------------

    def test_what_is_registered_is_found_and_what_is_deregistered_is_not(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                settings = {"id": "orders-1", "tags": ["a", "b"], "meta": {"version": "2"}} | teller.registration
                handle = await access.register_service("orders", "10.0.0.5", 8080, **settings)
                assert (handle.id, handle.name) == ("orders-1", "orders")
                assert isinstance(_unwrapped(handle), (RegistrationHandle, AsyncRegistrationHandle)[teller.is_async])
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

        teller.tell(story)

    def test_look_ups_can_be_narrowed(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                for number, tag in enumerate(["blue", "green"], 1):
                    settings = {"id": f"orders-{number}", "tags": [tag], "meta": {"number": str(number)}}
                    await access.register_service(
                        "orders", "10.0.0.5", 8080 + number, **settings, **teller.registration
                    )
                for query in _NARROWED:
                    assert [one.id for one in await access.instances("orders", **query)] == ["orders-2"], query
                assert len(await access.instances("orders", consistency="stale")) == 2
                assert await access.instances("orders", tags=["blue", "green"]) == []
                with pytest.raises(NoInstances, match="red"):
                    await access.resolve("orders", tags="red")

        teller.tell(story)

    def test_another_service_whose_name_begins_the_same_is_another_service(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                await access.register_service("orders-archive", "10.0.0.5", 1, **teller.registration)
                await access.register_service("orders", "10.0.0.6", 2, **teller.registration)
                assert await access.search_service("orders") == [("10.0.0.6", 2)]

        teller.tell(story)

    def test_the_same_id_replaces_the_registration(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                for port in (8080, 8081):
                    await access.register_service("orders", "10.0.0.5", port, id="orders-1", **teller.registration)
                    assert await access.search_service("orders") == [("10.0.0.5", port)]
                until = time.monotonic() + UNHURRIED
                while time.monotonic() < until:
                    assert await access.search_service("orders") == [("10.0.0.5", 8081)]
                    await teller.sleep(0.1)

        teller.tell(story)

    def test_ids_may_hold_slashes_and_letters_of_any_kind(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                await access.register_service("bücher", "10.0.0.5", 1, id="rack 1/host-2", **teller.registration)
                (instance,) = await access.instances("bücher")
                assert instance.id == "rack 1/host-2"
                assert await access.deregister_service("rack 1/host-2")
                assert await access.instances("bücher") == []

        teller.tell(story)

    def test_what_cannot_be_right_is_refused(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                for wrong in _WRONG_SERVICES:
                    given = {"name": "orders", "address": "10.0.0.5", "port": 8080, **wrong}
                    with pytest.raises(InvalidInput):
                        await access.register_service(**given, **teller.registration)
                assert set(await access.services()) <= {"consul"}

        teller.tell(story)

    def test_an_option_that_cannot_be_right_is_refused(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                for query in _WRONG_QUERIES:
                    for ask in (access.instances, access.search_service, access.resolve, access.wait_for):
                        with pytest.raises(InvalidInput):
                            await ask("orders", **query)
                    with pytest.raises(InvalidInput):
                        access.resolver("orders", **query)
                    with pytest.raises(InvalidInput):
                        access.watch("orders", **query)

        teller.tell(story)

    def test_deregistering_says_whether_it_was_there(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access, teller.client() as other:
                assert not await access.deregister_service("orders-1")
                await access.register_service("orders", "10.0.0.5", 8080, id="orders-1", **teller.registration)
                assert await access.deregister_service("orders-1")
                assert not await access.deregister_service("orders-1")
                await access.register_service("orders", "10.0.0.5", 8080, id="orders-1", **teller.registration)
                assert await other.deregister_service("orders-1")

        teller.tell(story)

    # --- keeping ------------------------------------------------------------------------------------------

    def test_a_kept_registration_tells_its_states_and_ends_with_its_block(self, teller: _Teller) -> None:
        events: list[KeeperEvent] = []

        async def story() -> None:
            async with teller.client() as access:
                settings = {"id": "orders-1", "drain": 0.3, "on_event": events.append} | teller.registration
                keeper: Any = access.registered("orders", "10.0.0.5", 8080, **settings)
                assert keeper.state == KeeperState.STOPPED
                async with keeper:
                    assert keeper.state == KeeperState.REGISTERED
                    assert keeper.re_registrations == 0
                    assert await access.search_service("orders") == [("10.0.0.5", 8080)]
                assert keeper.state == KeeperState.STOPPED
                assert await access.instances("orders", policy="any") == []
                assert not await keeper.stop()

        teller.tell(story)
        assert [event.kind for event in events] == ["registered", "visible", "draining", "deregistered"]
        assert [event.state for event in events] == [
            KeeperState.PENDING,
            KeeperState.REGISTERED,
            KeeperState.DRAINING,
            KeeperState.STOPPED,
        ]
        assert {event.service_id for event in events} == {"orders-1"}

    def test_a_kept_registration_that_somebody_removes_is_restored(
        self, teller: _Teller, record_property: Callable[[str, object], None]
    ) -> None:
        events: list[str] = []

        async def story() -> None:
            async with teller.client() as access:
                settings = {"id": "orders-1", "on_event": lambda event: events.append(event.kind)}
                async with access.registered("orders", "10.0.0.5", 8080, **settings, **teller.registration) as keeper:
                    teller.backend.forget()
                    begun = time.monotonic()
                    while not await access.search_service("orders"):
                        assert time.monotonic() - begun < teller.backend.restored_within
                        await teller.sleep(0.02)
                    record_property("back after", f"{time.monotonic() - begun:.2f} s")
                    await teller.eventually(lambda: keeper.state is KeeperState.REGISTERED)
                    assert keeper.re_registrations == 1

        teller.tell(story)
        assert events == ["registered", "visible", "lost", "registered_again", "visible", "draining", "deregistered"]

    def test_closing_the_client_ends_what_it_keeps(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as other:
                async with teller.client() as access:
                    await access.registered("orders", "10.0.0.5", 8080, **teller.registration).start()
                    assert await other.search_service("orders")
                assert await other.search_service("orders") == []

        teller.tell(story)

    # --- following ----------------------------------------------------------------------------------------

    def test_a_watch_tells_what_is_there_and_every_change(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                watch = access.watch("orders")
                first = await anext(watch)
                assert (first.service, len(first), first.source, first.is_stale) == ("orders", 0, "live", False)
                settings = {"id": "orders-1"} | teller.registration
                handle = await access.register_service("orders", "10.0.0.5", 8080, **settings)
                come = await anext(watch)
                assert [one.id for one in come.diff.added] == ["orders-1"]
                await access.register_service("orders", "10.0.0.6", 8080, **settings | {"id": "orders-2"})
                more = await anext(watch)
                assert sorted(str(one.address) for one in more) == ["10.0.0.5:8080", "10.0.0.6:8080"]
                assert more.index > come.index
                await handle.deregister()
                gone = await anext(watch)
                assert [one.id for one in gone.diff.removed] == ["orders-1"]
                await watch.aclose()
                with pytest.raises(StopAsyncIteration):
                    await anext(watch)

        teller.tell(story)

    def test_a_resolver_follows_and_picks_in_turn(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access, access.resolver("orders") as orders:
                with pytest.raises(NoInstances):
                    orders.pick()
                with pytest.raises(NoInstances):
                    await orders.wait_ready(0.2)
                for number in (1, 2):
                    await access.register_service("orders", "10.0.0.5", number, **teller.registration)
                assert len(await orders.wait_ready(10, at_least=2)) == 2
                picked = [orders.pick().port for _ in range(4)]
                assert sorted(picked[:2]) == [1, 2]
                assert picked[:2] == picked[2:]
                assert len(orders.instances()) == 2
                assert orders.snapshot().source == "live"
                assert orders.snapshot().age < 60

        teller.tell(story)

    def test_a_watch_of_all_services_tells_which_came_and_went(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                watch = access.watch_services()
                known = dict((await anext(watch)).services)
                assert "orders" not in known
                handle = await access.register_service("orders", "10.0.0.5", 8080, tags=["a"], **teller.registration)
                come = await anext(watch)
                assert (come.added, come.removed, dict(come.services)) == (("orders",), (), known | {"orders": ["a"]})
                await handle.deregister()
                gone = await anext(watch)
                assert (gone.added, gone.removed, dict(gone.services)) == ((), ("orders",), known)
                await watch.aclose()
                with pytest.raises(StopAsyncIteration):
                    await anext(watch)

        teller.tell(story)

    def test_a_closed_client_ends_watches_and_resolvers(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                watch, orders = access.watch("orders"), access.resolver("orders")
                await anext(watch)
                await orders.__aenter__()
            with pytest.raises(StopAsyncIteration):
                await anext(watch)

        teller.tell(story)

    # --- waiting ------------------------------------------------------------------------------------------

    def test_a_wait_ends_when_enough_instances_are_there(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                told: list[Any] = []
                with pytest.raises(NotReady, match="'orders' not ready"):
                    await access.wait_for("orders", timeout=1, on_progress=told.append)
                assert str(told[-1].kind) == "unknown_service"
                await access.register_service("orders", "10.0.0.5", 8080, **teller.registration)
                found = await access.wait_for("orders", timeout=10)
                assert [one.address for one in found] == [("10.0.0.5", 8080)]
                with pytest.raises(NotReady) as failure:
                    await access.wait_for("orders", at_least=2, timeout=1)
                (progress,) = failure.value.progress
                assert (str(progress.kind), progress.found, progress.wanted) == ("too_few", 1, 2)
                with pytest.raises(NotReady, match="nothing fits"):
                    await access.wait_for("orders", tags=["blue"], timeout=1)
                with pytest.raises(InvalidInput):
                    await access.wait_for("orders", at_least=0)

        teller.tell(story)

    def test_several_services_are_waited_for_at_once(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                for port, name in enumerate(["orders", "payments"], 1):
                    await access.register_service(name, "10.0.0.5", port, **teller.registration)
                found = await access.wait_for_all({"orders": 1, "payments": 1}, timeout=10)
                assert {name: [one.port for one in some] for name, some in found.items()} == {
                    "orders": [1],
                    "payments": [2],
                }
                with pytest.raises(InvalidInput):
                    await access.wait_for_all([])

        teller.tell(story)

    def test_an_explanation_says_whether_a_look_up_finds_it(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                assert (await access.explain("orders")).found("unknown_service")
                await access.register_service("orders", "10.0.0.5", 8080, id="orders-1", **teller.registration)
                found = await access.explain("orders")
                assert (found.service, found.is_discoverable) == ("orders", True)
                assert [one.id for one in found.instances] == ["orders-1"]
                assert (await access.explain("orders-1")).instance_id == "orders-1"
                narrowed = await access.explain("orders", tags="blue")
                assert not narrowed.is_discoverable
                assert narrowed.found("excluded_by_query")

        teller.tell(story)

    def test_whoever_misspells_a_name_is_told_the_right_one(self, teller: _Teller) -> None:
        async def story() -> None:
            async with teller.client() as access:
                await access.register_service("payments", "10.0.0.5", 8080, **teller.registration)
                with pytest.raises(NotReady, match="there is 'payments'"):
                    await access.wait_for("payment", timeout=0.5)

        teller.tell(story)


_NARROWED: Final[tuple[Mapping[str, Any], ...]] = (
    {"tags": "green"},
    {"meta": {"number": "2"}},
    {"tags": ["green"], "policy": "any"},
)
_WRONG_SERVICES: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": ""},
    {"name": "consul"},
    {"name": "a\nb"},
    {"id": "../x"},
    {"id": "50%"},
    {"address": "http://10.0.0.5"},
    {"address": "0.0.0.0"},  # noqa: S104 - nobody listens there
    {"port": 0},
    {"port": 65536},
    {"tags": "one"},
    {"meta": {"key with space": "1"}},
    {"meta": {"number": 1}},
)
_WRONG_QUERIES: Final[tuple[Mapping[str, Any], ...]] = (
    {"polcy": "any"},
    {"policy": "good"},
    {"tags": [1]},
    {"consistency": "strong"},
)
_SHAPES: Final[tuple[tuple[Any, Any, Any, Any], ...]] = (
    (Registry, KeeperHandle, WatchHandle, ResolverHandle),
    (AsyncRegistry, AsyncKeeperHandle, AsyncWatchHandle, AsyncResolverHandle),
)


def _members(protocol: type) -> set[str]:
    return {name for kind in protocol.__mro__ for name in vars(kind) if not name.startswith("_")} - {"mro"}


# --- one story for both faces -----------------------------------------------------------------------------------


class _Teller:
    """Tells a story, written as a coroutine, to a face. On that for threads nothing in it ever has to wait."""

    def __init__(self, face: str, backend: Backend) -> None:
        self._face = face
        self.backend = backend

    @property
    def is_async(self) -> bool:
        return self._face != "threads"

    @property
    def registration(self) -> dict[str, Any]:
        return dict(self.backend.registration)

    def tell(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs it to its end."""
        tell(self._face, story)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """A client of the face, closed at the end of the block."""
        connect = self.backend.connect_async if self.is_async else self.backend.connect
        if connect is None:
            raise AssertionError(f"the backend has no client for {self._face}: say so with `faces`")
        made: Any = connect()
        async with made if self.is_async else _Awaited(made) as entered:
            yield entered

    async def sleep(self, seconds: float) -> None:
        """Lets everything else go on for so long."""
        await rest(self._face, seconds)

    async def eventually(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        """Waits until it is true."""
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, "it did not become true in time"
            await self.sleep(0.01)


class _Awaited(AwaitedBase):
    """Something of the face for threads, with methods that can be awaited."""

    _MAKING = frozenset({"registered", "resolver", "watch", "watch_services"})
    """What is not awaited on the other face either, and gives something with methods that are."""

    def __init__(self, inner: Any, *, plain: frozenset[str] = frozenset()) -> None:
        super().__init__(inner)
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, "close" if name == "aclose" else name)
        if not callable(value) or name in self._plain:
            return value
        if name in self._MAKING:
            plain = frozenset({"pick", "instances", "snapshot"} if name == "resolver" else ())
            return lambda *args, **given: _Awaited(value(*args, **given), plain=plain)

        async def method(*args: Any, **given: Any) -> Any:
            made = value(*args, **given)
            return _Awaited(made) if isinstance(made, RegistrationHandle) else made

        return method


def _unwrapped(value: Any) -> Any:
    return value._inner if isinstance(value, _Awaited) else value  # noqa: SLF001 - it is ours
