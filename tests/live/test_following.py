"""Watches and resolvers against real agents of Consul 1.8.7, whatever happens to those."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import threading
import time

import anyio
import pytest

from consul_access import AsyncConsulAccess, ConsulAccess, ConsulSettings, NoInstances, TokenUnknown
from tests.support.freezing import sees_it_frozen
from tests.support.many import all_told, connections, forgotten, written
from tests.support.waiting import eventually

OUTAGE = float(os.environ.get("OUTAGE", "8"))
"""Seconds that the agent is away while instances are picked; `OUTAGE=60` is the long version."""
ROUNDS = 20
READERS = 20


def ids(found):
    return sorted(instance.id for instance in found)


@pytest.fixture
def told(record_property):
    return lambda what, seconds: record_property(
        what, f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
    )


def spread(told, what, times):
    ordered = sorted(times)
    told(f"{what}, p50", statistics.median(ordered))
    told(f"{what}, p99", ordered[int(len(ordered) * 0.99)])
    assert statistics.median(ordered) < 0.25


def at_external(consul, verb, **fields):
    """Changes what the catalog holds of a node that no agent looks after."""
    status, text = consul.request("PUT", f"/v1/catalog/{verb}", {"Node": "external", "Address": "10.9.0.1", **fields})
    assert status == 200, text


def a_long_change(consul, number):
    """One entry of the log with as many operations as there may be."""
    sets = [{"KV": {"Verb": "set", "Key": f"{number}/{place}", "Value": "YQ=="}} for place in range(64)]
    status, text = consul.request("PUT", "/v1/txn", sets)
    assert status == 200, text


def confirmed(resolvers, wanted):
    """Whether all of them say that this is the list, and that it is so now."""
    return all(ids(one.instances()) == wanted and not one.snapshot().is_stale for one in resolvers)


class TestPropagation:
    """From the moment at which the agent has acknowledged a change until the resolver picks by it."""

    def test_of_registrations_and_deregistrations(self, face, consul, told):
        async def story():
            coming, going = [], []
            async with face.access(url=consul.url) as access, access.resolver("orders") as orders:
                for number in range(ROUNDS):
                    consul.register("orders", id=f"orders-{number}", port=8000 + number)
                    acknowledged = time.monotonic()
                    while ids(orders.instances()) != [f"orders-{number}"]:
                        await face.sleep(0.0005)
                    coming.append(time.monotonic() - acknowledged)
                    await face.sleep(0.15)
                    consul.request("PUT", f"/v1/agent/service/deregister/orders-{number}")
                    acknowledged = time.monotonic()
                    while orders.instances():
                        await face.sleep(0.0005)
                    going.append(time.monotonic() - acknowledged)
                    await face.sleep(0.15)
            spread(told, "registered", coming)
            spread(told, "deregistered", going)

        face.run(story)

    def test_of_checks(self, face, consul, told):
        async def story():
            failing, passing = [], []
            check = {"CheckID": "beat", "TTL": "10m", "Status": "passing"}
            consul.register("orders", id="orders-1", port=8001)
            consul.register("orders", id="orders-2", port=8002, check=check)
            async with face.access(url=consul.url) as access, access.resolver("orders") as orders:
                for _ in range(ROUNDS):
                    for verb, times, wanted in (
                        ("fail", failing, ["orders-1"]),
                        ("pass", passing, ["orders-1", "orders-2"]),
                    ):
                        assert consul.request("PUT", f"/v1/agent/check/{verb}/beat")[0] == 200
                        acknowledged = time.monotonic()
                        while ids(orders.instances()) != wanted:
                            await face.sleep(0.0005)
                        times.append(time.monotonic() - acknowledged)
                        await face.sleep(0.15)
            spread(told, "failed", failing)
            spread(told, "passed", passing)

        face.run(story)


class TestOutages:
    def test_the_agent_is_away_while_10000_picks_a_second_go_on(self, agents, told, record_property):
        agent = agents(server=True)
        for number in range(3):
            agent.register("orders", id=f"orders-{number}", port=8000 + number)
        counted, failures, slowest, ended = [0], [], [0.0], threading.Event()

        def picks(resolver):
            """A hundred at a time, a hundred times a second."""
            while not ended.wait(0.01):
                begun = time.perf_counter()
                for _ in range(100):
                    try:
                        resolver.pick()
                    except Exception as error:  # noqa: BLE001 - it is what is looked for
                        failures.append(error)
                counted[0] += 100
                slowest[0] = max(slowest[0], time.perf_counter() - begun)

        with ConsulAccess(url=agent.url) as access, access.resolver("orders") as orders:
            assert len(orders.instances()) == 3
            picking = threading.Thread(target=picks, args=(orders,))
            picking.start()
            try:
                agent.kill()
                away = time.monotonic()
                ages = []
                while time.monotonic() - away < OUTAGE:
                    time.sleep(0.25)
                    ages.append(orders.snapshot().age)
                assert ages == sorted(ages)
                assert ages[-1] >= OUTAGE - 1
                assert orders.snapshot().is_stale
                assert orders.snapshot().source == "memory"
                agent.run()
                back = time.monotonic()
                agent.register("orders", id="orders-9", port=8009)
                while "orders-9" not in ids(orders.instances()):
                    assert time.monotonic() - back < 10
                    time.sleep(0.005)
                told("fresh after the agent was ready", time.monotonic() - back)
                while orders.snapshot().is_stale:  # until the servers' leader has been asked for once more
                    assert time.monotonic() - back < 15
                    time.sleep(0.005)
                passed = time.monotonic() - away
            finally:
                ended.set()
                picking.join()
        assert failures == []
        record_property("picks a second", f"{counted[0] / passed:.0f}")
        record_property("slowest hundred picks", f"{slowest[0] * 1000:.1f} ms")
        assert counted[0] / passed > 2000  # ten thousand where nobody else is busy

    def test_an_agent_that_is_stopped_orderly_does_not_empty_the_list(self, face, agents, told):
        agent = agents(server=True)
        agent.register("orders", id="orders-1", port=8001)
        seen = []

        async def story():
            async with face.access(url=agent.url) as access, access.resolver("orders") as orders:
                stop = access.on_change("orders", lambda snapshot: seen.append((len(snapshot), snapshot.is_stale)))
                await face.eventually(lambda: seen)
                agent.stop()
                await face.eventually(lambda: orders.snapshot().is_stale)
                assert ids(orders.instances()) == ["orders-1"]
                agent.run()
                _, after = await face.eventually(lambda: not orders.snapshot().is_stale, within=30)
                told("confirmed after", after)
                assert ids(orders.instances()) == ["orders-1"]
                await stop.stop()

        face.run(story)
        assert all(length == 1 for length, _ in seen)

    def test_an_agent_that_comes_back_with_a_lower_index(self, face, agents, told):
        agent = agents()
        for number in range(20):
            agent.register("other", id=f"other-{number}")
        agent.register("orders", id="orders-1", port=8001)

        async def story():
            async with face.access(url=agent.url) as access, access.resolver("orders") as orders:
                before = orders.snapshot().index
                agent.kill()
                await face.eventually(lambda: orders.snapshot().is_stale)
                agent.run()
                agent.register("orders", id="orders-2", port=8002)
                _, after = await face.eventually(lambda: ids(orders.instances()) == ["orders-2"])
                told("followed after", after)
                assert orders.snapshot().index < before
                agent.register("orders", id="orders-3", port=8003)
                await face.eventually(lambda: ids(orders.instances()) == ["orders-2", "orders-3"], within=2)

        face.run(story)

    def test_a_server_that_still_reads_its_log_is_not_believed(self, agents):
        """It answers meanwhile with what was true once, in the default mode, and nothing but the index tells."""
        server, told = agents(server=True), []
        for name in ("orders-1", "orders-2"):
            at_external(server, "register", Service={"ID": name, "Service": "orders", "Port": 8001})
        with contextlib.ExitStack() as stack:
            resolvers = []
            for _ in range(READERS):
                access = stack.enter_context(ConsulAccess(url=server.url))
                resolvers.append(stack.enter_context(access.resolver("orders")))
                caller = access.on_change("orders", lambda one: told.append((ids(one), one.is_stale)))
                stack.callback(caller.stop)
            for number in range(200):  # which takes some time to read back
                a_long_change(server, number)
            at_external(server, "deregister", ServiceID="orders-2")
            eventually(lambda: confirmed(resolvers, ["orders-1"]), within=60)
            told.clear()
            server.kill()
            eventually(lambda: all(one.snapshot().is_stale for one in resolvers), within=60)
            server.run()
            eventually(lambda: confirmed(resolvers, ["orders-1"]), within=60)
        assert len(told) >= 2 * READERS
        assert {tuple(found) for found, _ in told} == {("orders-1",)}

    def test_f30_an_agent_that_comes_back_without_its_data(self, face, agents):
        agent = agents()
        agent.register("orders", id="orders-1", port=8001)

        async def story():
            async with face.access(url=agent.url) as access, access.resolver("orders") as orders:
                await face.eventually(lambda: access._engine._hub._blocked == 1)
                await face.sleep(0.1)  # it has reached the agent by then
                agent.restart()
                await face.eventually(lambda: "vanished" in orders.snapshot().reason, within=20)
                assert orders.snapshot().is_stale
                assert orders.pick().id == "orders-1"
                agent.register("orders", id="orders-2", port=8002)
                await face.eventually(lambda: ids(orders.instances()) == ["orders-2"], within=10)
                assert not orders.snapshot().is_stale

        face.run(story)

    def test_c05_a_frozen_agent_is_noticed_and_the_list_stays(self, face, agents, told):
        agent = agents()
        agent.register("orders", id="orders-1", port=8001)

        async def story():
            async with face.access(url=agent.url) as access:
                await sees_it_frozen(face, access, agent, told)

        face.run(story)

    def test_a_frozen_agent_is_given_up_when_the_wait_and_a_little_more_have_passed(self, agents, told, monkeypatch):
        monkeypatch.setattr("consul_access._live.making.WAIT", 4.0)
        first, second = agents(), agents()
        first.register("orders", id="orders-1", port=8001)
        second.register("orders", id="orders-1", port=8001)
        with ConsulAccess(addresses=[first.address, second.address]) as access, access.resolver("orders") as orders:
            time.sleep(0.2)
            first.pause()
            try:
                paused = time.monotonic()
                second.register("orders", id="orders-2", port=8002)
                while len(orders.instances()) != 2:
                    assert time.monotonic() - paused < 16
                    time.sleep(0.05)
                told("the other agent was asked after", time.monotonic() - paused)
            finally:
                first.resume()


class TestAccess:
    def test_c07_a_token_is_revoked_while_watching(self, face, acl_consul, told):
        def policy():
            rules = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
            status, text = acl_consul.request(
                "PUT", "/v1/acl/policy", {"Name": f"p{time.monotonic_ns()}", "Rules": rules}
            )
            assert status == 200, text
            return json.loads(text)["ID"]

        def token():
            status, text = acl_consul.request("PUT", "/v1/acl/token", {"Policies": [{"ID": policy()}]})
            assert status == 200, text
            made = json.loads(text)
            return made["AccessorID"], made["SecretID"]

        acl_consul.register("orders", id="orders-1", port=8001)
        accessor, secret = token()
        tokens = [secret]

        async def story():
            async with face.access(url=acl_consul.url, token=lambda: tokens[-1]) as access:
                async with access.resolver("orders") as orders:
                    assert orders.pick().id == "orders-1"
                    acl_consul.request("DELETE", f"/v1/acl/token/{accessor}")
                    acl_consul.register("orders", id="orders-1", port=8002)  # has the waiting query answered
                    _, after = await face.eventually(lambda: orders.snapshot().is_stale, within=15)
                    told("noticed after", after)
                    assert "does not know the token" in orders.snapshot().reason
                    assert ids(orders.instances()) == ["orders-1"]
                    with pytest.raises(TokenUnknown):
                        await anext(aiter(access.watch("orders", raise_errors=True)))
                    tokens.append(token()[1])
                    _, after = await face.eventually(lambda: not orders.snapshot().is_stale, within=60)
                    told("the new token was used after", after)
                    assert orders.pick().port == 8002

        try:
            face.run(story)
        finally:
            acl_consul.clear()

    def test_c07_an_empty_list_for_want_of_a_token_says_so(self, face, acl_consul):
        acl_consul.register("orders", id="orders-1", port=8001)

        async def story():
            async with face.access(url=acl_consul.url) as access, access.resolver("orders") as orders:
                await face.eventually(lambda: "token" in orders.snapshot().reason, within=5)
                with pytest.raises(NoInstances, match="token"):
                    orders.pick()

        try:
            face.run(story)
        finally:
            acl_consul.clear()


class TestBudget:
    def test_n05_300_watches_on_one_agent(self, face, consul, told, record_property):
        names = [f"s{number}" for number in range(300)]
        written(consul, names, 1)

        async def story():
            async with face.access(url=consul.url) as access:
                watch = aiter(access.watch(names))
                begun = time.monotonic()
                await all_told(watch, names)
                told("all were served after", time.monotonic() - begun)
                most = connections(consul.port)
                changed = names[::30]
                written(consul, changed, 2)
                begun = time.monotonic()
                missing = set(changed)
                while missing:
                    snapshot = await anext(watch)
                    if snapshot.instances[0].port == 2:
                        missing.discard(snapshot.service)
                    most = max(most, connections(consul.port))
                    assert time.monotonic() - begun < 40
                told("all changes were seen after", time.monotonic() - begun)
                record_property("connections", str(most))
                assert snapshot.shared
                assert 30 < most <= 64

        face.run(story)
        forgotten(consul)

    def test_1000_services_in_one_process_leave_ordinary_calls_alone(self, consul, told, record_property):
        names = [f"s{number}" for number in range(1000)]
        written(consul, names, 1)

        async def story():
            async with AsyncConsulAccess(url=consul.url) as access:
                watch = aiter(access.watch(names))
                begun = time.monotonic()
                await all_told(watch, names)
                told("all were served after", time.monotonic() - begun)
                assert connections(consul.port) <= 64
                times = []
                for _ in range(50):
                    asked = time.monotonic()
                    assert len(await access.instances("s7")) == 1
                    times.append(time.monotonic() - asked)
                told("an ordinary call meanwhile, p50", statistics.median(times))
                changed = names[::50]
                written(consul, changed, 2)
                begun, missing = time.monotonic(), set(changed)
                while missing:
                    snapshot = await anext(watch)
                    if snapshot.instances[0].port == 2:
                        missing.discard(snapshot.service)
                    assert time.monotonic() - begun < 60
                told("all changes were seen after", time.monotonic() - begun)

        anyio.run(story)
        forgotten(consul)

    def test_the_agents_connection_limit(self, face, agents, told):
        agent = agents(config={"limits": {"http_max_conns_per_client": 20}})
        agent.register("orders", id="orders-1", port=8001)

        async def story():
            async with face.access(url=agent.url) as access, access.resolver("orders") as orders:
                assert orders.pick().id == "orders-1"
                greedy = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(25)]
                try:
                    # More than there may be connections that are open and idle.
                    others = [await access.resolver("orders", tags=f"none-{n}").__aenter__() for n in range(6)]
                    await face.eventually(lambda: any(one.snapshot().is_stale for one in others))
                    assert orders.pick().id == "orders-1"
                    for sock in greedy:
                        sock.close()
                    live = {"live"}
                    _, after = await face.eventually(
                        lambda: {one.snapshot().source for one in others} == live, within=5
                    )
                    told("served after the limit was no more", after)
                finally:
                    for sock in greedy:
                        sock.close()

        face.run(story)


def test_a_budget_of_ones_own():
    assert ConsulSettings.load(environ={}, watch_connections=16).watch_connections == 16
