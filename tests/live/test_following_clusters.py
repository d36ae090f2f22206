"""Resolvers in real clusters, three servers and a client agent each, while members die and forget."""

from __future__ import annotations

import threading
import time

import pytest

from consul_access import ConsulAccess, TtlCheck
from tests.support.cluster import Cluster, Member, paused
from tests.support.waiting import eventually


@pytest.fixture
def cluster():
    """Made for one test: what happens to it cannot be undone quickly."""
    with Cluster(client=True) as cluster:
        yield cluster


@pytest.fixture
def told(record_property):
    return lambda what, seconds: record_property(what, f"{seconds:.2f} s")


def ids(found):
    return sorted(instance.id for instance in found)


class Picking:
    """Picks a thousand times a second, and notes what goes wrong and how long one took."""

    def __init__(self, resolver, allowed):
        self._resolver = resolver
        self._allowed = allowed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failures = []
        self.wrong = set()
        self.picks = 0

    def _run(self):
        while not self._ended.wait(0.01):
            for _ in range(10):
                try:
                    picked = self._resolver.pick().id
                except Exception as error:  # noqa: BLE001 - it is what is looked for
                    self.failures.append(error)
                else:
                    self.picks += 1
                    if picked not in self._allowed:
                        self.wrong.add(picked)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        eventually(lambda: self.picks > 100 or self.failures, what="a hundred picks")
        self._ended.set()
        self._thread.join()
        assert self.failures == []
        assert self.wrong == set()


def in_charge(cluster):
    """The leader, if it takes a write and still is the leader after it."""
    leader = cluster.leader()
    try:
        status, _ = leader.request("PUT", "/v1/catalog/register", {"Node": "elsewhere", "Address": "10.0.0.9"})
    except OSError:
        return None
    return leader if status == 200 and cluster.leader() is leader else None


def changed(member, number):
    """Registers one more instance as soon as that is possible."""

    def try_it():
        body = {"Name": "orders", "ID": f"orders-{number}", "Port": 8000 + number}
        try:
            if member.request("PUT", "/v1/agent/service/register", body)[0] != 200:
                return False
            return f"orders-{number}" in {entry["ServiceID"] for entry in member.read("/v1/catalog/service/orders")}
        except (OSError, AssertionError):
            return False

    eventually(try_it, within=30, what="an instance can be registered")
    return time.monotonic()


def written(member, number):
    """Registers one more instance at a node that no server is, and which none of them takes for dead."""
    service = {"Service": "orders", "ID": f"orders-{number}", "Port": 8000 + number}
    entry = {"Node": "elsewhere", "Address": "10.0.0.9", "Service": service}
    eventually(lambda: member.request("PUT", "/v1/catalog/register", entry)[0] == 200, within=30)
    return time.monotonic()


def has_views(agent):
    """Whether its answers to who asks again come from a streamed view, as from 1.10 on."""
    _, minor, _ = agent.read("/v1/agent/self")["Config"]["Version"].split(".")
    return int(minor) >= 10


def await_ids(resolver, wanted, since, within):
    while ids(resolver.instances()) != wanted:
        assert time.monotonic() - since < within, resolver.snapshot()
        time.sleep(0.005)
    return time.monotonic() - since


def await_flag(resolver, stale, within):
    begun = time.monotonic()
    while resolver.snapshot().is_stale is not stale:
        assert time.monotonic() - begun < within, resolver.snapshot()
        time.sleep(0.005)
    return time.monotonic() - begun


def test_c01_the_agent_is_killed_for_3_seconds(cluster, told):
    agent, server = cluster.agent, cluster.servers[0]
    changed(server, 1)
    with (
        ConsulAccess(url=agent.url) as access,
        access.resolver("orders") as orders,
        Picking(orders, {"orders-1", "orders-2"}),
    ):
        agent.kill()
        told("flagged after", await_flag(orders, stale=True, within=2))
        changed(server, 2)
        time.sleep(3)
        agent.run()
        eventually(lambda: agent.request("GET", "/v1/health/service/orders")[0] == 200, within=20)
        told("followed after the return", await_ids(orders, ["orders-1", "orders-2"], time.monotonic(), within=1.5))


def test_a_client_agent_that_leaves_orderly_does_not_empty_the_list(cluster, told):
    """It answers waiting queries with 200 and an empty list."""
    changed(cluster.servers[0], 1)
    seen = []
    with ConsulAccess(url=cluster.agent.url) as access, access.resolver("orders") as orders:
        access.on_change("orders", lambda snapshot: seen.append(len(snapshot)))
        with Picking(orders, {"orders-1", "orders-2"}):
            time.sleep(0.5)
            cluster.agent.stop()
            told("flagged after", await_flag(orders, stale=True, within=5))
            changed(cluster.servers[0], 2)
            cluster.agent.run()
            told("confirmed after", await_flag(orders, stale=False, within=20))
            await_ids(orders, ["orders-1", "orders-2"], time.monotonic(), within=5)
    assert min(seen) == 1


def test_c02_the_agent_loses_its_data_and_what_is_kept_there_comes_back(cluster, told):
    agent, server = cluster.agent, cluster.servers[0]
    with ConsulAccess(url=agent.url) as access, ConsulAccess(url=server.url) as elsewhere:
        with access.registered("orders", "10.0.0.5", 8080, check=TtlCheck(5), id="orders-1"):
            with elsewhere.resolver("orders") as orders:
                assert ids(orders.wait_ready(5)) == ["orders-1"]
                agent.kill()
                agent.forget()
                # Only when all agree that it is gone may it come back under its name.
                gone = await_ids(orders, [], time.monotonic(), within=15)
                told("left out after", gone)
                agent.run()
                told("back after", await_ids(orders, ["orders-1"], time.monotonic(), within=30))
                assert not orders.snapshot().is_stale


def test_c03_the_leader_is_killed(cluster, told):
    leader = cluster.leader()
    others = cluster.others(leader)
    changed(others[0], 1)
    with ConsulAccess(url=cluster.agent.url) as access, access.resolver("orders") as orders:
        with Picking(orders, {"orders-1", "orders-2"}):
            leader.kill()
            since = changed(others[0], 2)
            told("followed after the change", await_ids(orders, ["orders-1", "orders-2"], since, within=3))
            told("confirmed after", await_flag(orders, stale=False, within=5))


def test_c04_no_quorum_for_20_seconds(cluster, told):
    first, *lost = cluster.servers
    changed(first, 1)
    with ConsulAccess(url=cluster.agent.url) as access, access.resolver("orders") as orders:
        with Picking(orders, {"orders-1", "orders-2"}):
            for server in lost:
                server.kill()
            without = time.monotonic()
            confirmed = without
            while time.monotonic() - without < 20:
                assert ids(orders.instances()) == ["orders-1"]
                if not orders.snapshot().is_stale:  # between the deaths of the two there was a quorum
                    confirmed = time.monotonic()
                time.sleep(0.05)
            told("flagged for good after", confirmed - without)
            assert confirmed - without < 12
            for server in lost:
                server.launch()
            for server in lost:
                server.await_ready()
            cluster.leader()
            since = changed(first, 2)
            told("followed after the change", await_ids(orders, ["orders-1", "orders-2"], since, within=3))
            told("confirmed after", await_flag(orders, stale=False, within=2))


def test_c06_the_servers_lose_their_data(cluster, told):
    changed(cluster.agent, 1)
    with ConsulAccess(url=cluster.agent.url) as access, access.resolver("orders") as orders:
        with Picking(orders, {"orders-1"}):
            for server in cluster.servers:
                server.kill()
                server.forget()
            told("flagged after", await_flag(orders, stale=True, within=12))
            for server in cluster.servers:
                server.launch()
            for server in cluster.servers:
                server.await_ready()
            cluster.leader()
            since = time.monotonic()
            empty = 0.0
            while time.monotonic() - since < 110:
                assert ids(orders.instances()) == ["orders-1"]
                if cluster.passing("orders", asked=cluster.agent) == []:
                    empty = time.monotonic() - since
                    assert orders.snapshot().is_stale
                elif not orders.snapshot().is_stale:
                    break
                time.sleep(0.1)
            told("the catalog was empty for", empty)
            told("confirmed after", time.monotonic() - since)
            assert not orders.snapshot().is_stale


def test_c08_the_servers_are_restarted_one_after_the_other(cluster, told):
    changed(cluster.servers[0], 1)
    changed(cluster.servers[1], 2)
    with ConsulAccess(url=cluster.agent.url) as access, access.resolver("orders") as orders:
        with Picking(orders, {"orders-1", "orders-2", "orders-3"}):
            for server in cluster.servers:
                server.kill()
                server.run()
                cluster.leader()
                cluster.await_whole()
            since = changed(cluster.servers[2], 3)
            # A view that has failed a few times tries again after some seconds.
            within = 15 if has_views(cluster.agent) else 5
            wanted = ["orders-1", "orders-2", "orders-3"]
            told("followed after the change", await_ids(orders, wanted, since, within=within))
            told("confirmed after", await_flag(orders, stale=False, within=5))


def test_c09_followers_are_frozen(cluster, told):
    frozen: list[Member] = []
    written(cluster.leader(), 1)
    # The stream to a frozen server is given up after 30 s and 10 s more (agent/grpc/client.go), a question sooner.
    within = 45 if has_views(cluster.agent) else 25
    with ConsulAccess(url=cluster.agent.url) as access, access.resolver("orders") as orders:
        with Picking(orders, {"orders-1", "orders-2", "orders-3"}):
            begun = time.monotonic()
            for number in (2, 3):  # the agent asks one of the two, or the leader
                # A server that thaws calls an election, which may make a leader of it or of the other follower.
                cluster.await_whole()
                leader = eventually(lambda: in_charge(cluster), within=30, what="a leader takes writes")
                frozen.append(next(server for server in cluster.others(leader) if server not in frozen))
                with paused(frozen[-1]):
                    since = written(leader, number)
                    wanted = [f"orders-{known}" for known in range(1, number + 1)]
                    told(f"followed after change {number - 1}", await_ids(orders, wanted, since, within=within))
                told("confirmed after", await_flag(orders, stale=False, within=10))
            assert time.monotonic() - begun < 40 + 2 * within
