"""`MemoryRegistry`: everything the client can do, without a server, a socket or a real clock."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

import anyio
import pytest

from consul_access import (
    Address,
    AsyncRegistry,
    ConnectFailed,
    ConnectionLost,
    ConsulAccess,
    HttpCheck,
    InvalidInput,
    NoInstances,
    NoLeader,
    NotReady,
    PermissionDenied,
    Registry,
    RetryPolicy,
    TtlCheck,
)
from consul_access.testing import AsyncMemoryRegistry, FakeConsul, MemoryRegistry
from tests.support.faces import Awaited
from tests.support.waiting import eventually


class Pair:
    """A registry of one face, with its methods awaited, and as the test that works on it has it."""

    def __init__(self, face, **kwargs):
        self.inner = AsyncMemoryRegistry(**kwargs) if face.is_async else MemoryRegistry(**kwargs)
        self.access = self.inner if face.is_async else Awaited(self.inner)

    async def __aenter__(self):
        return self.access, self.inner

    async def __aexit__(self, *error):
        await self.access.aclose()


def test_it_is_a_registry():
    assert isinstance(MemoryRegistry(), Registry)
    assert isinstance(AsyncMemoryRegistry(), AsyncRegistry)


def test_what_is_registered_is_found_at_once(face):
    async def story():
        async with Pair(face) as (access, _):
            orders = await access.register_service("orders", "10.0.0.5", 8080, tags=["v1"])
            assert await access.search_service("orders") == [("10.0.0.5", 8080)]
            assert await access.resolve("orders", balancer="round_robin") == Address("10.0.0.5", 8080)
            assert await access.services() == {"consul": [], "orders": ["v1"]}
            assert (await access.explain("orders")).is_discoverable
            assert await orders.deregister()
            assert not await access.deregister_service(orders.id)
            with pytest.raises(NoInstances):
                await access.resolve("orders")

    face.run(story)


def test_every_registry_is_empty_and_nothing_of_the_environment_reaches_it(monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "10.9.9.9:1")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "x")
    with MemoryRegistry() as one, MemoryRegistry() as other:
        one.register_service("orders", "10.0.0.5", 8080)
        assert other.services() == {"consul": []}
        assert other.settings.token.read() is None


@pytest.mark.parametrize("check", [None, HttpCheck(), TtlCheck(15, status="passing")])
def test_an_instance_stands_as_the_test_says(face, check):
    async def story():
        async with Pair(face) as (access, registry):
            await access.register_service("orders", "10.0.0.5", 8080, id="orders-1", check=check)
            for status in ("critical", "warning", "maintenance", "passing"):
                registry.set_status("orders-1", status, "as the test wants it")
                (found,) = await access.instances("orders", policy="any")
                assert found.status == status
                assert status == "maintenance" or "as the test wants it" in await outputs(access)
                assert len(await access.search_service("orders")) == (status == "passing")

    face.run(story)


async def outputs(access):
    (entry,) = await access.health("orders")
    return [check.output for check in entry.checks]


def test_what_was_said_about_the_same_status_is_heard_at_once():
    with MemoryRegistry() as registry:
        registry.register_service("orders", "10.0.0.5", 8080, id="orders-1")
        for output in ("HTTP 503", "HTTP 504"):
            registry.set_status("orders-1", "critical", output)
            (entry,) = registry.health("orders")
            assert output in [check.output for check in entry.checks]


def test_what_the_test_said_outlives_registering_again():
    with MemoryRegistry() as registry:
        for tags in (["a"], ["b"]):
            registry.register_service("orders", "10.0.0.5", 8080, id="orders-1", tags=tags)
            registry.set_status("orders-1", "critical")
        registry.register_service("orders", "10.0.0.5", 8080, id="orders-1", tags=["c"])
        assert registry.search_service("orders") == []


def test_a_status_given_at_registering_stays():
    with MemoryRegistry() as registry:
        registry.register_service("orders", "10.0.0.5", 8080, check=HttpCheck(status="critical"))
        assert registry.search_service("orders") == []


def test_what_is_not_there_has_no_status_and_cannot_be_forgotten():
    with MemoryRegistry() as registry:
        registry.register_service("orders", "10.0.0.5", 8080, id="orders-1")
        for wrong in (
            lambda: registry.set_status("orders-2", "critical"),
            lambda: registry.set_status("orders-1", "broken"),
            lambda: registry.forget("orders-2"),
            lambda: registry.fail_next(times=0),
        ):
            with pytest.raises(InvalidInput):
                wrong()
        with pytest.raises(InvalidInput, match="real time"):
            MemoryRegistry(FakeConsul()).advance(1)
        with pytest.raises(InvalidInput, match="choose one"):
            FakeConsul(run_checks=True, checks_pass=True)


def test_time_passes_when_the_test_says_so(face):
    async def story():
        async with Pair(face) as (access, registry):
            check = TtlCheck("15s", deregister_critical_service_after="1m")
            orders = await access.register_service("orders", "10.0.0.5", 8080, check=check)
            assert await access.search_service("orders") == []
            await orders.pass_check()
            assert len(await access.search_service("orders")) == 1
            registry.advance(16)
            assert await access.search_service("orders") == []
            registry.clock.advance(120)
            assert await access.services() == {"consul": []}

    face.run(story)


def test_the_next_calls_fail_as_the_test_says(face):
    async def story():
        async with Pair(face) as (access, registry):
            registry.fail_next()
            registry.fail_next(NoLeader, times=2)
            registry.fail_next(PermissionDenied("no", status=403), only="agent.")
            for error in (ConnectFailed, NoLeader, NoLeader):
                with pytest.raises(error, match=r"catalog.services at 127.0.0.1:8500: "):
                    await access.services()
            assert await access.services() == {"consul": []}
            with pytest.raises(PermissionDenied) as caught:
                await access.register_service("orders", "10.0.0.5", 8080)
            assert (caught.value.status, caught.value.operation) == (403, "agent.service.register")
            await access.register_service("orders", "10.0.0.5", 8080)
            assert len(await access.search_service("orders")) == 1

    face.run(story)


def test_calls_are_repeated_when_the_test_wants_that(face):
    async def story():
        async with Pair(face) as (access, registry):
            registry.faults.reset_connections(times=1)
            with pytest.raises(ConnectionLost):
                await access.services()
        async with Pair(face, retry=RetryPolicy(attempts=2, base=0)) as (access, registry):
            registry.faults.reset_connections(times=1)
            assert await access.services() == {"consul": []}

    face.run(story)


def test_a_service_that_was_forgotten_is_restored_by_its_keeper(face):
    async def story():
        async with Pair(face) as (access, registry):
            events = []
            async with access.registered("orders", "10.0.0.5", 8080, drain=0, on_event=events.append) as keeper:
                registry.forget(keeper.id)
                await face.eventually(lambda: any(event.kind == "registered_again" for event in events))
                assert len(await access.search_service("orders")) == 1
            assert await access.search_service("orders", policy="any") == []

    face.run(story)


def test_resolvers_and_watches_see_what_the_test_does(face):
    async def story():
        async with Pair(face) as (access, registry):
            for number in (1, 2):
                await access.register_service("orders", f"10.0.0.{number}", 80, id=f"orders-{number}")
            async with access.watch("orders") as watch, access.resolver("orders") as resolver:
                assert len((await watch.__anext__()).instances) == 2
                await resolver.wait_ready()
                assert {resolver.pick().host for _ in range(4)} == {"10.0.0.1", "10.0.0.2"}
                registry.set_status("orders-1", "critical")
                assert len((await watch.__anext__()).instances) == 1
                await face.eventually(lambda: {resolver.pick().host for _ in range(4)} == {"10.0.0.2"})

    face.run(story)


def test_waiting_ends_when_somebody_comes_and_when_nobody_does(face):
    async def story():
        async with Pair(face) as (access, registry):
            with pytest.raises(NotReady):
                await access.wait_for("orders", timeout=0.05)
            fake = registry.fake
            later = threading.Timer(0.05, register_elsewhere, (fake,))
            later.start()
            assert len(await access.wait_for("orders", timeout=30)) == 1
            later.join()

    face.run(story)


def register_elsewhere(fake):
    with ConsulAccess(transport=fake.transport()) as access:
        access.register_service("orders", "10.0.0.5", 8080)


def test_both_faces_can_share_one_memory():
    registry = MemoryRegistry()
    registry.register_service("orders", "10.0.0.5", 8080)

    async def story():
        async with AsyncMemoryRegistry(registry.fake) as tasks:
            assert await tasks.resolve("orders") == ("10.0.0.5", 8080)

    anyio.run(story)
    registry.close()


def test_it_opens_no_socket_and_leaves_no_thread_behind(monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("a socket")

    before = set(threading.enumerate())
    with monkeypatch.context() as patched, contextlib.ExitStack() as stack:
        patched.setattr(socket.socket, "connect", refused)
        patched.setattr(socket.socket, "bind", refused)
        registry = stack.enter_context(MemoryRegistry())
        stack.enter_context(registry.registered("orders", "10.0.0.5", 8080, check=TtlCheck(15), drain=0))
        resolver = stack.enter_context(registry.resolver("orders"))
        resolver.wait_ready()
        assert resolver.pick().address == ("10.0.0.5", 8080)
    eventually(lambda: set(threading.enumerate()) <= before, within=5, what="all threads have ended")


def test_a_further_one_loads_and_starts_nothing(monkeypatch):
    """Nor does it open a socket, see above. What little it costs a test, `benchmarks/testing_kit.py` measures."""
    with MemoryRegistry() as first:
        first.register_service("orders", "10.0.0.5", 8080)
        first.resolve("orders")
    known, started = set(sys.modules), []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    with MemoryRegistry() as registry:
        registry.register_service("orders", "10.0.0.5", 8080)
        assert registry.resolve("orders") == ("10.0.0.5", 8080)
    assert (set(sys.modules) - known, started) == (set(), [])
